// The two drivers of a log cursor.

#include "engine/seam.hpp"
#include "messaging/either_token.hpp"
#include "messaging/log_cursor.hpp"
#include "messaging/log_state.hpp"
#include "messaging/retry_pause.hpp"

#include <tenantry/detail/feed_core.hpp>
#include <tenantry/error.hpp>
#include <tenantry/observer.hpp>

#include <algorithm>
#include <optional>
#include <utility>

namespace tenantry::detail {

namespace {

using clock = std::chrono::steady_clock;

constexpr std::size_t page_size = 256;

subscription_options queue_of(const follow_options& how) {
  return {.capacity = how.capacity, .overflow = overflow::drop_oldest, .timeout = how.timeout};
}

}  // namespace

class follow_state {
 public:
  follow_state(std::shared_ptr<log_state> log, const tenant_id& tenant, feed_core feed,
               std::optional<std::string_view> last_id, std::uint64_t max_replay)
      : log_{std::move(log)}, tenant_{tenant}, feed_{std::move(feed)}, cursor_{last_id, max_replay} {}

  std::optional<followed_item> next(clock::time_point limit, const std::stop_token& stop);
  task<std::optional<followed_item>> async_next(clock::time_point limit, std::stop_token stop);
  /// What the log has when it begins to follow: what is appended from now on is after that.
  void begin_with(const shared_page& read) { cursor_.page(read, out_); }
  [[nodiscard]] const log_cursor& cursor() const noexcept { return cursor_; }
  void stop() noexcept {
    feed_.unsubscribe();
    if (log_->forked()) {
      over_ = true;
    } else {
      stopped_.request_stop();
    }
  }
  [[nodiscard]] const log_state& log() const noexcept { return *log_; }
  [[nodiscard]] const tenant_id& tenant() const noexcept { return tenant_; }

 private:
  std::optional<followed_item> ready();
  void take(feed_item item);
  void end(const error& why);

  const std::shared_ptr<log_state> log_;
  const tenant_id tenant_;
  feed_core feed_;
  log_cursor cursor_;
  std::deque<log_output> out_;
  std::optional<closed> last_;
  bool over_ = false;
  std::stop_source stopped_;
};

/// What can be delivered without asking anybody.
std::optional<followed_item> follow_state::ready() {
  if (!out_.empty()) {
    log_output first = std::move(out_.front());
    out_.pop_front();
    if (auto* const missed = std::get_if<gap>(&first)) return followed_item{std::move(*missed)};
    return followed_item{std::make_shared<const logged_payload>(std::get<logged_payload>(std::move(first)))};
  }
  if (!last_) return std::nullopt;
  over_ = true;
  return followed_item{*std::exchange(last_, std::nullopt)};
}

void follow_state::take(feed_item item) {
  if (auto* const end_of_feed = std::get_if<closed>(&item)) {
    last_ = std::move(*end_of_feed);
    return;
  }
  const auto* const came = std::get_if<published_ref>(&item);
  if (came == nullptr) {  // a gap of the connection, or a queue that was full
    cursor_.missed();
    return;
  }
  const std::string_view text = (*came)->payload;
  const std::size_t line = text.find('\n');
  const auto id = log_id::parse(text.substr(0, line));
  if (id && line != std::string_view::npos) cursor_.live(*id, text.substr(line + 1), out_);
}

void follow_state::end(const error& why) {
  last_ = closed{.cause = closed_cause::refused, .why = std::make_shared<const error>(why)};
}

std::optional<followed_item> follow_state::next(clock::time_point limit, const std::stop_token& stop) {
  for (;;) {
    if (auto item = ready()) return item;
    if (over_ || stopped_.stop_requested() || stop.stop_requested()) return std::nullopt;
    if (!cursor_.wants_page()) {
      auto item = feed_.next(limit, stop);
      if (!item) return std::nullopt;
      take(std::move(*item));
      continue;
    }
    std::optional<either_token> given_up;
    try {
      seam::check_not_forked(log_->redis());  // before a token is locked
      given_up.emplace(stop, stopped_.get_token());
      const auto read = log_->read(tenant_, cursor_.page_from(), cursor_.page_count(log_->fitting(page_size)), limit,
                                   given_up->get());
      if (!read) return std::nullopt;
      cursor_.page(read, out_);
    } catch (const error& why) {
      if (!passes_by_itself(why)) {
        end(why);
        continue;
      }
      pause_thread(limit, given_up->get());
      if (clock::now() >= limit) return std::nullopt;
    }
  }
}

task<std::optional<followed_item>> follow_state::async_next(clock::time_point limit, std::stop_token stop) {
  for (;;) {
    if (auto item = ready()) co_return item;
    if (over_ || stopped_.stop_requested() || stop.stop_requested()) co_return std::nullopt;
    if (!cursor_.wants_page()) {
      auto waiting = feed_.async_next(limit, stop);
      auto item = co_await std::move(waiting);
      if (!item) co_return std::nullopt;
      take(std::move(*item));
      continue;
    }
    std::optional<either_token> given_up;
    std::optional<error> failed;
    try {
      seam::check_not_forked(log_->redis());
      given_up.emplace(stop, stopped_.get_token());
      auto reading = log_->async_read(tenant_, cursor_.page_from(), cursor_.page_count(log_->fitting(page_size)), limit,
                                      given_up->get());
      const shared_page read = co_await std::move(reading);
      if (!read) co_return std::nullopt;
      cursor_.page(read, out_);
    } catch (const error& why) {
      failed.emplace(why);
    }
    if (!failed) continue;
    if (!passes_by_itself(*failed)) {
      end(*failed);
      continue;
    }
    const auto until = std::min(limit, clock::now() + pause_after_failure);
    auto pausing = seam::pause(log_->redis(), until, given_up->get());
    const bool open = co_await std::move(pausing);
    if (!open || clock::now() >= limit) co_return std::nullopt;
  }
}

follow_core follow_core::begin(const std::shared_ptr<log_state>& log, subscriber& by, const tenant_id& tenant,
                               std::optional<std::string_view> last_id, const follow_options& how) {
  feed_core feed = by.listen(log->live_channel(tenant), queue_of(how));
  auto state = std::make_unique<follow_state>(log, tenant, std::move(feed), last_id, how.max_replay);
  state->begin_with(
      log->read(tenant, state->cursor().page_from(), state->cursor().page_count(log->fitting(page_size))));
  return follow_core{std::move(state)};
}

task<follow_core> follow_core::async_begin(std::shared_ptr<log_state> log, subscriber& by, tenant_id tenant,
                                           std::optional<std::string> last_id, follow_options how) {
  auto listening = by.async_listen(log->live_channel(tenant), queue_of(how));
  feed_core feed = co_await std::move(listening);
  const std::optional<std::string_view> from = last_id ? std::optional<std::string_view>{*last_id} : std::nullopt;
  auto state = std::make_unique<follow_state>(log, tenant, std::move(feed), from, how.max_replay);
  auto reading =
      log->async_read(tenant, state->cursor().page_from(), state->cursor().page_count(log->fitting(page_size)));
  const shared_page read = co_await std::move(reading);
  state->begin_with(read);
  co_return follow_core{std::move(state)};
}

follow_core::follow_core(std::unique_ptr<follow_state> mine) noexcept : state_{std::move(mine)} {}
follow_core::follow_core(follow_core&&) noexcept = default;
follow_core& follow_core::operator=(follow_core&& from) noexcept {
  const follow_core before{std::move(*this)};
  state_ = std::move(from.state_);
  return *this;
}
follow_core::~follow_core() {
  if (state_ && state_->log().forked()) leave_to_parent(std::move(state_));
}

std::optional<followed_item> follow_core::next(time_point limit, const std::stop_token& stop) {
  return state_->next(limit, stop);
}
task<std::optional<followed_item>> follow_core::async_next(time_point limit, std::stop_token stop) {
  return state_->async_next(limit, std::move(stop));
}
void follow_core::stop() noexcept { state_->stop(); }

void follow_core::undecodable(std::size_t bytes, std::string_view why) const {
  const channel at = state_->log().live_channel(state_->tenant());
  seam::notify(state_->log().redis(), events::decode_error,
               {{.name = "channel", .value = std::string_view{at.str()}},
                {.name = "bytes", .value = static_cast<std::int64_t>(bytes)},
                {.name = "detail", .value = why}});
}

follower_counters follow_core::counters() const noexcept { return state_->cursor().counters(); }

std::string_view id_of(const logged_payload& event) noexcept { return event.id; }
std::string_view bytes_of(const logged_payload& event) noexcept { return *event.payload; }

}  // namespace tenantry::detail
