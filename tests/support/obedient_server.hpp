#pragma once
// A server of publish/subscribe that also says what a real one would say only now and then.

#include "support/scripted_server.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace support {

inline std::string bulk(std::string_view text) {
  return "$" + std::to_string(text.size()) + "\r\n" + std::string{text} + "\r\n";
}
inline std::string announced(std::string_view what, std::string_view name) {
  return "*3\r\n" + bulk(what) + bulk(name) + ":1\r\n";
}
inline std::string message_on(std::string_view name, std::string_view payload, std::string_view what = "message") {
  return "*3\r\n" + bulk(what) + bulk(name) + bulk(payload);
}

/// Confirms whatever it is asked for, and says more when it is told to.
class obedient_server {
 public:
  [[nodiscard]] std::string url() const { return server_.url(); }
  [[nodiscard]] int connections() const { return server_.connections(); }

  /// To the one that listens, now.
  void say(std::string_view bytes) {
    const std::lock_guard held{mutex_};
    REQUIRE(listens_ != nullptr);
    listens_->send(bytes);
  }
  /// Confirmations are kept back from now on.
  void hold_back() {
    const std::lock_guard held{mutex_};
    holds_back_ = true;
  }
  /// What was kept back is said.
  void go_on() {
    const std::lock_guard held{mutex_};
    holds_back_ = false;
    listens_->send(kept_);
    kept_.clear();
  }
  /// Whoever leaves a channel gets this before the confirmation.
  void say_before_leaving(std::string bytes) {
    const std::lock_guard held{mutex_};
    before_leaving_ = std::move(bytes);
  }
  /// Whoever listens now is answered from now on, but gets none of what is published.
  void detach() {
    const std::lock_guard held{mutex_};
    detached_ = listens_;
  }
  /// What a PUBLISH is answered. After an error nothing is published.
  void answer_publish(std::string bytes) {
    const std::lock_guard held{mutex_};
    publish_answer_ = std::move(bytes);
  }
  /// How many there were.
  [[nodiscard]] std::size_t published() const {
    const std::lock_guard held{mutex_};
    return published_;
  }
  /// How often it was asked exactly this.
  [[nodiscard]] std::size_t asked(std::string_view words) const {
    const std::lock_guard held{mutex_};
    return static_cast<std::size_t>(std::ranges::count(asked_, words));
  }

 private:
  void play(peer& client) {
    if (!client.greet()) return;
    for (std::string words = client.command(); !words.empty(); words = client.command()) {
      const std::lock_guard held{mutex_};
      asked_.push_back(words);
      if (words.starts_with("PUBLISH ")) {
        publish(client, words);
        continue;
      }
      listens_ = &client;
      std::string what = words.substr(0, words.find(' '));
      std::ranges::transform(what, what.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      if (what == "ping") {
        client.send("*2\r\n" + bulk("pong") + bulk(""));
        continue;
      }
      std::string answer;
      if (what.find("unsubscribe") != std::string::npos) answer = before_leaving_;
      for (std::size_t at = words.find(' '); at != std::string::npos;) {
        const std::size_t end = words.find(' ', at + 1);
        answer += announced(what, words.substr(at + 1, end == std::string::npos ? end : end - at - 1));
        at = end;
      }
      if (holds_back_) {
        kept_ += answer;
      } else {
        client.send(answer);
      }
    }
    const std::lock_guard held{mutex_};
    if (listens_ == &client) listens_ = nullptr;
    if (detached_ == &client) detached_ = nullptr;
  }
  void publish(peer& client, std::string_view words) {
    ++published_;
    client.send(publish_answer_);
    const std::string_view rest = words.substr(words.find(' ') + 1);
    const std::size_t end = rest.find(' ');
    if (listens_ == nullptr || listens_ == detached_ || publish_answer_.starts_with('-')) return;
    listens_->send(message_on(rest.substr(0, end), rest.substr(end + 1)));
  }

  mutable std::mutex mutex_;
  std::vector<std::string> asked_;
  std::string kept_;
  std::string before_leaving_;
  bool holds_back_ = false;
  peer* listens_ = nullptr;
  peer* detached_ = nullptr;
  std::string publish_answer_ = ":0\r\n";
  std::size_t published_ = 0;
  scripted_server server_{[this](peer& client, int) { play(client); }};  // last: it uses the others
};

}  // namespace support
