// A private server is there when it should be, and gone when it should be, however the test ends.

#include "support/private_tmpdir.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <netinet/in.h>
#include <optional>
#include <poll.h>
#include <set>
#include <stdexcept>
#include <string>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <thread>
#include <type_traits>
#include <unistd.h>
#include <utility>
#include <vector>

namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;
using support::ask;
using support::eventually;
using support::loopback;
using support::need_redis;
using support::private_tmpdir;
using tenantry::testing::redis_server;

static_assert(std::is_nothrow_move_constructible_v<redis_server> && !std::is_copy_constructible_v<redis_server>);

bool process_gone(pid_t pid) { return ::kill(pid, 0) != 0 && errno == ESRCH; }

// A process with a server of its own, which tells where the server is.
struct owner_process {
  pid_t self = 0;
  pid_t server = 0;
  fs::path directory;
};

// `started` runs in the new process while the server runs; the process then waits to be killed.
template <typename Started>
owner_process fork_owner(Started started) {
  std::array<int, 2> ends{};
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      redis_server server;
      const std::string text = std::to_string(server.pid()) + ' ' + server.directory().string() + '\n';
      const bool told = ::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
      started(server);
      while (told) ::pause();
    } catch (...) {
    }
    ::_exit(3);
  }
  ::close(ends[1]);
  std::string text;
  for (char next = 0; next != '\n' && ::read(ends[0], &next, 1) == 1;) text += next;
  ::close(ends[0]);
  REQUIRE(text.find(' ') != std::string::npos);
  const pid_t server = static_cast<pid_t>(std::stol(text));
  return {child, server, text.substr(text.find(' ') + 1, text.size() - text.find(' ') - 2)};
}

int wait_for(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

}  // namespace

TEST_CASE("a server answers on its TCP port and on its unix socket as soon as it is constructed") {
  need_redis();
  const redis_server server;
  CHECK(server.url() == "redis://127.0.0.1:" + std::to_string(server.port()));
  CHECK(server.unix_url() == "unix://" + (server.directory() / "redis.sock").string());
  CHECK(ask(server, "PING") == "+PONG");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, server.socket_path().c_str(), sizeof address.sun_path - 1);
  CHECK(ask(address, "PING") == "+PONG");
  CHECK_THAT(server.log(), ContainsSubstring("Ready to accept connections"));
  CHECK(fs::status(server.directory()).permissions() == fs::perms::owner_all);
}

TEST_CASE("a server is gone and its directory removed after the owning process was killed, aborted or left") {
  need_redis();
  const int ending = GENERATE(SIGKILL, SIGABRT, SIGTERM, 0);
  CAPTURE(ending);
  const auto owner = fork_owner([&](redis_server&) {
    const rlimit no_core{};
    ::setrlimit(RLIMIT_CORE, &no_core);
    std::signal(ending == 0 ? SIGUSR1 : ending, SIG_DFL);
    if (ending == 0) ::_exit(0);
    ::raise(ending);
  });
  const int status = wait_for(owner.self);
  CHECK((ending == 0 ? WIFEXITED(status) : WIFSIGNALED(status) && WTERMSIG(status) == ending));
  CHECK(eventually([&] { return process_gone(owner.server); }));
  CHECK(eventually([&] { return !fs::exists(owner.directory); }));
}

TEST_CASE("a paused server is gone after the owning process was killed") {
  need_redis();
  const auto owner = fork_owner([](redis_server& server) {
    server.pause();
    ::raise(SIGKILL);
  });
  wait_for(owner.self);
  CHECK(eventually([&] { return process_gone(owner.server) && !fs::exists(owner.directory); }));
}

TEST_CASE("the signals of a terminal or a service manager reach neither the server nor its guard") {
  need_redis();
  redis_server server;
  const pid_t guard = ::getpgid(server.pid());
  CHECK(::getsid(server.pid()) == guard);
  CHECK(guard != ::getpgrp());
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE}) REQUIRE(::kill(guard, signal) == 0);
  CHECK(ask(server, "PING") == "+PONG");
  CHECK_NOTHROW(server.kill());  // which the guard does
}

TEST_CASE("after stop no process and no directory is left, and a second stop does nothing") {
  need_redis();
  const bool ignore_children = GENERATE(false, true);
  CAPTURE(ignore_children);
  const auto before = std::signal(SIGCHLD, ignore_children ? SIG_IGN : SIG_DFL);
  redis_server server;
  const pid_t pid = server.pid();
  const pid_t guard = ::getpgid(pid);
  server.stop();
  CHECK(process_gone(pid));
  CHECK(process_gone(guard));
  CHECK_FALSE(fs::exists(server.directory()));
  CHECK(ask(server, "PING") == "refused");
  server.stop();
  server.kill();
  CHECK_THROWS_AS(server.start(), std::runtime_error);
  CHECK_THROWS_AS(server.pid(), std::runtime_error);
  CHECK(server.log().empty());
  std::signal(SIGCHLD, before);
}

TEST_CASE("stop ends the server and removes its directory even where somebody killed the guard") {
  need_redis();
  redis_server server;
  REQUIRE(::kill(::getpgid(server.pid()), SIGKILL) == 0);
  CHECK_THROWS_WITH(server.kill(), ContainsSubstring("guard"));
  server.stop();
  CHECK(eventually([&] { return ask(server, "PING") == "refused"; }));
  CHECK_FALSE(fs::exists(server.directory()));
}

TEST_CASE("stop also ends a save that the server does in the background") {
  need_redis();
  redis_server server{{.arguments = {"--rdb-key-save-delay", "1000000000"}}};
  REQUIRE(ask(server, "SET tenant value") == "+OK");
  REQUIRE_THAT(ask(server, "BGSAVE"), ContainsSubstring("started"));
  const std::string log = server.log();
  const std::string stat = "/proc/" + std::to_string(std::stol(log.substr(log.find("by pid ") + 7))) + "/stat";
  CHECK(fs::exists(stat));
  server.stop();
  CHECK(eventually([&] {
    std::string line;  // none, or that of a process which only waits for init to collect it
    return !std::getline(std::ifstream{stat}, line) || line.find(") Z") != std::string::npos;
  }));
}

TEST_CASE("a forked child that destroys its copy leaves the server running") {
  need_redis();
  redis_server server;
  const pid_t child = ::fork();
  if (child == 0) {
    {
      const redis_server copy = std::move(server);
    }
    ::_exit(0);
  }
  wait_for(child);
  CHECK(ask(server, "PING") == "+PONG");
  CHECK(fs::exists(server.directory()));
}

TEST_CASE("a server holds no descriptor of the program, so that nobody waits for its output") {
  need_redis();
  std::array<int, 2> output{};
  REQUIRE(::pipe(output.data()) == 0);
  const int out = ::dup(1);
  const int err = ::dup(2);
  ::dup2(output[1], 1);
  ::dup2(output[1], 2);
  {
    const redis_server server;
    ::dup2(out, 1);
    ::dup2(err, 2);
    for (const int fd : {out, err, output[1]}) ::close(fd);
    char byte = 0;
    pollfd event{output[0], POLLIN, 0};
    CHECK(::poll(&event, 1, 10'000) == 1);
    CHECK(::read(output[0], &byte, 1) == 0);
    CHECK(ask(server, "PING") == "+PONG");
  }
  ::close(output[0]);
}

TEST_CASE("a server starts while thousands of descriptors are open") {
  need_redis();
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit raised{before.rlim_max, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &raised) == 0);
  std::vector<int> open;
  for (int fd = 0; open.size() < 4000 && (fd = ::dup(0)) >= 0;) open.push_back(fd);
  {
    const redis_server server;
    CHECK(ask(server, "PING") == "+PONG");
  }
  for (const int fd : open) ::close(fd);
  ::setrlimit(RLIMIT_NOFILE, &before);
}

TEST_CASE("extra arguments reach the server, the last word is theirs") {
  need_redis();
  const redis_server server{{.arguments = {"--requirepass", "it's $HOME \"`x`\"", "--databases", "3"}}};
  CHECK_THAT(ask(server, "PING"), ContainsSubstring("-NOAUTH"));
  CHECK(ask(server, R"(AUTH "it's $HOME \"`x`\"")") == "+OK");
}

TEST_CASE("servers started at the same time share neither port nor directory") {
  need_redis();
  std::vector<std::optional<redis_server>> servers(12);
  std::vector<std::thread> threads;
  for (auto& slot : servers) {
    threads.emplace_back([&slot] {
      try {
        slot.emplace();
      } catch (const std::runtime_error&) {
      }
    });
  }
  for (auto& thread : threads) thread.join();
  std::set<std::uint16_t> ports;
  std::set<fs::path> directories;
  for (auto& server : servers) {
    REQUIRE(server.has_value());
    CHECK(ask(*server, "PING") == "+PONG");
    CHECK(server->port() <= 55535);
    ports.insert(server->port());
    directories.insert(server->directory());
  }
  CHECK(ports.size() == servers.size());
  CHECK(directories.size() == servers.size());
}

TEST_CASE("a cluster server always has room for its bus port") {
  need_redis();
  for (int repetition = 0; repetition < 8; ++repetition) {
    const redis_server server{{.arguments = {"--cluster-enabled", "yes"}}};
    CHECK(ask(server, "CLUSTER COUNTKEYSINSLOT 0") == ":0");
  }
}

TEST_CASE("a bad argument throws at once with the server's own words and leaves nothing behind") {
  need_redis();
  const private_tmpdir temporary;
  CHECK_THROWS_WITH(redis_server({.arguments = {"--no-such-directive", "1"}, .start_timeout = 1h}),
                    ContainsSubstring("ended with status 1") && ContainsSubstring("no-such-directive"));
  CHECK_FALSE(temporary.holds_directory());
}

TEST_CASE("a missing program throws and is named") {
  CHECK_THROWS_WITH(redis_server({.program = "tenantry-no-such-server"}), ContainsSubstring("tenantry-no-such-server"));
  CHECK_THROWS_WITH(redis_server({.program = "/no/such/server"}), ContainsSubstring("/no/such/server"));
}

TEST_CASE("a server that never answers is given up after the start timeout and leaves nothing behind") {
  const private_tmpdir temporary;
  const auto program = temporary.script("echo 'I am asleep'; exec sleep 1000");
  CHECK_THROWS_WITH(redis_server({.program = program, .start_timeout = 300ms}),
                    ContainsSubstring("did not answer within 300 ms") && ContainsSubstring("I am asleep"));
  CHECK_FALSE(temporary.holds_directory());
}

TEST_CASE("a port that was taken in the meantime is replaced by another") {
  need_redis();
  const private_tmpdir temporary;
  const auto program = temporary.script(
      "[ -e \"$0.first\" ] || { echo \"$2\" > \"$0.first\"; echo 'bind: Address already in use'; exit 1; }\n"
      "exec \"$(command -v redis-server || command -v valkey-server)\" \"$@\"");
  const redis_server server{{.program = program}};
  CHECK(ask(server, "PING") == "+PONG");
  int first = 0;
  std::ifstream{program.string() + ".first"} >> first;
  CHECK(first != 0);
  CHECK(first != server.port());
}

TEST_CASE("a wanted port is used, and refused by name while another listens on it") {
  need_redis();
  std::uint16_t port = 0;
  {
    const redis_server first;
    port = first.port();
    CHECK_THROWS_WITH(redis_server({.port = port}), ContainsSubstring("port " + std::to_string(port)));
    CHECK(ask(first, "PING") == "+PONG");
  }
  const redis_server second{{.port = port}};
  CHECK(second.port() == port);
  CHECK(ask(second, "PING") == "+PONG");
}

TEST_CASE("a killed server refuses connections, keeps its port from others, and starts again there, empty") {
  need_redis();
  redis_server server;
  const std::uint16_t port = server.port();
  const pid_t first = server.pid();
  REQUIRE(ask(server, "SET tenant value") == "+OK");
  server.kill();
  CHECK(process_gone(first));
  CHECK_THROWS_AS(server.pid(), std::runtime_error);
  CHECK_THROWS_AS(server.pause(), std::runtime_error);
  CHECK(ask(server, "PING") == "refused");
  CHECK(fs::exists(server.directory()));
  const int stranger = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(port);
  CHECK(::bind(stranger, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0);
  ::close(stranger);
  server.kill();
  server.start();
  CHECK(server.port() == port);
  CHECK(server.pid() != first);
  CHECK(ask(server, "EXISTS tenant") == ":0");
  server.start();
  CHECK(ask(server, "PING") == "+PONG");
}

TEST_CASE("a server that ended by itself can be started again") {
  need_redis();
  redis_server server;
  ask(server, "SHUTDOWN NOSAVE");
  REQUIRE(eventually([&] {
    try {
      return server.pid() == 0;
    } catch (const std::runtime_error&) {
      return true;
    }
  }));
  server.start();
  CHECK(ask(server, "PING") == "+PONG");
}

TEST_CASE("a paused server answers nobody, and a resumed one answers again") {
  need_redis();
  redis_server server;
  for (int repetition = 0; repetition < 5; ++repetition) {
    server.pause();
    CHECK(ask(server, "PING", 50ms) == "silent");
    server.resume();
    CHECK(ask(server, "PING") == "+PONG");
  }
  server.pause();
  server.kill();
  server.start();
  CHECK(ask(server, "PING") == "+PONG");
}

TEST_CASE("a server outlives the move of its owner and ends with the new one") {
  need_redis();
  redis_server first;
  const auto directory = first.directory();
  {
    const redis_server second = std::move(first);
    CHECK(ask(second, "PING") == "+PONG");
  }
  CHECK_FALSE(fs::exists(directory));
}
