// Work that is shared: each event of a log is handled by one consumer of a group.
#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/json_codec.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/tenant.hpp>

#include <atomic>
#include <chrono>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>

using namespace std::chrono_literals;

inline constexpr tenantry::channel_schema<"alarms:{tenant}"> alarms;

struct alarm_event {
  std::string gateway;
  int level = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(alarm_event, gateway, level)

std::atomic<int> sent = 0;

void send_mail(const alarm_event& about, std::string_view message_id) {
  if (about.gateway.empty()) throw std::invalid_argument{"an alarm of nobody"};
  std::cout << (std::string{message_id} + ": " + about.gateway + '\n');
  ++sent;
}

int main(int argc, char** argv) try {
  const tenantry::client redis{argc > 1 ? argv[1] : "redis://localhost:6379"};
  const tenantry::tenant_id acme{"acme"};
  const tenantry::event_log<alarm_event> log{redis, alarms, {.keep = 10'000}};
  tenantry::subscriber sub{redis};

  auto mailer = log.consume(
      sub, acme, "mailer",
      [](const tenantry::work<alarm_event>& w) {
        send_mail(w.value, w.id());  // the id is the same in every attempt: the mail server knows what it had
      },
      {.max_attempts = 3, .retry_after = 100ms, .claim_after = 30s});
  std::thread worker{[&] { mailer.run(); }};  // or in a coroutine: co_await mailer.async_run()

  log.append(acme, {.gateway = "gw-7", .level = 3});
  log.append(acme, {.gateway = "", .level = 1});
  log.append(acme, {.gateway = "gw-8", .level = 2});
  for (int i = 0; i < 2000 && mailer.counters().dead == 0; ++i) std::this_thread::sleep_for(5ms);
  mailer.stop();  // when the handler has returned
  worker.join();

  int dead = 0;
  for (const tenantry::dead_letter& letter : log.dead_letters(acme, "mailer")) {
    std::cout << letter.payload << ": " << letter.why << '\n';  // after so many attempts
    log.remove_dead_letter(acme, "mailer", letter);
    ++dead;
  }
  return sent == 2 && dead == 1 ? 0 : 1;
} catch (const tenantry::error& failure) {
  std::cerr << to_string(failure.code()) << ": " << failure.what() << '\n';
  return 1;
}
