#pragma once
// A part of a log, held once however many followers deliver from it.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tenantry::detail {

struct log_entry {
  std::uint64_t offset = 0;
  std::string tag;
  std::string payload;
};

/// Read at one moment.
struct log_page {
  std::string epoch;        // empty: there is no log
  std::uint64_t top = 0;    // offset of the latest event
  std::uint64_t first = 0;  // of the first one that is kept; 0: none is
  std::vector<log_entry> entries;
};

/// Does not change.
using shared_page = std::shared_ptr<const log_page>;

}  // namespace tenantry::detail
