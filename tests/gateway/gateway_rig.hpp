#pragma once
// What tests of the gateway's parts share.

#include <tenantry/tenant.hpp>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>

namespace gateway::testing {

inline const tenantry::tenant_id acme{"acme"};
inline const tenantry::tenant_id globex{"globex"};

/// 2026-03-01 12:00 UTC.
inline constexpr std::int64_t noon = 1'772'366'400;

class temporary_directory {
 public:
  temporary_directory() {
    std::string name = "/tmp/tenantry-gateway-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error{"no temporary directory"};
    path_ = name;
  }
  temporary_directory(const temporary_directory&) = delete;
  temporary_directory& operator=(const temporary_directory&) = delete;
  ~temporary_directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace gateway::testing
