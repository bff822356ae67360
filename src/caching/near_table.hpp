#pragma once
// The memory of a near cache: values by key, as many as fit into so many bytes.

#include "caching/near_buckets.hpp"
#include "caching/near_node.hpp"
#include "caching/near_pins.hpp"
#include "caching/near_retired.hpp"
#include "caching/near_sieve.hpp"

#include <tenantry/detail/near_pin.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

namespace tenantry::detail {

/// A hash table from keys to values, bounded by bytes. Of more than fit, SIEVE keeps those that are hit.
///
/// Keys: any bytes. The caller hashes them, always in the same way, to 64 bits that are all good.
/// Units: bytes. An entry counts what the caller says its value takes elsewhere, its key, its node, and 64 for its part
/// of the table and of malloc. The table itself counts too: a fifteenth of the bound.
/// Errors: an insertion for which there is no memory is not done. Nothing else can fail; what `accept` throws is passed
/// on, with nothing changed.
///
/// Promised:
/// - What `find` gave stays as it is while its pin is held, whatever happens to the table, also its end.
/// - What `remove` returned from is found by no `find` and no `visit` that begins then.
/// - `accept` of an insertion and its effect are one step: a `remove` of the same key comes before both or after both.
/// - When no insertion runs, the entries and the table take at most the bound. Beyond it are entries that have left the
///   table and are not destroyed yet: those that are pinned; of each of 16 shards less than 32, and at most 1/128 of
///   the bound; and what was removed from a shard since the last insertion into it.
/// - `find`, `visit` and `remove` destroy no value and allocate nothing; `insert` destroys outside of all locks.
///
/// Not promised: that what was inserted is found. An entry leaves early when its bucket (six places, chosen by the
/// hash) is full; an insertion takes room from the shard of its own key first, so that the order of eviction is that of
/// the shard; and what is larger than a quarter of the bound is not taken.
///
/// Cost: a hit takes no lock and writes to no line that other threads use, but the mark of an entry that was not hit
/// since the hand passed. The others lock one shard at a time.
/// Threads: all members from any thread; the destructor when no other runs.
template <class Value>
class near_table {
  static_assert(std::is_nothrow_move_constructible_v<Value> && std::is_nothrow_destructible_v<Value>);

 public:
  /// What became of a search.
  struct found {
    const Value* value = nullptr;  // of the entry that the pin holds now
    bool out_of_pins = false;      // it may be there: `visit` looks without a pin
  };

  /// A bound that is smaller than the smallest table (1 KiB) makes one that takes nothing.
  explicit near_table(std::size_t max_bytes)
      : max_bytes_{max_bytes},
        buckets_{std::max(shard_count, max_bytes / bytes_per_bucket)},
        capacity_{max_bytes - std::min(max_bytes, buckets_.bytes())} {}
  near_table(const near_table&) = delete;
  near_table& operator=(const near_table&) = delete;
  ~near_table() {
    near_retired all;
    for (shard& each : shards_) {
      all.push_all(each.retired);
      while (near_node* const node = each.order.oldest()) {
        each.order.remove(*node);
        all.push(*node);
      }
    }
    all.reclaim(&destroy);
    all.abandon(&destroy);
  }

  /// Pins what it finds; a pin that was held before is given back.
  [[nodiscard]] found find(std::uint64_t hash, std::string_view key, near_pin& pin) const noexcept {
    const near_bucket& bucket = buckets_[buckets_.index(high_half(hash))];
    for (unsigned left = bucket.matches(near_bucket::tag_of(hash)); left != 0; left &= left - 1) {
      const std::atomic<near_node*>& place = bucket.nodes[static_cast<std::size_t>(std::countr_zero(left))];
      near_node* seen = place.load(std::memory_order_relaxed);
      if (seen == nullptr) continue;
      near_pin::slot* const slot = near_pins::free_slot();
      if (slot == nullptr) return {.out_of_pins = true};
      for (near_node* pinned = nullptr; seen != pinned; seen = place.load(std::memory_order_seq_cst)) {
        pinned = seen;
        slot->store(pinned, std::memory_order_seq_cst);
      }
      if (seen != nullptr && matches(*seen, high_half(hash), key)) {
        seen->visit();
        pin = near_pin{slot};
        return {.value = &value_of(*seen)};
      }
      slot->store(nullptr, std::memory_order_release);
    }
    return {};
  }

  /// Calls `f` with the value, while the shard is locked: it must not use the table. False when it is not there.
  template <class F>
  bool visit(std::uint64_t hash, std::string_view key, F f) const {
    const std::size_t index = buckets_.index(high_half(hash));
    const std::lock_guard locked{shard_of(index).mutex};
    const std::size_t place = place_of(buckets_[index], hash, key);
    if (place == near_bucket::places) return false;
    near_node& node = *buckets_[index].nodes[place].load(std::memory_order_relaxed);
    node.visit();
    f(value_of(node));
    return true;
  }

  /// Adds an entry, or replaces the one of the same key, when `accept()` is true. False when it is not, and where the
  /// entry is too large or there is no memory for it; nothing changes then. Evicts until all fit: what nobody found
  /// since the hand passed, and at once that of which `dead(const Value&)` is true. Both are called while a shard is
  /// locked: they must not use the table, and `dead` must not throw.
  template <class Accept, class Dead>
  bool insert(std::uint64_t hash, std::string_view key, Value value, std::size_t value_bytes, Accept accept,
              Dead dead) {
    owned_node fresh = make(hash, key, std::move(value), value_bytes);
    if (!fresh) return false;
    const std::size_t own = buckets_.index(high_half(hash)) % shard_count;
    near_retired due;
    {
      shard& mine = shards_[own];
      const std::lock_guard locked{mine.mutex};
      if (!accept()) return false;
      put(mine, hash, key, *fresh.release(), dead);
      due = take_due(mine);
    }
    if (!due.empty()) reclaim(due);
    for (std::size_t next = own + 1; next < own + shard_count && full(); ++next) {
      {
        shard& other = shards_[next % shard_count];
        const std::lock_guard locked{other.mutex};
        make_room(other, dead);
        due = take_due(other);
      }
      if (!due.empty()) reclaim(due);
    }
    return true;
  }

  /// False when it is not there. Its value is destroyed later, by an insertion or `reclaim`.
  bool remove(std::uint64_t hash, std::string_view key) noexcept {
    const std::size_t index = buckets_.index(high_half(hash));
    shard& mine = shard_of(index);
    const std::lock_guard locked{mine.mutex};
    const std::size_t place = place_of(buckets_[index], hash, key);
    if (place == near_bucket::places) return false;
    take_out(mine, buckets_[index], place);
    return true;
  }

  /// Destroys what has left the table and is not pinned, and of other tables what has outlived them.
  void reclaim() noexcept {
    near_retired all;
    for (shard& each : shards_) {
      const std::lock_guard locked{each.mutex};
      each.begin_batch();
      all.push_all(each.retired);
    }
    reclaim(all);
  }

  [[nodiscard]] std::size_t size() const {
    return sum([](const shard& each) { return each.order.size(); });
  }
  /// Of the table, its entries, and those that have left it and are not destroyed yet.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return buckets_.bytes() + entry_bytes_.load(std::memory_order_relaxed) +
           retired_bytes_.load(std::memory_order_relaxed);
  }
  /// For want of room; not removals and replacements.
  [[nodiscard]] std::uint64_t evictions() const {
    return sum([](const shard& each) { return each.evictions; });
  }

 private:
  static constexpr std::size_t shard_count = 16;
  static constexpr std::size_t bytes_per_bucket = 960;
  static constexpr std::size_t bytes_around = 64;
  static constexpr std::size_t batch_nodes = 32;
  static constexpr std::size_t largest_part = 4;
  static constexpr std::size_t batch_part = 128;

  struct entry : near_node {  // the bytes of the key follow
    explicit entry(Value&& from) noexcept : near_node{}, value{std::move(from)} {}
    Value value;
  };
  static_assert(alignof(entry) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);

  struct alignas(64) shard {
    mutable std::mutex mutex;
    near_sieve order;
    near_retired retired;
    std::size_t batch = 0;  // retired since the last time that pins were collected
    std::size_t batch_bytes = 0;
    std::uint64_t evictions = 0;

    void begin_batch() noexcept { batch = batch_bytes = 0; }
  };

  static void destroy(near_node* base) noexcept {
    auto* const whole = static_cast<entry*>(base);
    whole->~entry();
    ::operator delete(static_cast<void*>(whole));
  }
  struct destroyer {
    void operator()(near_node* base) const noexcept { destroy(base); }
  };
  using owned_node = std::unique_ptr<near_node, destroyer>;

  static const Value& value_of(const near_node& base) noexcept { return static_cast<const entry&>(base).value; }
  static std::string_view key_of(const near_node& base) noexcept {
    return {reinterpret_cast<const char*>(static_cast<const entry*>(&base) + 1), base.key_size};
  }
  static bool matches(const near_node& base, std::uint32_t high, std::string_view key) noexcept {
    return base.hash == high && key_of(base) == key;
  }

  /// Nothing where it is too large or there is no memory.
  owned_node make(std::uint64_t hash, std::string_view key, Value&& value, std::size_t value_bytes) const noexcept {
    const std::size_t around = sizeof(entry) + bytes_around + near_node::unit - 1;
    const std::size_t largest = std::min(max_bytes_ / largest_part, capacity_);
    if (largest < around || key.size() > largest - around || value_bytes > largest - around - key.size()) return {};
    const std::size_t units = (value_bytes + key.size() + around) / near_node::unit;
    constexpr std::size_t most = std::numeric_limits<std::uint32_t>::max();
    if (units > most || key.size() > most) return {};
    void* const memory = ::operator new(sizeof(entry) + key.size(), std::nothrow);
    if (memory == nullptr) return {};
    auto* const made = new (memory) entry{std::move(value)};
    made->hash = high_half(hash);
    made->key_size = static_cast<std::uint32_t>(key.size());
    made->units = static_cast<std::uint32_t>(units);
    if (!key.empty()) std::memcpy(static_cast<void*>(made + 1), key.data(), key.size());
    return owned_node{made};
  }

  shard& shard_of(std::size_t index) noexcept { return shards_[index % shard_count]; }
  const shard& shard_of(std::size_t index) const noexcept { return shards_[index % shard_count]; }
  bool full() const noexcept { return entry_bytes_.load(std::memory_order_relaxed) > capacity_; }

  template <class Part>
  auto sum(Part part) const {
    decltype(part(shards_[0])) total = 0;
    for (const shard& each : shards_) {
      const std::lock_guard locked{each.mutex};
      total += part(each);
    }
    return total;
  }

  // From here to `take_due`: the shard is locked.

  static std::size_t place_of(const near_bucket& bucket, std::uint64_t hash, std::string_view key) noexcept {
    for (unsigned left = bucket.matches(near_bucket::tag_of(hash)); left != 0; left &= left - 1) {
      const auto place = static_cast<std::size_t>(std::countr_zero(left));
      if (matches(*bucket.nodes[place].load(std::memory_order_relaxed), high_half(hash), key)) return place;
    }
    return near_bucket::places;
  }

  static std::size_t place_of(const near_bucket& bucket, const near_node& node) noexcept {
    std::size_t place = 0;
    while (bucket.nodes[place].load(std::memory_order_relaxed) != &node) ++place;
    return place;
  }

  /// No reader comes to the node anew.
  void retire(shard& mine, near_node& node) noexcept {
    mine.order.remove(node);
    mine.retired.push(node);
    ++mine.batch;
    mine.batch_bytes += node.bytes();
    retired_bytes_.fetch_add(node.bytes(), std::memory_order_relaxed);
    entry_bytes_.fetch_sub(node.bytes(), std::memory_order_relaxed);
  }

  void take_out(shard& mine, near_bucket& bucket, std::size_t place) noexcept {
    near_node& node = *bucket.nodes[place].load(std::memory_order_relaxed);
    bucket.clear(place);
    retire(mine, node);
  }

  void evict(shard& mine, near_node& node) noexcept {
    near_bucket& bucket = buckets_[buckets_.index(node.hash)];
    take_out(mine, bucket, place_of(bucket, node));
    ++mine.evictions;
  }

  template <class Dead>
  void make_room(shard& mine, Dead& dead) {
    while (full()) {
      near_node* const node = mine.order.advance([&](const near_node& each) { return dead(value_of(each)); });
      if (node == nullptr) return;
      evict(mine, *node);
    }
  }

  /// Of a bucket; where it is full one becomes so: that of a dead entry, or of one that was not visited, or any.
  template <class Dead>
  std::size_t empty_place(shard& mine, near_bucket& bucket, std::uint64_t hash, Dead& dead) {
    if (const unsigned empty = bucket.matches(0); empty != 0) return static_cast<std::size_t>(std::countr_zero(empty));
    std::size_t worst = hash / 2 % near_bucket::places;
    bool visited = true;
    for (std::size_t i = 0; i < near_bucket::places; ++i) {
      const near_node& each = *bucket.nodes[i].load(std::memory_order_relaxed);
      if (dead(value_of(each))) {
        worst = i;
        break;
      }
      if (visited && !each.visited.load(std::memory_order_relaxed)) {
        worst = i;
        visited = false;
      }
    }
    take_out(mine, bucket, worst);
    ++mine.evictions;
    return worst;
  }

  template <class Dead>
  void put(shard& mine, std::uint64_t hash, std::string_view key, near_node& fresh, Dead& dead) noexcept {
    near_bucket& bucket = buckets_[buckets_.index(fresh.hash)];
    std::size_t place = place_of(bucket, hash, key);
    entry_bytes_.fetch_add(fresh.bytes(), std::memory_order_relaxed);
    if (place == near_bucket::places) {
      make_room(mine, dead);
      place = empty_place(mine, bucket, hash, dead);
      bucket.put(place, near_bucket::tag_of(hash), fresh);
    } else {
      near_node& old = *bucket.nodes[place].load(std::memory_order_relaxed);
      if (old.visited.load(std::memory_order_relaxed)) fresh.visit();
      bucket.put(place, near_bucket::tag_of(hash), fresh);
      retire(mine, old);
      make_room(mine, dead);
    }
    mine.order.push(fresh);  // only now, so as not to leave for itself
  }

  /// What has to be looked at now.
  near_retired take_due(shard& mine) noexcept {
    if (mine.batch < batch_nodes && mine.batch_bytes <= max_bytes_ / batch_part) return {};
    mine.begin_batch();
    return std::move(mine.retired);
  }

  /// Without a lock. What is pinned goes back to its shard.
  void reclaim(near_retired& due) noexcept {
    retired_bytes_.fetch_sub(due.reclaim(&destroy), std::memory_order_relaxed);
    while (near_node* const pinned = due.pop()) {
      shard& home = shard_of(buckets_.index(pinned->hash));
      const std::lock_guard locked{home.mutex};
      home.retired.push(*pinned);
    }
  }

  const std::size_t max_bytes_;
  const near_buckets buckets_;
  const std::size_t capacity_;  // what the table leaves of the bound
  alignas(64) std::atomic<std::size_t> entry_bytes_ = 0;
  std::atomic<std::size_t> retired_bytes_ = 0;
  std::array<shard, shard_count> shards_;
};

}  // namespace tenantry::detail
