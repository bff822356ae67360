#pragma once
// How a sweep goes about its work, and what it did.

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>

namespace tenantry {

/// What one sweep did, until now or altogether.
struct sweep_report {
  /// Keys in the database when the sweep began.
  std::uint64_t total = 0;
  /// Keys that the server has looked through, from 0 to `total`. An estimate while the sweep runs, a few keys per page
  /// off; all of them when it is complete. Keys that came or went meanwhile are not counted.
  std::uint64_t scanned = 0;
  /// Names found: keys and companions. The server may name one more than once, and it is counted as often.
  std::uint64_t matched = 0;
  /// Keys and companions that were there and are not any more, as the server counted them.
  std::uint64_t deleted = 0;
  /// The memory of what was found, as MEMORY USAGE says, asked before it is deleted; nothing unless asked for.
  std::optional<std::uint64_t> bytes = std::nullopt;
  /// True when the whole key space was gone through; false while the sweep runs, or when it was stopped.
  bool complete = false;

  bool operator==(const sweep_report&) const = default;
};

/// What becomes of the keys that a sweep finds.
enum class sweep_action : unsigned char {
  remove,  ///< UNLINK
  count,   ///< nothing: a dry run
};

/// Whether a sweep asks for the memory of each key that it finds.
enum class sweep_bytes : unsigned char {
  not_measured,
  measured,  ///< MEMORY USAGE: one command more for each key found
};

struct sweep_options {
  /// Called after each page with what was done until then, on the thread of the sweep; with coroutines where they run.
  /// The sweep waits for it. What it throws ends the sweep and comes to the caller.
  std::function<void(const sweep_report&)> on_progress = {};
  sweep_action action = sweep_action::remove;
  sweep_bytes bytes = sweep_bytes::not_measured;
  /// The most keys that the server looks through in a second, and so also the most that it deletes; nothing: as fast as
  /// it answers. At least 1.
  std::optional<std::uint32_t> keys_per_second = std::nullopt;
  /// When triggered, the sweep returns after the page that is under way; a pause for `keys_per_second` ends at once.
  std::stop_token stop = {};
};

}  // namespace tenantry
