// Commands, pipelines, scripts, deadlines and what errors say.
#include <tenantry/client.hpp>
#include <tenantry/error.hpp>

#include <chrono>
#include <iostream>
#include <stop_token>
#include <string>

using namespace std::chrono_literals;

int main(int argc, char** argv) try {
  tenantry::client redis{argc > 1 ? argv[1] : "redis://localhost:6379"};

  redis.execute("SET", "greeting", "hello", "PX", 300'000);
  std::cout << redis.execute("GET", "greeting").str() << '\n';

  auto replies = redis.execute_all({tenantry::command{"INCR", "a"}, tenantry::command{"INCR", "b"}});  // one round trip
  std::cout << replies[0].integer() + replies[1].integer() << '\n';

  const tenantry::script sum{"return redis.call('INCRBY', KEYS[1], ARGV[1])"};
  std::cout << redis.eval(sum, {"a"}, {"10"}).integer() << '\n';  // EVALSHA, or EVAL once

  std::stop_source stop;
  auto hurried = redis.with({.timeout = 50ms, .stop = stop.get_token()});
  try {
    hurried.execute("LPUSH", "greeting", "x");
  } catch (const tenantry::server_error& refusal) {
    std::cout << to_string(refusal.code()) << ", " << to_string(refusal.execution()) << ": " << refusal.server_text()
              << '\n';
  }
  redis.close(5s);
} catch (const tenantry::error& failure) {
  std::cerr << to_string(failure.code()) << ": " << failure.what() << '\n';
  return 1;
}
