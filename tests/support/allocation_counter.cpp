#include <algorithm>
#include <cstdlib>
#include <malloc.h>
#include <new>
#include <support/allocation_counter.hpp>
#include <utility>

// All forms are replaced, not only the two that the others call by default: a sanitizer brings its own set, and memory
// of its operator new must not come back to our operator delete.

namespace {

constinit thread_local std::size_t allocations = 0;
constinit thread_local std::ptrdiff_t live_bytes = 0;  // negative where a thread frees what others allocated
constinit thread_local std::ptrdiff_t most_bytes = 0;
constinit thread_local std::size_t fails_in = 0;  // so many allocations; 0: none does

#ifndef TENANTRY_TEST_FIXED_NEW

void* counted(void* memory) noexcept {
  ++allocations;
  live_bytes += static_cast<std::ptrdiff_t>(::malloc_usable_size(memory));
  most_bytes = std::max(most_bytes, live_bytes);
  return memory;
}

bool fails() noexcept { return fails_in != 0 && --fails_in == 0; }

void* allocate(std::size_t size) noexcept { return fails() ? nullptr : counted(std::malloc(size == 0 ? 1 : size)); }

void* allocate(std::size_t size, std::align_val_t alignment) noexcept {
  if (fails()) return nullptr;
  const auto unit = static_cast<std::size_t>(alignment);
  return counted(std::aligned_alloc(unit, (size + unit) / unit * unit));  // a multiple of it, and never zero
}

void release(void* memory) noexcept {
  live_bytes -= static_cast<std::ptrdiff_t>(::malloc_usable_size(memory));
  std::free(memory);
}

void* or_throw(void* memory) {
  if (memory == nullptr) throw std::bad_alloc{};
  return memory;
}

#endif

}  // namespace

namespace support {

std::size_t allocation_counter::total() noexcept { return allocations; }
std::ptrdiff_t allocation_counter::live() noexcept { return live_bytes; }
std::ptrdiff_t allocation_counter::peak() noexcept { return most_bytes; }
std::ptrdiff_t allocation_counter::exchange_peak(std::ptrdiff_t bytes) noexcept {
  return std::exchange(most_bytes, bytes);
}

allocation_failure::allocation_failure(std::size_t n) noexcept { fails_in = n; }
allocation_failure::~allocation_failure() { fails_in = 0; }
bool allocation_failure::came() noexcept { return fails_in == 0; }

}  // namespace support

#ifndef TENANTRY_TEST_FIXED_NEW

void* operator new(std::size_t size) { return or_throw(allocate(size)); }
void* operator new[](std::size_t size) { return or_throw(allocate(size)); }
void* operator new(std::size_t size, std::align_val_t alignment) { return or_throw(allocate(size, alignment)); }
void* operator new[](std::size_t size, std::align_val_t alignment) { return or_throw(allocate(size, alignment)); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void* operator new(std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return allocate(size, alignment);
}
void* operator new[](std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return allocate(size, alignment);
}

void operator delete(void* memory) noexcept { release(memory); }
void operator delete[](void* memory) noexcept { release(memory); }
void operator delete(void* memory, std::size_t) noexcept { release(memory); }
void operator delete[](void* memory, std::size_t) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { release(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t, const std::nothrow_t&) noexcept { release(memory); }
void operator delete[](void* memory, std::align_val_t, const std::nothrow_t&) noexcept { release(memory); }

#endif
