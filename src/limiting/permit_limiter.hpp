#pragma once
// What the faces of a concurrency limiter share, and the permits that outlive it.

#include "engine/seam.hpp"
#include "limiting/local_permits.hpp"
#include "limiting/permit_keeper.hpp"

#include <tenantry/client.hpp>
#include <tenantry/concurrency_limiter.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/task.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace tenantry::detail {

/// How the place of a permit is given back.
enum class leaving : unsigned char { blocking, by_keeper };

/// Threads: all members from any thread.
class permit_limiter : public std::enable_shared_from_this<permit_limiter> {
 public:
  permit_limiter(const client& redis, on_failure if_away, const concurrency_options& how);
  permit_limiter(const permit_limiter&) = delete;
  permit_limiter& operator=(const permit_limiter&) = delete;
  /// In the child of a fork it leaves what it shares to the parent.
  ~permit_limiter();

  permit acquire(const tenant_id& tenant, std::string_view name);
  std::uint64_t in_use(const tenant_id& tenant, std::string_view name) const;
  // The limiter may end before them.
  static task<permit> async_acquire(std::shared_ptr<permit_limiter> self, tenant_id tenant, std::string name);
  static task<std::uint64_t> async_in_use(std::shared_ptr<permit_limiter> self, tenant_id tenant, std::string name);

 private:
  friend class permit_place;
  struct request;

  /// True in the child of a fork. The client may be gone, since before the fork.
  [[nodiscard]] bool forked() const noexcept { return fork_count() != forks_; }
  permit granted(const request& by, const reply& answer);
  permit without_redis(const request& by, const error& why);

  const client& redis_;  // for new permits
  const on_failure if_away_;
  const concurrency_options how_;
  const caller gives_back_;
  const std::uint64_t forks_;
  std::shared_ptr<permit_keeper> keeper_;
  std::shared_ptr<local_permits> local_;
};

/// What a permit holds; given back when it ends. Nobody has it in Redis where there is no lease.
class permit_place {
 public:
  permit_place(std::shared_ptr<permit_limiter> of, std::shared_ptr<permit_lease> lease, leaving how) noexcept;
  permit_place(const permit_place&) = delete;
  permit_place& operator=(const permit_place&) = delete;
  ~permit_place() { leave(); }

  void sit(local_permits::seat where) noexcept { seat_ = std::move(where); }
  [[nodiscard]] bool lost() const noexcept;
  /// Waits for it.
  static task<void> async_leave(std::unique_ptr<permit_place> self);

 private:
  void leave() noexcept;

  const std::shared_ptr<permit_limiter> of_;
  std::shared_ptr<permit_lease> lease_;
  local_permits::seat seat_;
  const leaving how_;
};

}  // namespace tenantry::detail
