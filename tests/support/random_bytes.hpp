#pragma once
// Random texts for property tests, from a seed that a failing test prints.

#include <catch2/catch_message.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace support {

/// A generator whose seed stands in the report of every assertion that fails while it lives.
///
/// Run again with the environment variable TENANTRY_TEST_SEED set to that seed to see the same failure.
class random_bytes {
 public:
  random_bytes() : random_bytes{choose_seed()} {}
  explicit random_bytes(std::uint64_t seed)
      : engine_{seed},
        message_{Catch::MessageBuilder{"INFO", CATCH_INTERNAL_LINEINFO, Catch::ResultWas::Info} << "TENANTRY_TEST_SEED="
                                                                                                << seed} {}

  /// A number below `limit`, which is not zero.
  std::size_t below(std::size_t limit) { return static_cast<std::size_t>(engine_() % limit); }

  /// A number of any size; small ones, powers of ten and the largest are as likely as all others together.
  std::uint64_t number() {
    switch (below(4)) {
      case 0:
        return below(101);
      case 1:
        return UINT64_MAX - below(2);
      case 2: {
        std::uint64_t power = 1;
        for (std::size_t i = below(20); i > 0; --i) power *= 10;
        return power - below(2);
      }
      default:
        return engine_();
    }
  }

  /// `size` bytes of any value.
  std::string bytes(std::size_t size) {
    std::string text(size, '\0');
    for (char& c : text) c = static_cast<char>(static_cast<unsigned char>(below(256)));
    return text;
  }

  /// `size` bytes of `alphabet`.
  std::string text_of(std::string_view alphabet, std::size_t size) {
    std::string text(size, '\0');
    for (char& c : text) c = alphabet[below(alphabet.size())];
    return text;
  }

  /// A tenant id: one of a few that are easily confused with each other and with the rest of a key, or any.
  std::string tenant() {
    static const std::vector<std::string> confusing{
        "a",   "ac",        "acme",    "acme2", "acme.", "acme-", "acme_eu", "ACME",
        "kpi", "portfolio", "monthly", "2026",  ".",     "..",    "-",       std::string(64, 'a')};
    if (below(2) == 0) return confusing[below(confusing.size())];
    return text_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", 1 + below(64));
  }

  /// An id as a careless or hostile caller would send it. Never empty.
  std::string id() {
    using namespace std::string_view_literals;
    static constexpr std::string_view pieces[] = {"\0"sv,
                                                  "\xff"sv,
                                                  "\x7f"sv,
                                                  "\x80"sv,
                                                  "\x1f"sv,
                                                  " "sv,
                                                  "~"sv,
                                                  "!"sv,
                                                  ":"sv,
                                                  "::"sv,
                                                  "%"sv,
                                                  "%3A"sv,
                                                  "%3a"sv,
                                                  "%253A"sv,
                                                  "%00"sv,
                                                  "%2"sv,
                                                  "*"sv,
                                                  "?"sv,
                                                  "[a-z]"sv,
                                                  "[^a]"sv,
                                                  "\\"sv,
                                                  "\\*"sv,
                                                  "{"sv,
                                                  "}"sv,
                                                  "{acme}"sv,
                                                  "{tenant}"sv,
                                                  "#"sv,
                                                  "#lease"sv,
                                                  "acme"sv,
                                                  ":acme:"sv,
                                                  "*:acme:*"sv,
                                                  "portfolio"sv,
                                                  "kpi:acme:portfolio"sv,
                                                  "\xc3\xa4"sv,
                                                  "\xe2\x82\xac"sv,
                                                  "\xf0\x9f\x98\x80"sv,
                                                  "\r\n"sv,
                                                  "$5\r\n"sv,
                                                  "0"sv,
                                                  "-1"sv};
    switch (below(4)) {
      case 0:
        return bytes(1 + below(12));
      case 1:
        return tenant();
      default: {
        std::string text;
        for (std::size_t n = 1 + below(4); n > 0; --n) text += pieces[below(std::size(pieces))];
        return text;
      }
    }
  }

 private:
  static std::uint64_t choose_seed() {
    if (const char* const given = std::getenv("TENANTRY_TEST_SEED"); given != nullptr) {
      return std::strtoull(given, nullptr, 10);
    }
    std::random_device device;
    return (std::uint64_t{device()} << 32U) | device();
  }

  std::mt19937_64 engine_;
  Catch::ScopedMessage message_;
};

}  // namespace support
