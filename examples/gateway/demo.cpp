// Everything that the gateway needs, for a while: Redis, Mosquitto, a database, some gateways and meters that report to
// them.

#include "child.hpp"
#include "demo_data.hpp"
#include "load.hpp"
#include "options.hpp"
#include "store.hpp"

#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <nlohmann/json.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <poll.h>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unistd.h>
#include <vector>

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using gateway::child;

namespace {

volatile std::sig_atomic_t interrupted = 0;
constexpr std::uint16_t usual_port = 8080;

struct missing_program : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class demo {
 public:
  explicit demo(const gateway::options& given)
      : given_{given},
        here_{fs::read_symlink("/proc/self/exe").parent_path()},
        tenants_{gateway::demo_tenants(static_cast<int>(given.number("tenants", 3, 1, 1000)))},
        port_{
            static_cast<std::uint16_t>(given.number("port", gateway::is_free(usual_port) ? usual_port : 0, 0, 65535))},
        mqtt_port_{gateway::free_port()} {
    if (port_ == 0) port_ = gateway::free_port();
    // Gateways share a port: those of another demo would answer too.
    if (!gateway::is_free(port_)) throw std::runtime_error{"port " + std::to_string(port_) + " is taken"};
    fs::create_directory(folder());
    const std::string broker = gateway::find_program("mosquitto");
    if (broker.empty()) throw missing_program{"the program mosquitto is not there"};
    std::ofstream{file("mosquitto.conf")}
        << "listener " << mqtt_port_ << " 127.0.0.1\nallow_anonymous true\n"
        << "persistence true\npersistence_location " << file("")
        << "\nautosave_interval 1\nautosave_on_changes true\nmax_queued_messages 100000\nuser root\n";
    broker_command_ = {broker, "-c", file("mosquitto.conf")};
    broker_.emplace(broker_command_, file("mosquitto.log"));

    gateway::store database{file("gateway.sqlite")};
    nlohmann::json tokens;
    for (const auto& each : tenants_) {
      database.fill_with_demo_data(each, std::time(nullptr));
      tokens["demo-token-of-" + each.str()] = each.str();
    }
    std::ofstream{file("tokens.json")} << tokens;

    const std::uint64_t instances = given.number("instances", 1, 1, 26);
    for (std::uint64_t i = 0; i < instances; ++i) start_gateway(std::string(1, static_cast<char>('a' + i)));
    if (!given.flag("no-simulator")) start_simulator();
    wait_until_healthy();
  }

  void start_gateway(const std::string& name) {
    std::vector<std::string> command{program("gateway"),
                                     "--instance",
                                     name,
                                     "--port",
                                     std::to_string(port_),
                                     "--redis",
                                     redis_.url(),
                                     "--mqtt-port",
                                     std::to_string(mqtt_port_),
                                     "--store",
                                     file("gateway.sqlite"),
                                     "--tokens",
                                     file("tokens.json"),
                                     "--instances",
                                     std::to_string(given_.number("instances", 1)),
                                     "--limit",
                                     std::to_string(given_.number("limit", given_.flag("load") ? 6000 : 100)),
                                     "--demo-logins"};
    for (const char* const each : {"keep-alive", "max-connections"}) {
      if (!given_.flag(each)) continue;
      command.push_back(std::string{"--"} + each);
      command.push_back(given_.text(each, ""));
    }
    gateways_.insert_or_assign(name, child{command, given_.text("log", file("gateway.log"))});
  }

  [[nodiscard]] nlohmann::json described() {
    nlohmann::json instances = nlohmann::json::array();
    for (auto& [name, process] : gateways_) {
      if (process.runs()) instances.push_back({{"name", name}, {"pid", process.pid()}});
    }
    return {{"url", "http://127.0.0.1:" + std::to_string(port_)},
            {"mqtt_port", mqtt_port_},
            {"redis", redis_.url()},
            {"store", file("gateway.sqlite")},
            {"log", given_.text("log", file("gateway.log"))},
            {"instances", instances}};
  }

  /// One command of a test; what it is answered with.
  nlohmann::json obey(const std::string& line) {
    const std::string what = line.substr(0, line.find(' '));
    const std::string of = what.size() < line.size() ? line.substr(what.size() + 1) : std::string{};
    if (what == "kill-redis") {
      redis_.kill();
    } else if (what == "start-redis") {
      redis_.start();
    } else if (what == "pause-redis") {
      redis_.pause();
    } else if (what == "resume-redis") {
      redis_.resume();
    } else if (what == "kill-gateway") {
      gateways_.at(of).kill();
    } else if (what == "start-gateway") {
      start_gateway(of);
    } else if (what == "kill-broker") {
      broker_->kill();
    } else if (what == "start-broker") {
      broker_.emplace(broker_command_, file("mosquitto.log"));
    } else if (what != "describe") {
      return {{"error", "no such command: " + what}};
    }
    return described();
  }

  gateway::load_report load(std::chrono::seconds length) {
    return gateway::run_load({.port = port_,
                              .tenants = tenants_,
                              .instances = gateways_.size(),
                              .dashboards = given_.number("dashboards", 200),
                              .listeners = given_.number("listeners", 200),
                              .length = length,
                              .interrupted = [] { return interrupted != 0; }});
  }

 private:
  /// In that of Redis, whose guard removes it also when this program is killed.
  [[nodiscard]] fs::path folder() const { return redis_.directory() / "demo"; }
  [[nodiscard]] std::string file(const std::string& name) const { return (folder() / name).string(); }
  [[nodiscard]] std::string program(const std::string& name) const { return (here_ / ("example_" + name)).string(); }

  void start_simulator() {
    simulator_.emplace(
        std::vector<std::string>{program("gateway_simulator"), "--mqtt-port", std::to_string(mqtt_port_), "--store",
                                 file("gateway.sqlite"), "--tenants", std::to_string(tenants_.size()), "--rate",
                                 std::to_string(given_.number("rate", 20)), "--alarms-per-minute",
                                 std::to_string(given_.number("alarms-per-minute", 30))},
        file("simulator.log"));
  }

  void wait_until_healthy() {
    const auto limit = std::chrono::steady_clock::now() + 20s;
    while (interrupted == 0 && !gateway::all_healthy(port_, gateways_.size())) {
      for (auto& [name, process] : gateways_) {
        if (!process.runs()) throw std::runtime_error{"gateway " + name + " ended: " + said("gateway.log")};
      }
      if (std::chrono::steady_clock::now() > limit) throw std::runtime_error{"the gateways do not become healthy"};
      ::usleep(50'000);
    }
  }
  [[nodiscard]] std::string said(const std::string& log) const {
    std::ifstream in{given_.text("log", file(log))};
    std::string last;
    for (std::string line; std::getline(in, line);) last = line;
    return last;
  }

  const gateway::options& given_;
  const fs::path here_;
  const std::vector<tenantry::tenant_id> tenants_;
  std::uint16_t port_;
  const std::uint16_t mqtt_port_;
  tenantry::testing::redis_server redis_{{.arguments = {"--appendonly", "yes", "--appendfsync", "always"}}};
  std::vector<std::string> broker_command_;
  std::optional<child> broker_;
  std::map<std::string, child> gateways_;
  std::optional<child> simulator_;
};

/// Until a signal, the end of the time, or the end of the commands.
void stay(demo& all, std::optional<std::chrono::steady_clock::time_point> until, bool controlled) {
  std::string rest;
  while (interrupted == 0 && (!until || std::chrono::steady_clock::now() < *until)) {
    pollfd in{.fd = controlled ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0};
    if (::poll(&in, 1, 100) <= 0 || !controlled) continue;
    std::array<char, 4096> bytes{};
    const ssize_t size = ::read(STDIN_FILENO, bytes.data(), bytes.size());
    if (size <= 0) return;
    rest.append(bytes.data(), static_cast<std::size_t>(size));
    for (std::size_t end = rest.find('\n'); end != std::string::npos; end = rest.find('\n')) {
      std::cout << all.obey(rest.substr(0, end)) << std::endl;
      rest.erase(0, end + 1);
    }
  }
}

}  // namespace

int main(int argc, char** argv) try {
  const gateway::options given{argc, argv};
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);

  demo all{given};
  if (interrupted != 0) return 0;
  const std::chrono::seconds length{given.number("seconds", given.flag("load") ? 20 : 0)};
  if (given.flag("load")) {
    const gateway::load_report report = all.load(length);
    std::cout << report.table();
    return report.lost == 0 ? 0 : 1;
  }
  const bool controlled = given.flag("control");
  if (controlled) {
    std::cout << all.described() << std::endl;
  } else {
    std::cout << "Redis, Mosquitto, a database and " << given.number("instances", 1)
              << " gateway(s) run, and meters report to them.\nOpen " << all.described()["url"].get<std::string>()
              << " and log in as one of the tenants. Ctrl-C ends it all.\n"
              << std::flush;
  }
  std::optional<std::chrono::steady_clock::time_point> until;
  if (length > 0s) until = std::chrono::steady_clock::now() + length;
  stay(all, until, controlled);
  return 0;
} catch (const missing_program& failure) {
  std::cerr << "demo: " << failure.what() << '\n';
  return 77;
} catch (const std::exception& failure) {
  std::cerr << "demo: " << failure.what() << '\n';
  return 1;
}
