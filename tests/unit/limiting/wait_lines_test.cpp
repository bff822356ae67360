// Who is first in line, and who is woken.

#include "limiting/wait_lines.hpp"

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <stop_token>
#include <thread>

namespace {

namespace td = tenantry::detail;
using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;
using place = td::wait_lines::place;

const td::limited_view name{"acme", "/api/kpi"};
constexpr auto never = clock::time_point::max();

}  // namespace

TEST_CASE("places are in line in the order of coming, and who leaves lets the next one go on") {
  td::wait_lines lines;
  std::optional<place> a{std::in_place, lines, name};
  std::optional<place> b{std::in_place, lines, name};
  place c{lines, {"acme", "/api/kpi?x"}};
  const place elsewhere{lines, {"globex", "/api/kpi"}};
  CHECK(a->first());
  CHECK_FALSE(b->first());
  CHECK_FALSE(c.first());
  CHECK(elsewhere.first());
  const std::stop_source for_c = c.next_wakeup();
  b.reset();  // from the middle: nobody becomes the first
  CHECK_FALSE(for_c.stop_requested());
  CHECK_FALSE(c.first());
  a.reset();
  CHECK(for_c.stop_requested());
  CHECK(c.first());
}

TEST_CASE("a place that was woken before it waits does not wait") {
  td::wait_lines lines;
  auto a = std::make_unique<place>(lines, name);
  place b{lines, name};
  a.reset();
  b.wait_until(never, {});
  CHECK(b.first());
  lines.stir(name);
  CHECK(b.next_wakeup().stop_requested());
  CHECK_FALSE(b.next_wakeup().stop_requested());
}

TEST_CASE("a thread in line goes on when it is the first, when its time has come, and when it is told to stop") {
  td::wait_lines lines;
  auto first = std::make_unique<place>(lines, name);
  std::thread waiting{[&] {
    place mine{lines, name};
    while (!mine.first()) mine.wait_until(never, {});
  }};
  first.reset();
  waiting.join();
  const auto holds = std::make_unique<place>(lines, name);
  place mine{lines, name};
  const auto until = clock::now() + 20ms;
  mine.wait_until(until, {});
  CHECK(clock::now() >= until);
  std::stop_source stop;
  std::thread stopped{[&] { mine.wait_until(never, stop.get_token()); }};
  stop.request_stop();
  stopped.join();
}

TEST_CASE("only the first of a name is stirred") {
  td::wait_lines lines;
  place a{lines, name};
  place b{lines, name};
  place other{lines, {"acme", "/other"}};
  const auto for_a = a.next_wakeup();
  const auto for_b = b.next_wakeup();
  const auto for_other = other.next_wakeup();
  lines.stir({"acme", "/nobody"});
  CHECK_FALSE(for_a.stop_requested());
  lines.stir(name);
  CHECK(for_a.stop_requested());
  CHECK_FALSE(for_b.stop_requested());
  CHECK_FALSE(for_other.stop_requested());
  lines.stir_all();
  CHECK(for_other.stop_requested());
  CHECK_FALSE(for_b.stop_requested());
}
