#pragma once
// The routes: what a request is answered with.

#include "alarm_stream.hpp"
#include "http.hpp"
#include "logins.hpp"
#include "services.hpp"
#include "telemetry.hpp"

#include <tenantry/cached.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace gateway {

struct api_options {
  std::string instance;
  bool demo_logins = false;             // gives away all tokens
  std::chrono::seconds keep_alive{15};  // of streams
  std::function<bool()> mqtt_connected = [] { return true; };
  std::function<void(metrics_page&)> more_metrics = [](metrics_page&) {};
};

inline constexpr std::array sources{tenantry::source::computed, tenantry::source::redis, tenantry::source::stale,
                                    tenantry::source::near};

/// Threads: `serve` from any; it runs on the client's executor.
class api {
 public:
  api(services& of, const logins& who, const event_lines& lines, api_options how);

  [[nodiscard]] tenantry::task<answer> serve(request what);

 private:
  tenantry::task<answer> route(const request& what);
  tenantry::task<answer> for_tenant(const request& what, const tenantry::tenant_id& tenant);
  tenantry::task<response> portfolio(const tenantry::tenant_id& tenant);
  tenantry::task<response> readings(const tenantry::tenant_id& tenant, std::string unit, std::string year,
                                    std::string month);
  tenantry::task<response> health_of(const tenantry::tenant_id& tenant, std::string gateway);
  tenantry::task<response> settlement(const tenantry::tenant_id& tenant, std::string id);
  tenantry::task<response> add_property(const tenantry::tenant_id& tenant, const std::string& body);
  [[nodiscard]] response stats() const;
  [[nodiscard]] std::string metrics() const;
  tenantry::task<response> is_healthy();

  template <class T>
  response value_of(const tenantry::cached<T>& hit);
  void count(tenantry::source from) noexcept;

  services& of_;
  const logins& who_;
  const event_lines& lines_;
  const api_options how_;
  stream_counters streams_;
  latency latency_;
  std::array<std::atomic<std::uint64_t>, sources.size()> by_source_{};
  std::array<std::atomic<std::uint64_t>, 6> by_status_{};  // by hundreds
  std::atomic<std::uint64_t> limited_{0};
};

}  // namespace gateway
