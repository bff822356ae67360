// Limits for requests: one, several at once, the answer to a client, and jobs that wait for their turn.
#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/rate_limiter.hpp>
#include <tenantry/task.hpp>

#include <chrono>
#include <iostream>
#include <string>

using namespace std::chrono_literals;

struct response {
  int status = 200;
  std::string text;
};

response too_many_requests(const tenantry::decision& d) {
  response answer{.status = 429, .text = {}};
  for (const auto& [name, value] : d.headers()) answer.text.append(name).append(": ").append(value).append("\n");
  return answer;
}

response serve(tenantry::rate_limiter& limiter, const tenantry::tenant_id& tenant) {
  const tenantry::decision d =
      limiter.acquire(tenant, "/api/readings/{unit}");  // the route, not the path of the request
  if (!d) return too_many_requests(d);                  // 429 and Retry-After
  return {.text = std::to_string(d.remaining) + " left"};
}

tenantry::task<bool> export_all(tenantry::rate_limiter& limiter, tenantry::tenant_id tenant) {
  const tenantry::decision d = co_await limiter.async_acquire_up_to(tenant, "/export", 50);  // as many as there are
  const auto unused = d.granted - 10;
  const tenantry::decision back = co_await limiter.async_refund(tenant, "/export", unused);
  co_return back.granted == unused;
}

/// A job that has time, unlike a request.
bool run_in_turn(tenantry::rate_limiter& limiter, const tenantry::tenant_id& tenant) {
  const tenantry::decision d = limiter.wait(tenant, "/report", 30s);  // in the order of coming
  return d.allowed;
}

int main(int argc, char** argv) try {
  const tenantry::client redis{argc > 1 ? argv[1] : "redis://localhost:6379"};
  const tenantry::tenant_id acme{"acme"};

  tenantry::rate_limiter limiter{redis, tenantry::on_failure::fail_open, {.limit = 3, .window = 60s}};
  limiter.reset(acme, "/api/readings/{unit}");
  for (int i = 0; i < 3; ++i) std::cout << serve(limiter, acme).text << '\n';
  const response refused = serve(limiter, acme);
  std::cout << refused.status << '\n' << refused.text;

  tenantry::rate_limiter both{
      redis, tenantry::on_failure::insurance(3), {{.limit = 20, .window = 1s}, {.limit = 1000, .window = 1h}}};
  const tenantry::decision d = both.acquire(acme, "/api/kpi", 5);  // charges both, or neither
  for (const auto& [name, value] : d.headers(tenantry::header_style::ietf)) std::cout << name << ": " << value << '\n';

  tenantry::rate_limiter exports{redis, tenantry::on_failure::fail_closed, {.limit = 100, .window = 24h}};
  exports.reset(acme, "/export");
  const bool given_back = sync_wait(export_all(exports, acme));

  tenantry::rate_limiter hot{redis,
                             tenantry::on_failure::fail_open,
                             {.limit = 2000, .window = 1s},
                             {.grants = tenantry::grant_options{.share = 0.1, .life = 50ms}}};
  bool admitted = true;
  for (int i = 0; i < 100; ++i) admitted = hot.acquire(acme, "/hot").allowed && admitted;
  std::cout << hot.counters().grant.allowed << " of 100 without a round trip\n";

  tenantry::rate_limiter reports{redis, tenantry::on_failure::fail_closed, {.limit = 2, .window = 100ms}};
  bool in_turn = true;
  for (int i = 0; i < 5; ++i) in_turn = run_in_turn(reports, acme) && in_turn;
  return refused.status == 429 && d && given_back && admitted && in_turn ? 0 : 1;
} catch (const tenantry::error& failure) {
  std::cerr << to_string(failure.code()) << ": " << failure.what() << '\n';
  return 1;
}
