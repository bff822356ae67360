// How fast a sweep goes: the size of its commands, and the pauses between them.

#include "sweeping.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

using namespace sweeping;
using tn::detail::command_size;

TEST_CASE("pages grow to the double at most while the server needs little for them, up to 5000 keys") {
  fake_server server{pages(10)};
  server.scan_cost = 1us;
  sweep_machine machine{keys, acme, {}};
  finish(machine, server);
  CHECK(server.page_sizes() == std::vector<std::size_t>{100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000});
}

TEST_CASE("pages shrink at once to what the server manages in 0.6 ms, but not below 100 keys") {
  fake_server server{pages(9)};
  sweep_machine machine{keys, acme, {}};
  for (const auto cost : {10us, 10us, 10us, 1200us, 600us, 300us, 100'000us, 100'000us, 10us}) {
    server.scan_cost = cost;
    step(machine, server);
  }
  CHECK(server.page_sizes() == std::vector<std::size_t>{100, 200, 400, 800, 400, 400, 800, 100, 100});
}

TEST_CASE("UNLINK gets as many keys as the server manages in 0.6 ms") {
  fake_server server{pages(12, many(1000))};
  server.unlink_cost = 2us;  // 300 keys in 0.6 ms
  sweep_machine machine{keys, acme, {}};
  const auto report = finish(machine, server);
  CHECK(report.deleted == 12'000);
  std::vector<std::size_t> sizes;
  for (const words& each : server.all("UNLINK")) sizes.push_back(each.size());
  CHECK(std::count(sizes.begin(), sizes.end(), 100U) >= 10);
  CHECK(sizes.back() == 100);
  CHECK(*std::max_element(sizes.begin(), sizes.end()) == 300);
}

TEST_CASE("a size says nothing about larger ones, and a clock that was set back nothing at all") {
  command_size size;
  size.took(100, 1us);
  size.took(200, 1us);
  REQUIRE(size.keys() == 400);
  size.took(3, 500us);  // 3 keys, but in time
  CHECK(size.keys() == 400);
  size.took(3, 601us);  // 3 keys, and that was too long already
  CHECK(size.keys() == 100);
  size.took(100, 1us);
  size.took(200, -5'000'000us);
  CHECK(size.keys() == 200);
  size.took(200, 0us);
  CHECK(size.keys() == 400);
  size.took(1'000'000, microseconds::max());
  CHECK(size.keys() == 100);
}

TEST_CASE("with a budget a step is followed by a pause that makes it as long as its keys may take") {
  fake_server server{pages(4)};
  sweep_machine machine{keys, acme, {.keys_per_second = 1000}};
  CHECK(machine.pause(0ms) == 0ms);
  step(machine, server);
  CHECK(machine.pause(0ms) == 100ms);
  CHECK(machine.pause(30ms) == 70ms);
  CHECK(machine.pause(100ms) == 0ms);
  CHECK(machine.pause(5s) == 0ms);
  step(machine, server);
  CHECK(machine.pause(0ms) == 100ms);  // what was not used is lost
  step(machine, server);
  step(machine, server);
  CHECK(machine.pause(0ms) == 0ms);  // the key space is through
  CHECK(server.page_sizes() == std::vector<std::size_t>{100, 100, 100, 100});
}

TEST_CASE("with a budget pages hold a tenth of a second's keys, at least one") {
  for (const auto& [budget, size] : std::map<std::uint32_t, std::size_t>{
           {1, 1}, {9, 1}, {10, 1}, {250, 25}, {999, 99}, {1000, 100}, {UINT32_MAX, 100}}) {
    CAPTURE(budget);
    fake_server server{pages(1)};
    sweep_machine machine{keys, acme, {.keys_per_second = budget}};
    step(machine, server);
    CHECK(server.page_sizes() == std::vector<std::size_t>{size});
  }
}

TEST_CASE("without a budget there are no pauses") {
  fake_server server{pages(2)};
  sweep_machine machine{keys, acme, {}};
  step(machine, server);
  CHECK(machine.pause(0ms) == 0ms);
}
