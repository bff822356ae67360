#pragma once
// Marks what a shared build shows; everything else is hidden.

// TENANTRY_LIB_EXPORT is defined while the library itself is compiled as a shared one, TENANTRY_SHARED for those who
// link that. A static build needs neither, and its symbols stay hidden in the program or library that takes it in.
#if defined(TENANTRY_LIB_EXPORT) || defined(TENANTRY_SHARED)
#define TENANTRY_EXPORT __attribute__((visibility("default")))
#else
#define TENANTRY_EXPORT
#endif
