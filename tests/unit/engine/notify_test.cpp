#include "engine/notify.hpp"

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <thread>
#include <variant>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using detail::notify;
using detail::once_per_second;

constexpr std::chrono::steady_clock::time_point start{5s};

}  // namespace

TEST_CASE("an observer gets the name and the fields of an event") {
  std::string name;
  std::string endpoint;
  std::int64_t attempt = 0;
  double share = 0;
  std::size_t fields = 0;
  bool other = true;
  const observer told = [&](const event& what) {
    name = what.name;
    fields = what.fields.size();
    endpoint = std::get<std::string_view>(*what.find("endpoint"));
    attempt = std::get<std::int64_t>(*what.find("attempt"));
    share = std::get<double>(*what.find("share"));
    other = what.find("end") != nullptr;
  };
  const std::string where = "redis.example:6379";
  notify(told, events::connect_failed, {{"endpoint", where}, {"attempt", 3}, {"share", 0.5}});
  CHECK(name == "connect_failed");
  CHECK(fields == 3);
  CHECK(endpoint == where);
  CHECK(attempt == 3);
  CHECK(share == 0.5);
  CHECK_FALSE(other);
}

TEST_CASE("without an observer nothing happens") {
  notify(observer{}, events::connected, {{"endpoint", "here"}});
  notify(nullptr, events::connected, {});
  SUCCEED("still here");
}

TEST_CASE("what an observer throws reaches nobody") {
  int calls = 0;
  const observer failing = [&](const event&) {
    ++calls;
    throw std::runtime_error{"disk full"};
  };
  notify(failing, events::push_lost, {});
  notify(observer{[&](const event&) { ++calls, throw 1; }}, events::push_lost, {});
  CHECK(calls == 2);
}

TEST_CASE("one event in a second passes, and tells how many there were since the last") {
  once_per_second gate;
  CHECK(gate.pass(start) == 1);
  CHECK(gate.pass(start) == 0);
  CHECK(gate.pass(start + 999ms) == 0);
  CHECK(gate.pass(start + 1s) == 3);
  CHECK(gate.pass(start + 1999ms) == 0);
  CHECK(gate.pass(start + 1h) == 2);
}

TEST_CASE("of many threads at one moment one passes, and each is counted once") {
  once_per_second gate;
  std::atomic<int> passed = 0;
  std::atomic<std::int64_t> counted = 0;
  const auto crowd = [&](std::chrono::steady_clock::time_point now) {
    std::vector<std::jthread> all;
    for (int t = 0; t < 4; ++t) {
      all.emplace_back([&, now] {
        for (int i = 0; i < 1'000; ++i) {
          const std::int64_t crowded = gate.pass(now);
          counted += crowded;
          if (crowded > 0) ++passed;
        }
      });
    }
  };
  crowd(start);
  CHECK(passed == 1);
  crowd(start + 1s);
  CHECK(passed == 2);
  counted += gate.pass(start + 2s);
  CHECK(counted == 8'001);
}
