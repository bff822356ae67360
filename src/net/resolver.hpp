#pragma once
// Host names to addresses, without outlasting a deadline.

#include "net/wait.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <sys/socket.h>
#include <vector>

namespace tenantry::net {

struct address {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

struct resolution {
  std::vector<address> addresses;
  std::string failure;    // the system's words; empty when there are addresses
  ready how = ready::io;  // why it ended
};

/// Looks names up in a thread of its own, because the system's resolver knows no deadline. A look-up that outlives its
/// caller goes on, and the next call for the same name waits for that one instead of starting another.
class resolver {
 public:
  /// Numeric addresses are answered at once. Errors: std::system_error when no thread can be started.
  resolution resolve(const std::string& host, std::uint16_t port, clock::time_point deadline,
                     std::span<const int> wakeups);

 private:
  struct lookup;
  std::shared_ptr<lookup> running_;
};

}  // namespace tenantry::net
