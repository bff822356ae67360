#include "engine/command_rules.hpp"

#include "engine/shared_rules.hpp"

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cmath>
#include <span>
#include <string>
#include <string_view>
#include <support/random_bytes.hpp>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using tenantry::command;
using tenantry::detail::connection_rule;
using tenantry::detail::is_read;
using tenantry::detail::judge;
using tenantry::detail::judge_connection;
using tenantry::detail::reply_rule;
using tenantry::detail::retry_delay;
using words = std::vector<std::string>;

command made(const words& all) {
  const std::vector<std::string_view> views(all.begin(), all.end());
  return command{std::span<const std::string_view>{views}};
}

const std::string loading = "LOADING Redis is loading the dataset in memory";

}  // namespace

TEST_CASE("commands without side effects are reads, in any letter case") {
  const std::vector<words> all{{"GET", "k"},
                               {"get", "k"},
                               {"mGet", "a", "b"},
                               {"EXISTS", "k"},
                               {"PTTL", "k"},
                               {"GETRANGE", "k", "0", "1"},
                               {"hgetall", "k"},
                               {"SMEMBERS", "k"},
                               {"ZRANGE", "k", "0", "-1"},
                               {"LRANGE", "k", "0", "-1"},
                               {"XRANGE", "s", "-", "+"},
                               {"SCAN", "0"},
                               {"HSCAN", "k", "0"},
                               {"OBJECT", "ENCODING", "k"},
                               {"Object", "idletime", "k"},
                               {"PING"},
                               {"PING", "hello"},
                               {"TIME"},
                               {"DBSIZE"},
                               {"INFO", "server"},
                               {"MEMORY", "USAGE", "k"},
                               {"EVAL_RO", "return 1", "0"},
                               {"FCALL_RO", "f", "0"},
                               {"GEORADIUSBYMEMBER_RO", "k", "m", "1", "km"},
                               {"PFCOUNT", "k"},
                               {"CLIENT", "ID"},
                               {"client", "list"},
                               {"CONFIG", "GET", "maxmemory"},
                               {"SCRIPT", "EXISTS", "0"},
                               {"XREAD", "COUNT", "1", "STREAMS", "s", "0"},
                               {"XREAD", "STREAMS", "BLOCK", "0"},
                               {"SORT_RO", "k"},
                               {"RANDOMKEY"},
                               {"COMMAND", "GETKEYSANDFLAGS", "GET", "k"}};
  for (const words& each : all) {
    CAPTURE(each);
    CHECK(is_read(made(each)));
  }
}

TEST_CASE("commands that change something, wait, or may do either are not reads") {
  const std::vector<words> all{{"SET", "k", "v"},
                               {"SET", "k", "v", "GET"},
                               {"GETDEL", "k"},
                               {"GETEX", "k"},
                               {"GETSET", "k", "v"},
                               {"DEL", "k"},
                               {"INCR", "k"},
                               {"SORT", "k"},
                               {"SORT", "k", "STORE", "d"},
                               {"GEORADIUS", "k", "0", "0", "1", "km"},
                               {"GEOSEARCHSTORE", "d", "k", "FROMMEMBER", "m", "BYRADIUS", "1", "km"},
                               {"BITFIELD", "k", "GET", "u8", "0"},
                               {"EVAL", "return 1", "0"},
                               {"EVALSHA", "0", "0"},
                               {"FCALL", "f", "0"},
                               {"XREAD", "BLOCK", "0", "STREAMS", "s", "$"},
                               {"xread", "count", "1", "block", "0", "streams", "s", "$"},
                               {"XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"},
                               {"SPOP", "k"},
                               {"PUBLISH", "c", "m"},
                               {"CLIENT", "KILL", "ID", "1"},
                               {"CLIENT"},
                               {"CLIENT", "SETNAME", "GETNAME"},
                               {"CONFIG", "SET", "maxmemory", "1"},
                               {"CONFIG"},
                               {"CONFIG", "GETX"},
                               {"SCRIPT", "LOAD", "return 1"},
                               {"SCRIPT", "FLUSH"},
                               {"MEMORY", "PURGE"},
                               {"ACL", "SETUSER", "u"},
                               {"FLUSHALL"},
                               {"MULTI"},
                               {"EXEC"},
                               {"WAIT", "1", "0"},
                               {"BLPOP", "k", "0"},
                               {"NOSUCHCOMMAND"},
                               {"GETT", "k"},
                               {"G"},
                               {std::string(500, 'G')},
                               {std::string("GET\0", 4), "k"},
                               {" GET", "k"},
                               {"CLIENT", ""}};
  for (const words& each : all) {
    CAPTURE(each);
    CHECK_FALSE(is_read(made(each)));
  }
}

TEST_CASE("nobody's bytes make a read of a command that is none") {
  support::random_bytes random;
  for (int round = 0; round < 5'000; ++round) {
    const words sent{"SET", random.id(), random.id(), "GET", random.id()};
    REQUIRE_FALSE(is_read(made(sent)));
    REQUIRE(is_read(made({"GET", random.id()})));
    REQUIRE(is_read(made({"XREAD", "STREAMS", random.id(), random.id()})));
  }
}

TEST_CASE("a command that was moved away is no read") {
  command one{"GET", "k"};
  const command other = std::move(one);
  CHECK(is_read(other));
  CHECK_FALSE(is_read(one));  // NOLINT(bugprone-use-after-move)
}

TEST_CASE("a server that is not ready yet is asked again later") {
  for (const words& each :
       {words{"SET", "k", "v"}, words{"GET", "k"}, words{"INCR", "k"}, words{"EVAL_RO", "s", "0"}}) {
    CHECK(judge(made(each), loading) == reply_rule::retry_later);
    CHECK(judge(made(each), "LOADING any other words") == reply_rule::retry_later);
    CHECK(judge(made(each), "TRYAGAIN Multiple keys request during rehashing of slot") == reply_rule::retry_later);
    CHECK(judge(made(each), "CLUSTERDOWN Hash slot not served") == reply_rule::retry_later);
    CHECK(judge(made(each), "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.") ==
          reply_rule::retry_later);
    CHECK(judge(made(each), "TRYAGAIN") == reply_rule::retry_later);
  }
}

TEST_CASE("a script is only sent again after a sentence with which the server refuses it as a whole") {
  for (const words& each :
       {words{"EVAL", "s", "0"}, words{"evalsha", "0", "0"}, words{"FCALL", "f", "0"}, words{"EXEC"}}) {
    CAPTURE(each);
    CHECK(judge(made(each), loading) == reply_rule::retry_later);
    CHECK(judge(made(each), "LOADING Valkey is loading the dataset in memory") == reply_rule::retry_later);
    CHECK(judge(made(each), "TRYAGAIN Multiple keys request during rehashing of slot") == reply_rule::retry_later);
    CHECK(judge(made(each), "TRYAGAIN the script's own words") == reply_rule::final);
    CHECK(judge(made(each), loading + " script: 123, on @user_script:1.") == reply_rule::final);
  }
}

TEST_CASE("READONLY sends a plain command elsewhere, but nothing that may have written before") {
  const std::string text = "READONLY You can't write against a read only replica.";
  CHECK(judge(command{"SET", "k", "v"}, text) == reply_rule::reconnect_and_retry);
  CHECK(judge(command{"incr", "k"}, text) == reply_rule::reconnect_and_retry);
  for (const char* name : {"EVAL", "EVALSHA", "FCALL", "EXEC", "eval", "Exec"}) {
    CAPTURE(name);
    CHECK(judge(command{name, "x"}, text) == reply_rule::final);
  }
}

TEST_CASE("errors about the connection end or retire it, and all others leave it alone") {
  CHECK(judge_connection("ERR max number of clients reached") == connection_rule::ends);
  CHECK(judge_connection("ERR max number of clients + cluster connections reached") == connection_rule::ends);
  CHECK(judge_connection("ERR Protocol error: invalid bulk length") == connection_rule::ends);
  CHECK(judge_connection("NOAUTH Authentication required.") == connection_rule::retires);
  CHECK(judge_connection("READONLY You can't write against a read only replica.") == connection_rule::retires);
  for (const char* text :
       {"ERR max number", "ERR protocol error", "NOAUTHX", "READONLYX", "LOADING", "WRONGTYPE", "", " "}) {
    CAPTURE(text);
    CHECK(judge_connection(text) == connection_rule::stays);
  }
}

TEST_CASE("every other error is the caller's") {
  for (const char* text : {"OOM command not allowed when used memory > 'maxmemory'.",
                           "MISCONF Redis is configured to save RDB snapshots",
                           "NOREPLICAS Not enough good replicas to write.",
                           "NOPERM this user has no permissions",
                           "WRONGTYPE Operation",
                           "BUSY Redis is busy running a script.",
                           "NOSCRIPT No matching script.",
                           "ERR syntax error",
                           "WRONGPASS x",
                           "",
                           " ",
                           "LOADINGX",
                           "LOADING\tx",
                           "loading x",
                           "ERR LOADING",
                           "READONLYX",
                           "NOAUTHX",
                           "ERR protocol error",
                           "UNBLOCKED force unblock",
                           "MOVED 1 h:1",
                           "EXECABORT Transaction discarded",
                           "ERR max number"}) {
    CAPTURE(text);
    CHECK(judge(command{"SET", "k", "v"}, text) == reply_rule::final);
    CHECK(judge(command{"EVAL", "s", "0"}, text) == reply_rule::final);
  }
}

TEST_CASE("a retry waits from 10 ms to a limit that doubles from 20 to 500 ms") {
  const double almost_one = std::nextafter(1.0, 0.0);
  int attempt = 0;
  for (const auto limit : {20ms, 40ms, 80ms, 160ms, 320ms, 500ms, 500ms}) {
    CHECK(retry_delay(attempt, almost_one) == limit);
    CHECK(retry_delay(attempt, 0.0) == 10ms);
    ++attempt;
  }
  CHECK(retry_delay(2'000'000'000, almost_one) == 500ms);
}

TEST_CASE("a command with a long name or second word goes on shared connections") {
  tenantry::detail::check_shareable(made({std::string(100, 'A')}));
  tenantry::detail::check_shareable(made({"CLIENT", std::string(100, 'A')}));
  SUCCEED("not refused");
}
