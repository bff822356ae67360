// Who shares a read of a log with whom, and what becomes of those who leave.

#include "messaging/log_reads.hpp"

#include <tenantry/error.hpp>
#include <tenantry/tenant.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

namespace {

namespace tn = tenantry;
namespace td = tenantry::detail;
using namespace std::chrono_literals;
using reader = td::shared_log_read;
using step = reader::step;
using end = reader::end_of_wait;

const tn::tenant_id acme{"acme"};
const tn::tenant_id globex{"globex"};
constexpr reader::time_point start{1h};
constexpr reader::time_point half = start + 1s;

struct follower : reader {
  explicit follower(td::log_reads& of, std::uint64_t from = 5, const tn::tenant_id& tenant = acme,
                    std::uint64_t count = 256)
      : reader{of, {.tenant = &tenant, .from = from, .count = count}, half} {}
};

td::shared_page page(std::uint64_t top) {
  return std::make_shared<const td::log_page>(td::log_page{.epoch = "e", .top = top, .first = 1, .entries = {}});
}

}  // namespace

TEST_CASE("of followers that ask the same one reads, and the page is held once") {
  td::log_reads together;
  follower first{together};
  REQUIRE(first.next(start) == step::ask);
  follower a{together};
  follower b{together};
  follower c{together};
  for (follower* each : {&a, &b, &c}) CHECK(each->next(start) == step::wait);
  first.answered(page(5));
  CHECK(first.next(start) == step::done);
  CHECK(first.result()->top == 5);
  CHECK(c.next(start) == step::ask);
  const td::shared_page read = page(6);
  c.answered(read);
  for (follower* each : {&a, &b, &c}) {
    CHECK(each->next(start) == step::done);
    CHECK(each->result() == read);
  }
}

TEST_CASE("a page that was asked for before a reader came is not its page") {
  td::log_reads together;
  follower first{together};
  REQUIRE(first.next(start) == step::ask);  // sent: Redis may read the log now
  follower doubts{together};                // something was published since
  first.answered(page(5));
  CHECK(doubts.next(start) == step::ask);
  follower later{together};
  CHECK(later.next(start) == step::wait);
  doubts.answered(page(6));
  CHECK(doubts.result()->top == 6);
  REQUIRE(later.next(start) == step::ask);
  later.answered(page(7));
  CHECK(later.result()->top == 7);
}

TEST_CASE("readers of another tenant, another place or another number do not share") {
  td::log_reads together;
  follower first{together};
  follower place{together, 6};
  follower tenant{together, 5, globex};
  follower number{together, 5, acme, 0};
  for (follower* each : {&first, &place, &tenant, &number}) CHECK(each->next(start) == step::ask);
}

TEST_CASE("a failure is thrown by all who share the read, and by nobody else") {
  td::log_reads together;
  follower first{together};
  REQUIRE(first.next(start) == step::ask);
  follower a{together};
  follower b{together};
  first.answered(page(5));
  REQUIRE(b.next(start) == step::ask);
  follower next{together};
  b.failed(tn::server_error{"EVALSHA", "NOPERM this user has no permissions"});
  for (follower* each : {&a, &b}) {
    CHECK(each->next(start) == step::done);
    CHECK_THROWS_AS(each->result(), tn::server_error);
  }
  CHECK(first.result()->top == 5);
  CHECK(next.next(start) == step::ask);
}

TEST_CASE("who is stopped before, while or after it leads leaves the read to the others") {
  td::log_reads together;
  follower first{together};
  REQUIRE(first.next(start) == step::ask);
  follower a{together};
  follower b{together};
  follower c{together};
  follower d{together};
  CHECK(b.next(start, end::stopped) == step::done);  // waits
  CHECK(b.result() == nullptr);
  first.withdraw();  // asks, and nobody goes with it
  CHECK(first.next(start) == step::done);
  CHECK(first.result() == nullptr);
  CHECK(d.next(start, end::stopped) == step::done);  // leads, and has not asked
  REQUIRE(c.next(start) == step::ask);
  c.withdraw();
  REQUIRE(a.next(start) == step::ask);
  a.answered(page(6));
  CHECK(a.result()->top == 6);
}

TEST_CASE("who has no time for others gives up while it waits, but asks where it leads") {
  td::log_reads together;
  follower first{together};
  CHECK(first.next(start, end::out_of_time) == step::ask);
  follower a{together};
  CHECK(a.next(start, end::out_of_time) == step::done);
  CHECK(a.result() == nullptr);
}

TEST_CASE("who waits for others in vain asks by itself, and its answer is nobody else's") {
  td::log_reads together;
  follower first{together};
  REQUIRE(first.next(start) == step::ask);
  follower a{together};
  follower b{together};
  CHECK(b.next(half - 1ms) == step::wait);
  REQUIRE(b.next(half) == step::ask);
  b.answered(page(9));
  CHECK(b.result()->top == 9);
  CHECK(a.next(start) == step::wait);
  first.answered(page(5));
  CHECK(a.next(start) == step::ask);
}

TEST_CASE("a client that is closed ends the read of all who go together") {
  td::log_reads together;
  follower first{together};
  REQUIRE(first.next(start) == step::ask);
  follower a{together};
  follower b{together};
  follower c{together};
  CHECK(c.next(start, end::client_closed) == step::done);  // waits: alone
  CHECK_THROWS_AS(c.result(), tn::connection_error);
  first.answered(page(5));
  CHECK(b.next(start, end::client_closed) == step::done);
  CHECK(a.next(start) == step::done);
  CHECK_THROWS_AS(a.result(), tn::connection_error);
}

TEST_CASE("a reader whose driver is left by an exception keeps nobody waiting") {
  td::log_reads together;
  std::optional<follower> first{std::in_place, together};
  REQUIRE(first->next(start) == step::ask);
  std::optional<follower> waits{std::in_place, together};
  follower a{together};
  std::optional<follower> leads{std::in_place, together};
  waits.reset();
  first.reset();
  CHECK(a.next(start) == step::wait);
  REQUIRE(leads->next(start) == step::ask);
  leads.reset();
  CHECK(a.next(start) == step::ask);
}
