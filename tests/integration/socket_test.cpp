// What the kernel knows about the client's sockets.

#include "net/socket.hpp"

#include "engine/connect.hpp"
#include "net/resolver.hpp"
#include "support/concurrency.hpp"
#include "support/scripted_server.hpp"

#include <tenantry/client.hpp>

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/time.h>
#include <utility>

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

net::socket connected_to(const support::scripted_server& server) {
  net::resolver names;
  const auto soon = net::clock::now() + 20s;
  const auto found = names.resolve("127.0.0.1", port_of(server), soon, {});
  auto opened = net::socket::connect(found.addresses.at(0), soon, 1234ms, {});
  REQUIRE(opened.how == net::ready::io);
  REQUIRE(opened.fault == 0);
  return std::move(opened.connected);
}

}  // namespace

TEST_CASE("a TCP socket does not delay, is kept alive, gives up on silence and stays in this program") {
  const support::scripted_server server{[](support::peer& client, int) { client.wait_for_end(); }};
  const net::socket own = connected_to(server);
  CHECK(option(own, IPPROTO_TCP, TCP_NODELAY) == 1);
  CHECK(option(own, SOL_SOCKET, SO_KEEPALIVE) == 1);
  CHECK(option(own, IPPROTO_TCP, TCP_KEEPIDLE) == 10);
  CHECK(option(own, IPPROTO_TCP, TCP_KEEPINTVL) == 5);
  CHECK(option(own, IPPROTO_TCP, TCP_KEEPCNT) == 3);
  CHECK(option(own, IPPROTO_TCP, TCP_USER_TIMEOUT) == 1234);
  CHECK((::fcntl(own.fd(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("sending and receiving wait for nothing") {
  const support::must_end limit;
  support::gate done;
  const support::scripted_server server{[&done](support::peer&, int) { done.wait(); }};  // reads nothing
  const support::opens_at_end opens{done};
  const net::socket own = connected_to(server);
  const timeval no_limit{};
  REQUIRE(::setsockopt(own.fd(), SOL_SOCKET, SO_RCVTIMEO, &no_limit, sizeof no_limit) == 0);
  std::array<char, 16> room{};
  CHECK(own.receive(room).how == net::transfer::status::would_block);
  CHECK_FALSE(own.has_news());
  const std::string bytes(1U << 20U, 'x');
  net::transfer sent;
  while (sent.how == net::transfer::status::done) sent = own.send(bytes);
  CHECK(sent.how == net::transfer::status::would_block);
}

TEST_CASE("waiting for bytes ends with them, with the connection, and without either after a while") {
  const support::must_end limit;
  const support::scripted_server server{[](support::peer& client, int) {
    client.command();
    client.send("bytes");
    client.command();
  }};
  const net::socket own = connected_to(server);
  REQUIRE(own.can_wait());
  std::array<char, 16> room{};
  CHECK(own.wait_and_receive(room).how == net::transfer::status::would_block);
  const command ping{"PING"};
  CHECK(own.send(ping.bytes()).size == ping.bytes().size());
  net::transfer got{.how = net::transfer::status::would_block};
  while (got.how == net::transfer::status::would_block) got = own.wait_and_receive(room);
  CHECK(std::string_view{room.data(), got.size} == "bytes");
  own.send(ping.bytes());
  got = {.how = net::transfer::status::would_block};
  while (got.how == net::transfer::status::would_block) got = own.wait_and_receive(room);
  CHECK(got.how == net::transfer::status::ended);
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
