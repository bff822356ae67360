#pragma once
// The Lua scripts of this family: the files in lua/, embedded when the library is built.

#include <tenantry/script.hpp>

namespace tenantry::detail::scripts {

const script& append_event();
const script& read_events();
const script& take_work();
const script& keep_work();

}  // namespace tenantry::detail::scripts
