#pragma once
// The Lua scripts of this family: the files in lua/, embedded when the library is built.

#include <tenantry/script.hpp>

namespace tenantry::detail::scripts {

const script& gcra();
const script& segmented_log();
const script& sliding_log();

}  // namespace tenantry::detail::scripts
