#include "engine/shared_rules.hpp"

#include <tenantry/command.hpp>
#include <tenantry/error.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <support/random_bytes.hpp>
#include <vector>

namespace tn = tenantry;

namespace {

using words = std::vector<std::string>;

tn::command made(const words& all) {
  const std::vector<std::string_view> views(all.begin(), all.end());
  return tn::command{std::span<const std::string_view>{views}};
}

bool refused(const words& all) {
  try {
    tn::detail::check_shareable(made(all));
    return false;
  } catch (const tn::error& answer) {
    CHECK(answer.code() == tn::errc::refused_command);
    CHECK(answer.execution() == tn::execution::not_sent);
    CHECK(std::string_view{answer.what()}.find(all[0]) != std::string_view::npos);
    return true;
  }
}

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

std::string any_case(support::random_bytes& random, std::string text) {
  for (char& c : text) c = random.below(2) == 0 ? lower(std::string(1, c))[0] : c;
  return text;
}

const std::vector<words>& breaking() {
  static const std::vector<words> all{
      {"SELECT", "1"},
      {"AUTH", "p"},
      {"AUTH", "u", "p"},
      {"HELLO", "3"},
      {"HELLO"},
      {"RESET"},
      {"QUIT"},
      {"MONITOR"},
      {"SYNC"},
      {"PSYNC", "?", "-1"},
      {"SUBSCRIBE", "c"},
      {"UNSUBSCRIBE"},
      {"PSUBSCRIBE", "c*"},
      {"PUNSUBSCRIBE"},
      {"SSUBSCRIBE", "c"},
      {"SUNSUBSCRIBE"},
      {"WATCH", "k"},
      {"UNWATCH"},
      {"MULTI"},
      {"EXEC"},
      {"DISCARD"},
      {"CLIENT", "REPLY", "OFF"},
      {"CLIENT", "REPLY", "SKIP"},
      {"CLIENT", "TRACKING", "ON"},
      {"CLIENT", "CACHING", "YES"},
      {"CLIENT", "NO-TOUCH", "ON"},
      {"ASKING"},
      {"READONLY"},
      {"READWRITE"},
      {"SCRIPT", "DEBUG", "YES"},
      {"BLPOP", "k", "0"},
      {"BRPOP", "k", "0"},
      {"BRPOPLPUSH", "a", "b", "0"},
      {"BLMOVE", "a", "b", "LEFT", "LEFT", "0"},
      {"BLMPOP", "0", "1", "k", "LEFT"},
      {"BZPOPMIN", "k", "0"},
      {"BZPOPMAX", "k", "0"},
      {"BZMPOP", "0", "1", "k", "MIN"},
      {"WAIT", "1", "0"},
      {"WAITAOF", "1", "0", "0"},
      {"XREAD", "BLOCK", "0", "STREAMS", "s", "$"},
      {"XREAD", "COUNT", "10", "BLOCK", "0", "STREAMS", "s", "$"},
      {"XREADGROUP", "GROUP", "g", "c", "BLOCK", "0", "STREAMS", "s", ">"},
      {"XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "BLOCK", "0", "NOACK", "STREAMS", "s", ">"}};
  return all;
}

}  // namespace

TEST_CASE("a command that would break a shared connection is refused, in any letter case") {
  support::random_bytes random;
  for (const words& each : breaking()) {
    CAPTURE(each);
    CHECK(refused(each));
    words small = each;
    for (std::string& word : small) word = lower(word);
    CHECK(refused(small));
    for (int round = 0; round < 10; ++round) {
      words mixed = each;
      for (std::string& word : mixed) word = any_case(random, word);
      CHECK(refused(mixed));
    }
  }
}

TEST_CASE("a command that blocks is refused wherever its BLOCK option stands") {
  CHECK(refused({"XREADGROUP", "BLOCK", "0", "GROUP", "g", "c", "STREAMS", "s", ">"}));
  CHECK(refused({"XREADGROUP", "NOACK", "BLOCK", "0", "GROUP", "g", "c", "STREAMS", "s", ">"}));
  CHECK(refused({"XREAD", "BLOCK", "1000", "COUNT", "1", "STREAMS", "a", "b", "0", "0"}));
}

TEST_CASE("a stream that is named BLOCK can be read") {
  CHECK_FALSE(refused({"XREAD", "STREAMS", "BLOCK", "0"}));
  CHECK_FALSE(refused({"XREAD", "COUNT", "2", "streams", "block", "a", "0", "0"}));
  CHECK_FALSE(refused({"XREADGROUP", "GROUP", "g", "c", "STREAMS", "BLOCK", ">"}));
}

TEST_CASE("a group or consumer that is named like an option changes nothing") {
  // What stands after GROUP is a name, whatever it says.
  CHECK(refused({"XREADGROUP", "GROUP", "g", "streams", "BLOCK", "0", "STREAMS", "s", ">"}));
  CHECK(refused({"XREADGROUP", "GROUP", "STREAMS", "c", "BLOCK", "0", "STREAMS", "s", ">"}));
  CHECK_FALSE(refused({"XREADGROUP", "GROUP", "BLOCK", "c", "STREAMS", "s", ">"}));
  CHECK_FALSE(refused({"XREADGROUP", "GROUP", "g", "block", "COUNT", "1", "STREAMS", "s", ">"}));
}

TEST_CASE("a command that the server does not answer is refused") {
  CHECK(refused({"REPLCONF", "ACK", "0"}));  // the connection would wait for its reply for ever
}

TEST_CASE("ordinary commands are accepted") {
  const std::vector<words> ordinary{{"GET", "k"},
                                    {"SET", "k", "v", "PX", "100"},
                                    {"get", "SELECT"},
                                    {"SET", "BLPOP", "MULTI"},
                                    {"DEL", "SUBSCRIBE"},
                                    {"PING"},
                                    {"EVAL", "return 1", "0"},
                                    {"EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0"},
                                    {"SCRIPT", "LOAD", "return 1"},
                                    {"SCRIPT"},
                                    {"CLIENT", "LIST"},
                                    {"CLIENT", "ID"},
                                    {"CLIENT", "GETNAME"},
                                    {"CLIENT"},
                                    {"PUBLISH", "c", "m"},
                                    {"PUBSUB", "CHANNELS"},
                                    {"LPOP", "k"},
                                    {"LMPOP", "1", "k", "LEFT"},
                                    {"ZPOPMIN", "k"},
                                    {"XADD", "s", "*", "BLOCK", "1"},
                                    {"XREAD", "STREAMS", "s", "0"},
                                    {"XREAD", "COUNT", "5", "STREAMS", "s", "0"},
                                    {"XREAD"},
                                    {"XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"},
                                    {"XRANGE", "BLOCK", "-", "+"},
                                    {"INFO"},
                                    {"SCAN", "0", "MATCH", "kpi:acme:*"},
                                    {"SELECTED"},
                                    {"SELEC"},
                                    {"WAITER"},
                                    {"SELECTSELECTSELECT"},
                                    {std::string(5000, 'B')}};
  for (const words& each : ordinary) {
    CAPTURE(each);
    CHECK_FALSE(refused(each));
  }
}

TEST_CASE("any words can be checked") {
  support::random_bytes random;
  const std::vector<std::string> likely{"XREAD", "XREADGROUP", "GROUP", "BLOCK",          "STREAMS",
                                        "COUNT", "",           "\r\n",  "$5\r\nBLOCK\r\n"};
  for (int round = 0; round < 3000; ++round) {
    words all{random.below(2) == 0 ? likely[random.below(2)] : "x" + random.id()};
    for (std::size_t n = random.below(8); n > 0; --n) {
      all.push_back(random.below(2) == 0 ? likely[random.below(likely.size())] : random.bytes(random.below(20)));
    }
    CHECK_NOTHROW((void)refused(all));
  }
}

TEST_CASE("bytes inside an argument are not taken for options") {
  CHECK_FALSE(refused({"XREAD", "COUNT", "1\r\n$5\r\nBLOCK\r\n", "STREAMS", "s", "0"}));
  CHECK(refused({"XREAD", "COUNT", "1\r\n$7\r\nSTREAMS\r\n", "BLOCK", "0", "STREAMS", "s", "0"}));
  CHECK(refused({"XREAD", "", std::string(100'000, 'x'), "BLOCK", "0", "STREAMS", "s", "0"}));
}
