// What the child of a fork does with what its parent had made, while every lock is held: no call waits for one.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/feeds.hpp"
#include "support/inherited_locks.hpp"
#include "support/kpi.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/client.hpp>
#include <tenantry/concurrency_limiter.hpp>
#include <tenantry/consumer.hpp>
#include <tenantry/error.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/feed_loop.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/rate_limiter.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <atomic>
#include <chrono>
#include <coroutine>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::alarms;
using support::eventually;
using support::held_locks;
using support::in_child_that_finds_held;
using support::kpi;
using support::portfolio_kpi;
using support::redis_rig;

/// 0 where the call fails with `forked`, unsent.
int refused(auto&& call) {
  try {
    call();
    return 1;
  } catch (const tn::error& why) {
    return why.code() == tn::errc::forked && why.execution() == tn::execution::not_sent ? 0 : 2;
  }
}
/// The same of a call that decides without Redis.
int decided(const auto& made, bool allowed) {
  if (!made.failure || made.failure->code() != tn::errc::forked) return 3;
  return made.allowed == allowed ? 0 : 4;
}
int decided(const tn::permit& made, bool granted) {
  if (!made.failure() || made.failure()->code() != tn::errc::forked) return 3;
  return bool{made} == granted ? 0 : 4;
}

struct child_call {
  const char* name;
  std::function<int()> run;
};

/// Each in a child of its own. The parent was to have taken the locks before.
void check_all(const std::vector<child_call>& calls) {
  for (const child_call& each : calls) {
    CAPTURE(each.name);
    CHECK(in_child_that_finds_held(held_locks::all, each.run) == 0);
  }
}

tn::client_options patient() {
  auto options = tn::client_options::from_url(redis_rig::server().url());
  options.timeout = 20s;
  return options;
}

const tn::key k = portfolio_kpi(acme);
constexpr tn::limiter_options slow{.timeout = 20s};
kpi one_load() { return {1, "loaded"}; }

}  // namespace

TEST_CASE("the child of a fork: calls of a client fail and take no lock") {
  const support::must_end ends{110s};
  const redis_rig redis;
  auto client = std::make_unique<tn::client>(patient());
  const auto bulk = client->with({.lane = tn::lane_choice::bulk});
  client->execute("PING");
  bulk.execute("PING");
  tn::sync_wait(client->async_execute("PING"));
  std::optional<tn::exclusive_connection> own{client->exclusive()};
  std::optional<tn::async_exclusive_connection> async_own{client->async_exclusive()};
  own->execute("PING");
  tn::sync_wait(async_own->async_execute("PING"));
  const tn::script echo{"return ARGV[1]"};
  const std::vector<tn::command> two{tn::command{"PING"}, tn::command{"PING"}};
  check_all({
      {"execute", [&] { return refused([&] { client->execute("PING"); }); }},
      {"execute_all", [&] { return refused([&] { (void)client->execute_all(two); }); }},
      {"eval", [&] { return refused([&] { (void)client->eval(echo, {}, {"a"}); }); }},
      {"bulk", [&] { return refused([&] { bulk.execute("PING"); }); }},
      {"async_execute", [&] { return refused([&] { tn::sync_wait(client->async_execute("PING")); }); }},
      {"async_execute_all", [&] { return refused([&] { tn::sync_wait(client->async_execute_all(two)); }); }},
      {"async_eval", [&] { return refused([&] { tn::sync_wait(client->async_eval(echo, {}, {"a"})); }); }},
      {"exclusive", [&] { return refused([&] { (void)client->exclusive(); }); }},
      {"async_exclusive", [&] { return refused([&] { (void)client->async_exclusive(); }); }},
      {"of an exclusive one", [&] { return refused([&] { own->execute("PING"); }); }},
      {"of an async exclusive one", [&] { return refused([&] { tn::sync_wait(async_own->async_execute("PING")); }); }},
      {"metrics", [&] { return client->metrics().lanes.empty() ? 0 : 1; }},
      {"close",
       [&] {
         client->close(1h);
         return refused([&] { client->execute("PING"); });
       }},
      {"the end",
       [&] {
         own.reset();
         async_own.reset();
         client.reset();
         return 0;
       }},
  });
  CHECK(client->execute("PING").str() == "PONG");
  CHECK(client->metrics().lanes.size() >= 3);
}

TEST_CASE("the child of a fork: calls of a cache fail and take no lock") {
  const support::must_end ends{110s};
  const redis_rig redis;
  const tn::thread_pool pool{1};
  const tn::client client{patient()};
  using cache = tn::cache<kpi>;
  const auto loader = [](const tn::key&, tn::load_context&) { return one_load(); };
  const bool near = GENERATE(false, true);
  tn::cache_options how{.executor = pool.get_executor(), .undelivered = tn::undelivered::queue};
  if (near) how.near = tn::near_options{.max_age = 1h};
  auto kpis = std::make_unique<cache>(client, how, loader);
  const tn::invalidator inv{client, tn::catalog{portfolio_kpi}, tn::undelivered::queue};
  if (near) REQUIRE(eventually([&] { return kpis->near_stats().tracking; }));
  CHECK(kpis->fetch(k)->unit == "loaded");
  CHECK(kpis->get(k));
  const tn::load_ticket ticket = kpis->begin(k);
  tn::sync_wait(kpis->async_fetch(k));
  if (near) CHECK(eventually([&] { return kpis->get(k)->source() == tn::source::near; }));
  std::vector<tn::cached<kpi>> held;  // so that a hit in memory has no pin left
  for (int i = 0; near && i < 40; ++i) held.push_back(*kpis->get(k));
  const std::vector<tn::key> keys{k, portfolio_kpi(tn::tenant_id{"globex"})};
  check_all({
      {"fetch", [&] { return refused([&] { (void)kpis->fetch(k); }); }},
      {"fetch with a loader", [&] { return refused([&] { (void)kpis->fetch(k, one_load); }); }},
      {"fetch_many", [&] { return refused([&] { (void)kpis->fetch_many(keys); }); }},
      {"async_fetch", [&] { return refused([&] { (void)tn::sync_wait(kpis->async_fetch(k)); }); }},
      {"async_fetch_many", [&] { return refused([&] { (void)tn::sync_wait(kpis->async_fetch_many(keys)); }); }},
      {"get", [&] { return refused([&] { (void)kpis->get(k); }); }},
      {"async_get", [&] { return refused([&] { (void)tn::sync_wait(kpis->async_get(k)); }); }},
      {"put", [&] { return refused([&] {
                      kpis->put(k, {2, "put"});
                    }); }},
      {"async_put", [&] { return refused([&] {
                            tn::sync_wait(kpis->async_put(k, kpi{2, "put"}));
                          }); }},
      {"begin", [&] { return refused([&] { (void)kpis->begin(k); }); }},
      {"put with a ticket", [&] { return refused([&] {
                                    (void)kpis->put(k, {2, "put"}, ticket);
                                  }); }},
      {"invalidate", [&] { return refused([&] { kpis->invalidate(k); }); }},
      {"async_invalidate", [&] { return refused([&] { (void)tn::sync_wait(kpis->async_invalidate(k)); }); }},
      {"expire", [&] { return refused([&] { kpis->expire(k); }); }},
      {"invalidator", [&] { return refused([&] { inv.invalidate(acme); }); }},
      {"invalidator, async", [&] { return refused([&] { (void)tn::sync_wait(inv.async_expire(acme)); }); }},
      {"queued", [&] { return inv.queued() == 0 ? 0 : 1; }},
      {"sweep", [&] { return refused([&] { (void)inv.sweep(acme); }); }},
      {"async_sweep", [&] { return refused([&] { (void)tn::sync_wait(inv.async_sweep(acme)); }); }},
      {"another cache", [&] { return refused([&] {
                                const cache another{client, {}};
                              }); }},
      {"counters", [&] { return kpis->stats().loads >= 1 && kpis->near_stats().values == 0 ? 0 : 1; }},
      {"close", [&] { return kpis->close(1h) ? 0 : 1; }},
      {"the end",
       [&] {
         held.clear();
         kpis.reset();
         return 0;
       }},
  });
  held.clear();
  CHECK(kpis->get(k));
}

TEST_CASE("the child of a fork: limiters decide by their policy and take no lock") {
  const support::must_end ends{110s};
  const redis_rig redis;
  const tn::client client{patient()};
  auto open = std::make_unique<tn::rate_limiter>(client, tn::on_failure::fail_open,
                                                 tn::rate_limit{.limit = 1000, .window = 60s}, slow);
  tn::rate_limiter closed{client, tn::on_failure::fail_closed, {.limit = 1, .window = 60s}, slow};
  tn::rate_limiter insured{client, tn::on_failure::insurance(1), {.limit = 1000, .window = 60s}, slow};
  tn::rate_limiter ahead{client,
                         tn::on_failure::fail_open,
                         {.limit = 1000, .window = 60s},
                         {.timeout = 20s, .grants = tn::grant_options{.share = 0.1, .life = 1s}}};
  auto permits = std::make_unique<tn::concurrency_limiter>(client, tn::on_failure::insurance(1),
                                                           tn::concurrency_options{.limit = 4, .timeout = 20s});
  for (tn::rate_limiter* each : {open.get(), &closed, &insured, &ahead}) {
    CHECK(each->acquire(acme, "/").source == tn::decision_source::redis);
  }
  std::optional<tn::permit> mine = permits->acquire(acme, "exports");
  CHECK(bool{*mine});
  check_all({
      {"acquire, fail_open", [&] { return decided(open->acquire(acme, "/"), true); }},
      {"acquire, fail_closed", [&] { return decided(closed.acquire(acme, "/"), false); }},
      {"acquire, insurance", [&] { return decided(insured.acquire(acme, "/"), false); }},
      {"acquire, ahead", [&] { return decided(ahead.acquire(acme, "/"), true); }},
      {"async_acquire", [&] { return decided(tn::sync_wait(insured.async_acquire(acme, "/")), false); }},
      {"wait", [&] { return decided(closed.wait(acme, "/", 1h), false); }},
      {"wait, insurance", [&] { return decided(insured.wait(acme, "/", 1h), false); }},
      {"async_wait", [&] { return decided(tn::sync_wait(insured.async_wait(acme, "/", 1h)), false); }},
      {"acquire_up_to", [&] { return decided(insured.acquire_up_to(acme, "/", 3), false); }},
      {"peek", [&] { return decided(tn::sync_wait(open->async_peek(acme, "/")), true); }},
      {"refund", [&] { return decided(insured.refund(acme, "/"), true); }},
      {"reset", [&] { return refused([&] { insured.reset(acme, "/"); }); }},
      {"async_reset", [&] { return refused([&] { tn::sync_wait(insured.async_reset(acme, "/")); }); }},
      {"set_limits", [&] { return refused([&] { insured.set_limits({{.limit = 5, .window = 60s}}); }); }},
      {"permits", [&] { return decided(permits->acquire(acme, "exports"), false); }},
      {"async permits", [&] { return decided(tn::sync_wait(permits->async_acquire(acme, "exports")), false); }},
      {"in_use", [&] { return refused([&] { (void)permits->in_use(acme, "exports"); }); }},
      {"another limiter",
       [&] {
         return refused([&] {
           const tn::concurrency_limiter another{client, tn::on_failure::fail_open, {.limit = 1}};
         });
       }},
      {"the end",
       [&] {
         permits.reset();
         mine.reset();
         open.reset();
         return 0;
       }},
  });
  CHECK(permits->in_use(acme, "exports") == 1);
}

TEST_CASE("the child of a fork: a permit that has outlived its client ends and takes no lock") {
  const support::must_end ends{110s};
  const redis_rig redis;
  auto client = std::make_unique<tn::client>(patient());
  std::optional<tn::permit> mine =
      tn::concurrency_limiter{*client, tn::on_failure::insurance(1), {.limit = 4, .timeout = 20s}}.acquire(acme,
                                                                                                           "exports");
  REQUIRE(bool{*mine});
  client.reset();
  check_all({{"the end", [&] {
                mine.reset();
                return 0;
              }}});
}

TEST_CASE("the child of a fork: publishers, logs and their readers fail, end, and take no lock") {
  const support::must_end ends{110s};
  const redis_rig redis;
  const tn::client client{patient()};
  const tn::publisher pub{client};
  auto sub = std::make_unique<tn::subscriber>(client);
  std::optional<support::text_feed> feed = sub->subscribe<std::string>(alarms(acme), support::roomy);
  auto log = std::make_unique<tn::event_log<std::string>>(client, alarms);
  const std::string first = log->append(acme, "event");
  for (int i = 0; i < 600; ++i) log->append(acme, "event");  // more than a page
  auto followed = std::make_optional(log->follow(*sub, acme, first));
  CHECK(followed->next());
  auto working = std::make_optional(log->consume(*sub, acme, "billing", [](const tn::work<std::string>&) {}));
  const tn::thread_pool pool{1};
  auto looping = std::make_optional<tn::feed_loop<support::text_feed>>(
      sub->subscribe<std::string>(support::news(acme, "quiet")), pool.get_executor(), [](auto&) {});
  const std::vector<tn::outgoing> messages{{alarms(acme), "a"}, {alarms(acme), "b"}};
  pub.publish(alarms(acme), "to all");
  check_all({
      {"publish", [&] { return refused([&] { pub.publish(alarms(acme), "x"); }); }},
      {"publish_all", [&] { return refused([&] { (void)pub.publish_all(messages); }); }},
      {"async_publish", [&] { return refused([&] { (void)tn::sync_wait(pub.async_publish(alarms(acme), "x")); }); }},
      {"subscribe", [&] { return refused([&] { (void)sub->subscribe<std::string>(alarms(acme)); }); }},
      {"async_subscribe",
       [&] { return refused([&] { (void)tn::sync_wait(sub->async_subscribe<std::string>(alarms(acme))); }); }},
      {"append", [&] { return refused([&] { (void)log->append(acme, "x"); }); }},
      {"follow", [&] { return refused([&] { (void)log->follow(*sub, acme); }); }},
      {"dead_letters", [&] { return refused([&] { (void)log->dead_letters(acme, "billing"); }); }},
      {"consume", [&] { return refused([&] { working->run(); }); }},
      {"next",
       [&] {
         const auto event = feed->next();
         return event && std::holds_alternative<tn::closed>(*event) && !feed->next() ? 0 : 1;
       }},
      {"next of a follower",
       [&] {
         auto event = followed->next();  // first what it had read
         while (event && std::holds_alternative<tn::logged<std::string>>(*event)) event = followed->next();
         return event && std::holds_alternative<tn::closed>(*event) && !followed->next() ? 0 : 1;
       }},
      {"stop",
       [&] {
         followed->stop();
         working->stop();
         looping->stop();
         int left = 0;  // what it had read
         while (followed->next()) ++left;
         return left <= 600 ? 0 : 1;
       }},
      {"counters", [&] { return working->counters().handled + feed->counters().received + sub->counters().messages; }},
      {"the end",
       [&] {
         looping.reset();
         working.reset();
         followed.reset();
         log.reset();
         feed.reset();
         sub.reset();
         return 0;
       }},
  });
  CHECK(followed->next_for(20s));
}

TEST_CASE("the child of a fork: a thread pool of the parent resumes on the thread that calls, and can be destroyed") {
  const support::must_end ends;
  auto pool = std::make_unique<tn::thread_pool>(2);
  const tn::executor where = pool->get_executor();
  const auto moved = [](tn::executor to) -> tn::task<bool> {
    co_await tn::resume_on(std::move(to));
    co_return true;
  };
  CHECK(tn::sync_wait(moved(where)));
  check_all({
      {"resume_on", [&] { return tn::sync_wait(moved(where)) ? 0 : 1; }},
      {"the end",
       [&] {
         pool.reset();
         return tn::sync_wait(moved(where)) ? 0 : 1;
       }},
  });
  CHECK(tn::sync_wait(moved(where)));
}

TEST_CASE("the child of a fork: what it makes for itself takes no lock of its parent") {
  const support::must_end ends;
  const redis_rig redis;
  const auto uses_all = [] {
    const tn::client client{patient()};
    const tn::cache<kpi> plain{client, {}};
    tn::cache<kpi> kpis{
        client, {.near = tn::near_options{}}, [](const tn::key&, tn::load_context&) { return one_load(); }};
    kpis.invalidate(k);
    if (kpis.fetch(k)->unit != "loaded") return 1;
    if (tn::sync_wait(kpis.async_fetch(k))->unit != "loaded") return 2;
    const tn::publisher pub{client};
    tn::subscriber sub{client};
    auto feed = sub.subscribe<std::string>(alarms(acme), support::roomy);
    pub.publish(alarms(acme), "own");
    return support::next_of(feed) == "own" ? 0 : 3;
  };
  CHECK(uses_all() == 0);
  CHECK(in_child_that_finds_held(held_locks::of_the_program, uses_all) == 0);
}
