#pragma once
// A private, throw-away MQTT broker for tests.

#include "support/redis_probe.hpp"
#include "support/temporary_directory.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <fcntl.h>
#include <fstream>
#include <stdexcept>
#include <string>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace gateway::testing {

/// Mosquitto on a port of 127.0.0.1 and a directory of its own, where it keeps sessions and their messages. It ends
/// with this object, and with the program.
class mosquitto_broker {
 public:
  /// Skips the running test case where there is no such program.
  mosquitto_broker() : program_{find()} {
    if (program_.empty()) SKIP("there is no program mosquitto to run");
    port_ = reserve();
    std::ofstream{directory_.file("conf")}
        << "listener " << port_ << " 127.0.0.1\nallow_anonymous true\n"
        << "user root\n"  // it stays who it is, so that it may write to the directory
        << "persistence true\npersistence_location " << directory_.file("") << "\n"
        << "max_queued_messages 100000\nmax_inflight_messages 1000\n"
        << "log_dest file " << directory_.file("log") << '\n';
    start();
  }
  mosquitto_broker(const mosquitto_broker&) = delete;
  mosquitto_broker& operator=(const mosquitto_broker&) = delete;
  ~mosquitto_broker() {
    end(SIGKILL);
    ::close(reserved_);
  }

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }

  /// Returns when it accepts connections.
  void start() {
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const std::string conf = directory_.file("conf");
      const int nowhere = ::open("/dev/null", O_RDWR | O_CLOEXEC);
      for (const int fd : {0, 1, 2}) ::dup2(nowhere, fd);
      ::execl(program_.c_str(), program_.c_str(), "-c", conf.c_str(), nullptr);
      ::_exit(127);
    }
    if (!support::eventually([this] { return listens(); })) throw std::runtime_error{"mosquitto does not start"};
  }
  /// Ends it in order: it writes down what it has. Returns when it is gone.
  void stop() { end(SIGTERM); }
  /// Freezes it: connections stay open, and nothing answers.
  void pause() const { ::kill(pid_, SIGSTOP); }
  void resume() const { ::kill(pid_, SIGCONT); }
  /// Ends it as a crash would: it keeps what it wrote down before.
  void kill() { end(SIGKILL); }

 private:
  static std::string find() {
    for (const char* path : {"/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"}) {
      if (::access(path, X_OK) == 0) return path;
    }
    return {};
  }

  /// A port that nobody else is given while this is there.
  std::uint16_t reserve() {
    reserved_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = support::loopback(0);
    socklen_t size = sizeof address;
    const int on = 1;
    if (::bind(reserved_, reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
        ::setsockopt(reserved_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        ::getsockname(reserved_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      throw std::system_error{errno, std::generic_category(), "a port for mosquitto"};
    }
    return ntohs(address.sin_port);
  }

  [[nodiscard]] bool listens() const {
    const sockaddr_in address = support::loopback(port_);
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool connected = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    ::close(fd);
    return connected;
  }

  void end(int how) {
    if (pid_ <= 0) return;
    ::kill(pid_, how);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

  std::string program_;
  support::temporary_directory directory_;
  std::uint16_t port_ = 0;
  int reserved_ = -1;
  pid_t pid_ = 0;
};

}  // namespace gateway::testing
