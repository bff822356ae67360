// A tenant has left: how much is there, delete it without haste, and nothing of anybody else.
#include "schemas.hpp"

#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/invalidator.hpp>

#include <cstdint>
#include <iostream>
#include <stop_token>

using schemas::gateway_health;
using schemas::portfolio_kpi;
using schemas::reading_monthly;

tenantry::task<std::uint64_t> readings_of_unit(const tenantry::invalidator& inv, const tenantry::tenant_id& tenant) {
  const tenantry::sweep_report swept = co_await inv.async_sweep(reading_monthly.all(tenant, "unit-7"));
  co_return swept.deleted;
}

int main(int argc, char** argv) try {
  const tenantry::client redis{argc > 1 ? argv[1] : "redis://localhost:6379"};
  const tenantry::tenant_id acme{"acme"};
  const tenantry::tenant_id globex{"globex"};
  for (const tenantry::tenant_id& tenant : {acme, globex}) {
    redis.execute("SET", portfolio_kpi(tenant), "{}");
    for (int month = 1; month <= 12; ++month)
      redis.execute("SET", reading_monthly(tenant, "unit-7", 2026, month), "17.5");
    for (int gateway = 0; gateway < 500; ++gateway) redis.execute("SET", gateway_health(tenant, gateway), "up");
  }

  const tenantry::invalidator inv{redis, tenantry::catalog{portfolio_kpi, gateway_health, reading_monthly}};

  const auto there =
      inv.sweep(acme, {.action = tenantry::sweep_action::count, .bytes = tenantry::sweep_bytes::measured});
  std::cout << there.matched << " of " << there.total << " keys, " << there.bytes.value_or(0) << " bytes\n";

  const auto readings = sync_wait(readings_of_unit(inv, acme));  // of one unit only

  const auto tell = [](const tenantry::sweep_report& now) {
    std::cout << now.scanned << " of " << now.total << ", deleted " << now.deleted << '\n';
  };
  std::stop_source stop;  // a shutdown may trigger it
  const auto done = inv.sweep(acme, {.on_progress = tell, .keys_per_second = 20'000, .stop = stop.get_token()});
  if (!done.complete) std::cout << "stopped; sweep again later\n";

  const auto others = inv.sweep(globex);  // nothing of them is missing
  return readings == 12 && done.deleted == 501 && others.deleted == 513 ? 0 : 1;
} catch (const tenantry::error& failure) {  // what was deleted until then stays so, and the same sweep can be repeated
  std::cerr << to_string(failure.code()) << ": " << failure.what() << '\n';
  return 1;
}
