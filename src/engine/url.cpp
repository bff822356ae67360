// client_options from a URL, and the checks of both.

#include "engine/options.hpp"
#include "net/tls.hpp"

#include <tenantry/client.hpp>
#include <tenantry/error.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <limits>
#include <system_error>

namespace tenantry {

namespace {

[[noreturn]] void refuse(std::string_view part, std::string_view why) {
  throw invalid_option{fmt::format("Redis URL: {} {}", part, why)};
}

unsigned hex_value(char c) noexcept {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a') + 10;
  if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A') + 10;
  return 16;
}

std::string percent_decoded(std::string_view text, std::string_view part) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    const unsigned high = i + 2 < text.size() ? hex_value(text[i + 1]) : 16;
    const unsigned low = i + 2 < text.size() ? hex_value(text[i + 2]) : 16;
    if (high > 15 || low > 15) refuse(part, "has a % that is not followed by two hexadecimal digits");
    decoded += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return decoded;
}

template <class Number>
Number number(std::string_view digits, std::string_view part) {
  Number value{};
  const auto [end, fault] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (fault != std::errc{} || end != digits.data() + digits.size()) {
    refuse(part, fmt::format("is not a number up to {}", std::numeric_limits<Number>::max()));
  }
  return value;
}

std::chrono::milliseconds duration(std::string_view text, std::string_view part) {
  const std::size_t unit_at = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::string_view unit = text.substr(unit_at);
  const auto count = number<std::uint32_t>(text.substr(0, unit_at), part);
  if (unit == "ms") return std::chrono::milliseconds{count};
  if (unit == "s") return std::chrono::seconds{count};
  if (unit == "min") return std::chrono::minutes{count};
  refuse(part, "needs a unit: ms, s or min");
}

void read_userinfo(std::string_view text, client_options& out) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) refuse("user", "has no password; write user:password@ or :password@");
  out.username = percent_decoded(text.substr(0, colon), "user");
  out.password = percent_decoded(text.substr(colon + 1), "password");
}

void read_host(std::string_view text, client_options& out) {
  std::string_view port;
  bool has_port = false;
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) refuse("host", "has a [ without ]");
    out.host = text.substr(1, end - 1);
    port = text.substr(end + 1);
    has_port = !port.empty();
    if (has_port && !port.starts_with(':')) refuse("host", "has something after ] that is not a port");
    if (has_port) port.remove_prefix(1);
  } else {
    const std::size_t colon = text.find(':');
    if (text.find(':', colon == std::string_view::npos ? colon : colon + 1) != std::string_view::npos) {
      refuse("host", "has more than one colon; an IPv6 address stands in brackets");
    }
    out.host = percent_decoded(text.substr(0, colon), "host");
    has_port = colon != std::string_view::npos;
    if (has_port) port = text.substr(colon + 1);
  }
  if (out.host.empty()) refuse("host", "is empty");
  if (has_port) out.port = number<std::uint16_t>(port, "port");
}

void read_verify(std::string_view value, tls_options& out) {
  if (value == "chain_and_name") {
    out.verify = tls_verify::chain_and_name;
  } else if (value == "nothing_insecure") {
    out.verify = tls_verify::nothing_insecure;
  } else {
    refuse("tls_verify", "is neither chain_and_name nor nothing_insecure");
  }
}

/// The parameters of TLS. Those that redis-py has are called as there. False when this is none of them.
bool read_tls_parameter(std::string_view name, std::string_view value, client_options& out) {
  struct text_field {
    std::string_view name;
    std::string tls_options::*field;
  };
  constexpr std::array<text_field, 5> texts{{{"ssl_ca_certs", &tls_options::ca_file},
                                             {"ssl_ca_path", &tls_options::ca_directory},
                                             {"ssl_certfile", &tls_options::certificate_file},
                                             {"ssl_keyfile", &tls_options::key_file},
                                             {"tls_server_name", &tls_options::server_name}}};
  const auto* const text = std::ranges::find(texts, name, &text_field::name);
  if (text == texts.end() && name != "tls_verify" && name != "ssl_cert_reqs") return false;
  if (!out.tls) refuse(name, "needs TLS; write rediss://");
  if (text != texts.end()) {
    if (value.empty()) refuse(name, "is empty");
    (*out.tls).*text->field = percent_decoded(value, name);
  } else if (name == "tls_verify") {
    read_verify(value, *out.tls);
  } else if (value != "required") {
    refuse(name, "is always required here; tls_verify=nothing_insecure trusts whoever answers");
  }
  return true;
}

void read_parameter(std::string_view text, client_options& out) {
  const std::size_t equals = text.find('=');
  const std::string_view name = text.substr(0, equals);
  if (equals == std::string_view::npos) refuse("parameter", "has no =");
  const std::string_view value = text.substr(equals + 1);
  if (name == "db") {
    out.database = number<std::uint32_t>(value, "db");
  } else if (name == "client_name") {
    out.client_name = percent_decoded(value, "client_name");
  } else if (name == "timeout") {
    out.timeout = duration(value, "timeout");
  } else if (name == "connect_timeout") {
    out.connect_timeout = duration(value, "connect_timeout");
  } else if (!read_tls_parameter(name, value, out)) {
    // A name that could be a piece of a password is not repeated.
    const bool plain =
        std::ranges::all_of(name, [](char c) { return ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_'; });
    refuse("parameter",
           fmt::format("{}is not known; there are db, client_name, timeout, connect_timeout and those of TLS",
                       plain ? fmt::format("\"{}\" ", name) : ""));
  }
}

void read_parameters(std::string_view text, client_options& out) {
  if (text.find('@') != std::string_view::npos) refuse("parameter", "holds an @; encode ? and @ in a password");
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('&'), text.size());
    read_parameter(text.substr(0, end), out);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

[[noreturn]] void refuse_option(std::string_view field, std::string_view why) {
  throw invalid_option{fmt::format("client_options.{} {}", field, why)};
}

void check_tls(const client_options& options) {
  const tls_options& tls = *options.tls;
  if (!options.unix_socket.empty()) refuse_option("tls", "is set together with unix_socket; a server has no TLS there");
  for (const std::string* text :
       {&tls.ca_file, &tls.ca_directory, &tls.certificate_file, &tls.key_file, &tls.key_passphrase, &tls.server_name}) {
    if (text->find('\0') != std::string::npos) refuse_option("tls", "holds a zero byte");
  }
  if (tls.certificate_file.empty() != tls.key_file.empty()) {
    refuse_option("tls", "has a certificate_file without a key_file, or the reverse");
  }
  std::error_code fault;  // OpenSSL would take any name, and then find nothing there
  if (!tls.ca_directory.empty() && !std::filesystem::is_directory(tls.ca_directory, fault)) {
    refuse_option("tls.ca_directory", fmt::format("{} is not a directory", tls.ca_directory));
  }
  (void)net::tls_context_of(tls);
}

}  // namespace

client_options client_options::from_url(std::string_view url) {
  client_options out;
  const std::size_t scheme_end = url.find("://");
  if (scheme_end == std::string_view::npos) refuse("scheme", "is missing; write redis://, rediss:// or unix://");
  const std::string_view scheme = url.substr(0, scheme_end);
  std::string_view rest = url.substr(scheme_end + 3);
  if (scheme == "rediss") out.tls.emplace();
  if (scheme != "redis" && scheme != "rediss" && scheme != "unix") {
    refuse("scheme", "is neither redis nor rediss nor unix");
  }
  if (rest.find('#') != std::string_view::npos) refuse("fragment", "is not allowed; encode # as %23");

  const std::size_t query = std::min(rest.find('?'), rest.size());
  const std::string_view parameters = rest.substr(std::min(query + 1, rest.size()));
  rest = rest.substr(0, query);

  // The last @ before the path: a password may hold one that was not encoded.
  const std::size_t path_from = scheme == "unix" && rest.starts_with('/') ? 0 : std::min(rest.find('/'), rest.size());
  if (const std::size_t at = rest.substr(0, path_from).rfind('@'); at != std::string_view::npos) {
    read_userinfo(rest.substr(0, at), out);
    rest.remove_prefix(at + 1);
  }
  const std::size_t path_at = std::min(rest.find('/'), rest.size());
  const std::string_view authority = rest.substr(0, path_at);
  const std::string_view path = rest.substr(path_at);
  if (scheme == "unix") {
    if (!authority.empty()) refuse("path", "of a Unix socket is absolute: unix:///path/to.sock");
    out.unix_socket = percent_decoded(path, "path");
    if (out.unix_socket.size() < 2) refuse("path", "of a Unix socket is empty");
  } else {
    read_host(authority, out);
    if (path.size() > 1) out.database = number<std::uint32_t>(path.substr(1), "database");
  }
  read_parameters(parameters, out);
  return out;
}

namespace detail {

void check(const client_options& options) {
  using namespace std::chrono_literals;
  if (options.unix_socket.empty() && options.host.empty()) refuse_option("host", "is empty");
  if (options.unix_socket.empty() && options.port == 0) refuse_option("port", "is 0");
  if (options.host.find('\0') != std::string::npos) refuse_option("host", "holds a zero byte");
  if (options.unix_socket.find('\0') != std::string::npos) refuse_option("unix_socket", "holds a zero byte");
  if (options.unix_socket.size() > 107) refuse_option("unix_socket", "is longer than 107 bytes");
  if (options.timeout <= 0ms) refuse_option("timeout", "is not positive");
  if (options.connect_timeout <= 0ms) refuse_option("connect_timeout", "is not positive");
  if (options.password.empty() && !options.username.empty()) refuse_option("username", "is set without a password");
  // Before authentication a server refuses longer words.
  if (options.password.size() > 16384 || options.username.size() > 16384) {
    refuse_option("password", "or username is longer than 16384 bytes");
  }
  if (!std::ranges::all_of(options.client_name, [](char c) { return c > ' ' && c <= '~'; })) {
    refuse_option("client_name", "holds a space or a byte that is not printable ASCII");
  }
  if (options.tls) check_tls(options);
  if (options.limits.depth < 1 || options.limits.depth > 8) refuse_option("limits.depth", "is not 1 to 8");
  if (options.limits.line < 64) refuse_option("limits.line", "is less than 64");
  if (options.limits.elements < 64) refuse_option("limits.elements", "is less than 64");
  if (options.limits.bytes < 4096) refuse_option("limits.bytes", "is less than 4096");
}

std::string endpoint(const client_options& options) {
  if (!options.unix_socket.empty()) return "unix://" + options.unix_socket;
  const std::string_view scheme = options.tls ? "rediss" : "redis";
  if (options.host.find(':') != std::string::npos)
    return fmt::format("{}://[{}]:{}", scheme, options.host, options.port);
  return fmt::format("{}://{}:{}", scheme, options.host, options.port);
}

}  // namespace detail

}  // namespace tenantry
