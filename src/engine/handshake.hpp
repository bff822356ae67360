#pragma once
// What a connection says before the first command, and how the answers are judged. Sans-io.

#include <tenantry/client.hpp>
#include <tenantry/command.hpp>
#include <tenantry/reply.hpp>

#include <cstddef>
#include <string>
#include <vector>

namespace tenantry::detail {

/// One pipelined write: HELLO 2 (with AUTH and SETNAME), CLIENT SETINFO twice, SELECT.
class handshake {
 public:
  explicit handshake(const client_options& options);

  [[nodiscard]] std::string bytes() const;
  [[nodiscard]] bool complete() const noexcept { return answered_ == steps_.size(); }

  /// Takes the next reply. Errors: connection_error (auth, unsupported, unreachable, not_ready, server), all not_sent:
  /// no command of the application was on the way.
  void accept(const reply& answer);

 private:
  enum class kind : unsigned char { hello, optional, select };
  struct step {
    kind what = kind::optional;
    command sent;
  };

  std::string secret_;
  std::vector<step> steps_;
  std::size_t answered_ = 0;
};

}  // namespace tenantry::detail
