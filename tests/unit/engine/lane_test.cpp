#include "engine/lane.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <deque>
#include <optional>
#include <string>
#include <vector>

using tenantry::command;
using tenantry::errc;
using tenantry::execution;
using tenantry::reply;
using tenantry::detail::exchange;
using tenantry::detail::failure;
using tenantry::detail::lane;

namespace {

using namespace std::chrono_literals;

/// A call of some commands, with room for their replies.
struct call : exchange {
  explicit call(std::vector<command> sent) : own{std::move(sent)}, answers(own.size()) {
    commands = own;
    replies = answers;
  }
  explicit call(std::string_view word) : call{std::vector{command{"ECHO", word}}} {}

  std::vector<command> own;
  std::vector<reply> answers;
};

struct bench {
  lane tested;
  std::vector<exchange*> settled;
  lane::time_point now{1h};

  explicit bench(const tenantry::call_bounds& bounds = {}) : tested{tenantry::reply_limits{}, bounds} {
    tested.connected(now);
  }

  std::string write(std::size_t at_most = std::string::npos) {
    const std::string bytes{tested.output().substr(0, at_most)};
    tested.wrote(bytes.size(), now);
    return bytes;
  }
  std::optional<failure> receive(std::string_view bytes) {
    std::ranges::copy(bytes, tested.room().begin());
    tested.parse(bytes.size());
    std::vector<exchange*> complete;
    auto defect = tested.match(now, complete);
    finish(complete);
    return defect;
  }
  void end() {
    std::vector<exchange*> complete;
    tested.ended({.code = errc::connection_lost, .what = execution::unknown, .detail = "gone"}, complete);
    finish(complete);
  }
  void finish(const std::vector<exchange*>& complete) {
    for (exchange* each : complete) each->finish();
    settled.insert(settled.end(), complete.begin(), complete.end());
  }
};

}  // namespace

TEST_CASE("replies go to the commands in the order in which these were sent") {
  bench on;
  call first{"1"};
  call second{"2"};
  on.tested.enqueue(first);
  on.tested.enqueue(second);
  CHECK(on.write() == std::string{first.own[0].bytes()} + std::string{second.own[0].bytes()});
  on.receive("+one\r\n+two\r\n");
  CHECK(on.settled == std::vector<exchange*>{&first, &second});
  CHECK(first.answers[0].str() == "one");
  CHECK(second.answers[0].str() == "two");
  CHECK(on.tested.idle());
}

TEST_CASE("a call of several commands settles with the last of its replies") {
  bench on;
  call both{std::vector{command{"INCR", "a"}, command{"INCR", "b"}}};
  on.tested.enqueue(both);
  on.write();
  on.receive(":1\r\n");
  CHECK(on.settled.empty());
  on.receive(":2\r\n");
  CHECK(on.settled.size() == 1);
  CHECK(both.answers[1].integer() == 2);
}

TEST_CASE("a late reply meets a tombstone, and the next command gets its own") {
  bench on;
  call late{"1"};
  call next{"2"};
  on.tested.enqueue(late);
  on.write();
  CHECK(on.tested.abandon(late) == execution::unknown);
  on.tested.enqueue(next);
  on.write();
  on.receive("+one\r\n+two\r\n");
  CHECK(on.settled == std::vector<exchange*>{&next});
  CHECK(next.answers[0].str() == "two");
  CHECK(late.answers[0].is_nil());
}

TEST_CASE("a command abandoned before it was staged is never written") {
  bench on;
  call gone{"1"};
  call next{"2"};
  on.tested.enqueue(gone);
  on.tested.enqueue(next);
  CHECK(on.tested.abandon(gone) == execution::not_sent);
  CHECK(on.write() == next.own[0].bytes());
}

TEST_CASE("an abandoned command whose bytes are half written is written to its end") {
  bench on;
  call gone{"1"};
  on.tested.enqueue(gone);
  std::string wire = on.write(3);
  CHECK(on.tested.abandon(gone) == execution::unknown);
  wire += on.write();
  CHECK(wire == gone.own[0].bytes());
}

TEST_CASE("when the connection ends, written commands are unknown and the others wait for the next one in order") {
  bench on;
  call written{"1"};
  call half{"2"};
  call staged{"3"};
  call queued{"4"};
  on.tested.enqueue(written);
  on.tested.enqueue(half);
  on.tested.enqueue(staged);
  on.write(written.own[0].bytes().size() + 1);
  on.tested.enqueue(queued);
  on.end();

  CHECK(on.settled == std::vector<exchange*>{&written, &half});
  CHECK(written.now == exchange::state::failed);
  CHECK(half.why.what == execution::unknown);
  CHECK(half.why.code == errc::connection_lost);
  CHECK_FALSE(staged.settled());

  on.tested.connected(on.now);
  CHECK(on.write() == std::string{staged.own[0].bytes()} + std::string{queued.own[0].bytes()});
  on.receive("+three\r\n+four\r\n");
  CHECK(staged.answers[0].str() == "three");
  CHECK(queued.answers[0].str() == "four");
}

TEST_CASE("nothing of one connection's replies reaches the next one") {
  bench on;
  call cut{"1"};
  on.tested.enqueue(cut);
  on.write();
  on.receive("$100\r\nhalf of it");
  on.end();
  on.tested.connected(on.now);
  call next{"2"};
  on.tested.enqueue(next);
  on.write();
  on.receive("+two\r\n");
  CHECK(next.answers[0].str() == "two");
}

TEST_CASE("when no connection can be had, waiting commands end not sent") {
  lane offline{tenantry::reply_limits{}, tenantry::call_bounds{}};
  call waits{"1"};
  std::vector<exchange*> settled;
  offline.enqueue(waits);
  offline.refuse({.code = errc::unreachable, .what = execution::unknown, .detail = "refused"}, settled,
                 [](const exchange&) { return true; });
  CHECK(settled == std::vector<exchange*>{&waits});
  CHECK(waits.why.code == errc::unreachable);
  CHECK(waits.why.what == execution::not_sent);
  CHECK(offline.idle());
}

TEST_CASE("a reply that no command waits for is a protocol error") {
  bench on;
  const auto defect = on.receive("+surprise\r\n");
  REQUIRE(defect);
  CHECK(defect->code == errc::protocol);
}

TEST_CASE("one reply too many is a protocol error, after the expected one was delivered") {
  bench on;
  call asked{"1"};
  on.tested.enqueue(asked);
  on.write();
  CHECK(on.receive("+one\r\n+two\r\n"));
  CHECK(on.settled == std::vector<exchange*>{&asked});
  CHECK(asked.answers[0].str() == "one");
}

TEST_CASE("commands of many callers leave in one piece, up to a batch") {
  bench on;
  std::deque<call> calls;
  for (int i = 0; i < 200; ++i) on.tested.enqueue(calls.emplace_back(std::string(1000, 'x')));
  const std::size_t one = calls[0].own[0].bytes().size();
  const std::size_t first = on.write().size();
  CHECK(first >= 64U << 10U);
  CHECK(first < (64U << 10U) + one);
  std::size_t total = first;
  while (on.tested.has_output()) total += on.write().size();
  CHECK(total == 200 * one);
}

TEST_CASE("somebody who still waits is found behind tombstones") {
  bench on;
  call gone{"1"};
  call waits{"2"};
  on.tested.enqueue(gone);
  on.tested.enqueue(waits);
  CHECK(on.tested.somebody() == &gone);
  on.write();
  (void)on.tested.abandon(gone);
  CHECK(on.tested.somebody() == &waits);
  (void)on.tested.abandon(waits);
  CHECK(on.tested.somebody() == nullptr);
  CHECK(on.tested.expects_replies());
}

TEST_CASE("bytes that are no reply end the connection, after the replies before them were delivered") {
  bench on;
  call asked{"1"};
  call unanswered{"2"};
  on.tested.enqueue(asked);
  on.tested.enqueue(unanswered);
  on.write();
  const auto defect = on.receive("+one\r\nHTTP/1.1 400\r\n");
  REQUIRE(defect);
  CHECK(defect->code == errc::protocol);
  CHECK(asked.answers[0].str() == "one");
  CHECK_FALSE(unanswered.settled());
}

TEST_CASE("the server's own words about a protocol error are nobody's reply") {
  bench on;
  call asked{"1"};
  on.tested.enqueue(asked);
  on.write();
  const auto defect = on.receive("-ERR Protocol error: too big bulk count string\r\n");
  REQUIRE(defect);
  CHECK(defect->code == errc::protocol);
  CHECK_FALSE(asked.settled());
}

TEST_CASE("a call beyond the queue's bounds is not taken") {
  bench on{{.queued = 2, .queued_bytes = 1000}};
  call first{"1"};
  call second{"2"};
  call third{"3"};
  CHECK(on.tested.enqueue(first));
  CHECK(on.tested.enqueue(second));
  CHECK_FALSE(on.tested.enqueue(third));
  on.write();
  CHECK(on.tested.enqueue(third));
  call large{std::string(1000, 'x')};
  CHECK_FALSE(on.tested.enqueue(large));
  on.write();
  CHECK(on.tested.enqueue(large));  // alone it may be larger than the bound
}

TEST_CASE("without a connection less may wait") {
  lane offline{tenantry::reply_limits{}, {.queued_while_down = 1}};
  call first{"1"};
  call second{"2"};
  CHECK(offline.enqueue(first));
  CHECK_FALSE(offline.enqueue(second));
}

TEST_CASE("no more commands are written than may be in flight, and the next ones follow the replies") {
  bench on{{.in_flight = 2}};
  std::deque<call> calls;
  for (int i = 0; i < 5; ++i) on.tested.enqueue(calls.emplace_back(std::to_string(i)));
  CHECK(on.write() == std::string{calls[0].own[0].bytes()} + std::string{calls[1].own[0].bytes()});
  CHECK_FALSE(on.tested.has_output());
  on.receive("+0\r\n");
  CHECK(on.write() == calls[2].own[0].bytes());
  CHECK_FALSE(on.tested.has_output());
}

TEST_CASE("a flooding tenant fills its own share, and another tenant's next command is written next but one") {
  bench on{{.queued = 100, .tenant_share = 0.25}};
  std::deque<call> flood;
  int taken = 0;
  for (int i = 0; i < 100; ++i) {
    call& one = flood.emplace_back(std::to_string(i));
    one.tenant = "flooder";
    taken += on.tested.enqueue(one) ? 1 : 0;
  }
  CHECK(taken == 25);
  call other{"other"};
  other.tenant = "other";
  CHECK(on.tested.enqueue(other));
  const std::string wire = on.write();
  CHECK(wire.find("other") < wire.find("\r\n2\r\n"));
}

TEST_CASE("a tenant gets its room in flight back when its caller stops waiting, not when the reply comes") {
  bench on{{.in_flight = 8, .tenant_share = 0.25}};
  std::deque<call> calls;
  for (int i = 0; i < 3; ++i) {
    calls.emplace_back(std::to_string(i)).tenant = "acme";
    on.tested.enqueue(calls.back());
  }
  on.write();
  CHECK_FALSE(on.tested.has_output());
  CHECK(on.tested.abandon(calls[0]) == execution::unknown);
  CHECK(on.write() == calls[2].own[0].bytes());
}

TEST_CASE("a connection is stalled when the oldest command was written and nothing came for the limit") {
  bench on;
  call first{"1"};
  first.deadline = on.now + 1s;
  CHECK(on.tested.stalled_at(2s) == lane::time_point::max());
  on.tested.enqueue(first);
  CHECK(on.tested.stalled_at(2s) == lane::time_point::max());
  on.now += 5s;
  on.write();
  CHECK(on.tested.stalled_at(2s) == on.now + 2s);

  on.now += 1s;
  CHECK_FALSE(on.receive("$100\r\npart of it"));
  CHECK(on.tested.stalled_at(2s) == on.now + 2s);

  (void)on.tested.abandon(first);  // a tombstone counts as well
  CHECK(on.tested.stalled_at(2s) == on.now + 2s);
}

TEST_CASE("a slow command is not taken for a stall before its own deadline") {
  bench on;
  call slow{"1"};
  slow.deadline = on.now + 60s;
  on.tested.enqueue(slow);
  on.write();
  CHECK(on.tested.stalled_at(2s) == slow.deadline);
}

TEST_CASE("a large command is not a stall while it is still being written") {
  bench on;
  call large{std::string(1000, 'x')};
  large.deadline = on.now;
  on.tested.enqueue(large);
  on.write(100);
  on.now += 10s;
  on.write(100);
  CHECK(on.tested.stalled_at(2s) == on.now + 2s);
}

TEST_CASE("a server that became a replica is answered to the end, and the rest goes elsewhere") {
  bench on;
  on.now += 1min;
  call refused{"1"};
  call written{"2"};
  call waits{"3"};
  on.tested.enqueue(refused);
  on.tested.enqueue(written);
  on.write();
  on.tested.enqueue(waits);
  CHECK_FALSE(on.receive("-READONLY You can't write against a read only replica.\r\n"));
  CHECK(refused.settled());
  CHECK_FALSE(on.tested.has_output());
  CHECK_FALSE(on.tested.drained());
  CHECK_FALSE(on.receive("+two\r\n"));
  CHECK(on.tested.drained());
  on.end();
  CHECK_FALSE(waits.settled());
  on.tested.connected(on.now);
  CHECK(on.write() == waits.own[0].bytes());
}

TEST_CASE("a server that stays a replica is not connected to again and again") {
  bench on;
  call refused{"1"};
  on.tested.enqueue(refused);
  on.write();
  on.receive("-READONLY You can't write against a read only replica.\r\n");
  CHECK_FALSE(on.tested.drained());
}
