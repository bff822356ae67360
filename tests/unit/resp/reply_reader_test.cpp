#include "resp/reply_reader.hpp"

#include "reading.hpp"
#include "resp/framer.hpp"

#include <tenantry/error.hpp>
#include <tenantry/reply.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <support/random_bytes.hpp>
#include <utility>
#include <vector>

namespace tn = tenantry;
using namespace std::string_literals;
using namespace reading;
using tn::resp::reply_reader;

namespace {

std::string line_of(support::random_bytes& random) {
  std::string text = random.bytes(random.below(40));
  std::erase_if(text, [](char c) { return c == '\r' || c == '\n'; });
  return text;
}

tn::reply random_reply(support::random_bytes& random, std::size_t depth) {
  switch (random.below(depth > 0 ? 8 : 5)) {
    case 0:
      return {};
    case 1:
      return tn::reply::make_text(tn::reply_type::status, line_of(random));
    case 2:
      return tn::reply::make_text(tn::reply_type::error, line_of(random));
    case 3:
      return tn::reply::make_integer(static_cast<std::int64_t>(random.number()));
    case 4:
      return tn::reply::make_text(tn::reply_type::string,
                                  random.bytes(random.below(random.below(20) == 0 ? 50'000 : 60)));
    default: {
      auto list = tn::reply::make_array(random.below(5));
      for (std::size_t i = 0; i < list.elements().size(); ++i) list.element(i) = random_reply(random, depth - 1);
      return list;
    }
  }
}

tn::reply only(std::string_view bytes) {
  auto all = read(bytes, whole);
  REQUIRE_FALSE(all.refused);
  REQUIRE(all.replies.size() == 1);
  return all.replies.front();
}

}  // namespace

TEST_CASE("every type of RESP2 is decoded") {
  CHECK(only("+OK\r\n") == tn::reply::make_text(tn::reply_type::status, "OK"));
  CHECK(only("+\r\n") == tn::reply::make_text(tn::reply_type::status, ""));
  CHECK(only("-ERR no\r\n") == tn::reply::make_text(tn::reply_type::error, "ERR no"));
  CHECK(only(":-42\r\n") == tn::reply::make_integer(-42));
  CHECK(only(":9223372036854775807\r\n") == tn::reply::make_integer(INT64_MAX));
  CHECK(only(":-9223372036854775808\r\n") == tn::reply::make_integer(INT64_MIN));
  CHECK(only("$3\r\na\0b\r\n"s) == tn::reply::make_text(tn::reply_type::string, "a\0b"s));
  CHECK(only("$0\r\n\r\n") == tn::reply::make_text(tn::reply_type::string, ""));
  CHECK(only("$-1\r\n").is_nil());
  CHECK(only("*-1\r\n").is_nil());
  CHECK(only("*0\r\n") == tn::reply::make_array(0));

  const auto list = only("*4\r\n:1\r\n*1\r\n+x\r\n$-1\r\n-ERR inside\r\n");
  REQUIRE(list.elements().size() == 4);
  CHECK(list[0].integer() == 1);
  CHECK(list[1][0].str() == "x");
  CHECK(list[2].is_nil());
  CHECK(list[3].error_text() == "ERR inside");
}

TEST_CASE("an array eight deep is decoded") {
  const auto deep = only(repeated("*1\r\n", 8) + ":8\r\n");
  const tn::reply* at = &deep;
  for (int i = 0; i < 8; ++i) at = &(*at)[0];
  CHECK(at->integer() == 8);
  CHECK(only(repeated("*1\r\n", 7) + "*0\r\n")[0][0][0][0][0][0][0].elements().empty());
  CHECK(only(repeated("*1\r\n", 7) + "*-1\r\n")[0][0][0][0][0][0][0].is_nil());
  CHECK(read(repeated("*1\r\n", 9) + ":9\r\n", whole).refused);
}

TEST_CASE("an integer with a sign or zeros before it is read or refused, never read wrongly") {
  CHECK(only(":0\r\n") == tn::reply::make_integer(0));
  for (const auto& [text, value] : std::vector<std::pair<std::string, std::int64_t>>{
           {"+5", 5}, {"-0", 0}, {"+0", 0}, {"007", 7}, {"-07", -7}, {"00", 0}}) {
    CAPTURE(text);
    const auto out = read(":" + text + "\r\n", whole);
    CHECK((out.refused || out.replies == std::vector{tn::reply::make_integer(value)}));
  }
}

TEST_CASE("the framer and the decoder agree on what is a reply") {
  for (const std::string text : {":+5\r\n", ":-0\r\n", ":007\r\n", ":+0\r\n", "$+5\r\nhello\r\n", "$05\r\nhello\r\n",
                                 "$-0\r\n\r\n", "$-01\r\n", "*+1\r\n:1\r\n", "*01\r\n:1\r\n", "*-0\r\n", "*-01\r\n"}) {
    CAPTURE(text);
    tn::resp::framer one{{}};
    const bool accepted = one.scan(text) == tn::resp::framer::status::complete;
    CHECK(read(text, whole).refused == !accepted);
  }
}

TEST_CASE("replies come back as they were sent, however they are cut") {
  support::random_bytes random;
  for (int round = 0; round < 400; ++round) {
    std::vector<tn::reply> sent;
    std::string bytes;
    for (std::size_t n = 2 + random.below(3); n > 0; --n) {
      sent.push_back(random_reply(random, 8));
      bytes += wire(sent.back());
    }
    const std::size_t largest = 1 + random.below(round % 2 == 0 ? 20 : 5000);
    const auto out = read(bytes, [&] { return 1 + random.below(largest); });
    REQUIRE_FALSE(out.refused);
    REQUIRE(out.replies == sent);
  }
}

TEST_CASE("replies come back from a reader that is fed byte by byte") {
  support::random_bytes random;
  std::vector<tn::reply> sent;
  std::string bytes;
  for (int i = 0; i < 200; ++i) {
    sent.push_back(random_reply(random, 3));
    bytes += wire(sent.back());
  }
  const auto out = read(bytes, 1);
  CHECK_FALSE(out.refused);
  CHECK(out.replies == sent);
}

TEST_CASE("a reply that has not arrived whole is not given out") {
  support::random_bytes random;
  for (int round = 0; round < 60; ++round) {
    const auto sent = random_reply(random, 4);
    const std::string bytes = wire(sent);
    for (int tries = 0; tries < 10; ++tries) {
      const std::size_t cut = random.below(bytes.size());
      reply_reader reader{{}};
      std::string_view first = std::string_view{bytes}.substr(0, cut);
      while (!first.empty()) {
        arrive(reader, first, whole);
        REQUIRE_FALSE(reader.next());
      }
      REQUIRE(reader.empty() == (cut == 0));
      std::string_view rest = std::string_view{bytes}.substr(cut);
      std::optional<tn::reply> got;
      while (!rest.empty()) {
        REQUIRE_FALSE(got);
        arrive(reader, rest, whole);
        got = reader.next();
      }
      REQUIRE(got);
      REQUIRE(*got == sent);
      REQUIRE(reader.empty());
      REQUIRE_FALSE(reader.next());
    }
  }
}

TEST_CASE("a reader knows that part of another reply has arrived") {
  reply_reader reader{{}};
  CHECK(reader.empty());
  std::string_view bytes = "+a\r\n+b\r\n+";
  arrive(reader, bytes, whole);
  CHECK_FALSE(reader.empty());
  CHECK(reader.next()->str() == "a");
  CHECK(reader.next()->str() == "b");
  CHECK_FALSE(reader.next());
  CHECK_FALSE(reader.empty());
  bytes = "c\r\n";
  arrive(reader, bytes, whole);
  CHECK(reader.next()->str() == "c");
  CHECK(reader.empty());
}

TEST_CASE("damaged replies are refused or read, the same way however they are cut") {
  support::random_bytes random;
  constexpr std::string_view likely = "+-:$*\r\n0123456789?_#,(!=%~>|";
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = wire(random_reply(random, 3)) + wire(random_reply(random, 2));
    for (std::size_t n = 1 + random.below(3); n > 0; --n) {
      const std::size_t at = random.below(bytes.size());
      switch (random.below(4)) {
        case 0:
          bytes[at] = likely[random.below(likely.size())];
          break;
        case 1:
          bytes.insert(at, 1, likely[random.below(likely.size())]);
          break;
        case 2:
          bytes.erase(at, 1 + random.below(3));
          break;
        default:
          bytes[at] = random.bytes(1).front();
          break;
      }
      if (bytes.empty()) bytes = "+";
    }
    const auto at_once = read(bytes, whole);
    const auto cut = read(bytes, [&] { return 1 + random.below(30); });
    REQUIRE(at_once.refused == cut.refused);
    REQUIRE(at_once.replies == cut.replies);
  }
}

TEST_CASE("garbage is refused or waited for, never decoded into a crash") {
  support::random_bytes random;
  constexpr std::string_view alphabet = "+-:$*\r\n\r\n\r\n01239ab";
  for (int round = 0; round < 5000; ++round) {
    const std::string bytes =
        round % 2 == 0 ? random.bytes(1 + random.below(60)) : random.text_of(alphabet, 1 + random.below(60));
    (void)read(bytes, 1 + random.below(20));
  }
}

TEST_CASE("a refused reply is a protocol error of the connection that says why") {
  reply_reader reader{{}};
  std::string_view bytes = "+fine\r\nHTTP/1.1 400 Bad Request\r\n";
  arrive(reader, bytes, whole);
  CHECK(reader.next()->str() == "fine");
  try {
    (void)reader.next();
    FAIL("not refused");
  } catch (const tn::connection_error& refused) {
    CHECK(refused.code() == tn::errc::protocol);
    CHECK_FALSE(refused.retryable());
    CHECK(std::string_view{refused.what()}.find("HTTP") != std::string_view::npos);
  }
  CHECK_THROWS_AS(reader.next(), tn::connection_error);
}
