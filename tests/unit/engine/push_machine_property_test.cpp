// Random schedules of everything that can happen to a push connection, against a small server that executes the
// commands. The invariants are those of the machine's class comment.

#include "engine/push_machine.hpp"
#include "support/random_bytes.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry::detail;

/// What the server and the test know of one name.
struct name_state {
  push_kind kind = push_kind::channel;
  std::string text;
  // The server's side, of this connection.
  bool denied = false;
  bool subscribed = false;
  bool fresh = false;  // subscribed since `confirmed` was last seen, and wanted throughout
  int base = 0;        // messages sent before that
  int sent = 0;
  // What the machine was asked and has told.
  bool wanted = false;
  standing how = standing::pending;
  bool awaiting = false;
  int delivered = 0;         // the last number, of this connection
  std::optional<int> known;  // the number that the next message follows
};

/// The same texts as channels, patterns and shard channels.
class name_table {
 public:
  explicit name_table(std::size_t size) : size_{size} {
    for (const push_kind kind : {push_kind::channel, push_kind::pattern, push_kind::shard}) {
      for (std::size_t i = 0; i < size; ++i) {
        all_.emplace_back().kind = kind;
        all_.back().text = std::to_string(i);
      }
    }
  }
  name_state& at(push_kind kind, const std::string& text) {
    return all_[static_cast<std::size_t>(kind) * size_ + std::stoul(text)];
  }
  std::vector<name_state>& all() { return all_; }

 private:
  std::size_t size_;
  std::vector<name_state> all_;
};

std::string bulk(std::string_view text) {
  std::string bytes{"$"};
  bytes.append(std::to_string(text.size())).append("\r\n").append(text).append("\r\n");
  return bytes;
}

/// Executes (P|S)(UN)SUBSCRIBE and PING; permissions are checked before a command has any effect.
struct small_server {
  name_table* names;
  support::random_bytes* random;
  bool calm = false;  // never too busy
  std::string unread;
  std::string unsent;

  void take(std::string_view bytes) {
    unread += bytes;
    while (execute_one()) continue;
  }

  /// A message for a subscribed name: its number.
  void publish(name_state& to) {
    static constexpr std::array<std::string_view, 3> words{"message", "pmessage", "smessage"};
    unsent += to.kind == push_kind::pattern ? "*4\r\n" : "*3\r\n";
    unsent += bulk(words.at(static_cast<std::size_t>(to.kind))) + bulk(to.text);
    if (to.kind == push_kind::pattern) unsent += bulk("some channel");
    unsent += bulk(std::to_string(++to.sent));
  }

  void confirm(push_kind kind, bool joins, std::string_view text) {
    static constexpr std::array<std::string_view, 3> prefixes{"", "p", "s"};
    const std::string word =
        std::string{prefixes.at(static_cast<std::size_t>(kind))} + (joins ? "" : "un") + "subscribe";
    unsent += "*3\r\n" + bulk(word) + bulk(text) + ":1\r\n";
  }

 private:
  bool execute_one() {
    std::size_t at = 0;
    const auto line = [&]() -> std::optional<std::size_t> {  // *count or $size
      const std::size_t end = unread.find("\r\n", at);
      if (end == std::string::npos) return std::nullopt;
      const std::size_t number = std::stoul(unread.substr(at + 1, end - at - 1));
      at = end + 2;
      return number;
    };
    const auto count = line();
    if (!count) return false;
    std::vector<std::string> words;
    for (std::size_t i = 0; i < *count; ++i) {
      const auto size = line();
      if (!size || unread.size() < at + *size + 2) return false;
      words.push_back(unread.substr(at, *size));
      at += *size + 2;
    }
    unread.erase(0, at);
    execute(words);
    return true;
  }

  void execute(const std::vector<std::string>& words) {
    const bool busy = !calm && random->below(20) == 0;
    if (words[0] == "PING") {
      unsent += busy                    ? "-BUSY Redis is busy running a script\r\n"
                : random->below(2) == 0 ? "+PONG\r\n"
                                        : "*2\r\n$4\r\npong\r\n$0\r\n\r\n";
      return;
    }
    const push_kind kind = words[0].starts_with('P')                                   ? push_kind::pattern
                           : words[0].starts_with("SS") || words[0].starts_with("SUN") ? push_kind::shard
                                                                                       : push_kind::channel;
    const bool joins = words[0].find("UN") == std::string::npos;
    REQUIRE(words.size() > 1);  // without names it would leave everything
    REQUIRE(words.size() <= 257);
    // The notice that a name was ended cannot be told from the answer to its UNSUBSCRIBE, so that one has to come.
    const auto held = [&](const std::string& word) { return names->at(kind, word).subscribed; };
    if (busy && (joins || std::all_of(words.begin() + 1, words.end(), held))) {
      unsent += "-BUSY Redis is busy running a script\r\n";
      return;
    }
    for (std::size_t i = 1; joins && i < words.size(); ++i) {
      if (!names->at(kind, words[i]).denied) continue;
      unsent += "-NOPERM this user may not\r\n";
      return;
    }
    for (std::size_t i = 1; i < words.size(); ++i) {
      name_state& each = names->at(kind, words[i]);
      each.subscribed = joins;
      if (joins) {
        each.fresh = each.wanted;
        each.base = each.sent;
      }
      confirm(kind, joins, words[i]);
    }
  }
};

class schedule {
 public:
  schedule(support::random_bytes& random, std::size_t size) : random_{random}, names_{size} {}

  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      step();
      check();
    }
    calm_down();
    REQUIRE(tested_.ready());
    REQUIRE(synced_);
    for (const name_state& each : names_.all()) {
      INFO(each.text);
      REQUIRE(each.subscribed == (each.wanted && each.how == standing::confirmed));
      if (each.wanted) REQUIRE((each.how == standing::refused) == each.denied);
      if (each.subscribed && each.known) REQUIRE(*each.known == each.sent);
    }
  }

  std::size_t messages = 0;

 private:
  name_state& any() { return names_.all()[random_.below(names_.all().size())]; }

  void step() {
    switch (random_.below(20)) {
      case 0:
      case 1:
      case 2:
        return want(any());
      case 3:
      case 4:
        return unwant(any());
      case 5: {  // a change of mind
        name_state& one = any();
        for (std::size_t i = 2 + random_.below(3); i > 0; --i) one.wanted ? unwant(one) : want(one);
        return;
      }
      case 6:
        if (online_ && random_.below(4) == 0) return disconnect();
        if (!online_) return connect();
        return;
      case 7:
        return pass(std::chrono::milliseconds{random_.below(3000)});
      case 8:
        return end_by_server(any());
      case 9:
      case 10:
      case 11:
      case 12:
        if (name_state& to = any(); online_ && to.subscribed) server_.publish(to);
        if (online_ && random_.below(10) == 0) server_.unsent += "*3\r\n" + bulk("message") + bulk("x") + bulk("1");
        return;
      case 13:
      case 14:
      case 15:
        return write(random_.below(200));
      default:
        return receive(1 + random_.below(random_.below(3) == 0 ? 500 : 20));
    }
  }

  void want(name_state& one) {
    const standing how = tested_.want(one.kind, one.text);
    if (one.wanted) REQUIRE(how == one.how);
    if (!one.wanted) {
      REQUIRE(how != standing::refused);
      one.known.reset();
    }
    one.wanted = true;
    one.how = how;
  }

  void unwant(name_state& one) {
    tested_.unwant(one.kind, one.text);
    one.wanted = one.awaiting = one.fresh = false;  // what arrives until it is wanted again may be dropped
  }

  void connect() {
    online_ = true;
    synced_ = false;
    server_.unread.clear();
    server_.unsent.clear();
    for (name_state& each : names_.all()) {
      each.denied = random_.below(8) == 0;
      each.subscribed = each.fresh = false;
      each.sent = each.delivered = 0;
      each.known.reset();
      each.how = standing::pending;
      each.awaiting = each.wanted;
    }
    tested_.connected(now_, 1);
    REQUIRE(tested_.generation() == ++generation_);
  }

  void disconnect() {
    online_ = false;
    tested_.disconnected({}, events_);
    take_events();
    for (name_state& each : names_.all()) each.how = standing::pending;
  }

  void end_by_server(name_state& one) {
    if (!online_ || !one.subscribed) return;
    one.subscribed = false;
    server_.confirm(one.kind, false, one.text);
  }

  void write(std::size_t at_most) {
    if (!tested_.has_output()) return;
    const std::string_view bytes = tested_.output().substr(0, at_most);
    server_.take(bytes);
    tested_.wrote(bytes.size());
  }

  void receive(std::size_t at_most) {
    const std::string_view bytes = std::string_view{server_.unsent}.substr(0, at_most);
    if (!online_ || bytes.empty()) return;
    std::ranges::copy(bytes, tested_.room().begin());
    tested_.received(bytes.size(), now_, events_);
    server_.unsent.erase(0, bytes.size());
    take_events();
  }

  void pass(std::chrono::milliseconds time) {
    now_ += time;
    if (tested_.next_wakeup().value_or(now_ + 1h) > now_) return;
    tested_.tick(now_, events_);
    take_events();
    if (dead_) disconnect();
    dead_ = false;
  }

  /// No more trouble: everything has to settle.
  void calm_down() {
    server_.calm = true;
    if (!online_) connect();
    int idle = 0;
    for (int i = 0; i < 100'000 && idle < 3; ++i) {
      if (!tested_.has_output() && server_.unsent.empty()) {
        ++idle;
        pass(100ms);  // names that met a busy server are sent again
      }
      write(1000);
      receive(1000);
    }
  }

  void check() {
    const bool settled = std::ranges::all_of(
        names_.all(), [](const name_state& each) { return !each.wanted || each.how != standing::pending; });
    REQUIRE(tested_.ready() == (online_ && settled));
  }

  void take_events() {
    for (const push_event& each : events_) std::visit([this](const auto& one) { this->on(one); }, each);
    events_.clear();
  }

  void on(const push::message& each) {
    REQUIRE(each.generation == generation_);
    name_state& to = names_.at(each.kind, each.kind == push_kind::pattern ? each.pattern : each.channel);
    const int number = std::stoi(each.payload);
    REQUIRE(to.wanted);
    REQUIRE(number > to.delivered);  // in order and never twice
    to.delivered = number;
    if (to.how == standing::confirmed) {
      if (to.known) REQUIRE(number == *to.known + 1);  // none is missing
      to.known = number;
    }
    ++messages;
  }
  void on(const push::confirmed& each) {
    REQUIRE(each.generation == generation_);
    name_state& one = names_.at(each.kind, each.name);
    REQUIRE(one.wanted);
    REQUIRE(one.how == standing::pending);
    one.how = standing::confirmed;
    one.awaiting = false;
    one.known.reset();
    if (one.fresh) one.known = one.base;
    one.fresh = false;
  }
  void on(const push::refused& each) {
    REQUIRE(each.generation == generation_);
    name_state& one = names_.at(each.kind, each.name);
    REQUIRE(one.wanted);
    REQUIRE(one.denied);
    REQUIRE(one.how == standing::pending);
    one.how = standing::refused;
    one.awaiting = false;
  }
  void on(const push::lost& each) {
    name_state& one = names_.at(each.kind, each.name);
    REQUIRE(one.wanted);
    REQUIRE(one.how == standing::confirmed);
    if (one.known) REQUIRE(*one.known == one.sent);  // everything before the loss was delivered
    one.how = standing::pending;
    one.awaiting = !synced_;
  }
  void on(const push::in_sync& each) {
    REQUIRE(each.generation == generation_);
    REQUIRE_FALSE(synced_);
    synced_ = true;
    REQUIRE(std::ranges::none_of(names_.all(), [](const name_state& one) { return one.awaiting; }));
  }
  void on(const push::dead&) { dead_ = true; }
  void on(const push::ended& each) { REQUIRE(each.generation == generation_); }
  static void on(const push::invalidated&) { FAIL("nothing was tracked"); }

  support::random_bytes& random_;
  name_table names_;
  small_server server_{.names = &names_, .random = &random_, .unread = {}, .unsent = {}};
  push_machine tested_{{}};
  std::vector<push_event> events_;
  push_machine::time_point now_{1h};
  std::uint64_t generation_ = 0;
  bool online_ = false;
  bool synced_ = false;
  bool dead_ = false;
};

}  // namespace

TEST_CASE("in any order of events the server ends up with what is wanted, and no message is lost, doubled or foreign") {
  support::random_bytes random;
  std::size_t messages = 0;
  for (int i = 0; i < 10'000; ++i) {
    schedule one{random, 1 + random.below(6)};
    one.run(150);
    messages += one.messages;
  }
  CHECK(messages > 10'000);
}

TEST_CASE("many names in several commands settle as few names do") {
  support::random_bytes random;
  for (int i = 0; i < 20; ++i) schedule{random, 700}.run(5000);
}
