#include "engine/options.hpp"

#include <tenantry/client.hpp>
#include <tenantry/error.hpp>

#include <catch2/catch_test_macros.hpp>

#include <string>
#include <string_view>
#include <support/errors.hpp>
#include <vector>

namespace tn = tenantry;
using support::failure_of;
using tn::client_options;

namespace {

bool says(const std::string& text, std::string_view words) { return text.find(words) != std::string::npos; }

}  // namespace

TEST_CASE("rediss means TLS that verifies everything, redis means none") {
  CHECK_FALSE(client_options::from_url("redis://h").tls);
  const auto options = client_options::from_url("rediss://u:p@h:6380/2");
  REQUIRE(options.tls);
  CHECK(*options.tls == tn::tls_options{});
  CHECK(options.tls->verify == tn::tls_verify::chain_and_name);
  CHECK(options.port == 6380);
  CHECK(options.database == 2);
  CHECK(tn::detail::endpoint(options) == "rediss://h:6380");
  CHECK(tn::detail::endpoint(client_options::from_url("rediss://[::1]")) == "rediss://[::1]:6379");
}

TEST_CASE("the parameters of a rediss URL fill the options of TLS") {
  const auto options = client_options::from_url(
      "rediss://h?ssl_ca_certs=/a%20b/ca.pem&ssl_ca_path=/cas&ssl_certfile=/c.pem&ssl_keyfile=/k.pem"
      "&tls_server_name=redis.example&ssl_cert_reqs=required");
  CHECK(*options.tls == tn::tls_options{.ca_file = "/a b/ca.pem",
                                        .ca_directory = "/cas",
                                        .certificate_file = "/c.pem",
                                        .key_file = "/k.pem",
                                        .server_name = "redis.example"});
  CHECK(client_options::from_url("rediss://h?tls_verify=nothing_insecure").tls->verify ==
        tn::tls_verify::nothing_insecure);
  CHECK(client_options::from_url("rediss://h?tls_verify=chain_and_name").tls->verify == tn::tls_verify::chain_and_name);
}

TEST_CASE("a URL cannot switch verification off by the way, nor ask a plain connection for TLS") {
  struct bad {
    std::string_view url, words;
  };
  for (const auto& [url, words] : std::vector<bad>{{"rediss://h?ssl_cert_reqs=none", "tls_verify=nothing_insecure"},
                                                   {"rediss://h?ssl_cert_reqs=optional", "ssl_cert_reqs"},
                                                   {"rediss://h?ssl_check_hostname=false", "ssl_check_hostname"},
                                                   {"rediss://h?tls_verify=none", "tls_verify"},
                                                   {"rediss://h?tls_verify=", "tls_verify"},
                                                   {"rediss://h?ssl_ca_certs=", "ssl_ca_certs"},
                                                   {"rediss://h?ssl_certfile=%4", "ssl_certfile"},
                                                   {"redis://h?ssl_ca_certs=/ca.pem", "rediss://"},
                                                   {"redis://h?tls_verify=chain_and_name", "rediss://"},
                                                   {"unix:///s?ssl_ca_path=/cas", "rediss://"}}) {
    CAPTURE(url);
    const auto fault = failure_of([&] { (void)client_options::from_url(url); });
    CHECK(fault.code == tn::errc::invalid_option);
    CHECK(says(fault.text, words));
  }
}

TEST_CASE("options of TLS that cannot work are refused before anything is sent, without the passphrase") {
  struct bad {
    tn::tls_options tls;
    std::string_view words;
  };
  const std::string zero{"a\0b", 3};
  for (const auto& [tls, words] :
       std::vector<bad>{{{.ca_file = "/no/such/ca.pem"}, "/no/such/ca.pem"},
                        {{.ca_file = "/dev/null"}, "ca_file"},
                        {{.ca_directory = "/no/such/directory"}, "ca_directory"},
                        {{.ca_directory = "/dev/null"}, "ca_directory"},
                        {{.certificate_file = "/c.pem"}, "key_file"},
                        {{.key_file = "/k.pem"}, "certificate_file"},
                        {{.certificate_file = "/no/such/c.pem", .key_file = "/k.pem", .key_passphrase = "s3cr3t"},
                         "certificate_file"},
                        {{.server_name = zero}, "zero byte"}}) {
    CAPTURE(words);
    const auto fault = failure_of([&] { const tn::client redis{client_options{.tls = tls}}; });
    CHECK(fault.code == tn::errc::invalid_option);
#ifdef TENANTRY_WITH_TLS
    CHECK(says(fault.text, words));
#endif
    CHECK_FALSE(says(fault.text, "s3cr3t"));
  }
  client_options local = client_options::from_url("unix:///run/redis.sock");
  local.tls.emplace();
  CHECK(says(failure_of([&] { const tn::client redis{local}; }).text, "unix_socket"));
}

#ifdef TENANTRY_WITH_TLS
TEST_CASE("a client with TLS can be made without files of its own") { CHECK_NOTHROW(tn::client{"rediss://localhost"}); }
#else
TEST_CASE("a library that was built without TLS says so") {
  const auto fault = failure_of([] { const tn::client redis{"rediss://localhost"}; });
  CHECK(fault.code == tn::errc::invalid_option);
  CHECK(says(fault.text, "built without TLS"));
}
#endif
