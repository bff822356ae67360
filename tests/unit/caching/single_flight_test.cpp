// One load per key: who leads, who follows, and what both get.

#include "support/concurrency.hpp"

#include <tenantry/detail/single_flight.hpp>

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <exception>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using value = std::shared_ptr<const int>;
using flights = tenantry::detail::single_flight<value>;

value make(int number) { return std::make_shared<const int>(number); }

/// What waiting for a flight threw.
std::exception_ptr fault_of(flights::flight& flight) {
  try {
    flight.wait();
  } catch (...) {
    return std::current_exception();
  }
  return nullptr;
}

}  // namespace

TEST_CASE("the first who joins leads, and all others follow the same flight") {
  flights loads;
  const auto first = loads.join("k");
  CHECK(first.leads);
  for (int i = 0; i < 3; ++i) {
    const auto later = loads.join("k");
    CHECK_FALSE(later.leads);
    CHECK(later.joined == first.joined);
  }
  CHECK(loads.begin_store("k", first.joined));
}

TEST_CASE("flights of different keys have nothing to do with each other") {
  flights loads;
  const auto one = loads.join("k1");
  const auto other = loads.join("k2");
  CHECK(other.leads);
  CHECK(other.joined != one.joined);
  loads.land("k1", one.joined, make(1), nullptr);
  CHECK(loads.begin_store("k2", other.joined));
  CHECK_FALSE(loads.join("k2").leads);
  loads.detach("k1");
  CHECK(loads.begin_store("k2", other.joined));
}

TEST_CASE("all who follow a flight get the very object that its leader landed") {
  const support::must_end ends;
  flights loads;
  const auto leader = loads.join("k");
  std::vector<std::future<value>> waiting;
  for (int i = 0; i < 20; ++i) {
    waiting.push_back(support::on_thread([follower = loads.join("k")] { return follower.joined->wait(); }));
  }
  const value landed = make(7);
  loads.land("k", leader.joined, landed, nullptr);
  for (auto& each : waiting) CHECK(each.get() == landed);
  CHECK(leader.joined->wait() == landed);
}

TEST_CASE("all who follow a flight get the very exception that its leader landed, of any type") {
  struct odd {
    int code;
  };
  const support::must_end ends;
  const std::array thrown{std::make_exception_ptr(std::domain_error{"no such unit"}), std::make_exception_ptr(odd{42}),
                          std::make_exception_ptr(7)};
  for (const std::exception_ptr& fault : thrown) {
    flights loads;
    const auto leader = loads.join("k");
    std::vector<std::future<std::exception_ptr>> waiting;
    for (int i = 0; i < 20; ++i) {
      waiting.push_back(support::on_thread([follower = loads.join("k")] { return fault_of(*follower.joined); }));
    }
    loads.land("k", leader.joined, std::nullopt, fault);
    for (auto& each : waiting) CHECK(each.get() == fault);
  }
}

TEST_CASE("who comes after the landing leads a new flight, whether the last one brought a result or an exception") {
  flights loads;
  const auto first = loads.join("k");
  loads.land("k", first.joined, make(1), nullptr);
  CHECK_FALSE(loads.begin_store("k", first.joined));
  const auto second = loads.join("k");
  CHECK(second.leads);
  CHECK(second.joined != first.joined);
  loads.land("k", second.joined, std::nullopt, std::make_exception_ptr(1));
  CHECK(loads.join("k").leads);
}

TEST_CASE("nobody joins a detached flight, and those who joined it before still get its result") {
  const support::must_end ends;
  flights loads;
  const auto leader = loads.join("k");
  const auto follower = loads.join("k");
  loads.detach("k");
  CHECK_FALSE(loads.begin_store("k", leader.joined));
  const auto later = loads.join("k");
  CHECK(later.leads);
  CHECK(later.joined != leader.joined);
  const value landed = make(1);
  loads.land("k", leader.joined, landed, nullptr);
  CHECK(follower.joined->wait() == landed);
}

TEST_CASE("the landing of a detached flight leaves the newer flight of its key alone") {
  const support::must_end ends;
  flights loads;
  const auto old = loads.join("k");
  loads.detach("k");
  const auto fresh = loads.join("k");
  loads.land("k", old.joined, make(1), nullptr);
  CHECK(loads.begin_store("k", fresh.joined));
  const auto follower = loads.join("k");
  CHECK_FALSE(follower.leads);
  const value landed = make(2);
  loads.land("k", fresh.joined, landed, nullptr);
  CHECK(follower.joined->wait() == landed);
}

TEST_CASE("detach tells of a flight exactly while it is being stored") {
  const support::must_end ends;
  flights loads;
  const auto loading = loads.join("k");
  CHECK(loads.detach("k") == nullptr);  // it still loads: its store will be refused
  CHECK_FALSE(loads.begin_store("k", loading.joined));

  const auto storing = loads.join("k");
  CHECK(loads.begin_store("k", storing.joined));
  CHECK(loads.detach("other") == nullptr);
  const auto told = loads.detach("k");
  CHECK(told == storing.joined);
  CHECK(loads.detach("k") == nullptr);
  auto waiting = support::on_thread([&] { told->wait_until_landed(); });
  loads.land("k", storing.joined, std::nullopt, std::make_exception_ptr(1));
  CHECK_NOTHROW(waiting.get());  // also where the load failed

  const auto landed = loads.join("k");
  CHECK(loads.begin_store("k", landed.joined));
  loads.land("k", landed.joined, make(1), nullptr);
  CHECK(loads.detach("k") == nullptr);
}

TEST_CASE("detaching a key without a flight does nothing") {
  flights loads;
  CHECK(loads.detach("k") == nullptr);
  CHECK(loads.join("k").leads);
}

TEST_CASE("a flight that landed is forgotten with its result") {
  flights loads;
  std::weak_ptr<const int> watched;
  {
    const auto leader = loads.join("k");
    value landed = make(1);
    watched = landed;
    loads.land("k", leader.joined, std::move(landed), nullptr);
  }
  CHECK(watched.expired());
}

TEST_CASE("there is never more than one leader of a key at a time, and each follower gets its own leader's result") {
  constexpr int threads = 8;
  constexpr int rounds = 2000;
  const support::must_end ends;
  flights loads;
  const std::array<std::string, 3> keys{"a", "b", "c"};
  std::array<std::atomic<int>, 3> leaders{};
  std::array<std::atomic<int>, 3> landed_last{};
  std::atomic<int> next{0};
  std::atomic<int> crowds{0};
  std::atomic<int> old_results{0};
  std::vector<std::future<void>> running;
  for (int t = 0; t < threads; ++t) {
    running.push_back(support::on_thread([&, t] {
      for (int i = 0; i < rounds; ++i) {
        const auto at = static_cast<std::size_t>(t + i) % keys.size();
        const int before = landed_last[at];
        const auto flight = loads.join(keys[at]);
        if (!flight.leads) {
          if (*flight.joined->wait() < before) ++old_results;
          continue;
        }
        if (++leaders[at] != 1) ++crowds;
        const int number = ++next;
        --leaders[at];
        landed_last[at] = number;
        loads.land(keys[at], flight.joined, make(number), nullptr);
      }
    }));
  }
  for (auto& each : running) each.get();
  CHECK(crowds == 0);
  CHECK(old_results == 0);
}
