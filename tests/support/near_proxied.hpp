#pragma once
// A near cache behind a proxy that can hold back, lose or cut what comes on either of its connections.

#include "support/fault_proxy.hpp"
#include "support/near_rig.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace support {

struct near_proxied {
  explicit near_proxied(tenantry::near_options how = {.max_age = std::chrono::hours{1}})
      : server{near_server::started({})}, cache{redis, bare_near_by(how)} {
    REQUIRE(support::tracks(cache));
    (void)cache.get(gateway_health(acme, "first"));  // so that there is a connection that tracks
    blocking = lane();
  }

  void set(const tenantry::key& k, std::string_view value) const { direct.execute("SET", k, value); }
  void keep(const tenantry::key& k, std::string_view value) {
    set(k, value);
    REQUIRE(gives(k, value));
    REQUIRE(comes_near(cache, k));
  }
  [[nodiscard]] bool gives(const tenantry::key& k, std::string_view value) {
    return eventually([&] { return text_at(cache, k) == value; });
  }
  /// The connection that listens, and the one that tracks while there is no more than one.
  [[nodiscard]] connection_seen push() const { return the_one(direct, &connection_seen::listens); }
  [[nodiscard]] connection_seen lane() const { return the_one(direct, &connection_seen::tracks); }
  /// What the server says on this connection waits from now on, or goes on.
  void hold(const connection_seen& which) {
    proxy.apply_to(which.port, flow::to_client, {.carries = faults::transport::holds});
  }
  void release(const connection_seen& which) { proxy.apply_to(which.port, flow::to_client, {}); }

  tenantry::testing::redis_server server;
  fault_proxy proxy{server.port()};
  tenantry::client redis{near_server::patient(proxy.url())};
  tenantry::client direct{near_server::patient(server.unix_url())};
  tenantry::cache<std::string> cache;
  connection_seen blocking;  ///< the first connection of blocking reads
};

}  // namespace support
