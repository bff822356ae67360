#pragma once
// Finds where a reply ends, and refuses what is not RESP2 or exceeds the limits, before anything is decoded.

#include <tenantry/reply.hpp>

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

namespace tenantry::resp {

/// A streaming scanner: each byte is looked at once, however the replies are cut into segments.
class framer {
 public:
  enum class status : unsigned char { incomplete, complete, defect };

  explicit framer(const reply_limits& limits) noexcept;

  /// Goes on with the reply that starts `bytes`, of which earlier calls saw a prefix. After `complete` the reply is
  /// the first `size()` bytes, and the next call starts another one.
  status scan(std::string_view bytes);

  [[nodiscard]] std::size_t size() const noexcept { return at_; }
  /// How many bytes the reply has at least; more than `bytes` while a bulk string is on its way.
  [[nodiscard]] std::size_t announced() const noexcept { return announced_; }
  /// What is wrong, for the message of an error.
  [[nodiscard]] const std::string& defect() const noexcept { return defect_; }

 private:
  status scan_line(std::string_view bytes);
  status read_header(std::string_view line);
  status read_bulk_header(std::string_view line);
  status read_array_header(std::string_view line);
  status scan_bulk(std::string_view bytes);
  status fail(std::string what);
  void element_done() noexcept;
  void reset() noexcept;

  static constexpr std::size_t max_depth = 8;  // as deep as every version of the decoder goes

  reply_limits limits_;
  std::size_t at_ = 0;      // everything before is scanned and belongs to whole lines or bulks
  std::size_t looked_ = 0;  // no end of line before this position
  std::size_t announced_ = 0;
  std::size_t bulk_ = 0;  // size of the bulk string that starts at at_
  bool in_bulk_ = false;
  bool done_ = false;
  std::size_t elements_ = 0;
  std::size_t depth_ = 0;
  std::array<std::size_t, max_depth> open_{};  // elements still to come, per array
  std::string defect_;
};

}  // namespace tenantry::resp
