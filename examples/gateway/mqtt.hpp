#pragma once
// A connection to an MQTT broker: libmosquitto with an owner, a thread and no surprises.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace gateway {

/// What becomes of a client's subscriptions, and of the messages for it, when it goes.
enum class mqtt_session : unsigned char {
  persistent,  ///< the broker keeps them until it is back
  clean,       ///< they go as well
};

struct mqtt_options {
  std::string host = "127.0.0.1";
  std::uint16_t port = 1883;
  /// By which the broker knows the session again: unique among those connected, the same after a restart.
  std::string client_id{};
  mqtt_session session = mqtt_session::persistent;
  std::vector<std::string> topics{};  ///< to subscribe to
  std::chrono::seconds keep_alive{30};
  /// The pause after a connection was lost or refused; it doubles up to the longest, and half of it is random.
  std::chrono::milliseconds reconnect_after{100};
  std::chrono::milliseconds longest_reconnect_after{5000};
  std::size_t max_unconfirmed = 1000;  ///< messages of `publish`
};

/// A client of a broker, with QoS 1 in both directions. In a persistent session what is published to its topics while
/// it is away is delivered when it is back, as far as the broker keeps it.
///
/// Not promised: that a message comes only once, or that one whose handler was running when the process died comes
/// again: libmosquitto acknowledges a message before it hands it over.
///
/// Threads: all members from any thread, except `stop` and the destructor from the handler. The handler is called on
/// the
///   client's own thread, one message at a time. While it waits nothing else is read, and the broker holds back; when
///   it waits for longer than one and a half times `keep_alive`, the broker ends the connection and delivers again.
/// Errors: std::runtime_error where the client cannot be made; a lost connection is none.
class mqtt {
 public:
  using handler = std::function<void(std::string_view topic, std::string_view payload)>;

  /// Returns at once; it connects in the background, for as long as it takes. What the handler throws ends nothing.
  mqtt(mqtt_options options, handler on_message);
  /// A client that only publishes.
  explicit mqtt(mqtt_options options);
  /// Waits for the handler, however long it runs.
  ~mqtt();
  mqtt(const mqtt&) = delete;
  mqtt& operator=(const mqtt&) = delete;

  /// The broker has accepted the connection, and all subscriptions.
  [[nodiscard]] bool connected() const noexcept;
  /// How often it was connected.
  [[nodiscard]] std::uint64_t connections() const noexcept;

  /// Sends a message; waits while there is no connection, and while too many are not confirmed. False where that did
  /// not change within `patience`, and after `stop`: then the message is not sent. Messages arrive in the order of the
  /// calls, some of them twice where the connection was lost.
  bool publish(const std::string& topic, std::string_view payload,
               std::chrono::milliseconds patience = std::chrono::seconds{5});
  /// How many messages the broker has confirmed.
  [[nodiscard]] std::uint64_t confirmed() const noexcept;
  /// Waits until all are. False where they are not by then.
  [[nodiscard]] bool wait_until_confirmed(std::chrono::milliseconds patience) const;

  /// Says goodbye to the broker, which keeps a persistent session, and ends the thread. True when the handler is not
  /// running and is not called any more; false where it still runs after `patience`. Can be called again.
  bool stop(std::chrono::milliseconds patience = std::chrono::seconds{5}) noexcept;

 private:
  class parts;
  std::unique_ptr<parts> parts_;
};

}  // namespace gateway
