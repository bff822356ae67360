// Alarms of a tenant: publish and listen, and a log that a browser can resume from.
#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/feed_loop.hpp>
#include <tenantry/json_codec.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/sse.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/tenant.hpp>

#include <atomic>
#include <chrono>
#include <iostream>
#include <optional>
#include <string>
#include <thread>
#include <variant>

using namespace std::chrono_literals;

inline constexpr tenantry::channel_schema<"alarms:{tenant}"> alarms;

struct alarm_event {
  std::string gateway;
  int level = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(alarm_event, gateway, level)

template <class... Ts>
struct overloaded : Ts... {
  using Ts::operator()...;
};
template <class... Ts>
overloaded(Ts...) -> overloaded<Ts...>;

std::string describe(const tenantry::feed_event<alarm_event>& event) {
  return std::visit(
      overloaded{
          [](const tenantry::message<alarm_event>& m) { return m.value.gateway; },
          [](const tenantry::gap&) { return std::string{"something may be missing: read the state again"}; },
          [](const tenantry::lagged& l) { return std::to_string(l.dropped) + " dropped"; },
          [](const tenantry::closed& c) { return "closed: " + std::string{to_string(c.cause)}; },
      },
      event);
}

/// What a browser gets: replay from where it was, then live.
std::string stream(const tenantry::event_log<alarm_event>& log, tenantry::subscriber& sub,
                   const tenantry::tenant_id& tenant, const std::optional<std::string>& last_event_id, int count) {
  std::string out;
  auto feed = log.follow(sub, tenant, last_event_id);  // any text that a browser sends
  for (auto& event : feed) {
    if (const auto* alarm = std::get_if<tenantry::logged<alarm_event>>(&event)) {
      tenantry::sse_event{.id = alarm->id(), .event = "alarm", .data = alarm->payload()}.append_to(out);
    } else if (const auto* missed = std::get_if<tenantry::gap>(&event)) {
      tenantry::sse_event{.id = missed->id, .event = "gap", .data = to_string(missed->cause)}.append_to(out);
    }
    if (--count == 0) break;
  }
  return out;
}

int main(int argc, char** argv) try {
  const tenantry::client redis{argc > 1 ? argv[1] : "redis://localhost:6379"};
  const tenantry::tenant_id acme{"acme"};

  const tenantry::publisher pub{redis};
  tenantry::subscriber sub{redis};  // one connection, any number of subscriptions
  auto feed = sub.subscribe<alarm_event>(alarms(acme), {.capacity = 1024, .overflow = tenantry::overflow::drop_oldest});
  pub.publish(alarms(acme), alarm_event{.gateway = "gw-7", .level = 3});
  const auto first = feed.next_for(5s);
  std::cout << (first ? describe(*first) : "nothing") << '\n';

  tenantry::subscriber probed{redis, {.probe = tenantry::probe_options{.interval = 30s, .timeout = 10s}}};

  const tenantry::publisher to_shard{redis, {.scope = tenantry::channel_scope::shard}};
  auto on_shard = sub.subscribe<alarm_event>(alarms(acme), {.scope = tenantry::channel_scope::shard});
  to_shard.publish(alarms(acme), alarm_event{.gateway = "gw-8", .level = 1});
  const auto second = on_shard.next_for(5s);
  std::cout << (second ? describe(*second) : "nothing") << '\n';

  tenantry::thread_pool pool{1};
  std::atomic<int> heard = 0;
  tenantry::feed_loop loop{sub.subscribe<alarm_event>(alarms(acme)), pool.get_executor(), [&](auto&) { ++heard; }};

  const tenantry::event_log<alarm_event> log{redis, alarms, {.keep = 10'000}};
  const std::string seen = log.append(acme, {.gateway = "gw-1", .level = 1});
  log.append(acme, {.gateway = "gw-2", .level = 2});
  log.append_once(acme, {.gateway = "gw-3", .level = 3}, "alarm-4711");  // again after a lost answer: appended once
  log.append_once(acme, {.gateway = "gw-3", .level = 3}, "alarm-4711");
  std::cout << stream(log, sub, acme, seen, 2);  // gw-2 and gw-3
  const std::string stale = stream(log, sub, acme, "from another time", 1);
  std::cout << stale;

  for (int i = 0; i < 1000 && heard < 3; ++i) std::this_thread::sleep_for(5ms);
  loop.stop();
  return first && second && heard == 3 && stale.find("event: gap") != std::string::npos ? 0 : 1;
} catch (const tenantry::error& failure) {
  std::cerr << to_string(failure.code()) << ": " << failure.what() << '\n';
  return 1;
}
