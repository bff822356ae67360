#include <tenantry/error.hpp>
#include <tenantry/sse.hpp>

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <iterator>
#include <limits>
#include <string>
#include <string_view>
#include <support/allocation_counter.hpp>
#include <support/errors.hpp>
#include <support/random_bytes.hpp>
#include <support/sse_parser.hpp>
#include <utility>
#include <vector>

namespace tn = tenantry;
using namespace std::chrono_literals;
using namespace std::string_view_literals;

namespace {

std::vector<support::sse_message> received(std::string_view stream) {
  support::sse_parser client;
  client.feed(stream);
  return client.messages;
}

/// What a client makes of an event's data: it sees every line end as \n.
std::string with_plain_line_ends(std::string_view data) {
  std::string plain;
  for (std::size_t i = 0; i < data.size(); ++i) {
    const bool before_lf = data[i] == '\r' && i + 1 < data.size() && data[i + 1] == '\n';
    if (!before_lf) plain += data[i] == '\r' ? '\n' : data[i];
  }
  return plain;
}

/// Text that looks like something else: line ends, fields, spaces, marks, and bytes that are not UTF-8.
std::string hostile_text(support::random_bytes& random) {
  static constexpr std::string_view pieces[] = {
      "\r"sv,           "\n"sv,       "\r\n"sv, "\n\r"sv,   "\n\n"sv,         "\r\r"sv,     "\r\n\r\n"sv, " "sv,
      "  "sv,           "\t"sv,       ":"sv,    ": "sv,     "data: x"sv,      "data"sv,     "id: 7"sv,    "id"sv,
      "event: x"sv,     "retry: 1"sv, "\0"sv,   "id: \0"sv, "\xef\xbb\xbf"sv, "\xef\xbb"sv, "\xff"sv,     "\xc3"sv,
      "\xe2\x80\xa8"sv, "\xc2\x85"sv, "\x0b"sv, "\x0c"sv,   "{\"a\":1}"sv,    "plain"sv,    "\xc3\xa4"sv, "\x1e"sv};
  if (random.below(4) == 0) return random.bytes(random.below(40));
  std::string text;
  for (std::size_t n = random.below(7); n > 0; --n) text += pieces[random.below(std::size(pieces))];
  return text;
}

std::string hostile_event_name(support::random_bytes& random) {
  if (random.below(3) == 0) return "";
  std::string name = hostile_text(random);
  std::erase_if(name, [](char c) { return c == '\r' || c == '\n' || c == '\0'; });
  return name;
}

std::string random_id(support::random_bytes& random) {
  constexpr std::string_view allowed =
      "!#$%&'*+,-./0123456789;=ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~";
  return random.text_of(allowed, random.below(4) == 0 ? 128 : random.below(12));
}

}  // namespace

TEST_CASE("an event has a line for its id, one for its name, and one for each line of its data") {
  CHECK(tn::sse_event{.id = "17-3-x9", .event = "alarm", .data = R"({"a":1})"}.str() ==
        "id: 17-3-x9\nevent: alarm\ndata: {\"a\":1}\n\n");
  CHECK(tn::sse_event{.data = "a"}.str() == "data: a\n\n");
  CHECK(tn::sse_event{.data = "a\nb\rc\r\nd"}.str() == "data: a\ndata: b\ndata: c\ndata: d\n\n");
  CHECK(tn::sse_event{.data = "\n\r\r\n"}.str() == "data: \ndata: \ndata: \ndata: \n\n");
  CHECK(tn::sse_event{.data = "\r"}.str() == "data: \ndata: \n\n");
  CHECK(tn::sse_event{.data = " : x"}.str() == "data:  : x\n\n");
}

TEST_CASE("an event without data is an event") {
  CHECK(tn::sse_event{}.str() == "data: \n\n");
  CHECK(received(tn::sse_event{.id = "1", .event = "gap"}.str()) ==
        std::vector<support::sse_message>{{"gap", "", "1"}});
}

TEST_CASE("an event without an id keeps the client's position, one with an empty id resets it") {
  CHECK(tn::sse_event{.id = "", .data = "c"}.str() == "id: \ndata: c\n\n");
  const std::string stream = tn::sse_event{.id = "7", .data = "a"}.str() + tn::sse_event{.data = "b"}.str() +
                             tn::sse_event{.id = "", .data = "c"}.str();
  CHECK(received(stream) ==
        std::vector<support::sse_message>{{"message", "a", "7"}, {"message", "b", "7"}, {"message", "c", ""}});
}

TEST_CASE("a byte order mark at the beginning of the data stays there, also in the first event of a stream") {
  for (const auto data : {"\xef\xbb\xbf"sv, "\xef\xbb\xbfx"sv, "\n\xef\xbb\xbf y"sv}) {
    CHECK(received(tn::sse_event{.data = data}.str()).at(0).data == data);
  }
}

TEST_CASE("every byte but the line ends comes through as data and in a name, wherever it stands") {
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(static_cast<unsigned char>(byte));
    if (c == '\r' || c == '\n') continue;
    CAPTURE(byte);
    for (const std::string& text :
         {std::string(1, c), std::string{c, 'x'}, std::string{'x', c}, std::string{c, c, c}}) {
      CHECK(received(tn::sse_event{.data = text}.str()) == std::vector<support::sse_message>{{"message", text, ""}});
      if (c == '\0') continue;
      CHECK(received(tn::sse_event{.event = text}.str()) == std::vector<support::sse_message>{{text, "", ""}});
    }
  }
}

TEST_CASE("an id is refused if a client would not send it back unchanged, or if it has CORS-unsafe bytes") {
  constexpr auto unsafe = "\"():<>?@[\\]{}\x7f"sv;
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(static_cast<unsigned char>(byte));
    const std::string id{'1', '-', c};
    const bool allowed = byte > 0x20 && byte < 0x80 && unsafe.find(c) == std::string_view::npos;
    CAPTURE(byte);
    CHECK(tn::sse_event::valid_id(id) == allowed);
    if (allowed) {
      CHECK(received(tn::sse_event{.id = id}.str()).at(0).last_event_id == id);
    } else {
      const auto failure = support::failure_of([&] { (void)tn::sse_event{.id = id}.str(); });
      CHECK(failure.code == tn::errc::invalid_name);
      CHECK(failure.execution == tn::execution::not_sent);
    }
  }
  CHECK(support::failure_of([] { (void)tn::sse_event{.id = "17:3"}.str(); }).text ==
        R"(sse_event::id has byte 0x3a at 2; only visible ASCII without " ( ) : < > ? @ [ \ ] { } is allowed)");
}

TEST_CASE("an id has at most 128 bytes") {
  const std::string longest(128, 'x');
  CHECK(received(tn::sse_event{.id = longest}.str()).at(0).last_event_id == longest);
  CHECK(support::failure_of([&] { (void)tn::sse_event{.id = longest + 'x'}.str(); }).text ==
        "sse_event::id has 129 bytes, more than 128");
  STATIC_CHECK(tn::sse_event::valid_id(""));
  STATIC_CHECK(tn::sse_event::valid_id("0123456789abcdef-4711-9f3c"));
  CHECK_FALSE(tn::sse_event::valid_id(longest + 'x'));
}

TEST_CASE("a name with CR, LF or NUL is refused, and the error names the byte") {
  for (const auto name : {"\n"sv, "a\nb"sv, "a\r"sv, "\r\n"sv, "a\0"sv, "alarm\ndata: forged"sv}) {
    CHECK_FALSE(tn::sse_event::valid_event(name));
    CHECK(support::failure_of([&] { (void)tn::sse_event{.event = name}.str(); }).code == tn::errc::invalid_name);
  }
  CHECK(support::failure_of([] { (void)tn::sse_event{.event = "ab\rc"}.str(); }).text ==
        "sse_event::event has byte 0x0d at 2; CR, LF and NUL are not allowed");
  STATIC_CHECK(tn::sse_event::valid_event("alarm: \xff"));
}

TEST_CASE("a retry is whole milliseconds in digits only") {
  CHECK(tn::sse_retry{2345ms}.str() == "retry: 2345\n\n");
  CHECK(tn::sse_retry{.after = 3s}.str() == "retry: 3000\n\n");
  CHECK(tn::sse_retry{0ms}.str() == "retry: 0\n\n");
  CHECK(tn::sse_retry{}.str() == "retry: 3000\n\n");
  constexpr auto longest = std::numeric_limits<std::int64_t>::max();
  CHECK(tn::sse_retry{std::chrono::milliseconds{longest}}.str() == "retry: 9223372036854775807\n\n");
  support::sse_parser client;
  client.feed(tn::sse_retry{5s}.str());
  CHECK(client.retries == std::vector<std::uint64_t>{5000});
  CHECK(client.messages.empty());
}

TEST_CASE("a negative retry is refused") {
  const auto failure = support::failure_of([] { (void)tn::sse_retry{-5ms}.str(); });
  CHECK(failure.code == tn::errc::invalid_option);
  CHECK(failure.text == "sse_retry::after is -5 ms, less than 0");
}

TEST_CASE("no text gets out of a comment") {
  CHECK(tn::sse_comment{"ready"}.str() == ": ready\n\n");
  CHECK(tn::sse_comment{"a\ndata: forged\r\rid: 1\r\n"}.str() == ": a\n: data: forged\n: \n: id: 1\n: \n\n");
  CHECK(tn::sse_comment{}.str() == tn::sse_keep_alive);
  support::sse_parser client;
  client.feed(tn::sse_event{.id = "1", .data = "a"}.str());
  client.feed(tn::sse_keep_alive);
  CHECK(client.messages.size() == 1);
  CHECK(client.last_event_id == "1");
}

TEST_CASE("what is refused leaves the text as it was") {
  std::string out = tn::sse_event{.data = "first"}.str();
  const std::string before = out;
  CHECK_THROWS_AS((tn::sse_event{.id = "a b", .data = "x"}.append_to(out)), tn::invalid_name);
  CHECK_THROWS_AS((tn::sse_event{.id = "1", .event = "a\nb", .data = "x"}.append_to(out)), tn::invalid_name);
  CHECK_THROWS_AS((tn::sse_retry{-1ms}.append_to(out)), tn::invalid_option);
  CHECK(out == before);
}

TEST_CASE("a block is one allocation of its own, and none where there is room") {
  const std::string data = std::string(300, 'x') + "\r\n" + std::string(300, '\n');
  const tn::sse_event event{.id = "1-2-3", .event = "alarm", .data = data};
  const support::allocation_counter own;
  const std::string block = event.str();
  const std::size_t allocations = own.count();
  CHECK(block.capacity() == block.size());

  std::string out;
  out.reserve(3 * block.size() + 20);
  const support::allocation_counter appended;
  for (int i = 0; i < 3; ++i) event.append_to(out);
  tn::sse_retry{2345ms}.append_to(out);
  const std::size_t more = appended.count();
  CHECK(out == block + block + block + "retry: 2345\n\n");
  if constexpr (support::allocation_counter::works) {
    CHECK(allocations == 1);
    CHECK(more == 0);
  }
}

TEST_CASE("a text that grows with each block is allocated a few times only") {
  std::string out;
  const support::allocation_counter counter;
  for (int i = 0; i < 10'000; ++i) tn::sse_event{.data = "0123456789"}.append_to(out);
  const std::size_t allocations = counter.count();
  CHECK(out.size() == 180'000);
  if constexpr (support::allocation_counter::works) CHECK(allocations <= 20);
}

TEST_CASE("an event may view the text that it is appended to") {
  std::string out = "data: a\n\n";
  std::string expected = out;
  for (int i = 0; i < 12; ++i) {
    expected += tn::sse_event{.data = std::string{expected}}.str();
    tn::sse_event{.data = out}.append_to(out);
    REQUIRE(out == expected);
    if (out.size() > 50'000) break;
  }
  out.reserve(out.size() + 100);
  tn::sse_event{.event = std::string_view{out}.substr(6, 1)}.append_to(out);
  CHECK(out == expected + "event: a\ndata: \n\n");
}

TEST_CASE("the header fields keep a stream from being stored, changed or held back") {
  CHECK(tn::sse_headers == std::array<std::pair<std::string_view, std::string_view>, 3>{{
                               {"Content-Type", "text/event-stream"},
                               {"Cache-Control", "no-cache, no-transform"},
                               {"X-Accel-Buffering", "no"},
                           }});
}

TEST_CASE("whatever is sent is what the client receives, however the stream is cut") {
  support::random_bytes random;
  for (int round = 0; round < 3000; ++round) {
    std::string stream;
    std::string position;
    std::vector<support::sse_message> expected;
    std::vector<std::uint64_t> retries;
    for (std::size_t n = random.below(8); n > 0; --n) {
      switch (random.below(6)) {
        case 0:
          tn::sse_comment{hostile_text(random)}.append_to(stream);
          break;
        case 1:
          retries.push_back(random.number() / 2);
          tn::sse_retry{std::chrono::milliseconds{retries.back()}}.append_to(stream);
          break;
        default: {
          const std::string id = random_id(random);
          const std::string name = hostile_event_name(random);
          const std::string data = hostile_text(random);
          tn::sse_event event{.event = name, .data = data};
          if (random.below(3) != 0) event.id = position = id;
          event.append_to(stream);
          expected.push_back({name.empty() ? "message" : name, with_plain_line_ends(data), position});
        }
      }
    }

    support::sse_parser client;
    const std::size_t longest = 1 + random.below(30);
    for (std::string_view rest = stream; !rest.empty();) {
      const std::size_t size = std::min(rest.size(), 1 + random.below(longest));
      client.feed(rest.substr(0, size));
      rest.remove_prefix(size);
    }
    CAPTURE(stream);
    REQUIRE(client.messages == expected);
    REQUIRE(client.last_event_id == position);
    REQUIRE(client.retries == retries);
    REQUIRE(client.unknown_fields.empty());
  }
}

TEST_CASE("a stream that is cut anywhere gives a client the events that are complete, and nothing of the next") {
  const std::string first = tn::sse_event{.id = "1", .event = "alarm", .data = "a\nb"}.str();
  const std::string second = tn::sse_event{.id = "2", .event = "gap", .data = "\nc\n"}.str();
  for (std::size_t cut = 0; cut < second.size(); ++cut) {
    support::sse_parser client;
    client.feed(first + second.substr(0, cut));
    CAPTURE(cut);
    CHECK(client.messages == std::vector<support::sse_message>{{"alarm", "a\nb", "1"}});
    CHECK(client.last_event_id == "1");
  }
}

TEST_CASE("the parser of these tests reads streams as the standard says") {
  using messages = std::vector<support::sse_message>;
  CHECK(received("data: YHOO\ndata: +2\ndata: 10\n\n") == messages{{"message", "YHOO\n+2\n10", ""}});
  CHECK(received("data\n\ndata\ndata\n\ndata:") == messages{{"message", "", ""}, {"message", "\n", ""}});
  CHECK(received("data:test\n\ndata: test\n\n") == messages{{"message", "test", ""}, {"message", "test", ""}});
  CHECK(received(": test\n\ndata: 1\nid: 1\n\ndata:2\nid\n\ndata:  3\n\n") ==
        messages{{"message", "1", "1"}, {"message", "2", ""}, {"message", " 3", ""}});
  CHECK(received("\xef\xbb\xbf"
                 "data:1\n\n\xef\xbb\xbf"
                 "data:2\n\ndata:3\n\n") == messages{{"message", "1", ""}, {"message", "3", ""}});
  CHECK(received("data:1\rdata:2\r\ndata:3\n\r") == messages{{"message", "1\n2\n3", ""}});
  CHECK(received("data:1\r\n\r\ndata:2\r\r") == messages{{"message", "1", ""}, {"message", "2", ""}});
  CHECK(received("id:a\0b\ndata:x\n\n"sv) == messages{{"message", "x", ""}});
  CHECK(received("event:a\n\nid:9\n\ndata:x\n\n") == messages{{"message", "x", "9"}});
  support::sse_parser client;
  client.feed("retry:1x\nretry: 12\nretry:-1\nretry:\nRetry:3\ndatA:x\n data:y\n\n");
  CHECK(client.retries == std::vector<std::uint64_t>{12});
  CHECK(client.unknown_fields == std::vector<std::string>{"Retry", "datA", " data"});
  CHECK(client.messages.empty());
}
