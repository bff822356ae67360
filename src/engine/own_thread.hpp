#pragma once
// Threads of the library.

#include <csignal>
#include <pthread.h>
#include <thread>
#include <utility>

namespace tenantry::detail {

/// A thread that takes no signals, which the program expects elsewhere. Errors: std::system_error.
template <class Work>
std::thread start_thread(Work&& work) {
  // The new thread inherits the mask that is set here.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    std::thread started{std::forward<Work>(work)};
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return started;
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
}

}  // namespace tenantry::detail
