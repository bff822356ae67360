#include "engine/handshake.hpp"

#include <tenantry/error.hpp>
#include <tenantry/version.hpp>

#include <fmt/format.h>

#include <string_view>

namespace tenantry::detail {

namespace {

std::string library_version() {
  return fmt::format("{}.{}.{}", TENANTRY_VERSION_MAJOR, TENANTRY_VERSION_MINOR, TENANTRY_VERSION_PATCH);
}

command hello(const client_options& options) {
  std::vector<std::string_view> words{"HELLO", "2"};
  if (!options.password.empty()) {
    const std::string_view user = options.username.empty() ? std::string_view{"default"} : options.username;
    words.insert(words.end(), {"AUTH", user, options.password});
  }
  if (!options.client_name.empty()) words.insert(words.end(), {"SETNAME", options.client_name});
  return command{std::span<const std::string_view>{words}};
}

/// HELLO answers with names and values in turn.
bool is_cluster(const reply& fields) {
  const auto& all = fields.elements();
  for (std::size_t i = 0; i + 1 < all.size(); i += 2) {
    if (all[i].type() == reply_type::string && all[i].str() == "mode") {
      return all[i + 1].type() == reply_type::string && all[i + 1].str() == "cluster";
    }
  }
  return false;
}

errc code_of(std::string_view text) noexcept {
  if (text.starts_with("ERR unknown command")) return errc::unsupported;
  for (const std::string_view word : {"WRONGPASS", "NOAUTH", "NOPERM", "ERR AUTH", "ERR Client sent AUTH"}) {
    if (text.starts_with(word)) return errc::auth;
  }
  for (const std::string_view word : {"LOADING", "MASTERDOWN", "BUSY"}) {
    if (text.starts_with(word)) return errc::not_ready;
  }
  return text.starts_with("ERR max number of clients") ? errc::unreachable : errc::server;
}

/// What the server said, without the password: some servers repeat the words of a command that they do not know.
std::string without(std::string text, const std::string& secret) {
  for (std::size_t at = 0; !secret.empty() && (at = text.find(secret, at)) != std::string::npos;) {
    text.replace(at, secret.size(), "***");
    at += 3;
  }
  return text;
}

}  // namespace

handshake::handshake(const client_options& options) : secret_{options.password} {
  steps_.push_back({kind::hello, hello(options)});
  // Servers before 7.2 do not know SETINFO; it only helps whoever reads CLIENT LIST.
  steps_.push_back({kind::optional, command{"CLIENT", "SETINFO", "LIB-NAME", "tenantry"}});
  steps_.push_back({kind::optional, command{"CLIENT", "SETINFO", "LIB-VER", library_version()}});
  if (options.database != 0) steps_.push_back({kind::select, command{"SELECT", options.database}});
}

std::string handshake::bytes() const {
  std::string all;
  for (const step& each : steps_) all += each.sent.bytes();
  return all;
}

void handshake::accept(const reply& answer) {
  const kind what = steps_[answered_++].what;
  if (what == kind::optional) return;
  if (answer.is_error()) {
    const std::string& text = answer.error_text();
    throw connection_error{code_of(text), execution::not_sent,
                           fmt::format("handshake refused: {}", without(text, secret_))};
  }
  if (what == kind::hello && answer.type() == reply_type::array && is_cluster(answer)) {
    throw connection_error{errc::unsupported, execution::not_sent,
                           "the server runs in cluster mode, which this version does not support"};
  }
}

}  // namespace tenantry::detail
