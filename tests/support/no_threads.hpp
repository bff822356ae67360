#pragma once
// A machine that can start no more threads.

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <pthread.h>

namespace support {

/// Until the end of its scope every thread would get a stack that no machine has room for.
class no_threads {
 public:
  no_threads() {
    pthread_attr_t attributes;
    REQUIRE(pthread_getattr_default_np(&attributes) == 0);
    REQUIRE(pthread_attr_getstacksize(&attributes, &before_) == 0);
    set(std::size_t{1} << 60U);
    pthread_attr_destroy(&attributes);
  }
  no_threads(const no_threads&) = delete;
  no_threads& operator=(const no_threads&) = delete;
  ~no_threads() { set(before_); }

 private:
  static void set(std::size_t stack) {
    pthread_attr_t attributes;
    CHECK(pthread_getattr_default_np(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, stack) == 0);
    CHECK(pthread_setattr_default_np(&attributes) == 0);
    pthread_attr_destroy(&attributes);
  }

  std::size_t before_ = 0;
};

}  // namespace support
