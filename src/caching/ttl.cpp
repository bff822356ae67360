#include <tenantry/detail/ttl.hpp>

#include <exception>
#include <functional>
#include <random>
#include <thread>

namespace tenantry::detail {

namespace {

std::mt19937_64::result_type seed() {
  try {
    return std::random_device{}();
  } catch (const std::exception&) {  // a system without entropy still spreads its threads
    return std::hash<std::thread::id>{}(std::this_thread::get_id());
  }
}

}  // namespace

double random_unit() {
  thread_local std::mt19937_64 generator{seed()};
  return std::uniform_real_distribution<double>{0.0, 1.0}(generator);
}

}  // namespace tenantry::detail
