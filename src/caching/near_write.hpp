#pragma once
// What this process writes, and the near caches of this process.

#include <string>
#include <vector>

namespace tenantry::detail {

class near_tracking;

/// Around a write: evicts these names from all near caches of the process, of every client, before it is sent and again
/// when its outcome is known. What is read in between and kept is gone with that.
///
/// Threads: all members from any thread.
class near_write {
 public:
  explicit near_write(std::vector<std::string> names) noexcept;
  near_write(near_write&&) = delete;
  near_write& operator=(near_write&&) = delete;
  ~near_write();

  /// Whose caches are to be told, until it is removed. Not in the child of a fork.
  static void add(near_tracking& one);
  static void remove(near_tracking& one) noexcept;

 private:
  std::vector<std::string> names_;
};

}  // namespace tenantry::detail
