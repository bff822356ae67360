#pragma once
// The Lua scripts of this family: the files in lua/, embedded when the library is built.

#include <tenantry/script.hpp>

namespace tenantry::detail::scripts {

const script& acquire();
const script& expire();
const script& put();
const script& release();
const script& remove();
const script& renew();
const script& restamp();
const script& stamp_tag();
const script& stamp_tenant();
const script& store();

}  // namespace tenantry::detail::scripts
