#pragma once
// The other side of a sweep: a server that has what the test says, and a clock that only its commands move.

#include "caching/sweep_machine.hpp"
#include "support/sent_words.hpp"

#include <tenantry/catalog.hpp>
#include <tenantry/key_schema.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/sweep.hpp>
#include <tenantry/tenant.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sweeping {

namespace tn = tenantry;
using namespace std::chrono_literals;
using std::chrono::microseconds;
using support::words_of;
using tn::detail::sweep_machine;
using words = std::vector<std::string>;

inline constexpr tn::key_schema<"kpi:{tenant}:portfolio"> portfolio;
inline constexpr tn::key_schema<"unit:{tenant}:state:{unit}"> unit_state;
inline constexpr tn::key_schema<"flag:{tenant}"> flag;
inline constexpr tn::key_schema<"health:{tenant}:gateway:{gateway}", tn::placement::tenant> health;
inline const tn::tenant_id acme{"acme"};
inline const tn::catalog keys{portfolio, unit_state, health};

inline tn::reply text(std::string_view bytes) { return tn::reply::make_text(tn::reply_type::string, bytes); }

struct page {
  std::string cursor;
  words names = {};
};

/// Answers what a machine sends. It has the pages of one key space, and its clock goes on only by what commands cost.
class fake_server {
 public:
  explicit fake_server(std::vector<page> pages, std::int64_t size = 1000) : pages_{std::move(pages)}, size_{size} {}

  microseconds scan_cost{0};
  microseconds unlink_cost{0};      // of one key
  std::map<std::string, int> used;  // what MEMORY USAGE says of a key
  std::string refuses;              // the name of a command
  std::vector<words> sent;

  std::vector<tn::reply> answer(const std::vector<tn::command>& commands) {
    std::vector<tn::reply> replies;
    for (const tn::command& each : commands) {
      sent.push_back(words_of(each));
      replies.push_back(each.name() == refuses ? tn::reply::make_text(tn::reply_type::error, "NOPERM not you")
                                               : answer(sent.back()));
    }
    return replies;
  }

  /// All that was sent under this name, without the name.
  [[nodiscard]] std::vector<words> all(std::string_view name) const {
    std::vector<words> found;
    for (const words& each : sent) {
      if (each.front() == name) found.emplace_back(each.begin() + 1, each.end());
    }
    return found;
  }
  /// What the SCANs were asked for at a time.
  [[nodiscard]] std::vector<std::size_t> page_sizes() const {
    std::vector<std::size_t> sizes;
    for (const words& each : all("SCAN")) sizes.push_back(std::stoul(each.back()));
    return sizes;
  }

 private:
  tn::reply answer(const words& one) {
    if (one[0] == "TIME") {
      tn::reply time = tn::reply::make_array(2);
      time.element(0) = text(std::to_string(now_ / 1s));
      time.element(1) = text(std::to_string((now_ % 1s).count()));
      return time;
    }
    if (one[0] == "DBSIZE") return tn::reply::make_integer(size_);
    if (one[0] == "UNLINK") {
      now_ += unlink_cost * static_cast<std::int64_t>(one.size() - 1);
      return tn::reply::make_integer(static_cast<std::int64_t>(one.size()) - 1);
    }
    if (one[0] == "MEMORY") {
      const auto found = used.find(one.at(2));
      return found == used.end() ? tn::reply{} : tn::reply::make_integer(found->second);
    }
    REQUIRE(one[0] == "SCAN");
    CHECK(one.at(1) == (next_ == 0 ? "0" : pages_.at(next_ - 1).cursor));
    now_ += scan_cost;
    const page& here = pages_.at(next_++);
    tn::reply reply = tn::reply::make_array(2);
    reply.element(0) = text(here.cursor);
    reply.element(1) = tn::reply::make_array(here.names.size());
    for (std::size_t i = 0; i < here.names.size(); ++i) reply.element(1).element(i) = text(here.names[i]);
    return reply;
  }

  std::vector<page> pages_;
  std::int64_t size_;
  std::size_t next_ = 0;
  microseconds now_{1'700'000'000'999'000};  // so that the second changes soon
};

inline void step(sweep_machine& machine, fake_server& server) { machine.on(server.answer(machine.next())); }

inline tn::sweep_report finish(sweep_machine& machine, fake_server& server) {
  for (int steps = 0; !machine.ended(); ++steps) {
    REQUIRE(steps < 1000);
    step(machine, server);
  }
  return machine.report();
}

/// So many pages, each with these names.
inline std::vector<page> pages(std::size_t count, const words& names = {}) {
  std::vector<page> all;
  for (std::size_t i = 1; i <= count; ++i) all.push_back({i < count ? std::to_string(i) : "0", names});
  return all;
}

inline words many(std::size_t count) {
  words names;
  for (std::size_t i = 0; i < count; ++i) names.push_back(unit_state(acme, i).str());
  return names;
}

}  // namespace sweeping
