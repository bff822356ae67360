#include "engine/retry_machine.hpp"

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using tenantry::command;
using tenantry::errc;
using tenantry::execution;
using tenantry::reply;
using tenantry::reply_type;
using tenantry::retry;
using tenantry::detail::failure;
using tenantry::detail::retry_budget;
using tenantry::detail::retry_machine;
using time_point = retry_machine::time_point;

const time_point start{1h};
const time_point no_deadline = time_point::max();
const double almost_one = std::nextafter(1.0, 0.0);

const command get{"GET", "k"};
const command set{"SET", "k", "v"};
const command eval{"EVAL", "s", "0"};

const failure gone{.code = errc::connection_lost, .what = execution::unknown, .detail = "gone"};
const std::string loading = "LOADING Redis is loading the dataset in memory";
const std::string read_only = "READONLY You can't write against a read only replica.";

reply error(std::string_view text) { return reply::make_text(reply_type::error, text); }

/// A call under way, with a budget that it shares with nobody unless told otherwise.
class call {
 public:
  explicit call(std::vector<command> sent, retry policy = retry::reads, time_point deadline = no_deadline)
      : sent_{std::move(sent)}, machine_{sent_, policy, deadline, own_} {}
  call(std::vector<command> sent, retry policy, time_point deadline, retry_budget& shared)
      : sent_{std::move(sent)}, machine_{sent_, policy, deadline, shared} {}

  auto failed(const failure& why, time_point now = start) {
    return machine_.again(why, std::vector<reply>(sent_.size()), now, 0.0);
  }
  auto lost(time_point now = start) { return failed(gone, now); }
  auto answered(std::vector<reply> replies, time_point now = start, double random = 0.0) {
    return machine_.again(std::nullopt, replies, now, random);
  }
  auto refused(std::string_view text, time_point now = start, double random = 0.0) {
    return answered({error(text)}, now, random);
  }

 private:
  std::vector<command> sent_;
  retry_budget own_;
  retry_machine machine_;
};

/// How many retries a budget still pays for.
int left_in(retry_budget& budget) {
  int retries = 0;
  while (budget.take()) ++retries;
  return retries;
}

}  // namespace

TEST_CASE("a read whose connection was lost is made again at once") {
  CHECK(call{{get}}.lost(start) == start);
  CHECK(call{{get}}.lost(start + 5ms) == start + 5ms);
}

TEST_CASE("what may be made again after a loss is what the caller's policy says") {
  const command eval_ro{"EVAL_RO", "s", "0"};
  for (const command& read : {get, command{"mget", "a", "b"}, command{"OBJECT", "ENCODING", "k"}, eval_ro}) {
    CAPTURE(read.bytes());
    CHECK_FALSE(call{{read}, retry::never}.lost());
    CHECK(call{{read}, retry::reads}.lost());
    CHECK(call{{read}, retry::idempotent}.lost());
  }
  const command waiting{"XREAD", "BLOCK", 0, "STREAMS", "s", "$"};
  for (const command& other : {set, command{"incr", "k"}, eval, command{"SORT", "k"}, waiting, command{"NOSUCH"}}) {
    CAPTURE(other.bytes());
    CHECK_FALSE(call{{other}, retry::never}.lost());
    CHECK_FALSE(call{{other}, retry::reads}.lost());
    CHECK(call{{other}, retry::idempotent}.lost());
  }
}

TEST_CASE("commands that were lost together are sent again when all of them are reads") {
  CHECK(call{{get, get, get}}.lost());
  CHECK_FALSE(call{{set, get, get}}.lost());
  CHECK_FALSE(call{{get, set, get}}.lost());
  CHECK_FALSE(call{{get, get, set}}.lost());
  CHECK(call{{get, set, eval}, retry::idempotent}.lost());
  CHECK_FALSE(call{{get, get}, retry::never}.lost());
}

TEST_CASE("of all failures only a lost connection with an unknown outcome is followed by another try") {
  for (int code = 0; code <= static_cast<int>(errc::recursive_load); ++code) {
    for (const execution what : {execution::not_sent, execution::rejected, execution::unknown, execution::executed}) {
      const failure why{.code = static_cast<errc>(code), .what = what, .detail = {}};
      CAPTURE(tenantry::to_string(why.code), tenantry::to_string(what));
      const bool lost = why.code == errc::connection_lost && what == execution::unknown;
      CHECK(call{{get}, retry::idempotent}.failed(why).has_value() == lost);
    }
  }
}

TEST_CASE("a failed call is not judged by the replies that came before it failed") {
  const std::vector<command> sent{set};
  const std::vector<reply> replies{error(loading)};
  retry_budget budget;
  retry_machine machine{sent, retry::reads, no_deadline, budget};
  CHECK_FALSE(machine.again(gone, replies, start, 0.5));
}

TEST_CASE("a lost call is not made again when its deadline has come") {
  CHECK(call{{get}, retry::reads, start}.lost(start - 1ns));
  CHECK_FALSE(call{{get}, retry::reads, start}.lost(start));
  CHECK_FALSE(call{{get}, retry::reads, start}.lost(start + 1ns));
}

TEST_CASE("a rejected command is not sent again when the pause would last until its deadline") {
  for (const std::string& text : {loading, read_only}) {
    CHECK_FALSE(call{{set}, retry::reads, start}.refused(text));
    CHECK_FALSE(call{{set}, retry::reads, start + 10ms - 1ns}.refused(text));
    CHECK_FALSE(call{{set}, retry::reads, start + 10ms}.refused(text));
    CHECK(call{{set}, retry::reads, start + 10ms + 1ns}.refused(text) == start + 10ms);
    CHECK_FALSE(call{{set}, retry::reads, start + 20ms}.refused(text, start, almost_one));
  }
}

TEST_CASE("the budget allows ten retries at first, of one call or of many") {
  call persistent{{get}};
  for (int i = 0; i < 10; ++i) CHECK(persistent.lost());
  CHECK_FALSE(persistent.lost());

  retry_budget budget;
  std::vector<command> sent{get};
  int retries = 0;
  for (int i = 0; i < 9; ++i) {
    retry_machine machine{sent, retry::reads, no_deadline, budget};
    for (int n = 0; n < 2; ++n) retries += machine.again(gone, {}, start, 0.5) ? 1 : 0;
  }
  CHECK(retries == 10);
}

TEST_CASE("ten calls earn one retry when the budget is used up, whatever their policy and size") {
  for (const retry policy : {retry::never, retry::reads, retry::idempotent}) {
    retry_budget budget;
    REQUIRE(left_in(budget) == 10);
    for (int i = 0; i < 8; ++i) const call other{{set, get, get}, policy, no_deadline, budget};
    CHECK_FALSE(call{{get}, retry::reads, no_deadline, budget}.lost());
    CHECK(call{{get}, retry::reads, no_deadline, budget}.lost());
    CHECK_FALSE(call{{get}, retry::reads, no_deadline, budget}.lost());
  }
}

TEST_CASE("in the long run a tenth of the calls are made again, and ten more") {
  retry_budget budget;
  int retries = 0;
  for (int i = 0; i < 1'000; ++i) retries += call{{get}, retry::reads, no_deadline, budget}.lost() ? 1 : 0;
  CHECK(retries >= 100);
  CHECK(retries <= 110);
}

TEST_CASE("calls without losses save up no more than ten retries") {
  retry_budget budget;
  for (int i = 0; i < 1'000; ++i) const call fine{{get}, retry::reads, no_deadline, budget};
  CHECK(left_in(budget) == 10);
}

TEST_CASE("what is not made again after a loss costs no budget") {
  retry_budget budget;
  CHECK_FALSE(call{{set}, retry::reads, no_deadline, budget}.lost());
  CHECK_FALSE(call{{get}, retry::never, no_deadline, budget}.lost());
  CHECK_FALSE(call{{get}, retry::reads, start, budget}.lost());
  CHECK_FALSE(call{{get}, retry::reads, no_deadline, budget}.failed({.code = errc::timeout, .detail = {}}));
  CHECK(left_in(budget) == 10);
}

TEST_CASE("what follows from an error reply neither costs budget nor needs it") {
  for (const std::string& text : {loading, read_only}) {
    retry_budget budget;
    CHECK(call{{set}, retry::reads, no_deadline, budget}.refused(text));
    CHECK(left_in(budget) == 10);
    CHECK(call{{set}, retry::reads, no_deadline, budget}.refused(text));
  }
}

TEST_CASE("a command that is rejected for now is sent again, whether or not it may run twice") {
  for (const char* text :
       {"LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "TRYAGAIN Multiple keys request during rehashing of slot", "CLUSTERDOWN Hash slot not served", "LOADING"}) {
    CAPTURE(text);
    for (const command& one : {get, set}) {
      CHECK(call{{one}, retry::reads}.refused(text) == start + 10ms);
      CHECK(call{{one}, retry::idempotent}.refused(text) == start + 10ms);
    }
  }
}

TEST_CASE("a command that is rejected for now is sent again while its deadline allows, after 10 to 500 ms each time") {
  call patient{{set}};
  time_point now = start;
  for (const auto limit : {20ms, 40ms, 80ms, 160ms, 320ms, 500ms, 500ms, 500ms}) {
    CHECK(patient.refused(loading, now, almost_one) == now + limit);
    now += 1min;
  }
  for (int i = 0; i < 1'000; ++i) REQUIRE(patient.refused(loading, now, 0.0) == now + 10ms);
}

TEST_CASE("a write that a replica refused is sent again four times, each time after a longer pause") {
  call moved{{set}};
  for (const auto limit : {20ms, 40ms, 80ms, 160ms}) {
    CHECK(moved.refused(read_only, start, almost_one) == start + limit);
  }
  CHECK_FALSE(moved.refused(read_only, start, almost_one));
  CHECK_FALSE(moved.refused(read_only, start, 0.0));
}

TEST_CASE("a server that loads its data first and is a replica then is asked for a master four times all the same") {
  call patient{{set}};
  for (int i = 0; i < 6; ++i) REQUIRE(patient.refused(loading));
  for (int i = 0; i < 4; ++i) CHECK(patient.refused(read_only));
  CHECK_FALSE(patient.refused(read_only));
}

TEST_CASE("retry::never switches off what follows from an error reply") {
  for (const std::string& text : {loading, read_only}) {
    CHECK_FALSE(call{{get}, retry::never}.refused(text));
    CHECK_FALSE(call{{set}, retry::never}.refused(text));
  }
}

TEST_CASE("a script is sent again only after a sentence that the server says before it begins") {
  const std::vector<command> scripts{eval, command{"evalsha", "sha", "0"}, command{"FCALL", "f", "0"}, command{"EXEC"}};
  const std::vector<std::string> whole{
      "LOADING Redis is loading the dataset in memory",
      "LOADING Valkey is loading the dataset in memory",
      "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
      "MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and 'allow-stale' flag is not set "
      "on the script.",
      "TRYAGAIN Multiple keys request during rehashing of slot",
      "CLUSTERDOWN Hash slot not served",
      "CLUSTERDOWN The cluster is down",
      "CLUSTERDOWN The cluster is down and only accepts read commands"};
  for (const command& script : scripts) {
    CAPTURE(script.bytes());
    for (const std::string& text : whole) {
      CAPTURE(text);
      CHECK(call{{script}}.refused(text) == start + 10ms);
      CHECK_FALSE(call{{script}}.refused(text.substr(0, text.size() - 1)));
      CHECK_FALSE(call{{script}}.refused(text + " script: f, on @user_script:1."));
      CHECK_FALSE(call{{script}, retry::never}.refused(text));
    }
    for (const char* text : {"LOADING", "TRYAGAIN later", "MASTERDOWN my words", "CLUSTERDOWN x"}) {
      CHECK_FALSE(call{{script}}.refused(text));
      CHECK_FALSE(call{{script}, retry::idempotent}.refused(text));
    }
    CHECK_FALSE(call{{script}}.refused(read_only));
    CHECK_FALSE(call{{script}, retry::idempotent}.refused(read_only));
  }
}

TEST_CASE("a script that cannot write is sent again like any read") {
  for (const command& script :
       {command{"EVAL_RO", "s", "0"}, command{"EVALSHA_RO", "sha", "0"}, command{"fcall_ro", "f", "0"}}) {
    CHECK(call{{script}}.refused("TRYAGAIN its own words"));
    CHECK(call{{script}}.refused(read_only));
  }
}

TEST_CASE("errors about the connection are not followed by another try") {
  for (const char* text :
       {"NOAUTH Authentication required.", "NOAUTH", "ERR max number of clients reached",
        "ERR max number of clients + cluster connections reached", "ERR Protocol error: invalid bulk length"}) {
    CAPTURE(text);
    CHECK_FALSE(call{{get}}.refused(text));
    CHECK_FALSE(call{{get}, retry::idempotent}.refused(text));
  }
}

TEST_CASE("every other answer is the end of the call") {
  for (const char* text : {"ERR syntax error", "WRONGTYPE Operation", "OOM command not allowed", "BUSY Redis is busy",
                           "NOSCRIPT No matching script.", "NOPERM no", "MOVED 1 h:1", "LOADINGX", "READONLYX", ""}) {
    CAPTURE(text);
    CHECK_FALSE(call{{get}, retry::idempotent}.refused(text));
  }
  for (const reply& fine : {reply{}, reply::make_integer(1), reply::make_text(reply_type::status, "LOADING"),
                            reply::make_text(reply_type::string, loading), reply::make_array(0)}) {
    CHECK_FALSE(call{{get}, retry::idempotent}.answered({fine}));
  }
}

TEST_CASE("error replies of commands that were sent together are left to the caller") {
  for (const retry policy : {retry::reads, retry::idempotent}) {
    CHECK_FALSE(call{{get, get}, policy}.answered({error(loading), error(loading)}));
    CHECK_FALSE(call{{get, get}, policy}.answered({error(loading), reply{}}));
    CHECK_FALSE(call{{get, get}, policy}.answered({reply{}, error(loading)}));
    CHECK_FALSE(call{{set, set}, policy}.answered({error(read_only), error(read_only)}));
  }
}

TEST_CASE("what happened to earlier tries does not loosen the rules for the next one") {
  call read{{get}, retry::reads, start + 1s};
  CHECK(read.refused(loading) == start + 10ms);
  CHECK(read.lost(start + 20ms) == start + 20ms);
  CHECK(read.refused(loading, start + 30ms));
  CHECK_FALSE(read.refused("ERR syntax error", start + 40ms));
  CHECK_FALSE(read.lost(start + 1s));

  call write{{set}};
  CHECK(write.refused(loading));
  CHECK_FALSE(write.lost());
}
