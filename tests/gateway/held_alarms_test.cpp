// The alarms that wait for Redis.

#include "held_alarms.hpp"

#include "gateway_rig.hpp"

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

namespace {

using gateway::held_alarms;
using gateway::testing::acme;
using gateway::testing::globex;
using outcome = held_alarms::outcome;
using texts = std::vector<std::string>;
using namespace std::chrono_literals;

const auto now = std::chrono::steady_clock::now();
const auto later = now + 1h;
const auto long_enough = now + 2h;

void push(held_alarms& into, const tenantry::tenant_id& tenant, std::initializer_list<const char*> ids) {
  for (const char* id : ids) into.push(tenant, {.id = id, .gateway = "", .severity = "", .text = ""});
}

/// What a pass appends, where what `answer` says becomes of it.
template <class Answer>
texts flushed(held_alarms& from, held_alarms::time_point at, held_alarms::time_point until, const Answer& answer) {
  texts all;
  from.flush(at, later, until, [&](const tenantry::tenant_id& tenant, const gateway::alarm& one) {
    const outcome what = answer(tenant);
    if (what == outcome::done) all.push_back(tenant.str() + one.id);
    return what;
  });
  return all;
}

outcome done(const tenantry::tenant_id&) { return outcome::done; }

}  // namespace

TEST_CASE("each tenant's alarms are appended in order") {
  held_alarms held;
  push(held, globex, {"1", "2"});
  push(held, acme, {"1", "2"});
  push(held, globex, {"3"});
  CHECK(held.size() == 5);
  CHECK(flushed(held, now, long_enough, done) == texts{"acme1", "acme2", "globex1", "globex2", "globex3"});
  CHECK(held.size() == 0);
  CHECK_FALSE(held.due().has_value());
}

TEST_CASE("a tenant that is to come later keeps its order, is left alone until then, and holds up nobody") {
  held_alarms held;
  push(held, acme, {"1", "2"});
  push(held, globex, {"1"});
  const auto not_acme = [](const tenantry::tenant_id& who) {
    return who == acme ? outcome::tenant_later : outcome::done;
  };
  CHECK(flushed(held, now, long_enough, not_acme) == texts{"globex1"});
  CHECK(held.ready(now) == 0);
  CHECK(held.due() == later);
  push(held, acme, {"3"});
  CHECK(flushed(held, now, long_enough, done).empty());
  CHECK(flushed(held, later, long_enough, done) == texts{"acme1", "acme2", "acme3"});
}

TEST_CASE("when nobody's alarm can be appended only one is tried") {
  held_alarms held;
  push(held, acme, {"1"});
  push(held, globex, {"1"});
  int tries = 0;
  CHECK(flushed(held, now, long_enough, [&](const auto&) {
          ++tries;
          return outcome::all_later;
        }).empty());
  CHECK(tries == 1);
  CHECK(held.size() == 2);
  CHECK(held.ready(now) == 2);
}

TEST_CASE("when the time is over the next pass goes on with the next tenant") {
  held_alarms held;
  push(held, acme, {"1", "2", "3"});
  push(held, globex, {"1", "2"});
  texts all;
  while (held.size() > 0) {
    const texts one = flushed(held, now, now - 1h, done);  // over after the first
    REQUIRE(one.size() == 1);
    all.push_back(one.front());
  }
  CHECK(all == texts{"acme1", "globex1", "acme2", "globex2", "acme3"});
}

TEST_CASE("when there are too many, the last ones of those who have most are dropped") {
  held_alarms held;
  push(held, acme, {"1", "2", "3", "4", "5", "6"});
  push(held, globex, {"1", "2"});
  CHECK(held.trim(8) == 0);
  CHECK(held.trim(4) == 4);
  CHECK(flushed(held, now, long_enough, done) == texts{"acme1", "acme2", "globex1", "globex2"});
}
