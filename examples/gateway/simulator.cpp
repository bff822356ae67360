// Plays the gateways of the demo tenants: a few hundred meters that report over MQTT, with faults that raise alarms.
// Real gateways, which publish the same messages, can take its place.

#include "demo_data.hpp"
#include "mqtt.hpp"
#include "payloads.hpp"
#include "store.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

using clock_type = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr std::string_view usage =
    "example_gateway_simulator --mqtt-port N --store FILE [--tenants N] [--rate REPORTS_A_SECOND]\n"
    "  [--alarms-per-minute A] [--seed S] [--seconds N]\n"
    "The store says which gateways and meters there are. Without --seconds it ends with SIGINT or SIGTERM.\n";

volatile std::sig_atomic_t interrupted = 0;

struct settings {
  std::uint16_t port = 1883;
  std::string store;
  int tenants = 3;
  double rate = 5;
  double alarms_per_minute = 6;
  std::uint64_t seed = 1;
  std::optional<std::int64_t> seconds;
};

template <class Number>
Number number(std::string_view name, std::string_view text, Number low, Number high) {
  Number value{};
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (fault != std::errc{} || end != text.data() + text.size() || !(value >= low && value <= high)) {
    throw std::invalid_argument{fmt::format("{} is a number from {} to {}", name, low, high)};
  }
  return value;
}

settings settings_of(const std::vector<std::string_view>& words) {
  settings made;
  for (std::size_t i = 0; i + 1 < words.size(); i += 2) {
    const std::string_view name = words[i];
    const std::string_view value = words[i + 1];
    if (name == "--mqtt-port") {
      made.port = number<std::uint16_t>(name, value, 1, 65'535);
    } else if (name == "--store") {
      made.store = value;
    } else if (name == "--tenants") {
      made.tenants = number(name, value, 1, 10'000);
    } else if (name == "--rate") {
      made.rate = number(name, value, 0.01, 100'000.0);
    } else if (name == "--alarms-per-minute") {
      made.alarms_per_minute = number(name, value, 0.0, 1'000'000.0);
    } else if (name == "--seed") {
      made.seed = number<std::uint64_t>(name, value, 0, std::numeric_limits<std::uint64_t>::max());
    } else if (name == "--seconds") {
      made.seconds = number<std::int64_t>(name, value, 1, 1'000'000'000);
    } else {
      throw std::invalid_argument{fmt::format("no such option: {}", name)};
    }
  }
  if (words.size() % 2 != 0 || made.store.empty()) throw std::invalid_argument{"--store, and a value for each option"};
  return made;
}

std::int64_t unix_milliseconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

struct meter {
  gateway::reading last;
  double watts = 500;  // now
  std::int64_t silent_until = 0;
};

struct device {
  tenantry::tenant_id tenant;
  std::string name;
  std::string firmware;
  std::vector<meter> meters;
};

struct published {
  std::uint64_t reports = 0;
  std::uint64_t readings = 0;
  std::uint64_t alarms = 0;
  std::uint64_t malformed = 0;
  std::uint64_t duplicate_reports = 0;
  std::uint64_t duplicate_alarms = 0;
  std::uint64_t unsent = 0;
};

class simulator {
 public:
  explicit simulator(const settings& how)
      : how_{how}, random_{how.seed}, run_{fmt::format("{:08x}", std::random_device{}())}, broker_{broker(how, run_)} {
    gateway::store known{how.store};
    for (const tenantry::tenant_id& tenant : gateway::demo_tenants(how.tenants)) {
      known.fill_with_demo_data(tenant, unix_milliseconds() / 1000);
      for (const std::string& name : known.gateways(tenant)) add(tenant, name, known.latest(tenant, name));
    }
  }

  published run() {
    const auto end =
        how_.seconds ? clock_type::now() + std::chrono::seconds{*how_.seconds} : clock_type::time_point::max();
    auto report_at = clock_type::now();
    auto alarm_at = clock_type::now() + until_next_alarm();
    while (interrupted == 0) {
      const auto next = std::min({report_at, alarm_at, end});
      while (interrupted == 0 && clock_type::now() < next) {
        std::this_thread::sleep_until(std::min(next, clock_type::now() + 100ms));  // to notice a signal
      }
      if (interrupted != 0 || next == end) break;
      if (next == alarm_at) {
        raise_alarm();
        alarm_at += until_next_alarm();
      } else {
        report();
        report_at += std::chrono::duration_cast<clock_type::duration>(std::chrono::duration<double>{1 / how_.rate});
      }
    }
    done_.unsent = broker_.wait_until_confirmed(10s) ? 0 : 1;
    return done_;
  }

  [[nodiscard]] std::uint64_t confirmed() const { return broker_.confirmed(); }
  [[nodiscard]] std::size_t gateways() const { return devices_.size(); }

 private:
  static gateway::mqtt_options broker(const settings& how, const std::string& run) {
    return {.port = how.port, .client_id = "simulator-" + run, .session = gateway::mqtt_session::clean};
  }

  void add(const tenantry::tenant_id& tenant, const std::string& name, std::vector<gateway::reading> latest) {
    device made{.tenant = tenant, .name = name, .firmware = fmt::format("1.{}.{}", below(5), below(10)), .meters = {}};
    for (gateway::reading& last : latest) {
      made.meters.push_back({.last = std::move(last), .watts = 100.0 + static_cast<double>(below(1'400))});
    }
    devices_.push_back(std::move(made));
  }

  /// One gateway after another reads its meters.
  void report() {
    device& from = devices_[next_++ % devices_.size()];
    const std::int64_t now = unix_milliseconds() / 1000;
    gateway::report what{.firmware = from.firmware, .readings = {}};
    for (meter& each : from.meters) {
      if (each.silent_until <= now) what.readings.push_back(read(each, now));
    }
    if (what.readings.empty()) return;
    const std::string topic = topic_of(from.tenant, from.name, what);
    std::string payload = payload_of(from.name, what);
    send(topic, payload, done_.reports);
    done_.readings += what.readings.size();
    if (below(50) == 0) send(topic, payload, done_.duplicate_reports);  // as after a lost confirmation
    if (below(100) == 0) {
      payload.resize(payload.size() / 2);  // as from a gateway whose memory is full
      send(topic, payload, done_.malformed);
    }
  }

  /// What the meter used since it was last read, but for at most a day. A meter that is read twice in a second runs
  /// ahead of the clock, because a reading has a second of its own.
  gateway::reading read(meter& of, std::int64_t now) {
    const std::int64_t at = std::max(now, of.last.at + 1);
    const std::int64_t elapsed = std::min<std::int64_t>(at - of.last.at, 86'400);
    of.watts = std::clamp(of.watts + static_cast<double>(below(201)) - 100, 50.0, 3'000.0);
    const double used = (of.watts * static_cast<double>(elapsed) / 3'600) + (static_cast<double>(below(1'000)) / 1'000);
    of.last.at = at;
    of.last.watt_hours += static_cast<std::int64_t>(used);
    return of.last;
  }

  void raise_alarm() {
    device& from = devices_[below(devices_.size())];
    meter& broken = from.meters[below(from.meters.size())];
    const auto [severity, text] = fault(broken);
    const gateway::alarm what{.id = fmt::format("{}-{}-{}", from.name, ++alarms_, run_),
                              .gateway = from.name,
                              .severity = severity,
                              .text = text,
                              .at = unix_milliseconds()};
    send(topic_of(from.tenant, from.name, what), payload_of(what), done_.alarms);
    if (below(10) == 0) send(topic_of(from.tenant, from.name, what), payload_of(what), done_.duplicate_alarms);
  }

  std::pair<std::string, std::string> fault(meter& broken) {
    const std::string& name = broken.last.meter;
    switch (below(5)) {
      case 0:
        broken.silent_until = (unix_milliseconds() / 1000) + 30;
        return {"warning", fmt::format("Meter {} does not answer", name)};
      case 1:
        return {"critical", fmt::format("Leak detected at meter {}", name)};
      case 2:
        return {"warning", fmt::format("Meter {}: return temperature {} °C is too high", name, 60 + below(25))};
      case 3:
        return {"critical", "Power failure: running on battery"};
      default:
        return {"info", fmt::format("Meter {}: battery at {} %", name, 5 + below(15))};
    }
  }

  void send(const std::string& topic, const std::string& payload, std::uint64_t& counter) {
    while (interrupted == 0) {
      if (broker_.publish(topic, payload, 1s)) {
        ++counter;
        return;
      }
    }
  }

  clock_type::duration until_next_alarm() {
    if (how_.alarms_per_minute <= 0) return std::chrono::hours{24 * 365};
    const double uniform = (static_cast<double>(below(1'000'000)) + 1) / 1'000'001;
    return std::chrono::duration_cast<clock_type::duration>(
        std::chrono::duration<double>{-std::log(uniform) * 60 / how_.alarms_per_minute});
  }

  std::size_t below(std::size_t limit) { return random_() % limit; }

  settings how_;
  std::mt19937_64 random_;
  std::string run_;  // so that the alarms of two runs have different ids
  gateway::mqtt broker_;
  std::vector<device> devices_;
  std::size_t next_ = 0;
  std::uint64_t alarms_ = 0;
  published done_;
};

}  // namespace

int main(int argc, char** argv) try {
  const settings how = settings_of({argv + 1, argv + argc});
  std::signal(SIGINT, [](int) { interrupted = 1; });
  std::signal(SIGTERM, [](int) { interrupted = 1; });

  simulator played{how};
  const auto begin = clock_type::now();
  const published done = played.run();
  const nlohmann::json line{{"gateways", played.gateways()},
                            {"reports", done.reports},
                            {"readings", done.readings},
                            {"alarms", done.alarms},
                            {"malformed", done.malformed},
                            {"duplicate_reports", done.duplicate_reports},
                            {"duplicate_alarms", done.duplicate_alarms},
                            {"confirmed", played.confirmed()},
                            {"seconds", std::chrono::duration<double>(clock_type::now() - begin).count()}};
  fmt::print("{}\n", line.dump());
  return done.unsent == 0 ? 0 : 1;
} catch (const std::invalid_argument& why) {
  fmt::print(stderr, "{}\n{}", why.what(), usage);
  return 2;
} catch (const std::exception& why) {
  fmt::print(stderr, "{}\n", why.what());
  return 1;
}
