// A near cache: a dashboard's figures that are read thousands of times a second, from the memory of the process.
#include "schemas.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/json_codec.hpp>

#include <chrono>
#include <cstddef>
#include <iostream>
#include <memory>
#include <thread>

using namespace std::chrono_literals;
using schemas::portfolio_kpi;

struct kpi {
  int units = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(kpi, units)

struct database {
  int units = 480;

  [[nodiscard]] kpi compute() const { return {.units = units}; }
};

/// Until it is so, or for ten seconds.
template <class Condition>
bool eventually(const Condition& holds) {
  const auto limit = std::chrono::steady_clock::now() + 10s;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

bool reads(tenantry::cache<kpi>& kpis, const tenantry::key& k) {
  // The first fetch computes the value, the second one reads it from Redis, which tells of its changes from then on.
  if (!eventually([&] { return kpis.fetch(k).source() == tenantry::source::near; })) return false;

  std::size_t units = 0;
  for (int i = 0; i < 10'000; ++i) {
    const tenantry::cached<kpi> hit = kpis.fetch(k);  // nothing is sent, parsed or copied
    units += static_cast<std::size_t>(hit->units);
  }
  const std::shared_ptr<const kpi> kept = kpis.fetch(k).shared();  // for longer than the call: it is immutable
  return units == 4'800'000 && kept->units == 480;
}

bool changes(tenantry::cache<kpi>& kpis, tenantry::cache<kpi>& elsewhere, const tenantry::key& k, database& db) {
  db.units = 500;           // and committed
  elsewhere.invalidate(k);  // another client: here it has left the memory when this returns
  const bool fresh = kpis.fetch(k)->units == 500;
  const bool again = eventually([&] { return kpis.fetch(k).source() == tenantry::source::near; });

  const tenantry::near_stats now = kpis.near_stats();
  std::cout << now.hits << " hits from memory; values there: " << now.values << ", bytes: " << now.bytes << '\n';
  if (!now.tracking) std::cout << "the server tells of no changes: nothing is kept\n";
  return fresh && again && now.hits > 10'000;
}

int main(int argc, char** argv) try {
  const char* const where = argc > 1 ? argv[1] : "redis://localhost:6379";
  database db;
  const tenantry::client redis{where};
  tenantry::cache<kpi> kpis{
      redis,
      {.ttl = 5min, .near = tenantry::near_options{.max_bytes = std::size_t{64} << 20U, .max_age = 10s}},
      [&db](const tenantry::key&) { return db.compute(); }};

  const tenantry::client other{where};
  tenantry::cache<kpi> elsewhere{other, {.ttl = 5min}};
  const tenantry::key k = portfolio_kpi(tenantry::tenant_id{"acme"});
  elsewhere.invalidate(k);
  return reads(kpis, k) && changes(kpis, elsewhere, k, db) ? 0 : 1;
} catch (const tenantry::error& failure) {
  std::cerr << to_string(failure.code()) << ": " << failure.what() << '\n';
  return 1;
}
