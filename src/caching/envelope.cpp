#include "caching/envelope.hpp"

#include <tenantry/detail/schema_args.hpp>

#include <fmt/format.h>

#include <charconv>
#include <iterator>

namespace tenantry::detail {

namespace {

/// FNV-1a. It finds values that were renamed or restored to another key, and is no protection against anybody.
std::uint64_t hash_of(std::string_view key) noexcept {
  std::uint64_t hash = 14695981039346656037U;
  for (const char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
  return hash;
}

/// Takes words off a line, each followed by one space or the end.
class words {
 public:
  explicit words(std::string_view line) noexcept : rest_{line} {}

  [[nodiscard]] bool at_end() const noexcept { return ended_; }
  std::string_view next() noexcept {
    const std::size_t size = rest_.find(' ');
    const std::string_view word = rest_.substr(0, size);
    ended_ = size == std::string_view::npos;
    rest_.remove_prefix(ended_ ? rest_.size() : size + 1);
    return word;
  }
  /// False where the next word is no number of this form.
  template <class Number>
  bool next(Number& value, int base = 10) noexcept {
    const std::string_view word = next();
    const auto [end, fault] = std::from_chars(word.data(), word.data() + word.size(), value, base);
    return fault == std::errc{} && end == word.data() + word.size();
  }

 private:
  std::string_view rest_;
  bool ended_ = false;
};

bool read_tags(words& line, std::vector<stamped_tag>& tags) {
  while (!line.at_end()) {
    const std::string_view word = line.next();
    const std::size_t equals = word.rfind('=');
    if (equals == std::string_view::npos || !is_encoded_segment(word.substr(0, equals))) return false;
    auto stamp = tag_stamp::parse(word.substr(equals + 1));
    if (!stamp) return false;
    tags.push_back({.name = decode_segment(word.substr(0, equals)), .stamp = *std::move(stamp)});
  }
  return true;
}

}  // namespace

std::string seal(const envelope_header& header, std::string_view key, std::string_view payload) {
  std::string bytes;
  bytes.reserve(160 + header.tags.size() * 64 + payload.size());
  fmt::format_to(std::back_inserter(bytes), "{}{} {} {} {} {} {} {:x} {} {}", envelope_mark, header.stamp.str(),
                 header.stale.count(), header.ttl.count(), header.computed_at.count(), header.took.count(),
                 header.version, hash_of(key), header.absent ? 'a' : 'v', payload.size());
  for (const stamped_tag& each : header.tags) {
    fmt::format_to(std::back_inserter(bytes), " {}={}", encode_segment(each.name), each.stamp.str());
  }
  bytes += '\n';
  bytes += payload;
  return bytes;
}

std::optional<opened_envelope> open_envelope(std::string_view bytes, std::string_view key) {
  if (!bytes.starts_with(envelope_mark)) return std::nullopt;
  const std::size_t end = bytes.find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view first_line = bytes.substr(0, end);
  words line{first_line.substr(envelope_mark.size())};
  auto stamp = tenant_stamp::parse(line.next());
  if (!stamp) return std::nullopt;

  opened_envelope opened{
      .header = {.stamp = *std::move(stamp)}, .first_line = first_line, .payload = bytes.substr(end + 1)};
  envelope_header& header = opened.header;
  std::int64_t stale = 0;
  std::int64_t ttl = 0;
  std::int64_t computed_at = 0;
  std::int64_t took = 0;
  std::uint64_t hash = 0;
  if (!line.next(stale) || !line.next(ttl) || !line.next(computed_at) || !line.next(took) ||
      !line.next(header.version) || !line.next(hash, 16) || hash != hash_of(key)) {
    return std::nullopt;
  }
  const std::string_view kind = line.next();
  std::size_t size = 0;
  if ((kind != "v" && kind != "a") || !line.next(size) || size != opened.payload.size()) return std::nullopt;
  if (stale < 0 || ttl < 0 || !read_tags(line, header.tags)) return std::nullopt;
  header.stale = std::chrono::milliseconds{stale};
  header.ttl = std::chrono::milliseconds{ttl};
  header.computed_at = std::chrono::microseconds{computed_at};
  header.took = std::chrono::microseconds{took};
  header.absent = kind == "a";
  return opened;
}

}  // namespace tenantry::detail
