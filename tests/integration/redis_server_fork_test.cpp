// A private server of a program that has forked: what the child inherited does not get in the server's way.

#include "support/private_tmpdir.hpp"
#include "support/processes.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <filesystem>
#include <unistd.h>

TEST_CASE("a killed server starts again while a forked child of the program lives, though it gave late signs of life") {
  support::need_redis();
  const support::private_tmpdir temporary;
  const auto program = temporary.script(
      "(sleep 0.02; echo >&3; : > \"$0.said\") </dev/null >/dev/null 2>&1 &\n"
      "exec \"$(command -v redis-server || command -v valkey-server)\" \"$@\"");
  tenantry::testing::redis_server server{{.program = program}};
  const support::process child{[] { return ::pause(); }};
  for (int round = 0; round < 30; ++round) {
    REQUIRE(support::eventually([&] { return std::filesystem::remove(program.string() + ".said"); }));
    server.kill();
    server.start();
    REQUIRE(support::ask(server, "PING") == "+PONG");
  }
}
