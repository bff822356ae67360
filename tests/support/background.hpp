#pragma once
// Loads in the background, which take as long as the test says.

#include "support/errors.hpp"
#include "support/kpi.hpp"
#include "support/listener.hpp"
#include "support/sites.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/load_context.hpp>
#include <tenantry/task.hpp>

#include <array>
#include <chrono>
#include <condition_variable>
#include <coroutine>
#include <deque>
#include <exception>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace support {

/// What loaders ask. Each waits for one answer of the test.
class database {
 public:
  /// Holds its thread.
  kpi ask() {
    asker self;
    std::unique_lock held{mutex_};
    if (!begin(self)) {
      const bool in_time = answered_.wait_for(held, std::chrono::seconds{20}, [&] { return self.answer.has_value(); });
      if (!in_time) std::erase(waiting_, &self);
      if (!in_time) throw std::logic_error{"nobody answered"};
    }
    held.unlock();
    return take(self);
  }
  /// Lets go of its thread, and goes on where it is answered.
  tenantry::task<kpi> async_ask() {
    asker self;
    co_await suspended{this, &self};
    co_return take(self);
  }

  void answer(kpi value) { give({std::move(value), std::nullopt}); }
  /// Its loader throws a std::runtime_error that says this.
  void refuse(std::string why) { give({{}, std::move(why)}); }
  /// Refuses all, from now on.
  void close() {
    std::unique_lock held{mutex_};
    closed_ = true;
    while (!waiting_.empty()) {
      held.unlock();
      refuse("the database is closed");
      held.lock();
    }
  }
  /// How many have asked.
  [[nodiscard]] int asked() const {
    const std::lock_guard held{mutex_};
    return asked_;
  }

 private:
  struct outcome {
    kpi value;
    std::optional<std::string> refusal;
  };
  struct asker {
    std::optional<outcome> answer;
    std::coroutine_handle<> self;
  };
  struct suspended {
    database* of;
    asker* who;

    [[nodiscard]] bool await_ready() const noexcept { return false; }
    [[gnu::noinline]] bool await_suspend(std::coroutine_handle<> self) const {
      database& asked = *of;
      const std::lock_guard held{asked.mutex_};
      who->self = self;
      return !asked.begin(*who);
    }
    void await_resume() const noexcept {}
  };

  /// True when there is an answer already.
  bool begin(asker& who) {
    ++asked_;
    if (closed_) {
      who.answer = outcome{{}, "the database is closed"};
    } else if (!answers_.empty()) {
      who.answer = std::move(answers_.front());
      answers_.pop_front();
    } else {
      waiting_.push_back(&who);
    }
    return who.answer.has_value();
  }
  void give(outcome what) {
    std::coroutine_handle<> ready;
    {
      const std::lock_guard held{mutex_};
      if (waiting_.empty()) {
        answers_.push_back(std::move(what));
        return;
      }
      asker& first = *waiting_.front();
      waiting_.pop_front();
      first.answer = std::move(what);
      ready = first.self;
      if (!ready) answered_.notify_all();
    }
    if (ready) ready.resume();
  }
  static kpi take(asker& who) {
    if (who.answer->refusal) throw std::runtime_error{*who.answer->refusal};
    return std::move(who.answer->value);
  }

  mutable std::mutex mutex_;
  std::condition_variable answered_;
  std::deque<asker*> waiting_;
  std::deque<outcome> answers_;
  bool closed_ = false;
  int asked_ = 0;
};

/// Who fetches, and what loads.
struct way {
  bool coroutine;
  bool task_loader;
  const char* name;
};
inline constexpr std::array ways{
    way{false, false, "threads, a plain loader"}, way{false, true, "threads, a task loader"},
    way{true, false, "coroutines, a plain loader"}, way{true, true, "coroutines, a task loader"}};

/// A process whose cache loads in the background, what a database answers. Waits for others without an end, as `site`.
class background_site {
 public:
  /// With this many threads to load on, or on the executor of the options. Its loads carry the tag "t".
  background_site(database& from, tenantry::cache_options options, const way& how, unsigned threads = 2)
      : from_{&from}, pool{threads}, redis{watched(heard)} {
    options = site::waiting(options);
    if (!options.executor) options.executor = pool.get_executor();
    if (how.task_loader) {
      owned_ = std::make_unique<tenantry::cache<kpi>>(
          redis, options, [this](const tenantry::key&, tenantry::load_context& load) { return async_load(load); });
    } else {
      owned_ = std::make_unique<tenantry::cache<kpi>>(redis, options,
                                                      [this](const tenantry::key&, tenantry::load_context& load) {
                                                        begin(load);
                                                        return from_->ask();
                                                      });
    }
  }
  background_site(const background_site&) = delete;
  background_site& operator=(const background_site&) = delete;
  /// No load is left to wait for, also when an assertion has ended the test.
  ~background_site() {
    if (owned_) from_->close();
  }

  [[nodiscard]] database& from() const { return *from_; }
  [[nodiscard]] tenantry::cache<kpi>& cache() const { return *owned_; }
  [[nodiscard]] tenantry::cache_stats stats() const { return owned_->stats(); }
  void destroy_cache() { owned_.reset(); }

  /// Where loaders were called, and how their loads are told to stop.
  [[nodiscard]] std::vector<std::thread::id> load_threads() const {
    const std::lock_guard held{mutex_};
    return load_threads_;
  }
  [[nodiscard]] std::vector<std::stop_token> stops() const {
    const std::lock_guard held{mutex_};
    return stops_;
  }
  /// The thread of a pool of one.
  [[nodiscard]] std::thread::id pool_thread() { return tenantry::sync_wait(here(pool.get_executor())); }

 private:
  static tenantry::client_options watched(listener& by) {
    tenantry::client_options options = patient_options();
    options.observer = by.ear();
    return options;
  }
  static tenantry::task<std::thread::id> here(tenantry::executor where) {
    co_await tenantry::resume_on(std::move(where));
    co_return std::this_thread::get_id();
  }
  void begin(tenantry::load_context& load) {
    load.tag("t");
    const std::lock_guard held{mutex_};
    load_threads_.push_back(std::this_thread::get_id());
    stops_.push_back(load.stop());
  }
  tenantry::task<kpi> async_load(tenantry::load_context& load) {
    begin(load);
    auto asking = from_->async_ask();
    kpi answer = co_await std::move(asking);
    co_return answer;
  }

  database* from_;
  mutable std::mutex mutex_;
  std::vector<std::thread::id> load_threads_;
  std::vector<std::stop_token> stops_;

 public:
  listener heard;
  tenantry::thread_pool pool;
  tenantry::client redis;

 private:
  std::unique_ptr<tenantry::cache<kpi>> owned_;
};

/// Something on another thread that waits for a load. Where nobody takes its result, an assertion has ended the test:
/// the load ends then too.
template <class T>
class pending {
 public:
  template <class Function>
  pending(background_site& at, Function&& function) : from_{&at.from()}, result_{on_thread(std::move(function))} {}
  pending(pending&&) = default;
  pending& operator=(pending&&) = delete;
  ~pending() {
    if (result_.valid()) from_->close();
  }

  T get() { return result_.get(); }
  [[nodiscard]] bool has_ended() const {
    return result_.wait_for(std::chrono::seconds{0}) == std::future_status::ready;
  }

 private:
  database* from_;
  std::future<T> result_;
};

inline tenantry::cached<kpi> fetch(background_site& at, const tenantry::key& k, const way& how) {
  return how.coroutine ? tenantry::sync_wait(at.cache().async_fetch(k)) : at.cache().fetch(k);
}
inline pending<tenantry::cached<kpi>> fetching(background_site& at, const tenantry::key& k, const way& how) {
  return {at, [&at, k, how] { return fetch(at, k, how); }};
}
/// What a fetch throws says.
inline pending<std::string> failing(background_site& at, const tenantry::key& k, const way& how) {
  return {at, [&at, k, how]() -> std::string {
            try {
              (void)fetch(at, k, how);
            } catch (const std::exception& fault) {
              keep_caught();
              return fault.what();
            }
            return "nothing was thrown";
          }};
}

}  // namespace support
