// What a message costs from its publisher to those who listen.

#include "bench.hpp"
#include "crowd.hpp"
#include "raw_redis.hpp"

#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/tenant.hpp>

#include <hiredis/hiredis.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <malloc.h>
#include <memory>
#include <poll.h>
#include <stdexcept>
#include <string>
#include <sys/epoll.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <variant>
#include <vector>

namespace bench {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

inline constexpr tenantry::channel_schema<"bench:{tenant}:{name}"> bench_channel;
const tenantry::tenant_id acme{"acme"};
constexpr std::size_t listeners = 10'000;
constexpr std::size_t connections = 1'000;

struct close_context {
  void operator()(redisContext* context) const { redisFree(context); }
};
using context = std::unique_ptr<redisContext, close_context>;

context connect(const std::string& url) {
  context made{redisConnect("127.0.0.1", port_of(url))};
  if (!made || made->err != 0) throw std::runtime_error{"hiredis cannot connect"};
  return made;
}
context subscribe(const std::string& url, const std::string& channel) {
  context made = connect(url);
  freeReplyObject(redisCommand(made.get(), "SUBSCRIBE %s", channel.c_str()));
  return made;
}

/// Publishes so many messages, 64 on the way at a time.
void publish(redisContext& by, const std::string& channel, const std::string& payload, std::size_t times) {
  constexpr std::size_t window = 64;
  for (std::size_t done = 0; done < times;) {
    const std::size_t batch = std::min(window, times - done);
    for (std::size_t i = 0; i < batch; ++i) {
      redisAppendCommand(&by, "PUBLISH %b %b", channel.data(), channel.size(), payload.data(), payload.size());
    }
    for (std::size_t i = 0; i < batch; ++i) {
      void* reply = nullptr;
      if (redisGetReply(&by, &reply) != REDIS_OK) throw std::runtime_error{"hiredis: no reply"};
      freeReplyObject(reply);
    }
    done += batch;
  }
}

std::size_t size_of_next(redisContext& from) {
  void* reply = nullptr;
  if (redisGetReply(&from, &reply) != REDIS_OK) throw std::runtime_error{"hiredis: no message"};
  const std::size_t size = static_cast<redisReply*>(reply)->element[2]->len;
  freeReplyObject(reply);
  return size;
}

using feed = tenantry::subscription<std::string>;
constexpr tenantry::subscription_options roomy{.capacity = 4'000'000, .capacity_bytes = std::size_t{4} << 30U};

/// One listener on each side, and a publisher for both.
struct one_listener {
  one_listener(const std::string& url, const std::string& name)
      : redis{url},
        sub{redis},
        ours{bench_channel(acme, name)},
        theirs{"bench:raw:" + name},
        listening{sub.subscribe<std::string>(ours, roomy)},
        raw{subscribe(url, theirs)},
        publisher{connect(url)} {}
  tenantry::client redis;
  tenantry::subscriber sub;
  tenantry::channel ours;
  std::string theirs;
  feed listening;
  context raw;
  context publisher;
  const std::string payload = std::string(200, 'x');
  double our_p99 = 0;
  double their_p99 = 0;
};

/// Ten thousand a second for as long as `times` take; the 99th percentile of publish to delivery in microseconds.
template <class Receive>
double p99_of(redisContext& by, const std::string& channel, std::size_t times, Receive&& receive) {
  std::thread publishing{[&] {
    auto next = clock::now();
    for (std::size_t i = 0; i < times; ++i) {
      while (clock::now() < next) std::this_thread::sleep_until(next);
      std::string payload(200, 'x');
      const std::int64_t now = clock::now().time_since_epoch().count();
      std::memcpy(payload.data(), &now, sizeof now);
      freeReplyObject(
          redisCommand(&by, "PUBLISH %b %b", channel.data(), channel.size(), payload.data(), payload.size()));
      next += 100us;
    }
  }};
  std::vector<float> all;
  all.reserve(times);
  for (std::size_t i = 0; i < times; ++i) {
    const std::string payload = receive();
    std::int64_t then = 0;
    std::memcpy(&then, payload.data(), sizeof then);
    all.push_back(static_cast<float>(clock::now().time_since_epoch().count() - then) / 1000);
  }
  publishing.join();
  return p99(std::move(all));
}

std::string payload_of_next(redisContext& from) {
  void* reply = nullptr;
  if (redisGetReply(&from, &reply) != REDIS_OK) throw std::runtime_error{"hiredis: no message"};
  const redisReply& payload = *static_cast<redisReply*>(reply)->element[2];
  std::string text{payload.str, payload.len};
  freeReplyObject(reply);
  return text;
}

/// Many listeners of one tenant: ours in one process, theirs with a connection each.
struct crowd_of_listeners {
  explicit crowd_of_listeners(const std::string& url)
      : redis{url}, sub{redis}, to{bench_channel(acme, "crowd")}, publisher{connect(url)}, poll{::epoll_create1(0)} {
    for (std::size_t i = 0; i < listeners; ++i) ours.push_back(sub.subscribe<std::string>(to));
    for (std::size_t i = 0; i < connections; ++i) {
      theirs.push_back(subscribe(url, "bench:raw:crowd"));
      epoll_event wanted{.events = EPOLLIN, .data = {.ptr = theirs.back().get()}};
      ::epoll_ctl(poll, EPOLL_CTL_ADD, theirs.back()->fd, &wanted);
    }
  }
  crowd_of_listeners(const crowd_of_listeners&) = delete;
  crowd_of_listeners& operator=(const crowd_of_listeners&) = delete;
  ~crowd_of_listeners() { ::close(poll); }

  void deliver_ours(std::size_t times) {
    const auto begin = clock::now();
    std::thread publishing{[&] { publish(*publisher, to.str(), payload, times); }};
    std::size_t left = times * listeners;
    while (left > 0) {
      for (feed& each : ours) {
        while (each.try_next()) --left;
      }
    }
    publishing.join();
    our_rate = static_cast<double>(times * listeners) / std::chrono::duration<double>(clock::now() - begin).count();
  }
  void deliver_theirs(std::size_t times) {
    const auto begin = clock::now();
    std::thread publishing{[&] { publish(*publisher, "bench:raw:crowd", payload, times); }};
    std::size_t left = times * connections;
    std::array<epoll_event, 256> ready{};
    while (left > 0) {
      const int count = ::epoll_wait(poll, ready.data(), static_cast<int>(ready.size()), -1);
      for (int i = 0; i < count; ++i) {
        auto& from = *static_cast<redisContext*>(ready[static_cast<std::size_t>(i)].data.ptr);
        redisBufferRead(&from);
        for (void* reply = nullptr; redisGetReplyFromReader(&from, &reply) == REDIS_OK && reply != nullptr;) {
          freeReplyObject(reply);
          --left;
        }
      }
    }
    publishing.join();
    their_rate = static_cast<double>(times * connections) / std::chrono::duration<double>(clock::now() - begin).count();
  }

  tenantry::client redis;
  tenantry::subscriber sub;
  tenantry::channel to;
  context publisher;
  int poll;
  std::vector<feed> ours;
  std::vector<context> theirs;
  const std::string payload = std::string(200, 'x');
  double our_rate = 0;
  double their_rate = 0;
};

inline constexpr tenantry::channel_schema<"bench:{tenant}"> logged_channel;

struct log_and_publisher {
  explicit log_and_publisher(const std::string& url)
      : redis{url}, log{redis, logged_channel, {.keep = 10'000}}, pub{redis} {}
  tenantry::client redis;
  tenantry::event_log<std::string> log;
  tenantry::publisher pub;
  const std::string event = std::string(200, 'x');
};

/// Made when the row is first run.
template <class Rig>
class later {
 public:
  template <class... Args>
  explicit later(Args... args) : make_{[args...] { return std::make_unique<Rig>(args...); }} {}
  Rig& get() {
    if (!made_) made_ = make_();
    return *made_;
  }

 private:
  std::function<std::unique_ptr<Rig>()> make_;
  std::unique_ptr<Rig> made_;
};

}  // namespace

void add_subscriber_rows(std::vector<row>& rows, const std::string& url) {
  auto one = std::make_shared<later<one_listener>>(url, "one");
  rows.push_back({.name = "sub_1",
                  .unit = "msg/s",
                  .baseline_name = "hiredis read loop",
                  .ours =
                      [one](std::size_t times) {
                        one_listener& on = one->get();
                        std::thread publishing{[&] { publish(*on.publisher, on.ours.str(), on.payload, times); }};
                        for (std::size_t i = 0; i < times; ++i) keep(on.listening.next());
                        publishing.join();
                      },
                  .baseline =
                      [one](std::size_t times) {
                        one_listener& on = one->get();
                        std::thread publishing{[&] { publish(*on.publisher, on.theirs, on.payload, times); }};
                        for (std::size_t i = 0; i < times; ++i) keep(size_of_next(*on.raw));
                        publishing.join();
                      }});
  auto crowd = std::make_shared<later<crowd_of_listeners>>(url);
  rows.push_back({.name = "sub_fanout",
                  .unit = "deliveries/s",
                  .baseline_name = "1000 connections",
                  .ours = [crowd](std::size_t times) { crowd->get().deliver_ours(times); },
                  .baseline = [crowd](std::size_t times) { crowd->get().deliver_theirs(times); },
                  .ours_figure = [crowd] { return crowd->get().our_rate; },
                  .baseline_figure = [crowd] { return crowd->get().their_rate; }});
  auto timed = std::make_shared<later<one_listener>>(url, "timed");
  rows.push_back({.name = "sub_latency_p99",
                  .unit = "us",
                  .baseline_name = "hiredis read loop",
                  .higher_is_better = false,
                  .ours =
                      [timed](std::size_t times) {
                        one_listener& on = timed->get();
                        on.our_p99 = p99_of(*on.publisher, on.ours.str(), times, [&] {
                          auto event = on.listening.next();
                          return std::get<tenantry::message<std::string>>(std::move(*event)).value;
                        });
                      },
                  .baseline =
                      [timed](std::size_t times) {
                        one_listener& on = timed->get();
                        on.their_p99 =
                            p99_of(*on.publisher, on.theirs, times, [&] { return payload_of_next(*on.raw); });
                      },
                  .ours_figure = [timed] { return timed->get().our_p99; },
                  .baseline_figure = [timed] { return timed->get().their_p99; }});
  auto logs = std::make_shared<log_and_publisher>(url);
  row appends = crowd_row(
      "log_append", 64, [logs] { keep(logs->log.append(acme, logs->event)); },
      [logs] { keep(logs->pub.publish(logged_channel(acme), logs->event)); });
  appends.baseline_name = "our PUBLISH";
  rows.push_back(std::move(appends));
}

void add_subscriber_counts(std::vector<count_row>& rows, const std::string& url) {
  rows.push_back({.name = "sub_bytes",
                  .unit = "bytes",
                  .baseline_name = {},
                  .ours =
                      [url] {
                        const tenantry::client redis{url};
                        tenantry::subscriber sub{redis};
                        std::vector<feed> all;
                        all.reserve(listeners + 1);
                        all.push_back(sub.subscribe<std::string>(bench_channel(acme, "idle")));
                        const auto before = ::mallinfo2();
                        for (std::size_t i = 0; i < listeners; ++i) {
                          all.push_back(sub.subscribe<std::string>(bench_channel(acme, "idle")));
                        }
                        const auto after = ::mallinfo2();
                        const auto bytes = after.uordblks + after.hblkhd - before.uordblks - before.hblkhd;
                        return static_cast<double>(bytes) / listeners + sizeof(feed);
                      },
                  .baseline = {}});
}

}  // namespace bench
