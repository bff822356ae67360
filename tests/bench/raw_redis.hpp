#pragma once
// The baseline: hiredis as its manual shows it.

#include <hiredis/hiredis.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

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

  void setex(const std::string& key, const std::string& value) {
    auto* reply = static_cast<redisReply*>(
        redisCommand(context_.get(), "SETEX %b 300 %b", key.data(), key.size(), value.data(), value.size()));
    if (reply == nullptr) throw std::runtime_error{"hiredis: no reply"};
    freeReplyObject(reply);
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

 private:
  struct free_context {
    void operator()(redisContext* context) const { redisFree(context); }
  };
  std::unique_ptr<redisContext, free_context> context_;
};

inline std::uint16_t port_of(const std::string& url) {
  return static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1)));
}

}  // namespace bench
