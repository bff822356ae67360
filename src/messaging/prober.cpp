#include "messaging/prober.hpp"

#include <tenantry/command.hpp>
#include <tenantry/error.hpp>
#include <tenantry/observer.hpp>

#include <charconv>
#include <exception>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tenantry::detail {

namespace {

std::string unique_channel() {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string name = "tenantry#probe:";
  for (const std::uint8_t each : entropy<16>()) {
    name += digits[each >> 4U];
    name += digits[each & 15U];
  }
  return name;
}

std::uint64_t number_in(std::string_view text) noexcept {
  std::uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

}  // namespace

prober::prober(const client& redis, const probe_options& how)
    : redis_{redis}, how_{how}, channel_{unique_channel()}, machine_{how} {}

void prober::begin(const std::shared_ptr<prober>& self, push_connection& on) {
  {
    const std::lock_guard held{self->mutex_};
    self->connection_ = &on;
    on.want(push_kind::channel, self->channel_);
  }
  start(work(self), [](const std::exception_ptr&) {});
}

void prober::stop() noexcept {
  const std::lock_guard held{mutex_};
  connection_ = nullptr;
  look_again();
}

/// With the lock held. The coroutine is only marked as ready here: it does not run on this thread.
void prober::look_again() { sooner_.request_stop(); }

bool prober::take(const push_event& what) {
  const auto* const message = std::get_if<push::message>(&what);
  if (message != nullptr && message->channel != channel_) return false;  // as nearly all
  const auto now = clock::now();
  const std::lock_guard held{mutex_};
  if (message != nullptr) {
    machine_.arrived(number_in(message->payload), now);
  } else if (const auto* const begins = std::get_if<push::confirmed>(&what)) {
    if (begins->name != channel_) return false;
    machine_.confirmed(begins->generation, now);
  } else if (const auto* const lost = std::get_if<push::lost>(&what)) {
    if (lost->name != channel_) return false;
    machine_.unconfirmed();
  } else if (const auto* const refused = std::get_if<push::refused>(&what)) {
    if (refused->name != channel_) return false;
    refuse(refused->text);
  } else {
    if (std::holds_alternative<push::ended>(what)) machine_.unconfirmed();
    return false;
  }
  look_again();
  return true;
}

bool prober::has_ended(std::uint64_t generation) const {
  const std::lock_guard held{mutex_};
  return ended_ == generation;
}

/// With the lock held.
void prober::refuse(std::string text) {
  machine_.unconfirmed();
  if (refused_) return;
  refused_ = std::move(text);
  if (connection_ != nullptr) connection_->unwant(push_kind::channel, channel_);
}

prober::step prober::next() {
  const auto now = clock::now();
  const std::lock_guard held{mutex_};
  step made;
  made.over = connection_ == nullptr;
  made.refused = refused_;
  if (made.over || made.refused) return made;
  if (const auto generation = machine_.late(now)) {
    ended_ = generation;
    connection_->restart(*generation, "a probe that Redis accepted did not come back");
  }
  made.publish = machine_.due(now);
  made.until = machine_.next();
  if (sooner_.stop_requested()) sooner_ = std::stop_source{};
  made.sooner = sooner_.get_token();
  return made;
}

void prober::settle(std::uint64_t number, const reply& answer) {
  const std::lock_guard held{mutex_};
  if (!answer.is_error()) {
    machine_.accepted(number, clock::now());
  } else if (server_error{"PUBLISH", answer.error_text()}.code() == errc::no_permission) {
    refuse(answer.error_text());
  } else {
    machine_.failed(number, clock::now());
  }
}

void prober::failed(std::uint64_t number) {
  const std::lock_guard held{mutex_};
  machine_.failed(number, clock::now());
}

/// On the I/O thread; once the client is closed, and may be gone, nothing of it is used any more.
task<void> prober::work(std::shared_ptr<prober> self) {
  for (;;) {
    const step now = self->next();
    if (now.over) co_return;
    if (now.refused) {
      seam::notify(self->redis_, events::probe_refused,
                   {{.name = "channel", .value = std::string_view{self->channel_}},
                    {.name = "detail", .value = std::string_view{*now.refused}}});
      co_return;
    }
    if (!now.publish) {
      auto pausing = seam::pause_apart(self->redis_, now.until, now.sooner);
      const bool open = co_await std::move(pausing);
      if (!open) co_return;
      continue;
    }
    try {
      std::vector<command> commands;
      commands.emplace_back("PUBLISH", self->channel_, std::to_string(*now.publish));
      const caller by = self->redis_.with({.timeout = self->how_.timeout, .retry = retry::never});
      auto sending = seam::execute_apart(by, std::move(commands));
      const std::vector<reply> answers = co_await std::move(sending);
      self->settle(*now.publish, answers.front());
    } catch (const error& why) {
      if (why.code() == errc::closed) co_return;
      self->failed(*now.publish);
    }
  }
}

}  // namespace tenantry::detail
