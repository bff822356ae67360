#pragma once
// The sans-io half of a push connection: subscriptions, messages, invalidations and the heartbeat.

#include "engine/fifo.hpp"
#include "engine/push_event.hpp"
#include "engine/subscription_set.hpp"
#include "resp/reply_reader.hpp"

#include <tenantry/client.hpp>
#include <tenantry/reply.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tenantry::detail {

struct push_options {
  /// How long nothing may arrive before a PING is sent; no_timeout: no PING ever.
  std::chrono::milliseconds heartbeat = std::chrono::seconds{5};
  /// How long nothing may arrive after that before the connection counts as dead.
  std::chrono::milliseconds heartbeat_timeout = std::chrono::seconds{5};
  /// How long to wait after the server was too busy for a subscription (BUSY, LOADING, ...).
  std::chrono::milliseconds retry_after = std::chrono::milliseconds{100};
  reply_limits limits{};
};

/// The subscriptions of one connection after another, over RESP2.
///
/// - Whatever order names are wanted and unwanted in, the server ends up subscribed to what is wanted. Each connection
///   starts a new generation and asks for everything wanted at that time.
/// - A name follows its own way: refused by the server it costs no other name its subscription.
/// - From `confirmed` on, until `lost`, `unwant` or the end of the connection, each message that the server sends for
///   a name becomes one event, in the server's order. Messages of names that are not wanted are only counted. After
///   `unwant` and `want` in a row, a message of the subscription that is being left is not delivered.
/// - Answers match commands strictly first in, first out. What no command waits for, or is not RESP2, is an error that
///   ends the connection.
/// - What is sent ahead is bounded: 256 names and 64 KiB per command, and about 1024 names and 256 KiB unanswered.
///
/// Not promised: that nothing is missed while there is no connection, or between `lost` and the next `confirmed`.
///
/// No socket, no clock, no thread: the driver tells what happened. It has to hand over what has arrived before it calls
/// `tick`, or a busy driver would take its own delay for silence of the server.
class push_machine {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  explicit push_machine(const push_options& options);

  /// Idempotent, not counted, with or without a connection. After `unwant` a refused name is tried again.
  standing want(push_kind kind, std::string_view name) { return names_.want(kind, name); }
  void unwant(push_kind kind, std::string_view name) { names_.unwant(kind, name); }

  /// From now on the heartbeat is that of these options. It holds for the silence so far as well: `tick` is due.
  void set_heartbeat(const push_options& of);

  /// A connection is ready: handshake done, nothing subscribed. `client_id` is its CLIENT ID, for REDIRECT.
  void connected(time_point now, std::int64_t client_id);
  /// The connection is gone. Bytes of it must not be handed over any more. Adds `ended`; does nothing without one.
  void disconnected(failure why, std::vector<push_event>& out);

  /// True when there may be something to write; `output` tells, and may be empty.
  [[nodiscard]] bool has_output() const noexcept;
  /// What to write next. Stays valid until `wrote` or `disconnected`.
  [[nodiscard]] std::string_view output();
  void wrote(std::size_t size) noexcept { written_ += size; }

  /// Where to put received bytes; untouched by all but `received`, `connected` and `disconnected`.
  [[nodiscard]] std::span<char> room() { return reader_->room(); }
  /// The first `size` bytes of `room()` are filled. What they tell is added to `out`.
  /// Errors: connection_error (protocol); the driver has to end the connection. Events before that are in `out`.
  void received(std::size_t size, time_point now, std::vector<push_event>& out);

  /// Time has passed: to be called when `next_wakeup` is due. May make output. Adds `dead` and `in_sync`.
  void tick(time_point now, std::vector<push_event>& out);
  /// When to call `tick`; may be in the past. Look again after every other call.
  [[nodiscard]] std::optional<time_point> next_wakeup() const noexcept;

  /// True when everything wanted is confirmed or refused on this connection.
  [[nodiscard]] bool ready() const noexcept { return reader_.has_value() && names_.open() == 0; }
  /// The number of this connection, or of the last one; 0 before the first.
  [[nodiscard]] std::uint64_t generation() const noexcept { return generation_; }
  /// The CLIENT ID of this connection; nothing without one.
  [[nodiscard]] std::optional<std::int64_t> client_id() const noexcept { return client_id_; }
  /// Messages that arrived for nobody, of all generations.
  [[nodiscard]] std::uint64_t dropped() const noexcept { return dropped_; }

 private:
  using motion = subscription::motion;
  /// A command on the way: a PING has no names.
  struct expected {
    subscription_set::batch sent;
    std::size_t answered = 0;
    std::size_t bytes = 0;

    [[nodiscard]] bool is_ping() const noexcept { return sent.what == motion::none; }
  };

  [[nodiscard]] bool may_send() const noexcept;
  void stage();
  void send(subscription_set::batch names);
  subscription_set::batch settle_front() noexcept;
  void count_answer() noexcept;

  void take(reply answer, time_point now, std::vector<push_event>& out);
  void take_error(const std::string& text, time_point now, std::vector<push_event>& out);
  void take_array(reply answer, std::vector<push_event>& out);
  void take_message(push_kind kind, reply& answer, std::vector<push_event>& out);
  void take_invalidation(reply& payload, std::vector<push_event>& out);
  void take_joined(push_kind kind, reply& name, std::vector<push_event>& out);
  void take_left(push_kind kind, reply& name, std::vector<push_event>& out);
  void take_pong();
  [[nodiscard]] subscription_set::record* expected_name(push_kind kind, motion what, std::string_view name) noexcept;
  void report_sync(std::vector<push_event>& out);

  push_options options_;
  subscription_set names_;

  std::optional<resp::reply_reader> reader_;  // there is a connection
  std::uint64_t generation_ = 0;
  std::optional<std::int64_t> client_id_;
  std::uint64_t dropped_ = 0;
  bool in_sync_ = false;  // reported
  bool dead_ = false;     // reported

  fifo<expected> on_the_way_;
  std::size_t names_on_the_way_ = 0;
  std::size_t bytes_on_the_way_ = 0;
  std::optional<time_point> hold_;  // no subscription is sent before
  std::string output_;
  std::size_t written_ = 0;
  std::vector<std::string_view> words_;  // of the command being made

  time_point heard_;                 // when a byte last arrived
  std::optional<time_point> asked_;  // when a PING was due, if nothing has arrived since
  bool ping_due_ = false;            // not staged yet
  bool ping_on_the_way_ = false;
};

}  // namespace tenantry::detail
