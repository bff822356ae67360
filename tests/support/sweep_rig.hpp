#pragma once
// What tests of sweeps need: an application's names, and a whole database as a set of names.

#include "support/redis_probe.hpp"

#include <tenantry/catalog.hpp>
#include <tenantry/client.hpp>
#include <tenantry/key.hpp>
#include <tenantry/key_schema.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace support {

inline constexpr tenantry::key_schema<"kpi:{tenant}:portfolio"> kpi_of;
inline constexpr tenantry::key_schema<"readings:{tenant}:monthly:{unit}:{year}:{month:02}"> reading;
inline constexpr tenantry::key_schema<"health:{tenant}:gateway:{gateway}", tenantry::placement::tenant> health;
inline constexpr tenantry::key_schema<"state:{tenant}:{unit}:of:{gateway}:now"> state;
inline constexpr tenantry::key_schema<"flag:{tenant}"> flag;
inline const tenantry::catalog application{kpi_of, reading, health, state, flag};
inline constexpr tenantry::key_schema<"pdf:{tenant}:settlement:{settlement}"> uncatalogued;

using names = std::set<std::string>;

inline void store(const tenantry::client& redis, const names& all) {
  std::vector<tenantry::command> batch;
  const auto flush = [&] {
    REQUIRE(std::ranges::none_of(redis.execute_all(batch), &tenantry::reply::is_error));
    batch.clear();
  };
  for (const std::string& each : all) {
    batch.emplace_back("SET", each, "value");
    if (batch.size() == 1000) flush();
  }
  flush();
}

/// While nobody writes. KEYS would do, if a reply might be as long as that.
inline names everything(const tenantry::client& redis) {
  names all;
  std::string cursor = "0";
  do {
    const tenantry::reply page = redis.execute("SCAN", cursor, "COUNT", 10'000);
    cursor = page[0].str();
    for (const tenantry::reply& each : page[1].elements()) all.insert(each.str());
  } while (cursor != "0");
  return all;
}

inline names without(names from, const names& these) {
  for (const std::string& each : these) from.erase(each);
  return from;
}

/// So many keys of one tenant and of nobody else.
inline names readings_of(const tenantry::tenant_id& tenant, std::size_t count) {
  names all;
  for (std::size_t i = 0; i < count; ++i) {
    all.insert(reading(tenant, "unit-" + std::to_string(i / 12), 2026, i % 12 + 1).str());
  }
  return all;
}

/// An empty server that the tests of this program share, and a client of it.
struct sweep_rig {
  sweep_rig() { redis.execute("FLUSHALL"); }

  static tenantry::testing::redis_server& server() {
    static tenantry::testing::redis_server shared;
    return shared;
  }
  static tenantry::client_options options() {
    need_redis();
    auto options = tenantry::client_options::from_url(server().url());
    options.timeout = std::chrono::seconds{20};  // sanitizers are slow
    return options;
  }

  tenantry::client redis{options()};
  tenantry::tenant_id acme{"acme"};
  tenantry::tenant_id globex{"globex"};
};

}  // namespace support
