// The steps of a sweep, one after the other, with the replies of a server that says what the test wants.

#include "support/errors.hpp"
#include "sweeping.hpp"

#include <tenantry/error.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <string>
#include <vector>

using namespace sweeping;
using support::names_of;

namespace {

std::string glob_of(sweep_machine machine) { return words_of(machine.next().at(2)).at(3); }

}  // namespace

TEST_CASE("a sweep asks how many keys there are, and scans from cursor 0 to cursor 0") {
  fake_server server{{{"7"}, {"12"}, {"0"}}};
  sweep_machine machine{keys, acme, {}};
  CHECK(names_of(machine.next()) == "DBSIZE TIME SCAN TIME");
  step(machine, server);
  CHECK(names_of(machine.next()) == "TIME SCAN TIME");
  const auto report = finish(machine, server);
  CHECK(report == tn::sweep_report{.total = 1000, .scanned = 1000, .complete = true});
  CHECK(server.all("SCAN") == std::vector<words>{{"0", "MATCH", "*acme[:}]*", "COUNT", "100"},
                                                 {"7", "MATCH", "*acme[:}]*", "COUNT", "200"},
                                                 {"12", "MATCH", "*acme[:}]*", "COUNT", "400"}});
}

TEST_CASE("what a page has is deleted together with the scan of the next page, and that of the last one after it") {
  fake_server server{
      {{"7", {"kpi:acme:portfolio", "{kpi:acme:portfolio}#lease"}}, {"9"}, {"0", {"unit:acme:state:u"}}}};
  sweep_machine machine{keys, acme, {}};
  step(machine, server);
  CHECK(names_of(machine.next()) == "TIME UNLINK TIME SCAN TIME");
  step(machine, server);
  CHECK(machine.report().deleted == 2);
  step(machine, server);
  CHECK_FALSE(machine.ended());
  CHECK(machine.report().scanned == 1000);
  CHECK(names_of(machine.next()) == "TIME UNLINK TIME");
  const auto report = finish(machine, server);
  CHECK(report.matched == 3);
  CHECK(report.deleted == 3);
  CHECK(report.complete);
  CHECK(server.all("UNLINK") ==
        std::vector<words>{{"kpi:acme:portfolio", "{kpi:acme:portfolio}#lease"}, {"unit:acme:state:u"}});
}

TEST_CASE("pages without a key of the tenant do not end a sweep, and nothing is deleted for them") {
  fake_server server{{{"5"}, {"3", {"kpi:acme2:portfolio"}}, {"9"}, {"1", {"kpi:acme:portfolio"}}, {"0"}}};
  sweep_machine machine{keys, acme, {}};
  CHECK(finish(machine, server).deleted == 1);
  CHECK(server.all("SCAN").size() == 5);
  CHECK(server.all("UNLINK") == std::vector<words>{{"kpi:acme:portfolio"}});
}

TEST_CASE(
    "of what the server names, a sweep deletes keys of the catalog, of exactly that tenant, and their companions") {
  struct row {
    std::string name;
    bool of_tenant;
    bool of_pattern = false;  // unit:acme:state:*
  };
  const std::vector<row> table{
      {"kpi:acme:portfolio", true},
      {"unit:acme:state:u-1", true, true},
      {"unit:acme:state:acme2", true, true},
      {"health:{acme}:gateway:g", true},
      {"{kpi:acme:portfolio}#lease", true},
      {"{unit:acme:state:u}#lease", true, true},
      {"{unit:acme:state:u}#another:companion#of it", true, true},
      {"health:{acme}:gateway:g#lease", true},
      // Another tenant, also where something is called acme there.
      {"kpi:acme2:portfolio", false},
      {"kpi:xacme:portfolio", false},
      {"kpi:a.me:portfolio", false},
      {"kpi:ACME:portfolio", false},
      {"unit:acme2:state:acme", false},
      {"unit:globex:state:acme%3Ax", false},
      {"unit:acme:acme:u", false},
      {"{unit:acme2:state:acme}#lease", false},
      {"health:{globex}:gateway:acme", false},
      {"health:{globex}:gateway:g#acme", false},
      {"acme:acme2:portfolio", false},
      // What a schema of the catalog would not have rendered.
      {"kpi:{acme}:portfolio", false},
      {"health:acme:gateway:g", false},
      {"unit:acme:state:", false},
      {"unit:acme:state:a:b", false},
      {"unit:acme:state:%3a", false},
      {"unit:acme:state:*", false},
      {"xkpi:acme:portfolio", false},
      {" kpi:acme:portfolio", false},
      {"kpi:acme:portfolio ", false},
      {"kpi:acme:portfolio:x", false},
      {"flag:acme", false},
      {"pdf:acme:settlement:s", false},
      // What no key is called as a companion.
      {"kpi:acme:portfolio#lease", false},
      {"{health:{acme}:gateway:g}#lease", false},
      {"{kpi:acme:portfolio}", false},
      {"{kpi:acme:portfolio}lease", false},
      {"{{kpi:acme:portfolio}}#lease", false},
      {"{pdf:acme:settlement:s}#lease", false},
      // What the library keeps itself.
      {"stamp:{acme}", false},
      {"stamp:{acme}:tag:property%3A42", false},
      {"log:{acme}:alarms", false},
      {"ratelimit:{acme}:/api/kpi#log", false},
      {"permits:{acme}:pdf", false},
  };
  words names;
  words of_tenant;
  words of_pattern;
  for (const row& each : table) {
    names.push_back(each.name);
    if (each.of_tenant) of_tenant.push_back(each.name);
    if (each.of_pattern) of_pattern.push_back(each.name);
  }
  fake_server server{{{"0", names}}};
  sweep_machine machine{keys, acme, {}};
  CHECK(finish(machine, server).matched == of_tenant.size());
  CHECK(server.all("UNLINK") == std::vector<words>{of_tenant});

  fake_server again{{{"0", names}}};
  sweep_machine narrower{keys, unit_state.all(acme), {}};
  CHECK(finish(narrower, again).matched == of_pattern.size());
  CHECK(again.all("UNLINK") == std::vector<words>{of_pattern});
}

TEST_CASE("the glob lets through whatever may be of the tenant or the pattern, and little else") {
  CHECK(glob_of({keys, acme, {}}) == "*acme[:}]*");
  CHECK(glob_of({tn::catalog{portfolio, flag}, acme, {}}) == "*acme*");  // flag:acme has nothing after it
  CHECK(glob_of({keys, unit_state.all(acme), {}}) == "*unit:acme:state:*");
  CHECK(glob_of({keys, unit_state.all(acme, "u*"), {}}) == "*unit:acme:state:u%2A*");
  CHECK(glob_of({keys, portfolio.all(acme), {}}) == "*kpi:acme:portfolio*");
  CHECK(glob_of({keys, health.all(acme), {}}) == "*health:{acme}:gateway:*");
}

TEST_CASE("a dry run counts and deletes nothing") {
  fake_server server{pages(3, {"kpi:acme:portfolio", "kpi:acme2:portfolio"})};
  sweep_machine machine{keys, acme, {.action = tn::sweep_action::count}};
  const auto report = finish(machine, server);
  CHECK(report.matched == 3);
  CHECK(report.deleted == 0);
  CHECK(server.all("UNLINK").empty());
  CHECK(server.all("SCAN").size() == 3);
}

TEST_CASE("bytes are asked for each key found, before it is deleted, and a key that is gone has none") {
  fake_server server{{{"1", {"kpi:acme:portfolio", "unit:acme:state:u"}}, {"0", {"unit:acme:state:v"}}}};
  server.used = {{"kpi:acme:portfolio", 100}, {"unit:acme:state:v", 30}};
  sweep_machine machine{keys, acme, {.bytes = tn::sweep_bytes::measured}};
  step(machine, server);
  CHECK(machine.report().bytes == 0);
  CHECK(names_of(machine.next()) == "MEMORY MEMORY TIME UNLINK TIME SCAN TIME");
  const auto report = finish(machine, server);
  CHECK(report.bytes == 130);
  CHECK(report.deleted == 3);
}

TEST_CASE("a dry run with bytes asks for those of the last page too") {
  fake_server server{{{"0", {"kpi:acme:portfolio"}}}};
  server.used = {{"kpi:acme:portfolio", 100}};
  sweep_machine machine{keys, acme, {.action = tn::sweep_action::count, .bytes = tn::sweep_bytes::measured}};
  const auto report = finish(machine, server);
  CHECK(report.bytes == 100);
  CHECK(report.deleted == 0);
  CHECK(server.all("UNLINK").empty());
}

TEST_CASE("a key that the server names twice counts as found twice and as deleted once") {
  fake_server server{{{"1", {"kpi:acme:portfolio"}}, {"0", {"kpi:acme:portfolio"}}}};
  sweep_machine machine{keys, acme, {}};
  step(machine, server);
  step(machine, server);
  auto gone = server.answer(machine.next());
  gone.at(1) = tn::reply::make_integer(0);
  machine.on(gone);
  CHECK(machine.report().matched == 2);
  CHECK(machine.report().deleted == 1);
  CHECK(machine.ended());
}

TEST_CASE("what was scanned grows by page, never beyond what there is, and is all of it at the end") {
  fake_server server{pages(4), 250};
  sweep_machine machine{keys, acme, {}};
  std::vector<std::uint64_t> scanned;
  while (!machine.ended()) {
    step(machine, server);
    scanned.push_back(machine.report().scanned);
  }
  CHECK(scanned == std::vector<std::uint64_t>{100, 250, 250, 250});
  CHECK(machine.report().total == 250);

  fake_server small{pages(1), 5'000'000};  // whatever was asked for
  sweep_machine other{keys, acme, {}};
  CHECK(finish(other, small).scanned == 5'000'000);
}

TEST_CASE("an error reply ends a sweep with the server's words and the command it refused") {
  for (const std::string command : {"DBSIZE", "TIME", "SCAN", "UNLINK", "MEMORY"}) {
    CAPTURE(command);
    fake_server server{pages(2, {"kpi:acme:portfolio"})};
    server.refuses = command;
    sweep_machine machine{keys, acme, {.bytes = tn::sweep_bytes::measured}};
    const auto failure = support::failure_of([&] { finish(machine, server); });
    CHECK(failure.code == tn::errc::no_permission);
    CHECK(failure.text.find(command) != std::string::npos);
    CHECK(failure.text.find("NOPERM not you") != std::string::npos);
  }
}

TEST_CASE("a reply of another type ends a sweep") {
  sweep_machine machine{keys, acme, {}};
  (void)machine.next();
  const std::vector<tn::reply> wrong{tn::reply::make_integer(9), tn::reply::make_integer(9), tn::reply::make_integer(9),
                                     tn::reply::make_integer(9)};
  CHECK(support::failure_of([&] { machine.on(wrong); }).code == tn::errc::unexpected_reply);
}

TEST_CASE("a budget of 0 and a pattern of another catalog are refused") {
  const auto budget = support::failure_of([] { sweep_machine{keys, acme, {.keys_per_second = 0}}; });
  CHECK(budget.code == tn::errc::invalid_option);
  CHECK(budget.text.find("keys_per_second") != std::string::npos);
  const auto pattern = support::failure_of([] { sweep_machine{keys, flag.all(acme), {}}; });
  CHECK(pattern.code == tn::errc::invalid_option);
  CHECK(pattern.text.find("flag:acme") != std::string::npos);
}
