# refuses(<claim> <source> <part of the message> [option...]): configuring the project fails and says so.
# accepts(<claim> <source> [option...]): it succeeds, and builds.
# Both want SCRATCH and GENERATOR, and take COMPILER.

set(configure_options)
if(COMPILER)
  set(configure_options -D CMAKE_CXX_COMPILER=${COMPILER})
endif()

function(refuses claim source reason)
  file(REMOVE_RECURSE ${SCRATCH}/build)
  execute_process(
    COMMAND ${CMAKE_COMMAND} -S ${source} -B ${SCRATCH}/build -G ${GENERATOR} ${configure_options} ${ARGN}
    RESULT_VARIABLE status
    OUTPUT_VARIABLE output
    ERROR_VARIABLE output)
  string(REGEX REPLACE "[ \n]+" " " flat "${output}")
  string(FIND "${flat}" "${reason}" at)
  if(status EQUAL 0 OR at EQUAL -1)
    message(FATAL_ERROR "${claim}: expected a refusal with \"${reason}\"; status ${status}:\n${output}")
  endif()
endfunction()

function(accepts claim source)
  file(REMOVE_RECURSE ${SCRATCH}/build)
  foreach(step IN ITEMS "-S;${source};-B;${SCRATCH}/build;-G;${GENERATOR};${configure_options};${ARGN}"
                        "--build;${SCRATCH}/build")
    execute_process(
      COMMAND ${CMAKE_COMMAND} ${step}
      RESULT_VARIABLE status
      OUTPUT_VARIABLE output
      ERROR_VARIABLE output)
    if(NOT status EQUAL 0)
      message(FATAL_ERROR "${claim}: ${output}")
    endif()
  endforeach()
endfunction()
