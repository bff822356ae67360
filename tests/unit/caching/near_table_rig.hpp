#pragma once
// A near table of values whose ends the tests can see.

#include "caching/near_table.hpp"

#include <tenantry/detail/near_pin.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace near_table_rig {

using tenantry::detail::near_pin;
using share = std::shared_ptr<const int>;
using table = tenantry::detail::near_table<share>;

/// All bits good, for numbers that follow each other (splitmix64).
constexpr std::uint64_t mixed(std::uint64_t number) {
  number += 0x9e3779b97f4a7c15U;
  number = (number ^ (number >> 30U)) * 0xbf58476d1ce4e5b9U;
  number = (number ^ (number >> 27U)) * 0x94d049bb133111ebU;
  return number ^ (number >> 31U);
}

inline std::string key_of(std::uint64_t number) { return "key:" + std::to_string(number); }

inline constexpr auto always = [] { return true; };
inline constexpr auto none_dead = [](const auto&) { return false; };

/// Inserts a number under itself. What it gives expires when the value is destroyed.
inline std::weak_ptr<const int> insert(table& into, int number, std::size_t bytes = 100) {
  auto value = std::make_shared<const int>(number);
  std::weak_ptr<const int> end = value;
  const auto key = static_cast<std::uint64_t>(number);
  into.insert(mixed(key), key_of(key), std::move(value), bytes, always, none_dead);
  return end;
}

inline const share* find(const table& in, int number, near_pin& pin) {
  const auto key = static_cast<std::uint64_t>(number);
  return in.find(mixed(key), key_of(key), pin).value;
}

inline bool holds(const table& which, int number) {
  near_pin pin;
  const share* const value = find(which, number, pin);
  return value != nullptr && **value == number;
}

inline bool remove(table& from, int number) {
  const auto key = static_cast<std::uint64_t>(number);
  return from.remove(mixed(key), key_of(key));
}

}  // namespace near_table_rig
