#pragma once
// What tests need around a private server, without the library's own client.

#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <arpa/inet.h>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <netinet/in.h>
#include <poll.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace support {

/// Skips the running test case where there is no server to run; fails it with TENANTRY_TEST_REQUIRE_REDIS=1.
inline void need_redis() {
  if (tenantry::testing::redis_server_available()) return;
  const char* required = std::getenv("TENANTRY_TEST_REQUIRE_REDIS");
  if (required != nullptr && std::string_view{required} == "1") FAIL("there is no redis-server to run");
  SKIP("there is no redis-server to run");
}

/// Waits until the condition holds, at most 20 s. False where it never did.
template <typename Condition>
bool eventually(Condition&& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{20};
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds{2});
  }
  return true;
}

inline sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

/// The first line of the server's reply, "refused" without a connection, "silent" without a reply in time.
template <typename Address>
std::string ask(const Address& address, std::string_view command,
                std::chrono::milliseconds patience = std::chrono::seconds{10}) {
  const int fd = ::socket(reinterpret_cast<const sockaddr&>(address).sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  std::string reply = "refused";
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    const std::string line = std::string{command} + "\r\n";
    (void)::send(fd, line.data(), line.size(), MSG_NOSIGNAL);
    pollfd event{fd, POLLIN, 0};
    std::array<char, 256> buffer{};
    const bool answered = ::poll(&event, 1, static_cast<int>(patience.count())) == 1;
    const ssize_t got = answered ? ::recv(fd, buffer.data(), buffer.size(), 0) : 0;
    reply = got > 0 ? std::string(buffer.data(), static_cast<std::size_t>(got)) : "silent";
    reply = reply.substr(0, reply.find('\r'));
  }
  ::close(fd);
  return reply;
}

inline std::string ask(const tenantry::testing::redis_server& server, std::string_view command,
                       std::chrono::milliseconds patience = std::chrono::seconds{10}) {
  return ask(loopback(server.port()), command, patience);
}

}  // namespace support
