#include "net/resolver.hpp"

#include <csignal>
#include <cstring>
#include <memory>
#include <mutex>
#include <netdb.h>
#include <new>
#include <poll.h>
#include <pthread.h>
#include <string>
#include <thread>
#include <utility>

namespace tenantry::net {

namespace {

resolution look_up(const std::string& host, std::uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | flags;
  addrinfo* list = nullptr;
  const int fault = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (fault != 0) {
    return {.addresses = {}, .failure = ::gai_strerror(fault)};
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner{list, &::freeaddrinfo};
  resolution found;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    address& next = found.addresses.emplace_back();
    std::memcpy(&next.storage, entry->ai_addr, entry->ai_addrlen);
    next.size = entry->ai_addrlen;
  }
  return found;
}

}  // namespace

struct resolver::lookup {
  std::string host;
  std::uint16_t port = 0;
  wakeup finished;
  std::mutex mutex;
  resolution result;
};

resolution resolver::resolve(const std::string& host, std::uint16_t port, clock::time_point deadline,
                             std::span<const int> wakeups) {
  if (auto numeric = look_up(host, port, AI_NUMERICHOST); numeric.failure.empty()) return numeric;

  if (!running_ || running_->host != host || running_->port != port) {
    running_ = std::make_shared<lookup>();
    running_->host = host;
    running_->port = port;
    // The thread must not take signals that the program expects elsewhere; it inherits the mask set here.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      std::thread{[shared = running_] {
        resolution found;
        try {
          found = look_up(shared->host, shared->port, AI_ADDRCONFIG);
        } catch (const std::bad_alloc&) {  // NOLINT(bugprone-empty-catch): no addresses, which is what is reported
        }
        {
          const std::lock_guard lock{shared->mutex};
          shared->result = std::move(found);
        }
        shared->finished.set();
      }}.detach();
    } catch (...) {
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
      running_.reset();
      throw;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  if (const ready how = wait(running_->finished.fd(), POLLIN, deadline, wakeups); how != ready::io) {
    return {.addresses = {}, .failure = {}, .how = how};
  }
  const auto finished = std::exchange(running_, nullptr);
  const std::lock_guard lock{finished->mutex};
  return std::move(finished->result);
}

}  // namespace tenantry::net
