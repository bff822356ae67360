#include "engine/passing.hpp"

#include <string_view>

namespace tenantry::detail {

namespace {

/// Refusals of writes that have no code of their own.
bool takes_no_writes(std::string_view text) noexcept {
  return text.starts_with("NOREPLICAS ") || text.starts_with("MISCONF ");
}

}  // namespace

bool passes_by_itself(const error& why) noexcept {
  switch (why.code()) {
    case errc::unreachable:
    case errc::timeout:
    case errc::connection_lost:
    case errc::not_ready:
    case errc::read_only:
    case errc::out_of_memory:
    case errc::overloaded:
      return true;
    case errc::server: {
      const auto* const refusal = dynamic_cast<const server_error*>(&why);
      return refusal != nullptr && takes_no_writes(refusal->server_text());
    }
    default:
      return false;
  }
}

}  // namespace tenantry::detail
