#pragma once
// A TCP proxy that does to a connection what a network does, for clients of a real server.

#include "net/wait.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace support {

/// A direction of the bytes.
enum class flow : unsigned char { to_server, to_client };

/// What happens to the bytes of one direction.
struct faults {
  enum class transport : unsigned char {
    passes,
    /// Bytes and ends are kept, and go on when the direction passes again, as after a cable was plugged in again.
    holds,
    /// Bytes and ends are gone. Once a byte is lost the direction of that connection never passes again, because TCP
    /// delivers no stream with a gap.
    swallows,
  };

  transport carries = transport::passes;
  /// Every byte arrives this much later; the order stays.
  std::chrono::milliseconds delay{0};
  /// Sent on in pieces of at most so many bytes; 0: as they come.
  std::size_t segment = 0;
  /// Both directions end after so many further bytes of this one. Those bytes arrive.
  std::optional<std::size_t> cut_after = std::nullopt;
};

/// Which connections a change is for: those that are open, those that are accepted later, or both.
enum class reach : unsigned char { open, future, all };

/// Listens on a free port of 127.0.0.1 and joins each connection to one of its own to the server's port there.
///
/// Every member holds for what the proxy reads or accepts after it returned, and for what it has not sent on yet.
/// Threads: all members from any thread; the proxy has one of its own.
class fault_proxy {
 public:
  /// Errors: std::system_error.
  explicit fault_proxy(std::uint16_t server_port);
  /// Ends all connections.
  ~fault_proxy();
  fault_proxy(const fault_proxy&) = delete;
  fault_proxy& operator=(const fault_proxy&) = delete;

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  [[nodiscard]] std::string url() const { return "redis://127.0.0.1:" + std::to_string(port_); }

  /// From now on this direction has exactly these faults, instead of those before.
  void apply(flow direction, const faults& what, reach which = reach::all);
  /// The same for both directions.
  void apply(const faults& what, reach which = reach::all);
  /// The same for one open connection: the one that the server sees as coming from this port (`addr` of CLIENT LIST).
  void apply_to(std::uint16_t seen_from, flow direction, const faults& what);
  /// No faults any more, and new connections are accepted.
  void heal();

  /// Ends every open connection with RST on both sides; what is on its way is lost.
  void reset();
  /// FIN to the receiving side of this direction of every open connection; what is still on its way in it is lost. The
  /// other direction stays as it is.
  void half_close(flow direction);
  /// New connections are refused by the kernel, until `heal`. Those that are open stay.
  void refuse();

  /// Connections that are accepted from now on are joined to this port.
  void lead_to(std::uint16_t server_port);

  /// How many connections were accepted so far.
  [[nodiscard]] std::size_t connections() const;
  /// How many of them are open.
  [[nodiscard]] std::size_t open() const;
  /// How many bytes of this direction came to the proxy, whatever it did with them.
  [[nodiscard]] std::uint64_t taken(flow direction) const;
  /// How many bytes of this direction it sent on.
  [[nodiscard]] std::uint64_t passed(flow direction) const;

 private:
  struct channel;
  struct connection;

  void loop();
  void accept_all();
  void join(tenantry::net::descriptor client);
  bool pump(connection& one, tenantry::net::clock::time_point now);
  bool take(channel& one, flow direction, tenantry::net::clock::time_point now);
  bool send_on(channel& one, flow direction, tenantry::net::clock::time_point now);
  template <class Change>
  void change(Change&& what);

  std::uint16_t port_ = 0;
  tenantry::net::descriptor listener_;
  tenantry::net::wakeup changed_;

  mutable std::mutex mutex_;
  std::uint16_t server_port_;
  std::array<faults, 2> future_;
  std::vector<std::unique_ptr<connection>> connections_;
  std::size_t accepted_ = 0;
  std::array<std::uint64_t, 2> taken_{};
  std::array<std::uint64_t, 2> passed_{};
  bool refusing_ = false;
  bool stop_ = false;

  std::thread thread_;  // last: it uses the others
};

}  // namespace support
