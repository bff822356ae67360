// What the kernel knows about the client's sockets.

#include "net/socket.hpp"

#include "engine/connect.hpp"
#include "net/resolver.hpp"
#include "support/scripted_server.hpp"

#include <tenantry/client.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdint>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string>
#include <sys/socket.h>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;

std::uint16_t port_of(const support::scripted_server& server) {
  const std::string url = server.url();
  return static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1)));
}

int option(const net::socket& of, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  CHECK(::getsockopt(of.fd(), level, name, &value, &size) == 0);
  return value;
}

}  // namespace

TEST_CASE("a TCP socket does not delay, is kept alive, gives up on silence, blocks nobody and stays in this program") {
  const support::scripted_server server{[](support::peer& client, int) { client.wait_for_end(); }};
  net::resolver names;
  const auto soon = net::clock::now() + 20s;
  const auto found = names.resolve("127.0.0.1", port_of(server), soon, {});
  const auto opened = net::socket::connect(found.addresses.at(0), soon, 1234ms, {});
  REQUIRE(opened.how == net::ready::io);
  REQUIRE(opened.fault == 0);
  const net::socket& own = opened.connected;
  CHECK(option(own, IPPROTO_TCP, TCP_NODELAY) == 1);
  CHECK(option(own, SOL_SOCKET, SO_KEEPALIVE) == 1);
  CHECK(option(own, IPPROTO_TCP, TCP_KEEPIDLE) == 10);
  CHECK(option(own, IPPROTO_TCP, TCP_KEEPINTVL) == 5);
  CHECK(option(own, IPPROTO_TCP, TCP_KEEPCNT) == 3);
  CHECK(option(own, IPPROTO_TCP, TCP_USER_TIMEOUT) == 1234);
  CHECK((::fcntl(own.fd(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK((::fcntl(own.fd(), F_GETFL) & O_NONBLOCK) != 0);
}

TEST_CASE("bytes that stay unacknowledged for twice the usual deadline end the connection, within 2 s and 1 h") {
  const support::scripted_server server{[](support::peer& client, int) {
    client.greet();
    client.wait_for_end();
  }};
  struct limit {
    std::chrono::milliseconds timeout;
    int milliseconds;
  };
  for (const auto& [timeout, milliseconds] : {limit{5s, 10'000}, limit{1ms, 2'000}, limit{no_timeout, 3'600'000}}) {
    CAPTURE(timeout.count());
    const client_options options{.host = "127.0.0.1", .port = port_of(server), .timeout = timeout};
    net::resolver names;
    const auto connected = detail::connect(options, names, net::clock::now() + 20s, {});
    REQUIRE_FALSE(connected.failed);
    REQUIRE(connected.how == net::ready::io);
    CHECK(option(connected.socket, IPPROTO_TCP, TCP_USER_TIMEOUT) == milliseconds);
  }
}
