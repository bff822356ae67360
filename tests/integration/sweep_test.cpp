// How a sweep behaves while it runs: what it tells, how fast it goes, how it is stopped, and what it uses.

#include "support/async_calls.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/sweep_rig.hpp"

#include <tenantry/executor.hpp>
#include <tenantry/invalidator.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using namespace support;
using clock = std::chrono::steady_clock;

/// The names are the same for both faces of an invalidator.
template <class Target>
tn::sweep_report blocking(const tn::invalidator& inv, const Target& what, const tn::sweep_options& how) {
  return inv.sweep(what, how);
}
template <class Target>
tn::sweep_report awaited(const tn::invalidator& inv, const Target& what, const tn::sweep_options& how) {
  return sync_wait(inv.async_sweep(what, how));
}
using face = tn::sweep_report (*)(const tn::invalidator&, const tn::tenant_id&, const tn::sweep_options&);
const std::vector<face> both_faces{&blocking<tn::tenant_id>, &awaited<tn::tenant_id>};

}  // namespace

TEST_CASE("both faces of a sweep delete the same, and report the same") {
  const sweep_rig rig;
  const tn::invalidator inv{rig.redis, application};
  for (const face sweep : both_faces) {
    store(rig.redis, readings_of(rig.acme, 2000));
    store(rig.redis, readings_of(rig.globex, 2000));
    const auto report = sweep(inv, rig.acme, {});
    CHECK(report.total == 4000);
    CHECK(report.scanned == 4000);
    CHECK(report.deleted == 2000);
    CHECK(report.complete);
    CHECK(everything(rig.redis) == readings_of(rig.globex, 2000));
  }
  store(rig.redis, readings_of(rig.acme, 24));
  CHECK(sync_wait(inv.async_sweep(reading.all(rig.acme, "unit-1"))).deleted == 12);
  CHECK(sync_wait(inv.async_sweep(rig.acme)).deleted == 12);
}

TEST_CASE("a sweep of an empty database is over at once") {
  const sweep_rig rig;
  const tn::invalidator inv{rig.redis, application};
  for (const face sweep : both_faces) CHECK(sweep(inv, rig.acme, {}) == tn::sweep_report{.complete = true});
}

TEST_CASE("progress is told after each page, never goes back, and ends with the report") {
  const sweep_rig rig;
  const tn::invalidator inv{rig.redis, application};
  for (const face sweep : both_faces) {
    store(rig.redis, readings_of(rig.acme, 3000));
    store(rig.redis, readings_of(rig.globex, 3000));
    std::vector<tn::sweep_report> told;
    const auto report =
        sweep(inv, rig.acme, {.on_progress = [&](const tn::sweep_report& now) { told.push_back(now); }});
    REQUIRE(told.size() > 2);
    CHECK(told.back() == report);
    CHECK(told.front().total == 6000);
    CHECK(told.front().scanned < 6000);
    CHECK(told.front().deleted == 0);  // its page goes with the next one
    CHECK(told.front().matched > 0);
    for (std::size_t i = 1; i < told.size(); ++i) {
      CHECK(told[i].scanned >= told[i - 1].scanned);
      CHECK(told[i].matched >= told[i - 1].matched);
      CHECK(told[i].deleted >= told[i - 1].deleted);
      CHECK_FALSE(told[i - 1].complete);
    }
  }
}

TEST_CASE("a budget is kept from the first page to the last") {
  const sweep_rig rig;
  const tn::invalidator inv{rig.redis, application};
  for (const face sweep : both_faces) {
    store(rig.redis, readings_of(rig.acme, 1500));
    store(rig.redis, readings_of(rig.globex, 1500));
    const auto begin = clock::now();
    std::uint64_t before = 0;
    const auto spend = [&](const tn::sweep_report& now) {
      // Whoever got another page has paid for those before.
      if (now.scanned > before) CHECK(clock::now() - begin >= before * 200us);
      before = now.scanned;
    };
    const auto report = sweep(inv, rig.acme, {.on_progress = spend, .keys_per_second = 5000});
    CHECK(report.deleted == 1500);
    CHECK(clock::now() - begin >= (3000 - 500) * 200us);
  }
}

TEST_CASE("a sweep that is stopped returns what it did so far, and another one does the rest") {
  const sweep_rig rig;
  const tn::invalidator inv{rig.redis, application};
  for (const face sweep : both_faces) {
    store(rig.redis, readings_of(rig.acme, 3000));
    std::stop_source stop;
    int pages = 0;
    const auto report = sweep(inv, rig.acme,
                              {.on_progress =
                                   [&](const tn::sweep_report&) {
                                     if (++pages == 2) stop.request_stop();
                                   },
                               .stop = stop.get_token()});
    CHECK(pages == 2);
    CHECK_FALSE(report.complete);
    CHECK(report.deleted > 0);
    CHECK(report.deleted < report.matched);
    CHECK(everything(rig.redis).size() == 3000 - report.deleted);
    CHECK(sweep(inv, rig.acme, {}).deleted == 3000 - report.deleted);
  }
}

TEST_CASE("a sweep that is stopped before it begins sends nothing") {
  const tn::client nowhere{"redis://127.0.0.1:1"};
  const tn::invalidator inv{nowhere, application};
  std::stop_source stop;
  stop.request_stop();
  for (const face sweep : both_faces) {
    CHECK(sweep(inv, tn::tenant_id{"acme"}, {.stop = stop.get_token()}) == tn::sweep_report{});
  }
}

TEST_CASE("a stop ends the pauses of a budget") {
  const sweep_rig rig;
  const tn::invalidator inv{rig.redis, application};
  store(rig.redis, readings_of(rig.acme, 300));
  for (const face sweep : both_faces) {
    const auto begin = clock::now();
    for (int i = 0; i < 20; ++i) {  // whose pauses are a second each
      std::stop_source stop;
      gate under_way;
      auto sweeping = on_thread([&] {
        return sweep(
            inv, rig.acme,
            {.on_progress = [&](const auto&) { under_way.open(); }, .keys_per_second = 1, .stop = stop.get_token()});
      });
      CHECK(under_way.wait());
      stop.request_stop();
      CHECK_FALSE(sweeping.get().complete);
    }
    CHECK(clock::now() - begin < 15s);
  }
}

TEST_CASE("what on_progress throws comes to the caller, and the connection can be used again") {
  const sweep_rig rig;
  auto options = sweep_rig::options();
  options.bounds.exclusive_connections = 1;
  const tn::client redis{options};
  const tn::invalidator inv{redis, application};
  for (const face sweep : both_faces) {
    store(rig.redis, readings_of(rig.acme, 1000));
    const tn::sweep_options fails{.on_progress = [](const tn::sweep_report&) { throw std::out_of_range{"enough"}; }};
    CHECK_THROWS_AS(sweep(inv, rig.acme, fails), std::out_of_range);
    CHECK(everything(rig.redis).size() == 1000);
    CHECK(sweep(inv, rig.acme, {}).deleted == 1000);
  }
}

TEST_CASE("a sweep uses a connection of its own, and one for all its pages") {
  const sweep_rig rig;
  store(rig.redis, readings_of(rig.acme, 3000));
  const tn::client redis{sweep_rig::options()};
  const tn::invalidator inv{redis, application};
  const auto connections = [&] {
    const std::string info = rig.redis.execute("INFO", "stats").str();
    return std::stoul(info.substr(info.find("total_connections_received:") + 27));
  };
  const auto before = connections();
  CHECK(inv.sweep(rig.acme).deleted == 3000);
  CHECK(inv.sweep(rig.acme).deleted == 0);
  CHECK(connections() == before + 1);
  CHECK(lane_of(redis, "blocking").commands == 0);
  CHECK(lane_of(redis, "blocking bulk").commands == 0);
}

TEST_CASE("keys that go while a sweep runs are no error") {
  const sweep_rig rig;
  const tn::invalidator inv{rig.redis, application};
  for (const face sweep : both_faces) {
    store(rig.redis, readings_of(rig.acme, 1000));
    const auto report = sweep(inv, rig.acme,
                              {.on_progress = [&](const tn::sweep_report&) { rig.redis.execute("FLUSHALL"); },
                               .bytes = tn::sweep_bytes::measured});
    CHECK(report.complete);
    CHECK(report.matched > 0);
    CHECK(report.deleted == 0);
    CHECK(report.bytes == 0);
  }
}

TEST_CASE("two sweeps of one tenant at the same time delete each key once") {
  const sweep_rig rig;
  store(rig.redis, readings_of(rig.acme, 5000));
  const tn::invalidator inv{rig.redis, application};
  auto one = on_thread([&] { return inv.sweep(rig.acme); });
  auto other = started(inv.async_sweep(rig.acme));
  const auto first = one.get();
  const auto second = result_of(other);
  CHECK(first.complete);
  CHECK(second.complete);
  CHECK(first.deleted + second.deleted == 5000);
  CHECK(everything(rig.redis).empty());
}

TEST_CASE("a user that may not delete gets the server's words, and everything stays") {
  const sweep_rig rig;
  store(rig.redis, readings_of(rig.acme, 500));
  rig.redis.execute("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@read", "+@fast", "-unlink", "+client");
  auto options = sweep_rig::options();
  options.username = "reader";
  options.password = "secret";
  const tn::client reader{options};
  const tn::invalidator inv{reader, application};
  for (const face sweep : both_faces) {
    const auto failure = failure_of([&] { (void)sweep(inv, rig.acme, {}); });
    CHECK(failure.code == tn::errc::no_permission);
    CHECK(failure.text.find("UNLINK") != std::string::npos);
    CHECK(sweep(inv, rig.acme, {.action = tn::sweep_action::count}).matched == 500);
  }
  CHECK(everything(rig.redis).size() == 500);
}

TEST_CASE("options that cannot be kept are refused before anything is sent, also by the async face") {
  const tn::client nowhere{"redis://127.0.0.1:1"};
  const tn::invalidator inv{nowhere, application};
  const tn::tenant_id acme{"acme"};
  for (const face sweep : both_faces) {
    CHECK_THROWS_AS(sweep(inv, acme, {.keys_per_second = 0}), tn::invalid_option);
  }
  CHECK_THROWS_AS(inv.sweep(uncatalogued.all(acme)), tn::invalid_option);
  CHECK_THROWS_AS(inv.async_sweep(uncatalogued.all(acme)), tn::invalid_option);
}

TEST_CASE("a task keeps what it was given, and its invalidator may be gone") {
  const sweep_rig rig;
  store(rig.redis, readings_of(rig.acme, 500));
  auto swept = [&] {
    const tn::invalidator inv{rig.redis, tn::catalog{reading}};
    const tn::tenant_id tenant{"acme"};
    const std::string note(100, 'n');
    const tn::sweep_options how{.on_progress = [note](const tn::sweep_report&) { CHECK(note.size() == 100); }};
    return inv.async_sweep(tenant, how);
  }();
  CHECK(sync_wait(std::move(swept)).deleted == 500);
}

TEST_CASE("a sweep awaited in a coroutine runs on any executor, pauses included") {
  const sweep_rig rig;
  auto options = sweep_rig::options();
  options.executor = tn::inline_executor();
  const tn::client redis{options};
  const tn::invalidator inv{redis, application};
  store(rig.redis, readings_of(rig.acme, 900));
  int pages = 0;
  const tn::sweep_options how{.on_progress = [&](const tn::sweep_report&) { ++pages; }, .keys_per_second = 10'000};
  const auto twice = [](const tn::invalidator& on, const tn::tenant_id& tenant,
                        const tn::sweep_options& options_of_first) -> tn::task<std::uint64_t> {
    const tn::sweep_report first = co_await on.async_sweep(tenant, options_of_first);
    const tn::sweep_report second = co_await on.async_sweep(tenant);
    co_return first.deleted + second.deleted;
  };
  CHECK(sync_wait(twice(inv, rig.acme, how)) == 900);
  CHECK(pages > 2);
}
