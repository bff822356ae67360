// At most so many of a tenant at work at once, in all processes together: permits, and what frees them.
#include <tenantry/client.hpp>
#include <tenantry/concurrency_limiter.hpp>
#include <tenantry/error.hpp>
#include <tenantry/task.hpp>

#include <chrono>
#include <iostream>

using namespace std::chrono_literals;

bool write_export(const tenantry::permit& held) {
  for (int part = 0; part < 3; ++part) {
    if (held.lost()) return false;  // another one may have its place: stop
    std::cout << "part " << part << '\n';
  }
  return true;
}

tenantry::task<bool> export_later(tenantry::concurrency_limiter& exports, tenantry::tenant_id tenant) {
  tenantry::permit p = co_await exports.async_acquire(tenant, "exports");
  const bool done = p && write_export(p);
  co_await p.async_release();  // or by its destructor, which does not block either
  co_return done;
}

int main(int argc, char** argv) try {
  const tenantry::client redis{argc > 1 ? argv[1] : "redis://localhost:6379"};
  const tenantry::tenant_id acme{"acme"};

  tenantry::concurrency_limiter exports{redis, tenantry::on_failure::insurance(3), {.limit = 2, .lease = 10s}};
  bool refused = false;
  bool done = false;
  if (const tenantry::permit p = exports.acquire(acme, "exports")) {  // one of two; given back at the end of the block
    const tenantry::permit second = exports.acquire(acme, "exports");
    const tenantry::permit third = exports.acquire(acme, "exports");
    std::cout << third.in_use() << " of " << third.limit() << " are in use\n";
    refused = second && !third;
    done = write_export(p);
  }
  const bool later = sync_wait(export_later(exports, acme));
  return refused && done && later && exports.in_use(acme, "exports") == 0 ? 0 : 1;
} catch (const tenantry::error& failure) {
  std::cerr << to_string(failure.code()) << ": " << failure.what() << '\n';
  return 1;
}
