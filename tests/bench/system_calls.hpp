#pragma once
// Counts system calls, by tracing a child process.

#include <csignal>
#include <functional>
#include <stdexcept>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

namespace bench {

namespace detail {

/// The system calls of a child that runs `body`; its threads are not counted.
inline long system_calls_of(const std::function<void()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(1);
    ::raise(SIGSTOP);
    body();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD);
  long stops = 0;  // one on the way into a call, one on the way out
  for (int signal = 0; WIFSTOPPED(status); ::waitpid(child, &status, 0)) {
    const bool call = WSTOPSIG(status) == (SIGTRAP | 0x80);
    stops += call ? 1 : 0;
    signal = call || WSTOPSIG(status) == SIGSTOP || WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
    if (::ptrace(PTRACE_SYSCALL, child, nullptr, signal) != 0) break;
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) throw std::runtime_error{"system calls cannot be traced here"};
  return stops / 2;
}

}  // namespace detail

/// `body(count)` prepares and then calls `count(work)`: the system calls of one `work`, on average over many.
template <class Body>
double system_calls_per(int times, Body body) {
  const auto total = [&body](int repeats) {
    return detail::system_calls_of([&] {
      body([repeats](auto&& work) {
        for (int i = 0; i < repeats; ++i) work();
      });
    });
  };
  return static_cast<double>(total(2 * times) - total(times)) / times;
}

}  // namespace bench
