#include "logins.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <stdexcept>
#include <string_view>

namespace gateway {

logins logins::read(const std::string& file) {
  std::ifstream in{file};
  const nlohmann::json all = nlohmann::json::parse(in, nullptr, false);
  if (!all.is_object()) throw std::runtime_error{file + R"( is not {"<token>": "<tenant>", ...})"};
  logins made;
  for (const auto& [token, tenant] : all.items()) {
    if (token.size() < 16 || !tenant.is_string())
      throw std::runtime_error{file + ": a token is too short, or its tenant no text"};
    made.by_token_.emplace(token, tenantry::tenant_id{tenant.get<std::string>()});
  }
  return made;
}

std::optional<tenantry::tenant_id> logins::tenant_of(const request& from) const {
  constexpr std::string_view scheme = "Bearer ";
  const std::string_view given = from.field("Authorization");
  const auto small = [](unsigned char letter) { return std::tolower(letter); };  // in any case (RFC 9110, section 11.1)
  if (!std::ranges::equal(given.substr(0, scheme.size()), scheme, {}, small, small)) return std::nullopt;
  const auto found = by_token_.find(given.substr(scheme.size()));
  if (found == by_token_.end()) return std::nullopt;
  return found->second;
}

std::vector<tenantry::tenant_id> logins::tenants() const {
  std::vector<tenantry::tenant_id> all;
  for (const auto& [token, tenant] : by_token_) {
    if (std::ranges::find(all, tenant) == all.end()) all.push_back(tenant);
  }
  return all;
}

std::string logins::json() const {
  nlohmann::json all = nlohmann::json::array();
  for (const auto& [token, tenant] : by_token_) all.push_back({{"tenant", tenant.str()}, {"token", token}});
  return all.dump();
}

}  // namespace gateway
