# Compiles one case twice: with TENANTRY_FORBIDDEN it must fail with the sentence that its first line expects, without
# it must compile.
#
#   cmake -D COMPILER=<c++> -D INCLUDES=<directories> -D SOURCE=<case.cpp> -P check_case.cmake

file(STRINGS ${SOURCE} first LIMIT_COUNT 1)
if(NOT first MATCHES "^// expect: (.+)$")
  message(FATAL_ERROR "${SOURCE}: the first line must be `// expect: <part of the compiler's message>`")
endif()
set(sentence "${CMAKE_MATCH_1}")

list(REMOVE_DUPLICATES INCLUDES)
list(TRANSFORM INCLUDES PREPEND -I)
set(compile ${COMPILER} -std=c++20 -fsyntax-only ${INCLUDES})

execute_process(
  COMMAND ${compile} ${SOURCE}
  RESULT_VARIABLE status
  OUTPUT_VARIABLE output
  ERROR_VARIABLE output)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "the legal twin does not compile:\n${output}")
endif()

execute_process(
  COMMAND ${CMAKE_COMMAND} -E env LC_ALL=C ${compile} -DTENANTRY_FORBIDDEN ${SOURCE}
  RESULT_VARIABLE status
  OUTPUT_VARIABLE output
  ERROR_VARIABLE output)
if(status EQUAL 0)
  message(FATAL_ERROR "the forbidden code compiles; expected: ${sentence}")
endif()
string(FIND "${output}" "${sentence}" at)
if(at EQUAL -1)
  message(FATAL_ERROR "the compiler does not say: ${sentence}\nIt says:\n${output}")
endif()
