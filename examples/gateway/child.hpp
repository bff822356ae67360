#pragma once
// A program that runs as long as this one.

#include <string>
#include <sys/types.h>
#include <vector>

namespace gateway {

/// Killed with this process, whatever ends it.
class child {
 public:
  /// Its standard error goes to a file where one is named. Errors: std::system_error where it cannot be started.
  explicit child(const std::vector<std::string>& command, const std::string& errors_to = {});
  child(child&& from) noexcept;
  child& operator=(child&& from) noexcept;
  ~child();

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  [[nodiscard]] bool runs();
  void kill() noexcept;
  /// SIGTERM, and after five seconds `kill`.
  void end() noexcept;

 private:
  pid_t pid_ = 0;
};

/// The path of a program, also of one for administrators; empty where there is none.
std::string find_program(const std::string& name);
/// True when nobody listens on it.
bool is_free(unsigned short port);
/// A port that is.
unsigned short free_port();

}  // namespace gateway
