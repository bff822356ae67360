#include "engine/hang_up_watch.hpp"

#include "engine/blocking_driver.hpp"

#include <poll.h>

namespace tenantry::detail {

namespace {

#ifdef POLLRDHUP
constexpr short hang_up = POLLRDHUP;
#else
constexpr short hang_up = 0;
#endif

}  // namespace

hang_up_watch::hang_up_watch(io_loop& loop, blocking_driver& lane) : loop_{loop}, lane_{lane} {
  lane_.watched_by(this);
  try {
    loop_.add(*this);
  } catch (...) {
    lane_.watched_by(nullptr);
    throw;
  }
}

hang_up_watch::~hang_up_watch() { lane_.watched_by(nullptr); }

void hang_up_watch::look_again() noexcept {
  changed_ = true;
  loop_.wake();
}

io_task::interest hang_up_watch::run(short events) noexcept {
  if (!changed_.exchange(false) && events == 0) return watched_;
  // The descriptor may have become another's meanwhile, so the lane looks at its own.
  if (events != 0) lane_.look_for_hang_up(hang_up);
  watched_ = {.fd = lane_.watched_descriptor(), .events = hang_up};
  return watched_;
}

}  // namespace tenantry::detail
