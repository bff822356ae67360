#include "support/certificates.hpp"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <system_error>

namespace support {

namespace {

void need(bool worked, const char* what) {
  if (!worked) throw std::runtime_error{std::string{"certificates: "} + what};
}

std::shared_ptr<evp_pkey_st> new_key() {
  std::shared_ptr<evp_pkey_st> key{EVP_EC_gen("P-256"), &EVP_PKEY_free};
  need(key != nullptr, "key");
  return key;
}

void extend(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context{};
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const std::unique_ptr<X509_EXTENSION, decltype(&X509_EXTENSION_free)> made{
      X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str()), &X509_EXTENSION_free};
  need(made != nullptr && X509_add_ext(certificate, made.get(), -1) == 1, value.c_str());
}

long next_number() {
  static std::atomic<long> last{0};
  return ++last;
}

/// Not signed yet.
std::shared_ptr<x509_st> new_certificate(EVP_PKEY* key, const certificate_request& request) {
  std::shared_ptr<x509_st> made{X509_new(), &X509_free};
  X509_set_version(made.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(made.get()), next_number());
  X509_gmtime_adj(X509_getm_notBefore(made.get()), request.valid_from);
  X509_gmtime_adj(X509_getm_notAfter(made.get()), request.valid_until);
  X509_set_pubkey(made.get(), key);
  const auto* name = reinterpret_cast<const unsigned char*>(request.common_name.c_str());
  X509_NAME_add_entry_by_txt(X509_get_subject_name(made.get()), "CN", MBSTRING_ASC, name, -1, -1, 0);
  return made;
}

using file = std::unique_ptr<std::FILE, decltype(&std::fclose)>;

file create(const std::string& path) {
  file opened{std::fopen(path.c_str(), "w"), &std::fclose};
  need(opened != nullptr, path.c_str());
  return opened;
}

}  // namespace

authority::authority() : key_{new_key()} {
  std::string name = "/tmp/tenantry-certificates-XXXXXX";
  need(::mkdtemp(name.data()) != nullptr, "directory");
  directory_ = name;
  file_ = (directory_ / "ca.pem").string();
  certificate_ = new_certificate(key_.get(), {.common_name = "test authority " + std::to_string(next_number())});
  X509_set_issuer_name(certificate_.get(), X509_get_subject_name(certificate_.get()));
  extend(certificate_.get(), certificate_.get(), NID_basic_constraints, "critical,CA:TRUE");
  extend(certificate_.get(), certificate_.get(), NID_key_usage, "critical,keyCertSign");
  need(X509_sign(certificate_.get(), key_.get(), EVP_sha256()) > 0, "signature");
  need(PEM_write_X509(create(file_).get(), certificate_.get()) == 1, "ca.pem");
}

authority::~authority() {
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void authority::prepare_directory() const {
  std::array<char, 16> name{};
  std::snprintf(name.data(), name.size(), "%08lx.0", X509_subject_name_hash(certificate_.get()));
  std::filesystem::create_symlink(file_, directory_ / name.data());
}

identity authority::issue(const std::string& name, const certificate_request& request) {
  const auto key = new_key();
  const auto made = new_certificate(key.get(), request);
  X509_set_issuer_name(made.get(), X509_get_subject_name(certificate_.get()));
  std::string alternatives;
  for (const std::string& each : request.names) alternatives += (alternatives.empty() ? "" : ",") + each;
  if (!alternatives.empty()) extend(made.get(), certificate_.get(), NID_subject_alt_name, alternatives);
  need(X509_sign(made.get(), key_.get(), EVP_sha256()) > 0, "signature");

  identity files{(directory_ / (name + ".pem")).string(), (directory_ / (name + ".key")).string()};
  need(PEM_write_X509(create(files.certificate_file).get(), made.get()) == 1, "certificate");
  const std::string& secret = request.key_passphrase;
  need(PEM_write_PKCS8PrivateKey(create(files.key_file).get(), key.get(), secret.empty() ? nullptr : EVP_aes_256_cbc(),
                                 secret.data(), static_cast<int>(secret.size()), nullptr, nullptr) == 1,
       "key");
  return files;
}

}  // namespace support
