# Install rules, the CMake package (for the install and for the build tree) and the pkg-config files.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# An in-tree hiredis is in no export set: what we installed would name a target that no consumer can find.
get_target_property(tenantry_hiredis_imported hiredis::hiredis IMPORTED)
if(NOT tenantry_hiredis_imported)
  message(FATAL_ERROR "TENANTRY_INSTALL needs an installed hiredis, but hiredis::hiredis is built in this tree. "
                      "Set TENANTRY_INSTALL to OFF, or install hiredis and let find_package find it.")
endif()

set(tenantry_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tenantry)

install(
  TARGETS tenantry tenantry_testing
  EXPORT tenantry-targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
  FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT tenantry-targets NAMESPACE tenantry:: DESTINATION ${tenantry_package_dir})

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/tenantry-config.cmake.in
                              ${PROJECT_BINARY_DIR}/tenantry-config.cmake INSTALL_DESTINATION ${tenantry_package_dir})
# Before 1.0 a minor version may break its users.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/tenantry-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/tenantry-config.cmake ${PROJECT_BINARY_DIR}/tenantry-config-version.cmake
              ${CMAKE_CURRENT_LIST_DIR}/Findhiredis.cmake DESTINATION ${tenantry_package_dir})

export(EXPORT tenantry-targets NAMESPACE tenantry:: FILE ${PROJECT_BINARY_DIR}/tenantry-targets.cmake)
configure_file(${CMAKE_CURRENT_LIST_DIR}/Findhiredis.cmake ${PROJECT_BINARY_DIR}/Findhiredis.cmake COPYONLY)

include(TenantryPkgConfig)
