#include "caching/near_buckets.hpp"

#include <algorithm>
#include <limits>
#include <new>

namespace tenantry::detail {

near_buckets::near_buckets(std::size_t count)
    : count_{std::min<std::uint64_t>(count, std::numeric_limits<std::uint32_t>::max())} {
  // Zeros are empty buckets; calloc does not write those that come from the system, which constructing them would.
  std::size_t room = (static_cast<std::size_t>(count_) + 1) * sizeof(near_bucket);
  memory_.reset(std::calloc(room, 1));  // NOLINT(cppcoreguidelines-no-malloc): no operator new gives zeros
  void* begin = memory_.get();
  if (begin == nullptr) throw std::bad_alloc{};
  first_ = static_cast<near_bucket*>(std::align(alignof(near_bucket), bytes(), begin, room));
}

}  // namespace tenantry::detail
