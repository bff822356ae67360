#pragma once
// The Lua scripts of this family: the files in lua/, embedded when the library is built.

#include <tenantry/script.hpp>

namespace tenantry::detail::scripts {

const script& acquire_permit();
const script& gcra();
const script& permits_in_use();
const script& renew_permits();
const script& segmented_log();
const script& sliding_log();

}  // namespace tenantry::detail::scripts
