#pragma once
// A TCP server that plays a script, for what a real Redis will not do.

#include "net/wait.hpp"

#include <arpa/inet.h>
#include <atomic>
#include <cerrno>
#include <functional>
#include <mutex>
#include <netinet/in.h>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace support {

/// One accepted connection, as the script sees it.
class peer {
 public:
  explicit peer(int fd) : fd_{fd} {}

  /// The next command as its words joined by spaces, or "" when the client has gone.
  std::string command() {
    const std::string count = line();
    if (count.empty()) return {};
    std::string words;
    for (int left = std::stoi(count.substr(1)); left > 0; --left) {
      const auto size = static_cast<std::size_t>(std::stoul(line().substr(1)));
      while (unread_.size() < size + 2) {
        if (!fill()) return {};
      }
      words += (words.empty() ? "" : " ") + unread_.substr(0, size);
      unread_.erase(0, size + 2);
    }
    return words;
  }

  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }

  /// Answers what a client without password, name and database says first.
  bool greet() {
    if (!command().starts_with("HELLO 2")) return false;
    if (!send("*2\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n")) return false;
    return command().starts_with("CLIENT SETINFO") && command().starts_with("CLIENT SETINFO") && send("+OK\r\n+OK\r\n");
  }

  /// Waits until the client closes the connection.
  void wait_for_end() {
    while (fill()) unread_.clear();
  }

  /// Ends the connection with a reset instead of a clean end.
  void reset() {
    const linger now{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }

 private:
  bool fill() {
    char chunk[4096];
    const auto got = ::recv(fd_, chunk, sizeof chunk, 0);
    if (got <= 0) return false;
    unread_.append(chunk, static_cast<std::size_t>(got));
    return true;
  }
  std::string line() {
    for (;;) {
      if (const auto end = unread_.find("\r\n"); end != std::string::npos) {
        std::string text = unread_.substr(0, end);
        unread_.erase(0, end + 2);
        return text;
      }
      if (!fill()) return {};
    }
  }

  int fd_;
  std::string unread_;
};

/// Listens on a free port of 127.0.0.1 and runs the script for every connection, each in a thread of its own. A
/// connection is closed when its script returns; the destructor ends those that still run.
class scripted_server {
 public:
  /// Gets the connection and its number, from 0.
  using script = std::function<void(peer&, int)>;

  explicit scripted_server(script play)
      : play_{std::move(play)}, listener_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)} {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof name;
    if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) != 0 ||
        ::listen(listener_.get(), 64) != 0 ||
        ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&name), &size) != 0) {
      throw std::system_error{errno, std::generic_category(), "scripted_server"};
    }
    port_ = ntohs(name.sin_port);
    acceptor_ = std::thread{[this] { accept(); }};
  }
  ~scripted_server() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    acceptor_.join();
    {
      const std::lock_guard lock{mutex_};
      for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
    }
    for (std::thread& each : players_) each.join();
  }
  scripted_server(const scripted_server&) = delete;
  scripted_server& operator=(const scripted_server&) = delete;

  [[nodiscard]] std::string url() const { return "redis://127.0.0.1:" + std::to_string(port_); }
  [[nodiscard]] int connections() const { return connections_; }

 private:
  void accept() {
    for (;;) {
      const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      const int number = connections_++;
      {
        const std::lock_guard lock{mutex_};
        open_.push_back(fd);
      }
      players_.emplace_back([this, fd, number] {
        peer client{fd};
        try {
          play_(client, number);
        } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): the client sent something that is no command
        }
        const std::lock_guard lock{mutex_};
        std::erase(open_, fd);
        ::close(fd);
      });
    }
  }

  script play_;
  tenantry::net::descriptor listener_;
  int port_ = 0;
  std::atomic<int> connections_{0};
  std::mutex mutex_;
  std::vector<int> open_;
  std::vector<std::thread> players_;
  std::thread acceptor_;
};

}  // namespace support
