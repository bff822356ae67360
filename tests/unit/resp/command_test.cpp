#include <tenantry/channel.hpp>
#include <tenantry/command.hpp>
#include <tenantry/error.hpp>
#include <tenantry/key_schema.hpp>
#include <tenantry/tag.hpp>
#include <tenantry/tenant.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <bit>
#include <charconv>
#include <cmath>
#include <concepts>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <string_view>
#include <support/allocation_counter.hpp>
#include <support/random_bytes.hpp>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace tn = tenantry;
using namespace std::string_view_literals;

namespace {

constexpr tn::key_schema<"readings:{tenant}:monthly:{unit}:{year}:{month:02}"> readings;
constexpr tn::channel_schema<"alarms:{tenant}"> alarms;

/// What the specification asks for, written as plainly as it can be.
std::string wire(const std::vector<std::string>& words) {
  std::string text = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string& word : words) text += "$" + std::to_string(word.size()) + "\r\n" + word + "\r\n";
  return text;
}

/// The bytes of a command are right, whole and of two words, of which this is the second.
std::string second_word(const tn::command& one) {
  std::string word{one.first_argument()};
  CHECK(one.bytes() == wire({std::string{one.name()}, word}));
  return word;
}

template <class Number>
Number parsed(std::string_view digits) {
  Number value{};
  const auto [end, fault] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  CHECK(fault == std::errc{});
  CHECK(end == digits.data() + digits.size());
  return value;
}

/// libstdc++'s from_chars takes the smallest of these for out of range.
template <>
long double parsed<long double>(std::string_view digits) {
  return std::strtold(std::string{digits}.c_str(), nullptr);
}

/// For texts too long to be printed.
bool same(std::string_view a, std::string_view b) { return a == b; }

template <class T>
concept can_be_sent = requires(const T& value) {
  tn::command{"X"sv, value};
} && tn::detail::command_argument<T>;

}  // namespace

TEST_CASE("a command is an array of bulk strings") {
  CHECK(tn::command{"PING"}.bytes() == "*1\r\n$4\r\nPING\r\n");
  CHECK(tn::command{"GET", "k"}.bytes() == "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
  CHECK(tn::command{"SET", "k", "value", "PX", 300'000}.bytes() ==
        "*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n$2\r\nPX\r\n$6\r\n300000\r\n");
}

TEST_CASE("every form of text is copied as it is") {
  const std::string text = "value";
  const char* const pointer = text.c_str();
  std::string expected = wire({"X", "value", "value", "value", "value"});
  CHECK(tn::command{"X", text, std::string_view{text}, pointer, "value"}.bytes() == expected);

  std::string changing = "before";
  const tn::command sent{"X", changing};
  changing = "after!";
  CHECK(sent.bytes() == wire({"X", "before"}));
}

TEST_CASE("an empty argument is sent as an empty string") {
  const char* const none = nullptr;
  CHECK(tn::command{"X", ""}.bytes() == "*2\r\n$1\r\nX\r\n$0\r\n\r\n");
  CHECK(tn::command{"X", std::string_view{}}.bytes() == "*2\r\n$1\r\nX\r\n$0\r\n\r\n");
  CHECK(tn::command{"X", none}.bytes() == "*2\r\n$1\r\nX\r\n$0\r\n\r\n");
  CHECK(tn::command{"X", "", "", "a"}.bytes() == "*4\r\n$1\r\nX\r\n$0\r\n\r\n$0\r\n\r\n$1\r\na\r\n");
}

TEST_CASE("an argument may hold any bytes") {
  std::string all(256, '\0');
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<char>(static_cast<unsigned char>(i));
  CHECK(second_word(tn::command{"SET", all}) == all);
  CHECK(second_word(tn::command{"SET", "a\0b"sv}) == "a\0b"sv);
  CHECK(second_word(tn::command{"SET", "\r\n$3\r\nDEL\r\n"}) == "\r\n$3\r\nDEL\r\n");
}

TEMPLATE_TEST_CASE("an integer is its decimal text", "", std::int8_t, std::uint8_t, short, unsigned short, int,
                   unsigned, long, unsigned long, long long, unsigned long long) {
  const TestType least = std::numeric_limits<TestType>::min();
  const TestType most = std::numeric_limits<TestType>::max();
  CHECK(second_word(tn::command{"X", least}) == std::to_string(least));
  CHECK(second_word(tn::command{"X", most}) == std::to_string(most));
  CHECK(second_word(tn::command{"X", TestType{0}}) == "0");
  CHECK(second_word(tn::command{"X", TestType{7}}) == "7");
}

TEST_CASE("the largest integers are written in full") {
  CHECK(second_word(tn::command{"X", std::numeric_limits<std::int64_t>::min()}) == "-9223372036854775808");
  CHECK(second_word(tn::command{"X", std::numeric_limits<std::int64_t>::max()}) == "9223372036854775807");
  CHECK(second_word(tn::command{"X", std::numeric_limits<std::uint64_t>::max()}) == "18446744073709551615");
}

TEMPLATE_TEST_CASE("a floating point number is a text that gives it back", "", float, double, long double) {
  using limits = std::numeric_limits<TestType>;
  const auto round_trip = [](TestType value) {
    const TestType back = parsed<TestType>(second_word(tn::command{"X", value}));
    return back == value && std::signbit(back) == std::signbit(value);
  };
  for (const TestType value :
       {limits::min(), limits::max(), limits::lowest(), limits::denorm_min(), limits::epsilon(), limits::infinity(),
        -limits::infinity(), TestType(0.1L), TestType(-0.0L), TestType(1) / TestType(3), TestType(123456789)}) {
    CHECK(round_trip(value));
  }
  CHECK(std::isnan(parsed<TestType>(second_word(tn::command{"X", limits::quiet_NaN()}))));
}

TEST_CASE("a double is the shortest text that gives it back") {
  CHECK(second_word(tn::command{"X", 0.1}) == "0.1");
  CHECK(second_word(tn::command{"X", 0.1F}) == "0.1");
  CHECK(second_word(tn::command{"X", 1.0}) == "1");
  CHECK(second_word(tn::command{"X", -2.5}) == "-2.5");
  CHECK(second_word(tn::command{"X", 5e-324}) == "5e-324");
}

TEST_CASE("a double of any bits comes back from its text") {
  support::random_bytes random;
  for (int round = 0; round < 2000; ++round) {
    const std::string bits = random.bytes(8);
    std::uint64_t word = 0;
    for (const char c : bits) word = (word << 8U) | static_cast<unsigned char>(c);
    const auto value = std::bit_cast<double>(word);
    if (std::isnan(value)) continue;
    const tn::command sent{"X", value};
    REQUIRE(std::bit_cast<std::uint64_t>(parsed<double>(sent.first_argument())) == word);
  }
}

TEST_CASE("keys, patterns and channels are sent as their text") {
  const tn::tenant_id acme{"acme"};
  CHECK(second_word(tn::command{"GET", readings(acme, "unit 7", 2026, 3)}) == "readings:acme:monthly:unit%207:2026:03");
  CHECK(second_word(tn::command{"SCAN", readings.all(acme)}) == "readings:acme:monthly:*");
  CHECK(second_word(tn::command{"PUBLISH", alarms(acme)}) == "alarms:acme");
}

TEST_CASE("what is easily sent by mistake is no argument") {
  STATIC_CHECK(can_be_sent<int>);
  STATIC_CHECK(can_be_sent<std::string>);
  STATIC_CHECK(can_be_sent<tn::key>);
  STATIC_CHECK_FALSE(tn::detail::command_argument<bool>);
  STATIC_CHECK_FALSE(tn::detail::command_argument<char>);
  STATIC_CHECK_FALSE(tn::detail::command_argument<wchar_t>);
  STATIC_CHECK_FALSE(tn::detail::command_argument<std::nullptr_t>);
  STATIC_CHECK_FALSE(tn::detail::command_argument<void*>);
}

TEST_CASE("a command knows its name and its first argument") {
  const tn::command one{"CLIENT", "REPLY", "OFF"};
  CHECK(one.name() == "CLIENT");
  CHECK(one.first_argument() == "REPLY");
  CHECK(tn::command{"PING"}.name() == "PING");
  CHECK(tn::command{"PING"}.first_argument().empty());
  CHECK(tn::command{"get", "", "x"}.name() == "get");
  CHECK(tn::command{"get", "", "x"}.first_argument().empty());
  CHECK(tn::command{"SET", std::string(1000, 'k'), 1}.first_argument() == std::string(1000, 'k'));
}

TEST_CASE("a command keeps its words when it is copied or moved") {
  for (const std::size_t size : {0U, 1U, 5U, 100U}) {
    const std::string word(size, 'w');
    tn::command first{"X", word};
    const tn::command copy = first;
    const tn::command moved = std::move(first);
    for (const tn::command* each : {&copy, &moved}) {
      CHECK(each->bytes() == wire({"X", word}));
      CHECK(each->name() == "X");
      CHECK(each->first_argument() == word);
    }
  }
}

TEST_CASE("looking at a command that was moved away does not end the program") {
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGABRT, SIG_DFL);
    (void)std::freopen("/dev/null", "w", stderr);
    tn::command first{"SET", std::string(100, 'k')};
    const tn::command taken = std::move(first);
    const std::size_t seen = first.name().size() + first.first_argument().size();  // NOLINT(*-use-after-move)
    ::_exit(seen <= taken.bytes().size() ? 0 : 1);
  }
  REQUIRE(child > 0);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
}

TEST_CASE("a command of words is the same as a command of arguments") {
  const std::vector<std::string_view> words{"SET", "k", "", "a\0b"sv};
  const tn::command of_words{words};
  const tn::command of_arguments{"SET", "k", "", "a\0b"sv};
  CHECK(of_words.bytes() == of_arguments.bytes());
  CHECK(of_words.name() == "SET");
  CHECK(of_words.first_argument() == "k");
  const std::vector<std::string_view> alone{"PING"};
  CHECK(tn::command{alone}.bytes() == "*1\r\n$4\r\nPING\r\n");
}

TEST_CASE("a command without a name is refused") {
  const std::vector<std::string_view> none;
  const std::vector<std::string_view> empty{""};
  const std::vector<std::string_view> unnamed{"", "k"};
  CHECK_THROWS_AS(tn::command{none}, tn::invalid_option);
  CHECK_THROWS_AS(tn::command{empty}, tn::invalid_option);
  CHECK_THROWS_AS(tn::command{unnamed}, tn::invalid_option);
  CHECK_THROWS_AS(tn::command{""}, tn::invalid_option);
  CHECK_THROWS_AS((tn::command{"", "k"}), tn::invalid_option);
  try {
    const tn::command refused{""};
    FAIL("not refused");
  } catch (const tn::error& refused) {
    CHECK(refused.code() == tn::errc::invalid_option);
    CHECK(refused.execution() == tn::execution::not_sent);
  }
}

TEST_CASE("lengths and counts are right where they gain a digit") {
  for (const std::size_t size : {9U, 10U, 11U, 99U, 100U, 101U, 999U, 1000U, 9999U, 10'000U, 99'999U, 100'000U}) {
    const std::string word(size, 'x');
    CHECK(same(tn::command{"X", word}.bytes(), wire({"X", word})));
    CHECK(same(tn::command{word, "x"}.bytes(), wire({word, "x"})));
  }
  for (const std::size_t count : {8U, 9U, 10U, 98U, 99U, 100U, 999U, 1000U}) {
    const std::vector<std::string_view> views(count, "w");
    const std::vector<std::string> words(count, "w");
    CHECK(same(tn::command{views}.bytes(), wire(words)));
  }
}

TEST_CASE("a command of random words is encoded as the specification says") {
  support::random_bytes random;
  for (int round = 0; round < 500; ++round) {
    std::vector<std::string> words;
    for (std::size_t n = 1 + random.below(12); n > 0; --n) words.push_back(random.bytes(random.below(130)));
    if (words.front().empty()) words.front() = "X";
    const std::vector<std::string_view> views(words.begin(), words.end());
    const tn::command one{views};
    REQUIRE(one.bytes() == wire(words));
    REQUIRE(one.name() == words.front());
    REQUIRE(one.first_argument() == (words.size() > 1 ? words[1] : ""));
  }
}

TEST_CASE("a command costs one allocation") {
  if (!support::allocation_counter::works) SKIP("allocations are not counted under this sanitizer");
  const std::string value(1000, 'v');
  const std::string name(40, 'n');
  const support::allocation_counter allocations;
  const tn::command one{name, value, 1, 2.5, value, -3};
  const std::size_t allocated = allocations.count();
  CHECK(allocated == 1);
}
