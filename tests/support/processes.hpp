#pragma once
// Forked processes in tests that go on at the same time, and the memory that they share.
//
// A client made before a fork cannot be used in the child, and ThreadSanitizer wants forks of a program that has one
// thread: so processes come first in a test, and clients and threads after them.

#include "support/redis_probe.hpp"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

namespace support {

/// A T of atomics that this process and all that it forks afterwards see.
template <class T>
class shared_memory {
 public:
  shared_memory() {
    void* const memory = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc{};
    shared_ = ::new (memory) T{};
  }
  shared_memory(const shared_memory&) = delete;
  shared_memory& operator=(const shared_memory&) = delete;
  ~shared_memory() { ::munmap(shared_, sizeof(T)); }

  T& operator*() const noexcept { return *shared_; }
  T* operator->() const noexcept { return shared_; }

 private:
  T* shared_;
};

/// A forked child that runs `action` and ends with the number that it returns, without destructors or Catch2. It is
/// killed at the end of the scope, and when the test's own process ends.
class process {
 public:
  template <class Action>
  explicit process(Action&& action) {
    std::fflush(nullptr);
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    int result = threw;
    try {
      result = action();
    } catch (const std::exception& fault) {
      std::fprintf(stderr, "a process of the test threw: %s\n", fault.what());
    } catch (...) {
      std::fputs("a process of the test threw\n", stderr);
    }
    ::_exit(result);
  }
  process(process&& other) noexcept : pid_{std::exchange(other.pid_, 0)} {}
  process& operator=(process&& other) noexcept {
    if (this != &other) {
      kill();
      pid_ = std::exchange(other.pid_, 0);
    }
    return *this;
  }
  ~process() { kill(); }

  /// Returns when the process has stopped. False where it has ended before.
  [[nodiscard]] bool pause() {
    int status = 0;
    if (pid_ <= 0 || ::kill(pid_, SIGSTOP) != 0) return false;
    if (::waitpid(pid_, &status, WUNTRACED) == pid_ && WIFSTOPPED(status)) return true;
    ended(status);
    return false;
  }
  void resume() const { ::kill(pid_, SIGCONT); }
  /// Returns when the process is no more.
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  /// True once it has ended by itself; then `result` is there.
  bool has_ended() {
    int status = 0;
    if (pid_ <= 0) return true;
    if (::waitpid(pid_, &status, WNOHANG) != pid_) return false;
    ended(status);
    return true;
  }
  /// What the action returned, 100 for an exception, 101 for a signal, 102 where it does not end within 20 s.
  int result() {
    if (eventually([this] { return has_ended(); })) return result_;
    kill();
    return hangs;
  }

 private:
  static constexpr int threw = 100;
  static constexpr int signalled = 101;
  static constexpr int hangs = 102;

  void ended(int status) {
    pid_ = 0;
    result_ = WIFEXITED(status) ? WEXITSTATUS(status) : signalled;
  }

  pid_t pid_ = 0;
  int result_ = signalled;
};

}  // namespace support
