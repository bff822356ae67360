// The gateway: MQTT in, dashboards and alarms out. See docs/gateway.md; ./dev demo starts it with all that it needs.

#include "api.hpp"
#include "http.hpp"
#include "ingest.hpp"
#include "logins.hpp"
#include "mqtt.hpp"
#include "options.hpp"
#include "payloads.hpp"
#include "services.hpp"
#include "store.hpp"
#include "telemetry.hpp"

#include <tenantry/client.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/observer.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

/// What this program publishes is alarms.
std::string_view named(std::string_view event) noexcept {
  if (event == tenantry::events::published) return "alarm_published";
  if (event == tenantry::events::decode_error) return "alarm_json_decode_error";
  return event;
}

/// Streams and requests get a moment to end; then the loop is left.
void end_when_idle(asio::io_context& loop, const gateway::http_server& server, asio::steady_timer& timer, int looks) {
  if (server.busy() == 0 || looks == 0) {
    loop.stop();
    return;
  }
  timer.expires_after(20ms);
  timer.async_wait([&loop, &server, &timer, looks](const boost::system::error_code&) {
    end_when_idle(loop, server, timer, looks - 1);
  });
}

void show(const gateway::ingest_counters& all, gateway::metrics_page& page) {
  const auto counter = [&page](std::string_view name, std::string_view help, std::uint64_t value) {
    page.counter(name, help).add(static_cast<double>(value));
  };
  counter("gateway_mqtt_messages_total", "Messages of gateways.", all.received);
  page.counter("gateway_mqtt_refused_total", "Messages of gateways that were refused.");
  for (std::size_t i = 0; i < gateway::refusals.size(); ++i) {
    page.add(static_cast<double>(all.refused[i]), {{"reason", to_string(gateway::refusals[i])}});
  }
  counter("gateway_readings_total", "Readings that were not there before.", all.new_readings);
  counter("gateway_readings_duplicate_total", "Readings that were there before.", all.duplicate_readings);
  counter("gateway_alarms_appended_total", "Alarms in the log; each instance counts its own.", all.alarms_appended);
  counter("gateway_alarms_dropped_total", "Alarms for which there was no room while Redis was away.",
          all.alarms_dropped);
  page.gauge("gateway_alarms_held", "Alarms that wait for Redis.").add(static_cast<double>(all.alarms_held));
  counter("gateway_expires_total", "Times that the KPI of a tenant was expired.", all.expires);
}

int run(const gateway::options& given) {
  const std::string name = given.text("instance", "a");
  const gateway::event_lines lines{name};
  const gateway::logins who = gateway::logins::read(given.text("tokens", "tokens.json"));
  gateway::store database{given.text("store", "gateway.sqlite")};

  asio::io_context loop{1};                // before the client: its calls end by posting to the loop
  const tenantry::thread_pool workers{4};  // where handlers go on
  auto how = tenantry::client_options::from_url(given.text("redis", "redis://localhost:6379"));
  how.executor = workers.get_executor();
  how.observer = [&lines](const tenantry::event& what) { lines.write(named(what.name), what.fields); };
  how.timeout = 3s;
  tenantry::client redis{how};
  gateway::services services{
      redis, database, {.limit = given.number("limit", 100), .instances = unsigned(given.number("instances", 1))}};

  gateway::ingest bridge{
      database,
      services.alarm_log,
      services.gateways,
      services.invalidate,
      {.expire_every = 10s,  // readings come all the time: so old a KPI may be
       .on_refused =
           [&lines](gateway::refusal why, std::string_view, std::string_view detail) {
             lines.write("mqtt_refused",
                         {{.name = "reason", .value = to_string(why)}, {.name = "detail", .value = detail}});
           },
       .on_failure =
           [&lines](std::string_view what, std::string_view why) {
             lines.write("ingest_failed", {{.name = "what", .value = what}, {.name = "detail", .value = why}});
           }}};
  gateway::mqtt broker{{.host = given.text("mqtt-host", "127.0.0.1"),
                        .port = std::uint16_t(given.number("mqtt-port", 1883, 1, 65535)),
                        .client_id = "gateway-" + name,
                        .topics = {gateway::subscribed_topics.begin(), gateway::subscribed_topics.end()}},
                       [&bridge](std::string_view topic, std::string_view payload) { bridge.offer(topic, payload); }};

  gateway::api routes{services,
                      who,
                      lines,
                      {.instance = name,
                       .demo_logins = given.flag("demo-logins"),
                       .keep_alive = std::chrono::seconds{given.number("keep-alive", 15, 1, 3600)},
                       .mqtt_connected = [&broker] { return broker.connected(); },
                       .more_metrics = [&bridge](gateway::metrics_page& page) { show(bridge.counters(), page); }}};
  gateway::http_server server{loop,
                              {.address = given.text("address", "127.0.0.1"),
                               .port = std::uint16_t(given.number("port", 8080, 0, 65535)),
                               .max_connections = given.number("max-connections", 4096, 1),
                               .fields = {{"X-Instance", name}}},
                              [&routes](gateway::request what) { return routes.serve(std::move(what)); }};
  lines.write("listening", {{.name = "port", .value = std::int64_t{server.port()}}});

  asio::steady_timer timer{loop};
  asio::signal_set signals{loop, SIGINT, SIGTERM};
  signals.async_wait([&](const boost::system::error_code&, int) {
    server.stop();
    end_when_idle(loop, server, timer, 100);
  });
  loop.run();
  (void)broker.stop();  // first: what it has received until then is taken in
  bridge.stop();
  redis.close(1s);  // what is still under way fails now, and its connection ends
  server.abort();   // who does not read keeps nothing open
  loop.restart();
  const auto limit = std::chrono::steady_clock::now() + 5s;
  while (server.connections() > 0 && std::chrono::steady_clock::now() < limit) loop.run_one_for(100ms);
  const bool ended = server.connections() == 0;
  lines.write(ended ? "stopped" : "stopped_with_requests", {});
  if (!ended) std::_Exit(1);  // they use what would be destroyed now
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  return run(gateway::options{argc, argv});
} catch (const std::exception& failure) {
  std::cerr << "gateway: " << failure.what() << '\n';
  return 1;
}
