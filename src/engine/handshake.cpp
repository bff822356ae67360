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

[[noreturn]] void refuse(const reply& answer) {
  const std::string& text = answer.error_text();
  const bool credentials = text.starts_with("WRONGPASS") || text.starts_with("NOAUTH") || text.starts_with("NOPERM") ||
                           text.find("AUTH") != std::string::npos;
  throw connection_error{credentials ? errc::auth : errc::unreachable, execution::not_sent,
                         fmt::format("handshake refused: {}", text)};
}

}  // namespace

handshake::handshake(const client_options& options) {
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
  if (answer.is_error()) refuse(answer);
  if (what == kind::hello && answer.type() == reply_type::array && is_cluster(answer)) {
    throw connection_error{errc::unsupported, execution::not_sent,
                           "the server runs in cluster mode, which this version does not support"};
  }
}

}  // namespace tenantry::detail
