// Stamps and their keys: what is one, what its parts are, and that none is made twice.

#include "caching/stamp.hpp"

#include "support/concurrency.hpp"
#include "support/random_bytes.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <set>
#include <string>
#include <string_view>

namespace {

namespace tn = tenantry;
using tn::detail::random_token;
using tn::detail::stamp_key;
using tn::detail::tag_stamp;
using tn::detail::tag_stamp_key;
using tn::detail::tenant_stamp;
using tn::detail::token_size;
using namespace std::string_literals;

constexpr std::string_view alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
const std::string sample = "0123456789A.abcdefghij-.zyxwvutsrq_";

static_assert(token_size == 11);
static_assert(tenant_stamp::size == 35);
static_assert(tag_stamp::size == 23);

}  // namespace

TEST_CASE("the stamp of a tenant is three tokens: hard, soft and tags") {
  const auto stamp = tenant_stamp::parse(sample);
  REQUIRE(stamp);
  CHECK(stamp->hard() == "0123456789A");
  CHECK(stamp->soft() == "abcdefghij-");
  CHECK(stamp->tags() == "zyxwvutsrq_");
  CHECK(stamp->str() == sample);
}

TEST_CASE("the stamp of a tag is two tokens: hard and soft") {
  const auto stamp = tag_stamp::parse(sample.substr(0, 23));
  REQUIRE(stamp);
  CHECK(stamp->hard() == "0123456789A");
  CHECK(stamp->soft() == "abcdefghij-");
  CHECK(stamp->str() == sample.substr(0, 23));
}

TEST_CASE("a text of any other length is no stamp") {
  for (std::size_t size = 0; size < 80; ++size) {
    const std::string text = (sample + '.' + sample + '.' + sample).substr(0, size);
    INFO(text);
    CHECK(tenant_stamp::parse(text).has_value() == (size == tenant_stamp::size));
    CHECK(tag_stamp::parse(text).has_value() == (size == tag_stamp::size));
  }
}

TEST_CASE("each of the 64 characters of tokens, and no other byte, can stand at each place of a token") {
  for (std::size_t at = 0; at < sample.size(); ++at) {
    const bool separator = at == 11 || at == 23;
    for (int byte = 0; byte < 256; ++byte) {
      std::string text = sample;
      text[at] = static_cast<char>(static_cast<unsigned char>(byte));
      const bool good = separator ? text[at] == '.' : alphabet.find(text[at]) != std::string_view::npos;
      INFO("byte " << byte << " at " << at);
      REQUIRE(tenant_stamp::parse(text).has_value() == good);
      if (at < 23) REQUIRE(tag_stamp::parse(text.substr(0, 23)).has_value() == good);
    }
  }
}

TEST_CASE("random bytes of the right length are no stamp, and crash nothing") {
  support::random_bytes random;
  for (int i = 0; i < 2000; ++i) {
    // 33 random bytes that are all of the alphabet: once in 10^20 times.
    REQUIRE_FALSE(tenant_stamp::parse(random.bytes(tenant_stamp::size)));
    REQUIRE_FALSE(tag_stamp::parse(random.bytes(tag_stamp::size)));
  }
}

TEST_CASE("tokens are 11 characters of the alphabet, and all places take all characters") {
  std::set<std::string> tokens;
  std::set<char> seen[token_size];
  for (int i = 0; i < 4000; ++i) {
    const std::string token = random_token();
    REQUIRE(token.size() == token_size);
    REQUIRE(token.find_first_not_of(alphabet) == std::string::npos);
    tokens.insert(token);
    for (std::size_t at = 0; at < token_size; ++at) seen[at].insert(token[at]);
  }
  CHECK(tokens.size() == 4000);
  for (const auto& each : seen) CHECK(each.size() == alphabet.size());  // one is missing once in 10^26 times
}

TEST_CASE("threads do not make the same tokens") {
  const auto make = [] {
    std::set<std::string> tokens;
    for (int i = 0; i < 200; ++i) tokens.insert(random_token());
    return tokens;
  };
  auto one = support::on_thread(make);
  auto other = support::on_thread(make);
  std::set<std::string> all = make();
  all.merge(one.get());
  all.merge(other.get());
  CHECK(all.size() == 600);
}

TEST_CASE("a made stamp can be parsed, differs from the last in each token, and its tokens differ") {
  const auto first = tenant_stamp::make();
  const auto second = tenant_stamp::make();
  CHECK(tenant_stamp::parse(first.str()) == first);
  CHECK(first.hard() != second.hard());
  CHECK(first.soft() != second.soft());
  CHECK(first.tags() != second.tags());
  CHECK(std::set<std::string_view>{first.hard(), first.soft(), first.tags()}.size() == 3);

  const auto tag = tag_stamp::make();
  const auto next = tag_stamp::make();
  CHECK(tag_stamp::parse(tag.str()) == tag);
  CHECK(tag.hard() != next.hard());
  CHECK(tag.soft() != next.soft());
  CHECK(tag.hard() != tag.soft());
}

TEST_CASE("what stands for a stamp where there is none is a stamp, always the same, and no made one") {
  const auto nobodys = tenant_stamp::nobodys();
  CHECK(tenant_stamp::parse(nobodys.str()) == nobodys);
  CHECK(nobodys == tenant_stamp::nobodys());
  CHECK(nobodys != tenant_stamp::make());
}

TEST_CASE("the stamps of a tenant and of its tags have the tenant in braces, and so one slot") {
  const tn::tenant_id acme{"acme"};
  CHECK(stamp_key(acme) == "stamp:{acme}");
  CHECK(tag_stamp_key(acme, "property:42") == "stamp:{acme}:tag:property%3A42");
  CHECK(tag_stamp_key(tn::tenant_id{"acme2"}, "a") == "stamp:{acme2}:tag:a");
}

TEST_CASE("tags of different names have different keys, however hostile the names are") {
  const tn::tenant_id acme{"acme"};
  const std::set<std::string> names{"a",   "A", "a:b", "a%3Ab", "a b",      "a=b",   "a\nb",    "a\0b"s, "%",   "%25",
                                    "{a}", "}", "*",   "\xff",  "\xc3\xa4", "tag:a", "a:tag:b", "a%",    "a%3", "a%3a"};
  std::set<std::string> keys;
  for (const std::string& name : names) {
    const std::string key = tag_stamp_key(acme, name);
    CHECK(key.starts_with("stamp:{acme}:tag:"));
    CHECK(key.find_first_of(" \n{}", 17) == std::string::npos);
    keys.insert(key);
  }
  CHECK(keys.size() == names.size());
}
