#include "engine/link_state.hpp"

namespace tenantry::detail {

namespace {

constexpr std::chrono::seconds lasting{1};

bool is_refusal(errc code) noexcept {
  return code == errc::auth || code == errc::unsupported || code == errc::protocol || code == errc::server ||
         code == errc::no_permission || code == errc::invalid_option;
}

}  // namespace

void link_state::failed(const failure& why, time_point now, double random) {
  phase_ = phase::offline;
  last_ = why;
  refused_ = is_refusal(why.code);
  next_attempt_ = now + (refused_ ? backoff_.next_after_refusal(random) : backoff_.next(random));
}

void link_state::lost(const failure& why, time_point now, double random) {
  phase_ = phase::offline;
  if (useful_ || now - connected_at_ >= lasting) {
    backoff_.reset();
    next_attempt_ = now;
  } else {
    last_ = why;
    last_->what = execution::not_sent;  // for who was not there yet
    next_attempt_ = now + backoff_.next(random);
  }
}

}  // namespace tenantry::detail
