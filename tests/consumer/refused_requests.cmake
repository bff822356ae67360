# Requests to find_package that the installed package must refuse.

include(${CMAKE_CURRENT_LIST_DIR}/configure.cmake)

function(project_with request)
  file(WRITE ${SCRATCH}/project/CMakeLists.txt "cmake_minimum_required(VERSION 3.25)\nproject(request LANGUAGES CXX)\n"
                                               "find_package(tenantry ${request})\n")
endfunction()

set(package -D tenantry_ROOT=${PREFIX})

project_with("0.1 REQUIRED")
accepts("this minor version" ${SCRATCH}/project ${package})

project_with("0.1 REQUIRED COMPONENTS nothing")
refuses("an unknown component" ${SCRATCH}/project "tenantry has no component \"nothing\"" ${package})

project_with("0.1 REQUIRED OPTIONAL_COMPONENTS nothing")
accepts("an unknown optional component" ${SCRATCH}/project ${package})

foreach(version IN ITEMS 0.0 0.2 1.0)
  project_with("${version} REQUIRED")
  refuses("version ${version}" ${SCRATCH}/project "compatible with requested version \"${version}\"" ${package})
endforeach()
