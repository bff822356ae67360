# Searches all schedules of a model with Spin. The claims must hold in each, or without one of its rules fail in some.
#
#   cmake -D SPIN=<spin> -D COMPILER=<cc> -D MODEL=<file.pml> -D SCRATCH=<directory> [-D WITHOUT=<rule>] -P check.cmake

file(REMOVE_RECURSE ${SCRATCH})
file(MAKE_DIRECTORY ${SCRATCH})
if(WITHOUT)
  set(options -D${WITHOUT})
  file(READ ${MODEL} text)
  string(FIND "${text}" " *   ${WITHOUT} " told)
  if(told EQUAL -1)
    message(FATAL_ERROR "the header of ${MODEL} does not tell the rule ${WITHOUT}")
  endif()
else()
  set(options -o3) # statements are not merged: merged ones count as reached when one of them is
endif()

function(run what)
  execute_process(
    COMMAND ${ARGN}
    WORKING_DIRECTORY ${SCRATCH}
    RESULT_VARIABLE status
    OUTPUT_VARIABLE text
    ERROR_VARIABLE text)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${what} failed (${status}):\n${text}")
  endif()
  set(output "${text}" PARENT_SCOPE)
endfunction()

run("spin" ${SPIN} "-P${COMPILER} -E -x c" ${options} -a ${MODEL})
run("the compiler" ${COMPILER} -O1 -w -DSAFETY -DMEMLIM=2000 -o pan pan.c)
run("the search" ./pan -m100000)

set(replay "cd ${SCRATCH} && ${SPIN} -t -p -g -l ${options} ${MODEL}")
if(WITHOUT)
  if(NOT output MATCHES "pan:1: assertion violated")
    message(FATAL_ERROR "the claims hold without the rule ${WITHOUT}:\n${output}")
  endif()
else()
  if(output MATCHES "pan:1: ([^\n]+)")
    message(FATAL_ERROR "a schedule breaks the claims: ${CMAKE_MATCH_1}\nIt is shown by: ${replay}\n${output}")
  endif()
  if(NOT output MATCHES "errors: 0\n" OR output MATCHES "not completed|error:|out of memory|truncated")
    message(FATAL_ERROR "the search is not complete:\n${output}")
  endif()
  # Endless processes never reach their ends; anything else that no schedule reaches is a mistake in the model.
  string(REGEX MATCHALL "[^\n]+, state [0-9]+, [^\n]+" unreached "${output}")
  list(FILTER unreached EXCLUDE REGEX "\"-end-\"$")
  if(unreached)
    list(JOIN unreached "\n" unreached)
    message(FATAL_ERROR "no schedule reaches:\n${unreached}")
  endif()
endif()
string(REGEX MATCH "[0-9.e+]+ states, stored" states "${output}")
message(STATUS "${states}")
file(REMOVE_RECURSE ${SCRATCH})
