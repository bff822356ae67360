#include "engine/fork_count.hpp"
#include "engine/fork_safe_list.hpp"
#include "support/child_process.hpp"

#include <catch2/catch_test_macros.hpp>

#include <memory>
#include <set>

using tenantry::detail::fork_count;
using tenantry::detail::fork_safe_list;
using tenantry::detail::one_per_process;

namespace {

std::set<const int*> all_of(const fork_safe_list<int>& list) {
  std::set<const int*> found;
  list.for_each([&](const int& each) { found.insert(&each); });
  return found;
}

}  // namespace

TEST_CASE("a child of a fork has one fork more than its parent") {
  const auto before = fork_count();
  CHECK(support::in_child([&] { return fork_count() == before + 1 ? 0 : 1; }) == 0);
  CHECK(fork_count() == before);
}

TEST_CASE("what is one per process is the same until a fork, and another one in the child") {
  static constinit one_per_process<int> number;  // is never destroyed
  number.get() = 7;
  const int* const mine = &number.get();
  CHECK(support::in_child([&] {
          if (number.get() != 0 || &number.get() == mine) return 1;
          number.get() = 8;
          return number.get() == 8 ? 0 : 2;
        }) == 0);
  CHECK(&number.get() == mine);
  CHECK(number.get() == 7);
}

TEST_CASE("a fork-safe list has what was set, as long as its place lives") {
  fork_safe_list<int> list;
  int a = 0;
  int b = 0;
  int c = 0;
  CHECK(all_of(list).empty());
  auto first = std::make_unique<fork_safe_list<int>::place>(list);
  CHECK(all_of(list).empty());
  first->set(a);
  const fork_safe_list<int>::place second{list};
  fork_safe_list<int>::place third{list};
  third.set(c);
  CHECK(all_of(list) == std::set<const int*>{&a, &c});
  first.reset();
  CHECK(all_of(list) == std::set<const int*>{&c});
  first = std::make_unique<fork_safe_list<int>::place>(list);
  first->set(b);
  CHECK(all_of(list) == std::set<const int*>{&b, &c});
}
