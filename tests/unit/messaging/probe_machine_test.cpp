// When a connection is probed, and when a probe that does not come back ends it.

#include "messaging/probe_machine.hpp"

#include <tenantry/subscriber.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdint>
#include <optional>

namespace {

namespace tn = tenantry;
namespace td = tenantry::detail;
using namespace std::chrono_literals;
using number = std::optional<std::uint64_t>;

/// A machine and its clock.
struct probed {
  explicit probed(const tn::probe_options& how = {.interval = 30s, .timeout = 10s}) : machine{how} {}

  td::probe_machine machine;
  td::probe_machine::time_point now{1h};

  number due() { return machine.due(now); }
  number late() { return machine.late(now); }
  probed& after(std::chrono::milliseconds span) {
    now += span;
    return *this;
  }
  /// Publishes the probe that is due, and Redis takes it.
  std::uint64_t accepted() {
    const number made = due();
    REQUIRE(made);
    machine.accepted(*made, now);
    return *made;
  }
  /// From a confirmed connection on until it has failed.
  void fail() {
    now = machine.next();
    (void)accepted();
    now = machine.next();
    REQUIRE_FALSE(late());
    now = machine.next();
    REQUIRE(late());
  }
};

constexpr auto never = td::probe_machine::time_point::max();

}  // namespace

TEST_CASE("without a connection, and right after it is there, nothing is probed") {
  probed on;
  CHECK(on.machine.next() == never);
  CHECK_FALSE(on.after(24h).due());
  on.machine.confirmed(1, on.now);
  CHECK(on.machine.next() == on.now + 30s);
  CHECK_FALSE(on.after(30s - 1ms).due());
  CHECK(on.after(1ms).due() == 1);
  CHECK_FALSE(on.due());
}

TEST_CASE("a probe that comes back is followed by the next one, and ends nothing") {
  probed on;
  on.machine.confirmed(1, on.now);
  for (std::uint64_t i = 1; i <= 100; ++i) {
    CHECK(on.after(30s).accepted() == i);
    CHECK(on.machine.next() == on.now + 10s);
    on.after(10s - 1ms).machine.arrived(i, on.now);
    CHECK_FALSE(on.after(1ms).late());
    on.now -= 1ms;
  }
}

TEST_CASE("a probe that arrives before Redis' answer counts once") {
  probed on;
  on.machine.confirmed(1, on.now);
  const number made = on.after(30s).due();
  on.machine.arrived(*made, on.now);
  on.machine.accepted(*made, on.now);
  CHECK(on.machine.next() == on.now + 30s);
  CHECK_FALSE(on.after(29s).late());
}

TEST_CASE("a probe that does not come back ends the connection of its generation, once, after a last look") {
  probed on;
  on.machine.confirmed(7, on.now);
  (void)on.after(30s).accepted();
  CHECK_FALSE(on.after(10s - 1ms).late());
  CHECK_FALSE(on.after(1h).late());  // the process stood still
  CHECK(on.machine.next() == on.now + 1s);
  CHECK_FALSE(on.after(1s - 1ms).late());
  CHECK(on.after(1ms).late() == 7);
  CHECK_FALSE(on.late());
  CHECK(on.machine.next() == never);
}

TEST_CASE("a probe that arrives at the last look is in time") {
  probed on;
  on.machine.confirmed(1, on.now);
  const std::uint64_t made = on.after(30s).accepted();
  CHECK_FALSE(on.after(1h).late());
  on.machine.arrived(made, on.now);
  CHECK_FALSE(on.after(2s).late());
  CHECK(on.after(28s).due() == made + 1);
}

TEST_CASE("a probe that Redis did not accept ends nothing, and another one follows") {
  probed on;
  on.machine.confirmed(1, on.now);
  const number made = on.after(30s).due();
  CHECK(on.machine.next() == never);  // until the answer
  CHECK_FALSE(on.after(1h).late());
  on.machine.failed(*made, on.now);
  CHECK_FALSE(on.after(30s - 1ms).late());
  CHECK(on.after(1ms).due() == *made + 1);
}

TEST_CASE("a probe of an earlier connection, or an earlier probe, does not stand for this one") {
  probed on;
  on.machine.confirmed(1, on.now);
  const std::uint64_t old = on.after(30s).accepted();
  on.machine.unconfirmed();
  CHECK_FALSE(on.after(1h).late());
  on.machine.confirmed(2, on.now);
  on.machine.arrived(old, on.now);
  CHECK(on.machine.next() == on.now + 30s);
  const std::uint64_t made = on.after(30s).accepted();
  CHECK(made == old + 1);
  on.machine.arrived(old, on.now);
  CHECK_FALSE(on.after(10s).late());
  CHECK(on.after(1s).late() == 2);
}

TEST_CASE("an answer that comes when the connection is another one changes nothing") {
  for (const bool accepted : {true, false}) {
    probed on;
    on.machine.confirmed(1, on.now);
    const number made = on.after(30s).due();
    on.machine.unconfirmed();
    on.machine.confirmed(2, on.after(1s).now);
    const auto next = on.machine.next();
    if (accepted) {
      on.machine.accepted(*made, on.now);
    } else {
      on.machine.failed(*made, on.now);
    }
    CHECK(on.machine.next() == next);
    CHECK_FALSE(on.after(29s).late());
  }
}

TEST_CASE("connections that fail one after another are probed less and less, up to 16 intervals, until one is good") {
  probed on;
  for (const int factor : {1, 2, 4, 8, 16, 16, 16}) {
    on.machine.confirmed(1, on.now);
    CHECK(on.machine.next() == on.now + 30s * factor);
    on.fail();
  }
  on.machine.confirmed(2, on.now);
  const std::uint64_t made = on.after(16 * 30s).accepted();
  on.machine.arrived(made, on.now);
  CHECK(on.machine.next() == on.now + 30s);
  on.machine.unconfirmed();
  on.machine.confirmed(3, on.now);
  CHECK(on.machine.next() == on.now + 30s);
}

TEST_CASE("spans without end are a day, and short ones have a short last look") {
  probed on{{.interval = std::chrono::milliseconds::max(), .timeout = std::chrono::milliseconds::max()}};
  on.machine.confirmed(1, on.now);
  CHECK(on.machine.next() == on.now + 24h);
  (void)on.after(24h).accepted();
  CHECK(on.machine.next() == on.now + 24h);
  probed quick{{.interval = 5ms, .timeout = 20ms}};
  quick.machine.confirmed(1, quick.now);
  (void)quick.after(5ms).accepted();
  CHECK_FALSE(quick.after(20ms).late());
  CHECK(quick.machine.next() == quick.now + 20ms);
}
