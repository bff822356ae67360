#pragma once
// The near tier of one cache: values in memory, and when they may be given.

#include "caching/envelope.hpp"
#include "caching/near_stamps.hpp"
#include "caching/near_table.hpp"
#include "caching/near_tracking.hpp"

#include <tenantry/cache_options.hpp>
#include <tenantry/client.hpp>
#include <tenantry/detail/cache_core.hpp>
#include <tenantry/detail/fetched.hpp>
#include <tenantry/key.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tenantry::detail {

/// A count that many threads raise.
class striped_count {
 public:
  void add() noexcept { stripes_[mine()].count.fetch_add(1, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t sum() const noexcept {
    std::uint64_t all = 0;
    for (const stripe& each : stripes_) all += each.count.load(std::memory_order_relaxed);
    return all;
  }

 private:
  struct alignas(64) stripe {
    std::atomic<std::uint64_t> count = 0;
  };
  static std::size_t mine() noexcept {
    static std::atomic<std::size_t> next = 0;
    thread_local const std::size_t own = next.fetch_add(1, std::memory_order_relaxed);
    return own % 16;
  }

  std::array<stripe, 16> stripes_{};
};

/// What a fetch noted before it asked Redis, without which what it reads is not kept.
struct near_ticket {
  bool tracked = true;  // all of its reads, so far
  std::uint64_t epoch = 0;
  std::int64_t sent_at = 0;
  std::uint64_t value_changes = 0;
  std::uint64_t stamp_changes = 0;
  std::vector<std::uint64_t> tag_changes = {};
};

/// A value that Redis gave and that was fresh.
struct near_candidate {
  const any_value& value;
  const envelope_header& header;
  std::int64_t life = 0;  // for how long it is fresh and not to be refreshed, in ms
  std::size_t payload = 0;
};

/// Threads: all members from any thread.
class near_cache {
 public:
  /// Errors: std::system_error when the I/O thread cannot be started.
  near_cache(const client& redis, const near_options& options, bool bare, const value_codec& codec);
  ~near_cache();
  near_cache(const near_cache&) = delete;
  near_cache& operator=(const near_cache&) = delete;

  /// Nothing where it has to be asked for in Redis.
  [[nodiscard]] near_hit find(const key& k) noexcept;
  /// The value of this load, where somebody else has read it meanwhile: of many who ask for one key at a time, one
  /// decodes it.
  [[nodiscard]] any_value read_by_others(const key& k, const envelope_header& header) noexcept;

  /// The stamp of this key's tenant, where a hit would need no other.
  [[nodiscard]] std::optional<tenant_stamp> known_stamp(const key& k) const;

  /// Before a value and the stamp of its tenant are asked for.
  [[nodiscard]] near_ticket begin(const key& k) const;
  /// Before the stamps of these tags are.
  void begin_tags(near_ticket& ticket, const key& k, std::span<const stamped_tag> tags) const;
  /// What was read of a tenant's stamp, or its tags'.
  void note_stamp(const near_ticket& ticket, const key& k, const tenant_stamp& now);
  void note_tags(const near_ticket& ticket, const key& k, std::span<const stamped_tag> tags,
                 std::span<const std::optional<tag_stamp>> now);
  /// Not where that fails: then it is in Redis all the same.
  void keep(const near_ticket& ticket, const key& k, const near_candidate& what) noexcept;

  [[nodiscard]] near_tracking& tracking() noexcept { return *tracking_; }
  [[nodiscard]] near_stats stats() const;

 private:
  friend class near_tracking;

  [[nodiscard]] near_hit look(const key& k) const noexcept;
  bool try_to_keep(const near_ticket& ticket, const key& k, const near_candidate& what, std::int64_t life);

  struct tag_of_value {
    near_stamp_ref stamp;
    std::uint64_t under = 0;
  };
  struct entry {
    any_value value;
    std::int64_t until = 0;
    std::int64_t computed_at = 0;
    std::uint64_t epoch = 0;
    near_stamp_ref tenant = {};  // nothing for values that are bare
    std::uint64_t under = 0;     // of the tenant's stamp: hard and soft token
    std::uint64_t tags = 0;      // and tags token
    std::unique_ptr<const std::vector<tag_of_value>> tagged = {};
  };

  /// From the I/O thread. True when it was there.
  bool drop(std::uint64_t hash, std::string_view name) noexcept { return table_.remove(hash, name); }
  [[nodiscard]] bool is_current(const entry& one) const noexcept;
  [[nodiscard]] bool is_known(const near_stamp_ref& stamp, near_stamp::known& now, std::uint64_t epoch,
                              std::int64_t at) const noexcept;

  const std::shared_ptr<near_tracking> tracking_;
  const std::int64_t max_age_;  // in ns
  const bool bare_;
  const value_codec& codec_;
  near_table<entry> table_;
  striped_count hits_;
  striped_count absent_;
  std::atomic<std::uint64_t> stores_ = 0;
  std::atomic<std::uint64_t> refused_ = 0;
};

}  // namespace tenantry::detail
