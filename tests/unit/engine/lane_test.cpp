#include "engine/lane.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <string>
#include <vector>

using tenantry::command;
using tenantry::connection_error;
using tenantry::errc;
using tenantry::execution;
using tenantry::reply;
using tenantry::detail::exchange;
using tenantry::detail::failure;
using tenantry::detail::lane;

namespace {

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
  lane tested{tenantry::reply_limits{}};
  std::vector<exchange*> settled;

  bench() { tested.connected(); }

  std::string write(std::size_t at_most = std::string::npos) {
    const std::string bytes{tested.output().substr(0, at_most)};
    tested.wrote(bytes.size());
    return bytes;
  }
  void receive(std::string_view bytes) {
    std::ranges::copy(bytes, tested.room().begin());
    tested.received(bytes.size(), settled);
  }
  void end() { tested.ended({.code = errc::connection_lost, .what = execution::unknown, .detail = "gone"}, settled); }
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

  on.tested.connected();
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
  on.tested.connected();
  call next{"2"};
  on.tested.enqueue(next);
  on.write();
  on.receive("+two\r\n");
  CHECK(next.answers[0].str() == "two");
}

TEST_CASE("when no connection can be had, waiting commands end not sent") {
  lane offline{tenantry::reply_limits{}};
  call waits{"1"};
  std::vector<exchange*> settled;
  offline.enqueue(waits);
  offline.unreachable({.code = errc::unreachable, .what = execution::unknown, .detail = "refused"}, settled);
  CHECK(settled == std::vector<exchange*>{&waits});
  CHECK(waits.why.code == errc::unreachable);
  CHECK(waits.why.what == execution::not_sent);
  CHECK(offline.idle());
}

TEST_CASE("a reply that no command waits for is a protocol error") {
  bench on;
  try {
    on.receive("+surprise\r\n");
    FAIL("accepted");
  } catch (const connection_error& refusal) {
    CHECK(refusal.code() == errc::protocol);
  }
}

TEST_CASE("one reply too many is a protocol error, after the expected one was delivered") {
  bench on;
  call asked{"1"};
  on.tested.enqueue(asked);
  on.write();
  CHECK_THROWS_AS(on.receive("+one\r\n+two\r\n"), connection_error);
  CHECK(on.settled == std::vector<exchange*>{&asked});
  CHECK(asked.answers[0].str() == "one");
}

TEST_CASE("commands of many callers leave in one piece, up to a batch") {
  bench on;
  std::vector<call> calls;
  calls.reserve(200);
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
