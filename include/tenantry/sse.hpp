#pragma once
// Server-sent events: the bytes of a `text/event-stream`. How to serve them is in docs/sse.md.

#include <tenantry/error.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace tenantry {

/// Names and values of the header fields that a stream is sent with, and without a Content-Length: nobody between
/// stores, compresses or holds back what is written (X-Accel-Buffering is nginx's).
inline constexpr std::array<std::pair<std::string_view, std::string_view>, 3> sse_headers{{
    {"Content-Type", "text/event-stream"},
    {"Cache-Control", "no-cache, no-transform"},
    {"X-Accel-Buffering", "no"},
}};

/// A block without meaning, so that nobody takes a quiet stream for a dead one: `sse_comment{}` as a constant.
inline constexpr std::string_view sse_keep_alive = ": \n\n";

// Each of the following is one complete block with the blank line at its end: a stream is any number of them in a row.
//
// `str` makes one allocation. `append_to` makes none where `out` has room and grows it like any string where it has
// not; the views may point into `out`. What throws has appended nothing.

/// One event. The client sees the same name and data, whatever bytes they hold, with two exceptions of the format:
/// `\r\n` and `\r` arrive as `\n`, and what is not UTF-8 as U+FFFD.
///
///     sse_event{.id = "17-3-x9", .event = "alarm", .data = json}.append_to(out);
///
/// Cost: the size of the data and 7 bytes for each of its lines.
/// Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
struct sse_event {
  static constexpr std::size_t max_id_size = 128;

  /// The position that the client sends back as `Last-Event-ID` when it connects again. Nothing: the position stays
  /// that of the event before. Empty: the client forgets its position.
  std::optional<std::string_view> id = {};
  /// Which listeners of the client are called. Empty: those of "message". "error" and "open" also mean changes of the
  /// connection there, so they are no good names.
  std::string_view event = {};
  std::string_view data = {};

  /// At most 128 visible ASCII characters, and none of `" ( ) : < > ? @ [ \ ] { }`: it comes back unchanged in a header
  /// field, and holds no byte that the Fetch standard calls CORS-unsafe, which may cost a preflight per reconnect.
  [[nodiscard]] static constexpr bool valid_id(std::string_view id) noexcept;

  /// No CR, LF or NUL.
  [[nodiscard]] static constexpr bool valid_event(std::string_view event) noexcept;

  /// Errors: invalid_name for an id or an event that is not valid, with the reason and the offending byte.
  [[nodiscard]] std::string str() const;
  void append_to(std::string& out) const;
};

/// How long the client waits before it connects again, from now on. Draw it for each connection (2 to 5 s), or all
/// clients of a server that restarts come back at once.
struct sse_retry {
  std::chrono::milliseconds after{3000};

  /// Errors: invalid_option when `after` is negative.
  [[nodiscard]] std::string str() const;
  void append_to(std::string& out) const;
};

/// Text that clients skip, for people who read a stream. It may have several lines.
struct sse_comment {
  std::string_view text = {};

  [[nodiscard]] std::string str() const;
  void append_to(std::string& out) const;
};

namespace detail {

constexpr bool is_sse_id_byte(char c) noexcept {
  return c > ' ' && c < '\x7f' && std::string_view{R"("():<>?@[\]{})"}.find(c) == std::string_view::npos;
}

constexpr bool is_sse_event_byte(char c) noexcept { return c != '\r' && c != '\n' && c != '\0'; }

inline std::string sse_byte_at(std::string_view text, std::string_view::iterator place) {
  constexpr std::string_view digits = "0123456789abcdef";
  const auto byte = static_cast<unsigned char>(*place);
  return std::string{"byte 0x"} + digits[byte / 16U] + digits[byte % 16U] + " at " +
         std::to_string(place - text.begin());
}

inline void check_sse_id(std::string_view id) {
  if (id.size() > sse_event::max_id_size) {
    throw invalid_name{"sse_event::id has " + std::to_string(id.size()) + " bytes, more than " +
                       std::to_string(sse_event::max_id_size)};
  }
  if (const auto bad = std::ranges::find_if_not(id, is_sse_id_byte); bad != id.end()) {
    throw invalid_name{"sse_event::id has " + sse_byte_at(id, bad) +
                       R"(; only visible ASCII without " ( ) : < > ? @ [ \ ] { } is allowed)"};
  }
}

inline void check_sse_event(std::string_view event) {
  if (const auto bad = std::ranges::find_if_not(event, is_sse_event_byte); bad != event.end()) {
    throw invalid_name{"sse_event::event has " + sse_byte_at(event, bad) + "; CR, LF and NUL are not allowed"};
  }
}

/// Puts `text` as lines that begin with `field`. A client removes one space after the colon, so there always is one:
/// what follows, be it a space, a colon or a byte order mark, is the text's own.
template <class Put>
void put_sse_lines(std::string_view field, std::string_view text, const Put& put) {
  // Each end is looked for once: a text with only one kind of them is not scanned again for the other in every line.
  std::size_t cr = text.find('\r');
  std::size_t lf = text.find('\n');
  std::size_t begin = 0;
  while (true) {
    const std::size_t end = std::min({cr, lf, text.size()});
    put(field);
    put(text.substr(begin, end - begin));
    put("\n");
    if (end == text.size()) return;
    begin = end + 1;
    if (end == cr && begin == lf) ++begin;
    if (cr < begin) cr = text.find('\r', begin);
    if (lf < begin) lf = text.find('\n', begin);
  }
}

/// Appends all that `pieces` puts, which it does twice, or nothing.
template <class Pieces>
void append_sse_block(std::string& out, const Pieces& pieces) {
  std::size_t size = 0;
  pieces([&](std::string_view piece) { size += piece.size(); });
  const auto write = [&](std::string& to) { pieces([&](std::string_view piece) { to.append(piece); }); };
  if (size <= out.capacity() - out.size()) return write(out);
  std::string grown;  // `out` stays as it is until all is written, because pieces may be views of it
  grown.reserve(out.empty() ? size : std::max(out.size() + size, 2 * out.capacity()));
  grown.append(out);
  write(grown);
  out = std::move(grown);
}

template <class Block>
std::string sse_block(const Block& block) {
  std::string out;
  block.append_to(out);
  return out;
}

}  // namespace detail

constexpr bool sse_event::valid_id(std::string_view id) noexcept {
  return id.size() <= max_id_size && std::ranges::all_of(id, detail::is_sse_id_byte);
}

constexpr bool sse_event::valid_event(std::string_view event) noexcept {
  return std::ranges::all_of(event, detail::is_sse_event_byte);
}

inline std::string sse_event::str() const { return detail::sse_block(*this); }

inline void sse_event::append_to(std::string& out) const {
  if (id) detail::check_sse_id(*id);
  detail::check_sse_event(event);
  detail::append_sse_block(out, [this](const auto& put) {
    if (id) detail::put_sse_lines("id: ", *id, put);
    if (!event.empty()) detail::put_sse_lines("event: ", event, put);
    detail::put_sse_lines("data: ", data, put);
    put("\n");
  });
}

inline std::string sse_retry::str() const { return detail::sse_block(*this); }

inline void sse_retry::append_to(std::string& out) const {
  if (after.count() < 0) {
    throw invalid_option{"sse_retry::after is " + std::to_string(after.count()) + " ms, less than 0"};
  }
  std::array<char, 24> digits{};
  const char* const end = std::to_chars(digits.data(), digits.data() + digits.size(), after.count()).ptr;
  const std::string_view number{digits.data(), static_cast<std::size_t>(end - digits.data())};
  detail::append_sse_block(out, [number](const auto& put) {
    detail::put_sse_lines("retry: ", number, put);
    put("\n");
  });
}

inline std::string sse_comment::str() const { return detail::sse_block(*this); }

inline void sse_comment::append_to(std::string& out) const {
  detail::append_sse_block(out, [this](const auto& put) {
    detail::put_sse_lines(": ", text, put);
    put("\n");
  });
}

}  // namespace tenantry
