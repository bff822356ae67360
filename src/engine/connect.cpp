#include "engine/connect.hpp"

#include "engine/handshake.hpp"
#include "engine/options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <poll.h>
#include <system_error>
#include <utility>

namespace tenantry::detail {

namespace {

connect_result refused(errc code, std::string detail) {
  connect_result result;
  result.failed = failure{.code = code, .what = execution::not_sent, .detail = std::move(detail)};
  return result;
}

connect_result given_up(net::ready how) {
  connect_result result;
  result.how = how;
  return result;
}

/// How long written bytes may stay unacknowledged: twice the usual deadline.
std::chrono::milliseconds unacknowledged_limit(const client_options& options) {
  using namespace std::chrono_literals;
  return std::clamp<std::chrono::milliseconds>(std::min<std::chrono::milliseconds>(options.timeout, 1h) * 2, 2s, 1h);
}

std::string words(int fault) { return std::generic_category().message(fault); }

/// Tries every address, each with its share of the time that is left.
connect_result open(const client_options& options, std::span<const net::address> addresses,
                    net::clock::time_point deadline, std::span<const int> wakeups) {
  int fault = 0;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    const auto now = net::clock::now();
    const auto share = (deadline - now) / static_cast<int>(addresses.size() - i);
    auto attempt = net::socket::connect(addresses[i], now + share, unacknowledged_limit(options), wakeups);
    if (attempt.how == net::ready::woken) return given_up(attempt.how);
    if (attempt.how == net::ready::io && attempt.fault == 0) {
      connect_result result;
      result.socket = std::move(attempt.connected);
      return result;
    }
    if (attempt.how == net::ready::io) fault = attempt.fault;
  }
  if (fault == 0) return given_up(net::ready::deadline);
  return refused(errc::unreachable, words(fault));
}

/// Sends the introduction and judges the answers.
connect_result introduce(const client_options& options, net::socket socket, net::clock::time_point deadline,
                         std::span<const int> wakeups) {
  handshake greeting{options};
  const std::string bytes = greeting.bytes();
  std::string_view unsent = bytes;
  resp::reply_reader reader{options.limits};
  try {
    while (!greeting.complete()) {
      if (!unsent.empty()) {
        const net::transfer sent = socket.send(unsent);
        if (sent.how == net::transfer::status::done) unsent.remove_prefix(sent.size);
        // A server that refuses the connection says why before it closes it, so go on and read that.
        if (sent.how == net::transfer::status::failed) unsent = {};
      }
      const short events = unsent.empty() ? POLLIN : POLLIN | POLLOUT;
      const net::ready how = net::wait(socket.fd(), events, deadline, wakeups);
      if (how != net::ready::io) return given_up(how);
      const net::transfer got = socket.receive(reader.room());
      if (got.how == net::transfer::status::failed) return refused(errc::unreachable, words(got.fault));
      if (got.how == net::transfer::status::ended) {
        return refused(errc::unreachable, "the server closed the connection during the handshake");
      }
      reader.filled(got.size);
      while (!greeting.complete()) {
        const auto answer = reader.next();
        if (!answer) break;
        greeting.accept(*answer);
      }
    }
  } catch (const error& refusal) {
    return refused(refusal.code(), refusal.what());
  }
  if (!reader.empty()) return refused(errc::protocol, "more replies than the handshake asked for");
  connect_result result;
  result.socket = std::move(socket);
  return result;
}

}  // namespace

connect_result connect(const client_options& options, net::resolver& names, net::clock::time_point deadline,
                       std::span<const int> wakeups) {
  connect_result opened;
  if (!options.unix_socket.empty()) {
    const net::address path = net::socket::unix_address(options.unix_socket);
    opened = open(options, {&path, 1}, deadline, wakeups);
  } else {
    const net::resolution found = names.resolve(options.host, options.port, deadline, wakeups);
    if (found.how != net::ready::io) return given_up(found.how);
    if (found.addresses.empty()) {
      return refused(errc::unreachable, fmt::format("host {}: {}", options.host, found.failure));
    }
    opened = open(options, found.addresses, deadline, wakeups);
  }
  if (opened.failed || opened.how != net::ready::io) return opened;
  return introduce(options, std::move(opened.socket), deadline, wakeups);
}

}  // namespace tenantry::detail
