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

command hello(const client_options& options, const credentials& login) {
  std::vector<std::string_view> words{"HELLO", "2"};
  if (!login.password.empty()) {
    const std::string_view user = login.username.empty() ? std::string_view{"default"} : login.username;
    words.insert(words.end(), {"AUTH", user, login.password});
  }
  if (!options.client_name.empty()) words.insert(words.end(), {"SETNAME", options.client_name});
  return command{std::span<const std::string_view>{words}};
}

/// HELLO answers with names and values in turn. Nil where a name is not among them.
const reply& field(const reply& answer, std::string_view name) {
  static const reply none;
  if (answer.type() != reply_type::array) return none;
  const auto& all = answer.elements();
  for (std::size_t i = 0; i + 1 < all.size(); i += 2) {
    if (all[i].type() == reply_type::string && all[i].str() == name) return all[i + 1];
  }
  return none;
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

handshake::handshake(const client_options& options, const credentials& login) : secret_{login.password} {
  steps_.push_back({kind::hello, hello(options, login)});
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
  if (what != kind::hello) return;
  if (const reply& mode = field(answer, "mode"); mode.type() == reply_type::string && mode.str() == "cluster") {
    throw connection_error{errc::unsupported, execution::not_sent,
                           "the server runs in cluster mode, which this version does not support"};
  }
  if (const reply& id = field(answer, "id"); id.type() == reply_type::integer) client_id_ = id.integer();
}

}  // namespace tenantry::detail
