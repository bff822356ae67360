// A connection for one caller alone: workers that block in BLPOP, and WATCH, MULTI, EXEC.
#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/exclusive_connection.hpp>
#include <tenantry/key_schema.hpp>
#include <tenantry/task.hpp>

#include <chrono>
#include <future>
#include <iostream>
#include <string>
#include <vector>

using namespace std::chrono_literals;

inline constexpr tenantry::key_schema<"jobs:{tenant}:pdf"> pdf_jobs;
inline constexpr tenantry::key_schema<"seats:{tenant}:plan:{plan}"> seats;

/// Works until a job says "enough". Returns the number of jobs before it.
int work(const tenantry::client& redis, const tenantry::key& jobs) {
  tenantry::exclusive_connection own = redis.exclusive();
  for (int done = 0;;) {
    const tenantry::reply job = own.execute_for(30s, "BLPOP", jobs, 25);  // the server answers first: nil after 25 s
    if (job.is_nil()) continue;
    if (job[1].str() == "enough") return done;
    ++done;
  }
}

/// The same as a coroutine: while it waits it has a connection, but no thread.
tenantry::task<int> async_work(const tenantry::client& redis, const tenantry::key& jobs) {
  tenantry::async_exclusive_connection own = redis.async_exclusive();
  for (int done = 0;;) {
    const tenantry::reply job = co_await own.async_execute_for(30s, "BLPOP", jobs, 25);
    if (job.is_nil()) continue;
    if (job[1].str() == "enough") co_return done;
    ++done;
  }
}

/// Takes a seat if one is left, whoever else takes seats meanwhile.
bool take_seat(const tenantry::client& redis, const tenantry::key& plan) {
  tenantry::exclusive_connection own = redis.exclusive();
  for (;;) {
    own.execute("WATCH", plan);
    const tenantry::reply left = own.execute("GET", plan);
    if (left.is_nil() || left.str() == "0") return false;  // it is closed, and not given back, with its WATCH open
    const auto replies = own.execute_all(
        {tenantry::command{"MULTI"}, tenantry::command{"DECR", plan}, tenantry::command{"EXEC"}});  // one round trip
    const tenantry::reply& result = replies.back();
    if (result.is_error()) throw tenantry::server_error{"EXEC", result.error_text()};
    if (!result.is_nil()) return true;  // nil: somebody else was faster
  }
}

int main(int argc, char** argv) try {
  auto options = tenantry::client_options::from_url(argc > 1 ? argv[1] : "redis://localhost:6379");
  options.timeout = 10s;
  const tenantry::client redis{options};
  const tenantry::tenant_id acme{"acme"};
  const tenantry::key jobs = pdf_jobs(acme);
  const tenantry::key plan = seats(acme, "team");

  redis.execute("DEL", jobs);
  auto worker = std::async(std::launch::async, [&] { return work(redis, jobs); });
  redis.execute("RPUSH", jobs, "settlement-9", "settlement-10", "enough");
  int done = worker.get();
  redis.execute("RPUSH", jobs, "settlement-11", "enough");
  done += sync_wait(async_work(redis, jobs));
  std::cout << done << " jobs done\n";

  redis.execute("SET", plan, 5);
  std::vector<std::future<bool>> people;
  people.reserve(8);
  for (int i = 0; i < 8; ++i) people.push_back(std::async(std::launch::async, [&] { return take_seat(redis, plan); }));
  int seated = 0;
  for (auto& each : people) seated += each.get() ? 1 : 0;
  std::cout << seated << " of 8 have a seat\n";
  return done == 3 && seated == 5 ? 0 : 1;
} catch (const tenantry::error& failure) {
  std::cerr << to_string(failure.code()) << ": " << failure.what() << '\n';
  return 1;
}
