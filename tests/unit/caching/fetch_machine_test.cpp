// Every order of events that the machine of one fetch can meet, and what must hold in each.

#include <tenantry/detail/fetch_machine.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

namespace {

using tenantry::detail::fetch_machine;
using action = tenantry::detail::fetch_action;
using event = tenantry::detail::fetch_event;

struct sequence {
  std::vector<event> events;
  std::vector<action> actions;  // what the machine wants after each event
  bool leads = false;
  bool stored = false;

  [[nodiscard]] auto has(event one) const { return std::find(events.begin(), events.end(), one) != events.end(); }
  [[nodiscard]] auto count(action one) const { return std::count(actions.begin(), actions.end(), one); }
};

std::string words(const std::vector<event>& events) {
  static constexpr const char* names[] = {"hit",     "miss",         "failed", "leads",
                                          "follows", "may_not_wait", "loaded", "loaded_unstorable",
                                          "stored",  "not_stored"};
  std::string text;
  for (const event each : events) text += std::string{text.empty() ? "" : ", "} + names[static_cast<int>(each)];
  return text;
}

/// What can come of an action. Nothing comes of wait (the leader's result is the answer) and of answer.
std::vector<event> outcomes(action of) {
  switch (of) {
    case action::read:
      return {event::hit, event::miss, event::failed};
    case action::join:
      return {event::leads, event::follows, event::may_not_wait};
    case action::load:
      return {event::loaded, event::loaded_unstorable};
    case action::store:
      return {event::stored, event::not_stored};
    case action::wait:
    case action::answer:
      break;
  }
  return {};
}

sequence replay(const std::vector<event>& events) {
  fetch_machine machine;
  sequence run{.events = events, .actions = {}};
  for (const event each : events) run.actions.push_back(machine.on(each));
  run.leads = machine.leads();
  run.stored = machine.stored();
  return run;
}

constexpr std::size_t too_long = 20;

void walk(std::vector<event>& events, action next, std::vector<sequence>& found) {
  const auto possible = outcomes(next);
  if (possible.empty() || events.size() > too_long) {
    found.push_back(replay(events));
    return;
  }
  for (const event each : possible) {
    events.push_back(each);
    walk(events, replay(events).actions.back(), found);
    events.pop_back();
  }
}

/// Every sequence of events from the first read to the end.
std::vector<sequence> all_sequences() {
  std::vector<sequence> found;
  std::vector<event> events;
  walk(events, action::read, found);
  return found;
}

}  // namespace

TEST_CASE("every order of events leads to an answer or to the leader's result, after at most six steps") {
  const auto sequences = all_sequences();
  REQUIRE(sequences.size() == 15);
  for (const sequence& each : sequences) {
    INFO(words(each.events));
    REQUIRE(each.events.size() <= 6);
    CHECK((each.actions.back() == action::answer || each.actions.back() == action::wait));
    CHECK(each.count(action::answer) + each.count(action::wait) == 1);
  }
}

TEST_CASE("a fetch reads at most twice and joins, loads and stores at most once, in every order of events") {
  for (const sequence& each : all_sequences()) {
    INFO(words(each.events));
    CHECK(1 + each.count(action::read) <= 2);  // the first read is not an answer to an event
    CHECK(each.count(action::join) <= 1);
    CHECK(each.count(action::load) <= 1);
    CHECK(each.count(action::store) <= 1);
  }
}

TEST_CASE("a fetch stores only what it loaded as the leader of its flight, and only while Redis did not fail") {
  for (const sequence& each : all_sequences()) {
    INFO(words(each.events));
    const bool may_store = each.has(event::leads) && each.has(event::loaded) && !each.has(event::failed);
    CHECK((each.count(action::store) == 1) == may_store);
    CHECK(each.stored == each.has(event::stored));
    CHECK(each.leads == each.has(event::leads));
  }
}

TEST_CASE("Redis is not asked again in a fetch after it failed once") {
  for (const sequence& each : all_sequences()) {
    INFO(words(each.events));
    const auto failed = std::find(each.events.begin(), each.events.end(), event::failed);
    for (auto at = failed; at < each.events.end(); ++at) {
      const action next = each.actions[static_cast<std::size_t>(at - each.events.begin())];
      CHECK(next != action::read);
      CHECK(next != action::store);
    }
  }
}

TEST_CASE("a fetch waits exactly when it follows, and never when it may not wait") {
  for (const sequence& each : all_sequences()) {
    INFO(words(each.events));
    CHECK((each.count(action::wait) == 1) == each.has(event::follows));
    if (each.has(event::may_not_wait)) {
      CHECK(each.count(action::wait) == 0);
      CHECK(each.count(action::load) == 1);
      CHECK(each.count(action::store) == 0);
    }
  }
}

TEST_CASE("a hit is the answer at once: nothing is loaded or stored after it") {
  for (const sequence& each : all_sequences()) {
    INFO(words(each.events));
    const auto hit = std::find(each.events.begin(), each.events.end(), event::hit);
    if (hit == each.events.end()) continue;
    CHECK(hit == each.events.end() - 1);
    CHECK(each.actions.back() == action::answer);
    CHECK(each.count(action::load) == 0);
  }
}

TEST_CASE("a leader reads again before it loads, unless Redis failed") {
  for (const sequence& each : all_sequences()) {
    INFO(words(each.events));
    const auto leads = std::find(each.events.begin(), each.events.end(), event::leads);
    if (leads == each.events.end()) continue;
    const bool failed_before = std::find(each.events.begin(), leads, event::failed) != leads;
    CHECK(each.actions[static_cast<std::size_t>(leads - each.events.begin())] ==
          (failed_before ? action::load : action::read));
  }
}

TEST_CASE("the actions of every sequence are those of the table") {
  using enum tenantry::detail::fetch_event;
  using a = action;
  const std::vector<sequence> table{
      {{hit}, {a::answer}},
      {{miss, follows}, {a::join, a::wait}},
      {{miss, may_not_wait, loaded}, {a::join, a::load, a::answer}},
      {{miss, may_not_wait, loaded_unstorable}, {a::join, a::load, a::answer}},
      {{miss, leads, hit}, {a::join, a::read, a::answer}},
      {{miss, leads, miss, loaded, stored}, {a::join, a::read, a::load, a::store, a::answer}},
      {{miss, leads, miss, loaded, not_stored}, {a::join, a::read, a::load, a::store, a::answer}},
      {{miss, leads, miss, loaded_unstorable}, {a::join, a::read, a::load, a::answer}},
      {{miss, leads, failed, loaded}, {a::join, a::read, a::load, a::answer}},
      {{miss, leads, failed, loaded_unstorable}, {a::join, a::read, a::load, a::answer}},
      {{failed, follows}, {a::join, a::wait}},
      {{failed, may_not_wait, loaded}, {a::join, a::load, a::answer}},
      {{failed, may_not_wait, loaded_unstorable}, {a::join, a::load, a::answer}},
      {{failed, leads, loaded}, {a::join, a::load, a::answer}},
      {{failed, leads, loaded_unstorable}, {a::join, a::load, a::answer}},
  };
  for (const sequence& each : table) {
    INFO(words(each.events));
    CHECK(replay(each.events).actions == each.actions);
  }
  for (const sequence& each : all_sequences()) {
    INFO(words(each.events) << " is in the table");
    CHECK(std::count_if(table.begin(), table.end(), [&](const sequence& t) { return t.events == each.events; }) == 1);
  }
}
