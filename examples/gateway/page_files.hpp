#pragma once
// The files of page/, embedded when the example is built.

#include <span>
#include <string_view>

namespace gateway {

struct page_file {
  std::string_view name;
  std::string_view bytes;
};
std::span<const page_file> page_files() noexcept;

}  // namespace gateway
