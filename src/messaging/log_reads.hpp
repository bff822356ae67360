#pragma once
// Followers that ask a log the same, and share a read of it. Sans-io.

#include "engine/seam.hpp"
#include "messaging/log_page.hpp"

#include <tenantry/error.hpp>
#include <tenantry/tenant.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace tenantry::detail {

struct log_question {
  const tenant_id* tenant;  // lives as long as the request
  std::uint64_t from;
  std::uint64_t count;

  [[nodiscard]] std::size_t hash() const noexcept;
  friend bool operator==(const log_question& one, const log_question& other) noexcept {
    return one.from == other.from && one.count == other.count && *one.tenant == *other.tenant;
  }
};

/// One of the two.
struct log_answer {
  shared_page page;
  std::shared_ptr<const error> failure;
};

using log_reads = coalescer<log_question, log_answer, 4>;

/// One reader. A page that it gets was asked for after this object was made: an older one may not have what made the
/// reader doubt. Its driver does what `next` says until it is done.
///
/// Who waits for others in vain until `alone_from` asks by itself: nobody depends on another one's executor.
class shared_log_read {
 public:
  using time_point = std::chrono::steady_clock::time_point;
  enum class step : unsigned char { ask, wait, done };
  /// Why it does not wait any more; `stopped` and `client_closed` keep it from asking, too.
  enum class end_of_wait : unsigned char { none, out_of_time, stopped, client_closed };

  shared_log_read(log_reads& together, const log_question& what, time_point alone_from);
  shared_log_read(const shared_log_read&) = delete;
  shared_log_read& operator=(const shared_log_read&) = delete;
  /// When the driver was left by an exception, the others must not wait for it.
  ~shared_log_read();

  step next(time_point now, end_of_wait why = end_of_wait::none);

  /// To ask, once `next` says so: with one of these.
  void answered(shared_page page);
  void failed(const error& why);
  /// It was stopped while it asked, which concerns no other one.
  void withdraw();

  /// To wait: until this is no longer in the state of waiting.
  [[nodiscard]] log_reads::request& request() noexcept { return mine_; }

  /// When it is done. Nothing where it was given up. Throws the failure, whoever asked, as an object of its own.
  [[nodiscard]] shared_page result() const;

 private:
  void settle(log_answer with);

  log_reads& together_;
  const time_point alone_from_;
  log_reads::request mine_;
  bool begun_ = false;
  bool alone_ = false;
  bool settled_ = false;
  log_answer own_;
};

}  // namespace tenantry::detail
