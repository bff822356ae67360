#pragma once
// Options for tests that go on asking a server that fails.

#include <tenantry/client_options.hpp>

#include <cstdint>
#include <string>

namespace support {

/// The options of a URL, for a client whose breaker never opens.
inline tenantry::client_options undeterred(const std::string& url) {
  tenantry::client_options options = tenantry::client_options::from_url(url);
  options.breaker.consecutive_failures = UINT32_MAX;
  options.breaker.min_calls = UINT32_MAX;
  return options;
}

}  // namespace support
