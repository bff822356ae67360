#include "resp/reply_reader.hpp"

#include <tenantry/error.hpp>

#include <algorithm>
#include <cstring>

namespace tenantry::resp {

reply_reader::reply_reader(const reply_limits& limits) : framer_{limits} {}

std::span<char> reply_reader::room() {
  if (begin_ == end_) {
    begin_ = end_ = 0;
    if (capacity_ > 2 * chunk) {  // a large reply has passed: give its memory back
      bytes_.reset();
      capacity_ = 0;
    }
  }
  if (capacity_ - end_ < chunk / 2) {
    const std::size_t used = end_ - begin_;
    const std::size_t wanted = std::max(chunk, 2 * used);
    if (wanted > capacity_) {
      auto larger = std::make_unique_for_overwrite<char[]>(wanted);  // NOLINT(*-avoid-c-arrays)
      if (used > 0) std::memcpy(larger.get(), bytes_.get() + begin_, used);
      bytes_ = std::move(larger);
      capacity_ = wanted;
    } else {
      std::memmove(bytes_.get(), bytes_.get() + begin_, used);
    }
    begin_ = 0;
    end_ = used;
  }
  return {bytes_.get() + end_, capacity_ - end_};
}

std::optional<reply> reply_reader::next() {
  if (begin_ == end_) return std::nullopt;
  const std::string_view bytes{bytes_.get() + begin_, end_ - begin_};
  switch (framer_.scan(bytes)) {
    case framer::status::incomplete:
      return std::nullopt;
    case framer::status::defect:
      throw connection_error{errc::protocol, execution::unknown, framer_.defect()};
    case framer::status::complete:
      break;
  }
  reply result = decoder_.decode(bytes.substr(0, framer_.size()));
  begin_ += framer_.size();
  return result;
}

}  // namespace tenantry::resp
