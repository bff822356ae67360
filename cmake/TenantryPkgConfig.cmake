# The pkg-config files. Directories given as absolute paths stay as they are, all others follow ${prefix}.

function(tenantry_pc_dir dir out)
  cmake_path(IS_ABSOLUTE dir absolute)
  if(absolute)
    set(${out} "${dir}" PARENT_SCOPE)
  else()
    set(${out} "\${prefix}/${dir}" PARENT_SCOPE)
  endif()
endfunction()

tenantry_pc_dir("${CMAKE_INSTALL_LIBDIR}" tenantry_pc_libdir)
tenantry_pc_dir("${CMAKE_INSTALL_INCLUDEDIR}" tenantry_pc_includedir)

# Where the files are says what the prefix is, so an installed tree can be moved, and `cmake --install --prefix` works.
set(tenantry_pc_dir_name ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
cmake_path(IS_ABSOLUTE CMAKE_INSTALL_LIBDIR absolute)
if(absolute)
  set(tenantry_pc_prefix ${CMAKE_INSTALL_PREFIX})
else()
  cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX BASE_DIRECTORY "${CMAKE_INSTALL_PREFIX}/${tenantry_pc_dir_name}"
             OUTPUT_VARIABLE tenantry_pc_prefix)
  cmake_path(SET tenantry_pc_prefix NORMALIZE "${tenantry_pc_prefix}")
  string(REGEX REPLACE "/$" "" tenantry_pc_prefix "\${pcfiledir}/${tenantry_pc_prefix}")
endif()
unset(absolute)

# A static library names what it is linked with in the public part: pkg-config without `--static` would leave that out,
# and there is no shared library that brings it along.
set(tenantry_pc_requires "nlohmann_json >= 3.11")
set(tenantry_pc_requires_private "hiredis >= 0.14.1, fmt >= 9")
if(TENANTRY_WITH_TLS)
  string(APPEND tenantry_pc_requires_private ", openssl >= 3")
endif()
set(tenantry_pc_libs "-L\${libdir} -ltenantry")
set(tenantry_pc_libs_private "-pthread")
set(tenantry_pc_cflags "-I\${includedir}")
get_target_property(tenantry_type tenantry TYPE)
if(tenantry_type STREQUAL "STATIC_LIBRARY")
  string(APPEND tenantry_pc_requires ", ${tenantry_pc_requires_private}")
  set(tenantry_pc_requires_private)
  string(APPEND tenantry_pc_libs " -pthread")
else()
  string(APPEND tenantry_pc_cflags " -DTENANTRY_SHARED")
endif()

foreach(file IN ITEMS tenantry.pc tenantry-testing.pc)
  configure_file(${CMAKE_CURRENT_LIST_DIR}/${file}.in ${PROJECT_BINARY_DIR}/${file} @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${file} DESTINATION ${tenantry_pc_dir_name})
endforeach()
