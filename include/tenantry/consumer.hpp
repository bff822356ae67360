#pragma once
// Consumers that share the events of a log among them.

#include <tenantry/codec.hpp>
#include <tenantry/detail/consume_core.hpp>
#include <tenantry/task.hpp>

#include <concepts>
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace tenantry {

/// An event, handed to one consumer of a group.
template <class T>
struct work {
  T value;
  detail::work_ref source;

  /// The event's, as `logged::id`: the same in every attempt, so what tells whether it was done before.
  [[nodiscard]] std::string_view id() const noexcept { return detail::id_of(*source); }
  [[nodiscard]] std::string_view payload() const noexcept { return detail::bytes_of(*source); }
  /// 1 at first.
  [[nodiscard]] std::uint32_t attempt() const noexcept { return detail::attempt_of(*source); }
  /// True when another consumer may have been given it meanwhile, because this process was not heard of for so long.
  [[nodiscard]] bool lost() const noexcept { return detail::lost(*source); }
};

/// A consumer of a group: each event of the log is handed to one consumer of each group. See `event_log::consume`.
///
///     auto worker = log.consume(sub, acme, "mailer", [](const work<alarm>& w) { send_mail(w.value); });
///     worker.run(stop);                          // until `stop`; several threads and processes: a consumer for each
///
/// Promised: each event that the log keeps is handed out until a handler returned, or until it becomes a dead letter
/// after `max_attempts`; a consumer that dies or hangs loses nothing, others get what it was given after `claim_after`.
/// What the codec cannot decode is a dead letter at once.
///
/// Not promised: exactly once. Where an answer of Redis is lost, a process is stopped for long, or a server loses what
/// it had acknowledged, an event is handed out again: `work::id` tells. An attempt counts from when an event was taken;
/// one that was taken before is taken alone, so that an event that kills its consumers takes no other one with it. Nor
/// an order: consumers work side by side, and what failed comes later.
///
/// Keys:     the log's stream and meta; `log:{acme}:alarms#dead:<group>`, a stream of the dead letters.
/// Cost:     no connection of its own. One round trip for each `batch` of events, which also settles those before; and
///           two of a single event, to take and to settle it. Each idle consumer asks when an event is appended.
/// Threads:  `stop` and `counters` from any thread, also from the handler; one `run` at a time.
/// Lifetime: the client, the log's codec and the subscriber must outlive it.
/// Source:   XREADGROUP, XACK, XAUTOCLAIM, XPENDING (Redis 7.0).
template <class T, codec_of<T> Codec = default_codec<T>>
class consumer {
 public:
  using handler = std::function<void(const work<T>&)>;
  using async_handler = std::function<task<void>(const work<T>&)>;

  template <class Handler>
    requires std::invocable<Handler&, const work<T>&>
  consumer(detail::consume_core core, Handler handle) : core_{std::move(core)} {
    if constexpr (std::same_as<std::invoke_result_t<Handler&, const work<T>&>, task<void>>) {
      async_handle_ = std::move(handle);
    } else {
      handle_ = std::move(handle);
    }
  }

  /// Hands events to the handler, one after another on this thread, until it is stopped, or its subscriber or client
  /// ends. Then what was not handed out is given back. While Redis does not answer, or takes no writes for
  /// now (a replica, no memory, no disk, too few replicas), it waits. Errors: as `subscriber::subscribe`; server_error
  /// where Redis refuses.
  void run(const std::stop_token& stop = {}) {
    core_.begin();
    const leaving at_end{core_};
    while (const detail::work_ref next = core_.next(stop)) {
      if (const auto given = decoded(next)) settle(call(*given));
    }
  }
  /// The same for coroutines: a handler that is a coroutine is awaited, another one is called where this one runs.
  [[nodiscard]] task<void> async_run(std::stop_token stop = {}) {
    auto beginning = core_.async_begin();
    co_await std::move(beginning);
    std::exception_ptr fault;
    try {
      for (;;) {
        auto waiting = core_.async_next(stop);
        const detail::work_ref next = co_await std::move(waiting);
        if (!next) break;
        const auto given = decoded(next);
        if (!given) continue;
        if (!async_handle_) {
          settle(call(*given));
          continue;
        }
        std::exception_ptr thrown;
        try {
          auto handling = async_handle_(*given);
          co_await std::move(handling);
        } catch (...) {
          thrown = std::current_exception();
        }
        settle(thrown);
      }
    } catch (...) {
      fault = std::current_exception();
    }
    auto left = core_.async_leave();
    co_await std::move(left);
    if (fault) std::rethrow_exception(fault);
  }

  /// Ends `run` when the handler has returned, for good. From any thread.
  void stop() noexcept { core_.stop(); }
  [[nodiscard]] consumer_counters counters() const noexcept { return core_.counters(); }

 private:
  struct leaving {
    detail::consume_core& core;
    explicit leaving(detail::consume_core& of) noexcept : core{of} {}
    leaving(const leaving&) = delete;
    leaving& operator=(const leaving&) = delete;
    ~leaving() { core.leave(); }
  };

  std::optional<work<T>> decoded(const detail::work_ref& from) {
    try {
      return work<T>{.value = Codec{}.decode(detail::bytes_of(*from)), .source = from};
    } catch (...) {
      core_.undecodable(words(std::current_exception()));
    }
    return std::nullopt;
  }
  std::exception_ptr call(const work<T>& given) noexcept {
    try {
      if (handle_) {
        handle_(given);
      } else {
        sync_wait(async_handle_(given));
      }
    } catch (...) {
      return std::current_exception();
    }
    return {};
  }
  void settle(const std::exception_ptr& thrown) {
    if (thrown) {
      core_.failed(words(thrown));
    } else {
      core_.done();
    }
  }
  static std::string words(const std::exception_ptr& of) {
    try {
      std::rethrow_exception(of);
    } catch (const std::exception& why) {
      return why.what();
    } catch (...) {
      return "an exception that is none of the standard library";
    }
  }

  detail::consume_core core_;
  handler handle_;
  async_handler async_handle_;
};

}  // namespace tenantry
