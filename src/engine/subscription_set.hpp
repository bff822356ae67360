#pragma once
// The names that a push connection shall be subscribed to, and those that it is. Sans-io.

#include "engine/fifo.hpp"
#include "engine/push_event.hpp"

#include <array>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tenantry::detail {

/// How far a wanted name is.
enum class standing : unsigned char {
  pending,    ///< an event `confirmed` or `refused` will follow, if need be on a later connection
  confirmed,  ///< its messages arrive
  refused,    ///< by the server, on this connection
};

/// One subscription. Of each name at most one command is on the way, so that its answer says where the name is, and the
/// rest is the difference between `wanted` and `held`.
struct subscription {
  enum class motion : unsigned char { none, joining, leaving };

  push_kind kind = push_kind::channel;
  bool wanted = false;
  bool held = false;     // the server has confirmed it
  bool refused = false;  // not tried again on this connection
  bool kept = false;     // the server refused to end it
  bool listed = false;   // in a queue of names to look at
  bool awaited = false;  // keeps this generation from being in sync
  motion on_the_way = motion::none;

  [[nodiscard]] bool confirmed() const noexcept { return wanted && held && on_the_way != motion::leaving; }
  [[nodiscard]] bool open() const noexcept { return wanted && !refused && !confirmed(); }
};

/// Decides what to subscribe to and what to leave. Whoever sends the commands reports how each name fared.
class subscription_set {
 public:
  using record = std::pair<const std::string, subscription>;
  /// One command: all its names are on the way until each was reported back.
  struct batch {
    push_kind kind = push_kind::channel;
    subscription::motion what = subscription::motion::none;
    std::vector<record*> names;
  };

  standing want(push_kind kind, std::string_view name);
  void unwant(push_kind kind, std::string_view name);

  /// A connection begins: nothing is held, everything wanted has to be asked for.
  void begin();
  /// The connection ended: nothing is on the way, held or refused.
  void end();

  /// True when there may be a batch.
  [[nodiscard]] bool has_work() const noexcept;
  [[nodiscard]] std::optional<batch> next();

  // How a name of a batch fared. Those that return bool tell whether its owner has to hear of it.
  bool joined(record& each);
  void left(record& each);
  bool refuse(record& each);
  /// To be sent again later. True: it turned out to be confirmed, because leaving it was given up meanwhile.
  bool again(record& each);
  /// The server does not let it go. True: as in `again`.
  bool keep(record& each);
  /// One of these was refused: they are asked for again in two halves.
  void split(std::vector<record*> names);
  /// The server ended a subscription that it was not asked to end.
  bool lose(push_kind kind, std::string_view name);

  /// The name, when messages for it are to be delivered.
  [[nodiscard]] bool delivers(push_kind kind, std::string_view name) const;

  /// How many wanted names are neither confirmed nor refused.
  [[nodiscard]] std::size_t open() const noexcept { return open_; }
  /// How many of them have been so since the connection began.
  [[nodiscard]] std::size_t awaited() const noexcept { return awaited_; }

 private:
  struct text_hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>{}(text); }
  };
  using records = std::unordered_map<std::string, subscription, text_hash, std::equal_to<>>;
  using motion = subscription::motion;

  static constexpr std::size_t kinds = 3;
  static constexpr std::size_t most_names = 256;
  static constexpr std::size_t most_bytes = 64U << 10U;

  records& of(push_kind kind) noexcept { return all_[static_cast<std::size_t>(kind)]; }
  [[nodiscard]] const records& of(push_kind kind) const noexcept { return all_[static_cast<std::size_t>(kind)]; }
  static motion need(const subscription& of_one) noexcept;
  fifo<record*>& queue(push_kind kind, motion what) noexcept;

  template <class Change>
  void change(record& each, Change&& apply);
  void settle(record& each);
  void take(fifo<record*>& from, batch& into);
  bool still_needed(record& each, motion what);

  std::array<records, kinds> all_;
  std::array<fifo<record*>, 2 * kinds> queues_;  // names to look at: to join by kind, then to leave by kind
  fifo<std::vector<record*>> halves_;            // of refused batches
  std::size_t turn_ = 0;
  std::size_t open_ = 0;
  std::size_t awaited_ = 0;
  bool online_ = false;
};

}  // namespace tenantry::detail
