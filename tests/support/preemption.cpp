#include "support/preemption.hpp"

#include <atomic>
#include <ctime>
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>

namespace support {

namespace {

// Used from the first lock of the process on, before constructors have run.
constinit std::atomic<const preemption_rates*> rates_now = nullptr;
constinit std::atomic<std::uint64_t> times_so_far = 0;
constinit thread_local std::uint64_t chance = 0;  // state of a generator; 0: a thread that is left alone

std::uint64_t draw() noexcept {
  chance ^= chance << 13U;
  chance ^= chance >> 7U;
  chance ^= chance << 17U;
  return chance;
}

void preempt_sometimes() noexcept {
  if (chance == 0) return;
  const preemption_rates* const rates = rates_now.load(std::memory_order_acquire);
  if (rates == nullptr) return;
  const std::uint64_t lot = draw() % 10'000;
  if (lot < rates->naps + rates->yields) times_so_far.fetch_add(1, std::memory_order_relaxed);
  if (lot < rates->naps) {
    const auto span = static_cast<std::uint64_t>((rates->longest_nap - rates->shortest_nap).count()) + 1;
    const std::uint64_t length = static_cast<std::uint64_t>(rates->shortest_nap.count()) + draw() % span;
    const timespec nap{.tv_sec = 0, .tv_nsec = static_cast<long>(length * 1000)};
    ::clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, nullptr);  // unlike nanosleep it leaves errno alone
  } else if (lot < rates->naps + rates->yields) {
    for (std::uint64_t left = 1 + draw() % 8; left > 0; --left) ::sched_yield();
  }
}

using mutex_function = int (*)(pthread_mutex_t*);
constinit std::atomic<mutex_function> real_lock = nullptr;
constinit std::atomic<mutex_function> real_unlock = nullptr;

/// Looked up by the first who needs it. dlsym itself locks inside the C library, not through what is replaced here.
mutex_function real(std::atomic<mutex_function>& known, const char* name) noexcept {
  mutex_function found = known.load(std::memory_order_relaxed);
  if (found == nullptr) {
    found = reinterpret_cast<mutex_function>(::dlsym(RTLD_NEXT, name));
    known.store(found, std::memory_order_relaxed);
  }
  return found;
}

}  // namespace

preemption::preemption(const preemption_rates& rates) : rates_{rates} {
  rates_now.store(&rates_, std::memory_order_release);
}

preemption::~preemption() { rates_now.store(nullptr, std::memory_order_release); }

std::uint64_t preemption::times() noexcept { return times_so_far.load(std::memory_order_relaxed); }

void enlist_this_thread(std::uint64_t seed) noexcept { chance = seed * 2 + 1; }

}  // namespace support

extern "C" int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  support::preempt_sometimes();
  return support::real(support::real_lock, "pthread_mutex_lock")(mutex);
}

extern "C" int pthread_mutex_unlock(pthread_mutex_t* mutex) noexcept {
  const int result = support::real(support::real_unlock, "pthread_mutex_unlock")(mutex);
  support::preempt_sometimes();
  return result;
}
