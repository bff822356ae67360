// The end of a client: close under load, and fork.

#include "support/child_process.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/redis_probe.hpp"
#include "support/scripted_server.hpp"
#include "support/undeterred.hpp"

#include <tenantry/client.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using support::caught;
using support::eventually;
using support::failure_of;
using support::peer;
using support::scripted_server;
using support::undeterred;
using testing::redis_server;

redis_server running_server() {
  support::need_redis();
  return redis_server{};
}

/// Calls a client from 16 threads, each until one of its calls fails.
class load {
 public:
  explicit load(client& redis) {
    for (int t = 0; t < 16; ++t) {
      threads_.emplace_back([this, &redis] {
        for (;;) {
          try {
            redis.execute("INCR", "n");
            ++answered_;
          } catch (const error& fault) {
            if (fault.execution() == execution::unknown) ++unknown_;
            if (fault.code() != errc::closed) ++other_;
            return;
          }
        }
      });
    }
  }
  [[nodiscard]] bool runs() const {
    return eventually([this] { return answered_ > 200; });
  }
  void join() {
    for (std::jthread& each : threads_) each.join();
    threads_.clear();
  }
  [[nodiscard]] int answered() const { return answered_; }
  [[nodiscard]] int unknown() const { return unknown_; }
  /// Failures other than errc::closed.
  [[nodiscard]] int other() const { return other_; }

 private:
  std::atomic<int> answered_ = 0;
  std::atomic<int> unknown_ = 0;
  std::atomic<int> other_ = 0;
  std::vector<std::jthread> threads_;
};

void is_closed(client& redis) {
  const auto fault = failure_of([&] { redis.execute("INCR", "n"); });
  CHECK(fault.code == errc::closed);
  CHECK(fault.execution == execution::not_sent);
}

std::int64_t id_of(client& redis) { return redis.execute("CLIENT", "ID").integer(); }

}  // namespace

TEST_CASE("close under load from 16 threads lets calls under way end, and refuses the next ones") {
  const support::must_end limit;
  const redis_server server = running_server();
  client redis{undeterred(server.url() + "?timeout=40s")};
  load calls{redis};
  REQUIRE(calls.runs());
  redis.close(30s);
  is_closed(redis);
  redis.close(30s);
  calls.join();
  CHECK(calls.other() == 0);
  CHECK(calls.unknown() == 0);
  client other{server.url()};
  CHECK(other.execute("GET", "n").str() == std::to_string(calls.answered()));
}

TEST_CASE("close from several threads without waiting ends every call once, and tells the truth") {
  const support::must_end limit;
  const redis_server server = running_server();
  for (int round = 0; round < 10; ++round) {
    client redis{undeterred(server.url() + "?timeout=40s")};
    client other{server.unix_url()};
    other.execute("DEL", "n");
    load calls{redis};
    REQUIRE(calls.runs());
    {
      std::vector<std::jthread> closers;
      for (int i = 0; i < 4; ++i) closers.emplace_back([&] { redis.close(0ms); });
    }
    calls.join();
    CHECK(calls.other() == 0);
    // What was written is over once the server has let go of the connection.
    REQUIRE(
        eventually([&] { return other.execute("CLIENT", "LIST").str().find("addr=127.0.0.1:") == std::string::npos; }));
    const int total = std::stoi(other.execute("GET", "n").str());
    CHECK(total >= calls.answered());
    CHECK(total <= calls.answered() + calls.unknown());
    is_closed(redis);
  }
}

TEST_CASE("close ends calls that wait for a server that is down, unsent") {
  const support::must_end limit;
  client redis{undeterred("redis://127.0.0.1:1?timeout=10min")};
  std::vector<caught> faults(8);
  {
    std::vector<std::jthread> threads;
    for (caught& each : faults) {
      threads.emplace_back([&] {
        try {
          redis.execute("PING");
        } catch (const error& fault) {
          each = {fault.code(), fault.execution(), fault.what()};
        }
      });
    }
    REQUIRE(eventually([&] { return redis.metrics().lanes.at(0).queued == 8; }));
    redis.close(10ms);
  }
  for (const caught& each : faults) {
    CHECK(each.code == errc::closed);
    CHECK(each.execution == execution::not_sent);
  }
}

TEST_CASE("a client that is destroyed closes its connections") {
  const redis_server server = running_server();
  client other{server.unix_url()};
  {
    client redis{server.url()};
    redis.execute("PING");
    CHECK(redis.exclusive().execute("PING").str() == "PONG");
    CHECK(redis.with({.lane = lane_choice::bulk}).execute("PING").str() == "PONG");
  }
  CHECK(eventually([&] { return other.execute("CLIENT", "LIST").str().find("addr=127.0.0.1:") == std::string::npos; }));
}

TEST_CASE("after a fork the child's calls fail unsent, and the parent's connection is left alone") {
  const redis_server server = running_server();
  auto redis = std::make_unique<client>(server.url());
  auto bulk = redis->with({.lane = lane_choice::bulk});
  const std::int64_t id = id_of(*redis);
  const std::int64_t bulk_id = bulk.execute("CLIENT", "ID").integer();
  const int told = support::in_child([&] {
    for (int i = 0; i < 2; ++i) {
      try {
        redis->execute("INCR", "n");
        return 1;
      } catch (const connection_error& fault) {
        if (fault.code() != errc::forked || fault.execution() != execution::not_sent) return 2;
      }
    }
    redis->close();
    redis.reset();
    client own{server.url()};
    return own.execute("INCR", "child").integer() == 1 ? 0 : 3;
  });
  CHECK(told == 0);
  CHECK(id_of(*redis) == id);
  CHECK(bulk.execute("CLIENT", "ID").integer() == bulk_id);
  CHECK(redis->execute("EXISTS", "n").integer() == 0);
  CHECK(redis->execute("GET", "child").str() == "1");
}

TEST_CASE("a child that ends a client says nothing to the server, and keeps no connection open") {
  std::mutex mutex;
  std::string seen;
  scripted_server server{[&](peer& client, int) {
    if (!client.greet()) return;
    for (std::string one = client.command(); !one.empty(); one = client.command()) {
      client.send("+OK\r\n");
      const std::lock_guard lock{mutex};
      seen += one + "\n";
    }
    const std::lock_guard lock{mutex};
    seen += "the end";
  }};
  {
    auto redis = std::make_unique<client>(server.url());
    redis->execute("GET", "before");
    CHECK(support::in_child([&] {
            redis.reset();
            return 0;
          }) == 0);
    redis->execute("GET", "after");
  }
  CHECK(eventually([&] {
    const std::lock_guard lock{mutex};
    return seen == "GET before\nGET after\nthe end";
  }));
  CHECK(server.connections() == 1);
}

TEST_CASE("a fork while other threads call leaves parent and child what each of them may have") {
  const support::must_end limit;
  const redis_server server = running_server();
  auto redis = std::make_unique<client>(undeterred(server.url() + "?timeout=40s"));
  load calls{*redis};
  REQUIRE(calls.runs());
  for (int i = 0; i < 10; ++i) {
    CHECK(support::in_child([&] {  // whatever locks the other threads held
            try {
              redis->execute("PING");
              return 1;
            } catch (const error& fault) {
              if (fault.code() != errc::forked) return 2;
            }
            redis.reset();
            return 0;
          }) == 0);
  }
  redis->close(30s);
  calls.join();
  CHECK(calls.other() == 0);
  CHECK(calls.unknown() == 0);
}

TEST_CASE("writing to a connection that was reset raises no signal") {
  const int told = support::in_child([] {  // a process of its own, where SIGPIPE ends it
    ::signal(SIGPIPE, SIG_DFL);
    scripted_server server{[](peer& client, int) {
      if (!client.greet()) return;
      client.command();
      client.send("+OK\r\n");
      client.reset();
    }};
    client redis{undeterred(server.url() + "?timeout=20s")};
    const std::string large(4U << 20U, 'x');
    int lost = 0;
    for (int i = 0; i < 6; ++i) {
      try {
        redis.execute("PING");
        redis.execute_all({command{"SET", "a", 1}, command{"SET", "b", large}});
      } catch (const connection_error&) {
        ++lost;
      }
    }
    return lost > 0 ? 0 : 1;
  });
  CHECK(told == 0);
}
