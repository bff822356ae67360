#pragma once
// Where a follower of a log is: what it delivers, and when it has to read the log. Sans-io.

#include "messaging/log_id.hpp"
#include "messaging/log_page.hpp"

#include <tenantry/detail/log_core.hpp>
#include <tenantry/feed_events.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace tenantry::detail {

/// An event, with its id. One that was replayed holds the page that it comes from.
struct logged_payload {
  std::string id;
  std::shared_ptr<const std::string> payload;
};
using log_output = std::variant<logged_payload, gap>;

/// Delivers each event once and in order, first those of the log, then those that are published. Whatever leaves a
/// doubt makes it read the log again, from the last event that it knows, which also shows whether it is still the same
/// one.
///
/// - What the log can give is delivered, and no gap is told; what it cannot give is one gap, with the number lost where
///   that is known.
/// - After `wants_page`, nothing live is handed over before a page was.
class log_cursor {
 public:
  /// Without an id: from what is appended after the first page was read.
  log_cursor(std::optional<std::string_view> last_id, std::uint64_t max_replay);

  [[nodiscard]] bool wants_page() const noexcept { return wants_page_; }
  /// The offset from which on to read.
  [[nodiscard]] std::uint64_t page_from() const noexcept;
  /// Of what is asked for where nothing was delivered yet only the end matters.
  [[nodiscard]] std::uint64_t page_count(std::uint64_t usual) const noexcept {
    return start_ == start::at_end || start_ == start::at_end_after_gap ? 0 : usual;
  }
  void page(const shared_page& read, std::deque<log_output>& out);

  void live(const log_id& id, std::string_view payload, std::deque<log_output>& out);
  /// Something may have been missed.
  void missed() noexcept { wants_page_ = true; }
  [[nodiscard]] const follower_counters& counters() const noexcept { return counters_; }

 private:
  enum class start : unsigned char { at_id, at_end, at_end_after_gap, done };

  void begin_at_end(const log_page& read);
  void reset(const log_page& read, std::deque<log_output>& out);
  void skip_to(std::uint64_t offset, gap_cause why, std::deque<log_output>& out);
  void replay(const shared_page& read, std::deque<log_output>& out);
  void deliver(std::uint64_t offset, const std::string& tag, std::shared_ptr<const std::string> payload,
               std::deque<log_output>& out);
  [[nodiscard]] bool known(std::uint64_t offset, std::string_view tag) const noexcept;
  void tell(gap_cause why, std::optional<std::uint64_t> lost, std::deque<log_output>& out);

  static constexpr std::size_t remembered = 512;
  struct seen {
    std::uint64_t offset = 0;
    std::string tag;
  };

  const std::uint64_t max_replay_;
  start start_ = start::at_end;
  bool wants_page_ = true;
  std::string epoch_;       // empty: no log has been seen
  std::uint64_t next_ = 1;  // offset of the next event
  std::string last_tag_{log_id::no_tag};
  follower_counters counters_;
  std::vector<seen> recent_;  // by offset modulo their number
};

}  // namespace tenantry::detail
