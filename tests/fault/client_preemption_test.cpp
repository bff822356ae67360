// Threads that share a connection and are preempted wherever they let go of the driver's lock or are about to take it.
// A program of its own: see support/preemption.hpp.

#include "engine/blocking_driver.hpp"
#include "support/concurrency.hpp"
#include "support/preemption.hpp"
#include "support/random_bytes.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <random>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using support::preemption;
using testing::redis_server;
using clock_type = std::chrono::steady_clock;
using generator = std::mt19937_64;  // of each thread; support::random_bytes and its message belong to the test's own

constexpr std::size_t crew = 8;

/// The deadline of a call that does not give up. One that was forgotten ends then, whatever it ends with.
constexpr auto patience = 20s;

client_options options_for(const redis_server& server) {
  client_options options =
      client_options::from_url(server.unix_url());  // whose buffers are small: writers have to wait
  options.timeout = patience;
  options.stall_limit = 10min;  // a reader that looks again by itself would hide that nobody woke it
  return options;
}

/// How the calls of a test ended, and the first thing that was wrong: Catch2's assertions are for one thread.
struct tally {
  std::atomic<int> calls = 0;
  std::atomic<int> answered = 0;
  std::atomic<int> timed_out = 0;
  std::atomic<int> cancelled = 0;
  std::atomic<int> lost = 0;
  std::atomic<int> closed = 0;
  std::atomic<bool> wrong = false;

  void complain(const std::string& what) {
    const std::lock_guard held{mutex_};
    if (!wrong) complaint_ = what;
    wrong = true;
  }
  [[nodiscard]] std::string complaint() const {
    const std::lock_guard held{mutex_};
    return complaint_;
  }
  [[nodiscard]] int ended() const { return answered + timed_out + cancelled + lost + closed; }

 private:
  mutable std::mutex mutex_;
  std::string complaint_;
};

/// A command that has the server give back a text that no other call has. Some do not fit into the socket, and some
/// keep the server busy, so that threads wait at both ends of it.
struct request {
  request(std::size_t thread, int serial, generator& random)
      : text{std::to_string(thread) + "/" + std::to_string(serial)} {
    if (random() % 16 == 0) text.resize(text.size() + random() % 200'000, '.');
    what = random() % 64 != 0 ? command{"ECHO", text} : command{"EVAL", slow_echo, 0, text, random() % 300'000};
  }

  static constexpr auto slow_echo = "for i = 1, tonumber(ARGV[2]) do end return ARGV[1]";
  std::string text;
  command what{"PING"};
};

/// How a call may end without a reply.
struct way_out {
  std::optional<std::chrono::microseconds> deadline = {};
  std::stop_token stop = {};

  /// With a third each: not at all, by a deadline, by a token.
  template <class Token>
  static way_out any(generator& random, std::chrono::microseconds shortest, Token&& fresh) {
    const auto lot = random() % 3;
    if (lot == 0) return {.deadline = shortest + std::chrono::microseconds{random() % 4'000}};
    return lot == 1 ? way_out{.stop = fresh()} : way_out{};
  }
};

/// From the beginning of a call to its end.
class judge {
 public:
  judge(tally& seen, way_out out) : seen_{seen}, out_{std::move(out)} { ++seen_.calls; }

  [[nodiscard]] clock_type::time_point deadline() const { return begin_ + out_.deadline.value_or(patience); }

  void answered(const std::string& own, std::string_view answer) const {
    const std::string text = own.substr(0, own.find('.'));
    if (answer != own) seen_.complain("another's reply: " + std::string{answer.substr(0, 20)} + " for " + text);
    if (!out_.deadline && is_over()) seen_.complain("forgotten: the reply to " + text);
    ++seen_.answered;
  }
  void failed(errc code, const std::string& what) const {
    const bool gave_up = code == errc::timeout || code == errc::unreachable;  // while it waited for a connection
    if (gave_up && out_.deadline && is_over()) {
      ++seen_.timed_out;
    } else if (code == errc::cancelled && out_.stop.stop_requested()) {
      if (is_over()) seen_.complain("forgotten: a stop");
      ++seen_.cancelled;
    } else if (code == errc::connection_lost) {
      if (!out_.deadline && is_over()) seen_.complain("forgotten: the failure of a call");
      ++seen_.lost;
    } else {
      seen_.complain(what);
    }
  }

 private:
  [[nodiscard]] bool is_over() const { return clock_type::now() >= deadline(); }

  tally& seen_;
  const way_out out_;
  const clock_type::time_point begin_ = clock_type::now();
};

/// Runs body(thread, its random numbers) in enlisted threads.
template <class Body>
void in_threads(support::random_bytes& random, std::size_t count, const Body& body) {
  std::vector<std::jthread> threads;
  for (std::size_t t = 0; t < count; ++t) {
    threads.emplace_back([&body, t, seed = random.below(1U << 30U)] {
      support::enlist_this_thread(seed);
      generator own_random{seed};
      body(t, own_random);
    });
  }
}

/// Up to three calls of each thread in each round, call(thread, serial, random). Nobody begins the next round before
/// all have ended this one: new calls would do the work that was forgotten.
template <class Call>
void in_rounds(support::random_bytes& random, int rounds, const tally& seen, const Call& call) {
  std::barrier together{static_cast<std::ptrdiff_t>(crew)};
  in_threads(random, crew, [&](std::size_t t, generator& own_random) {
    for (int round = 0; round < rounds && !seen.wrong; ++round) {
      for (auto left = static_cast<int>(own_random() % 4); left > 0 && !seen.wrong; --left) {
        call(t, round * 4 + left, own_random);
      }
      together.arrive_and_wait();
    }
    together.arrive_and_drop();
  });
}

/// Triggers the tokens of the crew's calls at random moments.
class stopper {
 public:
  explicit stopper(support::random_bytes& random)
      : thread_{[this, seed = random.below(1U << 30U)](const std::stop_token& over) {
          support::enlist_this_thread(seed);
          generator own_random{seed};
          while (!over.stop_requested()) {
            std::this_thread::sleep_for(std::chrono::microseconds{own_random() % 300});  // nothing waits for it
            stop_of(own_random() % crew).request_stop();
          }
        }} {}

  /// A new token for the next call of this thread.
  std::stop_token fresh(std::size_t thread) {
    const std::lock_guard held{mutex_};
    stops_[thread] = std::stop_source{};
    return stops_[thread].get_token();
  }

 private:
  std::stop_source stop_of(std::size_t thread) {
    const std::lock_guard held{mutex_};
    return stops_[thread];
  }

  std::mutex mutex_;
  std::array<std::stop_source, crew> stops_;
  std::jthread thread_;  // last: it uses the others
};

/// One call of a driver itself, which takes deadlines in microseconds.
void run(detail::blocking_driver& driver, const request& asked, const way_out& out, tally& seen) {
  const judge judged{seen, out};
  reply answer;
  const auto failed = driver.run({&asked.what, 1}, {&answer, 1}, {.deadline = judged.deadline(), .stop = out.stop});
  if (failed) {
    judged.failed(failed->code, failed->detail);
  } else {
    judged.answered(asked.text, answer.str());
  }
}

}  // namespace

TEST_CASE("preempted wherever it lets go of the lock, every caller gets its own reply") {
  support::need_redis();
  const support::must_end ends{100s};
  support::random_bytes random;
  const redis_server server;
  client redis{options_for(server)};
  tally seen;
  const std::uint64_t before = preemption::times();
  {
    const preemption on;
    in_rounds(random, 5000, seen, [&](std::size_t t, int serial, generator& own_random) {
      const request asked{t, serial, own_random};
      const std::stop_source never;
      const auto stoppable = redis.with({.stop = never.get_token()});  // waits in other system calls
      const judge judged{seen, {}};
      try {
        const reply answer = (own_random() % 2 == 0 ? stoppable : redis).execute(asked.what);
        judged.answered(asked.text, answer.str());
      } catch (const error& fault) {
        seen.complain(fault.what());
      }
    });
  }
  CAPTURE(seen.complaint());
  CHECK_FALSE(seen.wrong);
  CHECK(seen.answered == seen.calls);
  CHECK(preemption::times() > before);
}

TEST_CASE("preempted, among calls that give up at any moment, each ends once and those that stay get their replies") {
  support::need_redis();
  const support::must_end ends{100s};
  support::random_bytes random;
  const redis_server server;
  const client_options options = options_for(server);
  detail::blocking_driver driver{options, detail::ownership::shared, "preempted"};
  tally seen;
  {
    const preemption on;
    stopper stops{random};
    in_threads(random, 1, [&](std::size_t, generator& own_random) { run(driver, {0, 0, own_random}, {}, seen); });
    in_rounds(random, 5000, seen, [&](std::size_t t, int serial, generator& own_random) {
      const request asked{t, serial, own_random};
      run(driver, asked, way_out::any(own_random, 200us, [&] { return stops.fresh(t); }), seen);
    });
    in_threads(random, crew, [&](std::size_t t, generator& own_random) { run(driver, {t, 0, own_random}, {}, seen); });
  }
  CAPTURE(seen.complaint());
  CHECK_FALSE(seen.wrong);
  CHECK(seen.lost == 0);
  CHECK(seen.timed_out > 0);
  CHECK(seen.cancelled > 0);
  CHECK(seen.ended() == seen.calls);
  const lane_metrics counted = driver.metrics();
  CHECK(counted.commands == static_cast<std::uint64_t>(seen.calls));
  CHECK(counted.cancelled == static_cast<std::uint64_t>(seen.cancelled));
  CHECK(counted.timeouts_queued + counted.timeouts_unanswered == static_cast<std::uint64_t>(seen.timed_out));
  CHECK(counted.replies == static_cast<std::uint64_t>(seen.answered) + counted.late_replies);
  CHECK(counted.late_replies == counted.tombstones);
  CHECK(counted.queued == 0);
  CHECK(counted.in_flight == 0);
}

TEST_CASE("preempted, a stop ends a call that a silent server does not answer, also while another thread reads") {
  support::need_redis();
  const support::must_end ends{100s};
  support::random_bytes random;
  redis_server server;
  const client_options options = options_for(server);
  for (const bool another_reads : {false, true}) {
    detail::blocking_driver driver{options, detail::ownership::shared, "preempted"};
    generator first_random{random.below(1U << 30U)};
    tally seen;
    run(driver, {0, 0, first_random}, {}, seen);
    server.pause();
    {
      const preemption on;
      stopper stops{random};
      std::jthread other;
      if (another_reads) other = std::jthread{[&] { run(driver, {crew, 0, first_random}, {}, seen); }};
      in_rounds(random, 150, seen, [&](std::size_t t, int serial, generator& own_random) {
        run(driver, {t, serial, own_random}, {.stop = stops.fresh(t)}, seen);
      });
      server.resume();
    }
    CAPTURE(another_reads, seen.complaint());
    CHECK_FALSE(seen.wrong);
    CHECK(seen.answered == (another_reads ? 2 : 1));
    CHECK(seen.cancelled == seen.calls - seen.answered);
  }
}

TEST_CASE("preempted, through kills of its connection, what a client says of each INCR is true") {
  support::need_redis();
  const support::must_end ends{100s};
  support::random_bytes random;
  const redis_server server;
  client redis{options_for(server)};
  client killer{options_for(server)};
  tally seen;
  std::atomic<int> acknowledged = 0;
  std::atomic<int> unknown = 0;
  {
    const preemption on;
    stopper stops{random};
    in_rounds(random, 3000, seen, [&](std::size_t t, int serial, generator& own_random) {
      if (own_random() % 100 == 0) killer.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
      const bool counts = own_random() % 2 == 0;
      const request asked{t, serial, own_random};
      way_out out = way_out::any(own_random, 1ms, [&] { return stops.fresh(t); });
      std::optional<std::chrono::milliseconds> timeout;
      if (out.deadline) out.deadline = timeout = std::chrono::ceil<std::chrono::milliseconds>(*out.deadline);
      const auto one = redis.with({.timeout = timeout, .stop = out.stop});
      const judge judged{seen, out};
      try {
        const reply answer = counts ? one.execute("INCR", "n") : one.execute(asked.what);
        if (counts) ++acknowledged;
        judged.answered(asked.text, counts ? asked.text : answer.str());
      } catch (const error& fault) {
        if (counts && fault.execution() == execution::unknown) ++unknown;
        judged.failed(fault.code(), fault.what());
      }
    });
  }
  const int total = std::stoi(killer.execute("GET", "n").str());
  CAPTURE(seen.complaint(), acknowledged.load(), unknown.load(), total);
  CHECK_FALSE(seen.wrong);
  CHECK(seen.ended() == seen.calls);
  CHECK(seen.lost > 0);
  CHECK(acknowledged <= total);
  CHECK(total <= acknowledged + unknown);
}

TEST_CASE("preempted, every call ends when its client is closed, and with its reply where there is time for it") {
  support::need_redis();
  const support::must_end ends{100s};
  support::random_bytes random;
  redis_server server;
  const preemption on;
  for (int round = 0; round < 300; ++round) {
    client redis{options_for(server)};
    const bool silent = random.below(4) == 0;  // then only closing ends the calls
    const auto drain = std::array<std::chrono::milliseconds, 3>{0ms, 1ms, patience}[random.below(silent ? 2 : 3)];
    const int closes_after = static_cast<int>(random.below(200));
    support::gate closes;
    tally seen;
    std::atomic<int> cut_off = 0;
    in_threads(random, crew + 1, [&](std::size_t t, generator& own_random) {
      if (t == crew) {
        const bool opened = closes.wait();
        if (silent) server.pause();
        const auto begin = clock_type::now();
        redis.close(drain);
        if (!opened || clock_type::now() - begin >= patience) seen.complain("closing took too long");
        return;
      }
      const std::stop_source never;
      const auto stoppable = redis.with({.stop = never.get_token()});
      try {
        for (int serial = 0;; ++serial) {
          if (seen.calls >= closes_after) closes.open();
          const request asked{t, serial, own_random};
          const judge judged{seen, {}};
          const reply answer = (own_random() % 2 == 0 ? stoppable : redis).execute(asked.what);
          judged.answered(asked.text, answer.str());
        }
      } catch (const error& fault) {
        if (fault.code() != errc::closed) seen.complain(fault.what());
        if (fault.execution() == execution::unknown) ++cut_off;
        ++seen.closed;
      }
    });
    if (silent) server.resume();
    CAPTURE(round, drain, silent, seen.complaint());
    REQUIRE_FALSE(seen.wrong);
    REQUIRE(seen.ended() == seen.calls);
    if (drain == patience) REQUIRE(cut_off == 0);
    const lane_metrics counted = redis.metrics().lanes.front();
    REQUIRE(counted.queued == 0);
    REQUIRE(counted.in_flight == 0);
  }
}
