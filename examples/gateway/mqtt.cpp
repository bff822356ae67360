#include "mqtt.hpp"

#include <mosquitto.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <random>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <thread>
#include <utility>

namespace gateway {

namespace {

constexpr int qos = 1;
constexpr std::uint8_t refused_subscription = 0x80;

/// libmosquitto is started with the first client, and ends with the program.
void start_library() {
  struct library {
    library() { mosquitto_lib_init(); }
    library(const library&) = delete;
    library& operator=(const library&) = delete;
    ~library() { mosquitto_lib_cleanup(); }
  };
  static const library started;
}

}  // namespace

/// The loop is our own and not that of mosquitto_loop_start, whose thread ends for good after some errors (a name that
/// does not resolve now, a broker that is not ready), and which waits without any randomness between its attempts.
class mqtt::parts {
 public:
  parts(mqtt_options options, handler on_message)
      : options_{std::move(options)}, on_message_{std::move(on_message)}, client_{make()} {
    thread_ = std::jthread{[this](const std::stop_token& stop) { run(stop); }};
  }
  parts(const parts&) = delete;
  parts& operator=(const parts&) = delete;
  ~parts() {
    while (!stop(std::chrono::hours{1})) {
    }
  }

  bool stop(std::chrono::milliseconds patience) noexcept {
    thread_.request_stop();
    mosquitto_disconnect(client_.get());  // also wakes the loop up
    {
      std::unique_lock held{mutex_};
      stopped_ = true;
      changed_.notify_all();
      if (!changed_.wait_for(held, patience, [this] { return ended_; })) return false;
    }
    const std::lock_guard once{joining_};
    if (thread_.joinable()) thread_.join();
    return true;
  }

  bool publish(const std::string& topic, std::string_view payload, std::chrono::milliseconds patience) {
    std::unique_lock held{mutex_};
    const auto may_send = [this] { return stopped_ || (open_ && unconfirmed_ < options_.max_unconfirmed); };
    if (!changed_.wait_for(held, patience, may_send) || stopped_) return false;
    const int result = mosquitto_publish(client_.get(), nullptr, topic.c_str(), static_cast<int>(payload.size()),
                                         payload.data(), qos, /*retain=*/false);
    // When the connection was just lost, a message with QoS 1 is sent by the next one.
    if (result != MOSQ_ERR_SUCCESS && result != MOSQ_ERR_NO_CONN && result != MOSQ_ERR_CONN_LOST) {
      throw std::runtime_error{std::string{"MQTT: publishing: "} + mosquitto_strerror(result)};
    }
    ++unconfirmed_;
    return true;
  }

  bool wait_until_confirmed(std::chrono::milliseconds patience) {
    std::unique_lock held{mutex_};
    return changed_.wait_for(held, patience, [this] { return unconfirmed_ == 0; });
  }

  std::atomic<bool> ready = false;
  std::atomic<std::uint64_t> connections = 0;
  std::atomic<std::uint64_t> confirmed = 0;

 private:
  struct destroyer {
    void operator()(mosquitto* client) const noexcept { mosquitto_destroy(client); }
  };
  using owned = std::unique_ptr<mosquitto, destroyer>;

  owned make() {
    start_library();
    owned made{mosquitto_new(options_.client_id.c_str(), options_.session == mqtt_session::clean, this)};
    if (!made) throw std::runtime_error{"MQTT: no client named \"" + options_.client_id + '"'};
    mosquitto_threaded_set(made.get(), true);  // others may publish while the loop runs
    mosquitto_connect_callback_set(made.get(), [](mosquitto*, void* self, int code) { of(self).on_connect(code); });
    mosquitto_disconnect_callback_set(made.get(), [](mosquitto*, void* self, int) { of(self).ready = false; });
    mosquitto_subscribe_callback_set(made.get(), [](mosquitto*, void* self, int, int number, const int* granted) {
      of(self).on_subscribe({granted, static_cast<std::size_t>(number)});
    });
    mosquitto_publish_callback_set(made.get(), [](mosquitto*, void* self, int) { of(self).on_confirmed(); });
    mosquitto_message_callback_set(
        made.get(), [](mosquitto*, void* self, const mosquitto_message* came) { of(self).on_message(*came); });
    return made;
  }

  static parts& of(void* self) noexcept { return *static_cast<parts*>(self); }

  // The callbacks are called by C: they do not throw.

  void on_connect(int code) noexcept {
    if (code != 0) return;  // the broker closes the connection
    ++connections;
    subscribed_ = 0;
    // The broker knows the subscriptions of a session that it has kept. Not that of one that it has lost.
    for (const std::string& topic : options_.topics) mosquitto_subscribe(client_.get(), nullptr, topic.c_str(), qos);
    if (options_.topics.empty()) ready = true;
  }

  void on_subscribe(std::span<const int> granted) noexcept {
    if (std::ranges::any_of(granted, [](int each) { return each == refused_subscription; })) return;
    if (++subscribed_ == options_.topics.size()) ready = true;
  }

  void on_confirmed() noexcept {
    {
      const std::lock_guard held{mutex_};
      if (unconfirmed_ > 0) --unconfirmed_;
    }
    ++confirmed;
    changed_.notify_all();
  }

  void on_message(const mosquitto_message& came) noexcept {
    try {
      on_message_(came.topic, {static_cast<const char*>(came.payload), static_cast<std::size_t>(came.payloadlen)});
    } catch (...) {  // NOLINT(bugprone-empty-catch): the handler deals with its own failures
    }
  }

  void run(const std::stop_token& stop) {
    bool begun = false;
    auto pause = options_.reconnect_after;
    while (!stop.stop_requested()) {
      // Without waiting for a host that does not answer, so that `stop` need not wait for it either.
      const int result = begun ? mosquitto_reconnect_async(client_.get())
                               : mosquitto_connect_async(client_.get(), options_.host.c_str(), options_.port,
                                                         static_cast<int>(options_.keep_alive.count()));
      begun = true;
      if (result == MOSQ_ERR_SUCCESS) {
        const auto before = connections.load();
        while (!stop.stop_requested() && mosquitto_loop(client_.get(), /*timeout in ms=*/500, /*unused=*/1) == 0) {
          // What an earlier connection did not get confirmed has been sent again by now, so that what is published from
          // here on comes after it.
          if (connections != before) may_publish(true);
        }
        if (connections != before) pause = options_.reconnect_after;
      }
      may_publish(false);
      ready = false;
      wait_about(pause, stop);
      pause = std::min(pause * 2, options_.longest_reconnect_after);
    }
    mosquitto_disconnect(client_.get());  // again: the first one may have come in the middle of a reconnect
    mosquitto_loop_write(client_.get(), /*unused=*/1);
    ready = false;
    {
      const std::lock_guard held{mutex_};
      ended_ = true;
    }
    changed_.notify_all();
  }

  void may_publish(bool now) {
    {
      const std::lock_guard held{mutex_};
      if (open_ == now) return;
      open_ = now;
    }
    changed_.notify_all();
  }

  /// From half of the time to all of it, so that many clients do not come back at the same moment.
  void wait_about(std::chrono::milliseconds pause, const std::stop_token& stop) {
    std::uniform_int_distribution<std::int64_t> range{pause.count() / 2, pause.count()};
    std::unique_lock held{mutex_};
    stopping_.wait_for(held, stop, std::chrono::milliseconds{range(random_)}, [] { return false; });
  }

  mqtt_options options_;
  handler on_message_;
  std::minstd_rand random_{std::random_device{}()};
  std::size_t subscribed_ = 0;  // of the topics, on this connection

  std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable_any stopping_;
  std::size_t unconfirmed_ = 0;
  bool open_ = false;  // for publish: there is a connection
  bool stopped_ = false;
  bool ended_ = false;  // the thread is about to

  owned client_;
  std::mutex joining_;
  std::jthread thread_;  // last: it uses the others
};

mqtt::mqtt(mqtt_options options, handler on_message)
    : parts_{std::make_unique<parts>(std::move(options), std::move(on_message))} {}
mqtt::mqtt(mqtt_options options) : mqtt{std::move(options), [](std::string_view, std::string_view) {}} {}
mqtt::~mqtt() = default;

bool mqtt::connected() const noexcept { return parts_->ready; }
std::uint64_t mqtt::connections() const noexcept { return parts_->connections; }
bool mqtt::publish(const std::string& topic, std::string_view payload, std::chrono::milliseconds patience) {
  return parts_->publish(topic, payload, patience);
}
std::uint64_t mqtt::confirmed() const noexcept { return parts_->confirmed; }
bool mqtt::wait_until_confirmed(std::chrono::milliseconds patience) const {
  return parts_->wait_until_confirmed(patience);
}
bool mqtt::stop(std::chrono::milliseconds patience) noexcept { return parts_->stop(patience); }

}  // namespace gateway
