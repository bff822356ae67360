// What a near cache knows of stamps, and which readings of them count.

#include "caching/near_stamps.hpp"

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>

using namespace tenantry::detail;

namespace {

const std::string acme = "stamp:{acme}";
const std::uint64_t hash = near_hash(acme);

near_stamp::known reading(std::uint64_t under, std::int64_t read_at, std::uint64_t epoch = 1) {
  return {.epoch = epoch, .under = under, .tags = under + 1, .read_at = read_at};
}

}  // namespace

TEST_CASE("nothing is known of a stamp before it was read") {
  near_stamps stamps;
  near_stamp::known now;
  CHECK_FALSE(stamps.of(acme)->read(now));
}

TEST_CASE("what was read of a stamp is known until it changes") {
  near_stamps stamps;
  near_changes changes;
  const near_stamp_ref one = stamps.note(acme, "text", reading(7, 100), changes, changes.of(hash));
  near_stamp::known now;
  REQUIRE(one->read(now));
  CHECK(now.under == 7);
  CHECK(now.tags == 8);
  CHECK(now.read_at == 100);
  changes.note(hash);
  stamps.forget(acme);
  CHECK_FALSE(one->read(now));
}

TEST_CASE("T1: a reading that a change overtook is not taken") {
  near_stamps stamps;
  near_changes changes;
  const std::uint64_t before = changes.of(hash);
  changes.note(hash);
  stamps.forget(acme);
  near_stamp::known now;
  CHECK_FALSE(stamps.note(acme, "text", reading(7, 100), changes, before)->read(now));
}

TEST_CASE("T1: of two readings around a change only the later one is taken, in whatever order they come back") {
  near_stamps stamps;
  near_changes changes;
  const std::uint64_t first = changes.of(hash);
  changes.note(hash);
  stamps.forget(acme);
  const std::uint64_t second = changes.of(hash);
  near_stamp::known now;
  stamps.note(acme, "text", reading(8, 200), changes, second);
  const near_stamp_ref one = stamps.note(acme, "text", reading(7, 100), changes, first);
  REQUIRE(one->read(now));
  CHECK(now.under == 8);
}

TEST_CASE("a reading of an earlier epoch, or an older one of the same, replaces nothing") {
  near_stamps stamps;
  near_changes changes;
  const std::uint64_t before = changes.of(hash);
  const near_stamp_ref one = stamps.note(acme, "text", reading(8, 200, 2), changes, before);
  stamps.note(acme, "text", reading(7, 300, 1), changes, before);
  stamps.note(acme, "text", reading(7, 100, 2), changes, before);
  near_stamp::known now;
  REQUIRE(one->read(now));
  CHECK(now.under == 8);
  CHECK(now.epoch == 2);
  CHECK(now.read_at == 200);
}

TEST_CASE("names never look unchanged after a change, though some share a count") {
  near_changes changes;
  for (std::uint64_t each = 0; each < 5000; ++each) {
    const std::uint64_t before = changes.of(each);
    changes.note(each);
    CHECK(changes.of(each) != before);
  }
}

TEST_CASE("stamps that no value refers to are forgotten in time, and those in use stay") {
  near_stamps stamps;
  const near_stamp_ref kept = stamps.of(acme);
  for (int i = 0; i < 10'000; ++i) stamps.of("stamp:{t" + std::to_string(i) + "}");
  CHECK(stamps.size() < 1000);
  near_changes changes;
  stamps.note(acme, "text", reading(7, 100), changes, changes.of(hash));
  near_stamp::known now;
  CHECK(kept->read(now));  // it is the same one still
}

TEST_CASE("the text of a stamp is given while it is known in this epoch, and was not read too long ago") {
  near_stamps stamps;
  near_changes changes;
  stamps.note(acme, "text", reading(7, 100), changes, changes.of(hash));
  CHECK(stamps.text_of(acme, 1, 100) == "text");
  CHECK(stamps.text_of(acme, 2, 100).empty());
  CHECK(stamps.text_of(acme, 1, 101).empty());
  CHECK(stamps.text_of("stamp:{other}", 1, 0).empty());
  changes.note(hash);
  stamps.forget(acme);
  CHECK(stamps.text_of(acme, 1, 100).empty());
}

TEST_CASE("a stamp outlives the stamps that made it, for values that do") {
  near_stamp_ref last;
  {
    near_stamps stamps;
    near_changes changes;
    last = stamps.note(acme, "text", reading(7, 100), changes, changes.of(hash));
  }
  near_stamp::known now;
  CHECK(last->read(now));
}

TEST_CASE("what is read of a stamp while it is written is never half of one and half of another") {
  near_stamps stamps;
  near_changes changes;
  const near_stamp_ref one = stamps.of(acme);
  std::atomic<bool> over = false;
  std::atomic<std::uint64_t> seen = 0;
  std::thread reader{[&] {
    while (!over) {
      near_stamp::known now;
      if (!one->read(now)) continue;
      if (now.tags != now.under + 1 || static_cast<std::uint64_t>(now.read_at) != now.under) {
        seen = ~std::uint64_t{0};
        return;
      }
      ++seen;
    }
  }};
  for (std::int64_t i = 1; i < 200'000 || seen == 0; ++i) {
    stamps.note(acme, "text", reading(static_cast<std::uint64_t>(i), i), changes, 0);
  }
  over = true;
  reader.join();
  CHECK(seen != ~std::uint64_t{0});
}
