// What a push machine makes of what arrives, and of silence.

#include "push_bench.hpp"
#include "support/allocation_counter.hpp"
#include "support/errors.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <string>

using namespace push_test;
using support::failure_of;
using tenantry::no_timeout;

TEST_CASE("messages of all kinds arrive with their names, also between confirmations") {
  bench on;
  on.tested.want(channel, "a");
  on.tested.want(channel, "b");
  on.tested.want(pattern, "p*");
  on.tested.want(shard, "s");
  on.connect();
  const std::string wire = on.write();
  const bool a_first = wire.find("\r\na\r\n") < wire.find("\r\nb\r\n");
  const std::string first = a_first ? "a" : "b";
  const std::string second = a_first ? "b" : "a";
  on.receive(done("subscribe", first) + words({"message", first, "1"}) + done("subscribe", second) +
             done("psubscribe", "p*") + done("ssubscribe", "s"));
  CHECK(on.told() ==
        texts{"confirmed " + first, first + ": 1", "confirmed " + second, "confirmed p*", "confirmed s", "in sync"});
  on.receive(words({"pmessage", "p*", "p1", "2"}) + words({"smessage", "s", "3"}));
  CHECK(on.told() == texts{"p1 by p*: 2", "s: 3"});
}

TEST_CASE("a message whose name is not wanted is dropped and counted") {
  bench on;
  on.connect();
  on.subscribe(channel, "a");
  on.receive(words({"message", "foreign", "1"}) + words({"smessage", "a", "1"}) + words({"pmessage", "a", "a", "1"}));
  CHECK(on.tested.dropped() == 3);
  on.tested.unwant(channel, "a");
  on.receive(words({"message", "a", "1"}));
  on.write();
  on.tested.want(channel, "a");  // the answer to UNSUBSCRIBE is still to come: this message belongs to before
  on.receive(words({"message", "a", "2"}));
  CHECK(on.tested.dropped() == 5);
  CHECK(on.told().empty());
}

TEST_CASE("invalidations are keys or everything, and a text that somebody publishes there is not one") {
  bench on;
  on.connect();
  on.subscribe(channel, invalidation_channel);
  const std::string head = "*3\r\n" + bulk("message") + bulk(invalidation_channel);
  on.receive(head + words({"k1", "k2"}));
  on.receive(head + "*-1\r\n");
  on.receive(head + "$-1\r\n");
  on.receive(head + bulk("k3"));
  CHECK(on.told() == texts{"invalidated k1 k2", "invalidated all", "invalidated all"});
  CHECK(on.tested.dropped() == 1);
}

TEST_CASE("silence is probed with one PING, and any byte is life") {
  bench on{{.heartbeat = 5s, .heartbeat_timeout = 2s}};
  on.connect();
  on.subscribe(channel, "a");
  CHECK(on.tested.next_wakeup() == on.now + 5s);
  on.pass(4999ms);
  CHECK_FALSE(on.tested.has_output());
  on.pass(1ms);
  CHECK(on.write() == words({"PING"}));
  CHECK(on.tested.next_wakeup() == on.now + 2s);
  on.pass(1999ms);
  on.receive("*");  // the first byte of a message
  CHECK(on.tested.next_wakeup() == on.now + 5s);
  on.pass(5s);
  CHECK_FALSE(on.tested.has_output());  // the first PING is still on the way
  CHECK(on.tested.next_wakeup() == on.now + 2s);
  on.receive(words({"message", "a", "1"}).substr(1) + words({"pong", ""}));
  CHECK(on.told() == texts{"a: 1"});
  on.pass(5s);
  CHECK(on.write() == words({"PING"}));
}

TEST_CASE("a server that stays silent after a PING is dead, once, also when the PING could not be written") {
  for (const bool written : {true, false}) {
    bench on{{.heartbeat = 5s, .heartbeat_timeout = 2s}};
    on.connect();
    on.pass(5s);
    if (written) on.write();
    on.told();
    on.pass(1999ms);
    CHECK(on.told().empty());
    on.pass(1ms);
    CHECK(on.told() == texts{"dead"});
    CHECK_FALSE(on.tested.next_wakeup());
    on.pass(1h);
    CHECK(on.told().empty());

    on.disconnect();
    on.connect();
    on.pass(0ms);
    CHECK(on.told() == texts{"ended: gone", "in sync"});
    CHECK_FALSE(on.tested.has_output());
    CHECK(on.tested.next_wakeup() == on.now + 5s);
    on.pass(5s);
    CHECK(on.write() == words({"PING"}));
    on.pass(2s);
    CHECK(on.told() == texts{"dead"});
  }
}

TEST_CASE("a heartbeat that becomes shorter or longer holds for the silence so far") {
  bench on{{.heartbeat = 5s, .heartbeat_timeout = 5s}};
  on.connect();
  on.pass(3s);
  on.tested.set_heartbeat({.heartbeat = 1s, .heartbeat_timeout = 2s});
  CHECK(on.tested.next_wakeup() <= on.now);
  on.pass(0s);
  CHECK(on.write() == words({"PING"}));
  CHECK(on.tested.next_wakeup() == on.now + 2s);
  on.tested.set_heartbeat({.heartbeat = 5s, .heartbeat_timeout = 5s});
  CHECK(on.tested.next_wakeup() == on.now + 5s);
  on.pass(4s);
  CHECK(on.told() == texts{"in sync"});
  on.tested.set_heartbeat({.heartbeat = 1s, .heartbeat_timeout = 2s});
  CHECK(on.tested.next_wakeup() <= on.now);
  on.pass(0s);
  CHECK(on.told() == texts{"dead"});
}

TEST_CASE("a heartbeat that was changed holds for the next connections") {
  bench on{{.heartbeat = 5s, .heartbeat_timeout = 5s}};
  on.tested.set_heartbeat({.heartbeat = 1s, .heartbeat_timeout = 2s});
  for (int i = 0; i < 2; ++i) {
    on.connect();
    CHECK(on.tested.next_wakeup() <= on.now);  // in sync, at once
    on.pass(0s);
    CHECK(on.tested.next_wakeup() == on.now + 1s);
    on.tested.set_heartbeat({.heartbeat = no_timeout});
    CHECK_FALSE(on.tested.next_wakeup());
    on.tested.set_heartbeat({.heartbeat = 1s, .heartbeat_timeout = 2s});
    on.disconnect();
  }
}

TEST_CASE("a PING that is not on its way yet is not sent when something arrives first") {
  bench on{{.heartbeat = 5s}};
  on.connect();
  on.subscribe(channel, "a");
  on.pass(5s);
  CHECK(on.tested.has_output());
  on.receive(words({"message", "a", "1"}));
  CHECK_FALSE(on.tested.has_output());
}

TEST_CASE("a driver that comes late does not take its own delay for the server's silence") {
  bench on{{.heartbeat = 5s, .heartbeat_timeout = 2s}};
  on.connect();
  on.pass(1h);
  CHECK(on.told() == texts{"in sync"});
  CHECK(on.write() == words({"PING"}));
  CHECK(on.tested.next_wakeup() == on.now + 2s);
}

TEST_CASE("PING is answered in its place by +PONG, an array, or an error that proves life") {
  for (const std::string& answer : {std::string{"+PONG\r\n"}, words({"pong", ""}), std::string{"-BUSY script\r\n"},
                                    std::string{"-MASTERDOWN no\r\n"}, std::string{"-LOADING no\r\n"}}) {
    bench on{{.heartbeat = 5s}};
    on.connect();
    on.tested.want(channel, "before");
    std::string wire = on.write();
    on.pass(5s);
    on.tested.want(channel, "after");
    wire += on.write();
    CHECK(wire == words({"SUBSCRIBE", "before"}) + words({"PING"}) + words({"SUBSCRIBE", "after"}));
    on.receive(done("subscribe", "before") + answer + done("subscribe", "after"));
    CHECK(on.told() == texts{"in sync", "confirmed before", "confirmed after"});
    CHECK(on.tested.ready());
    on.pass(5s);
    CHECK(on.write() == words({"PING"}));
  }
}

TEST_CASE("without a heartbeat nothing is ever sent unasked") {
  bench on{{.heartbeat = no_timeout}};
  on.connect();
  on.pass(1000h);
  CHECK(on.told() == texts{"in sync"});
  CHECK_FALSE(on.tested.has_output());
  CHECK_FALSE(on.tested.next_wakeup());
}

TEST_CASE("what no command waits for, or is no announcement, ends the connection") {
  const std::string head = "*3\r\n" + bulk("message") + bulk(invalidation_channel);
  const texts defects{"+PONG\r\n",
                      words({"pong", ""}),
                      "-ERR max number of clients reached\r\n",
                      "+OK\r\n",
                      ":1\r\n",
                      "$-1\r\n",
                      "*0\r\n",
                      "*3\r\n:1\r\n:1\r\n:1\r\n",
                      words({"news", "a", "1"}),
                      words({"message", "a"}),
                      words({"message", "a", "1", "2"}),
                      words({"pmessage", "a", "1"}),
                      "*3\r\n" + bulk("message") + "$-1\r\n" + bulk("1"),
                      "*3\r\n" + bulk("message") + bulk("a") + "$-1\r\n",
                      "*3\r\n" + bulk("message") + bulk("a") + words({"k"}),
                      "*4\r\n" + bulk("pmessage") + bulk("a") + ":1\r\n" + bulk("1"),
                      head + ":1\r\n",
                      head + "*1\r\n:1\r\n",
                      done("subscribe", "a"),
                      done("ssubscribe", "wanted"),
                      "*3\r\n" + bulk("unsubscribe") + "$-1\r\n:0\r\n",
                      words({"subscribe", "a", "1"}),
                      "?what\r\n"};
  for (const std::string& defect : defects) {
    INFO(defect);
    bench on;
    on.connect();
    on.subscribe(channel, invalidation_channel);
    const auto fault = failure_of([&] { on.receive(defect); });
    CHECK(fault.code == errc::protocol);
  }
}

TEST_CASE("confirmations come in the order of the command, and an error among them ends the connection") {
  for (const std::string& second : {done("subscribe", "a"), done("subscribe", "c"), std::string{"-NOPERM no\r\n"}}) {
    bench on;
    on.connect();
    on.tested.want(channel, "a");
    on.tested.want(channel, "b");
    on.write();
    on.receive(done("subscribe", "a"));
    CHECK(failure_of([&] { on.receive(second); }).code == errc::protocol);
    CHECK(on.told() == texts{"in sync", "confirmed a"});
  }
}

TEST_CASE("events before a defect are delivered") {
  bench on;
  on.connect();
  on.subscribe(channel, "a");
  CHECK(failure_of([&] { on.receive(words({"message", "a", "1"}) + "?"); }).code == errc::protocol);
  CHECK(on.told() == texts{"a: 1"});
}

TEST_CASE("a message costs no allocation beyond its decoding") {
  const std::string name(40, 'n');
  const std::string wire = words({"message", name, std::string(300, 'p')});
  bench on;
  on.connect();
  on.subscribe(channel, name);
  on.events.reserve(4);
  on.receive(wire);

  tenantry::resp::reply_reader reader{{}};
  const auto decode = [&] {
    std::ranges::copy(wire, reader.room().begin());
    reader.filled(wire.size());
    return reader.next();
  };
  (void)decode();
  std::size_t decoding = 0;
  {
    const support::allocation_counter counter;
    (void)decode();
    decoding = counter.count();
  }
  const support::allocation_counter counter;
  on.receive(wire);
  CHECK(counter.count() == decoding);
}
