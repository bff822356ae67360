#include "support/fault_proxy.hpp"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <system_error>
#include <utility>

namespace support {

namespace {

using tenantry::net::clock;
using tenantry::net::descriptor;

constexpr std::size_t most_queued = std::size_t{1} << 20U;  // then the proxy stops reading, as a full network does
constexpr int most_sends = 4096;                            // in one turn, so that every connection gets its own

constexpr std::size_t index(flow direction) noexcept { return static_cast<std::size_t>(direction); }
constexpr std::array directions{flow::to_server, flow::to_client};

[[noreturn]] void fail(const char* what) { throw std::system_error{errno, std::generic_category(), what}; }

sockaddr_in loopback_at(std::uint16_t port) noexcept {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return name;
}

descriptor bound_to(std::uint16_t port) {
  descriptor made{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  const int on = 1;
  const sockaddr_in name = loopback_at(port);
  if (!made || ::setsockopt(made.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      ::bind(made.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) {
    fail("fault_proxy");
  }
  return made;
}

std::uint16_t port_of(const descriptor& bound) {
  sockaddr_in name{};
  socklen_t size = sizeof name;
  if (::getsockname(bound.get(), reinterpret_cast<sockaddr*>(&name), &size) != 0) fail("fault_proxy");
  return ntohs(name.sin_port);
}

void send_at_once(const descriptor& fd) noexcept {
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/// Closing becomes RST.
void reset_when_closed(const descriptor& fd) noexcept {
  const linger now{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

bool would_block() noexcept { return errno == EAGAIN || errno == EINTR || errno == EINPROGRESS; }

}  // namespace

/// One direction of one connection.
struct fault_proxy::channel {
  struct piece {
    std::string bytes;
    std::size_t sent = 0;
    clock::time_point due;
  };

  [[nodiscard]] bool passes() const noexcept { return now.carries == faults::transport::passes && !gap; }
  [[nodiscard]] bool wants_bytes() const noexcept { return !source_ended && queued < most_queued; }
  /// When there is something to send on; never: nothing, or not now.
  [[nodiscard]] clock::time_point next_due() const noexcept {
    return passes() && !queue.empty() ? queue.front().due : clock::time_point::max();
  }
  /// What is on its way, and all that follows.
  void lose() noexcept {
    gap = true;
    queue.clear();
    queued = 0;
  }

  int from = -1;
  int to = -1;
  faults now{};
  std::deque<piece> queue{};
  std::size_t queued = 0;
  bool gap = false;           // bytes were lost: nothing passes any more
  bool source_ended = false;  // the sender has said that it is done
  bool end_sent = false;      // and the receiver was told
  bool blocked = false;       // the receiver's kernel takes no more for now
};

struct fault_proxy::connection {
  /// FIN to the receiver; whatever comes in this direction is lost from now on.
  static void end(channel& one) noexcept {
    if (!one.end_sent) ::shutdown(one.to, SHUT_WR);
    one.end_sent = true;
    one.lose();
  }

  descriptor client;
  descriptor server;
  std::array<channel, 2> way{};
  bool doomed = false;  // to be ended with RST
};

fault_proxy::fault_proxy(std::uint16_t server_port) : server_port_{server_port} {
  // Bound by number, a port stays bound while it is not listened on, so that refusing does not lose it.
  const descriptor finder = bound_to(0);
  port_ = port_of(finder);
  listener_ = bound_to(port_);
  if (::listen(listener_.get(), 256) != 0) fail("fault_proxy");
  thread_ = std::thread{[this] { loop(); }};
}

fault_proxy::~fault_proxy() {
  change([this] { stop_ = true; });
  thread_.join();
}

template <class Change>
void fault_proxy::change(Change&& what) {
  const std::lock_guard held{mutex_};
  std::forward<Change>(what)();
  changed_.set();
}

void fault_proxy::apply(flow direction, const faults& what, reach which) {
  change([&] {
    if (which != reach::open) future_[index(direction)] = what;
    if (which == reach::future) return;
    for (const auto& each : connections_) each->way[index(direction)].now = what;
  });
}

void fault_proxy::apply(const faults& what, reach which) {
  for (const flow direction : directions) apply(direction, what, which);
}

void fault_proxy::apply_to(std::uint16_t seen_from, flow direction, const faults& what) {
  change([&] {
    for (const auto& each : connections_) {
      if (port_of(each->server) == seen_from) each->way[index(direction)].now = what;
    }
  });
}

void fault_proxy::heal() {
  apply(faults{});
  change([this] {
    if (!std::exchange(refusing_, false)) return;
    if (::listen(listener_.get(), 256) != 0) fail("fault_proxy");
  });
}

void fault_proxy::reset() {
  change([this] {
    for (const auto& each : connections_) each->doomed = true;
  });
}

void fault_proxy::half_close(flow direction) {
  change([&] {
    for (const auto& each : connections_) connection::end(each->way[index(direction)]);
  });
}

void fault_proxy::refuse() {
  change([this] {
    if (!std::exchange(refusing_, true)) ::shutdown(listener_.get(), SHUT_RDWR);
  });
}

void fault_proxy::lead_to(std::uint16_t server_port) {
  change([&] { server_port_ = server_port; });
}

std::size_t fault_proxy::connections() const {
  const std::lock_guard held{mutex_};
  return accepted_;
}

std::size_t fault_proxy::open() const {
  const std::lock_guard held{mutex_};
  return connections_.size();
}

std::uint64_t fault_proxy::taken(flow direction) const {
  const std::lock_guard held{mutex_};
  return taken_[index(direction)];
}

std::uint64_t fault_proxy::passed(flow direction) const {
  const std::lock_guard held{mutex_};
  return passed_[index(direction)];
}

void fault_proxy::loop() {
  std::unique_lock held{mutex_};
  std::vector<pollfd> polled;
  while (!stop_) {
    changed_.clear();
    accept_all();
    const auto now = clock::now();
    std::erase_if(connections_, [&](const auto& each) { return !pump(*each, now); });

    // A descriptor without a wish is left out: poll would report its hang-up again and again.
    polled.assign({{.fd = changed_.fd(), .events = POLLIN, .revents = 0},
                   {.fd = refusing_ ? -1 : listener_.get(), .events = POLLIN, .revents = 0}});
    auto next = clock::time_point::max();
    for (const auto& each : connections_) {
      for (const channel& way : each->way) {
        if (way.wants_bytes()) polled.push_back({.fd = way.from, .events = POLLIN, .revents = 0});
        if (way.blocked && way.next_due() <= now) polled.push_back({.fd = way.to, .events = POLLOUT, .revents = 0});
        if (!way.blocked) next = std::min(next, way.next_due());
      }
    }
    held.unlock();
    int patience = -1;
    if (next != clock::time_point::max()) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - clock::now()).count();
      patience = static_cast<int>(std::clamp<std::int64_t>(left, 0, std::numeric_limits<int>::max()));
    }
    (void)::poll(polled.data(), polled.size(), patience);
    held.lock();
  }
  connections_.clear();
}

void fault_proxy::accept_all() {
  while (!refusing_) {
    descriptor client{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (!client) return;
    ++accepted_;
    join(std::move(client));
  }
}

void fault_proxy::join(descriptor client) {
  auto made = std::make_unique<connection>();
  made->client = std::move(client);
  made->server = descriptor{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  const sockaddr_in name = loopback_at(server_port_);
  if (::connect(made->server.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 && !would_block()) {
    reset_when_closed(made->client);
    return;
  }
  send_at_once(made->client);
  send_at_once(made->server);
  made->way[index(flow::to_server)].from = made->way[index(flow::to_client)].to = made->client.get();
  made->way[index(flow::to_server)].to = made->way[index(flow::to_client)].from = made->server.get();
  for (const flow direction : directions) made->way[index(direction)].now = future_[index(direction)];
  connections_.push_back(std::move(made));
}

/// Moves what can be moved now. False when the connection is over.
bool fault_proxy::pump(connection& one, clock::time_point now) {
  for (const flow direction : directions) {
    channel& way = one.way[index(direction)];
    if (!one.doomed && !take(way, direction, now)) one.doomed = true;
    if (!one.doomed && !send_on(way, direction, now)) one.doomed = true;
    if (way.now.cut_after == 0) {
      for (channel& each : one.way) connection::end(each);
    }
  }
  if (one.doomed) {
    reset_when_closed(one.client);
    reset_when_closed(one.server);
    return false;
  }
  return !std::ranges::all_of(one.way,
                              [](const channel& each) { return each.source_ended && (each.end_sent || each.gap); });
}

/// False when the sender has reset its connection.
bool fault_proxy::take(channel& one, flow direction, clock::time_point now) {
  std::array<char, 64U << 10U> chunk;  // NOLINT(*-member-init): filled by recv
  while (one.wants_bytes()) {
    const ssize_t got = ::recv(one.from, chunk.data(), chunk.size(), 0);
    if (got < 0) return would_block();
    const auto size = static_cast<std::size_t>(got);
    taken_[index(direction)] += size;
    if (one.now.carries == faults::transport::swallows) one.lose();
    if (got == 0) {
      one.source_ended = true;
      break;
    }
    if (one.gap) continue;
    one.queue.push_back({.bytes = {chunk.data(), size}, .due = now + one.now.delay});
    one.queued += size;
  }
  return true;
}

/// False when the receiver has reset its connection.
bool fault_proxy::send_on(channel& one, flow direction, clock::time_point now) {
  if (one.now.carries == faults::transport::swallows && !one.queue.empty()) one.lose();
  one.blocked = false;
  for (int sends = 0; sends < most_sends && one.next_due() <= now && one.now.cut_after != 0; ++sends) {
    channel::piece& first = one.queue.front();
    std::size_t size = first.bytes.size() - first.sent;
    if (one.now.segment > 0) size = std::min(size, one.now.segment);
    if (one.now.cut_after) size = std::min(size, *one.now.cut_after);
    const ssize_t sent = ::send(one.to, first.bytes.data() + first.sent, size, MSG_NOSIGNAL);
    if (sent < 0) {
      one.blocked = would_block();
      return one.blocked;
    }
    const auto moved = static_cast<std::size_t>(sent);
    passed_[index(direction)] += moved;
    first.sent += moved;
    one.queued -= moved;
    if (one.now.cut_after) *one.now.cut_after -= moved;
    if (first.sent == first.bytes.size()) one.queue.pop_front();
  }
  if (one.source_ended && !one.end_sent && one.queue.empty() && one.passes()) {
    ::shutdown(one.to, SHUT_WR);
    one.end_sent = true;
  }
  return true;
}

}  // namespace support
