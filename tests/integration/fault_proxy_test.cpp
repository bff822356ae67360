// The proxy that the fault tests stand on, with plain sockets on its client's side.

#include "support/fault_proxy.hpp"

#include "net/wait.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <vector>

namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;
using support::eventually;
using support::fault_proxy;
using support::faults;
using support::flow;
using support::reach;

/// A connection that says and hears bytes.
class raw {
 public:
  explicit raw(std::uint16_t port) : fd_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)} {
    const sockaddr_in name = support::loopback(port);
    if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) fault_ = errno;
    const int on = 1;
    ::setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  explicit raw(const fault_proxy& proxy) : raw{proxy.port()} {}

  [[nodiscard]] bool connected() const { return fault_ == 0; }
  [[nodiscard]] int fault() const { return fault_; }  // errno
  [[nodiscard]] int fd() const { return fd_.get(); }
  void end() const { ::shutdown(fd_.get(), SHUT_WR); }

  raw& say(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0) {
        fault_ = errno;
        break;
      }
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return *this;
  }
  /// The next `size` bytes; fewer where the connection ends, or where nothing comes for 20 s.
  std::string hear(std::size_t size) {
    std::string heard;
    while (heard.size() < size && !ended_ && has_news(20s)) {
      std::array<char, 4096> chunk{};
      const auto got = ::recv(fd_.get(), chunk.data(), std::min(chunk.size(), size - heard.size()), 0);
      if (got < 0) fault_ = errno;
      if (got <= 0) ended_ = true;
      if (got > 0) heard.append(chunk.data(), static_cast<std::size_t>(got));
    }
    return heard;
  }
  /// True when nothing comes any more, in order and without a byte left.
  bool hears_end() { return hear(1).empty() && ended_ && fault_ == 0; }
  bool hears_reset() { return hear(1).empty() && fault_ == ECONNRESET; }
  [[nodiscard]] bool has_news(std::chrono::milliseconds patience = 0ms) const {
    pollfd event{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    return ::poll(&event, 1, static_cast<int>(patience.count())) == 1;
  }

 private:
  tenantry::net::descriptor fd_;
  int fault_ = 0;
  bool ended_ = false;
};

/// A server and a proxy before it.
struct rig {
  rig() : proxy{server().port()} {}
  static tenantry::testing::redis_server& server() {
    support::need_redis();
    static tenantry::testing::redis_server shared;
    return shared;
  }
  fault_proxy proxy;
};

constexpr std::string_view ping = "PING\r\n";
constexpr std::string_view pong = "+PONG\r\n";

bool answers(raw& one) { return one.say(ping).hear(pong.size()) == pong; }

/// How many segments with bytes the kernel received on this connection.
unsigned segments_of(const raw& one) {
  tcp_info info{};
  socklen_t size = sizeof info;
  REQUIRE(::getsockopt(one.fd(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
  return info.tcpi_data_segs_in;
}

const std::string bulk = "$60000\r\n" + std::string(60'000, 'x') + "\r\n";

/// Stores what `GET bulk` answers with `bulk`.
void store_bulk(raw& one) {
  one.say("*3\r\n$3\r\nSET\r\n$4\r\nbulk\r\n" + bulk);
  REQUIRE(one.hear(5) == "+OK\r\n");
}

}  // namespace

TEST_CASE("without faults the proxy passes everything on and counts it") {
  rig over;
  raw one{over.proxy};
  raw two{over.proxy};
  store_bulk(one);
  CHECK(two.say("GET bulk\r\n").hear(bulk.size()) == bulk);
  CHECK(over.proxy.connections() == 2);
  CHECK(over.proxy.open() == 2);
  CHECK(over.proxy.taken(flow::to_server) == over.proxy.passed(flow::to_server));
  CHECK(over.proxy.passed(flow::to_client) == 5 + bulk.size());
}

TEST_CASE("an end is passed on, and both sides are let go") {
  rig over;
  raw one{over.proxy};
  one.say(ping).end();
  CHECK(one.hear(pong.size()) == pong);
  CHECK(one.hears_end());
  CHECK(eventually([&] { return over.proxy.open() == 0; }));
}

TEST_CASE("a delay holds up its own direction and keeps the order") {
  rig over;
  raw one{over.proxy};
  REQUIRE(answers(one));
  for (const flow direction : {flow::to_server, flow::to_client}) {
    over.proxy.apply(direction, {.delay = 60ms});
    const auto begin = steady_clock::now();
    one.say("ECHO a\r\n").say("ECHO b\r\n");
    CHECK(one.hear(14) == "$1\r\na\r\n$1\r\nb\r\n");
    CHECK(steady_clock::now() - begin >= 60ms);
    over.proxy.heal();
  }
  over.proxy.apply(flow::to_client, {.delay = 60min});
  one.say("SET delayed yes\r\n");
  raw direct{rig::server().port()};
  CHECK(eventually([&] { return direct.say("GET delayed\r\n").hear(1) == "$" && direct.hear(1) == "3"; }));
  CHECK_FALSE(one.has_news());
}

TEST_CASE("segments arrive one by one, and are the same bytes") {
  rig over;
  raw one{over.proxy};
  REQUIRE(answers(one));
  const unsigned before = segments_of(one);
  REQUIRE(answers(one));
  REQUIRE(segments_of(one) == before + 1);
  over.proxy.apply({.segment = 1});
  REQUIRE(answers(one));
  CHECK(segments_of(one) > before + 2);
  store_bulk(one);
  CHECK(one.say("GET bulk\r\n").hear(bulk.size()) == bulk);
}

TEST_CASE("a cut lets exactly so many bytes through, also inside a bulk, and ends both sides") {
  rig over;
  raw one{over.proxy};
  store_bulk(one);
  over.proxy.apply(flow::to_client, {.cut_after = 20'003}, reach::open);
  CHECK(one.say("GET bulk\r\n").hear(bulk.size()) == bulk.substr(0, 20'003));
  CHECK(one.hears_end());
  one.end();
  CHECK(eventually([&] { return over.proxy.open() == 0; }));  // so the server has closed its side too
  raw next{over.proxy};
  CHECK(answers(next));
}

TEST_CASE("a cut on the way to the server leaves it with a part of the command") {
  rig over;
  raw one{over.proxy};
  REQUIRE(answers(one));
  over.proxy.apply(flow::to_server, {.cut_after = 14});
  one.say("SET cut 1\r\nSET cut 2\r\n");
  CHECK((one.hear(6).size() < 6 && one.hears_end()));  // the first reply may have come in time
  raw direct{rig::server().port()};
  CHECK(eventually([&] { return direct.say("STRLEN cut\r\n").hear(4) == ":1\r\n"; }));
  one.end();
  REQUIRE(eventually([&] { return over.proxy.open() == 0; }));  // so the server has seen all that came
  CHECK(direct.say("GET cut\r\n").hear(7) == "$1\r\n1\r\n");
  raw next{over.proxy};  // a cut for all connections counts for each anew
  CHECK(next.say(ping).hear(pong.size()) == pong);
  CHECK(next.say("PING xxxxxxxxxxxx\r\n").hears_end());
}

TEST_CASE("what is held goes on when the direction passes again") {
  rig over;
  raw one{over.proxy};
  REQUIRE(answers(one));
  const auto before = over.proxy.taken(flow::to_client);
  over.proxy.apply(flow::to_client, {.carries = faults::transport::holds});
  one.say(ping).say("ECHO a\r\n");
  CHECK(eventually([&] { return over.proxy.taken(flow::to_client) == before + 14; }));
  CHECK_FALSE(one.has_news());
  over.proxy.heal();
  CHECK(one.hear(14) == "+PONG\r\n$1\r\na\r\n");
}

TEST_CASE("a black hole accepts and swallows, and nothing of that connection comes back") {
  rig over;
  raw one{over.proxy};
  REQUIRE(answers(one));
  over.proxy.apply({.carries = faults::transport::swallows});
  const auto before = over.proxy.taken(flow::to_server);
  const auto passed = over.proxy.passed(flow::to_server);
  one.say("SET swallowed 1\r\n");
  raw two{over.proxy};
  CHECK(two.connected());
  two.say("SET swallowed 1\r\n");
  CHECK(eventually([&] { return over.proxy.taken(flow::to_server) == before + 34; }));
  CHECK(over.proxy.passed(flow::to_server) == passed);
  over.proxy.heal();
  one.say(ping);
  CHECK(eventually([&] { return over.proxy.taken(flow::to_server) == before + 40; }));
  CHECK(over.proxy.passed(flow::to_server) == passed);
  CHECK_FALSE(one.has_news());
  raw three{over.proxy};
  CHECK(three.say("EXISTS swallowed\r\n").hear(4) == ":0\r\n");
}

TEST_CASE("a black hole in one direction lets the other pass") {
  rig over;
  raw one{over.proxy};
  REQUIRE(answers(one));
  over.proxy.apply(flow::to_client, {.carries = faults::transport::swallows});
  one.say("SET one-way 1\r\n");
  raw direct{rig::server().port()};
  CHECK(eventually([&] { return direct.say("EXISTS one-way\r\n").hear(4) == ":1\r\n"; }));
  CHECK_FALSE(one.has_news());
}

TEST_CASE("faults are for the connections they were meant for") {
  rig over;
  raw old{over.proxy};
  REQUIRE(answers(old));
  over.proxy.apply({.carries = faults::transport::swallows}, reach::future);
  CHECK(answers(old));
  const auto before = over.proxy.taken(flow::to_server);
  raw fresh{over.proxy};
  fresh.say(ping);
  CHECK(eventually([&] { return over.proxy.taken(flow::to_server) == before + ping.size(); }));
  CHECK_FALSE(fresh.has_news());
  over.proxy.heal();
  over.proxy.apply({.carries = faults::transport::swallows}, reach::open);
  raw later{over.proxy};
  CHECK(answers(later));
  old.say(ping);
  CHECK(eventually([&] { return over.proxy.taken(flow::to_server) == before + 3 * ping.size(); }));
  CHECK_FALSE(old.has_news());
}

TEST_CASE("a reset is a reset on both sides") {
  rig over;
  raw one{over.proxy};
  raw two{over.proxy};
  REQUIRE(answers(one));
  REQUIRE(answers(two));
  over.proxy.reset();
  CHECK(one.hears_reset());
  CHECK(two.hears_reset());
  CHECK(eventually([&] { return over.proxy.open() == 0; }));
  raw next{over.proxy};
  CHECK(answers(next));
}

TEST_CASE("half-closed by the server, a connection still takes commands") {
  rig over;
  raw one{over.proxy};
  REQUIRE(answers(one));
  over.proxy.half_close(flow::to_client);
  CHECK(one.hears_end());
  one.say("SET half 1\r\n");
  raw direct{rig::server().port()};
  CHECK(eventually([&] { return direct.say("EXISTS half\r\n").hear(4) == ":1\r\n"; }));
  CHECK(over.proxy.open() == 1);
}

TEST_CASE("half-closed by the client, a connection still brings replies") {
  rig over;
  raw one{over.proxy};
  REQUIRE(answers(one));
  const auto before = over.proxy.taken(flow::to_client);
  over.proxy.apply(flow::to_client, {.carries = faults::transport::holds});
  one.say(ping);
  REQUIRE(eventually([&] { return over.proxy.taken(flow::to_client) == before + pong.size(); }));
  over.proxy.half_close(flow::to_server);
  over.proxy.heal();
  CHECK(one.hear(pong.size()) == pong);
  CHECK(one.hears_end());  // the server closes when its client does
}

TEST_CASE("a proxy that refuses does so for new connections only, until it is healed") {
  rig over;
  raw old{over.proxy};
  REQUIRE(answers(old));
  over.proxy.refuse();
  CHECK(raw{over.proxy}.fault() == ECONNREFUSED);
  CHECK(raw{over.proxy}.fault() == ECONNREFUSED);
  CHECK(answers(old));
  over.proxy.heal();
  raw next{over.proxy};
  CHECK(answers(next));
  CHECK(over.proxy.connections() == 2);
}

TEST_CASE("without a server behind it a connection is reset") {
  std::uint16_t nobody = 0;
  {
    const fault_proxy gone{1};
    nobody = gone.port();
  }
  fault_proxy proxy{nobody};
  raw one{proxy};
  CHECK((one.hears_reset() || one.fault() == ECONNRESET));
  CHECK(proxy.open() == 0);
}

TEST_CASE("a proxy ends while bytes are held, delayed and swallowed") {
  rig over;
  std::vector<raw> all;
  for (const faults& each : {faults{.carries = faults::transport::holds}, faults{.delay = 60min},
                             faults{.carries = faults::transport::swallows}, faults{}}) {
    over.proxy.apply(each);
    all.emplace_back(over.proxy);
    all.back().say(ping);
  }
  REQUIRE(eventually([&] { return over.proxy.taken(flow::to_server) == all.size() * ping.size(); }));
}
