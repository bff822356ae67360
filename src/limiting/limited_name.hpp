#pragma once
// What a limit is kept for, and what a process remembers about it.

#include <tenantry/tenant.hpp>

#include <cstddef>
#include <functional>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace tenantry::detail {

/// A tenant and a path, without its query. Views: of what the caller gave.
struct limited_view {
  limited_view(std::string_view of_tenant, std::string_view of_path)
      : tenant{of_tenant}, path{of_path.substr(0, of_path.find('?'))} {}
  limited_view(const tenant_id& of_tenant, std::string_view of_path) : limited_view{of_tenant.str(), of_path} {}

  [[nodiscard]] std::size_t hash() const noexcept {
    const std::size_t first = std::hash<std::string_view>{}(tenant);
    return std::hash<std::string_view>{}(path) ^ (first + 0x9e3779b97f4a7c15U + (first << 6U) + (first >> 2U));
  }
  friend bool operator==(const limited_view&, const limited_view&) = default;

  std::string_view tenant;
  std::string_view path;
};

/// The same, for keeping.
struct limited_name {
  explicit limited_name(const limited_view& of) : tenant{of.tenant}, path{of.path} {}
  [[nodiscard]] limited_view view() const noexcept { return {tenant, path}; }

  std::string tenant;
  std::string path;
};

/// What was used most recently, up to `most` of it. Not thread-safe.
template <class Value>
class recent_map {
 public:
  explicit recent_map(std::size_t most) : most_{most} {}

  /// nullptr where there is none.
  Value* find(const limited_view& name) {
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) return nullptr;
    uses_.splice(uses_.begin(), uses_, found->second);
    return &found->second->value;
  }
  /// A new one where there is none. Forgets the one that was not used for longest, when there is no room.
  Value& at(const limited_view& name) {
    if (Value* const there = find(name)) return *there;
    if (by_name_.size() >= most_) {
      by_name_.erase(uses_.back().name.view());
      uses_.pop_back();
    }
    uses_.emplace_front(name);
    by_name_.emplace(uses_.front().name.view(), uses_.begin());
    return uses_.front().value;
  }
  void erase(const limited_view& name) {
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) return;
    const auto used = found->second;
    by_name_.erase(found);
    uses_.erase(used);
  }

 private:
  struct entry {
    explicit entry(const limited_view& of) : name{of} {}
    limited_name name;
    Value value{};
  };
  struct hash_of {
    std::size_t operator()(const limited_view& name) const noexcept { return name.hash(); }
  };

  std::size_t most_;
  std::list<entry> uses_;  // the most recent first
  std::unordered_map<limited_view, typename std::list<entry>::iterator, hash_of> by_name_;
};

}  // namespace tenantry::detail
