#pragma once
// What TIME answers.

#include <tenantry/error.hpp>
#include <tenantry/reply.hpp>

#include <charconv>
#include <chrono>
#include <cstdint>

namespace tenantry::detail {

/// Since 1970, by the server's clock. Errors: error (unexpected_reply).
inline std::chrono::microseconds time_of(const reply& seconds, const reply& microseconds) {
  const auto number = [](const std::string& digits) {
    std::int64_t value = 0;
    const auto [end, fault] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (fault != std::errc{} || end != digits.data() + digits.size()) {
      throw error{errc::unexpected_reply, execution::executed, "\"" + digits + "\" is no time"};
    }
    return value;
  };
  return std::chrono::seconds{number(seconds.str())} + std::chrono::microseconds{number(microseconds.str())};
}

}  // namespace tenantry::detail
