#pragma once
// Drives a lane with the threads that wait for its replies; it has no thread of its own.

#include "engine/connect.hpp"
#include "engine/lane.hpp"
#include "net/resolver.hpp"
#include "net/socket.hpp"
#include "net/wait.hpp"

#include <tenantry/client.hpp>

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

namespace tenantry::detail {

/// A call and the thread that waits for it. Lives in that thread's frame.
struct pending : exchange {
  net::clock::time_point deadline;
  std::condition_variable wake;            // waits for another thread to read, write or connect for it
  const net::wakeup* interrupt = nullptr;  // ends this thread's own wait on the socket; only with a stop_token
  bool stopped = false;
};

/// There are three roles, each held by at most one waiting thread: the writer sends what all have enqueued, the reader
/// receives for all, and the connector opens the connection. A thread takes a free role that it needs, and on leaving
/// wakes another thread if a role that is still needed stays free. System calls run without the mutex.
///
/// A thread is only notified while the mutex is held, and not touched afterwards: its frame may be gone.
class blocking_driver {
 public:
  explicit blocking_driver(client_options options);
  ~blocking_driver();
  blocking_driver(const blocking_driver&) = delete;
  blocking_driver& operator=(const blocking_driver&) = delete;

  /// Sends the commands and waits for as many replies. Errors: as `caller` says.
  void run(std::span<const command> commands, std::span<reply> replies, net::clock::time_point deadline,
           const std::stop_token& stop_with);

  /// When a call that begins now has to end.
  [[nodiscard]] net::clock::time_point deadline_of(const call_options& how) const noexcept;

  void close(std::chrono::milliseconds drain);

 private:
  using lock = std::unique_lock<std::mutex>;
  enum class phase : unsigned char { offline, connecting, online };

  // Without memory for its own bookkeeping the program ends, instead of leaving a lane that points to a frame that is
  // gone.
  void work(pending& mine, lock& held) noexcept;
  bool connect(pending& mine, lock& held);
  bool write(pending& mine, lock& held);
  bool read(pending& mine, lock& held);
  bool read_once(const pending& mine, lock& held, short events);
  net::ready wait_on_socket(const pending& mine, short events, const net::wakeup& turn) const noexcept;
  bool wait_for_turn(pending& mine, lock& held);

  void check_idle_connection();
  void break_connection(errc code, std::string why);
  void leave_broken_connection() noexcept;
  void hand_on();
  void notify_settled(const pending* except);
  void stop(pending& call);
  [[nodiscard]] std::string describe(const pending& call) const;
  [[noreturn]] static void raise(const failure& why, const std::string& text);

  const client_options options_;
  const std::string endpoint_;
  net::wakeup closing_;      // ends an attempt to connect
  net::wakeup wake_reader_;  // the writer's role is free, or the reader's, while the other waits on the socket
  net::wakeup wake_writer_;

  std::mutex mutex_;
  phase phase_ = phase::offline;
  bool closed_ = false;  // no new calls
  bool ended_ = false;   // and those under way have failed
  std::size_t callers_ = 0;
  std::condition_variable no_callers_;

  lane lane_;
  net::socket socket_;   // used without the mutex by writer and reader; replaced when neither is there
  net::resolver names_;  // used by the connector
  const pending* writer_ = nullptr;
  bool writer_waits_ = false;  // on the socket, while another thread reads
  bool reading_ = false;
  std::optional<failure> broken_;  // the connection is to be left
  net::clock::time_point last_use_{};
  std::vector<exchange*> settled_;
};

}  // namespace tenantry::detail
