#include "engine/push_machine.hpp"

#include <tenantry/command.hpp>
#include <tenantry/error.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace tenantry::detail {

namespace {

constexpr std::size_t most_names_on_the_way = 1024;
constexpr std::size_t most_bytes_on_the_way = 256U << 10U;
constexpr std::size_t most_output = 64U << 10U;

[[noreturn]] void malformed(std::string_view what) {
  throw connection_error{errc::protocol, execution::unknown, fmt::format("on a push connection: {}", what)};
}

/// What the first word of an array announces.
struct announcement {
  enum class what : unsigned char { message, joined, left };

  std::string_view word;
  what means = what::message;
  push_kind kind = push_kind::channel;
  std::size_t size = 3;
};

constexpr std::array<announcement, 9> announcements{{
    {"message", announcement::what::message, push_kind::channel},
    {"pmessage", announcement::what::message, push_kind::pattern, 4},
    {"smessage", announcement::what::message, push_kind::shard},
    {"subscribe", announcement::what::joined, push_kind::channel},
    {"psubscribe", announcement::what::joined, push_kind::pattern},
    {"ssubscribe", announcement::what::joined, push_kind::shard},
    {"unsubscribe", announcement::what::left, push_kind::channel},
    {"punsubscribe", announcement::what::left, push_kind::pattern},
    {"sunsubscribe", announcement::what::left, push_kind::shard},
}};

/// The name of the command that joins or leaves names of this kind.
std::string_view command_name(push_kind kind, bool joins) noexcept {
  switch (kind) {
    case push_kind::channel:
      return joins ? "SUBSCRIBE" : "UNSUBSCRIBE";
    case push_kind::pattern:
      return joins ? "PSUBSCRIBE" : "PUNSUBSCRIBE";
    case push_kind::shard:
      break;
  }
  return joins ? "SSUBSCRIBE" : "SUNSUBSCRIBE";
}

/// The server will take the same command later.
bool is_transient(std::string_view text) noexcept {
  constexpr std::array<std::string_view, 5> words{"BUSY ", "LOADING ", "MASTERDOWN ", "TRYAGAIN ", "CLUSTERDOWN "};
  return std::ranges::any_of(words, [text](std::string_view word) { return text.starts_with(word); });
}

bool is_string(const reply& part) noexcept { return part.type() == reply_type::string; }

/// Far in the future without overflow.
std::chrono::milliseconds sane(std::chrono::milliseconds wait) noexcept {
  using namespace std::chrono_literals;
  return std::clamp<std::chrono::milliseconds>(wait, 0ms, 24h);
}

push_options checked(push_options options) {
  if (options.heartbeat != no_timeout) options.heartbeat = sane(options.heartbeat);
  options.heartbeat_timeout = sane(options.heartbeat_timeout);
  options.retry_after = sane(options.retry_after);
  return options;
}

}  // namespace

push_machine::push_machine(const push_options& options) : options_{checked(options)} {}

void push_machine::set_heartbeat(const push_options& of) {
  const push_options now = checked(of);
  options_.heartbeat = now.heartbeat;
  options_.heartbeat_timeout = now.heartbeat_timeout;
}

void push_machine::connected(time_point now, std::int64_t client_id) {
  reader_.emplace(options_.limits);
  ++generation_;
  client_id_ = client_id;
  in_sync_ = dead_ = false;
  heard_ = now;
  names_.begin();
}

void push_machine::disconnected(failure why, std::vector<push_event>& out) {
  if (!reader_) return;
  out.emplace_back(push::ended{.generation = generation_, .why = std::move(why)});
  reader_.reset();
  client_id_.reset();
  on_the_way_.clear();
  names_on_the_way_ = bytes_on_the_way_ = 0;
  hold_.reset();
  output_.clear();
  written_ = 0;
  asked_.reset();
  ping_due_ = ping_on_the_way_ = false;
  names_.end();
}

bool push_machine::may_send() const noexcept {
  return !hold_ && names_.has_work() && names_on_the_way_ < most_names_on_the_way &&
         bytes_on_the_way_ < most_bytes_on_the_way;
}

bool push_machine::has_output() const noexcept {
  return reader_ && (written_ < output_.size() || ping_due_ || may_send());
}

std::string_view push_machine::output() {
  if (reader_ && written_ == output_.size()) stage();
  return std::string_view{output_}.substr(written_);
}

void push_machine::stage() {
  output_.clear();
  written_ = 0;
  if (output_.capacity() > 4 * most_output) output_.shrink_to_fit();  // a large name has passed
  if (ping_due_) {
    output_ += command{"PING"}.bytes();
    on_the_way_.push_back({});
    ping_due_ = false;
    ping_on_the_way_ = true;
  }
  while (may_send() && output_.size() < most_output) {
    if (auto names = names_.next()) send(*std::move(names));
  }
}

void push_machine::send(subscription_set::batch names) {
  words_.assign(1, command_name(names.kind, names.what == motion::joining));
  for (const auto* const each : names.names) words_.push_back(each->first);
  const command made{std::span<const std::string_view>{words_}};
  output_ += made.bytes();
  names_on_the_way_ += names.names.size();
  bytes_on_the_way_ += made.bytes().size();
  on_the_way_.push_back({.sent = std::move(names), .bytes = made.bytes().size()});
}

/// The first command on the way has all its answers.
subscription_set::batch push_machine::settle_front() noexcept {
  expected& first = on_the_way_.front();
  names_on_the_way_ -= first.sent.names.size();
  bytes_on_the_way_ -= first.bytes;
  subscription_set::batch sent = std::move(first.sent);
  on_the_way_.pop_front();
  return sent;
}

/// The next name of the first command on the way has its answer.
void push_machine::count_answer() noexcept {
  expected& first = on_the_way_.front();
  if (++first.answered == first.sent.names.size()) settle_front();
}

void push_machine::received(std::size_t size, time_point now, std::vector<push_event>& out) {
  reader_->filled(size);
  if (size > 0) {
    heard_ = now;
    asked_.reset();
    ping_due_ = false;
  }
  report_sync(out);
  while (auto answer = reader_->next()) {
    take(*std::move(answer), now, out);
    report_sync(out);
  }
}

void push_machine::report_sync(std::vector<push_event>& out) {
  if (in_sync_ || names_.awaited() > 0) return;
  in_sync_ = true;
  out.emplace_back(push::in_sync{.generation = generation_});
}

void push_machine::take(reply answer, time_point now, std::vector<push_event>& out) {
  switch (answer.type()) {
    case reply_type::array:
      return take_array(std::move(answer), out);
    case reply_type::error:
      return take_error(answer.error_text(), now, out);
    case reply_type::status:
      if (answer.str() != "PONG") break;
      return take_pong();
    default:
      break;
  }
  malformed(fmt::format("{} that no command waits for", to_string(answer.type())));
}

void push_machine::take_pong() {
  if (on_the_way_.empty() || !on_the_way_.front().is_ping()) malformed("an answer to PING that was not sent");
  ping_on_the_way_ = false;
  settle_front();
}

void push_machine::take_error(const std::string& text, time_point now, std::vector<push_event>& out) {
  if (on_the_way_.empty()) malformed(fmt::format("an error that no command waits for: \"{}\"", text));
  if (on_the_way_.front().is_ping()) return take_pong();  // it cannot say PONG now, but it lives
  if (on_the_way_.front().answered > 0) malformed(fmt::format("an error among confirmations: \"{}\"", text));
  subscription_set::batch sent = settle_front();
  const auto confirm = [&](const std::string& name) {
    out.emplace_back(push::confirmed{.generation = generation_, .kind = sent.kind, .name = name});
  };
  if (is_transient(text)) {
    hold_ = now + options_.retry_after;
    for (auto* const each : sent.names) {
      if (names_.again(*each)) confirm(each->first);
    }
  } else if (sent.what == motion::leaving) {
    for (auto* const each : sent.names) {
      if (names_.keep(*each)) confirm(each->first);
    }
  } else if (sent.names.size() > 1) {
    names_.split(std::move(sent.names));
  } else {
    std::string name = sent.names.front()->first;
    if (names_.refuse(*sent.names.front())) {
      out.emplace_back(
          push::refused{.generation = generation_, .kind = sent.kind, .name = std::move(name), .text = text});
    }
  }
}

void push_machine::take_array(reply answer, std::vector<push_event>& out) {
  const auto& parts = answer.elements();
  if (parts.empty() || !is_string(parts[0])) malformed("an array that is no announcement");
  const std::string& word = parts[0].str();
  if (parts.size() == 2 && word == "pong" && is_string(parts[1])) return take_pong();
  const auto* const found = std::ranges::find(announcements, word, &announcement::word);
  if (found == announcements.end() || found->size != parts.size() || !is_string(parts[1])) {
    malformed("an array that is no announcement");
  }
  if (found->means == announcement::what::message) return take_message(found->kind, answer, out);
  if (parts[2].type() != reply_type::integer) malformed("a confirmation without a count");
  if (found->means == announcement::what::joined) return take_joined(found->kind, answer.element(1), out);
  take_left(found->kind, answer.element(1), out);
}

void push_machine::take_message(push_kind kind, reply& answer, std::vector<push_event>& out) {
  const std::string& name = answer[1].str();
  reply& payload = answer.element(kind == push_kind::pattern ? 3 : 2);
  const bool invalidation = kind == push_kind::channel && !is_string(payload) && name == invalidation_channel;
  if (!invalidation && !is_string(payload)) malformed("a message without a payload");
  if (kind == push_kind::pattern && !is_string(answer[2])) malformed("a message without a channel");
  // On the channel of invalidations a text is what some client published, not what the server noticed.
  const bool forged = !invalidation && kind == push_kind::channel && name == invalidation_channel;
  if (forged || !names_.delivers(kind, name)) {
    ++dropped_;
    return;
  }
  if (invalidation) return take_invalidation(payload, out);

  push::message made{.generation = generation_, .kind = kind, .channel = {}, .pattern = {}, .payload = {}};
  if (kind == push_kind::pattern) {
    made.pattern = std::move(answer.element(1)).str();
    made.channel = std::move(answer.element(2)).str();
  } else {
    made.channel = std::move(answer.element(1)).str();
  }
  made.payload = std::move(payload).str();
  out.emplace_back(std::move(made));
}

void push_machine::take_invalidation(reply& payload, std::vector<push_event>& out) {
  push::invalidated made{.generation = generation_, .keys = {}};
  if (!payload.is_nil()) {
    if (payload.type() != reply_type::array) malformed("an invalidation without keys");
    auto& keys = made.keys.emplace();
    for (std::vector<reply> all = std::move(payload).elements(); reply & each : all) {
      if (!is_string(each)) malformed("an invalidation of something that is no key");
      keys.push_back(std::move(each).str());
    }
  }
  out.emplace_back(std::move(made));
}

/// The name that the first command on the way waits for, if it is this one.
subscription_set::record* push_machine::expected_name(push_kind kind, motion what, std::string_view name) noexcept {
  if (on_the_way_.empty()) return nullptr;
  const expected& first = on_the_way_.front();
  if (first.sent.what != what || first.sent.kind != kind) return nullptr;
  subscription_set::record* const next = first.sent.names[first.answered];
  return next->first == name ? next : nullptr;
}

void push_machine::take_joined(push_kind kind, reply& name, std::vector<push_event>& out) {
  auto* const each = expected_name(kind, motion::joining, name.str());
  if (each == nullptr) malformed("a confirmation that no command waits for");
  count_answer();
  if (names_.joined(*each)) {
    out.emplace_back(push::confirmed{.generation = generation_, .kind = kind, .name = std::move(name).str()});
  }
}

void push_machine::take_left(push_kind kind, reply& name, std::vector<push_event>& out) {
  if (auto* const each = expected_name(kind, motion::leaving, name.str()); each != nullptr) {
    count_answer();
    names_.left(*each);
  } else if (names_.lose(kind, name.str())) {
    out.emplace_back(push::lost{.generation = generation_, .kind = kind, .name = std::move(name).str()});
  }
}

void push_machine::tick(time_point now, std::vector<push_event>& out) {
  if (!reader_) return;
  report_sync(out);
  if (hold_ && now >= *hold_) hold_.reset();
  if (dead_ || options_.heartbeat == no_timeout) return;
  if (!asked_ && now >= heard_ + options_.heartbeat) {
    ping_due_ = !ping_on_the_way_;
    asked_ = now;
  } else if (asked_ && now >= *asked_ + options_.heartbeat_timeout) {
    dead_ = true;
    out.emplace_back(
        push::dead{.generation = generation_,
                   .cause = fmt::format("the server sent nothing for {} ms",
                                        std::chrono::duration_cast<std::chrono::milliseconds>(now - heard_).count())});
  }
}

std::optional<push_machine::time_point> push_machine::next_wakeup() const noexcept {
  if (!reader_) return std::nullopt;
  if (!in_sync_ && names_.awaited() == 0) return heard_;  // at once
  std::optional<time_point> next = hold_;
  if (!dead_ && options_.heartbeat != no_timeout) {
    const time_point beat = asked_ ? *asked_ + options_.heartbeat_timeout : heard_ + options_.heartbeat;
    next = next ? std::min(*next, beat) : beat;
  }
  return next;
}

}  // namespace tenantry::detail
