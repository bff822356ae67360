#include <tenantry/error.hpp>

#include <fmt/format.h>

#include <array>
#include <utility>

namespace tenantry {

namespace {

/// Codes of error replies that begin with a word the library knows.
errc code_of(std::string_view text) noexcept {
  constexpr std::array<std::pair<std::string_view, errc>, 13> known{{
      {"WRONGTYPE", errc::wrong_type},
      {"NOPERM", errc::no_permission},
      {"NOSCRIPT", errc::no_script},
      {"NOAUTH", errc::auth},
      {"WRONGPASS", errc::auth},
      {"LOADING", errc::not_ready},
      {"MASTERDOWN", errc::not_ready},
      {"TRYAGAIN", errc::not_ready},
      {"CLUSTERDOWN", errc::not_ready},
      {"BUSY", errc::not_ready},
      {"READONLY", errc::read_only},
      {"OOM", errc::out_of_memory},
      {"MOVED", errc::unsupported},
  }};
  const std::string_view word = text.substr(0, text.find(' '));
  for (const auto& [prefix, code] : known) {
    if (word == prefix) return code;
  }
  return errc::server;
}

/// True for commands that run other commands: these may have written before the one that failed.
bool runs_commands(std::string_view command) {
  std::string name{command};
  for (char& c : name) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return name.starts_with("EVAL") || name.starts_with("FCALL") || name == "EXEC";
}

execution execution_of(std::string_view command, errc code) {
  const bool may_have_run = runs_commands(command) && code != errc::no_script;
  return may_have_run ? execution::unknown : execution::rejected;
}

}  // namespace

std::string_view to_string(errc code) noexcept {
  switch (code) {
    case errc::invalid_name:
      return "invalid_name";
    case errc::invalid_option:
      return "invalid_option";
    case errc::refused_command:
      return "refused_command";
    case errc::unreachable:
      return "unreachable";
    case errc::auth:
      return "auth";
    case errc::timeout:
      return "timeout";
    case errc::cancelled:
      return "cancelled";
    case errc::closed:
      return "closed";
    case errc::connection_lost:
      return "connection_lost";
    case errc::protocol:
      return "protocol";
    case errc::unsupported:
      return "unsupported";
    case errc::server:
      return "server";
    case errc::wrong_type:
      return "wrong_type";
    case errc::no_permission:
      return "no_permission";
    case errc::no_script:
      return "no_script";
    case errc::not_ready:
      return "not_ready";
    case errc::read_only:
      return "read_only";
    case errc::out_of_memory:
      return "out_of_memory";
    case errc::unexpected_reply:
      return "unexpected_reply";
    case errc::encode:
      return "encode";
    case errc::overloaded:
      return "overloaded";
    case errc::forked:
      return "forked";
    case errc::recursive_load:
      return "recursive_load";
    case errc::load_failed:
      return "load_failed";
    case errc::load_timeout:
      return "load_timeout";
  }
  return "unknown";
}

std::string_view to_string(execution what) noexcept {
  switch (what) {
    case execution::not_sent:
      return "not_sent";
    case execution::rejected:
      return "rejected";
    case execution::unknown:
      return "unknown";
    case execution::executed:
      return "executed";
  }
  return "unknown";
}

error::error(errc code, tenantry::execution what, const std::string& message)
    : std::runtime_error{message}, code_{code}, execution_{what} {}

bool error::retryable() const noexcept {
  const bool did_not_run = execution_ == execution::not_sent || execution_ == execution::rejected;
  switch (code_) {
    case errc::unreachable:
    case errc::timeout:
    case errc::connection_lost:
    case errc::not_ready:
    case errc::overloaded:
    case errc::load_failed:
    case errc::load_timeout:
      return did_not_run;
    default:
      return false;
  }
}

invalid_name::invalid_name(const std::string& message) : error{errc::invalid_name, execution::not_sent, message} {}
invalid_option::invalid_option(const std::string& message)
    : error{errc::invalid_option, execution::not_sent, message} {}

server_error::server_error(std::string_view command, std::string_view text)
    : error{code_of(text), execution_of(command, code_of(text)), fmt::format("{}: {}", command, text)},
      text_{std::make_shared<const std::string>(text)} {}

load_failed::load_failed(const std::string& message, std::chrono::milliseconds left)
    : error{errc::load_failed, execution::not_sent, fmt::format("{}; again in {} ms", message, left.count())},
      left_{left} {}

// Out of line, so that each type has one home and is caught across shared libraries.
error::~error() = default;
invalid_name::~invalid_name() = default;
invalid_option::~invalid_option() = default;
connection_error::~connection_error() = default;
timeout_error::~timeout_error() = default;
server_error::~server_error() = default;
load_failed::~load_failed() = default;

}  // namespace tenantry
