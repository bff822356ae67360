#include <tenantry/script.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tn = tenantry;

TEST_CASE("a script is known by the SHA-1 of its body") {
  CHECK(tn::script{""}.sha() == "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  CHECK(tn::script{"abc"}.sha() == "a9993e364706816aba3e25717850c26c9cd0d89d");
  CHECK(tn::script{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"}.sha() ==
        "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
  CHECK(tn::script{std::string(1'000'000, 'a')}.sha() == "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
  CHECK(tn::script{"return 1"}.sha() == "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");  // SCRIPT LOAD "return 1"
}

TEST_CASE("the digest is right for bodies around the ends of its blocks") {
  const std::vector<std::pair<std::size_t, std::string_view>> known{
      {54, "0617d0e2db51b03d5d09c217b3fe0643ed6d152f"},  {55, "ddf57317ef34bfee3b6df83d359098930eb278bc"},
      {56, "a0d492bb0fc889d0eca3bc137066ab6f4f74f369"},  {57, "11a02dcf95859677a62e75024067c22b165d890f"},
      {63, "c55856749bef509bdfe6bfebfc7bf4e793e82132"},  {64, "bede92be29c3874e1b54ddc77988d606fc857a8e"},
      {65, "b05a80522b053d6dc7e0a517d0e70212c7dad11f"},  {119, "504e27376a6e0f0dba8295b85cb25dc4dfa17d23"},
      {120, "82134b02fb3f702491be9bed581eeab59334acb2"}, {128, "a09133e6730ffe899efb70204cb5646cd5dc24ee"}};
  for (const auto& [size, digest] : known) {
    std::string body(size, '\0');
    for (std::size_t i = 0; i < size; ++i) body[i] = static_cast<char>(static_cast<unsigned char>((i * 7 + 3) % 256));
    CAPTURE(size);
    CHECK(tn::script{body}.sha() == digest);
  }
}

TEST_CASE("a script keeps its body unchanged, whatever bytes it holds") {
  const std::string body("return '\0\xff\r\n'", 14);
  const tn::script one{body};
  CHECK(one.body() == body);
  const tn::script copy = one;
  CHECK(copy.body() == one.body());
  CHECK(copy.sha() == one.sha());
}
