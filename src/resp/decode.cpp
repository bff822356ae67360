#include "resp/decode.hpp"

#include <tenantry/error.hpp>

#include <fmt/format.h>

// Installed packages have the folder, a source tree of hiredis has not.
#if __has_include(<hiredis/hiredis.h>)
#include <hiredis/hiredis.h>
#else
#include <hiredis.h>
#endif

#include <cstdint>
#include <new>

namespace tenantry::resp {

namespace {

/// Where the reader's current task puts its result: the reply itself, or an element of the array around it.
reply& target(const redisReadTask* task) {
  if (task->parent == nullptr) return *static_cast<reply*>(task->privdata);
  return static_cast<reply*>(task->parent->obj)->element(static_cast<std::size_t>(task->idx));
}

/// No exception may pass through C: out of memory becomes the reader's own out of memory.
template <class Make>
void* build(const redisReadTask* task, Make make) noexcept {
  try {
    reply& here = target(task);
    here = make();
    return &here;
  } catch (...) {
    return nullptr;
  }
}

void* build_text(const redisReadTask* task, char* bytes, std::size_t size) noexcept {
  reply_type type = reply_type::string;
  if (task->type == REDIS_REPLY_STATUS) type = reply_type::status;
  if (task->type == REDIS_REPLY_ERROR) type = reply_type::error;
  return build(task, [&] { return reply::make_text(type, {bytes, size}); });
}

void* build_integer(const redisReadTask* task, long long value) noexcept {
  return build(task, [&] { return reply::make_integer(value); });
}

void* build_nil(const redisReadTask* task) noexcept {
  return build(task, [] { return reply{}; });
}

/// A template, because the type of the size differs between versions of hiredis.
template <class Size>
void* build_array(const redisReadTask* task, Size size) noexcept {
  return build(task, [&] { return reply::make_array(static_cast<std::size_t>(size)); });
}

redisReplyObjectFunctions builders() noexcept {
  redisReplyObjectFunctions functions{};
  functions.createString = build_text;
  functions.createArray = build_array;
  functions.createInteger = build_integer;
  functions.createNil = build_nil;
  functions.freeObject = [](void*) {};  // the reply is owned by whoever called decode
  return functions;
}

}  // namespace

void decoder::free_reader::operator()(redisReader* reader) const noexcept { redisReaderFree(reader); }

decoder::decoder() {
  static redisReplyObjectFunctions functions = builders();
  reader_.reset(redisReaderCreateWithFunctions(&functions));
  if (!reader_) throw std::bad_alloc{};
}

reply decoder::decode(std::string_view frame) {
  reply result;
  reader_->privdata = &result;
  void* root = nullptr;
  if (redisReaderFeed(reader_.get(), frame.data(), frame.size()) != REDIS_OK ||
      redisReaderGetReply(reader_.get(), &root) != REDIS_OK || root == nullptr) {
    throw connection_error{errc::protocol, execution::executed,
                           fmt::format("reply not decoded: {}", std::string_view{reader_->errstr})};
  }
  return result;
}

}  // namespace tenantry::resp
