#pragma once
// Locks in the child of a fork: those of the parent may be held there for ever, by threads that the child does not
// have. Only for programs of their own: inherited_locks.cpp replaces functions of the C library.

#include "support/child_process.hpp"

#include <utility>

namespace support {

/// Which locks end the process, as if a thread of the parent had held them when it forked.
enum class held_locks : unsigned char {
  all,             ///< each one; nor may a thread be waited for
  of_the_program,  ///< those in static storage, which the child and its parent have in common
};

/// What a child ends with that takes one; where it did is told on stderr.
inline constexpr int took_a_held_lock = 99;

/// The calling process is a child whose parent held these when it forked.
void hold_locks(held_locks which) noexcept;

/// As `in_child`, with these locks held: the same number each time, however seldom a fork meets them.
template <class Action>
int in_child_that_finds_held(held_locks which, Action&& action) {
  return in_child([&] {
    hold_locks(which);
    return std::forward<Action>(action)();
  });
}

}  // namespace support
