#include "engine/options.hpp"

#include <tenantry/client.hpp>
#include <tenantry/error.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <support/random_bytes.hpp>
#include <utility>
#include <vector>

namespace tn = tenantry;
using namespace std::chrono_literals;
using namespace std::string_view_literals;
using tn::client_options;

namespace {

constexpr std::string_view secret = "s3cr3t-p4ssw0rd";

/// True when the text shows the password, or half of it.
bool shows_secret(std::string_view text) {
  return text.find("s3cr3t") != std::string_view::npos || text.find("p4ssw0rd") != std::string_view::npos;
}

/// The message of the refusal; fails the test where the URL is accepted.
std::string refusal(std::string_view url) {
  try {
    (void)client_options::from_url(url);
  } catch (const tn::invalid_option& refused) {
    CHECK(refused.code() == tn::errc::invalid_option);
    CHECK(refused.execution() == tn::execution::not_sent);
    return refused.what();
  }
  FAIL_CHECK("accepted");
  return {};
}

/// The message with which a client of these options is refused.
std::string refusal(client_options options) {
  try {
    const tn::client redis{std::move(options)};
  } catch (const tn::invalid_option& refused) {
    CHECK(refused.execution() == tn::execution::not_sent);
    return refused.what();
  }
  FAIL_CHECK("accepted");
  return {};
}

bool accepted(client_options options) {
  try {
    const tn::client redis{std::move(options)};
    return true;
  } catch (const tn::invalid_option&) {
    return false;
  }
}

bool names(std::string_view message, std::string_view part) { return message.find(part) != std::string_view::npos; }

}  // namespace

TEST_CASE("everything that a URL does not name has its default") {
  const auto out = client_options::from_url("redis://example.org");
  const client_options usual;
  CHECK(out.host == "example.org");
  CHECK(out.port == 6379);
  CHECK(out.unix_socket.empty());
  CHECK(out.username.empty());
  CHECK(out.password.empty());
  CHECK(out.database == 0);
  CHECK(out.client_name.empty());
  CHECK(out.timeout == usual.timeout);
  CHECK(out.connect_timeout == usual.connect_timeout);
  CHECK(out.limits.bytes == usual.limits.bytes);
  CHECK(out.limits.depth == 8);
}

TEST_CASE("a URL names the host and the port") {
  struct place {
    std::string_view url, host;
    std::uint16_t port;
  };
  for (const auto& [url, host, port] :
       std::vector<place>{{"redis://localhost", "localhost", 6379},
                          {"redis://localhost/", "localhost", 6379},
                          {"redis://localhost:1", "localhost", 1},
                          {"redis://localhost:65535/", "localhost", 65535},
                          {"redis://127.0.0.1:7000", "127.0.0.1", 7000},
                          {"redis://[::1]", "::1", 6379},
                          {"redis://[::1]:7000", "::1", 7000},
                          {"redis://[2001:db8::7]:7000/2", "2001:db8::7", 7000},
                          {"redis://u:p@[::1]:7000", "::1", 7000},
                          {"redis://[::1]/", "::1", 6379},
                          {"redis://redis.internal:6380?timeout=1s", "redis.internal", 6380},
                          {"redis://my%2Dredis", "my-redis", 6379}}) {
    CAPTURE(url);
    const auto out = client_options::from_url(url);
    CHECK(out.host == host);
    CHECK(out.port == port);
    CHECK(out.unix_socket.empty());
  }
}

TEST_CASE("a URL names the user and the password") {
  struct credentials {
    std::string_view url, user, password, host;
  };
  for (const auto& [url, user, password, host] :
       std::vector<credentials>{{"redis://acme:pw@h", "acme", "pw", "h"},
                                {"redis://:pw@h", "", "pw", "h"},
                                {"redis://:@h", "", "", "h"},
                                {"redis://acme:p%40ss%2Fw%3Fr%23d%25@h:1/2", "acme", "p@ss/w?r#d%", "h"},
                                {"redis://a%3Ab:c@h", "a:b", "c", "h"},
                                {"redis://a%40b:c@h", "a@b", "c", "h"},
                                {"redis://u:a:b:c@h", "u", "a:b:c", "h"},
                                {"redis://u:a@b@h", "u", "a@b", "h"},
                                {"redis://u:%00%ff%0d%0A@h", "u", "\0\xff\r\n"sv, "h"},
                                {"redis://u:p+w@h", "u", "p+w", "h"},
                                {"redis://u:p%20w@h", "u", "p w", "h"},
                                {"redis://u:%aF@h", "u", "\xaf", "h"}}) {
    CAPTURE(url);
    const auto out = client_options::from_url(url);
    CHECK(out.username == user);
    CHECK(out.password == password);
    CHECK(out.host == host);
  }
}

TEST_CASE("a URL names the database") {
  CHECK(client_options::from_url("redis://h/").database == 0);
  CHECK(client_options::from_url("redis://h/0").database == 0);
  CHECK(client_options::from_url("redis://h/15").database == 15);
  CHECK(client_options::from_url("redis://h:1/4294967295").database == 4294967295U);
  CHECK(client_options::from_url("redis://h/7?timeout=1s").database == 7);
  CHECK(client_options::from_url("unix:///s?db=3").database == 3);
  CHECK(client_options::from_url("redis://h?db=3").database == 3);
}

TEST_CASE("a URL names a Unix socket") {
  const auto plain = client_options::from_url("unix:///run/redis/redis.sock");
  CHECK(plain.unix_socket == "/run/redis/redis.sock");
  CHECK(plain.database == 0);
  CHECK(plain.password.empty());

  const auto full =
      client_options::from_url("unix://acme:p%40w@/run/redis%20a/s.sock?db=2&client_name=kpi&timeout=50ms");
  CHECK(full.unix_socket == "/run/redis a/s.sock");
  CHECK(full.username == "acme");
  CHECK(full.password == "p@w");
  CHECK(full.database == 2);
  CHECK(full.client_name == "kpi");
  CHECK(full.timeout == 50ms);

  CHECK(client_options::from_url("unix://:pw@/s").password == "pw");
  CHECK(client_options::from_url("unix:///run/a@b:c/s").unix_socket == "/run/a@b:c/s");
  CHECK(client_options::from_url("unix:///run/%3f%23").unix_socket == "/run/?#");
}

TEST_CASE("the parameters of a URL are read") {
  const auto all = client_options::from_url("redis://h/1?client_name=kpi%2Dservice&timeout=250ms&connect_timeout=3s");
  CHECK(all.client_name == "kpi-service");
  CHECK(all.timeout == 250ms);
  CHECK(all.connect_timeout == 3s);
  CHECK(client_options::from_url("redis://h?timeout=2min").timeout == 2min);
  CHECK(client_options::from_url("redis://h/?timeout=1s").timeout == 1s);
  CHECK(client_options::from_url("redis://h?timeout=4294967295min").timeout == std::chrono::minutes{4294967295});
  CHECK(client_options::from_url("redis://h?").timeout == 1s);
}

TEST_CASE("a URL that cannot be understood is refused, and the message names the part") {
  struct bad {
    std::string_view url, part;
  };
  for (const auto& [url, part] : std::vector<bad>{{"", "scheme"},
                                                  {"localhost", "scheme"},
                                                  {"localhost:6379", "scheme"},
                                                  {"redis:/h", "scheme"},
                                                  {"://h", "scheme"},
                                                  {"http://h", "scheme"},
                                                  {"redis-sentinel://h", "scheme"},
                                                  {"redis://", "host"},
                                                  {"redis:///0", "host"},
                                                  {"redis://:6379", "host"},
                                                  {"redis://u:p@", "host"},
                                                  {"redis://u:p@:6379", "host"},
                                                  {"redis://[]", "host"},
                                                  {"redis://[::1", "host"},
                                                  {"redis://[::1]x", "host"},
                                                  {"redis://::1", "host"},
                                                  {"redis://::1:6379", "host"},
                                                  {"redis://h:", "port"},
                                                  {"redis://[::1]:", "port"},
                                                  {"redis://h:x", "port"},
                                                  {"redis://h:-1", "port"},
                                                  {"redis://h:+1", "port"},
                                                  {"redis://h:65536", "port"},
                                                  {"redis://h: 1", "port"},
                                                  {"redis://h:6379x", "port"},
                                                  {"redis://u@h", "user"},
                                                  {"redis://@h", "user"},
                                                  {"redis://u%4:p@h", "user"},
                                                  {"redis://u:p%@h", "password"},
                                                  {"redis://u:p%4@h", "password"},
                                                  {"redis://u:p%zz@h", "password"},
                                                  {"redis://u:p%4g@h", "password"},
                                                  {"redis://h%2", "host"},
                                                  {"redis://h/x", "database"},
                                                  {"redis://h/-1", "database"},
                                                  {"redis://h/1/2", "database"},
                                                  {"redis://h/4294967296", "database"},
                                                  {"redis://h/0x1", "database"},
                                                  {"redis://h#0", "fragment"},
                                                  {"redis://h/0#", "fragment"},
                                                  {"redis://h?tiemout=1s", "tiemout"},
                                                  {"redis://h?Timeout=1s", "Timeout"},
                                                  {"redis://h?password=x", "password"},
                                                  {"redis://h?timeout", "parameter"},
                                                  {"redis://h?&timeout=1s", "parameter"},
                                                  {"redis://h?timeout=", "timeout"},
                                                  {"redis://h?timeout=5", "timeout"},
                                                  {"redis://h?timeout=s", "timeout"},
                                                  {"redis://h?timeout=-1s", "timeout"},
                                                  {"redis://h?timeout=1.5s", "timeout"},
                                                  {"redis://h?timeout=1h", "timeout"},
                                                  {"redis://h?timeout=1ss", "timeout"},
                                                  {"redis://h?timeout=1s&timeout=x", "timeout"},
                                                  {"redis://h?timeout=4294967296s", "timeout"},
                                                  {"redis://h?connect_timeout=5", "connect_timeout"},
                                                  {"redis://h?db=x", "db"},
                                                  {"redis://h?db=", "db"},
                                                  {"redis://h?client_name=%", "client_name"},
                                                  {"unix://", "path"},
                                                  {"unix:///", "path"},
                                                  {"unix://run/s.sock", "path"},
                                                  {"unix://u:p@run/s.sock", "path"},
                                                  {"unix:///s%2", "path"},
                                                  {"unix:///s?db=-1", "db"}}) {
    CAPTURE(url, part);
    CHECK(names(refusal(url), part));
  }
}

TEST_CASE("a client can be made of a good URL and not of a bad one") {
  CHECK_NOTHROW(tn::client{"redis://localhost:6379/0"});
  CHECK_THROWS_AS(tn::client{"redis://localhost:0"}, tn::invalid_option);
  CHECK_THROWS_AS(tn::client{"redis://localhost?timeout=0ms"}, tn::invalid_option);
  CHECK_THROWS_AS(tn::client{"redis://localhost?client_name=a%20b"}, tn::invalid_option);
  CHECK_THROWS_AS(tn::client{"redis://user:@localhost"}, tn::invalid_option);
}

TEST_CASE("options that a server or the system cannot take are refused by name") {
  CHECK(accepted({}));
  CHECK(names(refusal({.host = ""}), "host"));
  CHECK(names(refusal({.port = 0}), "port"));
  CHECK(accepted({.host = "", .port = 0, .unix_socket = "/run/redis.sock"}));
  CHECK(accepted({.unix_socket = "/" + std::string(106, 's')}));
  CHECK(names(refusal({.unix_socket = "/" + std::string(107, 's')}), "unix_socket"));
  CHECK(names(refusal({.timeout = 0ms}), "timeout"));
  CHECK(names(refusal({.timeout = -1ms}), "timeout"));
  CHECK(names(refusal({.timeout = std::chrono::milliseconds::min()}), "timeout"));
  CHECK(accepted({.timeout = 1ms, .connect_timeout = 1ms}));
  CHECK(accepted({.timeout = tn::no_timeout, .connect_timeout = tn::no_timeout}));
  CHECK(names(refusal({.connect_timeout = 0ms}), "connect_timeout"));
  CHECK(names(refusal({.username = "acme"}), "username"));
  CHECK(accepted({.username = "acme", .password = "p"}));
  CHECK(accepted({.password = std::string(16384, 'p')}));
  CHECK(names(refusal({.password = std::string(16385, 'p')}), "password"));
  for (const std::string name : {"a b", " ", "a\n", "a\r", "\x7f", "\xc3\xa4", "a\tb"}) {
    CHECK(names(refusal({.client_name = name}), "client_name"));
  }
  CHECK(accepted({.client_name = "!kpi-service~"}));
  CHECK(names(refusal({.limits = {.depth = 0}}), "depth"));
  CHECK(names(refusal({.limits = {.depth = 9}}), "depth"));
  CHECK(accepted({.limits = {.depth = 1}}));
  CHECK(names(refusal({.limits = {.bytes = 0}}), "limits.bytes"));
  CHECK(names(refusal({.limits = {.elements = 0}}), "limits.elements"));
  CHECK(names(refusal({.limits = {.line = 0}}), "limits.line"));
}

TEST_CASE("a host or path that holds a NUL is refused, because the system would read only what is before it") {
  CHECK_FALSE(accepted({.host = std::string{"trusted\0.example"sv}}));
  CHECK_FALSE(accepted({.unix_socket = std::string{"/run/a\0b"sv}}));
  CHECK_THROWS_AS(tn::client{"redis://trusted%00.example"}, tn::invalid_option);
}

TEST_CASE("the address in messages is without credentials") {
  CHECK(tn::detail::endpoint(client_options::from_url("redis://u:s3cr3t-p4ssw0rd@h:7000/2")) == "redis://h:7000");
  CHECK(tn::detail::endpoint(client_options::from_url("redis://u:s3cr3t-p4ssw0rd@[::1]:7000")) == "redis://[::1]:7000");
  CHECK(tn::detail::endpoint(client_options::from_url("unix://u:s3cr3t-p4ssw0rd@/run/s")) == "unix:///run/s");
}

TEST_CASE("a password that was not encoded does not come into the message") {
  for (const std::string_view url :
       {"redis://us?er:s3cr3t-p4ssw0rd@h/0?timeout=1s"sv, "redis://u:1?s3cr3t-p4ssw0rd=x@h"sv,
        "redis://u:s3cr3t/p4ssw0rd@h"sv, "redis://u:s3cr3t#p4ssw0rd@h"sv, "redis://u:s3cr3t?p4ssw0rd@h"sv,
        "redis://u:s3cr3t%p4ssw0rd@h"sv, "redis://s3cr3t-p4ssw0rd@h"sv, "redis://u:1/0?s3cr3t-p4ssw0rd@h?timeout=1s"sv,
        "u:s3cr3t-p4ssw0rd@h"sv, "s3cr3t-p4ssw0rd://h"sv, "redis:u:s3cr3t-p4ssw0rd@h://"sv,
        "redis://h?password=s3cr3t-p4ssw0rd"sv, "redis://h?s3cr3t-p4ssw0rd"sv}) {
    CAPTURE(url);
    CHECK_FALSE(shows_secret(refusal(url)));
  }
}

TEST_CASE("no damaged URL brings the password into a message") {
  support::random_bytes random;
  constexpr std::string_view marks = ":/?#@[]%&= 0a\r\n";
  const std::vector<std::string> urls{
      "redis://acme:" + std::string{secret} + "@localhost:6379/0?client_name=kpi&timeout=250ms",
      "redis://:" + std::string{secret} + "@localhost",
      "redis://acme:" + std::string{secret} + "@[::1]:6379/15?connect_timeout=2s",
      "unix://acme:" + std::string{secret} + "@/run/redis.sock?db=1&timeout=1s",
      "rediss://acme:" + std::string{secret} + "@localhost:6379"};
  std::size_t refusals = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string url = urls[random.below(urls.size())];
    for (std::size_t n = 1 + random.below(4); n > 0; --n) {
      const std::size_t at = random.below(url.size());
      switch (random.below(4)) {
        case 0:
          url[at] = marks[random.below(marks.size())];
          break;
        case 1:
          url.erase(at, 1 + random.below(4));
          break;
        case 2:
          url.insert(at, random.text_of(marks, 1 + random.below(3)));
          break;
        default:
          url.insert(at, 1, marks[random.below(marks.size())]);
          break;
      }
      if (url.empty()) url = ":";
    }
    try {
      const tn::client redis{client_options::from_url(url)};
    } catch (const tn::invalid_option& refused) {
      ++refusals;
      CAPTURE(url, refused.what());
      REQUIRE_FALSE(shows_secret(refused.what()));
    }
  }
  CHECK(refusals > 1000);
}
