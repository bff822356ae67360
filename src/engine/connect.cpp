#include "engine/connect.hpp"

#include "engine/handshake.hpp"
#include "engine/options.hpp"
#include "net/tls.hpp"
#include "resp/reply_reader.hpp"

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

std::string words(int fault) { return std::generic_category().message(fault); }

/// Tries every address, each with its share of the time that is left.
connect_result open(const client_options& options, std::span<const net::address> addresses,
                    net::clock::time_point deadline, std::span<const int> wakeups) {
  int fault = 0;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    const auto now = net::clock::now();
    const auto share = (deadline - now) / static_cast<int>(addresses.size() - i);
    auto attempt = net::socket::connect(addresses[i], now + share, stall_limit(options), wakeups);
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

/// Why a transfer ended the introduction.
connect_result lost(const client_options& options, const net::socket& socket, const net::transfer& got, bool silent) {
  if (const auto defect = socket.defect()) return refused(defect->code, defect->text);
  std::string text = got.how == net::transfer::status::failed ? words(got.fault)
                                                              : "the server closed the connection during the handshake";
  if (silent && !options.tls && options.unix_socket.empty()) text += "; if it expects TLS, use rediss://";
  return refused(errc::unreachable, std::move(text));
}

/// Encrypts an open connection.
connect_result encrypt(const tls_options& options, const std::string& host, net::socket socket,
                       net::clock::time_point deadline, std::span<const int> wakeups) {
  connect_result result;
  try {
    const auto context = net::tls_context_of(options);
    auto started =
        socket.start_tls(*context, options.server_name.empty() ? host : options.server_name, deadline, wakeups);
    if (started.how != net::ready::io) {
      result = given_up(started.how);
      if (started.silent) result.waited_for = "an answer to the TLS hello; does it speak TLS on this port?";
      return result;
    }
    if (started.failed) return refused(started.failed->code, std::move(started.failed->text));
  } catch (const invalid_option& refusal) {
    return refused(refusal.code(), refusal.what());
  }
  result.socket = std::move(socket);
  return result;
}

/// Sends the introduction and judges the answers.
connect_result introduce(const client_options& options, const credentials& login, net::socket socket,
                         net::clock::time_point deadline, std::span<const int> wakeups) {
  handshake greeting{options, login};
  const std::string bytes = greeting.bytes();
  std::string_view unsent = bytes;
  resp::reply_reader reader{options.limits};
  bool silent = true;
  try {
    while (!greeting.complete()) {
      if (!unsent.empty()) {
        const net::transfer sent = socket.send(unsent);
        if (sent.how == net::transfer::status::done) unsent.remove_prefix(sent.size);
        // A server that refuses the connection says why before it closes it, so go on and read that.
        if (sent.how == net::transfer::status::failed) unsent = {};
      }
      const short events = unsent.empty() ? POLLIN : POLLIN | POLLOUT;
      if (!socket.buffered()) {
        const net::ready how = net::wait(socket.fd(), events, deadline, wakeups);
        if (how != net::ready::io) return given_up(how);
      }
      const net::transfer got = socket.receive(reader.room());
      if (got.how == net::transfer::status::failed || got.how == net::transfer::status::ended) {
        return lost(options, socket, got, silent);
      }
      if (got.size > 0) silent = false;
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
  result.client_id = greeting.client_id();
  return result;
}

}  // namespace

connect_result connect(const client_options& options, net::resolver& names, net::clock::time_point deadline,
                       std::span<const int> wakeups) {
  credentials login{.username = options.username, .password = options.password};
  try {
    if (options.provide_credentials) login = options.provide_credentials();
  } catch (const std::exception& fault) {
    return refused(errc::unreachable, fmt::format("no credentials: {}", fault.what()));
  } catch (...) {
    return refused(errc::unreachable, "no credentials: their provider threw something unknown");
  }
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
  if (options.tls) {
    opened = encrypt(*options.tls, options.host, std::move(opened.socket), deadline, wakeups);
    if (opened.failed || opened.how != net::ready::io) return opened;
  }
  return introduce(options, login, std::move(opened.socket), deadline, wakeups);
}

}  // namespace tenantry::detail
