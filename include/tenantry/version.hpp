#pragma once
// The library's version; the build reads it from here.

#define TENANTRY_VERSION_MAJOR 0
#define TENANTRY_VERSION_MINOR 1
#define TENANTRY_VERSION_PATCH 0
