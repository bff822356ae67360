#include <tenantry/error.hpp>
#include <tenantry/reply.hpp>

#include <fmt/format.h>

#include <utility>

namespace tenantry {

namespace {

[[noreturn]] void mismatch(std::string_view wanted, const reply& got) {
  const std::string detail = got.is_error() ? fmt::format(" \"{}\"", got.error_text()) : std::string{};
  throw error{errc::unexpected_reply, execution::executed,
              fmt::format("the reply is {}{}, not {}", to_string(got.type()), detail, wanted)};
}

}  // namespace

std::string_view to_string(reply_type type) noexcept {
  switch (type) {
    case reply_type::nil:
      return "nil";
    case reply_type::status:
      return "a status";
    case reply_type::string:
      return "a string";
    case reply_type::integer:
      return "an integer";
    case reply_type::array:
      return "an array";
    case reply_type::error:
      return "an error";
  }
  return "unknown";
}

reply reply::make_text(reply_type type, std::string_view text) {
  reply made;
  made.type_ = type;
  made.value_.emplace<std::string>(text);
  return made;
}

reply reply::make_integer(std::int64_t value) noexcept {
  reply made;
  made.type_ = reply_type::integer;
  made.value_ = value;
  return made;
}

reply reply::make_array(std::size_t size) {
  reply made;
  made.type_ = reply_type::array;
  made.value_.emplace<std::vector<reply>>(size);
  return made;
}

const std::string& reply::text_of(bool wanted, std::string_view what) const {
  if (!wanted) mismatch(what, *this);
  return *std::get_if<std::string>(&value_);
}

const std::string& reply::str() const& {
  return text_of(type_ == reply_type::string || type_ == reply_type::status, "a string");
}

std::string reply::str() && {
  (void)std::as_const(*this).str();
  return std::move(*std::get_if<std::string>(&value_));
}

const std::string& reply::error_text() const { return text_of(is_error(), "an error"); }

std::int64_t reply::integer() const {
  if (type_ != reply_type::integer) mismatch("an integer", *this);
  return *std::get_if<std::int64_t>(&value_);
}

const std::vector<reply>& reply::elements() const& {
  if (type_ != reply_type::array) mismatch("an array", *this);
  return *std::get_if<std::vector<reply>>(&value_);
}

std::vector<reply> reply::elements() && {
  (void)std::as_const(*this).elements();
  return std::move(*std::get_if<std::vector<reply>>(&value_));
}

const reply& reply::operator[](std::size_t index) const {
  const std::vector<reply>& all = elements();
  if (index >= all.size()) {
    throw error{errc::unexpected_reply, execution::executed,
                fmt::format("the reply has {} elements, none at {}", all.size(), index)};
  }
  return all[index];
}

reply& reply::element(std::size_t index) {
  return const_cast<reply&>(std::as_const(*this)[index]);  // NOLINT(*-const-cast): *this is not const
}

bool operator==(const reply& a, const reply& b) { return a.type_ == b.type_ && a.value_ == b.value_; }

}  // namespace tenantry
