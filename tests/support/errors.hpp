#pragma once
// Failures as values, for tests that look at them.

#include <tenantry/error.hpp>

#include <catch2/catch_test_macros.hpp>

#include <exception>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace support {

struct caught {
  tenantry::errc code{};
  tenantry::execution execution{};
  std::string text;
};

/// Keeps the exception that is being handled until the program ends. Others may hold it too, and ThreadSanitizer does
/// not see how the standard library counts them: it takes its destruction by another thread for a race.
inline void keep_caught() {
  static std::mutex mutex;
  static std::vector<std::exception_ptr> all;
  const std::lock_guard held{mutex};
  all.push_back(std::current_exception());
}

/// Runs `action`, which has to throw a tenantry::error.
template <class Action>
caught failure_of(Action&& action) {
  try {
    std::forward<Action>(action)();
  } catch (const tenantry::error& fault) {
    keep_caught();
    return {fault.code(), fault.execution(), fault.what()};
  }
  FAIL("nothing was thrown");
  return {};
}

}  // namespace support
