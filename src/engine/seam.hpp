#pragma once
// All that the pattern families may use of the engine beyond the client's public face.

#include "engine/breaker.hpp"
#include "engine/coalescer.hpp"
#include "engine/entropy.hpp"
#include "engine/fifo.hpp"
#include "engine/fork_count.hpp"
#include "engine/histogram.hpp"
#include "engine/jitter.hpp"
#include "engine/parker.hpp"
#include "engine/passing.hpp"
#include "engine/push_connection.hpp"
#include "engine/shared_parts.hpp"

#include <tenantry/client.hpp>
#include <tenantry/command.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/task.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <string_view>
#include <typeinfo>
#include <utility>
#include <vector>

namespace tenantry::detail {

struct seam {
  /// One for all patterns of a client: it counts the outcome of every call, and patterns ask it before they make one.
  static breaker& circuit_breaker(const caller& of) noexcept;
  /// The same as an error. Errors: connection_error (unreachable, not_sent) while it is open; connection_error
  /// (forked).
  static void check_breaker(const caller& of);

  /// A connection of its own to the same server, on the client's I/O thread, which it starts.
  /// Errors: std::system_error when no thread can be started.
  /// Lifetime: must not outlive the client.
  static std::unique_ptr<push_connection> open_push_connection(const caller& of, const push_options& how,
                                                               push_connection::listener told);

  /// The one of its kind that the patterns of a client share, as long as anybody holds it; made by
  /// `make() -> std::shared_ptr<T>`. Errors: connection_error (forked).
  template <class T, class Make>
  static std::shared_ptr<T> shared_part(const caller& of, Make&& make) {
    check_not_forked(of);
    shared_parts& all = parts_of(of);
    const std::lock_guard held{all.mutex};
    std::weak_ptr<void>& place = all.by_type[typeid(T)];
    if (auto there = place.lock()) return std::static_pointer_cast<T>(std::move(there));
    std::shared_ptr<T> made = make();
    place = made;
    return made;
  }

  /// As `execute_all` and `async_execute_all`, for reads after CLIENT TRACKING and CLIENT CACHING, which callers cannot
  /// send. They go on lanes whose end is counted.
  static std::vector<reply> execute_tracked(const caller& of, std::span<const command> commands);
  static task<std::vector<reply>> async_execute_tracked(const caller& of, std::vector<command> commands);
  /// From now on the end of these lanes' connections is noticed at once; starts the I/O thread.
  /// Errors: std::system_error when no thread can be started.
  static void watch_tracked_lanes(const caller& of);
  /// How many of their connections have ended: counted before there is another one. As long as the client.
  [[nodiscard]] static const std::atomic<std::uint64_t>& lost_tracked_lanes(const caller& of) noexcept;

  /// When a call of this caller that begins now has to end.
  [[nodiscard]] static std::chrono::steady_clock::time_point deadline(const caller& of);

  /// True when the client has an observer.
  [[nodiscard]] static bool observed(const caller& of) noexcept;
  /// Tells it, if there is one. To be called without locks held.
  static void notify(const caller& of, std::string_view name, std::initializer_list<event_field> fields) noexcept;

  /// Errors: connection_error (closed, forked), as a call has them.
  static void check_open(const caller& of);
  /// True when the client was closed.
  [[nodiscard]] static bool closed(const caller& of) noexcept;
  /// True in the child of a fork. Only what takes no lock, and looks at nothing that locks guard, may be done there: a
  /// thread of the parent may have held the lock when it forked.
  [[nodiscard]] static bool forked(const caller& of) noexcept;
  /// The same as an error: the first that a call of a pattern does. Errors: connection_error (forked, not_sent).
  static void check_not_forked(const caller& of);

  /// Has ended when the client has been destroyed, other than in the child of a fork; for what may outlive it.
  [[nodiscard]] static std::weak_ptr<const void> life(const caller& of) noexcept;

  /// Waits in a coroutine until then, or until the token is triggered. False when the client was closed, and may be
  /// gone; at once in the child of a fork. Starts the I/O thread.
  static task<bool> pause(const caller& of, std::chrono::steady_clock::time_point until, std::stop_token stop);

  /// The same for a wait after which nothing is sent: closing the client ends it at once.
  static task<bool> idle(const caller& of, std::chrono::steady_clock::time_point until, std::stop_token stop);

  /// For work that no caller waits for, so that a client may end before it: `pause` and `async_execute_all` after which
  /// the coroutine goes on on the I/O thread, where it must be short, and not where the client's executor says. Closing
  /// the client ends such a pause at once.
  static task<bool> pause_apart(const caller& of, std::chrono::steady_clock::time_point until,
                                std::stop_token stop = {});
  static task<std::vector<reply>> execute_apart(const caller& of, std::vector<command> commands);

 private:
  static shared_parts& parts_of(const caller& of) noexcept;
};

}  // namespace tenantry::detail
