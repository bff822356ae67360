// One client, many threads: their commands share a connection, and no tenant fills it alone.
#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/key_schema.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <iostream>
#include <string>
#include <vector>

using namespace std::chrono_literals;

inline constexpr tenantry::key_schema<"visits:{tenant}:page:{page}"> visits;

constexpr int threads_per_tenant = 8;
constexpr int visits_per_thread = 250;

void serve(const tenantry::client& redis, const tenantry::tenant_id& tenant) {
  const auto calls = redis.with({.timeout = 10s, .tenant = &tenant});  // the tenant outlives the calls
  for (int i = 0; i < visits_per_thread; ++i) calls.execute("INCR", visits(tenant, "home"));
}

int main(int argc, char** argv) try {
  auto options = tenantry::client_options::from_url(argc > 1 ? argv[1] : "redis://localhost:6379");
  options.bounds.queued = 2'000;      // commands that may wait to be written; more are refused as overloaded
  options.bounds.tenant_share = 0.5;  // and how many of these may be one tenant's: 1,000
  options.down = tenantry::when_down::wait;
  const tenantry::client redis{options};

  const tenantry::tenant_id acme{"acme"};
  const tenantry::tenant_id globex{"globex"};
  redis.execute("DEL", visits(acme, "home"));
  redis.execute("DEL", visits(globex, "home"));

  std::vector<std::future<void>> threads;
  for (int i = 0; i < threads_per_tenant; ++i) {
    threads.push_back(std::async(std::launch::async, serve, std::cref(redis), std::cref(acme)));
    threads.push_back(std::async(std::launch::async, serve, std::cref(redis), std::cref(globex)));
  }
  for (auto& each : threads) each.get();

  const auto reads = redis.with({.timeout = 10s, .retry = tenantry::retry::reads, .down = tenantry::when_down::fail});
  const std::string counted = reads.execute("GET", visits(acme, "home")).str();
  std::cout << "acme was visited " << counted << " times\n";

  for (const tenantry::lane_metrics& lane : redis.metrics().lanes) {
    std::cout << lane.name << ": " << lane.commands << " commands in " << lane.writes << " writes and " << lane.reads
              << " reads; 99% answered within "
              << std::chrono::duration_cast<std::chrono::microseconds>(lane.round_trip.quantile(0.99)).count()
              << " us\n";
  }
  return counted == std::to_string(threads_per_tenant * visits_per_thread) ? 0 : 1;
} catch (const tenantry::error& failure) {
  std::cerr << to_string(failure.code()) << ": " << failure.what() << '\n';
  return 1;
}
