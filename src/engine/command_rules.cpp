#include "engine/command_rules.hpp"

#include "engine/command_words.hpp"
#include "engine/jitter.hpp"

#include <algorithm>
#include <array>

namespace tenantry::detail {

namespace {

using namespace std::string_view_literals;

// All three lists are sorted.
constexpr std::array reads{"ACL WHOAMI"sv,
                           "BITCOUNT"sv,
                           "BITFIELD_RO"sv,
                           "BITPOS"sv,
                           "CLIENT GETNAME"sv,
                           "CLIENT ID"sv,
                           "CLIENT INFO"sv,
                           "CLIENT LIST"sv,
                           "COMMAND COUNT"sv,
                           "COMMAND DOCS"sv,
                           "COMMAND GETKEYS"sv,
                           "COMMAND GETKEYSANDFLAGS"sv,
                           "COMMAND INFO"sv,
                           "COMMAND LIST"sv,
                           "CONFIG GET"sv,
                           "DBSIZE"sv,
                           "DUMP"sv,
                           "ECHO"sv,
                           "EVALSHA_RO"sv,
                           "EVAL_RO"sv,
                           "EXISTS"sv,
                           "EXPIRETIME"sv,
                           "FCALL_RO"sv,
                           "GEODIST"sv,
                           "GEOHASH"sv,
                           "GEOPOS"sv,
                           "GEORADIUSBYMEMBER_RO"sv,
                           "GEORADIUS_RO"sv,
                           "GEOSEARCH"sv,
                           "GET"sv,
                           "GETBIT"sv,
                           "GETRANGE"sv,
                           "HEXISTS"sv,
                           "HGET"sv,
                           "HGETALL"sv,
                           "HKEYS"sv,
                           "HLEN"sv,
                           "HMGET"sv,
                           "HRANDFIELD"sv,
                           "HSCAN"sv,
                           "HSTRLEN"sv,
                           "HVALS"sv,
                           "INFO"sv,
                           "KEYS"sv,
                           "LASTSAVE"sv,
                           "LCS"sv,
                           "LINDEX"sv,
                           "LLEN"sv,
                           "LOLWUT"sv,
                           "LPOS"sv,
                           "LRANGE"sv,
                           "MEMORY USAGE"sv,
                           "MGET"sv,
                           "OBJECT ENCODING"sv,
                           "OBJECT FREQ"sv,
                           "OBJECT IDLETIME"sv,
                           "OBJECT REFCOUNT"sv,
                           "PEXPIRETIME"sv,
                           "PFCOUNT"sv,
                           "PING"sv,
                           "PTTL"sv,
                           "PUBSUB CHANNELS"sv,
                           "PUBSUB NUMPAT"sv,
                           "PUBSUB NUMSUB"sv,
                           "PUBSUB SHARDCHANNELS"sv,
                           "PUBSUB SHARDNUMSUB"sv,
                           "RANDOMKEY"sv,
                           "ROLE"sv,
                           "SCAN"sv,
                           "SCARD"sv,
                           "SCRIPT EXISTS"sv,
                           "SDIFF"sv,
                           "SINTER"sv,
                           "SINTERCARD"sv,
                           "SISMEMBER"sv,
                           "SMEMBERS"sv,
                           "SMISMEMBER"sv,
                           "SORT_RO"sv,
                           "SRANDMEMBER"sv,
                           "SSCAN"sv,
                           "STRLEN"sv,
                           "SUBSTR"sv,
                           "SUNION"sv,
                           "TIME"sv,
                           "TOUCH"sv,
                           "TTL"sv,
                           "TYPE"sv,
                           "XINFO CONSUMERS"sv,
                           "XINFO GROUPS"sv,
                           "XINFO STREAM"sv,
                           "XLEN"sv,
                           "XPENDING"sv,
                           "XRANGE"sv,
                           "XREAD"sv,
                           "XREVRANGE"sv,
                           "ZCARD"sv,
                           "ZCOUNT"sv,
                           "ZDIFF"sv,
                           "ZINTER"sv,
                           "ZINTERCARD"sv,
                           "ZLEXCOUNT"sv,
                           "ZMSCORE"sv,
                           "ZRANDMEMBER"sv,
                           "ZRANGE"sv,
                           "ZRANGEBYLEX"sv,
                           "ZRANGEBYSCORE"sv,
                           "ZRANK"sv,
                           "ZREVRANGE"sv,
                           "ZREVRANGEBYLEX"sv,
                           "ZREVRANGEBYSCORE"sv,
                           "ZREVRANK"sv,
                           "ZSCAN"sv,
                           "ZSCORE"sv,
                           "ZUNION"sv};
constexpr std::array for_now{"CLUSTERDOWN"sv, "LOADING"sv, "MASTERDOWN"sv, "TRYAGAIN"sv};
// Redis 7.0 and Valkey 8, word by word.
constexpr std::array before_scripts{
    "CLUSTERDOWN Hash slot not served"sv,
    "CLUSTERDOWN The cluster is down"sv,
    "CLUSTERDOWN The cluster is down and only accepts read commands"sv,
    "LOADING Redis is loading the dataset in memory"sv,
    "LOADING Valkey is loading the dataset in memory"sv,
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."sv,
    "MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and 'allow-stale' flag is not set on the script."sv,
    "TRYAGAIN Multiple keys request during rehashing of slot"sv};

/// True for commands that run other commands, and may have written before one of these failed.
bool may_have_written(const command& sent) {
  const upper_words name{sent.name()};
  return !is_read(sent) && (name.str().starts_with("EVAL") || name.str().starts_with("FCALL") || name.str() == "EXEC");
}

}  // namespace

static_assert(std::ranges::is_sorted(reads) && std::ranges::is_sorted(for_now) &&
              std::ranges::is_sorted(before_scripts));

bool is_read(const command& one) {
  if (std::ranges::binary_search(reads, upper_words{one.name()}.str())) return !waits_for_entries(one);
  const upper_words both{one.name(), one.first_argument()};
  return std::ranges::binary_search(reads, both.str());
}

connection_rule judge_connection(std::string_view error_text) {
  if (error_text.starts_with("ERR Protocol error") || error_text.starts_with("ERR max number of clients")) {
    return connection_rule::ends;
  }
  const std::string_view word = error_text.substr(0, error_text.find(' '));
  return word == "READONLY" || word == "NOAUTH" ? connection_rule::retires : connection_rule::stays;
}

reply_rule judge(const command& sent, std::string_view error_text) {
  const std::string_view word = error_text.substr(0, error_text.find(' '));
  if (std::ranges::binary_search(for_now, word)) {
    const bool rejected = !may_have_written(sent) || std::ranges::binary_search(before_scripts, error_text);
    return rejected ? reply_rule::retry_later : reply_rule::final;
  }
  if (word == "READONLY" && !may_have_written(sent)) return reply_rule::reconnect_and_retry;
  return reply_rule::final;
}

std::chrono::milliseconds retry_delay(int attempt, double random01) noexcept {
  constexpr std::chrono::milliseconds shortest{10};
  constexpr std::chrono::milliseconds longest{500};
  return between(shortest, doubled(2 * shortest, attempt, longest), random01);
}

}  // namespace tenantry::detail
