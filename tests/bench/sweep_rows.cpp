// What it takes to get the memory of one tenant back, and what that costs another one meanwhile.

#include "bench.hpp"
#include "raw_redis.hpp"

#include <tenantry/catalog.hpp>
#include <tenantry/client.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/key_schema.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace bench {

namespace {

inline constexpr tenantry::key_schema<"readings:{tenant}:monthly:{unit}:{year}:{month:02}"> reading;

constexpr std::size_t all_keys = 1'000'000;
constexpr std::size_t tenants = 10;
constexpr std::size_t keys_of_one = all_keys / tenants;

/// A server of its own with a million keys, started by the first round: other rows do not pay for it.
class crowded_server {
 public:
  /// All keys of all tenants. Only those of one are missing from the second time on.
  void fill() {
    if (!server_) {
      server_ = std::make_unique<tenantry::testing::redis_server>();
      redis_ = std::make_unique<tenantry::client>(server_->url());
      raw_ = std::make_unique<raw_redis>(server_->port());
      for (std::size_t i = 1; i < tenants; ++i) fill(tenant(i));
    }
    fill(tenant(0));
  }

  void sweep() const {
    const tenantry::invalidator inv{*redis_, tenantry::catalog{reading}};
    expect(inv.sweep(tenant(0)).deleted);
  }
  void invalidate() const {
    const tenantry::invalidator inv{*redis_, tenantry::catalog{reading}};
    inv.invalidate(tenant(0));
  }
  void scan_and_delete() const { expect(raw_->scan_and_delete("*:" + tenant(0).str() + ":*")); }

  /// A value of a tenant who is not swept.
  void get() const { keep(redis_->execute("GET", one_of_another_)); }

 private:
  static tenantry::tenant_id tenant(std::size_t number) {
    return tenantry::tenant_id{"tenant-" + std::to_string(number)};
  }
  static void expect(std::uint64_t deleted) {
    if (deleted != keys_of_one) throw std::runtime_error{"a sweep deleted " + std::to_string(deleted) + " keys"};
  }
  void fill(const tenantry::tenant_id& whose) const {
    const std::string value(64, 'v');
    std::vector<tenantry::command> batch;
    for (std::size_t i = 1; i <= keys_of_one; ++i) {
      batch.emplace_back("SET", reading(whose, "unit-" + std::to_string(i / 12), 2026, i % 12 + 1), value);
      if (i % 1000 != 0) continue;
      keep(redis_->execute_all(batch));
      batch.clear();
    }
  }

  std::unique_ptr<tenantry::testing::redis_server> server_;
  std::unique_ptr<tenantry::client> redis_;
  std::unique_ptr<raw_redis> raw_;
  tenantry::key one_of_another_ = reading(tenant(1), "unit-7", 2026, 3);
};

/// How long each GET of one tenant takes.
class other_tenant {
 public:
  explicit other_tenant(const crowded_server& on) : on_{on} {}

  template <class Done>
  void get_until(Done done) {
    while (!done()) {
      const auto begin = std::chrono::steady_clock::now();
      on_.get();
      latencies_.push_back(std::chrono::duration<float, std::micro>(std::chrono::steady_clock::now() - begin).count());
    }
  }
  double p99() { return bench::p99(std::exchange(latencies_, {})); }

 private:
  const crowded_server& on_;
  std::vector<float> latencies_;
};

}  // namespace

void add_sweep_rows(std::vector<row>& rows) {
  struct fixture {
    void get_during_sweep() {
      std::atomic<bool> over = false;
      std::exception_ptr fault;
      std::jthread sweeper{[&] {
        try {
          server.sweep();
        } catch (...) {
          fault = std::current_exception();
        }
        over = true;
      }};
      other.get_until([&] { return over.load(); });
      sweeper.join();
      if (fault) std::rethrow_exception(fault);
    }
    void get_for_a_second() {
      const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{1};
      other.get_until([end] { return std::chrono::steady_clock::now() >= end; });
    }

    crowded_server server;
    other_tenant other{server};
  };
  auto on = std::make_shared<fixture>();
  const auto fill = [on] { on->server.fill(); };
  rows.push_back({.name = "sweep",
                  .unit = "key/s",
                  .baseline_name = "SCAN 100, DEL",
                  .ours = [on](std::size_t) { on->server.sweep(); },
                  .baseline = [on](std::size_t) { on->server.scan_and_delete(); },
                  .prepare = fill,
                  .done_at_once = keys_of_one});
  rows.push_back({.name = "invalidate_tenant",
                  .unit = "key/s",
                  .baseline_name = "SCAN 100, DEL",
                  .ours = [on](std::size_t) { on->server.invalidate(); },
                  .baseline = [on](std::size_t) { on->server.scan_and_delete(); },
                  .prepare = fill,
                  .done_at_once = keys_of_one});
  rows.push_back({.name = "sweep_p99",
                  .unit = "us",
                  .baseline_name = "no sweep",
                  .higher_is_better = false,
                  .ours = [on](std::size_t) { on->get_during_sweep(); },
                  .baseline = [on](std::size_t) { on->get_for_a_second(); },
                  .ours_figure = [on] { return on->other.p99(); },
                  .baseline_figure = [on] { return on->other.p99(); },
                  .prepare = fill});
}

}  // namespace bench
