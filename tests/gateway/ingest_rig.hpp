#pragma once
// A database, a Redis and instances of the bridge between them.

#include "gateway_rig.hpp"
#include "ingest.hpp"
#include "mqtt.hpp"
#include "payloads.hpp"
#include "schemas.hpp"
#include "store.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gateway::testing {

/// A Redis that keeps what it acknowledged.
inline tenantry::testing::redis_server durable_redis() {
  support::need_redis();
  return tenantry::testing::redis_server{{.arguments = {"--appendonly", "yes", "--appendfsync", "always"}}};
}

/// One process of the gateway, as far as ingest is concerned.
struct instance {
  instance(store& into, const std::string& url, ingest_options how = {})
      : redis{options_of(url)}, bridge{into, log, healths, invalidator, std::move(how)} {}

  static tenantry::client_options options_of(const std::string& url) {
    auto options = tenantry::client_options::from_url(url);
    options.breaker.open_for = std::chrono::milliseconds{50};
    options.breaker.longest_open_for = std::chrono::milliseconds{200};
    return options;
  }

  /// What follows from a message: the bridge has handled so many.
  [[nodiscard]] bool has_received(std::uint64_t messages) const {
    return support::eventually([&] { return bridge.counters().received >= messages; });
  }
  /// And so many different alarms.
  [[nodiscard]] bool has_appended(std::uint64_t number) const {
    return support::eventually([&] {
      const ingest_counters now = bridge.counters();
      return now.alarms_appended - now.alarms_duplicate >= number;
    });
  }
  [[nodiscard]] std::uint64_t refused(refusal why) const {
    return bridge.counters().refused.at(static_cast<std::size_t>(why));
  }

  bool report(const tenantry::tenant_id& tenant, std::string_view from, std::vector<reading> readings) {
    const gateway::report what{.firmware = "1.4.2", .readings = std::move(readings)};
    return bridge.offer(topic_of(tenant, from, what), payload_of(from, what));
  }
  bool raise(const tenantry::tenant_id& tenant, const std::string& id) {
    const alarm what = alarm_named(id);
    return bridge.offer(topic_of(tenant, "gw-1", what), payload_of(what));
  }
  static alarm alarm_named(const std::string& id) {
    return {.id = id, .gateway = "gw-1", .severity = "warning", .text = "Leak", .at = noon * 1000};
  }

  tenantry::client redis;
  tenantry::event_log<alarm> log{redis, alarms};
  tenantry::cache<health> healths{redis, {.ttl = std::chrono::minutes{2}}};
  tenantry::invalidator invalidator{redis, tenantry::catalog{portfolio_kpi, gateway_health}};
  ingest bridge;  // last: it uses the others
};

/// The ids of a tenant's alarms, in the order of the log. Waits for a Redis that comes back.
inline std::vector<std::string> logged_ids(const tenantry::client& redis, const tenantry::tenant_id& tenant) {
  std::vector<std::string> ids;
  CHECK(support::eventually([&] {
    try {
      const tenantry::reply all = redis.execute("XRANGE", "log:{" + tenant.str() + "}:alarms", "-", "+");
      for (const tenantry::reply& each : all.elements()) {
        ids.push_back(nlohmann::json::parse(each[1][3].str()).at("id").get<std::string>());
      }
      return true;
    } catch (const tenantry::error&) {
      return false;
    }
  }));
  return ids;
}

/// first, first + 1, ... up to last, as ids.
inline std::vector<std::string> ids(int first, int last) {
  std::vector<std::string> all;
  for (int i = first; i <= last; ++i) all.push_back("a-" + std::to_string(i));
  return all;
}

}  // namespace gateway::testing
