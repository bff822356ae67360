#include "support/inherited_locks.hpp"

#include <array>
#include <atomic>
#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <unistd.h>

extern "C" char __data_start;  // NOLINT: the linker's names
extern "C" char _end;          // NOLINT

namespace support {

namespace {

// Used from the first lock of the process on, before constructors have run.
constinit std::atomic<int> mode = -1;  // a held_locks, in a child

bool is_of_the_program(const void* mutex) noexcept {
  const auto* const at = static_cast<const char*>(mutex);
  return at >= &__data_start && at < &_end;
}

[[noreturn]] void found_held() noexcept {
  std::array<void*, 40> frames{};
  const int depth = ::backtrace(frames.data(), static_cast<int>(frames.size()));
  ::backtrace_symbols_fd(frames.data(), depth, STDERR_FILENO);
  ::_exit(took_a_held_lock);
}

void look_at(const void* mutex) noexcept {
  const int now = mode.load(std::memory_order_relaxed);
  if (now < 0) return;
  if (now == static_cast<int>(held_locks::all) || is_of_the_program(mutex)) found_held();
}

using mutex_function = int (*)(pthread_mutex_t*);
using join_function = int (*)(pthread_t, void**);
constinit std::atomic<mutex_function> real_lock = nullptr;
constinit std::atomic<join_function> real_join = nullptr;

/// Looked up by the first who needs it. dlsym itself locks inside the C library, not through what is replaced here.
template <class Function>
Function real(std::atomic<Function>& known, const char* name) noexcept {
  Function found = known.load(std::memory_order_relaxed);
  if (found == nullptr) {
    found = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
    known.store(found, std::memory_order_relaxed);
  }
  return found;
}

}  // namespace

void hold_locks(held_locks which) noexcept { mode.store(static_cast<int>(which), std::memory_order_relaxed); }

}  // namespace support

extern "C" int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  support::look_at(mutex);
  return support::real(support::real_lock, "pthread_mutex_lock")(mutex);
}

extern "C" int pthread_join(pthread_t thread, void** result) {
  if (support::mode.load(std::memory_order_relaxed) == static_cast<int>(support::held_locks::all)) {
    support::found_held();
  }
  return support::real(support::real_join, "pthread_join")(thread, result);
}
