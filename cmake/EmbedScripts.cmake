# tenantry_embed_scripts(<header> <out> <file.lua>...): a source file that defines the functions which <header> declares,
# one for each script, named after its file.
function(tenantry_embed_scripts header out)
  set(text "#include \"${header}\"\n\nnamespace tenantry::detail::scripts {\n")
  foreach(file IN LISTS ARGN)
    cmake_path(GET file STEM name)
    file(READ ${file} body)
    string(APPEND text "\nconst script& ${name}() {\n  static const script one{R\"lua(${body})lua\"};\n  return one;\n}\n")
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  endforeach()
  string(APPEND text "\n}  // namespace tenantry::detail::scripts\n")
  file(CONFIGURE OUTPUT ${out} CONTENT "${text}" @ONLY)
endfunction()
