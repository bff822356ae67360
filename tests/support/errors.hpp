#pragma once
// Failures as values, for tests that look at them.

#include <tenantry/error.hpp>

#include <catch2/catch_test_macros.hpp>

#include <string>
#include <utility>

namespace support {

struct caught {
  tenantry::errc code{};
  tenantry::execution execution{};
  std::string text;
};

/// Runs `action`, which has to throw a tenantry::error.
template <class Action>
caught failure_of(Action&& action) {
  try {
    std::forward<Action>(action)();
  } catch (const tenantry::error& fault) {
    return {fault.code(), fault.execution(), fault.what()};
  }
  FAIL("nothing was thrown");
  return {};
}

}  // namespace support
