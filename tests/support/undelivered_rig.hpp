#pragma once
// A Redis that takes no invalidations for a while, a process that queues them, and another one.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/fault_proxy.hpp"
#include "support/kpi.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/client.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/tag.hpp>
#include <tenantry/task.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <future>
#include <iterator>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace support {

inline const tenantry::tenant_id globex{"globex"};

/// What an observer was told.
class told_events {
 public:
  struct one {
    std::string name;
    std::map<std::string, std::string> text;
    std::map<std::string, std::int64_t> number;
  };

  [[nodiscard]] tenantry::observer ear() {
    return [this](const tenantry::event& what) {
      one entry{.name = std::string{what.name}, .text = {}, .number = {}};
      for (const tenantry::event_field& each : what.fields) {
        if (const auto* text = std::get_if<std::string_view>(&each.value)) entry.text[std::string{each.name}] = *text;
        if (const auto* number = std::get_if<std::int64_t>(&each.value)) entry.number[std::string{each.name}] = *number;
      }
      const std::lock_guard held{mutex_};
      told_.push_back(std::move(entry));
    };
  }
  [[nodiscard]] std::vector<one> all(std::string_view name) const {
    const std::lock_guard held{mutex_};
    std::vector<one> found;
    std::ranges::copy_if(told_, std::back_inserter(found), [name](const one& each) { return each.name == name; });
    return found;
  }
  /// Of a field of all events of this name.
  [[nodiscard]] std::int64_t sum(std::string_view name, const std::string& field) const {
    std::int64_t total = 0;
    for (const one& each : all(name)) total += each.number.at(field);
    return total;
  }
  /// Every text in every event.
  [[nodiscard]] std::string texts() const {
    const std::lock_guard held{mutex_};
    std::string all;
    for (const one& each : told_) {
      for (const auto& [name, text] : each.text) all += text + '\n';
    }
    return all;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<one> told_;
};

/// In each of them Redis keeps what it has.
enum class outage : unsigned char { unreachable, frozen, takes_no_writes };

/// What an invalidation may concern.
enum class reached : unsigned char { key, tag, tenant };

/// A server of the test's own, and a process that queues what it does not take. That one comes through a proxy.
struct undelivered_rig {
  static constexpr const char* tag_name = "a";

  /// A process's calls end after this time. Longer than Redis takes on a busy machine, or the outage is no timeout.
  explicit undelivered_rig(std::chrono::milliseconds timeout = std::chrono::seconds{20},
                           tenantry::breaker_options breaker = {})
      : redis{reached_through(proxy.url(), timeout, breaker, told.ear())},
        elsewhere{reached_through(server.url(), std::chrono::seconds{20}, {}, {})} {}

  static tenantry::testing::redis_server own_server() {
    need_redis();
    return tenantry::testing::redis_server{
        {.arguments = {}, .program = {}, .start_timeout = std::chrono::seconds{20}, .port = {}}};
  }
  static tenantry::client_options reached_through(const std::string& url, std::chrono::milliseconds timeout,
                                                  tenantry::breaker_options breaker, tenantry::observer told) {
    tenantry::client_options options = tenantry::client_options::from_url(url);
    options.timeout = timeout;
    options.stall_limit = std::chrono::hours{1};  // connections end where a test says so
    options.down = tenantry::when_down::fail;
    options.breaker = breaker;
    options.observer = std::move(told);
    return options;
  }
  static tenantry::cache_options queueing(std::chrono::milliseconds stale_for = std::chrono::milliseconds{0}) {
    return {.stale_for = stale_for,
            .failure_throttle = std::chrono::milliseconds{0},
            .undelivered = tenantry::undelivered::queue};
  }

  void begin(outage how) {
    switch (how) {
      case outage::unreachable:
        proxy.refuse();
        proxy.reset();
        break;
      case outage::frozen:
        server.pause();
        break;
      case outage::takes_no_writes:
        REQUIRE(ask(server, "REPLICAOF 127.0.0.1 1") == "+OK");
        break;
    }
  }
  void end(outage how) {
    switch (how) {
      case outage::unreachable:
        proxy.heal();
        break;
      case outage::frozen:
        server.resume();
        break;
      case outage::takes_no_writes:
        REQUIRE(ask(server, "REPLICAOF NO ONE") == "+OK");
        break;
    }
  }
  /// The connection of coroutines, and so of what is queued, keeps this direction's bytes until the proxy heals; the
  /// one of blocking calls is opened later, and works.
  void hold_coroutines(flow direction) {
    tenantry::sync_wait(redis.with({.timeout = std::chrono::seconds{20}}).async_execute("PING"));
    proxy.apply(direction, {.carries = faults::transport::holds}, reach::open);
  }
  /// How often the server ran these commands, past the proxy.
  [[nodiscard]] std::uint64_t calls(std::initializer_list<std::string_view> commands) const {
    const std::string text = elsewhere.execute("INFO", "commandstats").str();
    std::uint64_t all = 0;
    for (const std::string_view command : commands) {
      const std::string entry = "cmdstat_" + std::string{command} + ":calls=";
      if (const auto at = text.find(entry); at != std::string::npos) all += std::stoull(text.substr(at + entry.size()));
    }
    return all;
  }

  tenantry::delivery invalidate(reached what, bool softly, const tenantry::key& k) {
    const tenantry::tag named{k.tenant(), tag_name};
    switch (what) {
      case reached::key:
        return softly ? cache.expire(k) : cache.invalidate(k);
      case reached::tag:
        return softly ? inv.expire(named) : inv.invalidate(named);
      case reached::tenant:
        break;
    }
    return softly ? inv.expire(k.tenant()) : inv.invalidate(k.tenant());
  }
  tenantry::task<tenantry::delivery> async_invalidate(reached what, bool softly, const tenantry::key& k) {
    const tenantry::tag named{k.tenant(), tag_name};
    switch (what) {
      case reached::key:
        return softly ? cache.async_expire(k) : cache.async_invalidate(k);
      case reached::tag:
        return softly ? inv.async_expire(named) : inv.async_invalidate(named);
      case reached::tenant:
        break;
    }
    return softly ? inv.async_expire(k.tenant()) : inv.async_invalidate(k.tenant());
  }
  /// Waits, while Redis is unreachable, until the queue has failed with all that is in it now.
  [[nodiscard]] bool fails_again() const {
    const auto failures = [this] {
      return std::ranges::count_if(told.all(tenantry::events::connect_failed),
                                   [](const told_events::one& each) { return each.text.at("lane") == "async"; });
    };
    const auto before = failures();
    return eventually([&] { return failures() >= before + 2; });  // the first may be of what was sent before
  }
  /// Waits until all is delivered, the observer was told of it, and blocking calls have a connection too.
  [[nodiscard]] bool delivered() const {
    const auto answered = [this](bool to_coroutine) {
      return thrown_by([this, to_coroutine] {
               return to_coroutine ? tenantry::sync_wait(redis.async_execute("PING")) : redis.execute("PING");
             }) == nullptr;
    };
    return eventually([this] { return inv.queued() == 0; }) && eventually([&] { return answered(true); }) &&
           eventually([&] { return answered(false); });
  }

  tenantry::testing::redis_server server = own_server();
  fault_proxy proxy{server.port()};
  told_events told;
  tenantry::client redis;
  tenantry::client elsewhere;  // another process, past the proxy
  tenantry::catalog keys{portfolio_kpi, gateway_health};
  tenantry::cache<kpi> cache{redis, queueing(), [] { return kpi{2, "new"}; }};
  tenantry::invalidator inv{redis, keys, tenantry::undelivered::queue};
  tenantry::invalidator others_inv{elsewhere, keys};
  tenantry::cache<kpi> others{elsewhere, queueing(std::chrono::hours{1})};
};

/// A value that the tag of the rig reaches.
inline tenantry::cached<kpi> fetch_tagged(tenantry::cache<kpi>& from, const tenantry::key& k, const kpi& value) {
  return from.fetch(k, [&value](const tenantry::key&, tenantry::load_context& load) {
    load.tag(undelivered_rig::tag_name);
    return value;
  });
}

/// A fetch whose loader has begun, and gives an old value when it is let go.
class old_load {
 public:
  old_load(tenantry::cache<kpi>& from, const tenantry::key& k)
      : from_{from}, key_{k}, loading_{on_thread([this] {
          return from_.fetch(key_, [this](const tenantry::key&, tenantry::load_context& load) {
            load.tag(undelivered_rig::tag_name);
            inside_.open();
            release_.wait();
            return kpi{1, "old"};
          });
        })} {
    REQUIRE(inside_.wait());
  }
  old_load(const old_load&) = delete;
  old_load& operator=(const old_load&) = delete;
  ~old_load() { release_.open(); }

  /// What another fetch gives that begins now, with a loader of its own. Where it waits for this one, this one ends.
  [[nodiscard]] tenantry::cached<kpi> beside() {
    const auto waits = from_.stats().waits;
    auto other = on_thread([this] { return from_.fetch(key_, [] { return kpi{2, "new"}; }); });
    CHECK(eventually([&] {
      return from_.stats().waits > waits || other.wait_for(std::chrono::seconds{0}) == std::future_status::ready;
    }));
    if (from_.stats().waits > waits) release_.open();
    return other.get();
  }
  [[nodiscard]] tenantry::cached<kpi> finish() {
    release_.open();
    return loading_.get();
  }

 private:
  tenantry::cache<kpi>& from_;
  const tenantry::key key_;
  gate inside_;
  gate release_;
  std::future<tenantry::cached<kpi>> loading_;
};

}  // namespace support
