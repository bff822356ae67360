# Builds and runs core.cpp with nothing but a compiler and pkg-config, against both installed libraries.
#
#   cmake -D COMPILER=... -D PREFIXES=<directory with static/ and shared/> -D SOURCE=core.cpp -D SCRATCH=... -P ...

find_program(pkg_config NAMES pkg-config pkgconf REQUIRED)
file(REMOVE_RECURSE ${SCRATCH})
file(MAKE_DIRECTORY ${SCRATCH})

function(build_and_run kind)
  file(GLOB_RECURSE pc ${PREFIXES}/${kind}/*/tenantry.pc)
  cmake_path(GET pc PARENT_PATH pc_dir)
  cmake_path(GET pc_dir PARENT_PATH lib_dir)
  set(ENV{PKG_CONFIG_PATH} ${pc_dir})
  execute_process(
    COMMAND ${pkg_config} --cflags --libs ${ARGN} "tenantry >= 0.1"
    OUTPUT_VARIABLE flags
    OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  message(STATUS "${kind} ${ARGN}: ${flags}")
  separate_arguments(flags UNIX_COMMAND "${flags}")
  execute_process(COMMAND ${COMPILER} -std=c++20 ${SOURCE} -o ${SCRATCH}/core ${flags} COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${CMAKE_COMMAND} -E env LD_LIBRARY_PATH=${lib_dir} ${SCRATCH}/core COMMAND_ERROR_IS_FATAL ANY)
endfunction()

build_and_run(static)
build_and_run(static --static)
build_and_run(shared)

# The testing component has a file of its own, which brings the library along.
execute_process(
  COMMAND ${pkg_config} --libs tenantry-testing
  OUTPUT_VARIABLE flags COMMAND_ERROR_IS_FATAL ANY)
if(NOT flags MATCHES "-ltenantry_testing.*-ltenantry( |$|\n)")
  message(FATAL_ERROR "tenantry-testing.pc gives: ${flags}")
endif()
