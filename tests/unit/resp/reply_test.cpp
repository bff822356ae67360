#include <tenantry/error.hpp>
#include <tenantry/reply.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tn = tenantry;
using namespace std::string_view_literals;

namespace {

tn::reply text(tn::reply_type type, std::string_view bytes) { return tn::reply::make_text(type, bytes); }

/// One of each type.
std::vector<tn::reply> one_of_each() {
  return {tn::reply{},
          text(tn::reply_type::status, "OK"),
          text(tn::reply_type::string, "value"),
          tn::reply::make_integer(42),
          tn::reply::make_array(2),
          text(tn::reply_type::error, "ERR no")};
}

/// The message of the unexpected_reply that `use` ends in.
std::string refusal(const std::function<void()>& use) {
  try {
    use();
  } catch (const tn::error& refused) {
    CHECK(refused.code() == tn::errc::unexpected_reply);
    CHECK(refused.execution() == tn::execution::executed);
    CHECK_FALSE(refused.retryable());
    return refused.what();
  }
  FAIL("nothing was thrown");
  return {};
}

bool names(const std::string& message, std::string_view part) { return message.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("a reply that holds nothing is nil") {
  const tn::reply nothing;
  CHECK(nothing.type() == tn::reply_type::nil);
  CHECK(nothing.is_nil());
  CHECK_FALSE(nothing.is_error());
}

TEST_CASE("every accessor gives what a reply of its type holds") {
  CHECK(text(tn::reply_type::string, "a\0b"sv).str() == "a\0b"sv);
  CHECK(text(tn::reply_type::status, "OK").str() == "OK");
  CHECK(text(tn::reply_type::error, "ERR no").error_text() == "ERR no");
  CHECK(text(tn::reply_type::error, "ERR no").is_error());
  CHECK(tn::reply::make_integer(std::numeric_limits<std::int64_t>::min()).integer() ==
        std::numeric_limits<std::int64_t>::min());
  CHECK(tn::reply::make_array(3).elements().size() == 3);
  CHECK(tn::reply::make_array(0).elements().empty());
  CHECK_FALSE(tn::reply::make_array(0).is_nil());
}

TEST_CASE("an accessor refuses every other type and names both") {
  for (const tn::reply& each : one_of_each()) {
    const auto type = each.type();
    const std::string_view got = tn::to_string(type);
    CAPTURE(got);
    if (type != tn::reply_type::string && type != tn::reply_type::status) {
      const std::string message = refusal([&] { (void)each.str(); });
      CHECK(names(message, got));
      CHECK(names(message, "a string"));
      CHECK(names(refusal([&] { (void)tn::reply{each}.str(); }), "a string"));
    }
    if (type != tn::reply_type::integer) {
      const std::string message = refusal([&] { (void)each.integer(); });
      CHECK(names(message, got));
      CHECK(names(message, "an integer"));
    }
    if (type != tn::reply_type::array) {
      const std::string message = refusal([&] { (void)each.elements(); });
      CHECK(names(message, got));
      CHECK(names(message, "an array"));
      CHECK(names(refusal([&] { (void)tn::reply{each}.elements(); }), "an array"));
      CHECK(names(refusal([&] { (void)each[0]; }), got));
      CHECK(names(refusal([&] { (void)tn::reply{each}.element(0); }), got));
    }
    if (type != tn::reply_type::error) {
      const std::string message = refusal([&] { (void)each.error_text(); });
      CHECK(names(message, got));
      CHECK(names(message, "an error"));
    }
  }
}

TEST_CASE("an error reply that is read as something else shows the server's words") {
  CHECK(names(refusal([] { (void)text(tn::reply_type::error, "WRONGTYPE bad").integer(); }), "WRONGTYPE bad"));
}

TEST_CASE("an element that is not there is refused") {
  auto pair = tn::reply::make_array(2);
  pair.element(0) = tn::reply::make_integer(1);
  pair.element(1) = text(tn::reply_type::string, "b");
  CHECK(pair[0].integer() == 1);
  CHECK(pair[1].str() == "b");
  refusal([&] { (void)pair[2]; });
  refusal([&] { (void)pair[std::numeric_limits<std::size_t>::max()]; });
  refusal([&] { (void)tn::reply::make_array(0)[0]; });
}

TEST_CASE("what a reply holds can be moved out of it") {
  const std::string large(100, 'v');
  auto value = text(tn::reply_type::string, large);
  const char* const bytes = value.str().data();
  const std::string moved = std::move(value).str();
  CHECK(moved == large);
  CHECK(moved.data() == bytes);

  auto list = tn::reply::make_array(2);
  list.element(1) = text(tn::reply_type::string, large);
  const std::vector<tn::reply> all = std::move(list).elements();
  REQUIRE(all.size() == 2);
  CHECK(all[0].is_nil());
  CHECK(all[1].str() == large);
}

TEST_CASE("replies are equal when type and content are") {
  const auto all = one_of_each();
  const auto again = one_of_each();
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t j = 0; j < again.size(); ++j) CHECK((all[i] == again[j]) == (i == j));
  }
  CHECK_FALSE(text(tn::reply_type::string, "OK") == text(tn::reply_type::status, "OK"));
  CHECK_FALSE(text(tn::reply_type::string, "a") == text(tn::reply_type::string, "b"));
  auto nested = tn::reply::make_array(1);
  nested.element(0) = tn::reply::make_array(1);
  auto other = nested;
  CHECK(nested == other);
  other.element(0).element(0) = tn::reply::make_integer(0);
  CHECK_FALSE(nested == other);
  CHECK(nested[0][0].is_nil());  // a copy is its own value
}

TEST_CASE("types are named in words") {
  CHECK(tn::to_string(tn::reply_type::nil) == "nil");
  CHECK(tn::to_string(tn::reply_type::status) == "a status");
  CHECK(tn::to_string(tn::reply_type::string) == "a string");
  CHECK(tn::to_string(tn::reply_type::integer) == "an integer");
  CHECK(tn::to_string(tn::reply_type::array) == "an array");
  CHECK(tn::to_string(tn::reply_type::error) == "an error");
}
