#pragma once
// Ids of events: <epoch>-<offset>-<tag>.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tenantry::detail {

/// The epoch is another one for each log that begins anew, and the tag for each event: an offset that is used again is
/// noticed by it. Safe as the id of a server-sent event.
struct log_id {
  static constexpr std::string_view no_tag = "0";

  std::string epoch;
  std::uint64_t offset = 0;
  std::string tag;  // no_tag where it is not known

  /// Nothing for any other text, which may come from a browser.
  static std::optional<log_id> parse(std::string_view text);
  [[nodiscard]] std::string str() const { return epoch + '-' + std::to_string(offset) + '-' + tag; }
};

/// 16 digits, for an epoch, and 8, for a tag.
std::string new_epoch();
std::string new_tag();

}  // namespace tenantry::detail
