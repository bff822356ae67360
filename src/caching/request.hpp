#pragma once
// What the machines of a cache ask of Redis.

#include <tenantry/command.hpp>
#include <tenantry/script.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenantry::detail {

/// A command, or a script that goes by its digest, and whole where the server does not know it.
class request {
 public:
  template <class... Words>
  static request of(const char* name, Words&&... words) {
    return request{nullptr, 0, {std::string{name}, std::string{std::forward<Words>(words)}...}};
  }
  static request of(std::vector<std::string> words) { return request{nullptr, 0, std::move(words)}; }
  static request run(const script& what, std::vector<std::string> keys, std::vector<std::string> arguments) {
    const std::size_t count = keys.size();
    for (std::string& each : arguments) keys.push_back(std::move(each));
    return request{&what, count, std::move(keys)};
  }

  /// The same, and the server is to say when what it reads has changed.
  [[nodiscard]] request tracked() && {
    tracked_ = true;
    return std::move(*this);
  }
  [[nodiscard]] bool is_tracked() const noexcept { return tracked_; }

  [[nodiscard]] bool is_script() const noexcept { return script_ != nullptr; }
  [[nodiscard]] command encoded(bool whole) const {
    std::vector<std::string_view> words;
    words.reserve(words_.size() + 3);
    const std::string count = std::to_string(keys_);
    if (script_ != nullptr) {
      words.assign({whole ? "EVAL" : "EVALSHA", whole ? std::string_view{script_->body()} : script_->sha(), count});
    }
    words.insert(words.end(), words_.begin(), words_.end());
    return command{words};
  }
  [[nodiscard]] std::string_view name() const noexcept {
    if (script_ != nullptr) return "EVALSHA";
    return words_.front();
  }
  /// The words of a command, or the keys and arguments of a script.
  [[nodiscard]] const std::vector<std::string>& words() const noexcept { return words_; }
  [[nodiscard]] const script* what() const noexcept { return script_; }

 private:
  request(const script* what, std::size_t keys, std::vector<std::string> words)
      : script_{what}, keys_{keys}, words_{std::move(words)} {}

  const script* script_;
  std::size_t keys_;
  std::vector<std::string> words_;
  bool tracked_ = false;
};

}  // namespace tenantry::detail
