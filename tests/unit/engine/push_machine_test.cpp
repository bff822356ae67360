// Which names a push machine subscribes to and leaves.

#include "push_bench.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <string>
#include <variant>

using namespace push_test;

TEST_CASE("what is wanted before there is a connection is asked for when there is one") {
  bench on;
  CHECK(on.tested.want(channel, "a") == standing::pending);
  CHECK_FALSE(on.tested.has_output());
  CHECK_FALSE(on.tested.ready());
  on.connect();
  CHECK(on.write() == words({"SUBSCRIBE", "a"}));
  CHECK_FALSE(on.tested.ready());
  on.receive(done("subscribe", "a"));
  CHECK(on.told() == texts{"confirmed a", "in sync"});
  CHECK(on.tested.ready());
  CHECK(on.tested.want(channel, "a") == standing::confirmed);
  CHECK_FALSE(on.tested.has_output());
}

TEST_CASE("each kind has its own command and its own confirmation") {
  bench on;
  on.connect();
  on.tested.want(channel, "x");
  CHECK(on.write() == words({"SUBSCRIBE", "x"}));
  on.tested.want(pattern, "x");
  CHECK(on.write() == words({"PSUBSCRIBE", "x"}));
  on.tested.want(shard, "x");
  CHECK(on.write() == words({"SSUBSCRIBE", "x"}));
  on.receive(done("subscribe", "x") + done("psubscribe", "x") + done("ssubscribe", "x"));
  REQUIRE(on.events.size() == 4);
  CHECK(std::get<push::confirmed>(on.events[2]).kind == pattern);
  CHECK(std::get<push::confirmed>(on.events[3]).kind == shard);

  on.tested.unwant(channel, "x");
  CHECK(on.write() == words({"UNSUBSCRIBE", "x"}));
  on.tested.unwant(pattern, "x");
  CHECK(on.write() == words({"PUNSUBSCRIBE", "x"}));
  on.tested.unwant(shard, "x");
  CHECK(on.write() == words({"SUNSUBSCRIBE", "x"}));
  on.told();
  on.receive(done("unsubscribe", "x") + done("punsubscribe", "x") + done("sunsubscribe", "x"));
  CHECK(on.told().empty());
}

TEST_CASE("wanting and unwanting are idempotent, and a name left before it was asked for costs nothing") {
  bench on;
  on.connect();
  on.tested.want(channel, "a");
  on.tested.want(channel, "a");
  CHECK(on.write() == words({"SUBSCRIBE", "a"}));
  on.receive(done("subscribe", "a"));
  on.tested.unwant(channel, "a");
  on.tested.unwant(channel, "a");
  on.tested.unwant(channel, "never wanted");
  CHECK(on.write() == words({"UNSUBSCRIBE", "a"}));
  on.receive(done("unsubscribe", "a"));
  on.tested.want(channel, "b");
  on.tested.unwant(channel, "b");
  CHECK(on.write().empty());
  CHECK_FALSE(on.tested.has_output());
}

TEST_CASE("a change of mind while the command is on the way is sent when its answer came") {
  bench on;
  on.connect();
  on.tested.want(channel, "a");
  on.write();
  on.tested.unwant(channel, "a");
  on.tested.want(channel, "a");
  on.tested.unwant(channel, "a");
  CHECK(on.write().empty());
  on.receive(done("subscribe", "a"));
  CHECK(on.told() == texts{"in sync"});
  CHECK(on.write() == words({"UNSUBSCRIBE", "a"}));
  CHECK(on.tested.want(channel, "a") == standing::pending);  // the server is about to forget it
  CHECK_FALSE(on.tested.ready());
  on.receive(done("unsubscribe", "a"));
  CHECK(on.write() == words({"SUBSCRIBE", "a"}));
  on.receive(done("subscribe", "a"));
  CHECK(on.told() == texts{"confirmed a"});
  CHECK(on.tested.ready());
}

TEST_CASE("a name wanted again before its leaving was sent stays confirmed without a command") {
  bench on;
  on.connect();
  on.subscribe(channel, "a");
  on.tested.unwant(channel, "a");
  CHECK(on.tested.want(channel, "a") == standing::confirmed);
  CHECK(on.write().empty());
}

TEST_CASE("many names go in commands of at most 256, with about 1024 unanswered") {
  bench on;
  for (int i = 0; i < 5000; ++i) on.tested.want(channel, std::to_string(i));
  on.connect();
  std::string wire = on.write();
  CHECK(wire.starts_with("*257\r\n$9\r\nSUBSCRIBE\r\n"));
  CHECK(std::ranges::count(wire, '*') == 4);
  CHECK_FALSE(on.tested.has_output());

  int commands = 4;
  while (!wire.empty()) {
    std::string answers;
    for (std::size_t at = 0; (at = wire.find("\r\n", at)) != std::string::npos; at += 2) {
      const std::size_t end = wire.find("\r\n", at + 2);
      if (end == std::string::npos) break;
      const std::string line = wire.substr(at + 2, end - at - 2);
      if (line.find_first_not_of("0123456789") == std::string::npos) answers += done("subscribe", line);
    }
    for (std::string_view rest = answers; !rest.empty();) {
      const auto part = rest.substr(0, on.tested.room().size());
      on.receive(part);
      rest.remove_prefix(part.size());
    }
    wire = on.write();
    commands += static_cast<int>(std::ranges::count(wire, '*'));
  }
  CHECK(on.tested.ready());
  CHECK(commands == 20);
  CHECK(on.events.size() == 5001);
}

TEST_CASE("a command holds at most 64 KiB of names, and a longer name goes alone") {
  bench on;
  on.connect();
  const std::string half(40'000, 'h');
  const std::string large(200'000, 'l');
  on.tested.want(channel, half + "1");
  on.tested.want(channel, half + "2");
  on.tested.want(channel, large);
  on.tested.want(channel, "after");
  std::string wire;
  while (on.tested.has_output()) wire += on.write();
  CHECK(wire == words({"SUBSCRIBE", half + "1"}) + words({"SUBSCRIBE", half + "2"}) + words({"SUBSCRIBE", large}));
  on.receive(done("subscribe", half + "1").substr(0, 10'000));
  CHECK_FALSE(on.tested.has_output());  // 256 KiB are unanswered
}

TEST_CASE("many names of one kind do not keep another kind waiting") {
  bench on;
  on.connect();
  for (int i = 0; i < 5000; ++i) on.tested.want(channel, std::to_string(i));
  on.tested.want(shard, "a");
  CHECK(on.write().find(words({"SSUBSCRIBE", "a"})) != std::string::npos);
}

TEST_CASE("a refused name is found by halving, told once, and costs no other name its subscription") {
  bench on;
  for (const auto* name : {"a", "b", "c", "d"}) on.tested.want(channel, name);
  on.connect();
  std::string commands = on.write();
  for (int round = 0; round < 10 && !commands.empty(); ++round) {
    std::string answers;
    for (std::size_t at = commands.find('*'); at != std::string::npos; at = commands.find('*', at + 1)) {
      const std::string one = commands.substr(at, commands.find('*', at + 1) - at);
      if (one.find("\r\nc\r\n") != std::string::npos) {
        answers += "-NOPERM no\r\n";
        continue;
      }
      const std::string rest = one.substr(one.find("SUBSCRIBE") + 9);
      for (const char each : rest) {
        if (each >= 'a' && each <= 'd') answers += done("subscribe", std::string(1, each));
      }
    }
    on.receive(answers);
    commands = on.write();
  }
  texts told = on.told();
  CHECK(told.back() == "in sync");
  std::ranges::sort(told);
  CHECK(told == texts{"confirmed a", "confirmed b", "confirmed d", "in sync", "refused c: NOPERM no"});
  CHECK(on.tested.ready());
  CHECK(on.tested.want(channel, "c") == standing::refused);
  CHECK_FALSE(on.tested.has_output());
}

TEST_CASE("a refused name is tried again on the next connection, and after it was unwanted") {
  bench on;
  on.tested.want(channel, "a");
  on.connect();
  on.write();
  on.receive("-NOPERM no\r\n");
  CHECK(on.told() == texts{"refused a: NOPERM no", "in sync"});

  on.tested.unwant(channel, "a");
  CHECK(on.tested.want(channel, "a") == standing::pending);
  CHECK(on.write() == words({"SUBSCRIBE", "a"}));
  on.receive("-NOPERM still no\r\n");
  CHECK(on.told() == texts{"refused a: NOPERM still no"});

  on.disconnect();
  on.connect();
  CHECK(on.write() == words({"SUBSCRIBE", "a"}));
  on.receive(done("subscribe", "a"));
  CHECK(on.told() == texts{"ended: gone", "confirmed a", "in sync"});
}

TEST_CASE("a refusal of a name that is not wanted any more is not told") {
  bench on;
  on.connect();
  on.tested.want(channel, "a");
  on.tested.want(channel, "b");
  on.write();
  on.tested.unwant(channel, "a");
  on.receive("-NOPERM no\r\n");
  CHECK(on.write() == words({"SUBSCRIBE", "b"}));
  on.tested.unwant(channel, "b");
  on.receive("-NOPERM no\r\n");
  CHECK(on.told() == texts{"in sync"});
  CHECK(on.tested.ready());
}

TEST_CASE("a busy server is asked again after a while, and refuses nothing by that") {
  for (const std::string word : {"BUSY", "LOADING", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN"}) {
    bench on{{.retry_after = 100ms}};
    on.connect();
    on.tested.want(channel, "a");
    on.write();
    on.receive("-" + word + " later\r\n");
    CHECK(on.told() == texts{"in sync"});
    CHECK_FALSE(on.tested.has_output());
    CHECK_FALSE(on.tested.ready());
    CHECK(on.tested.next_wakeup() == on.now + 100ms);
    on.pass(99ms);
    CHECK_FALSE(on.tested.has_output());
    on.pass(1ms);
    CHECK(on.write() == words({"SUBSCRIBE", "a"}));
  }
}

TEST_CASE("a server that does not let a name go keeps sending for nobody, until the name is wanted again") {
  bench on;
  on.connect();
  on.subscribe(channel, "a");
  on.tested.unwant(channel, "a");
  on.write();
  on.receive("-NOPERM no\r\n");
  CHECK(on.write().empty());
  on.receive(words({"message", "a", "1"}));
  CHECK(on.told().empty());
  CHECK(on.tested.dropped() == 1);
  CHECK(on.tested.want(channel, "a") == standing::confirmed);
  on.receive(words({"message", "a", "2"}));
  CHECK(on.told() == texts{"a: 2"});
}

TEST_CASE("a name wanted while its leaving is refused is confirmed after all") {
  for (const std::string_view error : {"-NOPERM no\r\n", "-BUSY later\r\n"}) {
    bench on;
    on.connect();
    on.subscribe(channel, "a");
    on.tested.unwant(channel, "a");
    on.write();
    CHECK(on.tested.want(channel, "a") == standing::pending);
    on.receive(error);
    CHECK(on.told() == texts{"confirmed a"});
    CHECK(on.tested.ready());
  }
}

TEST_CASE("a subscription that the server ends is told as lost and asked for again") {
  bench on;
  on.connect();
  on.subscribe(shard, "a");
  on.receive(done("sunsubscribe", "a"));
  CHECK(on.told() == texts{"lost a"});
  CHECK_FALSE(on.tested.ready());
  CHECK(on.write() == words({"SSUBSCRIBE", "a"}));
  on.receive("-MOVED 1 127.0.0.1:7001\r\n");
  CHECK(on.told() == texts{"refused a: MOVED 1 127.0.0.1:7001"});
  CHECK(on.tested.ready());
}

TEST_CASE("an unasked unsubscribe of a name that is not held changes nothing") {
  bench on;
  on.connect();
  on.tested.want(shard, "a");
  on.write();
  on.receive(done("sunsubscribe", "a") + done("sunsubscribe", "stranger") + done("ssubscribe", "a"));
  CHECK(on.told() == texts{"in sync", "confirmed a"});
  CHECK_FALSE(on.tested.has_output());
}

TEST_CASE("an unasked unsubscribe may come before the answer to the asked one") {
  bench on;
  on.connect();
  on.subscribe(shard, "a");
  on.tested.unwant(shard, "a");
  on.write();
  on.tested.want(shard, "a");
  on.receive(done("sunsubscribe", "a"));
  CHECK(on.write() == words({"SSUBSCRIBE", "a"}));
  on.receive(done("sunsubscribe", "a") + done("ssubscribe", "a"));
  CHECK(on.told() == texts{"confirmed a"});
  CHECK(on.tested.ready());
}

TEST_CASE("each connection is a generation of its own and asks for what is wanted then") {
  bench on;
  CHECK(on.tested.generation() == 0);
  on.connect();
  CHECK(on.tested.client_id() == 7);
  on.subscribe(channel, "a");
  on.subscribe(channel, "b");
  on.tested.want(channel, "half");
  on.write();
  on.receive(done("subscribe", "half").substr(0, 20));
  on.disconnect();
  on.disconnect();
  CHECK(on.told() == texts{"ended: gone"});
  CHECK(on.tested.client_id() == std::nullopt);
  CHECK_FALSE(on.tested.ready());
  CHECK_FALSE(on.tested.has_output());
  CHECK_FALSE(on.tested.next_wakeup());
  on.tested.unwant(channel, "b");
  on.tested.unwant(channel, "half");
  on.tested.want(channel, "c");
  on.connect();
  CHECK(on.tested.generation() == 2);
  const std::string wire = on.write();
  CHECK(wire.size() == words({"SUBSCRIBE", "a", "c"}).size());
  const bool a_first = wire.find("\r\na\r\n") < wire.find("\r\nc\r\n");
  on.receive(done("subscribe", a_first ? "a" : "c") + done("subscribe", a_first ? "c" : "a"));
  REQUIRE(on.events.size() == 3);
  CHECK(std::get<push::confirmed>(on.events[0]).generation == 2);
  CHECK(std::get<push::in_sync>(on.events[2]).generation == 2);
}

TEST_CASE("in sync is told once, when all that was wanted at first is settled, by an answer or by giving it up") {
  bench on;
  on.tested.want(channel, "a");
  on.tested.want(pattern, "b");
  on.connect();
  on.write();
  on.receive(done("subscribe", "a"));
  on.tested.want(channel, "later");
  CHECK(on.told() == texts{"confirmed a"});
  on.tested.unwant(pattern, "b");
  REQUIRE(on.tested.next_wakeup() <= on.now);
  on.pass(0ms);
  CHECK(on.told() == texts{"in sync"});
  CHECK_FALSE(on.tested.ready());
  on.write();
  on.receive(done("psubscribe", "b") + done("subscribe", "later"));
  CHECK(on.told() == texts{"confirmed later"});
}

TEST_CASE("a connection for which nothing is wanted is in sync at once") {
  bench on;
  on.connect();
  REQUIRE(on.tested.next_wakeup() <= on.now);
  on.pass(0ms);
  CHECK(on.told() == texts{"in sync"});
  CHECK(on.tested.ready());
}

TEST_CASE("a name that is lost before the connection was in sync is waited for again") {
  bench on;
  on.tested.want(channel, "a");
  on.tested.want(shard, "s");
  on.connect();
  on.write();
  on.receive(done("subscribe", "a") + done("unsubscribe", "a") + done("ssubscribe", "s"));
  CHECK(on.told() == texts{"confirmed a", "lost a", "confirmed s"});
  on.write();
  on.receive(done("subscribe", "a"));
  CHECK(on.told() == texts{"confirmed a", "in sync"});
}
