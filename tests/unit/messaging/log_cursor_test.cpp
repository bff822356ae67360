// Where a follower of a log is: every row of what may have happened while it was away.

#include "messaging/log_cursor.hpp"

#include <tenantry/feed_events.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace {

namespace tn = tenantry;
namespace td = tenantry::detail;

const std::string ours = "aaaaaaaaaaaaaaaa";
const std::string other = "bbbbbbbbbbbbbbbb";

std::string tag(std::uint64_t offset) {
  const std::string number = std::to_string(offset);
  return std::string(8 - number.size(), '0') + number;
}
std::string id(std::uint64_t offset, const std::string& epoch = ours) {
  return epoch + '-' + std::to_string(offset) + '-' + tag(offset);
}

/// Events from `first` to `top`; of them those from `from` on are in the page.
td::log_page page(std::uint64_t first, std::uint64_t top, std::uint64_t from, const std::string& epoch = ours,
                  std::uint64_t most = 1000) {
  td::log_page read{.epoch = epoch, .top = top, .first = first, .entries = {}};
  if (first == 0) return read;
  for (std::uint64_t i = std::max(first, from); i <= top && read.entries.size() < most; ++i) {
    read.entries.push_back({.offset = i, .tag = tag(i), .payload = std::to_string(i)});
  }
  return read;
}

struct follower {
  explicit follower(std::optional<std::string_view> last, std::uint64_t max_replay = 10'000)
      : cursor{last, max_replay} {}
  follower& reads(const td::log_page& read) {
    cursor.page(std::make_shared<const td::log_page>(read), out);
    return *this;
  }
  follower& hears(std::uint64_t offset, const std::string& epoch = ours) {
    cursor.live(*td::log_id::parse(id(offset, epoch)), std::to_string(offset), out);
    return *this;
  }
  /// What it delivered, in words; '?' at the end when it wants to read.
  std::string said() {
    std::string all;
    for (const td::log_output& each : std::exchange(out, {})) {
      if (!all.empty()) all += ' ';
      if (const auto* event = std::get_if<td::logged_payload>(&each)) {
        all += *event->payload;
        last_id = event->id;
      } else {
        const auto& missed = std::get<tn::gap>(each);
        all += std::string{to_string(missed.cause)};
        if (missed.lost) all += '(' + std::to_string(*missed.lost) + ')';
        last_id = missed.id;
      }
    }
    return all + (cursor.wants_page() ? "?" : "");
  }

  td::log_cursor cursor;
  std::deque<td::log_output> out;
  std::string last_id;
};

}  // namespace

TEST_CASE("without an id it delivers what comes from now on") {
  follower one{std::nullopt};
  CHECK(one.cursor.page_count(256) == 0);
  CHECK(one.said() == "?");
  CHECK(one.reads(page(1, 7, 9)).said().empty());
  CHECK(one.hears(8).hears(9).said() == "8 9");
  CHECK(one.last_id == id(9));
  follower before_all{std::nullopt};
  CHECK(before_all.reads({}).said().empty());
  CHECK(before_all.hears(1).hears(2).said() == "1 2");
}

TEST_CASE("what is no id is a gap, and what comes from now on follows") {
  for (const std::string& text :
       {std::string{}, std::string{"$"}, std::string{"+"}, std::string{"5-0"}, ours + "-5", ours + "-05-00000005",
        ours + "--00000005", ours + "-5-0000000g", ours + "-5-00000005 ", ours + "-99999999999999999999-00000005",
        std::string(10'000, 'a')}) {
    INFO(text.substr(0, 40));
    follower one{text};
    CHECK(one.reads(page(1, 7, 1)).said() == "invalid_id");
    CHECK(td::log_id::parse(one.last_id)->offset == 7);
    CHECK(one.hears(8).said() == "8");
  }
}

TEST_CASE("at the latest event nothing is missing, also where no event is kept any more") {
  follower one{id(7)};
  CHECK(one.cursor.page_from() == 7);
  CHECK(one.reads(page(1, 7, 7)).said().empty());
  CHECK(one.hears(8).said() == "8");
  follower expired{id(7)};
  CHECK(expired.reads(page(0, 7, 7)).said().empty());
}

TEST_CASE("what was appended since is replayed, in as many pages as it takes, and no gap is told") {
  follower one{id(3)};
  CHECK(one.reads(page(1, 7, 3)).said() == "4 5 6 7");
  follower first{id(2)};
  CHECK(first.reads(page(3, 5, 2)).said() == "3 4 5");  // the first that is kept is the next one
  follower pages{id(3)};
  CHECK(pages.reads(page(1, 9, 3, ours, 3)).said() == "4 5?");
  CHECK(pages.cursor.page_from() == 5);
  CHECK(pages.reads(page(1, 9, 5, ours, 3)).said() == "6 7?");
  CHECK(pages.reads(page(1, 9, 7, ours, 3)).said() == "8 9");
}

TEST_CASE("what the log does not keep any more is one gap with the number lost, and the rest follows") {
  follower one{id(3)};
  CHECK(one.reads(page(6, 8, 3)).said() == "trimmed(2) 6 7 8");
  follower all{id(3)};
  CHECK(all.reads(page(0, 8, 3)).said() == "trimmed(5)");
  CHECK(all.hears(9).said() == "9");
  follower within{id(3)};
  td::log_page holes = page(1, 8, 3);
  holes.entries.erase(holes.entries.begin() + 2, holes.entries.begin() + 4);  // 5 and 6 were deleted
  CHECK(within.reads(holes).said() == "4 trimmed(2) 7 8");
  follower tail{id(3)};
  td::log_page cut = page(1, 8, 3);
  cut.entries.resize(1);
  CHECK(tail.reads(cut).said() == "trimmed(5)");
}

TEST_CASE("more than is to be replayed is a gap with the number left out, and the last ones follow") {
  follower one{id(3), 2};
  CHECK(one.reads(page(1, 9, 3)).said() == "too_far(4)?");
  CHECK(one.cursor.page_from() == 7);
  CHECK(one.reads(page(1, 9, 7)).said() == "8 9");
  follower enough{id(3), 6};
  CHECK(enough.reads(page(1, 9, 3)).said() == "4 5 6 7 8 9");
  follower kept{id(3), 3};  // what the log does not keep is not left out by choice
  CHECK(kept.reads(page(6, 8, 3)).said() == "trimmed(2) 6 7 8");
  follower none_kept{id(3), 2};
  CHECK(none_kept.reads(page(0, 8, 3)).said() == "trimmed(5)");
  follower later{id(3), 2};
  CHECK(later.reads(page(1, 3, 3)).said().empty());
  later.cursor.missed();
  CHECK(later.reads(page(1, 9, 3)).said() == "4 5 6 7 8 9");  // only at first
}

TEST_CASE("another log, or one that has lost its end, is a gap, and all that there is follows") {
  follower another{id(3)};
  CHECK(another.reads(page(1, 9, 3, other)).said() == "reset?");
  CHECK(another.cursor.page_from() == 1);
  CHECK(another.reads(page(1, 9, 1, other, 5)).said() == "1 2 3 4 5?");
  follower future{id(10)};
  CHECK(future.reads(page(2, 9, 10)).said() == "reset?");
  CHECK(future.reads(page(2, 9, 2)).said() == "2 3 4 5 6 7 8 9");
  follower deleted{id(3)};
  CHECK(deleted.reads({}).said() == "reset");
  CHECK(deleted.hears(1, other).said() == "1");
}

TEST_CASE("an offset that was used again is noticed by its tag") {
  follower one{ours + "-5-ffffffff"};
  CHECK(one.reads(page(1, 7, 5)).said() == "reset?");
  follower unknown{ours + "-5-0"};  // of a gap
  CHECK(unknown.reads(page(1, 7, 5)).said() == "6 7");
  follower last{ours + "-7-ffffffff"};
  CHECK(last.reads(page(1, 7, 7)).said() == "reset?");
}

TEST_CASE("published events are delivered once, in order; a hole is closed from the log without a gap") {
  follower one{id(3)};
  one.reads(page(1, 3, 3));
  CHECK(one.hears(4).hears(4).hears(5).said() == "4 5");
  CHECK(one.hears(8).said() == "?");
  CHECK(one.cursor.page_from() == 5);
  CHECK(one.reads(page(1, 9, 5)).said() == "6 7 8 9");
  CHECK(one.hears(8).hears(9).hears(10).said() == "10");  // read before it was heard
  one.cursor.missed();
  CHECK(one.reads(page(1, 10, 10)).said().empty());
}

TEST_CASE(
    "what was published with an offset that is known with another tag, or of another epoch, is looked at in the log") {
  follower one{id(3)};
  one.reads(page(1, 6, 3)).said();
  one.cursor.live(*td::log_id::parse(ours + "-5-ffffffff"), "5", one.out);
  CHECK(one.said() == "?");
  CHECK(one.reads(page(1, 5, 6)).said() == "reset?");
  follower two{id(3)};
  two.reads(page(1, 6, 3)).said();
  CHECK(two.hears(1, other).said() == "?");
  CHECK(two.reads(page(1, 1, 6, other)).said() == "reset?");
  CHECK(two.reads(page(1, 1, 1, other)).said() == "1");
}

TEST_CASE("what was delivered, replayed and lost is counted") {
  follower one{id(3)};
  one.reads(page(6, 8, 3)).hears(9).hears(9);
  const tn::follower_counters all = one.cursor.counters();
  CHECK(all.delivered == 4);
  CHECK(all.replayed == 3);
  CHECK(all.reads == 1);
  CHECK(all.gaps == 1);
  CHECK(all.lost == 2);
}

TEST_CASE("who resumes from a gap is not told of it again") {
  follower one{id(3)};
  one.reads(page(6, 6, 3));
  one.out.resize(1);
  CHECK(one.said() == "trimmed(2)");
  follower again{one.last_id};
  CHECK(again.reads(page(6, 8, 5)).said() == "6 7 8");
  follower reset{id(3)};
  reset.reads(page(4, 9, 3, other));
  CHECK(reset.said() == "reset?");
  follower after{reset.last_id};
  CHECK(after.reads(page(4, 9, 3, other)).said() == "4 5 6 7 8 9");
}
