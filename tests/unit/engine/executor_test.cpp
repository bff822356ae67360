// Where coroutines go on, and that a pool resumes each exactly once, whatever else happens.

#include "support/allocation_counter.hpp"
#include "support/concurrency.hpp"

#include <tenantry/error.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <csignal>
#include <cstddef>
#include <exception>
#include <filesystem>
#include <functional>
#include <future>
#include <iterator>
#include <memory>
#include <pthread.h>
#include <set>
#include <thread>
#include <utility>
#include <vector>

using tenantry::executor;
using tenantry::resume_on;
using tenantry::start;
using tenantry::sync_wait;
using tenantry::task;
using tenantry::thread_pool;
using tenantry::when_all;

namespace {

/// Adds the coroutine to a list, from which the test takes it.
struct park {
  std::vector<std::coroutine_handle<>>* list;
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> self) const { list->push_back(self); }
  void await_resume() const noexcept {}
};

/// Waits until a count has reached a number.
void reach(const std::atomic<int>& count, int number) {
  while (count != number) std::this_thread::yield();
}

task<std::thread::id> thread_after(executor where) {
  co_await resume_on(std::move(where));
  co_return std::this_thread::get_id();
}
task<int> hop(executor where, int times) {
  int hops = 0;
  for (; hops < times; ++hops) co_await resume_on(where);
  co_return hops;
}
/// An executor that uses what it holds after the coroutine was handed over.
executor lingering(const thread_pool& pool) {
  return [where = pool.get_executor(), calls = std::make_shared<std::atomic<int>>(0)](std::coroutine_handle<> ready) {
    where(ready);
    ++*calls;
  };
}
task<> hop_to_temporary_executors(const thread_pool& pool, int times) {
  for (int i = 0; i < times; ++i) {
    co_await resume_on(pool.get_executor());
    co_await resume_on(lingering(pool));
  }
}
task<> count_when_resumed(std::vector<std::coroutine_handle<>>& list, std::atomic<int>& count) {
  co_await park{&list};
  ++count;
}
task<> count_each_resumption(std::vector<std::coroutine_handle<>>& list, std::atomic<int>& count, int times) {
  for (int i = 0; i < times; ++i) {
    co_await park{&list};
    ++count;
  }
}
task<> wait_blocking(std::vector<std::coroutine_handle<>>& list, support::gate& gate, std::atomic<int>& arrived,
                     std::atomic<int>& passed) {
  co_await park{&list};
  ++arrived;
  if (gate.wait()) ++passed;
}
task<> open_a_gate(std::vector<std::coroutine_handle<>>& list, support::gate& gate) {
  co_await park{&list};
  gate.open();
}

void ignore(const std::exception_ptr&) {}

int threads_of_this_process() {
  return static_cast<int>(std::distance(std::filesystem::directory_iterator{"/proc/self/task"}, {}));
}

}  // namespace

TEST_CASE("the inline executor leaves a coroutine on its thread") {
  CHECK(sync_wait(thread_after(tenantry::inline_executor())) == std::this_thread::get_id());
  std::vector<std::coroutine_handle<>> parked;
  std::atomic<int> count = 0;
  start(count_when_resumed(parked, count), ignore);
  tenantry::inline_executor()(parked.at(0));
  CHECK(count == 1);
}

TEST_CASE("resume_on moves a coroutine to a thread of the pool") {
  const support::must_end ends;
  const thread_pool pool{1};
  const auto first = sync_wait(thread_after(pool.get_executor()));
  CHECK(first != std::this_thread::get_id());
  CHECK(sync_wait(thread_after(pool.get_executor())) == first);
}

TEST_CASE("what an executor throws is thrown where the coroutine wanted to move") {
  CHECK_THROWS_AS(sync_wait(thread_after(executor{})), std::bad_function_call);
  CHECK_THROWS_AS(sync_wait(thread_after([](std::coroutine_handle<>) { throw std::bad_alloc{}; })), std::bad_alloc);
}

TEST_CASE("an executor may be gone before its call returns") {
  const support::must_end ends;
  const thread_pool pool{2};
  for (int i = 0; i < 200; ++i) sync_wait(hop_to_temporary_executors(pool, 20));
}

TEST_CASE("a pool resumes each coroutine exactly once, from many threads at the same time") {
  const support::must_end ends;
  const thread_pool pool{3};
  std::vector<std::future<bool>> threads;
  threads.reserve(4);
  for (int thread = 0; thread < 4; ++thread) {
    threads.push_back(support::on_thread([where = pool.get_executor()] {
      bool right = true;
      for (int round = 0; round < 10; ++round) {
        std::vector<task<int>> all;
        all.reserve(50);
        for (int i = 0; i < 50; ++i) all.push_back(hop(where, 20));
        right = sync_wait(when_all(std::move(all))) == std::vector<int>(50, 20) && right;
      }
      return right;
    }));
  }
  for (auto& each : threads) CHECK(each.get());
}

TEST_CASE("a pool resumes each coroutine of a batch exactly once") {
  const support::must_end ends;
  for (const unsigned size : {1U, 2U, 4U}) {
    std::array<std::atomic<int>, 500> counts{};
    std::atomic<int> total = 0;
    {
      thread_pool pool{size};
      for (int round = 1; round <= 20; ++round) {
        std::vector<std::coroutine_handle<>> parked;
        for (auto& each : counts) {
          start(count_when_resumed(parked, each), [&](const std::exception_ptr&) { ++total; });
        }
        pool.post(parked);
        if (round % 2 == 0) reach(total, 500 * round);
      }
    }
    CHECK(total == 500 * 20);
    for (const auto& each : counts) CHECK(each == 20);
  }
}

TEST_CASE("the destructor of a pool resumes what was posted, and what comes of that") {
  const support::must_end ends;
  for (const unsigned size : {1U, 3U}) {
    int ended = 0;
    std::atomic<int> resumed = 0;
    {
      const thread_pool pool{size};
      for (int i = 0; i < 100; ++i) {
        start(hop(pool.get_executor(), 10), [&](const std::exception_ptr&, auto hops) { resumed += hops.value_or(0); });
      }
      ++ended;
    }
    CHECK(ended == 1);
    CHECK(resumed == 1000);
  }
}

TEST_CASE("no coroutine waits behind one that blocks while another thread is idle") {
  const support::must_end ends;
  constexpr int blocking = 3;
  for (int round = 0; round < 100; ++round) {
    support::gate gate;
    std::atomic<int> arrived = 0;
    std::atomic<int> passed = 0;
    std::vector<std::coroutine_handle<>> parked;
    for (int i = 0; i < blocking; ++i) start(wait_blocking(parked, gate, arrived, passed), ignore);
    start(open_a_gate(parked, gate), ignore);
    thread_pool pool{blocking + 1};
    if (round % 2 == 0) {
      pool.post(parked);
    } else {
      for (const auto each : parked) pool.post(each);
    }
    reach(passed, blocking);
  }
}

TEST_CASE("a pool starts no thread before it has work, and never more than it may") {
  const support::must_end ends;
  const int before = threads_of_this_process();
  support::gate gate;
  std::atomic<int> arrived = 0;
  std::atomic<int> passed = 0;
  std::vector<std::coroutine_handle<>> parked;
  thread_pool pool{2};
  const support::opens_at_end opens{gate};
  CHECK(threads_of_this_process() == before);
  for (int i = 0; i < 4; ++i) start(wait_blocking(parked, gate, arrived, passed), ignore);
  pool.post(parked);
  reach(arrived, 2);
  CHECK(threads_of_this_process() == before + 2);
  gate.open();
  reach(passed, 4);
}

TEST_CASE("a pool needs at least one thread") { CHECK_THROWS_AS(thread_pool{0}, tenantry::invalid_option); }

TEST_CASE("the threads of a pool take no signals") {
  const support::must_end ends;
  static constexpr auto blocked = [](executor where) -> task<bool> {
    co_await resume_on(std::move(where));
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    bool all = true;
    for (const int each : {SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGUSR1, SIGALRM}) {
      all = sigismember(&mask, each) == 1 && all;
    }
    co_return all;
  };
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  const thread_pool pool{1};
  CHECK(sync_wait(blocked(pool.get_executor())));
  sigset_t after;
  pthread_sigmask(SIG_SETMASK, nullptr, &after);
  CHECK(sigismember(&after, SIGINT) == sigismember(&before, SIGINT));
}

TEST_CASE("a thread of a pool may destroy it, and still resumes what is left") {
  const support::must_end ends;
  static constexpr auto destroy = [](std::vector<std::coroutine_handle<>>& list,
                                     std::unique_ptr<thread_pool> pool) -> task<> {
    co_await park{&list};
    pool.reset();
  };
  for (const unsigned size : {1U, 2U, 3U}) {
    for (int round = 0; round < 100; ++round) {
      std::atomic<int> count = 0;
      std::vector<std::coroutine_handle<>> parked;
      auto owned = std::make_unique<thread_pool>(size);
      thread_pool& pool = *owned;
      if (round % 2 == 0) sync_wait(thread_after(pool.get_executor()));  // a thread sleeps, or is about to
      start(count_when_resumed(parked, count), [&](const std::exception_ptr&) {});
      start(destroy(parked, std::move(owned)), [&](const std::exception_ptr&) { ++count; });
      start(count_when_resumed(parked, count), [&](const std::exception_ptr&) {});
      pool.post(parked);
      reach(count, 3);
    }
  }
}

TEST_CASE("an executor that outlives its pool resumes on the thread that calls it") {
  const support::must_end ends;
  executor left;
  std::thread::id of_pool;
  {
    const thread_pool pool{1};
    left = pool.get_executor();
    of_pool = sync_wait(thread_after(left));
  }
  CHECK(of_pool != std::this_thread::get_id());
  CHECK(sync_wait(thread_after(left)) == std::this_thread::get_id());
}

TEST_CASE("posting allocates nothing once the queue has reached its usual length") {
  const support::must_end ends;
  constexpr int batch = 200;
  std::atomic<int> count = 0;
  std::vector<std::coroutine_handle<>> parked;
  std::vector<std::coroutine_handle<>> again;
  parked.reserve(batch);
  again.reserve(batch);
  thread_pool pool{1};
  for (int i = 0; i < batch; ++i) start(count_each_resumption(parked, count, 12), ignore);
  std::size_t allocated = 0;
  for (int round = 1; round <= 12; ++round) {
    again.swap(parked);
    const support::allocation_counter counter;
    pool.post(again);
    if (round > 2) allocated += counter.count();
    reach(count, batch * round);
    // Each parks again right after it was counted; only the pool's thread does that, and it has when this comes back.
    if (round < 12) sync_wait(hop(pool.get_executor(), 1));
    again.clear();
  }
  CHECK(allocated == 0);
}
