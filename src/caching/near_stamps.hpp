#pragma once
// What the process knows of stamps in Redis, for hits of near caches.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace tenantry::detail {

/// Of a name in Redis.
[[nodiscard]] inline std::uint64_t near_hash(std::string_view name) noexcept {
  return std::hash<std::string_view>{}(name);
}

/// How often names were changed, as far as this process heard. Several names share a count, so that it may look as if
/// one had changed though another did; never the other way round.
class near_changes {
 public:
  [[nodiscard]] std::uint64_t of(std::uint64_t hash) const noexcept {
    return counts_[hash % counts_.size()].load(std::memory_order_acquire);
  }
  void note(std::uint64_t hash) noexcept { counts_[hash % counts_.size()].fetch_add(1, std::memory_order_acq_rel); }

 private:
  std::array<std::atomic<std::uint64_t>, 1024> counts_{};
};

/// A tenant's or a tag's stamp, by fingerprints of its tokens: these are random, and only ever compared.
///
/// Threads: `read` from any thread, without locks; it is written under the mutex of its near_stamps.
class near_stamp {
 public:
  struct known {
    std::uint64_t epoch = 0;   // of the tracking: under another one nothing is known
    std::uint64_t under = 0;   // hard and soft token
    std::uint64_t tags = 0;    // tags token; of a tenant
    std::int64_t read_at = 0;  // ns of the steady clock, before it was asked for
  };

  /// False where nothing is known.
  bool read(known& now) const noexcept {
    const std::uint64_t before = version_.load(std::memory_order_acquire);
    now.epoch = epoch_.load(std::memory_order_acquire);
    now.under = under_.load(std::memory_order_acquire);
    now.tags = tags_.load(std::memory_order_acquire);
    now.read_at = read_at_.load(std::memory_order_acquire);
    return now.read_at != unknown && before % 2 == 0 && version_.load(std::memory_order_relaxed) == before;
  }

 private:
  friend class near_stamps;
  friend class near_stamp_ref;

  static constexpr std::int64_t unknown = std::numeric_limits<std::int64_t>::min();

  void write(const known& now) noexcept {
    const std::uint64_t before = version_.load(std::memory_order_relaxed);
    version_.store(before + 1, std::memory_order_relaxed);
    epoch_.store(now.epoch, std::memory_order_release);
    under_.store(now.under, std::memory_order_release);
    tags_.store(now.tags, std::memory_order_release);
    read_at_.store(now.read_at, std::memory_order_release);
    version_.store(before + 2, std::memory_order_release);
  }
  void forget() noexcept { read_at_.store(unknown, std::memory_order_release); }

  std::atomic<std::uint64_t> version_ = 0;  // odd while it is written
  std::atomic<std::uint64_t> epoch_ = 0;
  std::atomic<std::uint64_t> under_ = 0;
  std::atomic<std::uint64_t> tags_ = 0;
  std::atomic<std::int64_t> read_at_ = unknown;
  std::atomic<std::uint32_t> owners_ = 1;
};

/// One owner of a stamp. It may outlive the near_stamps that made it.
class near_stamp_ref {
 public:
  near_stamp_ref() noexcept = default;
  near_stamp_ref(const near_stamp_ref& from) noexcept : what_{from.what_} {
    if (what_ != nullptr) what_->owners_.fetch_add(1, std::memory_order_relaxed);
  }
  near_stamp_ref(near_stamp_ref&& from) noexcept : what_{std::exchange(from.what_, nullptr)} {}
  near_stamp_ref& operator=(near_stamp_ref from) noexcept {
    std::swap(what_, from.what_);
    return *this;
  }
  ~near_stamp_ref() {
    if (what_ != nullptr && what_->owners_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete what_;
  }

  explicit operator bool() const noexcept { return what_ != nullptr; }
  const near_stamp* operator->() const noexcept { return what_; }

 private:
  friend class near_stamps;
  explicit near_stamp_ref(near_stamp* made) noexcept : what_{made} {}
  [[nodiscard]] bool alone() const noexcept { return what_->owners_.load(std::memory_order_acquire) == 1; }

  near_stamp* what_ = nullptr;
};

/// By their names in Redis. Those that no value refers to are forgotten in time.
///
/// Threads: all members from any thread.
class near_stamps {
 public:
  /// Notes what was read of this name, and its text, unless `changes` of it were heard of since before it was asked
  /// for.
  near_stamp_ref note(const std::string& name, std::string_view text, const near_stamp::known& now,
                      const near_changes& changes, std::uint64_t before);
  /// What it was when it was read in this epoch, and not before `since`; or nothing.
  [[nodiscard]] std::string text_of(std::string_view name, std::uint64_t epoch, std::int64_t since) const;
  /// The one of this name, known or not.
  near_stamp_ref of(const std::string& name);
  /// It has changed. To be called after that was noted.
  void forget(std::string_view name) noexcept;
  [[nodiscard]] std::size_t size() const;

 private:
  struct hash : std::hash<std::string_view> {
    using is_transparent = void;
  };

  struct entry {
    near_stamp_ref stamp;
    std::string text;
  };
  entry& find(const std::string& name);

  mutable std::mutex mutex_;
  std::unordered_map<std::string, entry, hash, std::equal_to<>> all_;
  std::size_t look_through_at_ = 64;
};

}  // namespace tenantry::detail
