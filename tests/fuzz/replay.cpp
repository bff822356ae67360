// Runs a fuzz target over every file of the folders given as arguments, without a fuzzer.

#include "check.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

int main(int count, char** arguments) {
  try {
    std::vector<std::filesystem::path> files;
    for (int i = 1; i < count; ++i) {
      for (const auto& entry : std::filesystem::directory_iterator{arguments[i]}) {
        if (entry.is_regular_file()) files.push_back(entry.path());
      }
    }
    std::ranges::sort(files);
    for (const auto& file : files) {
      std::printf("%s\n", file.c_str());
      std::fflush(stdout);  // the last name is the culprit when the target aborts
      std::ifstream in{file, std::ios::binary};
      const std::string bytes{std::istreambuf_iterator<char>{in}, {}};
      fuzz::require(!in.bad() && in.is_open(), "the file can be read");
      // A copy of exactly this size, so that a sanitizer sees a read beyond it.
      const std::vector<std::uint8_t> input(bytes.begin(), bytes.end());
      (void)LLVMFuzzerTestOneInput(input.data(), input.size());
    }
    std::printf("%zu files\n", files.size());
    return files.empty() ? 1 : 0;
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "broken: %s\n", fault.what());
    return 1;
  }
}
