#pragma once
// A Lua script that runs on the server.

#include <tenantry/export.hpp>

#include <string>
#include <string_view>

namespace tenantry {

/// A Lua script and the SHA-1 digest by which the server's script cache knows it.
///
/// Make it once and keep it. Run it with `client::eval`; it declares every key it touches in KEYS.
/// Source: EVALSHA (server 2.6+).
class TENANTRY_EXPORT script {
 public:
  explicit script(std::string body);

  [[nodiscard]] const std::string& body() const noexcept { return body_; }
  /// 40 lower-case hexadecimal digits.
  [[nodiscard]] const std::string& sha() const noexcept { return sha_; }

 private:
  std::string body_;
  std::string sha_;
};

}  // namespace tenantry
