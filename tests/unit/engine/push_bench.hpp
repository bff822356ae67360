#pragma once
// A push machine in the hands of a test, and what it tells in words.

#include "engine/push_machine.hpp"

#include <algorithm>
#include <chrono>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace push_test {

using namespace std::chrono_literals;
using namespace tenantry::detail;
using tenantry::errc;
using tenantry::execution;

inline constexpr auto channel = push_kind::channel;
inline constexpr auto pattern = push_kind::pattern;
inline constexpr auto shard = push_kind::shard;

inline std::string bulk(std::string_view text) {
  return "$" + std::to_string(text.size()) + "\r\n" + std::string{text} + "\r\n";
}

inline std::string words(std::initializer_list<std::string_view> all) {
  std::string bytes = "*" + std::to_string(all.size()) + "\r\n";
  for (const std::string_view each : all) bytes += bulk(each);
  return bytes;
}

/// A confirmation: subscribe, unsubscribe, ...
inline std::string done(std::string_view word, std::string_view name) {
  return "*3\r\n" + bulk(word) + bulk(name) + ":1\r\n";
}

/// An event in words.
struct teller {
  std::string operator()(const push::message& each) const {
    return each.channel + (each.pattern.empty() ? "" : " by " + each.pattern) + ": " + each.payload;
  }
  std::string operator()(const push::invalidated& each) const {
    std::string text = "invalidated";
    if (!each.keys) return text + " all";
    for (const auto& key : *each.keys) text += " " + key;
    return text;
  }
  std::string operator()(const push::confirmed& each) const { return "confirmed " + each.name; }
  std::string operator()(const push::refused& each) const { return "refused " + each.name + ": " + each.text; }
  std::string operator()(const push::lost& each) const { return "lost " + each.name; }
  std::string operator()(const push::in_sync&) const { return "in sync"; }
  std::string operator()(const push::dead&) const { return "dead"; }
  std::string operator()(const push::ended& each) const { return "ended: " + each.why.detail; }
};

using texts = std::vector<std::string>;

struct bench {
  push_machine tested;
  std::vector<push_event> events;
  push_machine::time_point now{1h};

  explicit bench(const push_options& options = {}) : tested{options} {}

  void connect() { tested.connected(now, 7); }
  void disconnect() {
    tested.disconnected({.code = errc::connection_lost, .what = execution::unknown, .detail = "gone"}, events);
  }
  std::string write() {
    const std::string bytes{tested.output()};
    tested.wrote(bytes.size());
    return bytes;
  }
  void receive(std::string_view bytes) {
    std::ranges::copy(bytes, tested.room().begin());
    tested.received(bytes.size(), now, events);
  }
  void pass(std::chrono::milliseconds time) {
    now += time;
    tested.tick(now, events);
  }
  texts told() {
    texts all;
    for (const auto& each : events) all.push_back(std::visit(teller{}, each));
    events.clear();
    return all;
  }
  /// Connected, in sync and subscribed to this name.
  void subscribe(push_kind kind, std::string_view name) {
    static constexpr std::string_view answers[] = {"subscribe", "psubscribe", "ssubscribe"};
    tested.want(kind, name);
    write();
    receive(done(answers[static_cast<std::size_t>(kind)], name));
    told();
  }
};

}  // namespace push_test
