// The classes of commands against the flags of a real server, and its errors against the rules.

#include "engine/command_rules.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace tenantry;
using detail::is_read;
using detail::judge;
using detail::reply_rule;
using testing::redis_server;

/// Reads without the flag `readonly`, because they touch no key.
const std::map<std::string, std::string, std::less<>> reads_without_keys{
    {"acl|whoami", "about the connection"},
    {"client|getname", "about the connection"},
    {"client|id", "about the connection"},
    {"client|info", "about the connection"},
    {"client|list", "about the server"},
    {"command|count", "about the server"},
    {"command|docs", "about the server"},
    {"command|getkeys", "about its arguments"},
    {"command|getkeysandflags", "about its arguments"},
    {"command|info", "about the server"},
    {"command|list", "about the server"},
    {"config|get", "about the server"},
    {"echo", "about its arguments"},
    {"info", "about the server"},
    {"lastsave", "about the server"},
    {"ping", "about the connection"},
    {"pubsub|channels", "about the server"},
    {"pubsub|numpat", "about the server"},
    {"pubsub|numsub", "about the server"},
    {"pubsub|shardchannels", "about the server"},
    {"pubsub|shardnumsub", "about the server"},
    {"role", "about the server"},
    {"script|exists", "about the server"},
    {"time", "about the server"}};

command with_name(const std::string& name) {
  const auto bar = name.find('|');
  if (bar == std::string::npos) return command{name, "x"};
  return command{name.substr(0, bar), name.substr(bar + 1), "x"};
}

/// The flags of all commands and subcommands of the server.
std::map<std::string, std::set<std::string>, std::less<>> flags_of_all(const client& redis) {
  std::map<std::string, std::set<std::string>, std::less<>> flags;
  std::vector<std::string> names;
  const reply list = redis.execute("COMMAND", "LIST");
  for (const reply& each : list.elements()) names.push_back(each.str());
  std::vector<std::string_view> words{"COMMAND", "INFO"};
  words.insert(words.end(), names.begin(), names.end());
  const reply info = redis.execute(command{std::span<const std::string_view>{words}});
  for (const reply& each : info.elements()) {
    auto& own = flags[each[0].str()];
    for (const reply& flag : each[2].elements()) own.insert(flag.str());
  }
  return flags;
}

std::string error_of(const client& redis, const command& one) {
  const auto answers = redis.execute_all(std::span{&one, 1});
  return answers[0].is_error() ? answers[0].error_text() : std::string{};
}

}  // namespace

TEST_CASE("every read is one for the server, and no command that may write is a read") {
  support::need_redis();
  const redis_server server;
  const client redis{server.url()};
  const auto all = flags_of_all(redis);
  REQUIRE(all.size() > 300);
  for (const auto& [name, flags] : all) {
    CAPTURE(name);
    if (!is_read(with_name(name))) continue;
    CHECK_FALSE(flags.contains("write"));
    if (name != "xread") CHECK_FALSE(flags.contains("blocking"));  // XREAD waits only with BLOCK
    if (!flags.contains("readonly")) CHECK(reads_without_keys.contains(name));
  }
}

TEST_CASE("every command that the server calls read-only is a read") {
  support::need_redis();
  const redis_server server;
  const client redis{server.url()};
  const std::string version = redis.execute("INFO", "server").str();
  if (version.find("redis_version:7.0.") == std::string::npos) SKIP("the list is that of Redis 7.0");
  for (const auto& [name, flags] : flags_of_all(redis)) {
    CAPTURE(name);
    if (flags.contains("readonly")) CHECK(is_read(with_name(name)));
  }
  for (const auto& [name, why] : reads_without_keys) {
    CAPTURE(name, why);
    CHECK(is_read(with_name(name)));
  }
}

TEST_CASE("a read-only script cannot publish") {
  support::need_redis();
  const redis_server server;
  const client redis{server.url()};
  CHECK_FALSE(error_of(redis, command{"EVAL_RO", "return redis.call('PUBLISH', 'c', 'm')", 0}).empty());
  CHECK_FALSE(error_of(redis, command{"EVAL_RO", "return redis.call('SET', KEYS[1], 'm')", 1, "k"}).empty());
}

TEST_CASE("writes to a replica may go elsewhere, a script that may have run may not") {
  support::need_redis();
  const redis_server server{{.arguments = {"--replicaof", "127.0.0.1 1"}}};
  const client redis{server.url()};
  const command set{"SET", "k", "v"};
  CHECK(judge(set, error_of(redis, set)) == reply_rule::reconnect_and_retry);
  const command script{"EVAL", "return redis.call('SET', KEYS[1], 'v')", 1, "k"};
  const std::string text = error_of(redis, script);
  CHECK(text.starts_with("READONLY"));
  CHECK(judge(script, text) == reply_rule::final);
}

TEST_CASE("a replica without its master is asked again later, scripts too") {
  support::need_redis();
  const redis_server server{{.arguments = {"--replicaof", "127.0.0.1 1"}}};
  const client redis{server.url()};
  redis.execute("CONFIG", "SET", "replica-serve-stale-data", "no");
  const command get{"GET", "k"};
  CHECK(judge(get, error_of(redis, get)) == reply_rule::retry_later);
  for (const std::string script :
       {"return redis.call('SET', KEYS[1], 'v')", "#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1])"}) {
    const command eval{"EVAL", script, 1, "k"};
    const std::string text = error_of(redis, eval);
    CAPTURE(script, text);
    CHECK(text.starts_with("MASTERDOWN"));
    CHECK(judge(eval, text) == reply_rule::retry_later);
  }
}

TEST_CASE("a server that refuses more clients ends the connection, not a command") {
  support::need_redis();
  const redis_server server{{.arguments = {"--maxclients", "1"}}};
  const client redis{server.url()};
  redis.execute("PING");
  const std::string text = support::ask(server, "PING");
  CHECK(text == "-ERR max number of clients reached");
  CHECK(detail::judge_connection(text.substr(1)) == detail::connection_rule::ends);
}

TEST_CASE("the words of a script's author are not those of the server") {
  support::need_redis();
  const redis_server server;
  const client redis{server.url()};
  const command script{"EVAL", "redis.call('INCR', KEYS[1]) return redis.error_reply('TRYAGAIN later')", 1, "k"};
  const std::string text = error_of(redis, script);
  CHECK(text == "TRYAGAIN later");
  CHECK(redis.execute("GET", "k").str() == "1");  // it wrote
  CHECK(judge(script, text) == reply_rule::final);
}
