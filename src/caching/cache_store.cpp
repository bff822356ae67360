#include <tenantry/detail/cache_store.hpp>
#include <tenantry/detail/ttl.hpp>
#include <tenantry/error.hpp>

#include <algorithm>
#include <utility>

namespace tenantry::detail {

namespace {

/// Redis adds the time of day to a time to live, and refuses what overflows.
constexpr std::chrono::milliseconds longest_ttl = std::chrono::years{100};

const cache_options& checked(const cache_options& options) {
  using namespace std::chrono_literals;
  if (options.ttl < 1ms) throw invalid_option{"cache_options.ttl is less than 1 ms"};
  if (options.ttl > longest_ttl) throw invalid_option{"cache_options.ttl is more than 100 years"};
  if (!(options.jitter >= 0.0 && options.jitter < 1.0)) {
    throw invalid_option{"cache_options.jitter is not from 0 to below 1"};
  }
  if (options.redis_timeout && *options.redis_timeout < 1ms) {
    throw invalid_option{"cache_options.redis_timeout is less than 1 ms"};
  }
  return options;
}

}  // namespace

cache_store::cache_store(const client& redis, const cache_options& options)
    : redis_{redis.with({.timeout = checked(options).redis_timeout, .stop = {}})}, options_{options} {}

std::optional<std::string> cache_store::read(const key& k) {
  try {
    reply found = redis_.execute("GET", k);
    if (found.is_nil()) return std::nullopt;
    return std::move(found).str();
  } catch (const error& fault) {
    if (fault.code() == errc::wrong_type) {
      count(cache_event::wrong_type);
      return std::nullopt;
    }
    count(cache_event::read_failure);
    throw;
  }
}

void cache_store::write(const key& k, const std::string& bytes, std::chrono::milliseconds ttl) {
  const auto life = jittered(std::min(ttl, longest_ttl), options_.jitter, options_.jitter > 0 ? random_unit() : 0.0);
  try {
    redis_.execute("SET", k, bytes, "PX", life.count());
  } catch (const error&) {
    count(cache_event::store_failure);
    throw;
  }
  count(cache_event::store);
}

void cache_store::remove(const key& k) { redis_.execute("UNLINK", k); }

cache_stats cache_store::stats() const noexcept {
  const auto value = [this](cache_event what) {
    return counters_[static_cast<std::size_t>(what)].load(std::memory_order_relaxed);
  };
  return {.hits = value(cache_event::hit),
          .misses = value(cache_event::miss),
          .undecodable = value(cache_event::undecodable),
          .wrong_type = value(cache_event::wrong_type),
          .read_failures = value(cache_event::read_failure),
          .loads = value(cache_event::load),
          .load_failures = value(cache_event::load_failure),
          .waits = value(cache_event::wait),
          .stores = value(cache_event::store),
          .store_failures = value(cache_event::store_failure),
          .encode_failures = value(cache_event::encode_failure),
          .fenced = value(cache_event::fenced)};
}

}  // namespace tenantry::detail
