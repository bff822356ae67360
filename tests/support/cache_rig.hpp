#pragma once
// What tests of the cache need around it: an empty server, and a view of it past the cache.

#include "support/kpi.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/key.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace support {

/// The server that the tests of this program share, and a client of it. Empty at the beginning of each test.
class redis_rig {
 public:
  redis_rig() : client{patient()} { client.execute("FLUSHALL"); }

  static tenantry::testing::redis_server& server() {
    static tenantry::testing::redis_server shared;
    return shared;
  }

  /// What is at a key, past the cache.
  [[nodiscard]] std::optional<std::string> raw(const tenantry::key& k) const {
    const tenantry::reply found = client.execute("GET", k);
    if (found.is_nil()) return std::nullopt;
    return found.str();
  }
  /// The bytes of a value at a key, without the line before it.
  [[nodiscard]] std::optional<std::string> payload(const tenantry::key& k) const {
    const auto whole = raw(k);
    if (!whole || !whole->starts_with("tn1 ")) return std::nullopt;
    return whole->substr(whole->find('\n') + 1);
  }
  void set(const tenantry::key& k, std::string_view bytes) const { client.execute("SET", k, bytes); }
  [[nodiscard]] std::int64_t pttl(const tenantry::key& k) const { return client.execute("PTTL", k).integer(); }
  [[nodiscard]] bool holds(const tenantry::key& k) const { return client.execute("EXISTS", k).integer() == 1; }

  /// How often the server ran a command since `CONFIG RESETSTAT`.
  [[nodiscard]] std::uint64_t calls(std::string_view command) const {
    const std::string text = client.execute("INFO", "commandstats").str();
    const std::string entry = "cmdstat_" + std::string{command} + ":calls=";
    const auto at = text.find(entry);
    return at == std::string::npos ? 0 : std::stoull(text.substr(at + entry.size()));
  }

 private:
  /// On a busy machine too, Redis answers every call.
  static tenantry::client_options patient() {
    need_redis();
    auto options = tenantry::client_options::from_url(server().url());
    options.timeout = std::chrono::seconds{20};
    return options;
  }

 public:
  tenantry::client client;
};

}  // namespace support
