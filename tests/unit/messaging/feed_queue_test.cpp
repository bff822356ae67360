// What one listener gets, in which order, and what is dropped.

#include "messaging/feed_queue.hpp"

#include "support/random_bytes.hpp"

#include <tenantry/subscription.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <utility>
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
  CHECK(taken(queue) == "dd -1 ee");
  CHECK(queue.counters().dropped == 2);
  td::feed_queue first{10, 8, overflow::drop_newest};
  push(first, {"aaaa", "123456789", "bbbb"});
  CHECK(taken(first) == "aaaa -1 bbbb");
  CHECK(adds_up(queue));
}

TEST_CASE("with drop_oldest a message that no queue could hold leaves the queue as it is, and is told in its place") {
  td::feed_queue queue{2, 8, overflow::drop_oldest};
  push(queue, {"a", "bb", "123456789"});
  CHECK(queue.counters().queued == 2);
  CHECK(queue.counters().queued_bytes == 3);
  CHECK(queue.counters().dropped == 1);
  push(queue, {"123456789"});
  CHECK(taken(queue) == "a bb -2");
  push(queue, {"a", "123456789", "b"});
  queue.add({});
  push(queue, {"123456789", "c"});  // drops a: the one after it is next to it now
  CHECK(taken(queue) == "-2 b gap -1 c");
  push(queue, {"123456789"});
  CHECK(taken(queue) == "-1");
  push(queue, {"12345678"});  // as large as all of it
  CHECK(taken(queue) == "12345678");
  td::feed_queue slow{2, 8, overflow::disconnect};
  push(slow, {"a", "123456789"});
  CHECK(taken(slow) == "a closed");
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

namespace {

using moment = std::chrono::steady_clock::time_point;

tn::gap outage(int from, int to, tn::gap_cause cause = tn::gap_cause::connection_lost) {
  return {.cause = cause, .from = moment{std::chrono::seconds{from}}, .to = moment{std::chrono::seconds{to}}};
}

/// An item in words, a gap with its times.
std::string in_words(const td::feed_item& item) {
  if (const auto* came = std::get_if<td::published_ref>(&item)) return (*came)->payload;
  if (const auto* behind = std::get_if<tn::lagged>(&item)) return '-' + std::to_string(behind->dropped);
  const auto& missed = std::get<tn::gap>(item);
  const auto seconds = [](moment when) { return std::to_string(when.time_since_epoch() / std::chrono::seconds{1}); };
  return "gap" + seconds(missed.from) + ".." + seconds(missed.to);
}

/// The same queue as a list of all that happened, which nothing is ever taken out of but from the front.
class naive_queue {
 public:
  naive_queue(std::size_t capacity, std::size_t bytes, overflow how) : capacity_{capacity}, bytes_{bytes}, how_{how} {}

  void push(const std::string& payload) {
    if (how_ == overflow::drop_oldest && payload.size() <= bytes_) {
      while (!fits(payload.size())) std::ranges::find(all_, 'm', &event::kind)->kind = 'x';
    }
    all_.push_back({.kind = fits(payload.size()) ? 'm' : 'x', .text = payload, .missed = {}});
  }
  void add(const tn::gap& missed) { all_.push_back({.kind = 'g', .text = {}, .missed = missed}); }

  std::string pop() {
    const auto message = std::ranges::find(all_, 'm', &event::kind);
    const auto first = std::find_if(all_.begin(), message, [](const event& each) { return each.kind == 'g'; });
    if (const auto dropped = std::count_if(all_.begin(), first, [](const event& each) { return each.kind == 'x'; })) {
      all_.erase(all_.begin(), first);
      return '-' + std::to_string(dropped);
    }
    if (first != message) {
      tn::gap whole = first->missed;
      std::vector<event> left;
      for (auto each = first; each != message; ++each) {
        if (each->kind == 'g') {
          whole.to = each->missed.to;
        } else {
          left.push_back(*each);
        }
      }
      left.insert(left.end(), message, all_.end());
      all_ = std::move(left);
      return in_words(whole);
    }
    if (message == all_.end()) return "nothing";
    const std::string text = message->text;
    all_.erase(all_.begin());
    return text;
  }

 private:
  struct event {
    char kind;  // message, gap, or x: dropped
    std::string text;
    tn::gap missed;
  };
  [[nodiscard]] bool fits(std::size_t bytes) const {
    std::size_t messages = 0;
    for (const event& each : all_) {
      if (each.kind != 'm') continue;
      ++messages;
      bytes += each.text.size();
    }
    return messages < capacity_ && bytes <= bytes_;
  }

  std::vector<event> all_;
  std::size_t capacity_;
  std::size_t bytes_;
  overflow how_;
};

}  // namespace

TEST_CASE("outages with no message between them are one gap: of the first its start and cause, of the last its end") {
  td::feed_queue queue{10, 100, overflow::drop_oldest};
  push(queue, {"a"});
  queue.add(outage(1, 2, tn::gap_cause::server_unsubscribed));
  queue.add(outage(5, 6));
  queue.add(outage(8, 9));
  push(queue, {"b"});
  queue.add(outage(10, 11));
  CHECK(queue.counters().gaps == 4);
  CHECK(in_words(*queue.pop()) == "a");
  const auto first = queue.pop();
  REQUIRE(first);
  CHECK(in_words(*first) == "gap1..9");
  CHECK(std::get<tn::gap>(*first).cause == tn::gap_cause::server_unsubscribed);
  CHECK(in_words(*queue.pop()) == "b");
  CHECK(in_words(*queue.pop()) == "gap10..11");
  queue.add(outage(12, 13));  // what was taken is not changed any more
  CHECK(in_words(*queue.pop()) == "gap12..13");
  CHECK(queue.empty());
}

TEST_CASE("gaps between which the messages are dropped become one, and what was dropped is told before and after it") {
  td::feed_queue queue{2, 100, overflow::drop_oldest};
  push(queue, {"a"});
  queue.add(outage(1, 2));
  push(queue, {"b"});
  queue.add(outage(3, 4));
  push(queue, {"c", "d"});  // drops a and b
  CHECK(in_words(*queue.pop()) == "-1");
  CHECK(in_words(*queue.pop()) == "gap1..4");
  CHECK(taken(queue) == "-1 c d");
  td::feed_queue full{1, 100, overflow::drop_newest};
  push(full, {"a"});
  full.add(outage(1, 2));
  push(full, {"b"});  // is dropped
  full.add(outage(3, 4));
  push(full, {"c"});
  CHECK(in_words(*full.pop()) == "a");
  CHECK(in_words(*full.pop()) == "gap1..4");
  CHECK(taken(full) == "-2");
  CHECK(adds_up(queue));
  CHECK(adds_up(full));
}

TEST_CASE("what waits for a listener that never reads is bounded, however many outages there are") {
  for (const overflow how : {overflow::drop_oldest, overflow::drop_newest}) {
    constexpr std::size_t capacity = 4;
    td::feed_queue queue{capacity, 100, how};
    for (int i = 0; i < 10'000; ++i) {
      queue.add(outage(2 * i, 2 * i + 1));
      if (i % 3 != 0) push(queue, {"m"});
    }
    CHECK(queue.counters().gaps == 10'000);
    CHECK(queue.counters().queued == capacity);
    CHECK(adds_up(queue));
    std::size_t items = 0;
    while (queue.pop()) ++items;
    CHECK(items <= capacity + 3 * (capacity + 1));
  }
}

TEST_CASE("whatever happens, the queue gives what a list of all that happened gives") {
  support::random_bytes random;
  for (int round = 0; round < 2000; ++round) {
    INFO("round " << round);
    const auto how = static_cast<overflow>(random.below(2));
    const std::size_t capacity = 1 + random.below(5);
    const std::size_t bytes = 1 + random.below(12);
    td::feed_queue queue{capacity, bytes, how};
    naive_queue model{capacity, bytes, how};
    const std::size_t takes = 1 + random.below(6);  // out of so many steps one
    int time = 0;
    const auto take = [&] {
      const auto item = queue.pop();
      const std::string text = item ? in_words(*item) : "nothing";
      REQUIRE(text == model.pop());
      return item.has_value();
    };
    for (int step = 0; step < 60; ++step) {
      if (random.below(takes) == 0) {
        take();
      } else if (random.below(3) == 0) {
        const tn::gap missed = outage(time, time + 1);
        time += 2;
        queue.add(missed);
        model.add(missed);
      } else {
        const std::string payload(random.below(5), static_cast<char>('a' + step % 26));
        queue.push(message(payload));
        model.push(payload);
      }
      REQUIRE(adds_up(queue));
      REQUIRE(queue.counters().queued <= capacity);
      REQUIRE(queue.counters().queued_bytes <= bytes);
    }
    while (take()) continue;
    REQUIRE(adds_up(queue));
  }
}
