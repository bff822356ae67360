#pragma once
// How a consumer's requests look in Redis.

#include "messaging/consumer_machine.hpp"
#include "messaging/log_state.hpp"

#include <tenantry/reply.hpp>
#include <tenantry/tenant.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace tenantry::detail {

struct work_calls {
  const log_state& log;
  const tenant_id& tenant;
  const std::string& group;
  const std::string& consumer;
  const consume_options& how;

  [[nodiscard]] std::vector<std::string> keys() const;
  [[nodiscard]] std::vector<std::string> arguments(const work_request& of) const;
  static work_reply answer(const reply& to);
};

/// `log:{acme}:alarms#dead:mailer`
std::string dead_letters_key(const log_state& log, const tenant_id& tenant, std::string_view group);

}  // namespace tenantry::detail
