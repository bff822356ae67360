#pragma once
// Drives a lane with the threads that wait for its replies; it has no thread of its own.

#include "engine/connect.hpp"
#include "engine/lane.hpp"
#include "engine/link_state.hpp"
#include "engine/news.hpp"
#include "engine/parker.hpp"
#include "engine/terms.hpp"
#include "net/resolver.hpp"
#include "net/socket.hpp"
#include "net/wait.hpp"

#include <tenantry/client_options.hpp>
#include <tenantry/metrics.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace tenantry::detail {

class hang_up_watch;

/// A call and the thread that waits for it. Lives in that thread's frame.
struct blocking_call : exchange {
  bool fail_fast = false;
  bool stopped = false;
  bool dozed = false;                      // has yielded to other threads before it sleeps
  bool asleep = false;                     // in its bed
  bool patient = true;                     // has not polled the socket yet
  bool returning = false;                  // finished by another thread, and not back yet
  parker* bed = nullptr;                   // where it waits for another thread to read, write or connect for it
  const net::wakeup* interrupt = nullptr;  // ends this thread's own wait on the socket; only with a stop_token
};

/// There are three roles, each held by at most one waiting thread: the writer sends what all have enqueued, the reader
/// receives for all, and the connector opens the connection. A thread takes a free role that it needs, and on leaving
/// wakes another thread if a role that is still needed stays free. System calls run without the mutex.
class blocking_driver {
 public:
  /// `name` is a literal, for events. `losses` counts the connections that ended, before there is another one.
  blocking_driver(const client_options& options, ownership whose, std::string_view name,
                  std::atomic<std::uint64_t>* losses = nullptr);
  ~blocking_driver();
  blocking_driver(const blocking_driver&) = delete;
  blocking_driver& operator=(const blocking_driver&) = delete;

  /// Sends the commands and waits for as many replies. Nothing, or why there are none.
  std::optional<failure> run(std::span<const command> commands, std::span<reply> replies, const call_terms& terms);

  /// Waits like a call that needs no connection: until `until`, the terms' deadline, a stop or `close`. False unless
  /// the time has come.
  bool pause(net::clock::time_point until, const call_terms& terms);

  /// No new calls. Those under way have until `deadline`: see `wait_closed`. Idempotent, from any thread.
  void begin_close(net::clock::time_point deadline);
  /// Until all calls have ended; those that are still under way at the deadline fail then.
  void wait_closed();
  /// Fails the calls under way, without waiting for them. After `begin_close`.
  void end_calls();
  /// In the child of a fork: closes the descriptor, and says nothing to the server. Nothing else works from then on.
  void abandon() noexcept { socket_.forget(); }
  /// False when an exclusive connection was opened and lost.
  [[nodiscard]] bool alive() const;

  /// Who is to be told of another connection; or nobody.
  void watched_by(hang_up_watch* watch) noexcept;
  /// The descriptor of the connection, unless it is known to have ended; or -1.
  [[nodiscard]] int watched_descriptor() const noexcept;
  /// For the watch: counts a connection that has `hang_up`, and leaves it where nobody else is about to.
  void look_for_hang_up(short hang_up) noexcept;
  [[nodiscard]] lane_metrics metrics() const;

 private:
  using lock = std::unique_lock<std::mutex>;
  using phase = link_state::phase;

  // Without memory for its own bookkeeping the program ends, instead of leaving a lane that points to a frame that is
  // gone.
  void work(blocking_call& mine, lock& held) noexcept;
  std::optional<failure> admit(blocking_call& mine);
  bool connect(blocking_call& mine, lock& held);
  void let_others_join(lock& held);
  bool write(blocking_call& mine, lock& held);
  bool read(blocking_call& mine, lock& held);
  bool read_once(blocking_call& mine, lock& held, short events);
  void give_up(blocking_call& mine);
  [[nodiscard]] bool may_wait_in_receive(const blocking_call& mine, short events,
                                         net::clock::time_point until) const noexcept;
  net::ready wait_on_socket(const blocking_call& mine, short events, net::clock::time_point deadline,
                            const net::wakeup& turn) const noexcept;
  bool wait_for_turn(blocking_call& mine, lock& held, net::clock::time_point deadline);

  void check_idle_connection(net::clock::time_point now);
  void break_connection(failure why);
  void count_loss() noexcept;
  void tell_watch() const noexcept;
  void leave_broken_connection() noexcept;
  void hand_on();
  void finish_complete(const blocking_call* mine);
  void wake_finished(lock& held);
  void stop(blocking_call& call);
  void leave(const blocking_call& mine);
  void end_calls(lock& held);

  const client_options& options_;
  const ownership whose_;
  const std::string_view name_;
  const std::chrono::milliseconds stall_limit_;
  std::atomic<std::uint64_t>* const losses_;
  net::wakeup closing_;      // ends an attempt to connect
  net::wakeup wake_reader_;  // the writer's role is free, or the reader's, while the other waits on the socket
  net::wakeup wake_writer_;

  mutable std::mutex mutex_;
  bool closed_ = false;  // no new calls
  net::clock::time_point close_at_ = forever;
  bool ended_ = false;  // and those under way have failed
  std::size_t callers_ = 0;
  std::size_t returning_ = 0;  // of them, those who have all they came for
  std::condition_variable no_callers_;
  parker_pool beds_;

  link_state link_;
  lane lane_;
  net::socket socket_;   // used without the mutex by writer and reader; replaced when neither is there
  net::resolver names_;  // used by the connector
  const blocking_call* writer_ = nullptr;
  bool writer_waits_ = false;  // on the socket, while another thread reads
  const blocking_call* reader_ = nullptr;
  net::clock::duration tried_for_{};  // to connect, in attempts that ended with their callers' deadlines
  bool used_ = false;                 // an exclusive connection was opened
  std::optional<failure> broken_;     // the connection is to be left
  bool hung_up_ = false;              // seen, and counted, by the watch
  hang_up_watch* watch_ = nullptr;
  net::clock::time_point last_use_{};
  std::vector<exchange*> complete_;
  std::vector<parker*> finished_;  // of calls that have finished, or of who has to take a role
  std::vector<const blocking_call*> pausing_;
  news news_;
};

}  // namespace tenantry::detail
