#include "engine/passing.hpp"

#include <tenantry/error.hpp>

#include <catch2/catch_test_macros.hpp>

#include <string_view>

namespace tn = tenantry;
using tn::errc;
using tn::detail::passes_by_itself;

TEST_CASE("what passes by itself is known of each code") {
  struct row {
    errc code;
    bool passes;
  };
  for (const row& each : {
           row{errc::invalid_name, false},     row{errc::invalid_option, false}, row{errc::refused_command, false},
           row{errc::unreachable, true},       row{errc::auth, false},           row{errc::timeout, true},
           row{errc::cancelled, false},        row{errc::closed, false},         row{errc::connection_lost, true},
           row{errc::protocol, false},         row{errc::unsupported, false},    row{errc::server, false},
           row{errc::wrong_type, false},       row{errc::no_permission, false},  row{errc::no_script, false},
           row{errc::not_ready, true},         row{errc::read_only, true},       row{errc::out_of_memory, true},
           row{errc::unexpected_reply, false}, row{errc::encode, false},         row{errc::overloaded, true},
           row{errc::forked, false},           row{errc::recursive_load, false}, row{errc::load_failed, false},
           row{errc::load_timeout, false},
       }) {
    CAPTURE(to_string(each.code));
    CHECK(passes_by_itself(tn::error{each.code, tn::execution::unknown, "why"}) == each.passes);
  }
}

TEST_CASE("what passes by itself is known of what servers say") {
  struct row {
    std::string_view text;
    bool passes;
  };
  for (const row& each : {
           row{"LOADING Redis is loading the dataset in memory", true},
           row{"BUSY Redis is busy running a script.", true},
           row{"MASTERDOWN Link with MASTER is down", true},
           row{"READONLY You can't write against a read only replica.", true},
           row{"OOM command not allowed when used memory > 'maxmemory'.", true},
           row{"NOREPLICAS Not enough good replicas to write.", true},
           row{"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
               true},
           row{"ERR MISCONF is only a word here", false},
           row{"ERR unknown command", false},
           row{"NOPERM this user has no permissions", false},
           row{"WRONGTYPE Operation against a key holding the wrong kind of value", false},
       }) {
    CAPTURE(each.text);
    CHECK(passes_by_itself(tn::server_error{"SET", each.text}) == each.passes);
  }
}
