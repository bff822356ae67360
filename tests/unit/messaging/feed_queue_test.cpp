// What one listener gets, in which order, and what is dropped.

#include "messaging/feed_queue.hpp"

#include "support/random_bytes.hpp"

#include <tenantry/subscription.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace {

namespace tn = tenantry;
namespace td = tenantry::detail;
using tn::overflow;

td::published* message(const std::string& payload) { return new td::published{.channel = "c", .payload = payload}; }

/// Everything that can be taken, in words: payloads, "gap", "-3" for what was dropped, "closed".
std::string taken(td::feed_queue& from) {
  std::string all;
  while (auto item = from.pop()) {
    if (!all.empty()) all += ' ';
    if (const auto* came = std::get_if<td::published_ref>(&*item)) {
      all += (*came)->payload;
    } else if (const auto* behind = std::get_if<tn::lagged>(&*item)) {
      all += '-' + std::to_string(behind->dropped);
    } else {
      all += std::holds_alternative<tn::gap>(*item) ? "gap" : "closed";
    }
  }
  return all;
}

void push(td::feed_queue& to, std::initializer_list<const char*> payloads) {
  for (const char* each : payloads) to.push(message(each));
}

bool adds_up(const td::feed_queue& queue) {
  const tn::subscription_counters all = queue.counters();
  return all.received == all.delivered + all.dropped + all.queued;
}

}  // namespace

TEST_CASE("messages and gaps come in the order in which they were added") {
  td::feed_queue queue{10, 100, overflow::drop_oldest};
  push(queue, {"a", "b"});
  queue.add({});
  push(queue, {"c"});
  CHECK(taken(queue) == "a b gap c");
  CHECK(queue.counters().delivered == 3);
  CHECK(queue.counters().gaps == 1);
  CHECK(adds_up(queue));
}

TEST_CASE("drop_oldest keeps the latest, and tells in their place how many are missing") {
  td::feed_queue queue{2, 100, overflow::drop_oldest};
  push(queue, {"a", "b", "c", "d", "e"});
  CHECK(queue.counters().queued == 2);
  CHECK(queue.counters().dropped == 3);
  CHECK(taken(queue) == "-3 d e");
  push(queue, {"f"});
  CHECK(taken(queue) == "f");
  CHECK(adds_up(queue));
}

TEST_CASE("drop_newest keeps what is there, and tells in their place how many are missing") {
  td::feed_queue queue{2, 100, overflow::drop_newest};
  push(queue, {"a", "b", "c", "d"});
  CHECK(taken(queue) == "a b -2");
  push(queue, {"e", "f", "g"});
  REQUIRE(queue.pop());
  push(queue, {"h", "i"});
  CHECK(taken(queue) == "f -1 h -1");
  CHECK(adds_up(queue));
}

TEST_CASE("disconnect ends the subscription after what is queued, and takes no more") {
  td::feed_queue queue{2, 100, overflow::disconnect};
  CHECK(queue.push(message("a")));
  CHECK(queue.push(message("b")));
  CHECK_FALSE(queue.push(message("c")));
  CHECK(queue.ended());
  CHECK(queue.push(message("d")));  // is nobody's any more
  CHECK_FALSE(queue.over());
  CHECK(taken(queue) == "a b closed");
  CHECK(queue.over());
  CHECK(queue.counters().received == 3);
  CHECK(adds_up(queue));
}

TEST_CASE("a gap is not dropped with the messages around it, and stands between them") {
  td::feed_queue queue{2, 100, overflow::drop_oldest};
  push(queue, {"a"});
  queue.add({});
  push(queue, {"b", "c"});  // drops a
  CHECK(taken(queue) == "-1 gap b c");
  push(queue, {"d"});
  queue.add({});
  push(queue, {"e", "f", "g"});  // drops d and e
  CHECK(taken(queue) == "-1 gap -1 f g");
  queue.add({});
  push(queue, {"h", "i", "j"});
  CHECK(taken(queue) == "gap -1 i j");
}

TEST_CASE("the size of the payloads is a bound of its own, and one that is larger than all of it is dropped alone") {
  td::feed_queue queue{10, 8, overflow::drop_oldest};
  push(queue, {"aaaa", "bbbb", "cc"});
  CHECK(queue.counters().queued_bytes == 6);
  CHECK(taken(queue) == "-1 bbbb cc");
  push(queue, {"dd", "123456789", "ee"});
  CHECK(taken(queue) == "-2 ee");
  td::feed_queue first{10, 8, overflow::drop_newest};
  push(first, {"aaaa", "123456789", "bbbb"});
  CHECK(taken(first) == "aaaa -1 bbbb");
  CHECK(adds_up(queue));
}

TEST_CASE("after the end nothing follows, and what is cleared is not delivered") {
  td::feed_queue queue{10, 100, overflow::drop_oldest};
  push(queue, {"a"});
  queue.close({.cause = tn::closed_cause::stopped});
  queue.close({.cause = tn::closed_cause::slow});
  queue.add({});
  push(queue, {"b"});
  CHECK(taken(queue) == "a closed");
  CHECK(queue.over());
  td::feed_queue left{10, 100, overflow::drop_oldest};
  push(left, {"a", "b"});
  left.add({});
  left.clear();
  CHECK(taken(left).empty());
  CHECK(left.over());
  CHECK(adds_up(left));
}

TEST_CASE("a message lives until its last owner has gone") {
  auto* const shared = message("a");
  shared->owners = 3;
  td::feed_queue one{1, 100, overflow::drop_oldest};
  td::published_ref held;
  {
    td::feed_queue other{1, 100, overflow::drop_oldest};
    one.push(shared);
    other.push(shared);
    auto item = other.pop();
    REQUIRE(item);
    held = std::get<td::published_ref>(*item);
  }
  push(one, {"b"});
  CHECK(shared->owners == 2);  // held, and this test
  shared->release();
  CHECK(held->payload == "a");
}

TEST_CASE("whatever happens, counters add up, and what is taken and what is told as dropped is all, in order") {
  support::random_bytes random;
  for (int round = 0; round < 300; ++round) {
    const auto how = static_cast<overflow>(random.below(2));
    td::feed_queue queue{1 + random.below(5), 1 + random.below(20), how};
    std::uint64_t sent = 0;
    std::uint64_t seen = 0;  // the number of the next one, if none was dropped
    std::uint64_t gaps = 0;
    std::vector<std::uint64_t> gap_after;
    const auto take = [&] {
      auto item = queue.pop();
      if (!item) return false;
      if (const auto* came = std::get_if<td::published_ref>(&*item)) {
        REQUIRE(std::stoull((*came)->payload) == seen);
        ++seen;
      } else if (const auto* behind = std::get_if<tn::lagged>(&*item)) {
        REQUIRE(behind->dropped > 0);
        seen += behind->dropped;
      } else {
        REQUIRE(seen == gap_after[gaps]);
        ++gaps;
      }
      return true;
    };
    for (int step = 0; step < 100; ++step) {
      switch (random.below(5)) {
        case 0:
          take();
          break;
        case 1:
          if (random.below(4) == 0) {
            queue.add({});
            gap_after.push_back(sent);
          }
          break;
        default:
          queue.push(message(std::to_string(sent++)));
          break;
      }
      REQUIRE(adds_up(queue));
    }
    while (take()) continue;
    INFO("round " << round);
    REQUIRE(seen == sent);
    REQUIRE(gaps == gap_after.size());
    REQUIRE(adds_up(queue));
  }
}
