// Tasks: when they run, what they give, what they cost, and threads that complete them while they are being awaited.

#include "support/allocation_counter.hpp"
#include "support/concurrency.hpp"

#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

using tenantry::start;
using tenantry::sync_wait;
using tenantry::task;
using tenantry::when_all;

namespace {

/// Where one coroutine waits until it is let go on.
class mailbox {
 public:
  struct awaiter {
    mailbox* box;
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> self) const noexcept { box->waiting_ = self.address(); }
    void await_resume() const noexcept {}
  };
  awaiter operator co_await() noexcept { return {this}; }

  /// Resumes the one who waits. False when there is none.
  bool let_go() {
    void* const found = waiting_.exchange(nullptr);
    if (found != nullptr) std::coroutine_handle<>::from_address(found).resume();
    return found != nullptr;
  }

 private:
  std::atomic<void*> waiting_ = nullptr;
};

/// A thread that lets go at once whoever waits in one of its mailboxes.
class completer {
 public:
  explicit completer(std::vector<mailbox>& boxes)
      : thread_{[this, &boxes] {
          while (!ending_) {
            bool busy = false;
            for (mailbox& each : boxes) busy = each.let_go() || busy;
            if (!busy) std::this_thread::yield();
          }
        }} {}
  completer(const completer&) = delete;
  completer& operator=(const completer&) = delete;
  ~completer() {
    ending_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> ending_ = false;
  std::thread thread_;
};

struct no_default {
  explicit no_default(int from) : number{from} {}
  int number;
};

task<int> ready(int number) { co_return number; }
task<int> ready_behind_another(int number) { co_return co_await ready(number); }
task<> nothing() { co_return; }
task<int> failing(std::string why) {
  throw std::runtime_error{why};
  co_return 0;
}
task<int> after(mailbox& box, int number) {
  co_await box;
  co_return number;
}
task<int> failing_after(mailbox& box, std::string why) {
  co_await box;
  throw std::runtime_error{why};
}
task<> holding(std::shared_ptr<int> what, mailbox* box) {
  if (box != nullptr) co_await *box;
  ++*what;
}
template <class T>
task<T> passing_on(task<T> inner) {
  co_return co_await std::move(inner);
}
task<std::unique_ptr<int>> move_only(int number) { co_return std::make_unique<int>(number); }
task<no_default> without_default(int number) { co_return no_default{number}; }

task<> awaiting_twice() {
  task<int> once = ready(1);
  co_await std::move(once);
  co_await std::move(once);  // NOLINT(bugprone-use-after-move): the mistake
}

/// A coroutine of another library.
struct foreign {
  struct promise_type {
    foreign get_return_object() noexcept { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
    [[nodiscard]] std::suspend_never initial_suspend() const noexcept { return {}; }
    [[nodiscard]] std::suspend_always final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() const noexcept { std::terminate(); }
  };
  std::coroutine_handle<> frame;
};
foreign awaiting(task<int> what) { co_await std::move(what); }

std::string text_of(const std::exception_ptr& fault) {
  if (!fault) return "nothing";
  try {
    std::rethrow_exception(fault);
  } catch (const std::exception& what) {
    return what.what();
  }
}

/// True when a function, run in a process of its own, ends in std::terminate.
template <class Function>
bool terminates(Function function) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::set_terminate([] { ::_exit(42); });
    function();
    ::_exit(0);
  }
  int status = 0;
  return ::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 42;
}

}  // namespace

TEST_CASE("a task does not run before it is awaited") {
  const auto what = std::make_shared<int>(0);
  task<> waiting = holding(what, nullptr);
  CHECK(*what == 0);
  sync_wait(std::move(waiting));
  CHECK(*what == 1);
}

TEST_CASE("a task that never started frees what it holds") {
  const auto what = std::make_shared<int>(0);
  {
    const task<> first = holding(what, nullptr);
    task<> second = holding(what, nullptr);
    CHECK(what.use_count() == 3);
    second = nothing();
    CHECK(what.use_count() == 2);
    const task<> moved = std::move(second);
  }
  CHECK(what.use_count() == 1);
  CHECK(*what == 0);
}

TEST_CASE("a task that ended frees what it holds, whether it ended at once or later, well or not") {
  const auto what = std::make_shared<int>(0);
  mailbox box;
  sync_wait(passing_on(holding(what, nullptr)));
  CHECK(what.use_count() == 1);
  bool done = false;
  start(passing_on(holding(what, &box)), [&](const std::exception_ptr&) { done = true; });
  CHECK(what.use_count() == 2);
  CHECK(box.let_go());
  CHECK(done);
  CHECK(what.use_count() == 1);
}

TEST_CASE("a result passes through any number of tasks, also one that can only be moved or has no default") {
  CHECK(sync_wait(passing_on(passing_on(ready(7)))) == 7);
  CHECK(*sync_wait(passing_on(move_only(8))) == 8);
  CHECK(sync_wait(passing_on(without_default(9))).number == 9);
  sync_wait(nothing());
}

TEST_CASE("an exception passes through any number of tasks") {
  CHECK(text_of(support::thrown_by([] { sync_wait(failing("a")); })) == "a");
  CHECK(text_of(support::thrown_by([] { sync_wait(passing_on(passing_on(failing("b")))); })) == "b");
}

TEST_CASE("a task costs no more than one allocation") {
  const support::allocation_counter one;
  CHECK(sync_wait(ready(1)) == 1);
  CHECK(one.count() <= 1);  // none where the compiler puts it into the frame of its caller
  const support::allocation_counter two;
  CHECK(sync_wait(ready_behind_another(1)) == 1);
  CHECK(two.count() <= 2);
}

TEST_CASE("a task may end on another thread at any moment of being awaited") {
  const support::must_end ends;
  std::vector<mailbox> boxes(1);
  const completer other{boxes};
  for (int i = 0; i < 20'000; ++i) {
    if (sync_wait(passing_on(after(boxes[0], i))) != i) FAIL("wrong result in round " << i);
  }
  for (int i = 0; i < 5'000; ++i) {
    if (text_of(support::thrown_by([&] { sync_wait(passing_on(failing_after(boxes[0], "late"))); })) != "late") {
      FAIL("wrong exception in round " << i);
    }
  }
}

TEST_CASE("tasks of one when_all may end on several threads at any moment") {
  const support::must_end ends;
  std::vector<mailbox> boxes(4);
  const completer one{boxes};
  const completer two{boxes};
  for (int i = 0; i < 5'000; ++i) {
    std::vector<task<int>> all;
    all.reserve(5);
    for (mailbox& each : boxes) all.push_back(after(each, i));
    all.push_back(ready(i));
    if (sync_wait(when_all(std::move(all))) != std::vector<int>(5, i)) FAIL("wrong results in round " << i);
  }
}

TEST_CASE("many threads wait for tasks at the same time") {
  const support::must_end ends;
  std::vector<mailbox> boxes(8);
  const completer other{boxes};
  std::vector<std::future<bool>> threads;
  threads.reserve(boxes.size());
  for (mailbox& mine : boxes) {
    threads.push_back(support::on_thread([&mine] {
      bool right = true;
      for (int i = 0; i < 500; ++i) right = sync_wait(passing_on(after(mine, i))) == i && right;
      return right;
    }));
  }
  CHECK(std::count_if(threads.begin(), threads.end(), [](auto& each) { return each.get(); }) == 8);
}

TEST_CASE("start calls back once, before it returns when the task ends at once") {
  int calls = 0;
  start(ready(3), [&](const std::exception_ptr& fault, std::optional<int> value) {
    ++calls;
    CHECK(fault == nullptr);
    CHECK(value == 3);
  });
  CHECK(calls == 1);
  start(passing_on(failing("c")), [&](const std::exception_ptr& fault, std::optional<int> value) {
    ++calls;
    CHECK(text_of(fault) == "c");
    CHECK_FALSE(value.has_value());
  });
  CHECK(calls == 2);
  start(move_only(4), [&, own = std::make_unique<int>(4)](const std::exception_ptr& fault, auto value) {
    ++calls;
    CHECK(fault == nullptr);
    CHECK(**value == *own);
  });
  CHECK(calls == 3);
  start(nothing(), [&](const std::exception_ptr& fault) {
    ++calls;
    CHECK(fault == nullptr);
  });
  CHECK(calls == 4);
}

TEST_CASE("start calls back where the task ended, when nothing is left of it") {
  const auto what = std::make_shared<int>(0);
  mailbox box;
  long owners = 0;
  std::thread::id where;
  start(holding(what, &box), [&](const std::exception_ptr&) {
    owners = what.use_count();
    where = std::this_thread::get_id();
  });
  CHECK(what.use_count() == 2);
  CHECK(owners == 0);
  std::thread other{[&] { box.let_go(); }};
  const auto expected = other.get_id();
  other.join();
  CHECK(owners == 1);
  CHECK(where == expected);
}

TEST_CASE("start calls back once, whichever thread ends the task while it starts") {
  const support::must_end ends;
  std::vector<mailbox> boxes(1);
  const completer other{boxes};
  std::atomic<int> calls = 0;
  for (int i = 0; i < 10'000; ++i) {
    start(passing_on(after(boxes[0], i)), [&](const std::exception_ptr&, std::optional<int> value) {
      if (value == i) ++calls;
    });
    while (calls != i + 1) std::this_thread::yield();
  }
  CHECK(calls == 10'000);
}

TEST_CASE("when_all gives results in the order of its tasks, not in that of their ends") {
  std::vector<mailbox> boxes(3);
  std::vector<task<int>> all;
  all.reserve(3);
  for (int i = 0; i < 3; ++i) all.push_back(after(boxes[static_cast<std::size_t>(i)], i));
  std::optional<std::vector<int>> results;
  start(when_all(std::move(all)), [&](const std::exception_ptr&, auto value) { results = std::move(value); });
  CHECK(boxes[2].let_go());
  CHECK(boxes[0].let_go());
  CHECK_FALSE(results.has_value());
  CHECK(boxes[1].let_go());
  CHECK(results == std::vector{0, 1, 2});
}

TEST_CASE("when_all throws the first exception in order, once all tasks have ended") {
  std::vector<mailbox> boxes(3);
  std::vector<task<int>> all;
  all.push_back(after(boxes[0], 0));
  all.push_back(failing_after(boxes[1], "first"));
  all.push_back(failing("second"));
  all.push_back(after(boxes[2], 0));
  std::exception_ptr thrown;
  start(when_all(std::move(all)), [&](std::exception_ptr fault, const auto&) { thrown = std::move(fault); });
  CHECK(boxes[1].let_go());
  CHECK(boxes[2].let_go());
  CHECK_FALSE(thrown);
  CHECK(boxes[0].let_go());
  CHECK(text_of(thrown) == "first");
}

TEST_CASE("when_all of no tasks ends at once, and of tasks without results says whether all went well") {
  CHECK(sync_wait(when_all(std::vector<task<int>>{})).empty());
  sync_wait(when_all(std::vector<task<>>{}));
  const auto what = std::make_shared<int>(0);
  std::vector<task<>> all;
  all.reserve(3);
  for (int i = 0; i < 3; ++i) all.push_back(holding(what, nullptr));
  sync_wait(when_all(std::move(all)));
  CHECK(*what == 3);
  CHECK(what.use_count() == 1);
}

TEST_CASE("coroutines of other libraries can await a task") {
  mailbox box;
  const foreign outer = awaiting(after(box, 1));
  CHECK_FALSE(outer.frame.done());
  CHECK(box.let_go());
  CHECK(outer.frame.done());
  outer.frame.destroy();
}

TEST_CASE("destroying a task under way, awaiting it twice, and an on_done that throws end the program") {
  CHECK_FALSE(terminates([] { sync_wait(nothing()); }));
  CHECK(terminates([] {
    mailbox box;
    awaiting(after(box, 1)).frame.destroy();
  }));
  CHECK(terminates([] { sync_wait(awaiting_twice()); }));
  CHECK(terminates([] { start(nothing(), [](const std::exception_ptr&) { throw std::runtime_error{"no"}; }); }));
}
