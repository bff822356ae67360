#include <tenantry/detail/load_scope.hpp>
#include <tenantry/error.hpp>

#include <string>

namespace tenantry::detail {

namespace {

thread_local const load_scope* innermost = nullptr;

}  // namespace

load_scope::load_scope(const void* cache, std::string_view key) noexcept : cache_{cache}, key_{key}, outer_{innermost} {
  innermost = this;
}

load_scope::~load_scope() { innermost = outer_; }

void load_scope::check(const void* cache, std::string_view key) {
  for (const load_scope* each = innermost; each != nullptr; each = each->outer_) {
    if (each->cache_ == cache && each->key_ == key) {
      throw error{errc::recursive_load, execution::not_sent,
                  std::string{key} + ": the loader of this key fetches the key itself"};
    }
  }
}

bool load_scope::active() noexcept { return innermost != nullptr; }

}  // namespace tenantry::detail
