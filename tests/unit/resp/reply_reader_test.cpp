#include "resp/reply_reader.hpp"

#include <tenantry/error.hpp>
#include <tenantry/reply.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <ctime>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <support/allocation_counter.hpp>
#include <support/random_bytes.hpp>
#include <sys/resource.h>
#include <vector>

namespace tn = tenantry;
using namespace std::string_literals;
using namespace std::chrono_literals;
using tn::resp::reply_reader;

namespace {

constexpr std::size_t mebi = std::size_t{1} << 20U;

/// The bytes of a reply, written as plainly as the specification says it.
std::string wire(const tn::reply& one) {
  switch (one.type()) {
    case tn::reply_type::nil:
      return "$-1\r\n";
    case tn::reply_type::status:
      return "+" + one.str() + "\r\n";
    case tn::reply_type::error:
      return "-" + one.error_text() + "\r\n";
    case tn::reply_type::integer:
      return ":" + std::to_string(one.integer()) + "\r\n";
    case tn::reply_type::string:
      return "$" + std::to_string(one.str().size()) + "\r\n" + one.str() + "\r\n";
    case tn::reply_type::array:
      break;
  }
  std::string text = "*" + std::to_string(one.elements().size()) + "\r\n";
  for (const tn::reply& each : one.elements()) text += wire(each);
  return text;
}

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
      return tn::reply::make_text(tn::reply_type::string, random.bytes(random.below(random.below(20) == 0 ? 50'000 : 60)));
    default: {
      auto list = tn::reply::make_array(random.below(5));
      for (std::size_t i = 0; i < list.elements().size(); ++i) list.element(i) = random_reply(random, depth - 1);
      return list;
    }
  }
}

/// Fills the reader with at most `segment` of the bytes, and takes those away.
void arrive(reply_reader& reader, std::string_view& bytes, std::size_t segment) {
  const auto room = reader.room();
  REQUIRE_FALSE(room.empty());
  const std::size_t size = std::min({room.size(), segment, bytes.size()});
  std::memcpy(room.data(), bytes.data(), size);
  reader.filled(size);
  bytes.remove_prefix(size);
}

struct outcome {
  std::vector<tn::reply> replies;
  bool refused = false;
  std::size_t taken = 0;  // bytes that had arrived at the end
};

/// Reads everything, in segments of the sizes that `next_size` gives. Ends early where the reader refuses.
outcome read(std::string_view bytes, const std::function<std::size_t()>& next_size, const tn::reply_limits& limits = {}) {
  outcome out;
  reply_reader reader{limits};
  const std::size_t all = bytes.size();
  try {
    while (!bytes.empty()) {
      arrive(reader, bytes, next_size());
      while (auto one = reader.next()) out.replies.push_back(*std::move(one));
    }
  } catch (const tn::connection_error& refused) {
    CHECK(refused.code() == tn::errc::protocol);
    out.refused = true;
  }
  out.taken = all - bytes.size();
  return out;
}

outcome read(std::string_view bytes, std::size_t segment, const tn::reply_limits& limits = {}) {
  return read(bytes, [segment] { return segment; }, limits);
}

constexpr std::size_t whole = std::size_t{1} << 40U;

tn::reply only(std::string_view bytes) {
  auto all = read(bytes, whole);
  REQUIRE_FALSE(all.refused);
  REQUIRE(all.replies.size() == 1);
  return all.replies.front();
}

std::chrono::nanoseconds cpu_time() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds{now.tv_sec} + std::chrono::nanoseconds{now.tv_nsec};
}

/// The most memory the process ever had, so only a bound: earlier tests of the same process may have had more.
std::size_t peak_memory() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
}

std::string repeated(std::string_view text, std::size_t times) {
  std::string all;
  all.reserve(text.size() * times);
  for (std::size_t i = 0; i < times; ++i) all += text;
  return all;
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
  CHECK(only(":+5\r\n") == tn::reply::make_integer(5));  // the specification allows a plus
  CHECK(only(":0\r\n") == tn::reply::make_integer(0));
  for (const auto& [text, value] :
       std::vector<std::pair<std::string, std::int64_t>>{{"-0", 0}, {"+0", 0}, {"007", 7}, {"-07", -7}, {"00", 0}}) {
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

TEST_CASE("the limits are those of the reader") {
  const tn::reply_limits limits{.bytes = 5000, .elements = 100, .line = 200, .depth = 2};
  CHECK(read("$4991\r\n" + std::string(4991, 'x') + "\r\n", 64, limits).replies.size() == 1);
  CHECK(read("$4992\r\n" + std::string(4992, 'x') + "\r\n", 64, limits).taken <= 64);
  CHECK(read("+" + std::string(197, 'x') + "\r\n", 64, limits).replies.size() == 1);
  CHECK(read("+" + std::string(198, 'x') + "\r\n", 64, limits).refused);
  CHECK(read("*100\r\n" + repeated(":1\r\n", 100), 64, limits).replies.size() == 1);
  CHECK(read("*101\r\n" + repeated(":1\r\n", 101), 64, limits).refused);
  CHECK(read("*1\r\n*1\r\n:1\r\n", 64, limits).replies.size() == 1);
  CHECK(read("*1\r\n*1\r\n*1\r\n:1\r\n", 64, limits).refused);
}

TEST_CASE("a reply as large as the default limits allow is read") {
  const std::string header = "$" + std::to_string(64 * mebi - 13) + "\r\n";
  REQUIRE(header.size() == 11);
  const std::string bytes = header + std::string(64 * mebi - 13, 'x') + "\r\n";
  const auto large = read(bytes, 64U << 10U);
  REQUIRE(large.replies.size() == 1);
  CHECK(large.replies[0].str().size() == 64 * mebi - 13);
  CHECK(read("$" + std::to_string(64 * mebi - 12) + "\r\n", whole).refused);

  const auto wide = read("*1048576\r\n" + repeated(":1\r\n", mebi), 64U << 10U);
  REQUIRE(wide.replies.size() == 1);
  CHECK(wide.replies[0].elements().size() == mebi);
  CHECK(wide.replies[0][mebi - 1].integer() == 1);
}

TEST_CASE("hostile replies are refused at once, in little time and memory") {
  const std::vector<std::pair<std::string, std::size_t>> hostile{
      {"*2147483647\r\n", 16},
      {"*1048577\r\n", 16},
      {repeated("*1\r\n", mebi), 64},
      {repeated("*2\r\n", mebi), 64},
      {"$9223372036854775807\r\n" + std::string(mebi, 'x'), 64},
      {"+" + std::string(64 * mebi, 'x'), (64U << 10U) + 2},
      {"$" + std::string(64 * mebi, '1'), (64U << 10U) + 2},
      {":" + std::string(64 * mebi, '0'), (64U << 10U) + 2},
      {"*" + std::string(64 * mebi, '0'), (64U << 10U) + 2},
      {repeated("\n", mebi), 16},
      {"+\n" + repeated("\n", mebi), 16},
      {"$3\r\nabcXX+OK\r\n", 16},
      {"*-2\r\n", 16},
      {"$-2\r\n", 16},
      {":12a\r\n", 16},
      {"HTTP/1.1 400 Bad Request\r\n", 16},
      {"\x15\x03\x03\x00\x02\x02\x28"s, 16},
      {"_\r\n", 16},
      {"%1\r\n+a\r\n+b\r\n", 16},
      {">2\r\n+invalidate\r\n*0\r\n", 32},
      {"$?\r\n;4\r\nabcd\r\n;0\r\n", 32}};
  for (const auto& [bytes, enough] : hostile) {
    CAPTURE(bytes.substr(0, 24), bytes.size());
    for (const std::size_t segment : {std::size_t{16}, std::size_t{1000}, whole}) {
      const std::size_t memory = peak_memory();
      const support::allocation_counter allocations;
      const auto before = cpu_time();
      const auto out = read(bytes, segment);
      const auto used = cpu_time() - before;
      CHECK(out.refused);
      CHECK(out.replies.empty());
      CHECK(used < 50ms);
      CHECK(allocations.count() < 100);
      CHECK(peak_memory() - memory < 4 * mebi);
      if (segment != whole) CHECK(out.taken <= enough + segment);
    }
  }
}

TEST_CASE("what was announced costs nothing until it arrives") {
  for (const std::string_view header : {"$60000000\r\n", "*1048576\r\n", "*1\r\n$60000000\r\n"}) {
    CAPTURE(header);
    const std::size_t memory = peak_memory();
    reply_reader reader{{}};
    std::string_view bytes = header;
    arrive(reader, bytes, whole);
    CHECK_FALSE(reader.next());
    CHECK(reader.room().size() <= 64U << 10U);
    CHECK(peak_memory() - memory < 4 * mebi);
  }
}

TEST_CASE("the buffer grows with what arrived and shrinks when it has passed") {
  reply_reader reader{{}};
  const std::string bytes = "$" + std::to_string(16 * mebi) + "\r\n" + std::string(16 * mebi, 'x') + "\r\n";
  std::string_view rest = bytes;
  while (!rest.empty()) {
    const std::size_t arrived = bytes.size() - rest.size();
    REQUIRE(reader.room().size() <= arrived + (64U << 10U));
    REQUIRE_FALSE(reader.next());
    arrive(reader, rest, 10'000);
  }
  REQUIRE(reader.next());
  CHECK(reader.room().size() <= 64U << 10U);
}

TEST_CASE("many replies in one buffer need no allocation of the reader for each") {
  reply_reader reader{{}};
  const std::string bytes = repeated("+OK\r\n", 3000);
  const auto pass = [&] {
    std::string_view rest = bytes;
    std::size_t count = 0;
    while (!rest.empty()) {
      arrive(reader, rest, whole);
      while (reader.next()) ++count;
    }
    return count;
  };
  REQUIRE(pass() == 3000);
  const support::allocation_counter allocations;
  REQUIRE(pass() == 3000);
  CHECK(allocations.count() < 10);
}

TEST_CASE("each byte is looked at once, however small the segments") {
  // Quadratic work would take minutes where these bounds are ten times what is needed, and more.
  SECTION("of a line") {
    const std::string bytes = "+" + std::string(4 * mebi, 'x') + "\r\n";
    const tn::reply_limits limits{.line = 8 * mebi};
    const auto before = cpu_time();
    const auto out = read(bytes, 7, limits);
    CHECK(cpu_time() - before < 3s);
    CHECK(out.replies.size() == 1);
  }
  SECTION("of a string") {
    const std::string bytes = "$" + std::to_string(8 * mebi) + "\r\n" + std::string(8 * mebi, '\n') + "\r\n";
    const auto before = cpu_time();
    const auto out = read(bytes, 7);
    CHECK(cpu_time() - before < 6s);
    CHECK(out.replies.size() == 1);
  }
  SECTION("of an array") {
    const std::string bytes = "*500000\r\n" + repeated("$3\r\nabc\r\n", 500'000);
    const auto before = cpu_time();
    const auto out = read(bytes, 7);
    CHECK(cpu_time() - before < 6s);
    CHECK(out.replies.size() == 1);
  }
  SECTION("of an endless line in single bytes") {
    const std::string bytes = "+" + std::string(mebi, 'x');
    const tn::reply_limits limits{.line = 8 * mebi};
    const auto before = cpu_time();
    const auto out = read(bytes, 1, limits);
    CHECK(cpu_time() - before < 3s);
    CHECK(out.replies.empty());
    CHECK_FALSE(out.refused);
  }
  SECTION("of many replies") {
    const std::string bytes = repeated("+OK\r\n:1\r\n$5\r\nhello\r\n", 100'000);
    const auto before = cpu_time();
    const auto out = read(bytes, whole);
    CHECK(cpu_time() - before < 6s);
    CHECK(out.replies.size() == 300'000);
  }
}
