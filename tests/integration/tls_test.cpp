// A client that speaks TLS, against a real server.

#include "engine/connect.hpp"
#include "support/certificates.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/redis_probe.hpp"
#include "support/scripted_server.hpp"

#include <tenantry/client.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using support::authority;
using support::failure_of;
using support::identity;
using testing::redis_server;

std::uint16_t free_port() {
  const net::descriptor fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in name = support::loopback(0);
  socklen_t size = sizeof name;
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&name), size) != 0 ||
      ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&name), &size) != 0) {
    throw std::runtime_error{"no free port"};
  }
  return ntohs(name.sin_port);
}

/// A server whose only TCP port speaks TLS.
redis_server tls_redis(const authority& trusted, const identity& own, const std::vector<std::string>& more = {}) {
  for (int tries = 0;; ++tries) {
    const std::uint16_t port = free_port();
    std::vector<std::string> arguments{"--port",
                                       "0",
                                       "--tls-port",
                                       std::to_string(port),
                                       "--tls-cert-file",
                                       own.certificate_file,
                                       "--tls-key-file",
                                       own.key_file,
                                       "--tls-ca-cert-file",
                                       trusted.file()};
    if (std::ranges::find(more, "--tls-auth-clients") == more.end()) {
      arguments.insert(arguments.end(), {"--tls-auth-clients", "no"});
    }
    arguments.insert(arguments.end(), more.begin(), more.end());
    try {
      return redis_server{{.arguments = arguments, .port = port}};
    } catch (const std::runtime_error&) {  // somebody else took the port meanwhile
      if (tries == 4) throw;
    }
  }
}

client_options trusting(const authority& trusted, const redis_server& server, std::string host = "localhost") {
  client_options options{.host = std::move(host), .port = server.port()};
  options.tls = tls_options{.ca_file = trusted.file()};
  options.timeout = 20s;
  options.connect_timeout = 20s;
  return options;
}

bool says(const std::string& text, std::string_view words) { return text.find(words) != std::string::npos; }

support::caught refusal_of(client_options options) {
  options.down = tenantry::when_down::fail;  // with the first attempt
  client redis{std::move(options)};
  return failure_of([&] { redis.execute("PING"); });
}

}  // namespace

TEST_CASE("a rediss URL encrypts, and trusts the authorities of its file") {
  support::need_redis();
  authority trusted;
  const redis_server server = tls_redis(trusted, trusted.issue("server", {}));
  client redis{"rediss://localhost:" + std::to_string(server.port()) + "/3?timeout=20s&ssl_ca_certs=" + trusted.file()};
  redis.execute("SET", "k", "v");
  CHECK(redis.execute("GET", "k").str() == "v");
  CHECK(says(redis.execute("CLIENT", "INFO").str(), " db=3 "));
}

TEST_CASE("authorities may stand in a directory") {
  support::need_redis();
  authority trusted;
  const redis_server server = tls_redis(trusted, trusted.issue("server", {}));
  client_options options = trusting(trusted, server);
  options.tls = tls_options{.ca_directory = trusted.directory()};
  CHECK(refusal_of(options).code == errc::auth);  // not prepared yet
  trusted.prepare_directory();
  client redis{options};
  CHECK(redis.execute("PING").str() == "PONG");
}

TEST_CASE("a certificate is refused when it is expired, not yet valid, for another host or of an unknown authority") {
  support::need_redis();
  authority trusted;
  authority unknown;
  struct refused {
    identity own;
    std::string host, words;
  };
  const std::vector<refused> all{
      {trusted.issue("expired", {.valid_from = -7200, .valid_until = -3600}), "localhost", "certificate has expired"},
      {trusted.issue("early", {.valid_from = 3600}), "localhost", "certificate is not yet valid"},
      {trusted.issue("other", {.names = {"DNS:redis.example"}}), "localhost", "ostname mismatch"},
      {trusted.issue("common", {.names = {}, .common_name = "localhost"}), "localhost", "ostname mismatch"},
      {trusted.issue("name_only", {}), "127.0.0.1", "IP address mismatch"},
      {trusted.issue("other_ip", {.names = {"IP:127.0.0.2"}}), "127.0.0.1", "IP address mismatch"},
      {trusted.issue("ip_as_name", {.names = {"DNS:127.0.0.1"}}), "127.0.0.1", "IP address mismatch"},
      {unknown.issue("unknown", {}), "localhost", "unable to get local issuer certificate"}};
  for (const auto& [own, host, words] : all) {
    CAPTURE(own.certificate_file, words);
    const redis_server server = tls_redis(trusted, own);
    const auto fault = refusal_of(trusting(trusted, server, host));
    CAPTURE(fault.text);
    CHECK(fault.code == errc::auth);
    CHECK(fault.execution == execution::not_sent);
    CHECK(says(fault.text, words));
    CHECK(says(fault.text, "certificate verify failed"));
    CHECK(says(fault.text, "rediss://" + host + ":" + std::to_string(server.port())));

    client_options careless = trusting(trusted, server, host);
    careless.tls->verify = tls_verify::nothing_insecure;
    client redis{careless};
    CHECK(redis.execute("PING").str() == "PONG");
  }
}

TEST_CASE("a numeric address is verified against the addresses of the certificate, another name when asked to") {
  support::need_redis();
  authority trusted;
  const redis_server server = tls_redis(trusted, trusted.issue("server", {.names = {"IP:127.0.0.1", "DNS:a.example"}}));
  client numeric{trusting(trusted, server, "127.0.0.1")};
  CHECK(numeric.execute("PING").str() == "PONG");
  client_options named = trusting(trusted, server);
  CHECK(refusal_of(named).code == errc::auth);
  named.tls->server_name = "a.example";
  client other{named};
  CHECK(other.execute("PING").str() == "PONG");
}

TEST_CASE("a server that wants a client certificate gets it, and says so when there is none") {
  support::need_redis();
  authority trusted;
  authority unknown;
  const identity own = trusted.issue("client", {.key_passphrase = "s3cr3t"});
  const identity foreign = unknown.issue("client", {});
  const identity ours = trusted.issue("server", {});
  for (const std::string protocol : {"TLSv1.2", "TLSv1.3"}) {
    CAPTURE(protocol);
    const redis_server server = tls_redis(trusted, ours, {"--tls-auth-clients", "yes", "--tls-protocols", protocol});
    client_options options = trusting(trusted, server);
    const auto missing = refusal_of(options);
    CAPTURE(missing.text);
    CHECK(missing.execution == execution::not_sent);
    if (protocol == "TLSv1.3") {
      CHECK(missing.code == errc::auth);
      CHECK(says(missing.text, "certificate required"));
      CHECK(says(missing.text, "certificate_file"));
    } else {
      CHECK(says(missing.text, "handshake failure"));
    }

    options.tls->certificate_file = foreign.certificate_file;
    options.tls->key_file = foreign.key_file;
    const auto wrong = refusal_of(options);
    CAPTURE(wrong.text);
    CHECK(wrong.code == errc::auth);
    CHECK(says(wrong.text, "unknown ca"));

    options.tls->certificate_file = own.certificate_file;
    options.tls->key_file = own.key_file;
    options.tls->key_passphrase = "s3cr3t";
    client redis{options};
    CHECK(redis.execute("PING").str() == "PONG");
  }
}

TEST_CASE("a server that only has TLS 1.1 is refused") {
  support::need_redis();
  authority trusted;
  const redis_server server = tls_redis(trusted, trusted.issue("server", {}),
                                        {"--tls-protocols", "TLSv1.1", "--tls-ciphers", "DEFAULT:@SECLEVEL=0"});
  const auto fault = refusal_of(trusting(trusted, server));
  CAPTURE(fault.text);
  CHECK(fault.code == errc::unsupported);
  CHECK(says(fault.text, "version"));
}

TEST_CASE("TLS to a plain port and plain text to a TLS port fail with a hint") {
  support::need_redis();
  authority trusted;
  const redis_server encrypted = tls_redis(trusted, trusted.issue("server", {}));
  const redis_server plain;
  net::resolver names;
  const auto hello = detail::connect(trusting(trusted, plain), names, net::clock::now() + 300ms, {});
  CHECK(hello.how == net::ready::deadline);  // Redis waits for the end of what it takes for a line
  CHECK(says(hello.waited_for, "does it speak TLS"));
  const auto text = refusal_of({.host = "localhost", .port = encrypted.port(), .timeout = 20s, .connect_timeout = 20s});
  CAPTURE(text.text);
  CHECK((says(text.text, "the server speaks TLS") || says(text.text, "use rediss://")));
  CHECK(text.execution == execution::not_sent);

  const support::scripted_server web{[](support::peer& client, int) {
    client.send("HTTP/1.1 400 Bad Request\r\n\r\n");
    client.wait_for_end();
  }};
  client_options options = trusting(trusted, plain);
  options.port = static_cast<std::uint16_t>(std::stoi(web.url().substr(web.url().rfind(':') + 1)));
  const auto http = refusal_of(options);
  CHECK(http.code == errc::protocol);
  CHECK(says(http.text, "does not speak TLS on this port but HTTP"));
}

TEST_CASE("values of 8 MiB pass in both directions, also when many go at once") {
  support::need_redis();
  authority trusted;
  const redis_server server = tls_redis(trusted, trusted.issue("server", {}));
  client_options options = trusting(trusted, server);
  options.timeout = 90s;
  client redis{options};
  std::string large(8U << 20U, '\0');
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * 2654435761U >> 13U);
  redis.execute("SET", "large", large);
  CHECK(redis.execute("GET", "large").str() == large);
  // Requests and replies that are both too large for the kernel: whoever does not read while it writes hangs.
  const std::vector<command> echoes(4, command{"ECHO", large});
  for (const reply& each : redis.execute_all(echoes)) CHECK(each.str() == large);
}

TEST_CASE("threads that write and read at once each get their own replies over TLS") {
  support::need_redis();
  const support::must_end soon{90s};
  authority trusted;
  const redis_server server = tls_redis(trusted, trusted.issue("server", {}));
  client_options options = trusting(trusted, server);
  options.timeout = 80s;
  client redis{options};
  std::atomic<int> wrong = 0;
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < 8; ++t) {
      threads.emplace_back([&, t] {
        for (std::size_t i = 0; i < 60; ++i) {
          const std::string own =
              std::to_string(t) + "/" + std::to_string(i) + std::string(i % 10 == 0 ? 300'000 : i, 'x');
          if (redis.execute("ECHO", own).str() != own) ++wrong;
        }
      });
    }
  }
  CHECK(wrong == 0);
  const std::string list = redis.execute("CLIENT", "LIST").str();
  CHECK(std::ranges::count(list, '\n') == 2);  // large ones take the bulk lane
}

TEST_CASE("a server that is killed ends the call as connection_lost, and the next one finds its successor") {
  support::need_redis();
  authority trusted;
  redis_server server = tls_redis(trusted, trusted.issue("server", {}), {"--busy-reply-threshold", "1"});
  client redis{trusting(trusted, server)};
  redis.execute("PING");
  auto busy = support::on_thread([&] { return failure_of([&] { redis.execute("EVAL", "while true do end", 0); }); });
  sockaddr_un path{};
  path.sun_family = AF_UNIX;
  server.socket_path().copy(path.sun_path, sizeof path.sun_path - 1);
  CHECK(support::eventually([&] { return support::ask(path, "PING").starts_with("-BUSY"); }));
  server.kill();
  const auto fault = busy.get();
  CHECK(fault.code == errc::connection_lost);
  CHECK(fault.execution == execution::unknown);
  server.start();
  CHECK(redis.execute("PING").str() == "PONG");
}

TEST_CASE("a TLS handshake that gets no answer ends at the deadline of the call") {
  authority trusted;
  const support::scripted_server silent{[](support::peer& client, int) { client.wait_for_end(); }};
  client_options options{.host = "127.0.0.1"};
  options.port = static_cast<std::uint16_t>(std::stoi(silent.url().substr(silent.url().rfind(':') + 1)));
  options.tls = tls_options{.ca_file = trusted.file()};
  options.connect_timeout = 60s;
  client redis{options};
  const auto fault = failure_of([&] { redis.with({.timeout = 200ms}).execute("PING"); });
  CHECK(fault.code == errc::timeout);
  CHECK(fault.execution == execution::not_sent);

  options.connect_timeout = 200ms;
  options.timeout = 60s;
  CHECK(refusal_of(options).code == errc::unreachable);
}

TEST_CASE("a key that does not open or does not fit is refused when the client is made, and nobody is asked for it") {
  authority trusted;
  const identity locked = trusted.issue("locked", {.key_passphrase = "s3cr3t"});
  const identity other = trusted.issue("other", {});
  for (const auto& [key, passphrase] : std::vector<std::pair<std::string, std::string>>{
           {locked.key_file, ""}, {locked.key_file, "wr0ng"}, {other.key_file, "s3cr3t"}, {trusted.file(), "s3cr3t"}}) {
    CAPTURE(key, passphrase);
    client_options options;
    options.tls =
        tls_options{.certificate_file = locked.certificate_file, .key_file = key, .key_passphrase = passphrase};
    const auto fault = failure_of([&] { const client redis{options}; });
    CAPTURE(fault.text);
    CHECK(fault.code == errc::invalid_option);
    CHECK(says(fault.text, key));
    CHECK_FALSE(says(fault.text, "no reason given"));
    CHECK_FALSE(says(fault.text, "wr0ng"));
    CHECK_FALSE(says(fault.text, "s3cr3t"));
  }
}

TEST_CASE("certificates that were replaced on disk are used by the next connection, half replaced ones are not") {
  support::need_redis();
  authority trusted;
  redis_server server = tls_redis(trusted, trusted.issue("server", {}), {"--tls-auth-clients", "yes"});
  client_options options = trusting(trusted, server);
  const identity own = trusted.issue("client", {.valid_from = -7200, .valid_until = -3600});  // expired
  options.tls->certificate_file = own.certificate_file;
  options.tls->key_file = own.key_file;
  client redis{options};
  const identity fresh = trusted.issue("fresh", {});
  std::filesystem::rename(fresh.certificate_file, own.certificate_file);
  CHECK(failure_of([&] { redis.execute("PING"); }).code == errc::auth);  // the key is still the old one
  std::filesystem::rename(fresh.key_file, own.key_file);
  // A server that refused the client is left alone for 5 to 10 s.
  CHECK(support::eventually([&] {
    try {
      return redis.execute("PING").str() == "PONG";
    } catch (const tenantry::connection_error&) {
      return false;
    }
  }));
}
