#pragma once
// A TLS server that plays a script, for what a real Redis will not do.

#include "net/wait.hpp"
#include "support/certificates.hpp"

#include <openssl/ssl.h>

#include <arpa/inet.h>
#include <csignal>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <netinet/in.h>
#include <pthread.h>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <thread>
#include <utility>

namespace support {

/// One connection, after the handshake.
class tls_peer {
 public:
  explicit tls_peer(SSL* session) : session_{session} {}

  bool send(std::string_view bytes) {
    std::size_t sent = 0;
    return SSL_write_ex(session_, bytes.data(), bytes.size(), &sent) == 1;
  }

  /// Reads until that many lines came; false when the client has gone.
  bool lines(std::size_t count) {
    while (count > 0) {
      char byte = 0;
      std::size_t got = 0;
      if (SSL_read_ex(session_, &byte, 1, &got) != 1) return false;
      if (byte == '\n') --count;
    }
    return true;
  }

  /// Answers what a client without password, name and database says first.
  bool greet() { return lines(5 + 9 + 9) && send("*2\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n+OK\r\n+OK\r\n"); }

  /// Sends back that many bytes as they come.
  void echo(std::size_t size) {
    std::string chunk(10'000, '\0');
    std::size_t got = 0;
    while (size > 0 && SSL_read_ex(session_, chunk.data(), chunk.size(), &got) == 1) {
      size -= got;
      if (!send({chunk.data(), got})) return;
    }
    lines(1);
  }

  /// Takes new keys and asks the client to do so too.
  bool update_keys() {
    return SSL_key_update(session_, SSL_KEY_UPDATE_REQUESTED) == 1 && SSL_do_handshake(session_) == 1;
  }

  /// True when the client ends the connection as TLS wants it, false when it merely goes.
  bool says_good_bye() {
    char byte = 0;
    std::size_t got = 0;
    while (SSL_read_ex(session_, &byte, 1, &got) == 1) continue;
    return SSL_get_error(session_, 0) == SSL_ERROR_ZERO_RETURN;
  }

  [[nodiscard]] std::string server_name() const {
    const char* name = SSL_get_servername(session_, TLSEXT_NAMETYPE_host_name);
    return name != nullptr ? name : "";
  }
  [[nodiscard]] int fd() const { return SSL_get_fd(session_); }

 private:
  SSL* session_;
};

/// Listens on a free port of 127.0.0.1 and plays the script for one connection after another. A connection ends without
/// good-bye when its script returns. Connections whose handshake fails have no script.
class tls_server {
 public:
  using script = std::function<void(tls_peer&)>;

  tls_server(const identity& own, script play)
      : play_{std::move(play)}, context_{SSL_CTX_new(TLS_server_method()), &SSL_CTX_free} {
    SSL_CTX_use_certificate_chain_file(context_.get(), own.certificate_file.c_str());
    SSL_CTX_use_PrivateKey_file(context_.get(), own.key_file.c_str(), SSL_FILETYPE_PEM);
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof name;
    if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) != 0 ||
        ::listen(listener_.get(), 16) != 0 ||
        ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&name), &size) != 0) {
      throw std::runtime_error{"tls_server"};
    }
    port_ = ntohs(name.sin_port);
    acceptor_ = std::thread{[this] { serve(); }};
  }
  ~tls_server() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    {
      const std::lock_guard held{mutex_};
      stopping_ = true;
      if (open_ >= 0) ::shutdown(open_, SHUT_RDWR);
    }
    acceptor_.join();
  }
  tls_server(const tls_server&) = delete;
  tls_server& operator=(const tls_server&) = delete;

  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] std::string url() const { return "rediss://localhost:" + std::to_string(port_); }

 private:
  void serve() {
    sigset_t pipe;  // OpenSSL writes with write(2)
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
    for (;;) {
      const tenantry::net::descriptor fd{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
      if (!fd) return;
      {
        const std::lock_guard held{mutex_};
        if (stopping_) return;
        open_ = fd.get();
      }
      const std::unique_ptr<SSL, decltype(&SSL_free)> session{SSL_new(context_.get()), &SSL_free};
      SSL_set_fd(session.get(), fd.get());
      if (SSL_accept(session.get()) == 1) {
        tls_peer client{session.get()};
        play_(client);
      }
      const std::lock_guard held{mutex_};
      open_ = -1;
    }
  }

  script play_;
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  tenantry::net::descriptor listener_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  std::uint16_t port_ = 0;
  std::mutex mutex_;
  int open_ = -1;
  bool stopping_ = false;
  std::thread acceptor_;
};

}  // namespace support
