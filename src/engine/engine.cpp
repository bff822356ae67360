#include "engine/engine.hpp"

#include "engine/failures.hpp"
#include "engine/fork_count.hpp"
#include "engine/notify.hpp"
#include "engine/options.hpp"
#include "engine/random_fraction.hpp"
#include "engine/shared_rules.hpp"

#include <tenantry/error.hpp>
#include <tenantry/tenant.hpp>

#include <fmt/format.h>

#include <coroutine>
#include <memory>
#include <thread>
#include <type_traits>
#include <utility>

namespace tenantry::detail {

namespace {

constexpr std::size_t bulk_bytes = 256U << 10U;
constexpr unsigned default_threads = 2;

client_options checked(client_options options) {
  check(options);
  check(options.breaker);
  check(options.bounds);
  return options;
}

std::span<const command> span_of(const command& one) { return {&one, 1}; }
std::span<const command> span_of(const std::vector<command>& all) { return all; }
std::span<reply> span_of(reply& one) { return {&one, 1}; }
std::span<reply> span_of(std::vector<reply>& all) { return all; }

bool is_bulk(std::span<const command> commands, lane_choice choice) {
  if (choice == lane_choice::bulk) return true;
  std::size_t bytes = 0;
  for (const command& each : commands) bytes += each.bytes().size();
  return bytes > bulk_bytes;
}

/// A reply of one command that is an error may be worth another try; those of several belong to the caller.
bool is_final(const std::optional<failure>& failed, std::span<const reply> replies) {
  return !failed && (replies.size() != 1 || !replies.front().is_error());
}

}  // namespace

/// A blocking call from its beginning until nothing of the engine is used any more. Leaving is the last that it does.
class engine::visit {
 public:
  explicit visit(std::atomic<int>& calls) noexcept : calls_{calls} { calls_.fetch_add(1, std::memory_order_relaxed); }
  visit(const visit&) = delete;
  visit& operator=(const visit&) = delete;
  ~visit() { calls_.fetch_sub(1, std::memory_order_release); }

 private:
  std::atomic<int>& calls_;
};

engine::engine(client_options options)
    : options_{checked(std::move(options))},
      endpoint_{detail::endpoint(options_)},
      fork_count_{detail::fork_count()},
      breaker_{options_.breaker},
      blocking_{options_, ownership::shared, "blocking", &losses_},
      exclusive_count_{options_.bounds.exclusive_connections},
      exclusive_{exclusive_count_,
                 [this] { return std::make_shared<blocking_driver>(options_, ownership::exclusive, "exclusive"); }},
      async_exclusive_{exclusive_count_, [this] {
                         return std::shared_ptr<async_lane>{
                             new async_lane{options_, loop_, resume_, ownership::exclusive, "async exclusive"},
                             async_lane::retire{}};
                       }} {
  watch_forks();
  if (!options_.executor) {
    resume_ = [this](std::span<const std::coroutine_handle<>> ready) {
      pool_.open([] { return std::make_unique<thread_pool>(default_threads); }).post(ready);
    };
  } else if (options_.executor.target<run_inline>() != nullptr) {
    resume_ = [](std::span<const std::coroutine_handle<>> ready) {
      for (const std::coroutine_handle<> each : ready) each.resume();
    };
  } else {
    resume_ = [this](std::span<const std::coroutine_handle<>> ready) {
      for (const std::coroutine_handle<> each : ready) options_.executor(each);
    };
  }
}

engine::~engine() {
  close(std::chrono::milliseconds{0});
  while (calls_.load(std::memory_order_acquire) != 0) std::this_thread::yield();  // they have ended, and are leaving
  loop_.stop();  // before the lanes that it runs are destroyed
  pool_.reset();
}

bool engine::forked() const noexcept { return detail::fork_count() != fork_count_; }

void engine::abandon() noexcept {
  for_each_part([](auto& part) { part.abandon(); });
  push_connections_.for_each([](push_connection& each) { each.abandon(); });
}

template <class What>
void engine::for_each_part(What what) {
  what(blocking_);
  if (bulk_.get() != nullptr) what(*bulk_.get());
  if (async_.get() != nullptr) what(*async_.get());
  if (async_bulk_.get() != nullptr) what(*async_bulk_.get());
  what(exclusive_);
  what(async_exclusive_);
}

net::clock::time_point engine::deadline_of(const call_options& how) const {
  return after(net::clock::now(), how.timeout.value_or(options_.timeout));
}

call_terms engine::terms_of(const call_options& how, net::clock::time_point deadline) const {
  return {.deadline = deadline,
          .stop = how.stop,
          .tenant = how.tenant != nullptr ? std::string_view{how.tenant->str()} : std::string_view{},
          .fail_fast = how.down.value_or(options_.down) == when_down::fail};
}

void engine::check(std::span<const command> commands, ownership whose, traffic what) const {
  for (const command& each : commands) {
    if (each.bytes().empty()) throw invalid_option{"a command that was moved away cannot be sent"};
    if (what == traffic::tracked) continue;
    if (whose == ownership::shared) {
      check_shareable(each);
    } else {
      check_reusable(each);
    }
  }
  if (forked()) raise(forked_since(), commands);
}

blocking_driver& engine::blocking_lane(std::span<const command> commands, lane_choice choice, traffic what) {
  if (what == traffic::tracked || !is_bulk(commands, choice)) return blocking_;
  auto& lane =
      bulk_.open([this] { return std::make_unique<blocking_driver>(options_, ownership::shared, "blocking bulk"); });
  if (closed_) lane.begin_close(close_at_);  // it may have missed that
  return lane;
}

async_lane& engine::coroutine_lane(std::span<const command> commands, lane_choice choice, traffic what) {
  const bool bulk = what == traffic::plain && is_bulk(commands, choice);
  async_lane& lane = (bulk ? async_bulk_ : async_).open([this, bulk] {
    return std::make_unique<async_lane>(options_, loop_, resume_, ownership::shared, bulk ? "async bulk" : "async",
                                        bulk ? nullptr : &losses_);
  });
  if (closed_) lane.begin_close(close_at_);  // it may have missed that
  return lane;
}

void engine::watch_lanes() {
  watch_.open([this] { return std::make_unique<hang_up_watch>(loop_, blocking_); });
}

void engine::count(const std::optional<failure>& failed, net::clock::time_point now, std::uint64_t openings) {
  if (!failed) {
    if (breaker_.succeeded(now, openings)) {
      notify(options_.observer, events::breaker_closed, {{.name = "endpoint", .value = std::string_view{endpoint_}}});
    }
    return;
  }
  if (failed->code == errc::overloaded) {
    if (const std::int64_t refused = overloads_.pass(now); refused > 0) {
      notify(options_.observer, events::overloaded,
             {{.name = "endpoint", .value = std::string_view{endpoint_}}, {.name = "refused", .value = refused}});
    }
  }
  if (counts_against_server(failed->code) && breaker_.failed(now, random_fraction())) {
    notify(options_.observer, events::breaker_opened,
           {{.name = "endpoint", .value = std::string_view{endpoint_}},
            {.name = "code", .value = to_string(failed->code)}});
  }
}

void engine::run(std::span<const command> commands, std::span<reply> replies, const call_options& how,
                 net::clock::time_point deadline, traffic what) {
  const visit under_way{calls_};
  check(commands, ownership::shared, what);
  if (closed_) raise(closed_before(), commands);
  blocking_driver& lane = blocking_lane(commands, how.lane, what);
  call_terms terms = terms_of(how, deadline);
  retry_machine retries{commands, how.retry, deadline, budget_};
  for (;;) {
    const std::uint64_t openings = breaker_.openings();
    const auto failed = lane.run(commands, replies, terms);
    const auto now = net::clock::now();
    count(failed, now, openings);
    if (is_final(failed, replies)) return;
    const auto next = retries.again(failed, replies, now, random_fraction());
    if (!next && failed) raise(*failed, commands);
    if (!next) return;
    if (*next > now && !lane.pause(*next, terms)) {
      if (terms.stop.stop_requested()) raise(cancelled(execution::rejected), commands);
      return;
    }
    for (reply& each : replies) each = reply{};
    terms.repeated = true;
  }
}

template <class Commands, class Replies>
task<Replies> engine::async_run(Commands commands, Replies replies, call_options how,
                                std::optional<net::clock::time_point> until, resumed where, traffic what) {
  const std::span<const command> sent = span_of(commands);
  const std::span<reply> answers = span_of(replies);
  if (sent.empty()) co_return std::move(replies);
  check(sent, ownership::shared, what);
  if (closed_) raise(closed_before(), sent);
  async_lane& lane = coroutine_lane(sent, how.lane, what);
  const auto deadline = until ? *until : deadline_of(how);
  call_terms terms = terms_of(how, deadline);
  terms.where = where;
  retry_machine retries{sent, how.retry, deadline, budget_};
  for (;;) {
    const std::uint64_t openings = breaker_.openings();
    async_call call{lane, sent, answers, terms};
    const auto failed = co_await call;
    const auto now = net::clock::now();
    count(failed, now, openings);
    if (is_final(failed, answers)) break;
    const auto next = retries.again(failed, answers, now, random_fraction());
    if (!next && failed) raise(*failed, sent);
    if (!next) break;
    if (*next > now) {
      call_terms rest = terms;
      rest.deadline = *next;
      async_call pause{lane, {}, {}, rest};
      const auto interrupted = co_await pause;
      if (interrupted && interrupted->code == errc::cancelled) raise(cancelled(execution::rejected), sent);
      if (interrupted) break;
    }
    for (reply& each : answers) each = reply{};
    terms.repeated = true;
  }
  if constexpr (std::is_same_v<Replies, reply>) {
    if (replies.is_error()) throw server_error{commands.name(), replies.error_text()};
  }
  co_return std::move(replies);
}

template task<reply> engine::async_run(command, reply, call_options, std::optional<net::clock::time_point>, resumed,
                                       traffic);
template task<std::vector<reply>> engine::async_run(std::vector<command>, std::vector<reply>, call_options,
                                                    std::optional<net::clock::time_point>, resumed, traffic);

task<bool> engine::async_pause(net::clock::time_point until, std::stop_token stop, resumed where) {
  if (forked()) co_return false;
  async_lane& lane = coroutine_lane({}, lane_choice::by_size);
  call_terms terms{.deadline = until, .stop = std::move(stop), .where = where};
  async_call pause{lane, {}, {}, terms};
  const auto interrupted = co_await pause;
  co_return !interrupted || interrupted->code == errc::cancelled;
}

void engine::check_not_forked() const {
  if (!forked()) return;
  const command asked{"call"};
  raise(forked_since(), {&asked, 1});
}

void engine::check_open() const {
  check_not_forked();
  const command asked{"call"};
  if (closed_) raise(closed_before(), {&asked, 1});
}

exclusive_connection engine::take_exclusive() {
  check_not_forked();
  const command asked{"exclusive"};
  failure why;
  auto connection = exclusive_.take(why);
  if (!connection) raise(why, {&asked, 1});
  return exclusive_connection{*this, std::move(connection)};
}

async_exclusive_connection engine::take_async_exclusive() {
  check_not_forked();
  const command asked{"exclusive"};
  auto mine = std::make_shared<exclusive_lane>();
  failure why;
  mine->lane = async_exclusive_.take(why);
  if (!mine->lane) raise(why, {&asked, 1});
  return async_exclusive_connection{*this, std::move(mine)};
}

void engine::give_back(std::shared_ptr<blocking_driver> connection, const transaction_state& state) noexcept {
  exclusive_.give_back(std::move(connection), state == transaction_state{});
}

void engine::give_back(exclusive_lane& connection) noexcept {
  const auto before = connection.now.exchange(exclusive_lane::use::given_back, std::memory_order_acq_rel);
  const bool clean = before == exclusive_lane::use::idle && connection.state == transaction_state{};
  // A task that has ended may still hold on to `connection` when the client is gone, so the lane must not stay there.
  auto lane = before == exclusive_lane::use::busy ? connection.lane : std::move(connection.lane);
  async_exclusive_.give_back(std::move(lane), clean);
}

template <class Commands, class Replies>
task<Replies> engine::async_run_exclusive(std::shared_ptr<exclusive_lane> on, Commands commands, Replies replies,
                                          call_options how) {
  const std::span<const command> sent = span_of(commands);
  const std::span<reply> answers = span_of(replies);
  if (sent.empty()) co_return std::move(replies);
  check(sent, ownership::exclusive);
  if (!on) raise(exclusive_given_back(), sent);
  const exclusive_use mine{*on};
  if (!mine.began())
    raise(mine.before() == exclusive_lane::use::busy ? exclusive_busy() : exclusive_given_back(), sent);
  const std::shared_ptr<async_lane> lane = on->lane;
  for (const command& each : sent) note_opening(each, on->state);
  const call_terms terms = terms_of(how, deadline_of(how));
  const std::uint64_t openings = breaker_.openings();
  async_call call{*lane, sent, answers, terms};
  const auto failed = co_await call;
  count(failed, net::clock::now(), openings);
  if (failed) raise(*failed, sent);
  for (std::size_t i = 0; i < sent.size(); ++i) note_end(sent[i], answers[i], on->state);
  if constexpr (std::is_same_v<Replies, reply>) {
    if (replies.is_error()) throw server_error{commands.name(), replies.error_text()};
  }
  co_return std::move(replies);
}

template task<reply> engine::async_run_exclusive(std::shared_ptr<exclusive_lane>, command, reply, call_options);
template task<std::vector<reply>> engine::async_run_exclusive(std::shared_ptr<exclusive_lane>, std::vector<command>,
                                                              std::vector<reply>, call_options);

void engine::run_exclusive(blocking_driver& connection, std::span<const command> commands, std::span<reply> replies,
                           const call_options& how) {
  const visit under_way{calls_};
  const std::uint64_t openings = breaker_.openings();
  const auto failed = connection.run(commands, replies, terms_of(how, deadline_of(how)));
  count(failed, net::clock::now(), openings);
  if (failed) raise(*failed, commands);
}

void engine::raise(const failure& why, std::span<const command> commands) const {
  std::string name{commands.front().name()};
  if (commands.size() > 1) name += fmt::format(" and {} more", commands.size() - 1);
  const std::string text = fmt::format("{} at {}: {}", name, endpoint_, why.detail);
  if (why.code == errc::timeout || why.code == errc::cancelled) throw timeout_error{why.code, why.what, text};
  if (why.code == errc::refused_command) throw error{why.code, why.what, text};
  throw connection_error{why.code, why.what, text};
}

void engine::close(std::chrono::milliseconds drain) {
  const auto deadline = after(net::clock::now(), std::max(drain, std::chrono::milliseconds{0}));
  auto before = close_at_.load();
  while (deadline < before && !close_at_.compare_exchange_weak(before, deadline)) {
  }
  closed_ = true;
  for_each_part([deadline](auto& part) { part.begin_close(deadline); });
  if (loop_.on_this_thread()) {  // which has to go on, to answer what is under way
    late_close_.at(deadline);
  } else {
    for_each_part([](auto& part) { part.wait_closed(); });
  }
}

/// On the I/O thread.
void engine::late_close::at(net::clock::time_point deadline) {
  deadline_ = std::min(deadline_, deadline);
  std::call_once(added_, [this] { of_.loop_.add(*this); });
}

io_task::interest engine::late_close::run(short) noexcept {
  if (net::clock::now() < deadline_) return {.wake_at = deadline_};
  deadline_ = forever;
  of_.blocking_.end_calls();
  if (of_.bulk_.get() != nullptr) of_.bulk_.get()->end_calls();
  of_.exclusive_.end_calls();
  return {};
}

client_metrics engine::metrics() const {
  client_metrics all;
  if (forked()) return all;
  all.lanes.push_back(blocking_.metrics());
  if (bulk_.get() != nullptr) all.lanes.push_back(bulk_.get()->metrics());
  if (async_.get() != nullptr) all.lanes.push_back(async_.get()->metrics());
  if (async_bulk_.get() != nullptr) all.lanes.push_back(async_bulk_.get()->metrics());
  all.breaker = to_string(breaker_.state());
  all.breaker_openings = breaker_.openings();
  return all;
}

}  // namespace tenantry::detail
