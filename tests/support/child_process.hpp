#pragma once
// A forked child in tests.

#include "support/redis_probe.hpp"

#include <csignal>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

namespace support {

/// Forks; the child ends with the number that `action` returns, from 0 to 99, without running destructors or Catch2.
/// Returns that number, 100 for an exception, 101 for a signal, 102 for a child that does not end.
template <class Action>
int in_child(Action&& action) {
  const pid_t child = ::fork();
  if (child == 0) {
    int result = 100;
    try {
      result = action();
    } catch (...) {  // NOLINT(bugprone-empty-catch): the number says it
    }
    ::_exit(result);
  }
  int status = 0;
  if (!eventually([&] { return ::waitpid(child, &status, WNOHANG) == child; })) {
    ::kill(child, SIGKILL);
    ::waitpid(child, &status, 0);
    return 102;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 101;
}

}  // namespace support
