#pragma once
// What the patterns of one client have in common, by its type. The engine keeps it and does not know it.

#include <memory>
#include <mutex>
#include <typeindex>
#include <unordered_map>

namespace tenantry::detail {

struct shared_parts {
  const std::shared_ptr<const void> life = std::make_shared<char>();  // as long as the client
  std::mutex mutex;
  std::unordered_map<std::type_index, std::weak_ptr<void>> by_type;
};

}  // namespace tenantry::detail
