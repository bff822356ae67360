#include "engine/handshake.hpp"

#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/version.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tn = tenantry;
using tn::detail::handshake;
using namespace std::string_view_literals;

namespace {

std::string wire(const std::vector<std::string>& words) {
  std::string text = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string& word : words) text += "$" + std::to_string(word.size()) + "\r\n" + word + "\r\n";
  return text;
}

/// What follows HELLO in every handshake.
std::string introduction() {
  const std::string version = std::to_string(TENANTRY_VERSION_MAJOR) + "." + std::to_string(TENANTRY_VERSION_MINOR) +
                              "." + std::to_string(TENANTRY_VERSION_PATCH);
  return wire({"CLIENT", "SETINFO", "LIB-NAME", "tenantry"}) + wire({"CLIENT", "SETINFO", "LIB-VER", version});
}

tn::reply text(std::string_view bytes) { return tn::reply::make_text(tn::reply_type::string, bytes); }
tn::reply ok() { return tn::reply::make_text(tn::reply_type::status, "OK"); }
tn::reply refusal(std::string_view words) { return tn::reply::make_text(tn::reply_type::error, words); }
tn::reply unknown_subcommand() {
  return refusal("ERR Unknown subcommand or wrong number of arguments for 'SETINFO'. Try CLIENT HELP.");
}

/// What Redis 7 answers to HELLO 2.
tn::reply greeting(std::string_view mode) {
  const std::vector<tn::reply> fields{text("server"),  text("redis"),
                                      text("version"), text("7.0.15"),
                                      text("proto"),   tn::reply::make_integer(2),
                                      text("id"),      tn::reply::make_integer(7),
                                      text("mode"),    text(mode),
                                      text("role"),    text("master"),
                                      text("modules"), tn::reply::make_array(0)};
  auto all = tn::reply::make_array(fields.size());
  for (std::size_t i = 0; i < fields.size(); ++i) all.element(i) = fields[i];
  return all;
}

handshake opening(const tn::client_options& options) {
  return handshake{options, {.username = options.username, .password = options.password}};
}

/// What the last of the answers ends the handshake with; nothing when it is accepted.
std::optional<tn::connection_error> failure(const tn::client_options& options, const std::vector<tn::reply>& answers) {
  handshake one = opening(options);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    REQUIRE_FALSE(one.complete());
    try {
      one.accept(answers[i]);
    } catch (const tn::connection_error& refused) {
      CHECK(i + 1 == answers.size());
      CHECK(refused.execution() == tn::execution::not_sent);
      return refused;
    }
  }
  CHECK(one.complete());
  return std::nullopt;
}

tn::errc code_of(const tn::client_options& options, const std::vector<tn::reply>& answers) {
  const auto refused = failure(options, answers);
  REQUIRE(refused);
  return refused->code();
}

}  // namespace

TEST_CASE("a handshake asks for RESP2 and names the library") {
  CHECK(opening({}).bytes() == "*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n" + introduction());
}

TEST_CASE("a handshake authenticates in its first command") {
  CHECK(opening({.password = "pass word"}).bytes() ==
        wire({"HELLO", "2", "AUTH", "default", "pass word"}) + introduction());
  CHECK(opening({.username = "acme", .password = "p"}).bytes() ==
        wire({"HELLO", "2", "AUTH", "acme", "p"}) + introduction());
  const std::string bytes{"\r\n\0\xff"sv};
  CHECK(opening({.username = "acme", .password = bytes}).bytes() ==
        wire({"HELLO", "2", "AUTH", "acme", bytes}) + introduction());
}

TEST_CASE("a handshake names the connection and selects the database where that is asked for") {
  CHECK(opening({.client_name = "kpi-service"}).bytes() ==
        wire({"HELLO", "2", "SETNAME", "kpi-service"}) + introduction());
  CHECK(opening({.database = 3}).bytes() == wire({"HELLO", "2"}) + introduction() + wire({"SELECT", "3"}));
  CHECK(opening({.database = UINT32_MAX}).bytes() ==
        wire({"HELLO", "2"}) + introduction() + wire({"SELECT", "4294967295"}));
  CHECK(opening({.username = "acme", .password = "p", .database = 1, .client_name = "n"}).bytes() ==
        wire({"HELLO", "2", "AUTH", "acme", "p", "SETNAME", "n"}) + introduction() + wire({"SELECT", "1"}));
}

TEST_CASE("a handshake is complete when everything was answered") {
  handshake plain = opening({});
  CHECK_FALSE(plain.complete());
  plain.accept(greeting("standalone"));
  CHECK_FALSE(plain.complete());
  plain.accept(ok());
  CHECK_FALSE(plain.complete());
  plain.accept(ok());
  CHECK(plain.complete());

  CHECK_FALSE(failure({.database = 2}, {greeting("standalone"), ok(), ok(), ok()}));
  CHECK_FALSE(failure({}, {greeting("sentinel"), ok(), ok()}));
}

TEST_CASE("a server that does not know CLIENT SETINFO is accepted") {
  CHECK_FALSE(failure({}, {greeting("standalone"), unknown_subcommand(), unknown_subcommand()}));
  CHECK_FALSE(failure({.database = 2}, {greeting("standalone"), unknown_subcommand(), unknown_subcommand(), ok()}));
  CHECK_FALSE(failure({}, {greeting("standalone"), refusal("NOPERM no"), refusal("NOPERM no")}));
}

TEST_CASE("a wrong password is an authentication failure") {
  const tn::client_options options{.username = "acme", .password = "p"};
  CHECK(code_of(options, {refusal("WRONGPASS invalid username-password pair or user is disabled.")}) == tn::errc::auth);
  CHECK(code_of(options, {refusal("ERR AUTH <password> called without any password configured for the default user. "
                                  "Are you sure your configuration is correct?")}) == tn::errc::auth);
  CHECK(code_of({}, {refusal("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "
                             "<proto> AUTH <user> <pass> option can be used")}) == tn::errc::auth);
  CHECK(code_of(options, {refusal("NOPERM User acme has no permissions to run the 'hello' command")}) ==
        tn::errc::auth);
}

TEST_CASE("an authentication failure is not worth a repetition and shows the server's words") {
  const auto refused = failure({.password = "p"}, {refusal("WRONGPASS invalid username-password pair")});
  REQUIRE(refused);
  CHECK_FALSE(refused->retryable());
  CHECK(std::string_view{refused->what()}.find("WRONGPASS invalid") != std::string_view::npos);
}

TEST_CASE("a server that is not ready can be tried again") {
  for (const auto words : {"LOADING Redis is loading the dataset in memory"sv, "ERR max number of clients reached"sv}) {
    const auto refused = failure({}, {refusal(words)});
    REQUIRE(refused);
    CHECK((refused->code() == tn::errc::unreachable || refused->code() == tn::errc::not_ready));
    CHECK(refused->retryable());
  }
}

TEST_CASE("a server in cluster mode is refused") {
  CHECK(code_of({}, {greeting("cluster")}) == tn::errc::unsupported);
  const auto refused = failure({}, {greeting("cluster")});
  REQUIRE(refused);
  CHECK_FALSE(refused->retryable());
}

TEST_CASE("the mode is read by its name, not by its place or a value that looks like it") {
  auto short_greeting = tn::reply::make_array(4);
  short_greeting.element(0) = text("mode");
  short_greeting.element(1) = text("cluster");
  short_greeting.element(2) = text("server");
  short_greeting.element(3) = text("valkey");
  CHECK(code_of({}, {short_greeting}) == tn::errc::unsupported);

  auto misleading = tn::reply::make_array(4);
  misleading.element(0) = text("server");
  misleading.element(1) = text("mode");
  misleading.element(2) = text("cluster");
  misleading.element(3) = text("cluster");
  CHECK_FALSE(failure({}, {misleading, ok(), ok()}));

  auto odd = tn::reply::make_array(1);
  odd.element(0) = text("mode");
  CHECK_FALSE(failure({}, {odd, ok(), ok()}));
}

TEST_CASE("a database that does not exist ends the handshake") {
  const auto refused =
      failure({.database = 99}, {greeting("standalone"), ok(), ok(), refusal("ERR DB index is out of range")});
  REQUIRE(refused);
  CHECK(std::string_view{refused->what()}.find("DB index is out of range") != std::string_view::npos);
}

TEST_CASE("a server that repeats the words of HELLO does not bring the password into a message") {
  // Redis before 6.0, and some proxies, repeat the arguments of a command they do not know.
  const tn::client_options options{.username = "acme", .password = "s3cr3t-p4ssw0rd"};
  const auto refused =
      failure(options, {refusal("ERR unknown command `HELLO`, with args beginning with: `2`, `AUTH`, `acme`, "
                                "`s3cr3t-p4ssw0rd`, ")});
  REQUIRE(refused);
  CHECK(std::string_view{refused->what()}.find("s3cr3t") == std::string_view::npos);
}

TEST_CASE("a server that does not know HELLO is not mistaken for a wrong password") {
  const tn::client_options options{.username = "acme", .password = "p"};
  CHECK(code_of(options,
                {refusal("ERR unknown command `HELLO`, with args beginning with: `2`, `AUTH`, `acme`, `p`, ")}) !=
        tn::errc::auth);
}
