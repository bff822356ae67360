// One TLS connection, against a server that does what Redis will not.

#include "net/resolver.hpp"
#include "net/socket.hpp"
#include "net/tls.hpp"
#include "support/certificates.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/redis_probe.hpp"
#include "support/tls_server.hpp"

#include <tenantry/client.hpp>

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <future>
#include <poll.h>
#include <string>
#include <string_view>
#include <sys/socket.h>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using status = net::transfer::status;
using support::authority;
using support::failure_of;
using support::tls_peer;
using support::tls_server;

net::clock::time_point soon() { return net::clock::now() + 20s; }

net::socket encrypted(const tls_server& server, const authority& trusted, const std::string& host = "localhost") {
  net::resolver names;
  const auto found = names.resolve("127.0.0.1", server.port(), soon(), {});
  auto opened = net::socket::connect(found.addresses.at(0), soon(), 20s, {});
  const auto context = net::tls_context_of({.ca_file = trusted.file()});
  const auto started = opened.connected.start_tls(*context, host, soon(), {});
  INFO((started.failed ? started.failed->text : ""));
  REQUIRE_FALSE(started.failed);
  REQUIRE(started.how == net::ready::io);
  return std::move(opened.connected);
}

bool wait_for_bytes(const net::socket& from) { return net::wait(from.fd(), POLLIN, soon(), {}) == net::ready::io; }

/// Receives until it is anything but would_block.
net::transfer received(const net::socket& from, std::span<char> room) {
  for (;;) {
    const net::transfer got = from.receive(room);
    if (got.how != status::would_block || !wait_for_bytes(from)) return got;
  }
}

client_options trusting(const authority& trusted, const tls_server& server) {
  client_options options{.port = server.port(), .timeout = 20s, .connect_timeout = 20s};
  options.tls = tls_options{.ca_file = trusted.file()};
  return options;
}

}  // namespace

TEST_CASE("session tickets that arrive on an idle connection are no news, and a reply is") {
  authority trusted;
  const tls_server server{trusted.issue("server", {}), [](tls_peer& client) {
                            client.lines(1);
                            client.send("unasked");
                            client.lines(1);
                          }};
  const net::socket own = encrypted(server, trusted);
  REQUIRE(wait_for_bytes(own));  // TLS 1.3 sends them after the handshake
  CHECK_FALSE(own.has_news());
  CHECK_FALSE(own.buffered());
  std::array<char, 64> room{};
  CHECK(own.receive(room).how == status::would_block);
  CHECK(own.send("\n").size == 1);
  REQUIRE(support::eventually([&] { return own.has_news(); }));
  CHECK(own.receive(room).size == 7);
}

TEST_CASE("a connection that the server ended is news") {
  authority trusted;
  const tls_server server{trusted.issue("server", {}), [](tls_peer&) {}};
  const net::socket own = encrypted(server, trusted);
  CHECK(support::eventually([&] { return own.has_news(); }));
  std::array<char, 64> room{};
  CHECK(own.receive(room).how == status::ended);
}

TEST_CASE("what does not fit into the room is buffered, and comes without polling") {
  authority trusted;
  const std::string sent(10'000, 'r');
  const tls_server server{trusted.issue("server", {}), [&](tls_peer& client) {
                            client.send(sent);
                            client.lines(1);
                          }};
  const net::socket own = encrypted(server, trusted);
  std::array<char, 7> room{};
  net::transfer got = received(own, room);
  std::string all;
  while (got.how == status::done) {
    all.append(room.data(), got.size);
    if (!own.buffered()) break;
    got = own.receive(room);
  }
  CHECK(all == sent);
  CHECK_FALSE(own.buffered());
  CHECK(own.receive(room).how == status::would_block);
}

TEST_CASE("one receive takes as many records as there is room for") {
  authority trusted;
  support::gate looked;
  const tls_server server{trusted.issue("server", {}), [&](tls_peer& client) {
                            for (int i = 0; i < 20; ++i) client.send("0123456789");
                            looked.open();
                            client.lines(1);
                          }};
  const net::socket own = encrypted(server, trusted);
  REQUIRE(looked.wait());
  std::array<char, 400> room{};
  CHECK(received(own, room).size == 200);
}

TEST_CASE("new keys in the middle of a conversation do not disturb it") {
  authority trusted;
  const tls_server server{trusted.issue("server", {}), [](tls_peer& client) {
                            if (!client.greet()) return;
                            while (client.lines(3) && client.update_keys() && client.send("+PONG\r\n")) continue;
                          }};
  client redis{trusting(trusted, server)};
  for (int i = 0; i < 20; ++i) REQUIRE(redis.execute("PING").str() == "PONG");
}

TEST_CASE("a connection that ends in the middle of a reply is lost, with the execution unknown") {
  authority trusted;
  const tls_server server{trusted.issue("server", {}), [](tls_peer& client) {
                            if (client.greet() && client.lines(3)) client.send("$100\r\nhalf of it");
                          }};
  client redis{trusting(trusted, server)};
  const auto fault = failure_of([&] { redis.execute("PING"); });
  CHECK(fault.code == errc::connection_lost);
  CHECK(fault.execution == execution::unknown);
}

TEST_CASE("bytes that somebody put between the records end the connection, and the reason is OpenSSL's") {
  authority trusted;
  const tls_server server{trusted.issue("server", {}), [](tls_peer& client) {
                            const std::string forged = std::string{"\x17\x03\x03\x00\x20", 5} + std::string(32, 'x');
                            (void)::send(client.fd(), forged.data(), forged.size(), MSG_NOSIGNAL);
                            client.lines(1);
                          }};
  const net::socket own = encrypted(server, trusted);
  std::array<char, 64> room{};
  const net::transfer got = received(own, room);
  CHECK(got.how == status::failed);
  CHECK(got.fault == EPROTO);
  REQUIRE(own.defect());
  CHECK(own.defect()->code == errc::protocol);
  CHECK(own.defect()->text.find("decryption failed or bad record mac") != std::string::npos);
  CHECK(own.send("x").how == status::failed);
}

TEST_CASE("a client that goes says good-bye, one that gives up does not") {
  authority trusted;
  std::promise<bool> heard[2];
  int next = 0;
  const tls_server server{trusted.issue("server", {}),
                          [&](tls_peer& client) { heard[next++].set_value(client.says_good_bye()); }};
  net::socket own = encrypted(server, trusted);
  own = {};
  CHECK(heard[0].get_future().get());
  own = encrypted(server, trusted);
  own.abort();
  own = {};
  CHECK_FALSE(heard[1].get_future().get());
}

TEST_CASE("the server learns the host name, but no numeric address") {
  authority trusted;
  std::promise<std::string> names[2];
  int next = 0;
  const tls_server server{trusted.issue("server", {.names = {"DNS:localhost", "IP:127.0.0.1", "IP:::1"}}),
                          [&](tls_peer& client) { names[next++].set_value(client.server_name()); }};
  (void)encrypted(server, trusted, "localhost.");
  CHECK(names[0].get_future().get() == "localhost");
  (void)encrypted(server, trusted, "::1%lo");
  CHECK(names[1].get_future().get().empty());
}

TEST_CASE("writing to a peer that has gone fails, and raises no SIGPIPE") {
  authority trusted;
  const tls_server server{trusted.issue("server", {}), [](tls_peer&) {}};
  const net::socket own = encrypted(server, trusted);
  std::signal(SIGPIPE, SIG_DFL);
  REQUIRE(wait_for_bytes(own));
  const std::string bytes(100'000, 'x');
  CHECK(support::eventually([&] { return own.send(bytes).how == status::failed; }));
}

TEST_CASE("one thread sends while another receives") {
  const support::must_end in_time{90s};
  constexpr std::size_t total = std::size_t{8} << 20U;
  authority trusted;
  const tls_server server{trusted.issue("server", {}), [](tls_peer& client) { client.echo(total); }};
  const net::socket own = encrypted(server, trusted);
  auto sender = support::on_thread([&] {
    std::string bytes(total, '\0');
    for (std::size_t i = 0; i < total; ++i) bytes[i] = static_cast<char>(i % 251);
    std::string_view left = bytes;
    while (!left.empty()) {
      const net::transfer sent = own.send(left);
      if (sent.how == status::failed) return false;
      if (sent.how == status::done) left.remove_prefix(sent.size);
      if (sent.how == status::would_block) net::wait(own.fd(), POLLOUT, soon(), {});
    }
    return true;
  });
  std::string room(50'000, '\0');
  std::size_t at = 0;
  bool right = true;
  while (at < total) {
    const net::transfer got = received(own, room);
    if (got.how != status::done) break;
    for (std::size_t i = 0; i < got.size; ++i) right = right && room[i] == static_cast<char>(at++ % 251);
  }
  CHECK(sender.get());
  CHECK(at == total);
  CHECK(right);
}
