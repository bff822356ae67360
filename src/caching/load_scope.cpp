#include <tenantry/detail/load_scope.hpp>
#include <tenantry/load_context.hpp>

#include <utility>

namespace tenantry::detail {

namespace {

thread_local const load_scope* here = nullptr;

}  // namespace

load_scope::load_scope(std::shared_ptr<const load_chain> load) noexcept : load_{std::move(load)}, outer_{here} {
  here = this;
}

load_scope::~load_scope() { here = outer_; }

std::shared_ptr<const load_chain> load_scope::innermost() noexcept { return here != nullptr ? here->load_ : nullptr; }

bool load_scope::active() noexcept { return here != nullptr; }

}  // namespace tenantry::detail
