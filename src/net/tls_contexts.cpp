// Contexts that are shared, and renewed when their files change.

#include "engine/fork_count.hpp"
#include "net/tls.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <ctime>
#include <mutex>
#include <sys/stat.h>
#include <utility>
#include <vector>

namespace tenantry::net {

namespace {

/// Tells one content of a file from another.
struct stamp {
  ino_t inode = 0;
  off_t size = 0;
  time_t seconds = 0;
  long nanoseconds = 0;
  bool operator==(const stamp&) const = default;
};

using stamps = std::array<stamp, 3>;

stamps stamps_of(const tls_options& options) {
  stamps all{};
  std::size_t next = 0;
  for (const std::string* path : {&options.ca_file, &options.certificate_file, &options.key_file}) {
    struct stat found {};
    stamp& mine = all[next++];
    if (path->empty() || ::stat(path->c_str(), &found) != 0) continue;
    mine = {found.st_ino, found.st_size, found.st_mtim.tv_sec, found.st_mtim.tv_nsec};
  }
  return all;
}

struct known_context {
  tls_options options;
  stamps files{};
  std::shared_ptr<const tls_context> context;
};

struct known_contexts {
  std::mutex mutex;
  std::vector<known_context> all;
};

constinit detail::one_per_process<known_contexts> contexts;

}  // namespace

std::shared_ptr<const tls_context> tls_context_of(const tls_options& options) {
  constexpr std::size_t most = 16;
  auto& [mutex, known] = contexts.get();
  const std::lock_guard held{mutex};
  const auto found = std::ranges::find(known, options, &known_context::options);
  const stamps files = stamps_of(options);  // before reading: what changes meanwhile is read again next time
  if (found != known.end() && found->files == files) return found->context;
  try {
    auto made = make_tls_context(options);
    if (found != known.end()) {
      found->files = files;
      return found->context = std::move(made);
    }
    if (known.size() == most) known.erase(known.begin());
    return known.emplace_back(options, files, std::move(made)).context;
  } catch (const invalid_option&) {
    if (found == known.end()) throw;
    return found->context;
  }
}

}  // namespace tenantry::net
