// A lease that Redis gives after its fetch has stopped waiting for the answer.

#include "support/concurrency.hpp"
#include "support/fault_proxy.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>
#include <tenantry/key_schema.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;

inline constexpr tn::key_schema<"late:{tenant}:value"> late_value;

/// Of a program that cannot read what is there: between the look at the value and the request for a lease.
struct unreadable {
  static std::function<void()>& before_lease() {
    static std::function<void()> hook;
    return hook;
  }
  static std::string encode(const std::string& value) { return value; }
  static std::string decode(std::string_view bytes) {
    if (bytes != "unreadable") return std::string{bytes};
    before_lease()();
    throw std::invalid_argument{"unreadable"};
  }
};

}  // namespace

TEST_CASE("a load whose lease came too late is not joined by a fetch that begins after an invalidation") {
  support::need_redis();
  const support::must_end ends;
  tn::testing::redis_server server;
  support::fault_proxy proxy{server.port()};
  const tn::client direct{server.url()};
  const tn::client slow{proxy.url()};
  const tn::cache_options how{.lease_ttl = 1s, .lease_wait = 30s, .redis_timeout = 500ms};
  tn::cache<std::string, unreadable> cache{slow, how};
  tn::cache<std::string, unreadable> elsewhere{direct, {}};
  const tn::tenant_id acme{"acme"};
  const tn::key k = late_value(acme);

  // The server knows the script, which else would be asked for once more.
  (void)elsewhere.fetch(late_value(tn::tenant_id{"globex"}), []() -> std::string { return "value"; });
  elsewhere.put(k, "unreadable");
  unreadable::before_lease() = [&] {
    proxy.apply(support::flow::to_server, {.carries = support::faults::transport::holds});
  };
  support::gate inside;
  support::gate release;
  auto old = support::on_thread([&] {
    return cache.fetch(k, [&]() -> std::string {
      inside.open();
      release.wait();
      return "old";
    });
  });
  REQUIRE(inside.wait());
  unreadable::before_lease() = [] {};
  elsewhere.invalidate(k);
  REQUIRE(direct.execute("EXISTS", k.companion("lease")).integer() == 0);
  proxy.heal();
  REQUIRE(support::eventually([&] { return direct.execute("EXISTS", k.companion("lease")).integer() == 1; }));

  auto young = support::on_thread([&] { return cache.fetch(k, []() -> std::string { return "new"; }); });
  REQUIRE(support::eventually([&] { return cache.stats().waits == 1; }));
  release.open();
  const auto first = old.get();
  CHECK(*first == "old");
  CHECK_FALSE(first.stored());
  CHECK(*young.get() == "new");
  CHECK(*elsewhere.fetch(k, []() -> std::string { return "newer"; }) != "old");
}
