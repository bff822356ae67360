#pragma once
// What a connection says before the first command, and how the answers are judged. Sans-io.

#include <tenantry/client_options.hpp>
#include <tenantry/command.hpp>
#include <tenantry/reply.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace tenantry::detail {

/// One pipelined write: HELLO 2 (with AUTH and SETNAME), CLIENT SETINFO twice, SELECT.
class handshake {
 public:
  handshake(const client_options& options, const credentials& login);

  [[nodiscard]] std::string bytes() const;
  [[nodiscard]] bool complete() const noexcept { return answered_ == steps_.size(); }

  /// Takes the next reply. Errors: connection_error (auth, unsupported, unreachable, not_ready, server), all not_sent:
  /// no command of the application was on the way.
  void accept(const reply& answer);

  /// CLIENT ID; 0 before HELLO was answered.
  [[nodiscard]] std::int64_t client_id() const noexcept { return client_id_; }

 private:
  enum class kind : unsigned char { hello, optional, select };
  struct step {
    kind what = kind::optional;
    command sent;
  };

  std::string secret_;
  std::vector<step> steps_;
  std::size_t answered_ = 0;
  std::int64_t client_id_ = 0;
};

}  // namespace tenantry::detail
