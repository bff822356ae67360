#pragma once
// The baseline of many threads: a pool of hiredis connections, as most C++ clients have it.

#include "raw_redis.hpp"

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace bench {

class redis_pool {
 public:
  redis_pool(std::uint16_t port, int size) {
    for (int i = 0; i < size; ++i) free_.push_back(std::make_unique<raw_redis>(port));
  }

  template <class Use>
  void with(Use&& use) {
    std::unique_ptr<raw_redis> one;
    {
      std::unique_lock lock{mutex_};
      returned_.wait(lock, [this] { return !free_.empty(); });
      one = std::move(free_.back());
      free_.pop_back();
    }
    use(*one);
    {
      const std::lock_guard lock{mutex_};
      free_.push_back(std::move(one));
    }
    returned_.notify_one();
  }

 private:
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<raw_redis>> free_;
};

}  // namespace bench
