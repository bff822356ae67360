#pragma once
// Where a near cache finds its entries.

#include "caching/near_node.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace tenantry::detail {

/// The part of a hash that chooses the bucket, and that the entry keeps.
[[nodiscard]] constexpr std::uint32_t high_half(std::uint64_t hash) noexcept {
  return static_cast<std::uint32_t>(hash >> 32U);
}

/// A cache line: six places for entries, and a few bits of the hash of each, never zero where there is one.
struct alignas(64) near_bucket {
  static constexpr std::size_t places = 6;

  std::array<std::atomic<std::uint16_t>, places> tags;
  std::array<std::atomic<near_node*>, places> nodes;

  [[nodiscard]] static constexpr std::uint16_t tag_of(std::uint64_t hash) noexcept {
    const auto low = static_cast<std::uint16_t>(hash);
    return low != 0 ? low : std::uint16_t{1};
  }

  /// A bit for each place that has this tag.
  [[nodiscard]] unsigned matches(std::uint16_t tag) const noexcept {
    unsigned found = 0;
    for (std::size_t i = 0; i < places; ++i) {
      found |= static_cast<unsigned>(tags[i].load(std::memory_order_relaxed) == tag) << i;
    }
    return found;
  }

  void put(std::size_t place, std::uint16_t tag, near_node& node) noexcept {
    nodes[place].store(&node, std::memory_order_seq_cst);
    tags[place].store(tag, std::memory_order_relaxed);
  }
  void clear(std::size_t place) noexcept {
    nodes[place].store(nullptr, std::memory_order_seq_cst);
    tags[place].store(0, std::memory_order_relaxed);
  }
};
static_assert(sizeof(near_bucket) == 64);

/// All of them, in memory that the system provides when it is touched first.
class near_buckets {
 public:
  explicit near_buckets(std::size_t count);
  near_buckets(const near_buckets&) = delete;
  near_buckets& operator=(const near_buckets&) = delete;
  ~near_buckets() = default;

  [[nodiscard]] std::size_t index(std::uint32_t high) const noexcept {
    return static_cast<std::size_t>((std::uint64_t{high} * count_) >> 32U);
  }
  [[nodiscard]] near_bucket& operator[](std::size_t index) const noexcept { return first_[index]; }
  [[nodiscard]] std::size_t bytes() const noexcept { return count_ * sizeof(near_bucket); }

 private:
  struct release {
    void operator()(void* memory) const noexcept { std::free(memory); }  // NOLINT(cppcoreguidelines-no-malloc): calloc
  };

  near_bucket* first_ = nullptr;
  std::uint64_t count_;  // below 2^32
  std::unique_ptr<void, release> memory_;
};

}  // namespace tenantry::detail
