#include "limiting/permit_keeper.hpp"

#include "engine/seam.hpp"
#include "limiting/scripts.hpp"

#include <tenantry/command.hpp>
#include <tenantry/error.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>
#include <map>
#include <new>
#include <span>
#include <string_view>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace tenantry::detail {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;
using stage = permit_lease::stage;

constexpr std::size_t most_at_once = 512;
constexpr std::size_t most_of_a_command = 128;

/// An id that no other permit has, of 16 random bytes, and the life that the script needs to know of it.
std::string member_name(std::chrono::milliseconds life) {
  constexpr std::string_view digits = "0123456789abcdef";
  const auto bytes = entropy<16>();
  std::string name;
  name.reserve(2 * bytes.size() + 10);
  for (const std::uint8_t each : bytes) {
    name += digits[each >> 4U];
    name += digits[each & 15U];
  }
  return name + ':' + std::to_string(life.count());
}

}  // namespace

permit_lease::permit_lease(std::string name, std::chrono::milliseconds how_long)
    : key{std::move(name)}, member{member_name(how_long)}, life{how_long}, until{clock::now() + how_long} {}

/// What is sent together. The first commands renew, a key and life each; each of the others gives back one place.
struct permit_keeper::batch {
  struct one {
    lease_ptr what;
    permit_lease::stage asked;
  };

  void add(std::vector<std::string_view> words, std::vector<one> whose) {
    commands.emplace_back(std::span<const std::string_view>{words});
    of.push_back(std::move(whose));
  }

  std::vector<command> commands = {};
  std::vector<std::vector<one>> of = {};  // of each command
  time_point sent{};
  std::chrono::milliseconds timeout = std::chrono::milliseconds::max();
  time_point next = time_point::max();  // nothing is due: until then
  bool over = false;                    // there is nothing to do at all
};

permit_keeper::permit_keeper(const client& redis) : redis_{redis}, on_{redis.with({})}, life_{seam::life(redis)} {}

std::shared_ptr<permit_keeper> permit_keeper::of(const client& redis) {
  return seam::shared_part<permit_keeper>(redis, [&redis] { return std::make_shared<permit_keeper>(redis); });
}

bool permit_keeper::usable() const noexcept { return !life_.expired() && !seam::forked(on_); }

void permit_keeper::keep(const lease_ptr& what) noexcept {
  put(what, stage::kept, what->until.load() - what->life + what->life / 3);
}
void permit_keeper::doubt(const lease_ptr& what) noexcept { put(what, stage::doubted, clock::now()); }
void permit_keeper::release(const lease_ptr& what) noexcept { put(what, stage::leaving, clock::now()); }

void permit_keeper::release_by(const caller& by, const lease_ptr& what) noexcept {
  if (!usable()) return;
  put(what, stage::leaving, time_point::max());
  try {
    if (seam::circuit_breaker(by).allow(clock::now())) {
      by.execute("ZREM", what->key, what->member);
      end(what);
      return;
    }
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): then as below
  }
  release(what);
}

task<void> permit_keeper::async_release(std::shared_ptr<permit_keeper> self, caller by, lease_ptr what) {
  if (!self->usable()) co_return;
  self->put(what, stage::leaving, time_point::max());
  bool done = false;
  try {
    if (seam::circuit_breaker(by).allow(clock::now())) {
      auto sending = by.async_execute("ZREM", what->key, what->member);
      co_await std::move(sending);
      done = true;
    }
  } catch (const error&) {  // NOLINT(bugprone-empty-catch): then as below
  }
  done ? self->end(what) : self->release(what);
}

/// No memory for it: then it is not renewed, or the lease gives it back.
void permit_keeper::put(const lease_ptr& what, permit_lease::stage now, time_point next) noexcept {
  if (!usable()) return;
  bool idle = false;
  std::stop_source sooner{std::nostopstate};
  try {
    const std::lock_guard held{mutex_};
    if (closed_) return;
    if (!what->place) what->place = all_.insert(all_.end(), what);
    what->now = now;
    what->next = next;
    what->failures = 0;
    if (next == time_point::max()) return;
    idle = !std::exchange(working_, true);
    if (!idle && next < looks_at_) {
      sooner = sooner_;
      looks_at_ = time_point::min();
    }
  } catch (const std::bad_alloc&) {
    return;
  }
  if (idle) begin();
  sooner.request_stop();
}

void permit_keeper::leave_out(permit_lease& what) noexcept {
  if (const auto place = std::exchange(what.place, std::nullopt)) all_.erase(*place);
}

void permit_keeper::end(const lease_ptr& what) noexcept {
  const std::lock_guard held{mutex_};
  leave_out(*what);
}

void permit_keeper::begin() noexcept {
  try {
    start(work(shared_from_this()), [self = shared_from_this()](const std::exception_ptr& fault) {
      if (fault) self->stopped();
    });
  } catch (...) {
    stopped();
  }
}

/// Not by its own choice: there is no thread, or no memory. The next permit begins it again.
void permit_keeper::stopped() noexcept {
  const std::lock_guard held{mutex_};
  working_ = false;
}

void permit_keeper::closed() noexcept {
  std::list<lease_ptr> rest;
  const std::lock_guard held{mutex_};
  closed_ = true;
  for (const lease_ptr& each : all_) each->place.reset();
  rest.swap(all_);
}

permit_keeper::batch permit_keeper::due(time_point now) {
  batch all{.sent = now};
  std::map<std::pair<std::string_view, std::chrono::milliseconds>, std::vector<batch::one>> kept;
  std::vector<lease_ptr> leaving;
  auto shortest = std::chrono::milliseconds::max();
  auto renewed_next = time_point::max();
  std::size_t count = 0;
  const std::lock_guard held{mutex_};
  for (const lease_ptr& each : all_) {
    if (each->now == stage::kept) shortest = std::min(shortest, each->life);
  }
  // Permits of many times are renewed together, up to a twenty-fourth of a lease late.
  const time_point rested = shortest == std::chrono::milliseconds::max() ? now : renewed_ + shortest / 24;
  for (auto i = all_.begin(); i != all_.end();) {
    const lease_ptr each = *i++;
    if (each->now == stage::leaving && now >= each->until.load()) {
      leave_out(*each);
      continue;
    }
    const bool rests = each->now == stage::kept && now < rested;
    if (now >= each->next && !rests && count < most_at_once) {
      ++count;
      all.timeout = std::min(all.timeout, each->life / 3);
      if (each->now == stage::kept) {
        kept[{each->key, each->life}].push_back({each, each->now});
        each->next = now + each->life / 3;
      } else {
        leaving.push_back(each);
        each->next = now + each->life;  // settled before
      }
    }
    if (each->now == stage::kept) {
      renewed_next = std::min(renewed_next, each->next);
    } else {
      all.next = std::min(all.next, each->next);
    }
  }
  bool known = false;  // the script, after the first command
  for (auto& [where, whose] : kept) {
    const std::string life = std::to_string(where.second.count());
    for (std::size_t first = 0; first < whose.size(); first += most_of_a_command) {
      const std::size_t last = std::min(first + most_of_a_command, whose.size());
      const script& how = scripts::renew_permits();
      std::vector<std::string_view> words{
          known ? "EVALSHA" : "EVAL", known ? how.sha() : how.body(), "1", where.first, life, ""};
      std::vector<batch::one> part;
      for (std::size_t i = first; i < last; ++i) part.push_back(whose[i]);
      for (const batch::one& each : part) words.push_back(each.what->member);
      all.add(std::move(words), std::move(part));
      known = true;
    }
  }
  for (const lease_ptr& each : leaving) all.add({"ZREM", each->key, each->member}, {{each, each->now}});
  if (!kept.empty() && count < most_at_once) renewed_ = now;
  if (renewed_next != time_point::max()) all.next = std::min(all.next, std::max(renewed_next, rested));
  if (all_.empty()) {
    all.over = true;
    working_ = false;
  } else if (all.commands.empty()) {
    sooner_ = std::stop_source{};
    looks_at_ = all.next;
  } else {
    looks_at_ = time_point::min();
  }
  return all;
}

void permit_keeper::settle(const batch& sent, const std::vector<reply>& replies) {
  const std::lock_guard held{mutex_};
  for (std::size_t i = 0; i < sent.of.size(); ++i) {
    for (std::size_t k = 0; k < sent.of[i].size(); ++k) {
      const auto& [what, asked] = sent.of[i][k];
      std::optional<bool> was_there;  // nothing: Redis did not say
      if (i < replies.size() && !replies[i].is_error()) {
        was_there = (asked == stage::kept ? replies[i][k] : replies[i]).integer() == 1;
      }
      settle_one(*what, asked, was_there, sent.sent);
    }
  }
}

void permit_keeper::settle_one(permit_lease& what, permit_lease::stage asked, std::optional<bool> was_there,
                               time_point sent) {
  if (asked == stage::kept && was_there) {
    *was_there ? what.until.store(sent + what.life) : what.gone.store(true);
  }
  if (!what.place || what.now != asked || what.next == time_point::max()) return;  // it was given back meanwhile
  const auto now = clock::now();
  const auto later = [&](std::chrono::milliseconds most) { return now + doubled(10ms, what.failures++, most); };
  switch (asked) {
    case stage::kept:
      if (!was_there) {
        what.next = std::min(what.next, now + what.life / 12);
      } else if (!*was_there) {
        leave_out(what);
      }
      break;
    case stage::leaving:
      if (was_there) {
        leave_out(what);
      } else {
        what.next = later(1s);
      }
      break;
    case stage::doubted:
      // Its command may be on its way yet, but hardly for longer than a lease since Redis answers.
      if (was_there && !what.give_up) what.give_up = now + what.life;
      if ((was_there && *was_there) || (what.give_up && now >= *what.give_up)) {
        leave_out(what);
      } else {
        what.next = later(what.life / 3);
      }
      break;
  }
}

/// On the I/O thread; once the client is closed, and may be gone, nothing of it is used any more.
task<void> permit_keeper::work(std::shared_ptr<permit_keeper> self) {
  for (;;) {
    const batch next = self->due(clock::now());
    if (next.over) co_return;
    if (next.commands.empty()) {
      std::stop_token sooner;
      {
        const std::lock_guard held{self->mutex_};
        sooner = self->sooner_.get_token();
      }
      auto pausing = seam::pause_apart(self->redis_, next.next, std::move(sooner));
      const bool open = co_await std::move(pausing);
      if (open) continue;
      self->closed();
      co_return;
    }
    std::vector<reply> replies;
    bool open = true;
    try {
      const caller by = self->redis_.with({.timeout = std::max(next.timeout, 10ms)});
      auto sending = seam::execute_apart(by, next.commands);
      replies = co_await std::move(sending);
    } catch (const error& why) {
      open = why.code() != errc::closed;
    }
    if (!open) {
      self->closed();
      co_return;
    }
    self->settle(next, replies);
  }
}

}  // namespace tenantry::detail
