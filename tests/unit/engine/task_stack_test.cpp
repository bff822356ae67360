// The stack does not grow with the number of awaits, also where the compiler makes no tail calls.

#include <tenantry/executor.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <coroutine>
#include <exception>
#include <optional>
#include <pthread.h>
#include <stdexcept>
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
    void await_suspend(std::coroutine_handle<> self) const noexcept { box->waiting_ = self; }
    void await_resume() const noexcept {}
  };
  awaiter operator co_await() noexcept { return {this}; }

  /// Resumes the one who waits. False when there is none.
  bool let_go() {
    const auto found = std::exchange(waiting_, nullptr);
    if (found) found.resume();
    return static_cast<bool>(found);
  }

 private:
  std::coroutine_handle<> waiting_;
};

task<int> ready(int number) { co_return number; }
task<int> ready_behind_another(int number) { co_return co_await ready(number); }
task<int> failing() {
  throw std::runtime_error{"why"};
  co_return 0;
}
task<int> after(mailbox& box, int number) {
  co_await box;
  co_return number;
}

/// Runs a function on a thread that has little stack: one that grows by a few bytes with each await ends the program.
template <class Function>
void with_little_stack(Function function) {
  pthread_attr_t attributes;
  REQUIRE(pthread_attr_init(&attributes) == 0);
  REQUIRE(pthread_attr_setstacksize(&attributes, 256U << 10U) == 0);
  pthread_t thread{};
  const auto body = [](void* argument) -> void* {
    (*static_cast<Function*>(argument))();
    return nullptr;
  };
  REQUIRE(pthread_create(&thread, &attributes, body, &function) == 0);
  REQUIRE(pthread_join(thread, nullptr) == 0);
  REQUIRE(pthread_attr_destroy(&attributes) == 0);
}

constexpr int many = 1'000'000;

task<long> sum_of_ready() {
  long sum = 0;
  for (int i = 0; i < many; ++i) sum += co_await ready(1);
  co_return sum;
}
task<long> sum_of_ready_behind_another() {
  long sum = 0;
  for (int i = 0; i < many; ++i) sum += co_await ready_behind_another(1);
  co_return sum;
}
task<long> sum_of_failed() {
  long sum = 0;
  for (int i = 0; i < many / 100; ++i) {
    try {
      sum += co_await failing();
    } catch (const std::runtime_error&) {
      ++sum;
    }
  }
  co_return sum;
}
task<long> sum_of_later(mailbox& box) {
  long sum = 0;
  for (int i = 0; i < many; ++i) sum += co_await after(box, 1);
  co_return sum;
}
task<long> sum_of_all() {
  long sum = 0;
  for (int i = 0; i < many / 10; ++i) {
    std::vector<task<int>> two;
    two.push_back(ready(1));
    two.push_back(ready_behind_another(1));
    const std::vector<int> both = co_await when_all(std::move(two));
    sum += both[0] + both[1];
  }
  co_return sum;
}
task<long> sum_of_moves(tenantry::executor where) {
  long sum = 0;
  for (int i = 0; i < many; ++i) {
    co_await tenantry::resume_on(where);
    ++sum;
  }
  co_return sum;
}

}  // namespace

TEST_CASE("a million awaits of tasks that end at once need no stack") {
  long sum = 0;
  with_little_stack([&] { sum = sync_wait(sum_of_ready()); });
  CHECK(sum == many);
  with_little_stack([&] { sum = sync_wait(sum_of_ready_behind_another()); });
  CHECK(sum == many);
  with_little_stack([&] { sum = sync_wait(sum_of_failed()); });
  CHECK(sum == many / 100);
  with_little_stack([&] { sum = sync_wait(sum_of_all()); });
  CHECK(sum == many / 5);
}

TEST_CASE("a million awaits of tasks that end later need no stack") {
  std::optional<long> sum;
  with_little_stack([&] {
    mailbox box;
    start(sum_of_later(box), [&](const std::exception_ptr&, std::optional<long> value) { sum = value; });
    while (box.let_go()) {
    }
  });
  CHECK(sum == many);
}

TEST_CASE("a million moves to the inline executor need no stack") {
  long sum = 0;
  with_little_stack([&] { sum = sync_wait(sum_of_moves(tenantry::inline_executor())); });
  CHECK(sum == many);
}
