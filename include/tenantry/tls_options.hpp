#pragma once
// How a connection is encrypted, and whom it trusts.

#include <string>

namespace tenantry {

/// What a server has to prove.
enum class tls_verify : unsigned char {
  chain_and_name,    ///< a trusted authority signed its certificate, which is valid now and is for this host
  nothing_insecure,  ///< nothing: encrypted, but to whoever answers. Anybody on the way can read and change everything
};

/// TLS 1.2 or newer, with OpenSSL. All files are PEM.
///
/// The files are read when a client is constructed. Files that were replaced on disk are read again for the next
/// connection; when they do not fit together yet, that one still uses what was read before.
struct tls_options {
  /// The authorities to trust. Without both, those of the system (OpenSSL's defaults, SSL_CERT_FILE and SSL_CERT_DIR).
  std::string ca_file = {};
  std::string ca_directory = {};  ///< prepared by `openssl rehash`
  /// What the server may ask for: a certificate, followed by its intermediate ones, and its key. Both or neither.
  std::string certificate_file = {};
  std::string key_file = {};
  std::string key_passphrase = {};  ///< of an encrypted key file
  /// The name or address that the certificate has to be for. Empty: the host that the client connects to.
  std::string server_name = {};
  tls_verify verify = tls_verify::chain_and_name;

  bool operator==(const tls_options&) const = default;
};

}  // namespace tenantry
