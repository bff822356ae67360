#pragma once
// Certificates of a test's own, as PEM files in a directory that goes with it.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

struct evp_pkey_st;
struct x509_st;

namespace support {

/// The files of one identity.
struct identity {
  std::string certificate_file;
  std::string key_file;
};

struct certificate_request {
  std::vector<std::string> names = {"DNS:localhost"};  // subject alternative names, as OpenSSL's configuration has them
  std::string common_name = "tenantry test";
  long valid_from = -3600;  // seconds from now
  long valid_until = 86400;
  std::string key_passphrase = {};  // empty: the key is not encrypted
};

/// A certificate authority. Every key is its own.
class authority {
 public:
  authority();
  ~authority();
  authority(const authority&) = delete;
  authority& operator=(const authority&) = delete;

  [[nodiscard]] const std::string& file() const { return file_; }
  [[nodiscard]] const std::filesystem::path& directory() const { return directory_; }

  /// What `openssl rehash` does for the directory: the authority is found by its name.
  void prepare_directory() const;

  /// A new key and a certificate for it. The files of the same `name` are replaced.
  identity issue(const std::string& name, const certificate_request& request);

 private:
  std::filesystem::path directory_;
  std::string file_;
  std::shared_ptr<evp_pkey_st> key_;
  std::shared_ptr<x509_st> certificate_;
};

}  // namespace support
