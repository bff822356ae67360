# Writes a source file that defines page_files(): -DOUT=<file> "-DFILES=<file>;..."

set(text "#include \"page_files.hpp\"\n\nnamespace gateway {\n\nstd::span<const page_file> page_files() noexcept {\n")
string(APPEND text "  static constexpr page_file all[] = {\n")
foreach(file IN LISTS FILES)
  get_filename_component(name ${file} NAME)
  file(READ ${file} bytes)
  string(APPEND text "      {\"${name}\", R\"page-file(${bytes})page-file\"},\n")
endforeach()
string(APPEND text "  };\n  return all;\n}\n\n}  // namespace gateway\n")
file(WRITE ${OUT} "${text}")
