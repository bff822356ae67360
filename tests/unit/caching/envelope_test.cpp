// What stands around a value: all of it comes back, and what is damaged in any way is nothing.

#include "caching/envelope.hpp"

#include "support/random_bytes.hpp"

#include <catch2/catch_test_macros.hpp>
#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using tenantry::detail::envelope_header;
using tenantry::detail::open_envelope;
using tenantry::detail::seal;
using tenantry::detail::stamped_tag;
using tenantry::detail::tag_stamp;
using tenantry::detail::tenant_stamp;

constexpr std::string_view key = "kpi:acme:portfolio";
const std::string stamp_text = "0123456789A.abcdefghij-.zyxwvutsrq_";
const std::string tag_text = "AAAAAAAAAAA.BBBBBBBBBBB";

envelope_header sample() {
  return {.stamp = *tenant_stamp::parse(stamp_text),
          .stale = 1h,
          .ttl = 5min,
          .computed_at = 1790000000000000us,
          .took = 1250us,
          .version = 7};
}

envelope_header tagged(const std::vector<std::string>& names) {
  envelope_header header = sample();
  for (const std::string& name : names) header.tags.push_back({.name = name, .stamp = tag_stamp::make()});
  return header;
}

/// The words of a first line.
std::vector<std::string> words_of(std::string_view line) {
  std::vector<std::string> words{""};
  for (const char c : line) {
    if (c == ' ') {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  return words;
}

enum class word : unsigned char { mark, stamp, stale, ttl, computed_at, took, version, hash, kind, size };

/// A value with another word in its first line.
std::string with(word which, const std::string& text, std::string_view payload = "payload") {
  const std::string bytes = seal(sample(), key, payload);
  auto words = words_of(std::string_view{bytes}.substr(0, bytes.find('\n')));
  words[static_cast<std::size_t>(which)] = text;
  return fmt::format("{}\n{}", fmt::join(words, " "), payload);
}

/// Bytes with this at the end of their first line.
std::string with_tail(std::string_view tail) {
  std::string bytes = seal(sample(), key, "payload");
  return bytes.insert(bytes.find('\n'), tail);
}

bool same(const envelope_header& a, const envelope_header& b) {
  return a.stamp == b.stamp && a.stale == b.stale && a.ttl == b.ttl && a.computed_at == b.computed_at &&
         a.took == b.took && a.version == b.version && a.absent == b.absent && a.tags == b.tags;
}

}  // namespace

TEST_CASE("a sealed value is one readable line and the payload") {
  envelope_header header = sample();
  header.tags.push_back({.name = "property:42", .stamp = *tag_stamp::parse(tag_text)});
  const std::string bytes = seal(header, "", "{\"a\":1}");
  // The hash of no bytes at all is the offset basis of FNV-1a.
  CHECK(bytes == "tn1 " + stamp_text + " 3600000 300000 1790000000000000 1250 7 cbf29ce484222325 v 7 property%3A42=" +
                     tag_text + "\n{\"a\":1}");
}

TEST_CASE("the stale life is the third word and the tags token begins at byte 28, as the scripts expect") {
  const std::string bytes = seal(sample(), key, "payload");
  CHECK(bytes.substr(28, 11) == "zyxwvutsrq_");
  CHECK(bytes.starts_with("tn1 " + stamp_text + " 3600000 "));
}

TEST_CASE("all that is sealed comes back") {
  for (const bool absent : {false, true}) {
    envelope_header header = tagged({"property:42", "unit:7"});
    header.absent = absent;
    const std::string payload = absent ? "" : "some\nlines\n"s;
    const std::string bytes = seal(header, key, payload);
    const auto opened = open_envelope(bytes, key);
    REQUIRE(opened);
    CHECK(same(opened->header, header));
    CHECK(opened->payload == payload);
    CHECK(opened->first_line == std::string_view{bytes}.substr(0, bytes.find('\n')));
    CHECK(opened->payload.data() + opened->payload.size() == bytes.data() + bytes.size());
  }
}

TEST_CASE("the least and the greatest numbers come back") {
  constexpr auto most = std::numeric_limits<std::int64_t>::max();
  envelope_header header = sample();
  header.stale = header.ttl = std::chrono::milliseconds{most};
  header.computed_at = header.took = std::chrono::microseconds{most};
  header.version = std::numeric_limits<std::uint32_t>::max();
  auto opened = open_envelope(seal(header, key, ""), key);
  REQUIRE(opened);
  CHECK(same(opened->header, header));

  const envelope_header least{.stamp = header.stamp};
  opened = open_envelope(seal(least, key, ""), key);
  REQUIRE(opened);
  CHECK(same(opened->header, least));
}

TEST_CASE("payloads of any bytes come back") {
  support::random_bytes random;
  for (int i = 0; i < 500; ++i) {
    const std::string payload = random.bytes(random.below(300));
    const std::string bytes = seal(sample(), key, payload);
    const auto opened = open_envelope(bytes, key);
    REQUIRE(opened);
    REQUIRE(opened->payload == payload);
  }
}

TEST_CASE("tags come back whatever bytes their names are of") {
  const std::vector<std::string> hostile{
      "a=b", "=",      "a b",      " ", "a\nb", "\n",     "\0"s,           "%",
      "%41", "{acme}", "\xff\xfe", "v", "tn1 ", tag_text, "a=" + tag_text, std::string(3000, '=')};
  const envelope_header all = tagged(hostile);
  const std::string bytes = seal(all, key, "payload");
  const auto opened = open_envelope(bytes, key);
  REQUIRE(opened);
  CHECK(opened->header.tags == all.tags);
  CHECK(opened->payload == "payload");

  support::random_bytes random;
  for (int i = 0; i < 500; ++i) {
    std::vector<std::string> names;
    for (std::size_t n = random.below(4); n > 0; --n) names.push_back(random.id());
    const envelope_header header = tagged(names);
    const std::string one = seal(header, key, names.empty() ? "" : names.front());
    const auto back = open_envelope(one, key);
    REQUIRE(back);
    REQUIRE(back->header.tags == header.tags);
  }
}

TEST_CASE("a value that is cut off at any byte is nothing, and so is one with a byte more") {
  for (const envelope_header& header : {sample(), tagged({"property:42", "b"})}) {
    const std::string bytes = seal(header, key, "payload");
    REQUIRE(open_envelope(bytes, key));
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      INFO("cut to " << size);
      CHECK_FALSE(open_envelope(bytes.substr(0, size), key));
    }
    for (const char more : {' ', '\n', '\0', 'x'}) CHECK_FALSE(open_envelope(bytes + more, key));
  }
}

TEST_CASE("a value of another format is nothing") {
  for (const auto* other : {"tn2", "tn", "tn11", "tn0", "TN1", "", " tn1", "\xff"})
    CHECK_FALSE(open_envelope(with(word::mark, other), key));
  CHECK_FALSE(open_envelope("", key));
  CHECK_FALSE(open_envelope("\n", key));
  CHECK_FALSE(open_envelope("{\"property_count\":12}", key));
  CHECK_FALSE(open_envelope("tn1 ", key));
  CHECK_FALSE(open_envelope("tn1 \n", key));
}

TEST_CASE("a value that was sealed for another key is nothing") {
  const std::string bytes = seal(sample(), key, "payload");
  for (const auto* other :
       {"kpi:acme:portfoliO", "kpi:acm:portfolio", "kpi:beta:portfolio", "", "kpi:acme:portfolio "}) {
    CHECK_FALSE(open_envelope(bytes, other));
  }
  CHECK_FALSE(open_envelope(bytes, "kpi:acme:portfolio\0"s));
}

TEST_CASE("a value with a wrong word in its first line is nothing") {
  const std::vector<std::pair<word, std::vector<std::string>>> wrong{
      {word::stamp, {"", "x", stamp_text + "x", stamp_text.substr(1), std::string(35, '0'), std::string(35, '.')}},
      {word::stale, {"", "x", "-1", "1x", "+1", "1.0", "0x1", "9223372036854775808", "-9223372036854775809", "\t1"}},
      {word::ttl, {"", "x", "-1", "1x", "+1", "1.0", "0x1", "9223372036854775808", "99999999999999999999999"}},
      {word::computed_at, {"", "x", "1x", "9223372036854775808"}},
      {word::took, {"", "x", "1x", "9223372036854775808"}},
      {word::version, {"", "x", "-1", "1x", "4294967296", "99999999999999999999999"}},
      {word::hash, {"", "x", "0", "-1", "cbf29ce484222325", "fffffffffffffffff"}},
      {word::kind, {"", "V", "A", "vv", "va", "x", "1"}},
      {word::size, {"", "x", "-1", "6", "8", "7x", "18446744073709551616", "18446744073709551615"}}};
  for (const auto& [which, texts] : wrong) {
    for (const std::string& text : texts) {
      INFO("word " << static_cast<int>(which) << ": '" << text << "'");
      CHECK_FALSE(open_envelope(with(which, text), key));
    }
  }
  CHECK(open_envelope(with(word::size, "7"), key));
}

TEST_CASE("a value whose tags are no tags is nothing") {
  for (const std::string& tail :
       {" "s, "  "s, " a"s, " ="s, " a="s, " =" + tag_text, " a=" + tag_text + "x", " a=" + tag_text.substr(1),
        " a=" + tag_text + " ", "  a=" + tag_text, " a=" + tag_text + "  b=" + tag_text, " a=" + tag_text + " b",
        " a=" + stamp_text, " a" + tag_text, "\ta=" + tag_text, " a=" + tag_text + "\r"}) {
    INFO("'" << tail << "'");
    CHECK_FALSE(open_envelope(with_tail(tail), key));
  }
  CHECK(open_envelope(with_tail(" a=" + tag_text), key));
}

TEST_CASE("a byte of the first line that becomes a separator makes the value nothing, but within a tag's name") {
  const std::string bytes = seal(tagged({"property:42"}), key, "payload");
  const std::string_view line = std::string_view{bytes}.substr(0, bytes.find('\n'));
  for (std::size_t at = 0; at < line.size(); ++at) {
    for (const char c : {' ', '\n', '=', '.', '\0', '\xff'}) {
      std::string changed = bytes;
      if (changed[at] == c) continue;
      changed[at] = c;
      const auto opened = open_envelope(changed, key);
      INFO("byte " << at << " of " << line << " to " << int{c});
      if (opened) {  // the name of a tag only: any of its bytes, but no separator
        const std::size_t begin = line.find("property");
        CHECK(at >= begin);
        CHECK(at < line.rfind('='));
        CHECK(c != ' ');
        CHECK(c != '\n');
      }
    }
  }
}

TEST_CASE("random bytes are nothing, and crash nothing") {
  support::random_bytes random;
  const std::string good = seal(tagged({"property:42", "b"}), key, "payload");
  for (int i = 0; i < 5000; ++i) {
    CHECK_FALSE(open_envelope(random.bytes(random.below(200)), key));
    CHECK_FALSE(open_envelope("tn1 " + random.bytes(random.below(200)), key));
    CHECK_FALSE(
        open_envelope("tn1 " + stamp_text + ' ' + random.text_of("0123456789 -va=.\n", random.below(200)), key));
    // Random bytes in place of some that are good, but for the names of tags: what these may be is tested above.
    std::string damaged = good;
    const std::size_t begin = random.below(good.find("property"));
    damaged.replace(begin, 1 + random.below(4), random.text_of("0123456789 -va=.\n\xff", 1 + random.below(4)));
    (void)open_envelope(damaged, key);
  }
}
