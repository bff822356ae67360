#pragma once
// What tests of near caches need: caches that keep what they read, another process that changes it, and what the server
// knows of their connections.

#include "support/cache_rig.hpp"
#include "support/kpi.hpp"
#include "support/processes.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/client.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/key.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace support {

/// Values of which nothing but the server's messages ends the life in memory, unless the test says so.
inline tenantry::cache_options near_by(tenantry::cache_options options = {},
                                       tenantry::near_options how = {.max_age = std::chrono::hours{1}}) {
  options.jitter = 0;
  options.near = how;
  return options;
}
/// The same for values that other programs write.
inline tenantry::cache_options bare_near_by(tenantry::near_options how = {.max_age = std::chrono::hours{1}}) {
  return near_by({.envelope = tenantry::envelope::bare}, how);
}

/// Waits until what is read is kept.
template <class T>
bool tracks(const tenantry::cache<T>& cache) {
  return eventually([&] { return cache.near_stats().tracking; });
}
template <class T>
bool is_near(tenantry::cache<T>& cache, const tenantry::key& k) {
  const auto found = cache.get(k);
  return found && found->source() == tenantry::source::near;
}
/// Waits until a value comes from memory: the messages about earlier writes of it may still be under way.
template <class T>
bool comes_near(tenantry::cache<T>& cache, const tenantry::key& k) {
  return eventually([&] { return is_near(cache, k); });
}
/// The first read that finds no message under way takes the value from Redis, the second from memory.
template <class T>
void check_kept_by_reading(tenantry::cache<T>& cache, const tenantry::key& k) {
  const auto first = cache.get(k);
  REQUIRE(first.has_value());
  CHECK(first->source() == tenantry::source::redis);
  const auto second = cache.get(k);
  REQUIRE(second.has_value());
  CHECK(second->source() == tenantry::source::near);
}
/// Waits until all messages about what was written before have come: the server sends them in order.
inline void settle(tenantry::cache<kpi>& cache, const tenantry::client& raw) {
  const tenantry::key last = portfolio_kpi(tenantry::tenant_id{"last"});
  cache.put(last, kpi{});
  REQUIRE(comes_near(cache, last));
  raw.execute("DEL", last);
  REQUIRE(eventually([&] { return !cache.get(last).has_value(); }));
}
inline std::string text_at(tenantry::cache<std::string>& cache, const tenantry::key& k) {
  const auto found = cache.get(k);
  return found ? **found : "nothing";
}
/// How often the server has read values, whoever asked.
inline std::uint64_t reads(const tenantry::client& redis) {
  const std::string text = redis.execute("INFO", "commandstats").str();
  std::uint64_t all = 0;
  for (const std::string_view entry : {"cmdstat_get:calls=", "cmdstat_mget:calls="}) {
    const auto at = text.find(entry);
    if (at != std::string::npos) all += std::stoull(text.substr(at + entry.size()));
  }
  return all;
}
/// Round trips on the client's lanes.
inline std::uint64_t writes_of(const tenantry::client& redis) {
  std::uint64_t all = 0;
  for (const auto& lane : redis.metrics().lanes) all += lane.writes;
  return all;
}

/// Another process with a client, a cache and an invalidator. What it may be told to do is known when it is made, which
/// has to be before the first client and thread of the test.
class other_process {
 public:
  using action = std::function<void(tenantry::cache<kpi>&, const tenantry::invalidator&)>;

  other_process(std::string url, std::vector<action> actions)
      : process_{[this, url = std::move(url), actions = std::move(actions)] { return obey(url, actions); }} {}
  other_process(const other_process&) = delete;
  other_process& operator=(const other_process&) = delete;

  /// Returns when it has done that.
  void does(std::size_t number) {
    const int before = told_->done;
    told_->number = number;
    ++told_->asked;
    REQUIRE(eventually([&] { return told_->done > before; }));
    REQUIRE(told_->failed == 0);
  }

 private:
  struct orders {
    std::atomic<int> asked{0};
    std::atomic<int> done{0};
    std::atomic<int> failed{0};
    std::atomic<std::size_t> number{0};
  };

  int obey(const std::string& url, const std::vector<action>& actions) const {
    tenantry::client_options how = tenantry::client_options::from_url(url);
    how.timeout = std::chrono::seconds{20};
    const tenantry::client redis{how};
    tenantry::cache<kpi> cache{redis, {.jitter = 0, .negative_ttl = std::chrono::minutes{5}}};
    const tenantry::invalidator inv{redis, tenantry::catalog{portfolio_kpi, gateway_health}};
    for (int obeyed = 0;; ++obeyed) {
      while (told_->asked == obeyed) std::this_thread::sleep_for(std::chrono::milliseconds{1});
      try {
        actions.at(told_->number)(cache, inv);
      } catch (const std::exception& fault) {
        std::fprintf(stderr, "the other process: %s\n", fault.what());
        ++told_->failed;
      }
      ++told_->done;
    }
  }

  shared_memory<orders> told_;
  process process_;  // last: it uses the other
};

/// A connection as the server sees it.
struct connection_seen {
  std::string id = {};
  std::uint16_t port = 0;  ///< of the other end; 0 for a unix socket
  bool listens = false;    ///< in Pub/Sub mode
  bool tracks = false;
  bool broken = false;  ///< tracks for a connection that is gone
  bool broadcasts = false;
  std::string redirect = {};  ///< the id of the connection it tracks for
};
inline std::vector<connection_seen> connections(const tenantry::client& redis) {
  std::vector<connection_seen> all;
  std::istringstream lines{redis.execute("CLIENT", "LIST").str()};
  for (std::string line; std::getline(lines, line);) {
    connection_seen one;
    std::istringstream fields{line};
    for (std::string field; fields >> field;) {
      const auto end = field.find('=');
      const std::string name = field.substr(0, end);
      const std::string value = end == std::string::npos ? "" : field.substr(end + 1);
      const auto has = [&](char flag) { return value.find(flag) != std::string::npos; };
      if (name == "id") one.id = value;
      if (name == "redir") one.redirect = value;
      if (name == "addr" && value.find('/') == std::string::npos) {
        one.port = static_cast<std::uint16_t>(std::stoul(value.substr(value.rfind(':') + 1)));
      }
      if (name == "flags") {
        one.listens = has('P');
        one.tracks = has('t');
        one.broken = has('R');
        one.broadcasts = has('B');
      }
    }
    if (!one.id.empty()) all.push_back(one);
  }
  return all;
}
/// The one connection of this kind, which has to be there.
inline connection_seen the_one(const tenantry::client& redis, bool connection_seen::*what) {
  const auto all = connections(redis);
  REQUIRE(std::ranges::count(all, true, what) == 1);
  return *std::ranges::find(all, true, what);
}

/// A command that the server got.
struct command_seen {
  std::string words = {};  ///< joined by spaces
  std::string from = {};   ///< address
};
/// Has the server remember all commands from now on.
inline void watch_commands(const tenantry::client& redis) {
  redis.execute("CONFIG", "SET", "slowlog-log-slower-than", 0, "slowlog-max-len", 100'000);
  redis.execute("SLOWLOG", "RESET");
}
/// Those since then, in their order.
inline std::vector<command_seen> commands_seen(const tenantry::client& redis) {
  std::vector<command_seen> all;
  for (const tenantry::reply& entry : redis.execute("SLOWLOG", "GET", 10'000).elements()) {
    command_seen one{.words = {}, .from = entry[4].str()};
    for (const tenantry::reply& word : entry[3].elements()) one.words += (one.words.empty() ? "" : " ") + word.str();
    all.push_back(std::move(one));
  }
  std::ranges::reverse(all);
  redis.execute("CONFIG", "SET", "slowlog-log-slower-than", -1);
  return all;
}

/// A server of one's own, a client over TCP with a near cache of raw values, and one past it over the unix socket.
struct near_server {
  explicit near_server(std::vector<std::string> arguments = {}) : server{started(std::move(arguments))} {}
  static tenantry::testing::redis_server started(std::vector<std::string> arguments) {
    support::need_redis();
    return tenantry::testing::redis_server{{.arguments = std::move(arguments)}};
  }
  static tenantry::client_options patient(const std::string& url) {
    auto how = tenantry::client_options::from_url(url);
    how.timeout = std::chrono::seconds{20};
    return how;
  }
  void set(const tenantry::key& k, std::string_view value) const { direct.execute("SET", k, value); }
  /// Not changed since, and in memory.
  void keep(const tenantry::key& k, std::string_view value) {
    set(k, value);
    REQUIRE(eventually([&] { return text_at(cache, k) == value; }));
    REQUIRE(comes_near(cache, k));
  }
  [[nodiscard]] bool gives(const tenantry::key& k, std::string_view value) {
    return eventually([&] { return text_at(cache, k) == value; });
  }
  [[nodiscard]] std::uint64_t tracked_keys() const {
    const std::string text = direct.execute("INFO", "stats").str();
    const std::string name = "tracking_total_keys:";
    return std::stoull(text.substr(text.find(name) + name.size()));
  }

  tenantry::testing::redis_server server;
  tenantry::client redis{patient(server.url())};
  tenantry::client direct{patient(server.unix_url())};
  tenantry::cache<std::string> cache{redis, bare_near_by()};
  bool ready = tracks(cache);
};

}  // namespace support
