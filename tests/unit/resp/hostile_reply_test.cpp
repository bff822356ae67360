// What a reply may cost: limits, memory and CPU time, also where the server is broken or hostile.

#include "reading.hpp"
#include "resp/reply_reader.hpp"

#include <tenantry/reply.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstddef>
#include <ctime>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <support/allocation_counter.hpp>
#include <sys/resource.h>
#include <utility>
#include <vector>

namespace tn = tenantry;
using namespace std::string_literals;
using namespace std::chrono_literals;
using namespace reading;
using tn::resp::reply_reader;

namespace {

// A sanitizer makes every byte dearer, and its own memory counts in the peak.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int slowdown = 16;
#else
constexpr int slowdown = 1;
#endif

std::chrono::nanoseconds cpu_time() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds{now.tv_sec} + std::chrono::nanoseconds{now.tv_nsec};
}

/// Segments of this size, as long as reading them takes no more CPU time than the bound.
std::function<std::size_t()> within(std::chrono::seconds bound, std::size_t segment) {
  return [end = cpu_time() + bound, segment, calls = 0U]() mutable {
    if (++calls % 64 == 0 && cpu_time() > end) throw std::runtime_error{"reading takes too much CPU time"};
    return segment;
  };
}

/// The most memory the process ever had, so only a bound: earlier tests of the same process may have had more.
std::size_t peak_memory() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
}

}  // namespace

TEST_CASE("the limits are those of the reader") {
  const tn::reply_limits limits{.bytes = 5000, .elements = 100, .line = 200, .depth = 2};
  CHECK(read("$4991\r\n" + std::string(4991, 'x') + "\r\n", 64, limits).replies.size() == 1);
  const auto above = read("$4992\r\n" + std::string(4992, 'x') + "\r\n", 64, limits);
  CHECK(above.refused);
  CHECK(above.taken <= 64);
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
      {"*2147483648\r\n", 16},
      {"*1048577\r\n", 16},
      {repeated("*1\r\n", mebi), 64},
      {repeated("*2\r\n", mebi), 64},
      {"$9223372036854775807\r\n" + std::string(mebi, 'x'), 64},
      {"$9223372036854775808\r\n" + std::string(mebi, 'x'), 64},
      {"+" + std::string(64 * mebi, 'x'), (64U << 10U) + 2},
      {"$" + std::string(64 * mebi, '1'), (64U << 10U) + 2},
      {":" + std::string(64 * mebi, '0'), (64U << 10U) + 2},
      {"*" + std::string(64 * mebi, '0'), (64U << 10U) + 2},
      {repeated("\n", mebi), 16},
      {"+\n" + repeated("\n", mebi), 16},
      {"$3\r\nabcXX+OK\r\n", 16},
      {"$3\r\nabc\rX+OK\r\n", 16},
      {"$3\r\nabc\n\r+OK\r\n", 16},
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
    for (const std::size_t segment : {std::size_t{1}, std::size_t{16}, std::size_t{1000}, whole}) {
      const std::size_t memory = peak_memory();
      const support::allocation_counter allocations;
      const auto before = cpu_time();
      const auto out = read(bytes, segment);
      const auto used = cpu_time() - before;
      const std::size_t allocated = allocations.count();
      const std::size_t held = allocations.peak_bytes();
      CHECK(out.refused);
      CHECK(out.replies.empty());
      CHECK(used < 50ms * slowdown);
      CHECK(allocated < 100);
      CHECK(held < mebi);
      CHECK(peak_memory() - memory < 4 * mebi * slowdown);
      if (segment != whole) CHECK(out.taken <= enough + segment);
    }
  }
}

TEST_CASE("what is beyond a limit is refused with the last byte of its header") {
  const tn::reply_limits limits{.bytes = 5000, .elements = 100, .line = 200, .depth = 2};
  for (const std::string header : {"$4992\r\n", "*101\r\n", "*1\r\n$4988\r\n", "*2\r\n*99\r\n", "*1\r\n*1\r\n*1\r\n"}) {
    CAPTURE(header);
    CHECK_FALSE(read(std::string_view{header}.substr(0, header.size() - 1), 1, limits).refused);
    const auto out = read(header + "more", 1, limits);
    CHECK(out.refused);
    CHECK(out.taken == header.size());
  }
  for (const std::string_view header :
       {"$4991\r\n", "*100\r\n", "*1\r\n$4987\r\n", "*2\r\n*98\r\n", "*1\r\n*1\r\n:1\r\n"}) {
    CAPTURE(header);
    CHECK_FALSE(read(header, 1, limits).refused);
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
  const std::size_t count = pass();
  const std::size_t allocated = allocations.count();
  CHECK(count == 3000);
  CHECK(allocated < 10);
}

TEST_CASE("each byte is looked at once, however small the segments") {
  // Ten times what is needed, and more; work that grows with the square would take minutes.
  SECTION("of a line") {
    const std::string bytes = "+" + std::string(4 * mebi, 'x') + "\r\n";
    CHECK(read(bytes, within(3s, 7), {.line = 8 * mebi}).replies.size() == 1);
  }
  SECTION("of an endless line in single bytes") {
    const auto out = read("+" + std::string(16 * mebi / slowdown, 'x'), within(20s, 1), {.line = 32 * mebi});
    CHECK(out.replies.empty());
    CHECK_FALSE(out.refused);
  }
  SECTION("of a string") {
    const std::string bytes = "$" + std::to_string(8 * mebi) + "\r\n" + std::string(8 * mebi, '\n') + "\r\n";
    CHECK(read(bytes, within(6s, 7)).replies.size() == 1);
  }
  SECTION("of an array") {
    CHECK(read("*500000\r\n" + repeated("$3\r\nabc\r\n", 500'000), within(6s, 7)).replies.size() == 1);
  }
  SECTION("of many replies") {
    CHECK(read(repeated("+OK\r\n:1\r\n$5\r\nhello\r\n", 100'000), within(6s, 5000)).replies.size() == 300'000);
  }
}
