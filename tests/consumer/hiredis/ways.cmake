# The three ways in which hiredis gets onto a machine, each in a prefix of its own made of this machine's hiredis.
#
#   cmake -D MODULES=<cmake/> -D SOURCE=<project> -D LIBRARY=<libhiredis.so> -D INCLUDES=<its directories> -D SCRATCH=... -P

include(${CMAKE_CURRENT_LIST_DIR}/../configure.cmake)
file(REMOVE_RECURSE ${SCRATCH})
find_path(headers hiredis/hiredis.h HINTS ${INCLUDES} REQUIRED)

function(make_prefix prefix)
  file(MAKE_DIRECTORY ${prefix}/lib ${prefix}/include)
  file(COPY ${headers}/hiredis DESTINATION ${prefix}/include)
  get_filename_component(real ${LIBRARY} REALPATH)
  file(CREATE_LINK ${real} ${prefix}/lib/libhiredis.so SYMBOLIC)
endfunction()

set(options -D MODULES=${MODULES})
accepts("as installed here" ${SOURCE} ${options})

# Upstream's CMake package. Its version file accepts its own major only, which a version in our request would trip over.
set(prefix ${SCRATCH}/upstream)
make_prefix(${prefix})
file(
  WRITE ${prefix}/lib/cmake/hiredis/hiredis-config.cmake
  "get_filename_component(prefix \"\${CMAKE_CURRENT_LIST_DIR}/../../..\" ABSOLUTE)
add_library(hiredis::hiredis SHARED IMPORTED)
set_target_properties(hiredis::hiredis PROPERTIES
  IMPORTED_LOCATION \${prefix}/lib/libhiredis.so INTERFACE_INCLUDE_DIRECTORIES \${prefix}/include)
set(hiredis_FOUND TRUE)
")
file(
  WRITE ${prefix}/lib/cmake/hiredis/hiredis-config-version.cmake
  "set(PACKAGE_VERSION 1.2.0)
if(PACKAGE_FIND_VERSION AND NOT PACKAGE_FIND_VERSION_MAJOR EQUAL 1)
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
else()
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
")
accepts("upstream's CMake package" ${SOURCE} ${options} -D CMAKE_PREFIX_PATH=${prefix} -D
        EXPECT_INCLUDE=${prefix}/include)

# Only a .pc file knows the place, and it names the directory of hiredis.h itself, as Debian's does.
set(prefix ${SCRATCH}/pkg_config)
make_prefix(${prefix})
file(WRITE ${SCRATCH}/pc/hiredis.pc "prefix=${prefix}\nName: hiredis\nDescription: -\nVersion: 0.14.1\n"
                                    "includedir=\${prefix}/include/hiredis\nlibdir=\${prefix}/lib\n"
                                    "Cflags: -I\${includedir}\nLibs: -L\${libdir} -lhiredis\n")
set(ENV{PKG_CONFIG_PATH} ${SCRATCH}/pc)
accepts("a .pc file" ${SOURCE} ${options} -D EXPECT_INCLUDE=${prefix}/include)
unset(ENV{PKG_CONFIG_PATH})

# Debian's own CMake package defines no target, and its version file fails when no version is asked for.
set(prefix ${SCRATCH}/debian)
make_prefix(${prefix})
file(WRITE ${prefix}/lib/cmake/Hiredis/HiredisConfig.cmake "message(FATAL_ERROR \"Debian's package was loaded\")\n")
accepts("beside Debian's CMake package" ${SOURCE} ${options} -D CMAKE_PREFIX_PATH=${prefix} -D
        EXPECT_INCLUDE=${prefix}/include)

set(prefix ${SCRATCH}/old)
make_prefix(${prefix})
file(READ ${prefix}/include/hiredis/hiredis.h text)
string(REGEX REPLACE "#define HIREDIS_MAJOR +[0-9]+" "#define HIREDIS_MAJOR 0" text "${text}")
string(REGEX REPLACE "#define HIREDIS_MINOR +[0-9]+" "#define HIREDIS_MINOR 13" text "${text}")
file(WRITE ${prefix}/include/hiredis/hiredis.h "${text}")
refuses("an old hiredis" ${SOURCE} "is too old: tenantry needs 0.14.1 or newer" ${options} -D
        CMAKE_PREFIX_PATH=${prefix})
