#pragma once
// A second reading of RESP2, written from the specification and shared with nothing: slow, plain, over whole bytes.

#include <tenantry/reply.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fuzz {

class strict_resp {
 public:
  enum class verdict : unsigned char { whole, part, wrong };

  strict_resp(std::string_view bytes, const tenantry::reply_limits& limits) : bytes_{bytes}, limits_{limits} {}

  /// The reply at the beginning of the bytes, into `out`.
  verdict read(tenantry::reply& out) { return value(out, 0); }
  /// How many bytes it took.
  [[nodiscard]] std::size_t size() const { return at_; }

 private:
  verdict value(tenantry::reply& out, std::size_t arrays_around) {
    if (at_ == bytes_.size()) return verdict::part;
    const char type = bytes_[at_];
    if (type != '+' && type != '-' && type != ':' && type != '$' && type != '*') return verdict::wrong;
    std::string_view text;
    if (const verdict how = line(text); how != verdict::whole) return how;
    switch (type) {
      case '+':
        out = tenantry::reply::make_text(tenantry::reply_type::status, text);
        return verdict::whole;
      case '-':
        out = tenantry::reply::make_text(tenantry::reply_type::error, text);
        return verdict::whole;
      case ':': {
        const auto number = integer(text);
        if (!number) return verdict::wrong;
        out = tenantry::reply::make_integer(*number);
        return verdict::whole;
      }
      case '$':
        return bulk(out, integer(text));
      default:
        return array(out, integer(text), arrays_around);
    }
  }

  /// What stands between the type byte and CR LF.
  verdict line(std::string_view& text) {
    const std::size_t begin = at_;
    while (at_ < bytes_.size() && bytes_[at_] != '\n') ++at_;
    const bool ended = at_ < bytes_.size();
    if (ended) ++at_;
    if (at_ - begin > limits_.line || at_ > limits_.bytes) return verdict::wrong;
    if (!ended) return verdict::part;
    if (at_ - begin < 3 || bytes_[at_ - 2] != '\r') return verdict::wrong;
    text = bytes_.substr(begin + 1, at_ - begin - 3);
    for (const char c : text) {
      if (c == '\r') return verdict::wrong;
    }
    return verdict::whole;
  }

  verdict bulk(tenantry::reply& out, std::optional<std::int64_t> announced) {
    if (!announced || *announced < -1) return verdict::wrong;
    if (*announced == -1) {
      out = tenantry::reply{};
      return verdict::whole;
    }
    const auto size = static_cast<std::uint64_t>(*announced);
    if (size > limits_.bytes || at_ + size + 2 > limits_.bytes) return verdict::wrong;
    const std::string_view rest = bytes_.substr(at_);
    if (rest.size() > size && rest[size] != '\r') return verdict::wrong;
    if (rest.size() > size + 1 && rest[size + 1] != '\n') return verdict::wrong;
    if (rest.size() < size + 2) return verdict::part;
    out = tenantry::reply::make_text(tenantry::reply_type::string, rest.substr(0, size));
    at_ += size + 2;
    return verdict::whole;
  }

  verdict array(tenantry::reply& out, std::optional<std::int64_t> announced, std::size_t arrays_around) {
    if (!announced || *announced < -1 || arrays_around == limits_.depth) return verdict::wrong;
    if (*announced == -1) {
      out = tenantry::reply{};
      return verdict::whole;
    }
    const auto size = static_cast<std::uint64_t>(*announced);
    if (size > limits_.elements || elements_ + size > limits_.elements) return verdict::wrong;
    elements_ += size;
    out = tenantry::reply::make_array(size);
    for (std::size_t i = 0; i < size; ++i) {
      if (const verdict how = value(out.element(i), arrays_around + 1); how != verdict::whole) return how;
    }
    return verdict::whole;
  }

  /// A number as servers write it: no plus, no zero in front, no minus zero, 64 bits.
  static std::optional<std::int64_t> integer(std::string_view text) {
    const bool negative = !text.empty() && text.front() == '-';
    const std::string_view digits = negative ? text.substr(1) : text;
    if (digits.empty() || digits.size() > 19) return std::nullopt;
    if (digits.front() == '0' && (digits.size() > 1 || negative)) return std::nullopt;
    std::uint64_t magnitude = 0;  // 19 digits always fit
    for (const char c : digits) {
      if (c < '0' || c > '9') return std::nullopt;
      magnitude = magnitude * 10 + static_cast<std::uint64_t>(c - '0');
    }
    constexpr std::uint64_t largest = INT64_MAX;
    if (magnitude > largest + (negative ? 1U : 0U)) return std::nullopt;
    if (!negative) return static_cast<std::int64_t>(magnitude);
    return magnitude > largest ? INT64_MIN : -static_cast<std::int64_t>(magnitude);
  }

  std::string_view bytes_;
  tenantry::reply_limits limits_;
  std::size_t at_ = 0;
  std::size_t elements_ = 0;
};

}  // namespace fuzz
