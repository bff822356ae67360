#pragma once
// A temporary directory that shows what a test leaves behind.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <system_error>

namespace support {

/// A directory of the test's own that is TMPDIR meanwhile, to see what a server leaves behind.
class private_tmpdir {
 public:
  private_tmpdir() {
    std::string name = "/tmp/tenantry-test-XXXXXX";
    path_ = ::mkdtemp(name.data());
    if (const char* before = std::getenv("TMPDIR")) before_ = before;
    ::setenv("TMPDIR", path_.c_str(), 1);
  }
  private_tmpdir(const private_tmpdir&) = delete;
  private_tmpdir& operator=(const private_tmpdir&) = delete;
  ~private_tmpdir() {
    before_ ? ::setenv("TMPDIR", before_->c_str(), 1) : ::unsetenv("TMPDIR");
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  /// An executable shell script with this text.
  [[nodiscard]] std::filesystem::path script(const std::string& body) const {
    std::filesystem::path file = path_ / "script";
    std::ofstream{file} << "#!/bin/sh\n" << body << '\n';
    std::filesystem::permissions(file, std::filesystem::perms::owner_all);
    return file;
  }
  [[nodiscard]] bool holds_directory() const {
    for (const auto& entry : std::filesystem::directory_iterator{path_}) {
      if (entry.is_directory()) return true;
    }
    return false;
  }

 private:
  std::filesystem::path path_;
  std::optional<std::string> before_;
};

}  // namespace support
