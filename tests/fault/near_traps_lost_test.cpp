// Traps of near caches (the table is in integration/near_traps_test.cpp): connections and servers that are lost,
// noticed by both ends, by one, or by none.

#include "support/concurrency.hpp"
#include "support/fault_proxy.hpp"
#include "support/kpi.hpp"
#include "support/listener.hpp"
#include "support/near_proxied.hpp"
#include "support/near_rig.hpp"
#include "support/sites.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/task.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using std::chrono::steady_clock;
using support::acme;
using support::comes_near;
using support::eventually;
using support::is_near;
using support::portfolio_kpi;
using support::text_at;
using support::tracks;
using rig = support::near_proxied;

const tn::key& the_key() {
  static const tn::key k = portfolio_kpi(acme);
  return k;
}
void end(const rig& with, const support::connection_seen& which) {
  REQUIRE(with.direct.execute("CLIENT", "KILL", "ID", which.id).integer() == 1);
}
/// The cache keeps values again, and is told of their changes.
void check_works_again(rig& with) {
  REQUIRE(tracks(with.cache));
  for (int round = 0; round < 3; ++round) with.keep(the_key(), "again " + std::to_string(round));
  const auto push = with.push();
  CHECK(with.lane().redirect == push.id);
  CHECK_FALSE(with.lane().broken);
}

}  // namespace

TEST_CASE("T13: a lost data connection drops what was read on it, also where nobody uses it") {
  const support::must_end ends;
  rig with;
  for (int round = 0; round < 20; ++round) {
    with.keep(the_key(), "old");
    const auto before = with.cache.near_stats().flushes_lane_lost;
    end(with, with.lane());
    with.set(the_key(), "new");  // nobody is told
    CHECK(eventually([&] { return with.cache.near_stats().flushes_lane_lost > before; }));
    CHECK(text_at(with.cache, the_key()) == "new");
  }
  check_works_again(with);
}

TEST_CASE("T13: a lost data connection is noticed while all that is asked for is in memory") {
  const support::must_end ends;
  rig with;
  with.keep(the_key(), "old");
  end(with, with.lane());
  with.set(the_key(), "new");
  CHECK(with.gives(the_key(), "new"));
  check_works_again(with);
}

TEST_CASE("T13: the same for the connection of coroutines") {
  const support::must_end ends;
  rig with;
  const auto read = [&] { return tn::sync_wait(with.cache.async_get(the_key())); };
  with.set(the_key(), "old");
  REQUIRE(eventually([&] { return read().value().source() == tn::source::near; }));  // and read by no other
  const auto all = support::connections(with.direct);
  const auto lane =
      std::ranges::find_if(all, [&](const auto& each) { return each.tracks && each.id != with.blocking.id; });
  REQUIRE(lane != all.end());
  end(with, *lane);
  with.set(the_key(), "new");
  CHECK(eventually([&] { return with.cache.near_stats().flushes_lane_lost > 0; }));
  CHECK(*read().value() == "new");
}

TEST_CASE("T13: a data connection that was reset, by a network, drops what was read on it") {
  const support::must_end ends;
  rig with;
  with.keep(the_key(), "old");
  with.proxy.reset();
  with.set(the_key(), "new");
  CHECK(with.gives(the_key(), "new"));
  check_works_again(with);
}

TEST_CASE("T14: a lost push connection drops everything, and the next one is told of all that is read from then on") {
  const support::must_end ends;
  rig with;
  for (int round = 0; round < 3; ++round) {
    with.keep(the_key(), "old");
    const auto before = with.cache.near_stats().flushes_push_lost;
    end(with, with.push());
    with.set(the_key(), "new");  // nobody is told
    CHECK(with.gives(the_key(), "new"));
    CHECK(with.cache.near_stats().flushes_push_lost > before);
    CHECK(tracks(with.cache));
    REQUIRE(comes_near(with.cache, the_key()));
  }
  check_works_again(with);
}

TEST_CASE("T14: without a push connection nothing is kept, and all reads are answered") {
  const support::must_end ends;
  rig with;
  with.keep(the_key(), "old");
  const auto push = with.push();
  with.proxy.refuse();
  end(with, push);
  REQUIRE(eventually([&] { return !with.cache.near_stats().tracking; }));
  for (int i = 0; i < 100; ++i) {
    const std::string value = std::to_string(i);
    with.set(the_key(), value);
    const auto found = with.cache.get(the_key());  // on the connection that is still there
    REQUIRE(found.has_value());
    CHECK(found->source() == tn::source::redis);
    CHECK(**found == value);
  }
  with.proxy.heal();
  check_works_again(with);
}

TEST_CASE("T14: a push connection that ends during a read: what was read is not kept") {
  const support::must_end ends;
  rig with;
  with.set(the_key(), "old");
  const auto lane = with.lane();
  with.hold(lane);
  const auto before = support::reads(with.direct);
  auto reading = support::on_thread([&] { return text_at(with.cache, the_key()); });
  REQUIRE(eventually([&] { return support::reads(with.direct) > before; }));
  const auto flushes = with.cache.near_stats().flushes_push_lost;
  end(with, with.push());
  with.set(the_key(), "new");
  CHECK(eventually([&] { return with.cache.near_stats().flushes_push_lost > flushes; }));
  CHECK(tracks(with.cache));
  with.release(lane);
  CHECK(reading.get() == "old");
  CHECK(text_at(with.cache, the_key()) == "new");
  CHECK(text_at(with.cache, the_key()) == "new");
  check_works_again(with);
}

TEST_CASE("T16: a push connection that is silent, and open, counts as lost") {
  const support::must_end ends;
  rig with;
  for (const auto lost : {support::flow::to_client, support::flow::to_server}) {
    CAPTURE(lost == support::flow::to_client);
    with.keep(the_key(), "old");
    const auto before = with.cache.near_stats().flushes_push_lost;
    const auto push = with.push();
    with.proxy.apply_to(push.port, support::flow::to_client, {.carries = support::faults::transport::swallows});
    if (lost == support::flow::to_server) {
      with.proxy.apply_to(push.port, lost, {.carries = support::faults::transport::swallows});
    }
    with.set(the_key(), "new");
    CHECK(with.gives(the_key(), "new"));  // long before max_age
    CHECK(with.cache.near_stats().flushes_push_lost > before);
    REQUIRE(tracks(with.cache));
    REQUIRE(eventually([&] {
      return std::ranges::count(support::connections(with.direct), true, &support::connection_seen::listens) <= 2;
    }));
    (void)with.direct.execute("CLIENT", "KILL", "ID", push.id);  // the server has not noticed
    REQUIRE(comes_near(with.cache, the_key()));
  }
  check_works_again(with);
}

TEST_CASE("T16: silence is noticed early where a near cache came late, not where there is none or it has ended") {
  const support::must_end ends{100s};
  const tn::testing::redis_server server = support::near_server::started({});
  support::fault_proxy proxy{server.port()};
  const tn::client direct{support::near_server::patient(server.unix_url())};
  support::site holder{support::site::waiting(), support::near_server::patient(server.unix_url())};
  support::load_held load{holder, the_key(), {1, "held"}};
  struct waiting_site {
    explicit waiting_site(const std::string& url)
        : at{support::site::waiting(),
             [&] {
               auto how = support::near_server::patient(url);
               how.observer = heard.ear();
               return how;
             }()},
          waiting{at, the_key(), {2, "own"}} {}
    [[nodiscard]] bool lost() const { return !heard.all(tn::events::push_lost).empty(); }

    support::listener heard;
    support::site at;
    support::waiting_fetch waiting;
  };
  waiting_site without{proxy.url()};
  waiting_site ended{proxy.url()};
  waiting_site late{proxy.url()};
  const auto listening = [&] {
    return std::ranges::count(support::connections(direct), true, &support::connection_seen::listens);
  };
  REQUIRE(eventually([&] { return listening() == 3; }));
  {
    const tn::cache<std::string> cache{ended.at.redis, support::bare_near_by()};
    REQUIRE(tracks(cache));
  }
  const tn::cache<std::string> cache{late.at.redis, support::bare_near_by()};
  REQUIRE(tracks(cache));
  CHECK(listening() == 3);
  proxy.apply(support::flow::to_client, {.carries = support::faults::transport::swallows}, support::reach::open);
  CHECK(eventually([&] { return cache.near_stats().flushes_push_lost == 1; }));
  REQUIRE(tracks(cache));
  CHECK_FALSE(without.lost());
  CHECK_FALSE(ended.lost());
  proxy.reset();
  (void)load.finish();
  for (waiting_site* each : {&without, &ended, &late}) CHECK(each->waiting.result()->unit == "held");
}

TEST_CASE("T16: what the server's message is lost of is given for max_age at most") {
  const support::must_end ends;
  rig with{{.max_age = 500ms}};
  with.set(the_key(), "old");
  REQUIRE(eventually([&] { return text_at(with.cache, the_key()) == "old" && is_near(with.cache, the_key()); }));
  with.proxy.apply_to(with.push().port, support::flow::to_client, {.carries = support::faults::transport::swallows});
  with.set(the_key(), "new");
  const auto changed = steady_clock::now();
  int old = 0;
  for (auto now = steady_clock::now(); now < changed + 1s; now = steady_clock::now()) {
    if (text_at(with.cache, the_key()) == "new") continue;
    ++old;
    CHECK(now <= changed + 500ms);  // begun when it was older than that
  }
  CHECK(old > 0);
  CHECK(text_at(with.cache, the_key()) == "new");
}

TEST_CASE("T16: a server that stops is noticed by its silence, and when it goes on values are kept again") {
  const support::must_end ends;
  rig with;
  with.keep(the_key(), "old");
  with.server.pause();
  CHECK(eventually([&] { return !with.cache.near_stats().tracking; }));
  with.server.resume();
  with.set(the_key(), "new");
  CHECK(with.gives(the_key(), "new"));
  check_works_again(with);
}

TEST_CASE("T24: nothing of a server that is gone is given when another one has taken its place") {
  const support::must_end ends;
  rig with;
  for (int round = 0; round < 3; ++round) {
    with.keep(the_key(), "old");
    with.server.kill();
    with.server.start();
    const auto there = [&] {
      try {
        with.set(the_key(), "new");
        return true;
      } catch (const tn::error&) {
        return false;
      }
    };
    REQUIRE(eventually(there));
    CHECK(eventually([&] {
      try {
        return text_at(with.cache, the_key()) == "new";
      } catch (const tn::error&) {
        return false;
      }
    }));
    for (int i = 0; i < 100; ++i) CHECK(text_at(with.cache, the_key()) == "new");
    check_works_again(with);
  }
}

TEST_CASE("T24: where the address leads to another server, that one tells, though it knows a client of the same id") {
  const support::must_end ends;
  rig with;
  with.keep(the_key(), "old");
  const tn::testing::redis_server other;
  const tn::client there{support::near_server::patient(other.unix_url())};
  std::vector<std::unique_ptr<tn::client>> clients;
  const std::int64_t told = std::stoll(with.push().id);
  std::int64_t last = 0;
  while (last < told) {
    clients.push_back(std::make_unique<tn::client>(support::near_server::patient(other.unix_url())));
    last = clients.back()->execute("CLIENT", "ID").integer();
  }
  there.execute("SET", the_key(), "theirs");
  with.proxy.lead_to(other.port());
  end(with, with.lane());  // the push connection stays where it is
  CHECK(with.gives(the_key(), "theirs"));
  REQUIRE(comes_near(with.cache, the_key()));
  for (int i = 0; i < 3; ++i) {
    const std::string value = std::to_string(i);
    there.execute("SET", the_key(), value);
    CHECK(with.gives(the_key(), value));
    REQUIRE(comes_near(with.cache, the_key()));
  }
}
