#include "resp/framer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <utility>

namespace tenantry::resp {

namespace {

constexpr std::string_view line_types = "+-:$*";

/// The first bytes of something unexpected, printable.
std::string excerpt(std::string_view bytes) {
  std::string text;
  for (const char c : bytes.substr(0, 16)) {
    const auto byte = static_cast<unsigned char>(c);
    text += byte > 0x1f && byte < 0x7f && c != '\\' ? std::string(1, c) : fmt::format("\\x{:02x}", byte);
  }
  return text;
}

std::string_view hint(std::string_view bytes) {
  if (bytes.starts_with("HTTP/")) return "; the server speaks HTTP";
  if (bytes.starts_with('\x15') || bytes.starts_with('\x16')) return "; the server speaks TLS";
  return "";
}

/// Only the one form in which servers write a number, which every version of the decoder takes too.
std::optional<std::int64_t> integer_of(std::string_view digits) noexcept {
  const std::string_view magnitude = digits.starts_with('-') ? digits.substr(1) : digits;
  if (magnitude.starts_with('0') && digits != "0") return std::nullopt;
  std::int64_t value = 0;
  const auto [end, fault] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (fault != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

}  // namespace

framer::framer(const reply_limits& limits) noexcept : limits_{limits} {
  limits_.depth = std::min(limits_.depth, max_depth);
}

void framer::reset() noexcept {
  at_ = looked_ = announced_ = bulk_ = elements_ = depth_ = 0;
  in_bulk_ = done_ = false;
}

framer::status framer::fail(std::string what) {
  defect_ = std::move(what);
  return status::defect;
}

void framer::element_done() noexcept {
  while (depth_ > 0 && --open_[depth_ - 1] == 0) --depth_;
  done_ = depth_ == 0;
}

framer::status framer::scan(std::string_view bytes) {
  if (!defect_.empty()) return status::defect;
  if (done_) reset();
  for (;;) {
    const status step = in_bulk_ ? scan_bulk(bytes) : scan_line(bytes);
    if (step != status::complete) return step;
    if (done_) return status::complete;
  }
}

framer::status framer::scan_line(std::string_view bytes) {
  if (at_ == bytes.size()) return status::incomplete;
  if (line_types.find(bytes[at_]) == std::string_view::npos) {
    const std::string_view start = bytes.substr(at_);
    return fail(fmt::format("unknown type byte at \"{}\"{}", excerpt(start), hint(start)));
  }
  looked_ = std::max(looked_, at_ + 1);
  const std::size_t end = bytes.find('\n', looked_);
  const std::size_t size = (end == std::string_view::npos ? bytes.size() : end + 1) - at_;
  if (size > limits_.line) return fail(fmt::format("a line of more than {} bytes", limits_.line));
  announced_ = std::max(announced_, at_ + size);
  if (announced_ > limits_.bytes) return fail(fmt::format("a reply of more than {} bytes", limits_.bytes));
  if (end == std::string_view::npos) {
    looked_ = bytes.size();
    return status::incomplete;
  }
  const std::string_view line = bytes.substr(at_, size);
  if (size < 3 || line.find('\r') != size - 2) return fail("a line that does not end in CR LF");
  at_ = looked_ = end + 1;
  return read_header(line.substr(0, size - 2));
}

framer::status framer::read_header(std::string_view line) {
  switch (line.front()) {
    case '$':
      return read_bulk_header(line);
    case '*':
      return read_array_header(line);
    case ':':
      if (!integer_of(line.substr(1))) return fail(fmt::format("\"{}\" is not an integer", excerpt(line)));
      break;
    default:
      break;
  }
  element_done();
  return status::complete;
}

framer::status framer::read_bulk_header(std::string_view line) {
  const auto size = integer_of(line.substr(1));
  if (!size || *size < -1) return fail(fmt::format("\"{}\" is not the size of a string", excerpt(line)));
  if (*size == -1) {
    element_done();
    return status::complete;
  }
  if (std::cmp_greater(*size, limits_.bytes) || at_ + static_cast<std::size_t>(*size) + 2 > limits_.bytes) {
    return fail(fmt::format("a string of {} bytes makes the reply longer than {}", *size, limits_.bytes));
  }
  bulk_ = static_cast<std::size_t>(*size);
  in_bulk_ = true;
  announced_ = at_ + bulk_ + 2;
  return status::complete;
}

framer::status framer::read_array_header(std::string_view line) {
  const auto size = integer_of(line.substr(1));
  if (!size || *size < -1) return fail(fmt::format("\"{}\" is not the size of an array", excerpt(line)));
  if (depth_ == limits_.depth) return fail(fmt::format("arrays nested more than {} deep", limits_.depth));
  if (*size <= 0) {
    element_done();
    return status::complete;
  }
  if (std::cmp_greater(*size, limits_.elements) || elements_ + static_cast<std::size_t>(*size) > limits_.elements) {
    return fail(fmt::format("an array of {} makes the reply larger than {} elements", *size, limits_.elements));
  }
  elements_ += static_cast<std::size_t>(*size);
  open_[depth_++] = static_cast<std::size_t>(*size);
  return status::complete;
}

framer::status framer::scan_bulk(std::string_view bytes) {
  const std::size_t end = at_ + bulk_;
  if (bytes.size() > end && bytes[end] != '\r') return fail("a string that does not end in CR LF");
  if (bytes.size() < end + 2) return status::incomplete;
  if (bytes[end + 1] != '\n') return fail("a string that does not end in CR LF");
  at_ = looked_ = end + 2;
  in_bulk_ = false;
  element_done();
  return status::complete;
}

}  // namespace tenantry::resp
