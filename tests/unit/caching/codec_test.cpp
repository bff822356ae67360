// Values to bytes and back: what comes back, what is refused, and that no bytes crash a codec.

#include "support/kpi.hpp"
#include "support/random_bytes.hpp"

#include <tenantry/codec.hpp>
#include <tenantry/json_codec.hpp>

#include <catch2/catch_test_macros.hpp>

#include <csignal>
#include <cstddef>
#include <exception>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <sys/wait.h>
#include <type_traits>
#include <unistd.h>
#include <vector>

namespace {

namespace tn = tenantry;
using support::kpi;
using namespace std::string_literals;

static_assert(std::is_same_v<tn::default_codec<std::string>, tn::string_codec>);
static_assert(std::is_same_v<tn::default_codec<kpi>, tn::json_codec<kpi>>);
static_assert(tn::codec_of<tn::string_codec, std::string>);
static_assert(tn::codec_of<tn::json_codec<kpi>, kpi>);

struct with_state {
  explicit with_state(int) {}
  [[nodiscard]] std::string encode(int value) const { return std::to_string(value); }
  [[nodiscard]] int decode(std::string_view bytes) const { return std::stoi(std::string{bytes}); }
};
static_assert(!tn::codec_of<with_state, int>);

/// The value, or nothing where the codec refused the bytes by an exception.
template <class T>
std::optional<T> decoded(std::string_view bytes) {
  try {
    return tn::json_codec<T>{}.decode(bytes);
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

const std::string sample_text = R"({"property_count":12,"unit":"kWh"})";

/// How a function ends in a process of its own: its exit code, or minus the signal that ended it.
template <class Function>
int in_process(Function&& function) {
  const pid_t child = ::fork();
  if (child == 0) {
    for (const int each : {SIGSEGV, SIGABRT, SIGBUS}) std::signal(each, SIG_DFL);
    ::_exit(function());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace

TEST_CASE("the string codec keeps any bytes") {
  const tn::string_codec codec;
  CHECK(codec.decode(codec.encode("")).empty());
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  CHECK(codec.encode(all) == all);
  CHECK(codec.decode(all) == all);
  support::random_bytes random;
  for (int i = 0; i < 1000; ++i) {
    const std::string bytes = random.bytes(random.below(300));
    REQUIRE(codec.decode(codec.encode(bytes)) == bytes);
  }
}

TEST_CASE("the JSON codec writes compact JSON that other services can read") {
  CHECK(tn::json_codec<kpi>{}.encode(kpi{12, "kWh"}) == sample_text);
  CHECK(tn::json_codec<std::vector<int>>{}.encode({1, 2, 3}) == "[1,2,3]");
  CHECK(tn::json_codec<std::map<std::string, int>>{}.encode({{"a", 1}}) == R"({"a":1})");
  CHECK(tn::json_codec<int>{}.encode(-7) == "-7");
}

TEST_CASE("the JSON codec reads what another service wrote: other spacing, order and further fields") {
  const kpi expected{12, "kWh"};
  CHECK(decoded<kpi>(sample_text) == expected);
  CHECK(decoded<kpi>(" {\n\t\"unit\" : \"kWh\",\r\n  \"property_count\" : 12 }\n") == expected);
  CHECK(decoded<kpi>(R"({"computed":{"by":["php",8]},"unit":"kWh","property_count":12,"x":null})") == expected);
  CHECK(decoded<kpi>(R"({"property_count":12,"unit":"k\u0057h"})") == expected);
}

TEST_CASE("a value encoded as JSON and decoded is the same value") {
  support::random_bytes random;
  for (int i = 0; i < 1000; ++i) {
    const kpi value{static_cast<int>(random.below(std::numeric_limits<int>::max())),
                    random.text_of("abc\"\\/\n\t\x01\x7f {}[]:,\x00"s, random.below(40))};
    REQUIRE(decoded<kpi>(tn::json_codec<kpi>{}.encode(value)) == value);
  }
}

TEST_CASE("the JSON codec refuses what is not JSON, or JSON of another shape") {
  for (const std::string& bytes : {""s,
                                   " "s,
                                   "\0"s,
                                   "{"s,
                                   "}"s,
                                   "nonsense"s,
                                   "OK"s,
                                   "nil"s,
                                   "NaN"s,
                                   "null"s,
                                   "true"s,
                                   "12"s,
                                   "[]"s,
                                   "{}"s,
                                   "\"kpi\""s,
                                   R"({"property_count":12})"s,
                                   R"({"property_count":"12","unit":"kWh"})"s,
                                   R"({"property_count":12,"unit":7})"s,
                                   R"({"property_count":null,"unit":"kWh"})"s,
                                   R"([{"property_count":12,"unit":"kWh"}])"s,
                                   sample_text + "x",
                                   sample_text + sample_text,
                                   "x" + sample_text,
                                   "a:2:{s:14:\"property_count\";i:12;s:4:\"unit\";s:3:\"kWh\";}"s,
                                   "\x80\x04\x95\x1c\x00\x00\x00"s,
                                   "\x82\xaeproperty_count\x0c"s,
                                   "\x1f\x8b\x08\x00"s,
                                   "{\"property_count\":12,\"unit\":\"\xff\"}"s}) {
    INFO("bytes: " << bytes);
    CHECK_FALSE(decoded<kpi>(bytes).has_value());
  }
}

TEST_CASE("a JSON value that was cut off anywhere is refused") {
  for (std::size_t size = 0; size < sample_text.size(); ++size) {
    INFO("the first " << size << " bytes");
    CHECK_FALSE(decoded<kpi>(std::string_view{sample_text}.substr(0, size)).has_value());
  }
}

TEST_CASE("bytes that stand after a NUL are not ignored") {
  CHECK_FALSE(decoded<kpi>(sample_text + "\0and more"s).has_value());
  CHECK_FALSE(decoded<kpi>(sample_text + "\0"s + sample_text).has_value());
}

TEST_CASE("no bytes make the JSON codec do anything but answer or refuse") {
  support::random_bytes random;
  for (int i = 0; i < 5000; ++i) {
    std::string bytes = random.below(2) == 0 ? random.bytes(random.below(60)) : sample_text;
    for (std::size_t n = random.below(4); n > 0 && !bytes.empty(); --n) {
      bytes[random.below(bytes.size())] = random.bytes(1).front();
    }
    CHECK_NOTHROW(decoded<kpi>(bytes));
    CHECK_NOTHROW(decoded<std::vector<std::string>>(bytes));
    CHECK_NOTHROW(decoded<nlohmann::json>(bytes));
  }
}

TEST_CASE("a value with text that is not UTF-8 has no JSON and is refused") {
  CHECK_THROWS_AS((tn::json_codec<kpi>{}.encode(kpi{1, "\xff"})), std::exception);
  CHECK_THROWS_AS((tn::json_codec<std::string>{}.encode("caf\xe9")), std::exception);
}

TEST_CASE("JSON nested a hundred thousand deep is refused by a struct's codec, not a crash") {
  const std::string open(100'000, '[');
  CHECK_FALSE(decoded<kpi>(open).has_value());
  CHECK_FALSE(decoded<kpi>(open + std::string(open.size(), ']')).has_value());
}

TEST_CASE("JSON nested a hundred thousand deep does not crash a codec of any JSON") {
  const int ended = in_process([] {
    const std::string open(100'000, '[');
    (void)decoded<nlohmann::json>(open + std::string(open.size(), ']'));  // a value or a refusal, both are right
    return 0;
  });
  CHECK(ended == 0);
}
