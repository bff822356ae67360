#pragma once
// The steps of one sweep. Sans-io: replies come in, commands and pauses go out.

#include <tenantry/catalog.hpp>
#include <tenantry/command.hpp>
#include <tenantry/key.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/sweep.hpp>
#include <tenantry/tenant.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tenantry::detail {

/// How many keys one command gets, so that the server is busy with it for less than a millisecond. It aims at 0.6 ms.
class command_size {
 public:
  static constexpr std::size_t least = 100;
  static constexpr std::size_t most = 5000;
  static constexpr std::chrono::microseconds aim{600};

  [[nodiscard]] std::size_t keys() const noexcept { return keys_; }

  /// The server needed so long for commands of so many keys together. It grows by at most the double at a time, because
  /// a page of empty slots says little about the next one, and shrinks at once.
  void took(std::size_t keys, std::chrono::microseconds busy) noexcept;

 private:
  std::size_t keys_ = least;
};

/// Goes through the database once. Each step is one pipeline: UNLINK for what the page before had, and SCAN for the
/// next page, which has the keys of all schemas and their companions at once. What the server names is looked at here,
/// because no glob says exactly what a tenant owns.
///
/// How long the server is busy with a command it says itself, by TIME before and after: a round trip would have the
/// network and this process in it, and pages would be small only because Redis is far away.
class sweep_machine {
 public:
  using duration = std::chrono::steady_clock::duration;

  /// Errors: invalid_option.
  sweep_machine(const catalog& keys, const tenant_id& tenant, const sweep_options& how);
  sweep_machine(const catalog& keys, const key_pattern& pattern, const sweep_options& how);

  [[nodiscard]] bool ended() const noexcept { return report_.complete; }
  /// What to send next, in one go. Not after the end.
  [[nodiscard]] std::vector<command> next();
  /// The names that this removes.
  [[nodiscard]] std::vector<std::string> removing() const {
    return action_ == sweep_action::remove ? found_ : std::vector<std::string>{};
  }
  /// All replies to that. Errors: server_error for the first that is an error; unexpected_reply.
  void on(std::span<const reply> replies);
  /// How much later than at once the next step is due, when this one took so long with all that belongs to it.
  [[nodiscard]] duration pause(duration step) const noexcept;
  [[nodiscard]] const sweep_report& report() const noexcept { return report_; }

 private:
  enum class part : unsigned char { clock, size, scan, unlink, usage };

  sweep_machine(catalog keys, const tenant_id& tenant, std::optional<key_pattern> pattern, const sweep_options& how);

  [[nodiscard]] std::string glob() const;
  [[nodiscard]] bool is_ours(std::string_view name) const noexcept;
  [[nodiscard]] std::size_t next_page() const noexcept;
  void add_unlinks(std::vector<command>& all);
  void take_page(const reply& page);

  catalog catalog_;
  tenant_id tenant_;
  std::optional<key_pattern> pattern_;
  sweep_action action_;
  std::optional<std::uint32_t> keys_per_second_;
  std::string glob_;

  std::string cursor_ = "0";
  bool begun_ = false;
  bool scan_over_ = false;
  std::vector<std::string> found_;  // on the page before
  std::size_t page_ = 0;            // keys that the last SCAN was asked for
  std::uint64_t looked_through_ = 0;
  command_size scan_size_;
  command_size unlink_size_;
  std::vector<part> sent_;
  sweep_report report_;
};

}  // namespace tenantry::detail
