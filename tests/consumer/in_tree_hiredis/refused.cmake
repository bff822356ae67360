include(${CMAKE_CURRENT_LIST_DIR}/../configure.cmake)
refuses("TENANTRY_INSTALL with an in-tree hiredis" ${SOURCE} "TENANTRY_INSTALL needs an installed hiredis" -D
        TENANTRY=${TENANTRY} -D TENANTRY_INSTALL=ON)
