#pragma once
// The baseline: hiredis as its manual shows it.

#include <hiredis/hiredis.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench {

class raw_redis {
 public:
  explicit raw_redis(std::uint16_t port) : context_{redisConnect("127.0.0.1", port)} {
    if (!context_ || context_->err != 0) throw std::runtime_error{"hiredis cannot connect"};
  }

  /// GET; the size of the value.
  std::size_t get(const std::string& key) {
    auto* reply = static_cast<redisReply*>(redisCommand(context_.get(), "GET %b", key.data(), key.size()));
    if (reply == nullptr) throw std::runtime_error{"hiredis: no reply"};
    const std::size_t size = static_cast<std::size_t>(reply->len);
    freeReplyObject(reply);
    return size;
  }

  /// GET; the value.
  std::string get_text(const std::string& key) {
    auto* reply = static_cast<redisReply*>(redisCommand(context_.get(), "GET %b", key.data(), key.size()));
    if (reply == nullptr) throw std::runtime_error{"hiredis: no reply"};
    std::string text{reply->str, static_cast<std::size_t>(reply->len)};
    freeReplyObject(reply);
    return text;
  }

  void setex(const std::string& key, const std::string& value) {
    auto* reply = static_cast<redisReply*>(
        redisCommand(context_.get(), "SETEX %b 300 %b", key.data(), key.size(), value.data(), value.size()));
    if (reply == nullptr) throw std::runtime_error{"hiredis: no reply"};
    freeReplyObject(reply);
  }

  /// The usual sliding window, four commands in one pipeline; how many members the window has.
  std::int64_t usual_limit(const std::string& key, std::int64_t window_ms) {
    const auto now =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
            .count();
    redisAppendCommand(context_.get(), "ZREMRANGEBYSCORE %b 0 %lld", key.data(), key.size(),
                       static_cast<long long>(now - window_ms));
    redisAppendCommand(context_.get(), "ZADD %b %lld %lld", key.data(), key.size(), static_cast<long long>(now),
                       static_cast<long long>(now));
    redisAppendCommand(context_.get(), "ZCARD %b", key.data(), key.size());
    redisAppendCommand(context_.get(), "EXPIRE %b %lld", key.data(), key.size(),
                       static_cast<long long>(window_ms / 1000));
    std::int64_t members = 0;
    for (int i = 0; i < 4; ++i) {
      void* reply = nullptr;
      if (redisGetReply(context_.get(), &reply) != REDIS_OK) throw std::runtime_error{"hiredis: no reply"};
      if (i == 2) members = static_cast<redisReply*>(reply)->integer;
      freeReplyObject(reply);
    }
    return members;
  }

  /// `times` GETs, of which up to `window` are on the way.
  void get_pipelined(const std::string& key, std::size_t times, std::size_t window) {
    for (std::size_t done = 0; done < times;) {
      const std::size_t batch = std::min(window, times - done);
      for (std::size_t i = 0; i < batch; ++i) {
        redisAppendCommand(context_.get(), "GET %b", key.data(), key.size());
      }
      for (std::size_t i = 0; i < batch; ++i) {
        void* reply = nullptr;
        if (redisGetReply(context_.get(), &reply) != REDIS_OK) throw std::runtime_error{"hiredis: no reply"};
        freeReplyObject(reply);
      }
      done += batch;
    }
  }

  /// SCAN of 100 keys and DEL of what matches, until the cursor is 0; how many keys were deleted.
  std::uint64_t scan_and_delete(const std::string& glob) {
    std::uint64_t deleted = 0;
    std::string cursor = "0";
    do {
      auto* page = static_cast<redisReply*>(
          redisCommand(context_.get(), "SCAN %s MATCH %s COUNT 100", cursor.c_str(), glob.c_str()));
      if (page == nullptr) throw std::runtime_error{"hiredis: no reply"};
      cursor = page->element[0]->str;
      const redisReply& found = *page->element[1];
      if (found.elements > 0) deleted += del({found.element, found.elements});
      freeReplyObject(page);
    } while (cursor != "0");
    return deleted;
  }

 private:
  std::uint64_t del(std::span<redisReply* const> keys) {
    std::vector<const char*> words{"DEL"};
    std::vector<std::size_t> sizes{3};
    for (const redisReply* each : keys) {
      words.push_back(each->str);
      sizes.push_back(each->len);
    }
    auto* reply = static_cast<redisReply*>(
        redisCommandArgv(context_.get(), static_cast<int>(words.size()), words.data(), sizes.data()));
    if (reply == nullptr) throw std::runtime_error{"hiredis: no reply"};
    const auto deleted = static_cast<std::uint64_t>(reply->integer);
    freeReplyObject(reply);
    return deleted;
  }

  struct free_context {
    void operator()(redisContext* context) const { redisFree(context); }
  };
  std::unique_ptr<redisContext, free_context> context_;
};

inline std::uint16_t port_of(const std::string& url) {
  return static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1)));
}

}  // namespace bench
