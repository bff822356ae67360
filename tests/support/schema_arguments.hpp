#pragma once
// Random argument lists for any key or channel schema, as the tuples that its parse gives back.

#include <tenantry/tenant.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <support/random_bytes.hpp>
#include <tuple>
#include <utility>

namespace support {

template <class Schema>
using arguments_of = typename Schema::parts::tuple;

inline void randomize(random_bytes& random, std::string& argument) { argument = random.id(); }
inline void randomize(random_bytes& random, std::uint64_t& argument) { argument = random.number(); }

template <class Schema>
arguments_of<Schema> random_arguments(random_bytes& random, const Schema&) {
  arguments_of<Schema> arguments;
  std::apply([&](auto&... each) { (randomize(random, each), ...); }, arguments);
  return arguments;
}

/// `schema(tenant, arguments...)`
template <class Schema>
auto render(const Schema& schema, const tenantry::tenant_id& tenant, const arguments_of<Schema>& arguments) {
  return std::apply([&](const auto&... each) { return schema(tenant, each...); }, arguments);
}

/// `schema.all(tenant, leading...)` with the first `count` arguments.
template <class Schema, std::size_t N = 0>
auto pattern(const Schema& schema, const tenantry::tenant_id& tenant, const arguments_of<Schema>& arguments,
             std::size_t count) {
  if constexpr (N < std::tuple_size_v<arguments_of<Schema>>) {
    if (count > N) return pattern<Schema, N + 1>(schema, tenant, arguments, count);
  }
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return schema.all(tenant, std::get<I>(arguments)...);
  }(std::make_index_sequence<N>{});
}

/// True when the first `count` arguments are the same.
template <class Tuple, std::size_t N = 0>
bool same_leading(const Tuple& a, const Tuple& b, std::size_t count) {
  if constexpr (N < std::tuple_size_v<Tuple>) {
    return count <= N || (std::get<N>(a) == std::get<N>(b) && same_leading<Tuple, N + 1>(a, b, count));
  } else {
    return true;
  }
}

}  // namespace support
