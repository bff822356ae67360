#pragma once
// A server, a client whose exclusive connections are tested, and another client that looks and pushes.

#include "support/errors.hpp"
#include "support/redis_probe.hpp"
#include "support/undeterred.hpp"

#include <tenantry/client.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <cstdint>
#include <string>
#include <utility>

namespace support {

struct exclusive_rig {
  explicit exclusive_rig(const tenantry::executor& where = {})
      : redis{[&] {
          tenantry::client_options options = undeterred(server.url() + "?timeout=20s");
          options.executor = where;
          return options;
        }()} {}

  /// Until the server has so many clients that wait for an element.
  [[nodiscard]] bool has_blocked(int clients) {
    const std::string line = "blocked_clients:" + std::to_string(clients) + "\r";
    return eventually([&] { return other.execute("INFO", "clients").str().find(line) != std::string::npos; });
  }
  [[nodiscard]] bool connected(std::int64_t id) {
    return !other.execute("CLIENT", "LIST", "ID", std::to_string(id)).str().empty();
  }
  /// Ends all connections but that of `other`.
  void kill_connections() { other.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"); }

  tenantry::testing::redis_server server = [] {
    need_redis();
    return tenantry::testing::redis_server{};
  }();
  tenantry::client redis;
  tenantry::client other{undeterred(server.unix_url() + "?timeout=20s")};
};

inline bool is(const caught& how, tenantry::errc code, tenantry::execution what) {
  return how.code == code && how.execution == what;
}

}  // namespace support
