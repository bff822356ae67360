// Commands to bytes: an array of bulk strings.

#include <tenantry/command.hpp>
#include <tenantry/error.hpp>

#include <cstring>

namespace tenantry {

namespace {

std::string_view text_of(std::string_view word) noexcept { return word; }
std::string_view text_of(const detail::argument_text& word) noexcept { return word.text(); }

std::size_t digits_of(std::size_t number) noexcept {
  std::size_t digits = 1;
  for (; number >= 10; number /= 10) ++digits;
  return digits;
}

std::size_t bulk_size(std::string_view word) noexcept { return 1 + digits_of(word.size()) + 2 + word.size() + 2; }

char* put(char* out, std::string_view bytes) noexcept {
  if (!bytes.empty()) std::memcpy(out, bytes.data(), bytes.size());  // an empty view may hold no address
  return out + bytes.size();
}

char* put_header(char* out, char type, std::size_t number) noexcept {
  *out++ = type;
  char* const end = out + digits_of(number);
  for (char* digit = end; digit != out; number /= 10) *--digit = static_cast<char>('0' + number % 10);
  return put(end, "\r\n");
}

char* put_bulk(char* out, std::string_view word) noexcept {
  return put(put(put_header(out, '$', word.size()), word), "\r\n");
}

}  // namespace

template <class Words>
void command::encode_words(std::string_view name, const Words& words) {
  std::size_t size = 1 + digits_of(words.size() + 1) + 2 + bulk_size(name);
  for (const auto& word : words) size += bulk_size(text_of(word));
  bytes_.resize(size);

  char* const begin = bytes_.data();
  char* out = put_header(begin, '*', words.size() + 1);
  out = put_bulk(out, name);
  name_ = {.begin = static_cast<std::size_t>(out - begin) - 2 - name.size(), .size = name.size()};
  bool first = true;
  for (const auto& word : words) {
    out = put_bulk(out, text_of(word));
    if (first) {
      const std::size_t length = text_of(word).size();
      first_ = {.begin = static_cast<std::size_t>(out - begin) - 2 - length, .size = length};
      first = false;
    }
  }
}

void command::encode(std::string_view name, std::span<const detail::argument_text> words) {
  if (name.empty()) throw invalid_option{"a command needs a name"};
  encode_words(name, words);
}

command::command(std::span<const std::string_view> words) {
  if (words.empty() || words.front().empty()) throw invalid_option{"a command needs a name"};
  encode_words(words.front(), words.subspan(1));
}

}  // namespace tenantry
