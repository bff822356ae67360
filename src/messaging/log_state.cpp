#include "messaging/log_state.hpp"

#include "engine/seam.hpp"
#include "messaging/either_token.hpp"
#include "messaging/log_id.hpp"
#include "messaging/scripts.hpp"

#include <tenantry/detail/rendered_name.hpp>
#include <tenantry/detail/schema_base.hpp>
#include <tenantry/error.hpp>
#include <tenantry/observer.hpp>

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <utility>

namespace tenantry::detail {

namespace {

using namespace std::chrono_literals;

/// That Redis takes as a number.
constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();

const event_log_options& checked(const event_log_options& how) {
  if (how.keep == 0) throw invalid_option{"event_log_options.keep is 0"};
  if (how.max_payload == 0) throw invalid_option{"event_log_options.max_payload is 0"};
  if (how.life && *how.life < 1ms) throw invalid_option{"event_log_options.life is less than 1 ms"};
  if (how.once_for < 1ms) throw invalid_option{"event_log_options.once_for is less than 1 ms"};
  if (how.timeout < 1ms) throw invalid_option{"event_log_options.timeout is less than 1 ms"};
  return how;
}

std::vector<std::string_view> views(const std::vector<std::string>& of) { return {of.begin(), of.end()}; }

using clock = std::chrono::steady_clock;
using end_of_wait = shared_log_read::end_of_wait;

shared_page page_of(const reply& answer) {
  log_page read{.epoch = answer[0].str(),
                .top = static_cast<std::uint64_t>(answer[1].integer()),
                .first = static_cast<std::uint64_t>(answer[2].integer()),
                .entries = {}};
  const std::size_t size = answer.elements().size();
  read.entries.reserve((size - 3) / 3);
  for (std::size_t i = 3; i + 2 < size; i += 3) {
    read.entries.push_back({.offset = static_cast<std::uint64_t>(answer[i].integer()),
                            .tag = answer[i + 1].str(),
                            .payload = answer[i + 2].str()});
  }
  return std::make_shared<const log_page>(std::move(read));
}

/// Half of the time may be spent on waiting for others.
struct patience {
  explicit patience(std::chrono::milliseconds timeout) {
    const auto now = clock::now();
    if (timeout >= clock::time_point::max() - now) return;
    deadline = now + timeout;
    alone_from = now + timeout / 2;
  }
  clock::time_point deadline = clock::time_point::max();
  clock::time_point alone_from = clock::time_point::max();
};

end_of_wait end_of(clock::time_point now, clock::time_point limit, const std::stop_token& stop) {
  if (stop.stop_requested()) return end_of_wait::stopped;
  return now >= limit ? end_of_wait::out_of_time : end_of_wait::none;
}

/// Whose token was triggered fails alone.
void failed(shared_log_read& mine, const error& why) {
  if (why.code() == errc::cancelled) {
    mine.withdraw();
  } else {
    mine.failed(why);
  }
}

}  // namespace

log_state::log_state(const client& redis, log_core::channel_of where, const event_log_options& how)
    : redis_{redis}, where_{where}, how_{checked(how)} {}

log_state::~log_state() {
  if (forked()) leave_to_parent(std::move(together_));
}

/// `log:{acme}:alarms` for the channel `alarms:acme`: what follows its tenant goes behind its prefix.
std::string log_state::name(const tenant_id& tenant) const {
  const std::string channel = where_(tenant).str();
  const std::size_t prefix = channel.find(':');
  std::string text = "log:{" + tenant.str() + "}:" + channel.substr(0, prefix);
  const std::size_t end = prefix + 1 + tenant.str().size();
  text += channel.substr(end);
  return text;
}

channel log_state::live_channel(const tenant_id& tenant) const {
  return key_access::make<channel>(
      {.text = name(tenant), .tenant_begin = std::string_view{"log:{"}.size(), .tenant_size = tenant.str().size()});
}

log_state::call log_state::appending(const tenant_id& tenant, std::string_view event, std::string_view once) const {
  if (event.size() > how_.max_payload) {
    throw invalid_option{"an event of " + std::to_string(event.size()) +
                         " bytes is over event_log_options.max_payload, " + std::to_string(how_.max_payload)};
  }
  const std::string at = name(tenant);
  call made{.keys = {at, at + "#meta"},
            .arguments = {new_epoch(), new_tag(), std::string{event}, std::to_string(std::min(how_.keep, most)), at,
                          how_.announce == announce::channel ? where_(tenant).str() : std::string{},
                          how_.life ? std::to_string(how_.life->count()) : std::string{},
                          std::to_string(how_.once_for.count())}};
  if (!once.empty()) made.keys.push_back(at + "#once:" + encode_segment(once));
  return made;
}

std::string log_state::appended(const tenant_id& tenant, const reply& answer, std::size_t bytes) const {
  if (answer[1].integer() == 1 && seam::observed(redis_)) {
    const std::string at = name(tenant);
    seam::notify(redis_, events::published,
                 {{.name = "tenant", .value = std::string_view{tenant.str()}},
                  {.name = "channel", .value = std::string_view{at}},
                  {.name = "bytes", .value = static_cast<std::int64_t>(bytes)}});
  }
  return answer[0].str();
}

std::string log_state::append(const tenant_id& tenant, std::string_view event, std::string_view once) const {
  const call made = appending(tenant, event, once);
  // With an idempotency key once more does no harm.
  const retry again = once.empty() ? retry::never : retry::idempotent;
  const reply answer = redis_.with({.timeout = how_.timeout, .retry = again, .tenant = &tenant})
                           .eval(scripts::append_event(), views(made.keys), views(made.arguments));
  return appended(tenant, answer, event.size());
}

task<std::string> log_state::async_append(tenant_id tenant, std::string event, std::string once) const {
  call made = appending(tenant, event, once);
  const retry again = once.empty() ? retry::never : retry::idempotent;
  const caller by = redis_.with({.timeout = how_.timeout, .retry = again, .tenant = &tenant});
  auto sent = by.async_eval(scripts::append_event(), std::move(made.keys), std::move(made.arguments));
  const reply answer = co_await std::move(sent);
  co_return appended(tenant, answer, event.size());
}

log_state::call log_state::reading(const tenant_id& tenant, std::uint64_t from, std::uint64_t count) const {
  const std::string at = name(tenant);
  return {.keys = {at, at + "#meta"}, .arguments = {std::to_string(from), std::to_string(count)}};
}

caller log_state::reader(const tenant_id& tenant, time_point deadline, const std::stop_token& stop) const {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now());
  return redis_.with({.timeout = deadline == clock::time_point::max() ? how_.timeout : std::max(left, 1ms),
                      .stop = stop,
                      .retry = retry::idempotent,
                      .tenant = &tenant,
                      .lane = lane_choice::bulk});
}

shared_page log_state::read(const tenant_id& tenant, std::uint64_t from, std::uint64_t count, time_point limit,
                            const std::stop_token& stop) const {
  seam::check_not_forked(redis_);
  const patience until{how_.timeout};
  shared_log_read mine{*together_, {.tenant = &tenant, .from = from, .count = count}, until.alone_from};
  for (;;) {
    const auto now = clock::now();
    switch (mine.next(now, end_of(now, limit, stop))) {
      case shared_log_read::step::ask:
        try {
          const call made = reading(tenant, from, count);
          mine.answered(page_of(reader(tenant, until.deadline, stop)
                                    .eval(scripts::read_events(), views(made.keys), views(made.arguments))));
        } catch (const error& why) {
          failed(mine, why);
        }
        break;
      case shared_log_read::step::wait:
        together_->sleep_until(mine.request(), std::min(limit, until.alone_from), stop);
        break;
      case shared_log_read::step::done:
        return mine.result();
    }
  }
}
task<shared_page> log_state::async_read(tenant_id tenant, std::uint64_t from, std::uint64_t count, time_point limit,
                                        std::stop_token stop) const {
  seam::check_not_forked(redis_);
  const patience until{how_.timeout};
  shared_log_read mine{*together_, {.tenant = &tenant, .from = from, .count = count}, until.alone_from};
  bool closed = false;
  for (;;) {
    const auto now = clock::now();
    switch (mine.next(now, closed ? end_of_wait::client_closed : end_of(now, limit, stop))) {
      case shared_log_read::step::ask:
        try {
          call made = reading(tenant, from, count);
          const caller by = reader(tenant, until.deadline, stop);
          auto sent = by.async_eval(scripts::read_events(), std::move(made.keys), std::move(made.arguments));
          const reply answer = co_await std::move(sent);
          mine.answered(page_of(answer));
        } catch (const error& why) {
          failed(mine, why);
        }
        break;
      case shared_log_read::step::wait: {
        const either_token woken{together_->changed(mine.request()), stop};
        auto waiting = seam::pause(redis_, std::min(limit, until.alone_from), woken.get());
        const bool open = co_await std::move(waiting);
        closed = !open;
        break;
      }
      case shared_log_read::step::done:
        co_return mine.result();
    }
  }
}

log_core::log_core(const client& redis, channel_of where, const event_log_options& how)
    : state_{std::make_shared<log_state>(redis, where, how)} {}

std::string log_core::append(const tenant_id& tenant, std::string_view event, std::string_view once) const {
  return state_->append(tenant, event, once);
}
task<std::string> log_core::async_append(const tenant_id& tenant, std::string event, std::string once) const {
  return state_->async_append(tenant, std::move(event), std::move(once));
}

}  // namespace tenantry::detail
