#include "testing/guard.hpp"

#include <tenantry/testing/redis_server.hpp>

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <netinet/in.h>
#include <poll.h>
#include <stdexcept>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>

namespace tenantry::testing {
namespace {

using clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

bool executable(const std::filesystem::path& file) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(file, ignored) && ::access(file.c_str(), X_OK) == 0;
}

// The absolute path of a program, or an empty one.
std::filesystem::path find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return executable(name) ? std::filesystem::absolute(name) : "";
  const char* path = std::getenv("PATH");
  std::string_view rest{path != nullptr ? path : "/usr/bin:/bin"};
  for (;;) {
    const auto colon = rest.find(':');
    const std::string_view folder = rest.substr(0, colon);
    if (const auto file = std::filesystem::path{folder.empty() ? "." : folder} / name; executable(file)) {
      return std::filesystem::absolute(file);
    }
    if (colon == std::string_view::npos) return {};
    rest.remove_prefix(colon + 1);
  }
}

std::filesystem::path server_program(const std::string& wanted) {
  const char* environment = std::getenv("TENANTRY_REDIS_SERVER");
  const std::string name = !wanted.empty() ? wanted : environment != nullptr ? environment : "";
  if (!name.empty()) {
    auto found = find_program(name);
    if (found.empty()) fail("no program '" + name + "' to run");
    return found;
  }
  for (const char* usual : {"redis-server", "valkey-server"}) {
    if (auto found = find_program(usual); !found.empty()) return found;
  }
  fail("neither redis-server nor valkey-server is in PATH, and TENANTRY_REDIS_SERVER is not set");
}

constexpr std::string_view socket_name = "redis.sock";
constexpr std::string_view log_name = "redis.log";

// A new directory whose socket's path fits into sun_path.
std::filesystem::path make_directory() {
  const char* temporary = std::getenv("TMPDIR");
  const std::string wanted = temporary != nullptr && *temporary != '\0' ? temporary : "/tmp";
  for (const auto& parent : {std::filesystem::absolute(wanted), std::filesystem::path{"/tmp"}}) {
    std::string name = (parent / "tenantry-redis-XXXXXX").string();
    if (name.size() + 1 + socket_name.size() >= sizeof(sockaddr_un::sun_path)) continue;
    if (::mkdtemp(name.data()) == nullptr) fail_errno("cannot create a directory in " + parent.string(), errno);
    return name;
  }
  fail("no room for a unix socket's path in " + wanted);
}

struct reserved_port {
  unique_fd socket;
  std::uint16_t number = 0;
};

// Binds without ever listening. SO_REUSEADDR lets the server bind the same port as well, but nobody is given it as a
// free port, nor as the local port of an outgoing connection, while the server is down.
reserved_port bind_port(std::uint16_t wanted) {
  unique_fd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (socket.get() < 0) fail_errno("cannot create a socket", errno);
  const int on = 1;
  // Set before bind for a port that may be in TIME_WAIT, after it when the kernel must choose one that nobody has.
  const auto share = [&] { ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); };
  if (wanted != 0) share();
  sockaddr_in address{};
  socklen_t size = sizeof address;
  address.sin_family = AF_INET;
  address.sin_port = htons(wanted);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
      ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    fail_errno("cannot reserve port " + std::to_string(wanted) + " of 127.0.0.1", errno);
  }
  if (wanted == 0) share();
  return {std::move(socket), ntohs(address.sin_port)};
}

reserved_port free_port() {
  constexpr std::uint16_t last_with_room_for_cluster_bus = 55535;
  std::vector<reserved_port> unfit;
  for (int tries = 0; tries < 64; ++tries) {
    reserved_port port = bind_port(0);
    if (port.number <= last_with_room_for_cluster_bus) return port;
    unfit.push_back(std::move(port));
  }
  return std::move(unfit.back());
}

std::vector<std::string> server_arguments(const std::filesystem::path& directory,
                                          const std::vector<std::string>& more) {
  std::vector<std::string> all{"--bind",
                               "127.0.0.1",
                               "--unixsocket",
                               directory / socket_name,
                               "--unixsocketperm",
                               "700",
                               "--dir",
                               directory,
                               "--logfile",
                               directory / log_name,
                               "--daemonize",
                               "no",
                               "--supervised",
                               "no",
                               "--save",
                               "",
                               "--appendonly",
                               "no"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{file}, {}};
}

std::string read_log(const std::filesystem::path& directory) { return read_file(directory / log_name); }

std::string tail(const std::string& text) {
  constexpr std::size_t wanted = 2000;
  if (text.empty()) return "; it logged nothing";
  std::size_t from = text.size() > wanted ? text.find('\n', text.size() - wanted) : 0;
  from = from == std::string::npos ? text.size() - wanted : from;
  return "; its log ends with:\n" + text.substr(from);
}

bool wait_readable(int fd, clock::time_point deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - clock::now()).count();
    pollfd event{fd, POLLIN, 0};
    const int ready = ::poll(&event, 1, static_cast<int>(std::clamp<decltype(left)>(left, 0, 60'000)));
    if (ready > 0) return true;
    if (ready == 0 && clock::now() >= deadline) return false;
    if (ready < 0 && errno != EINTR) return false;
  }
}

// One PING on a new connection. Any reply is an answer, a refusal too, but not "I am still loading".
bool answers_ping(const std::string& path, clock::time_point deadline) {
  const unique_fd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  constexpr std::string_view ping = "PING\r\n";
  if (socket.get() < 0 || ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::send(socket.get(), ping.data(), ping.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(ping.size())) {
    return false;
  }
  std::string reply;
  while (reply.find('\n') == std::string::npos) {
    std::array<char, 256> buffer{};
    if (!wait_readable(socket.get(), deadline)) return false;
    const ssize_t got = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
    if (got <= 0) return false;
    reply.append(buffer.data(), static_cast<std::size_t>(got));
  }
  return !reply.starts_with("-LOADING");
}

}  // namespace

class redis_server::impl {
 public:
  explicit impl(redis_server_options options);

  void start_first();
  void start();
  void kill() { guard_.end_server(); }
  void signal_server(int signal);
  void stop() noexcept;
  [[nodiscard]] pid_t running_pid() const;
  [[nodiscard]] std::uint16_t port() const { return port_.number; }
  [[nodiscard]] const std::filesystem::path& directory() const { return directory_; }
  [[nodiscard]] const std::string& socket_path() const { return socket_path_; }

 private:
  void launch();

  redis_server_options options_;
  std::filesystem::path program_;
  reserved_port port_;
  std::filesystem::path directory_;
  std::string socket_path_;
  guard guard_;
};

redis_server::impl::impl(redis_server_options options)
    : options_{std::move(options)},
      program_{server_program(options_.program)},
      port_{options_.port ? bind_port(*options_.port) : free_port()},
      directory_{make_directory()},
      socket_path_{(directory_ / socket_name).string()},
      guard_{directory_, directory_ / log_name, program_, server_arguments(directory_, options_.arguments)} {}

void redis_server::impl::launch() {
  const auto deadline = clock::now() + options_.start_timeout;
  guard_.start_server(port_.number);
  while (!answers_ping(socket_path_, std::min(deadline, clock::now() + milliseconds{100}))) {
    const std::string name = program_.filename().string();
    if (!guard_.server()) {
      const long status = guard_.end_server().value_or(0);
      fail(name + " ended with status " + std::to_string(status) + " before it answered" + tail(read_log(directory_)));
    }
    if (clock::now() >= deadline) {
      guard_.end_server();
      fail(name + " did not answer within " + std::to_string(options_.start_timeout.count()) + " ms" +
           tail(read_log(directory_)));
    }
    std::this_thread::sleep_for(milliseconds{2});
  }
}

void redis_server::impl::start_first() {
  for (int attempts_left = 5;; --attempts_left) {
    try {
      return launch();
    } catch (const std::runtime_error& error) {
      // The port is reserved, but the server may need others: a cluster bus, or the same port of another address.
      const bool taken = std::string_view{error.what()}.find("ddress already in use") != std::string_view::npos;
      if (!taken || options_.port || attempts_left == 1) throw;
      port_ = free_port();
    }
  }
}

void redis_server::impl::start() {
  if (guard_.finished()) fail("start after stop");
  if (guard_.server()) return;
  guard_.end_server();
  launch();
}

void redis_server::impl::stop() noexcept {
  guard_.finish();
  if (guard_.finished()) port_.socket.reset();
}

pid_t redis_server::impl::running_pid() const {
  const auto server = guard_.server();
  if (!server) fail("no server runs");
  return *server;
}

void redis_server::impl::signal_server(int signal) {
  const pid_t server = running_pid();
  if (::kill(server, signal) != 0) fail_errno("cannot signal the server", errno);
  if (signal != SIGSTOP) return;
  // The signal is only on its way. Where /proc tells, return when the server has stopped.
  const std::string path = "/proc/" + std::to_string(server) + "/stat";
  const auto deadline = clock::now() + std::chrono::seconds{1};
  while (clock::now() < deadline) {
    const std::string text = read_file(path);
    const auto name_end = text.rfind(") ");
    if (name_end == std::string::npos || text.compare(name_end, 3, ") T") == 0) return;
    std::this_thread::sleep_for(milliseconds{1});
  }
}

bool redis_server_available() {
  try {
    return !server_program({}).empty();
  } catch (const std::runtime_error&) {
    return false;
  }
}

redis_server::redis_server(redis_server_options options) : impl_{std::make_unique<impl>(std::move(options))} {
  impl_->start_first();
}

redis_server::~redis_server() = default;
redis_server::redis_server(redis_server&& other) noexcept = default;
redis_server& redis_server::operator=(redis_server&& other) noexcept = default;

std::string redis_server::url() const { return "redis://127.0.0.1:" + std::to_string(port()); }
std::string redis_server::unix_url() const { return "unix://" + socket_path(); }
std::uint16_t redis_server::port() const noexcept { return impl_->port(); }
const std::string& redis_server::socket_path() const noexcept { return impl_->socket_path(); }
const std::filesystem::path& redis_server::directory() const noexcept { return impl_->directory(); }
pid_t redis_server::pid() const { return impl_->running_pid(); }
void redis_server::stop() noexcept { impl_->stop(); }
void redis_server::kill() { impl_->kill(); }
void redis_server::start() { impl_->start(); }
void redis_server::pause() { impl_->signal_server(SIGSTOP); }
void redis_server::resume() { impl_->signal_server(SIGCONT); }
std::string redis_server::log() const { return read_log(impl_->directory()); }

}  // namespace tenantry::testing
