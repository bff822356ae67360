// Arbitrary text as a URL: client_options::from_url takes it and its fields say what it says, or throws invalid_option;
// no message holds the password.
//
// Each '!' of an input becomes a password that is easily found again, wherever it stands.

#include "check.hpp"
#include "engine/options.hpp"

#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/tls_options.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace {

using fuzz::require;
using tenantry::client_options;

constexpr std::string_view secret = "s3cr3t-p4ssw0rd";

bool shows_secret(std::string_view text) {
  return text.find("s3cr3t") != std::string_view::npos || text.find("p4ssw0rd") != std::string_view::npos;
}

void check_message(const tenantry::invalid_option& refused) {
  require(refused.code() == tenantry::errc::invalid_option, "a refusal has the code invalid_option");
  require(refused.execution() == tenantry::execution::not_sent, "a refusal sent nothing");
  require(!shows_secret(refused.what()), "no message holds the password");
}

std::string encoded(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    out += '%';
    out += "0123456789ABCDEF"[byte >> 4U];
    out += "0123456789abcdef"[byte & 15U];
  }
  return out;
}

/// In the smallest unit in which a URL can say it.
std::string duration(std::chrono::milliseconds span) {
  const auto count = static_cast<std::uint64_t>(span.count());
  if (count <= UINT32_MAX) return std::to_string(count) + "ms";
  if (count % 1000 == 0 && count / 1000 <= UINT32_MAX) return std::to_string(count / 1000) + "s";
  return std::to_string(count / 60'000) + "min";
}

/// A URL that says the same, in another way: everything encoded, the database and the times as parameters.
std::string written(const client_options& options, std::string_view scheme) {
  std::string url{scheme};
  url += "://";
  if (!options.username.empty() || !options.password.empty()) {
    url += encoded(options.username) + ":" + encoded(options.password) + "@";
  }
  if (!options.unix_socket.empty()) {
    url += "/" + encoded(options.unix_socket.substr(1));
  } else {
    url += encoded(options.host) + ":" + std::to_string(options.port);
  }
  url += "?db=" + std::to_string(options.database) + "&timeout=" + duration(options.timeout) +
         "&connect_timeout=" + duration(options.connect_timeout);
  const auto add = [&url](std::string_view name, const std::string& value) {
    if (value.empty()) return;
    url += '&';
    url += name;
    url += '=' + encoded(value);
  };
  add("client_name", options.client_name);
  if (options.tls) {
    add("ssl_ca_certs", options.tls->ca_file);
    add("ssl_ca_path", options.tls->ca_directory);
    add("ssl_certfile", options.tls->certificate_file);
    add("ssl_keyfile", options.tls->key_file);
    add("tls_server_name", options.tls->server_name);
    if (options.tls->verify == tenantry::tls_verify::nothing_insecure) url += "&tls_verify=nothing_insecure";
  }
  return url;
}

void check_fields(const client_options& options, std::string_view scheme) {
  const client_options plain;
  if (scheme == "unix") {
    require(options.unix_socket.size() > 1 && options.unix_socket.front() == '/', "a Unix socket has a whole path");
    require(options.host == plain.host && options.port == plain.port, "a Unix socket has no host");
  } else {
    require(options.unix_socket.empty(), "a host has no Unix socket");
    require(!options.host.empty(), "a host has a name");
  }
  require(options.tls.has_value() == (scheme == "rediss"), "rediss is TLS, and nothing else is");
  require(!options.tls || options.tls->key_passphrase.empty(), "a URL says nothing of a passphrase");
  require(options.timeout.count() >= 0 && options.connect_timeout.count() >= 0, "no time is negative");
  require(options.limits.bytes == plain.limits.bytes && options.limits.elements == plain.limits.elements &&
              options.limits.line == plain.limits.line && options.limits.depth == plain.limits.depth,
          "a URL says nothing of limits");

  const client_options again = client_options::from_url(written(options, scheme));
  require(again.host == options.host && again.port == options.port && again.unix_socket == options.unix_socket,
          "the address survives writing it again");
  require(again.username == options.username && again.password == options.password,
          "user and password survive writing them again");
  require(again.database == options.database && again.client_name == options.client_name &&
              again.timeout == options.timeout && again.connect_timeout == options.connect_timeout,
          "the parameters survive writing them again");
  require(again.tls == options.tls, "the parameters of TLS survive writing them again");

  if (!shows_secret(options.host) && !shows_secret(options.unix_socket)) {
    require(!shows_secret(tenantry::detail::endpoint(options)), "no address in messages holds the password");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string url;
  for (const char c : std::string_view{reinterpret_cast<const char*>(data), size}) {
    if (c == '!') {
      url += secret;
    } else {
      url += c;
    }
  }
  client_options options;
  try {
    options = client_options::from_url(url);
  } catch (const tenantry::invalid_option& refused) {
    check_message(refused);
    return 0;
  }
  check_fields(options, std::string_view{url}.substr(0, url.find("://")));
  if (options.tls) return 0;  // the check would read whatever files the URL names
  try {
    tenantry::detail::check(options);
  } catch (const tenantry::invalid_option& refused) {
    check_message(refused);
  }
  return 0;
}
