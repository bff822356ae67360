#include "resp/framer.hpp"

#include <tenantry/reply.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <support/random_bytes.hpp>
#include <vector>

namespace tn = tenantry;
using namespace std::string_literals;
using framer = tn::resp::framer;
using status = framer::status;

namespace {

/// Whole replies of every type and shape.
std::vector<std::string> valid_replies() {
  return {"+OK\r\n",
          "+\r\n",
          "-ERR unknown command\r\n",
          "-\r\n",
          ":0\r\n",
          ":-1\r\n",
          ":9223372036854775807\r\n",
          ":-9223372036854775808\r\n",
          "$-1\r\n",
          "$0\r\n\r\n",
          "$1\r\n\r\r\n",
          "$2\r\n\r\n\r\n",
          "$5\r\nhello\r\n",
          "$12\r\n+OK\r\n*2\r\n$9\r\r\n",
          "$4\r\n\0\xff\0\n\r\n"s,
          "$3000\r\n" + std::string(3000, '\n') + "\r\n",
          "*-1\r\n",
          "*0\r\n",
          "*1\r\n*0\r\n",
          "*2\r\n*-1\r\n$-1\r\n",
          "*3\r\n$3\r\nfoo\r\n:7\r\n-ERR in an array\r\n",
          "*2\r\n*2\r\n:1\r\n:2\r\n*1\r\n$1\r\nx\r\n",
          "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:8\r\n",
          "*3\r\n*2\r\n+a\r\n*1\r\n+b\r\n*0\r\n+c\r\n"};
}

/// What is not RESP2, each with the number of bytes after which that is certain.
struct hostile {
  std::string bytes;
  std::size_t certain;
};

std::vector<hostile> invalid_replies() {
  return {{"?\r\n", 1},
          {"\r\n", 1},
          {"\n", 1},
          {"\0"s, 1},
          {"OK\r\n", 1},
          {" +OK\r\n", 1},
          {"HTTP/1.1 400 Bad Request\r\n", 1},
          {"\x15\x03\x03\x00\x02\x02\x28"s, 1},
          {"\x16\x03\x01\x02\x00\x01"s, 1},
          {"_\r\n", 1},
          {"#t\r\n", 1},
          {",1.5\r\n", 1},
          {"(12345678901234567890\r\n", 1},
          {"!5\r\nERR a\r\n", 1},
          {"=7\r\ntxt:abc\r\n", 1},
          {"%1\r\n+a\r\n+b\r\n", 1},
          {"~1\r\n+a\r\n", 1},
          {">1\r\n+a\r\n", 1},
          {"|1\r\n+a\r\n+b\r\n+c\r\n", 1},
          {"+\n", 2},
          {"+OK\n", 4},
          {"-ERR\n", 5},
          {":1\n", 3},
          {"$1\na\r\n", 3},
          {"*1\n:1\r\n", 3},
          {"+a\rb\r\n", 6},
          {"+a\r\r\n", 5},
          {"+\r\r\n", 4},
          {":\r\n", 3},
          {":-\r\n", 4},
          {":12a\r\n", 6},
          {": 1\r\n", 5},
          {":1 \r\n", 5},
          {":0x1\r\n", 6},
          {":1.5\r\n", 6},
          {":--1\r\n", 6},
          {":+-1\r\n", 6},
          {":9223372036854775808\r\n", 22},
          {":-9223372036854775809\r\n", 23},
          {":99999999999999999999999\r\n", 26},
          {"$\r\n", 3},
          {"$a\r\n", 4},
          {"$-2\r\n", 5},
          {"$?\r\n", 4},
          {"$-9223372036854775808\r\n", 23},
          {"$9223372036854775807\r\n", 22},
          {"$9223372036854775808\r\n", 22},
          {"$18446744073709551615\r\n", 23},
          {"$67108864\r\n", 11},  // with its header more than 64 MiB
          {"*\r\n", 3},
          {"*a\r\n", 4},
          {"*-2\r\n", 5},
          {"*?\r\n", 4},
          {"*2147483647\r\n", 13},
          {"*4294967296\r\n", 13},
          {"*1048577\r\n", 10},
          {"*9223372036854775807\r\n", 22},
          {"*18446744073709551617\r\n", 23},
          {"$3\r\nabcXX+OK\r\n", 8},
          {"$3\r\nabc\n\r\n", 8},
          {"$3\r\nabc\rX\r\n", 9},
          {"$3\r\nabcd\r\n", 8},
          {"$0\r\n+OK\r\n", 5},
          {"*2\r\n:1\r\n?\r\n", 9},
          {"*2\r\n$1\r\nab\r\n", 10},
          {"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", 36}};
}

std::string nested(std::size_t depth) {
  std::string text;
  for (std::size_t i = 0; i < depth; ++i) text += "*1\r\n";
  return text + ":1\r\n";
}

/// Scans the prefixes of the given sizes one after another, as they would arrive.
status scan_prefixes(framer& one, std::string_view bytes, const std::vector<std::size_t>& sizes) {
  for (const std::size_t size : sizes) {
    const status now = one.scan(bytes.substr(0, size));
    if (now != status::incomplete) return now;
  }
  return status::incomplete;
}

std::vector<std::size_t> every_size(std::size_t size) {
  std::vector<std::size_t> sizes;
  for (std::size_t i = 1; i <= size; ++i) sizes.push_back(i);
  return sizes;
}

std::vector<std::size_t> some_sizes(support::random_bytes& random, std::size_t size) {
  std::vector<std::size_t> sizes;
  for (std::size_t n = random.below(6); n > 0; --n) sizes.push_back(random.below(size + 1));
  sizes.push_back(size);
  std::ranges::sort(sizes);
  return sizes;
}

bool is_complete(const tn::reply_limits& limits, std::string_view bytes) {
  framer whole{limits};
  framer bytewise{limits};
  const status answer = whole.scan(bytes);
  CHECK(scan_prefixes(bytewise, bytes, every_size(bytes.size())) == answer);
  if (answer == status::complete) {
    CHECK(whole.size() == bytes.size());
    CHECK(bytewise.size() == bytes.size());
  } else {
    CHECK(answer == status::defect);
    CHECK_FALSE(whole.defect().empty());
  }
  return answer == status::complete;
}

}  // namespace

TEST_CASE("a reply ends at the same byte wherever it is cut") {
  for (const std::string& bytes : valid_replies()) {
    CAPTURE(bytes);
    framer whole{{}};
    REQUIRE(whole.scan(bytes) == status::complete);
    REQUIRE(whole.size() == bytes.size());
    for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
      framer one{{}};
      REQUIRE(one.scan(std::string_view{bytes}.substr(0, cut)) == status::incomplete);
      REQUIRE(one.scan(bytes) == status::complete);
      REQUIRE(one.size() == bytes.size());
    }
    framer bytewise{{}};
    REQUIRE(scan_prefixes(bytewise, bytes, every_size(bytes.size() - 1)) == status::incomplete);
    REQUIRE(bytewise.scan(bytes) == status::complete);
    REQUIRE(bytewise.size() == bytes.size());
  }
}

TEST_CASE("replies in one buffer are found one after another, however it is cut") {
  support::random_bytes random;
  const auto corpus = valid_replies();
  for (int round = 0; round < 300; ++round) {
    std::vector<std::string> sent;
    std::string stream;
    for (std::size_t n = 1 + random.below(8); n > 0; --n) {
      sent.push_back(corpus[random.below(corpus.size())]);
      stream += sent.back();
    }
    framer one{{}};
    std::size_t found = 0;
    std::size_t begin = 0;
    for (const std::size_t arrived : some_sizes(random, stream.size())) {
      while (begin < arrived && one.scan(std::string_view{stream}.substr(begin, arrived - begin)) == status::complete) {
        REQUIRE(found < sent.size());
        REQUIRE(one.size() == sent[found].size());
        begin += one.size();
        ++found;
      }
    }
    REQUIRE(found == sent.size());
  }
}

TEST_CASE("what is not RESP2 is refused as soon as that is certain, wherever it is cut") {
  for (const auto& [bytes, certain] : invalid_replies()) {
    CAPTURE(bytes);
    framer whole{{}};
    CHECK(whole.scan(bytes) == status::defect);
    CHECK_FALSE(whole.defect().empty());
    for (std::size_t cut = 1; cut <= bytes.size(); ++cut) {
      CAPTURE(cut);
      framer one{{}};
      const status early = one.scan(std::string_view{bytes}.substr(0, cut));
      REQUIRE(early == (cut < certain ? status::incomplete : status::defect));
      REQUIRE(one.scan(bytes) == status::defect);
    }
    framer bytewise{{}};
    CHECK(scan_prefixes(bytewise, bytes, every_size(certain)) == status::defect);
  }
}

TEST_CASE("a framer that found a defect stays with it") {
  framer one{{}};
  REQUIRE(one.scan("?") == status::defect);
  const std::string first = one.defect();
  CHECK(one.scan("+OK\r\n") == status::defect);
  CHECK(one.defect() == first);
}

TEST_CASE("a defect is told in a short printable line, whatever the server sent") {
  support::random_bytes random;
  for (int round = 0; round < 500; ++round) {
    framer one{{}};
    if (one.scan(random.bytes(1 + random.below(100))) != status::defect) continue;
    CHECK(one.defect().size() < 200);
    CHECK(std::ranges::all_of(one.defect(), [](char c) { return c >= ' ' && c <= '~'; }));
  }
}

TEST_CASE("a server that speaks HTTP or TLS is told apart") {
  framer http{{}};
  REQUIRE(http.scan("HTTP/1.1 400 Bad Request\r\n") == status::defect);
  CHECK(http.defect().find("HTTP") != std::string::npos);
  framer alert{{}};
  REQUIRE(alert.scan("\x15\x03\x03\x00\x02\x02\x28"s) == status::defect);
  CHECK(alert.defect().find("TLS") != std::string::npos);
}

TEST_CASE("a line of exactly the limit is accepted and one byte more is refused") {
  const tn::reply_limits limits{.line = 100};
  for (const char type : {'+', '-'}) {
    const std::string start(1, type);
    CHECK(is_complete(limits, start + std::string(97, 'x') + "\r\n"));
    CHECK_FALSE(is_complete(limits, start + std::string(98, 'x') + "\r\n"));
  }
  for (const char type : {':', '$', '*'}) {
    const std::string start(1, type);
    CHECK_FALSE(is_complete(limits, start + std::string(97, '0') + "1\r\n"));
  }
}

TEST_CASE("a line that does not end is refused when it exceeds the limit") {
  const tn::reply_limits limits{.line = 100};
  framer one{limits};
  CHECK(one.scan("+" + std::string(99, 'x')) == status::incomplete);
  CHECK(one.scan("+" + std::string(100, 'x')) == status::defect);
}

TEST_CASE("a reply of exactly the byte limit is accepted and one byte more is refused") {
  const tn::reply_limits limits{.bytes = 100};
  CHECK(is_complete(limits, "$93\r\n" + std::string(93, 'x') + "\r\n"));
  CHECK_FALSE(is_complete(limits, "$94\r\n" + std::string(94, 'x') + "\r\n"));
  CHECK(is_complete(limits, "+" + std::string(97, 'x') + "\r\n"));
  CHECK_FALSE(is_complete(limits, "+" + std::string(98, 'x') + "\r\n"));
  // 4 + 9 + 87
  CHECK(is_complete(limits, "*2\r\n$3\r\nabc\r\n$80\r\n" + std::string(80, 'x') + "\r\n"));
  CHECK_FALSE(is_complete(limits, "*2\r\n$3\r\nabc\r\n$81\r\n" + std::string(81, 'x') + "\r\n"));
  // Lines inside an array count too: 5 + 23 * 4 + 3.
  std::string lines = "*24\r\n";
  for (int i = 0; i < 23; ++i) lines += ":1\r\n";
  CHECK(is_complete(limits, lines + "+\r\n"));
  CHECK_FALSE(is_complete(limits, lines + "+x\r\n"));
}

TEST_CASE("a string that would exceed the byte limit is refused at its header") {
  const tn::reply_limits limits{.bytes = 100};
  framer one{limits};
  CHECK(one.scan("$94\r\n") == status::defect);
  framer second{limits};
  REQUIRE(second.scan("*2\r\n$3\r\nabc\r\n") == status::incomplete);
  CHECK(second.scan("*2\r\n$3\r\nabc\r\n$82\r\n") == status::defect);
}

TEST_CASE("an array that announces more than the limit is refused at its header") {
  const tn::reply_limits limits{.elements = 10};
  framer exact{limits};
  CHECK(exact.scan("*10\r\n") == status::incomplete);
  framer above{limits};
  CHECK(above.scan("*11\r\n") == status::defect);
  framer usual{{}};
  CHECK(usual.scan("*1048576\r\n") == status::incomplete);
}

TEST_CASE("the elements of all arrays of a reply count together") {
  const tn::reply_limits limits{.elements = 6};
  CHECK(is_complete(limits, "*2\r\n*2\r\n:1\r\n:1\r\n*2\r\n:1\r\n:1\r\n"));
  CHECK_FALSE(is_complete(limits, "*2\r\n*2\r\n:1\r\n:1\r\n*3\r\n"));
  CHECK(is_complete(limits, "*6\r\n*0\r\n*0\r\n*0\r\n*-1\r\n*0\r\n*0\r\n"));
  // Every reply has the limit for itself.
  framer one{limits};
  const std::string reply = "*6\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n";
  CHECK(one.scan(reply) == status::complete);
  CHECK(one.scan(reply) == status::complete);
}

TEST_CASE("arrays in arrays are accepted eight deep and refused nine deep") {
  CHECK(is_complete({}, nested(8)));
  CHECK_FALSE(is_complete({}, nested(9)));
  CHECK(is_complete({.depth = 3}, nested(3)));
  CHECK_FALSE(is_complete({.depth = 3}, nested(4)));
  CHECK(is_complete({.depth = 1000}, nested(8)));
  CHECK_FALSE(is_complete({.depth = 1000}, nested(9)));
  // Many shallow arrays side by side are not deep.
  std::string wide = "*50\r\n";
  for (int i = 0; i < 50; ++i) wide += "*1\r\n*1\r\n:1\r\n";
  CHECK(is_complete({.depth = 3}, wide));
}

TEST_CASE("limits as large as they can be are not exceeded by wrapping around") {
  constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
  const tn::reply_limits limits{.bytes = most, .elements = most, .line = most};
  framer one{limits};
  CHECK(one.scan("$9223372036854775807\r\nabc") == status::incomplete);
  framer many{limits};
  const std::string header = "*9223372036854775807\r\n";
  CHECK(many.scan(header + header + ":1\r\n") == status::incomplete);
}

TEST_CASE("a framer announces a string before it arrives and never more than the limit") {
  framer one{{}};
  REQUIRE(one.scan("$1000\r\n") == status::incomplete);
  CHECK(one.announced() == 7 + 1000 + 2);
  REQUIRE(one.scan("$1000\r\nabc") == status::incomplete);
  CHECK(one.announced() == 7 + 1000 + 2);
  REQUIRE(one.scan("$1000\r\n" + std::string(1000, 'x') + "\r\n+O") == status::complete);
  CHECK(one.size() == 1009);
  REQUIRE(one.scan("+O") == status::incomplete);
  CHECK(one.announced() == 2);
}
