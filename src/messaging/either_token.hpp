#pragma once
// Two stop tokens as one.

#include <stop_token>

namespace tenantry::detail {

/// Triggered with either of the two, while it lives.
class either_token {
 public:
  either_token(const std::stop_token& one, const std::stop_token& other)
      : on_one_{one, forward{both_}}, on_other_{other, forward{both_}} {}
  either_token(const either_token&) = delete;
  either_token& operator=(const either_token&) = delete;
  ~either_token() = default;

  [[nodiscard]] std::stop_token get() const noexcept { return both_.get_token(); }

 private:
  struct forward {
    std::stop_source to;
    void operator()() const noexcept { to.request_stop(); }
  };

  std::stop_source both_;
  std::stop_callback<forward> on_one_;
  std::stop_callback<forward> on_other_;
};

}  // namespace tenantry::detail
