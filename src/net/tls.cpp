#include "net/tls.hpp"

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <new>
#include <poll.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace tenantry::net {

namespace {

struct release {
  void operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }
  void operator()(SSL* session) const noexcept { SSL_free(session); }
};

std::string words(int fault) { return std::generic_category().message(fault); }

/// What OpenSSL has to say, root cause first. Empties its queue.
std::string queued_reasons() {
  std::string text;
  const char* data = nullptr;
  int flags = 0;
  while (const unsigned long code = ERR_get_error_all(nullptr, nullptr, nullptr, &data, &flags)) {
    std::array<char, 256> line{};  // error:number:library::reason
    ERR_error_string_n(code, line.data(), line.size());
    const std::string_view whole{line.data()};
    text += (text.empty() ? "" : "; ") + std::string{whole.substr(whole.find("::") + 2)};
    if ((flags & ERR_TXT_STRING) != 0 && data != nullptr && *data != '\0') text += fmt::format(" ({})", data);
  }
  return text.empty() ? "no reason given" : text;
}

[[noreturn]] void refuse(std::string_view field, const std::string& value) {
  throw invalid_option{fmt::format("client_options.tls.{} {}: {}", field, value, queued_reasons())};
}

extern "C" int give_passphrase(char* room, int size, int, void* from) {
  const std::string& passphrase = *static_cast<const std::string*>(from);
  if (passphrase.empty() || passphrase.size() > static_cast<std::size_t>(size)) return -1;  // never asks the terminal
  return static_cast<int>(passphrase.copy(room, passphrase.size()));
}

void load_authorities(SSL_CTX* context, const tls_options& options) {
  const bool of_system = options.ca_file.empty() && options.ca_directory.empty();
  if (of_system && SSL_CTX_set_default_verify_paths(context) != 1) refuse("ca_file", "of the system");
  if (!options.ca_file.empty() && SSL_CTX_load_verify_file(context, options.ca_file.c_str()) != 1) {
    refuse("ca_file", options.ca_file);
  }
  if (!options.ca_directory.empty() && SSL_CTX_load_verify_dir(context, options.ca_directory.c_str()) != 1) {
    refuse("ca_directory", options.ca_directory);
  }
}

void load_identity(SSL_CTX* context, const tls_options& options) {
  if (options.certificate_file.empty()) return;
  std::string passphrase = options.key_passphrase;
  SSL_CTX_set_default_passwd_cb(context, &give_passphrase);
  SSL_CTX_set_default_passwd_cb_userdata(context, &passphrase);
  if (SSL_CTX_use_certificate_chain_file(context, options.certificate_file.c_str()) != 1) {
    refuse("certificate_file", options.certificate_file);
  }
  // Also compares it with the certificate.
  if (SSL_CTX_use_PrivateKey_file(context, options.key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    refuse("key_file", options.key_file);
  }
  SSL_CTX_set_default_passwd_cb_userdata(context, nullptr);
}

}  // namespace

struct tls_context {
  std::unique_ptr<SSL_CTX, release> made;
  tls_verify verify = tls_verify::chain_and_name;
};

std::shared_ptr<const tls_context> make_tls_context(const tls_options& options) {
  // Without OpenSSL's own clean-up at exit: a client with static storage may be destroyed after it.
  OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT, nullptr);
  ERR_clear_error();
  auto context = std::make_shared<tls_context>();
  context->made.reset(SSL_CTX_new(TLS_client_method()));
  SSL_CTX* const made = context->made.get();
  if (made == nullptr) refuse("verify", "(OpenSSL)");
  // The system's configuration may ask for more.
  if (SSL_CTX_get_min_proto_version(made) < TLS1_2_VERSION) SSL_CTX_set_min_proto_version(made, TLS1_2_VERSION);
  SSL_CTX_set_options(made, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(made, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF);
  // Many records per system call.
  SSL_CTX_set_read_ahead(made, 1);
  SSL_CTX_set_default_read_buffer_len(made, std::size_t{64} << 10U);
  context->verify = options.verify;
  if (options.verify == tls_verify::chain_and_name) load_authorities(made, options);
  load_identity(made, options);
  return context;
}

namespace {

/// The far end of a session, as OpenSSL's BIO sees it.
struct wire {
  int fd = -1;
  int fault = 0;  // errno of the latest call
  bool ended = false;
  std::array<char, 5> first{};  // received
  std::size_t first_size = 0;
};

wire& wire_of(BIO* bio) noexcept { return *static_cast<wire*>(BIO_get_data(bio)); }

/// BIO's way to tell of a transfer.
int told(BIO* bio, const transfer& what, int retry) noexcept {
  BIO_clear_retry_flags(bio);
  switch (what.how) {
    case transfer::status::done:
      return static_cast<int>(what.size);
    case transfer::status::would_block:
      BIO_set_flags(bio, retry | BIO_FLAGS_SHOULD_RETRY);
      return -1;
    case transfer::status::ended:
      wire_of(bio).ended = true;
      return 0;
    case transfer::status::failed:
      break;
  }
  wire_of(bio).fault = what.fault;
  return -1;
}

extern "C" int write_wire(BIO* bio, const char* bytes, int size) {
  return told(bio, send_some(wire_of(bio).fd, {bytes, static_cast<std::size_t>(size)}), BIO_FLAGS_WRITE);
}

extern "C" int read_wire(BIO* bio, char* room, int size) {
  wire& from = wire_of(bio);
  const transfer got = receive_some(from.fd, {room, static_cast<std::size_t>(size)});
  if (got.how == transfer::status::done && from.first_size < from.first.size()) {
    const std::size_t kept = std::min(got.size, from.first.size() - from.first_size);
    std::memcpy(from.first.data() + from.first_size, room, kept);
    from.first_size += kept;
  }
  return told(bio, got, BIO_FLAGS_READ);
}

extern "C" long control_wire(BIO* bio, int what, long, void*) {
  if (what == BIO_CTRL_EOF) return wire_of(bio).ended ? 1 : 0;
  return what == BIO_CTRL_FLUSH ? 1 : 0;
}

/// nullptr without memory.
const BIO_METHOD* wire_method() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tenantry");
    if (made != nullptr) {
      BIO_meth_set_write(made, &write_wire);
      BIO_meth_set_read(made, &read_wire);
      BIO_meth_set_ctrl(made, &control_wire);
    }
    return made;
  }();
  return method;
}

/// What the peer's alert, or our own judgement, means to the caller.
errc code_of(unsigned long error) noexcept {
  constexpr std::array identity{
      SSL_AD_NO_CERTIFICATE,          SSL_AD_BAD_CERTIFICATE,     SSL_AD_CERTIFICATE_REVOKED,
      SSL_AD_UNSUPPORTED_CERTIFICATE, SSL_AD_CERTIFICATE_EXPIRED, SSL_AD_UNKNOWN_CA,
      SSL_AD_CERTIFICATE_UNKNOWN,     SSL_AD_ACCESS_DENIED,       SSL_AD_CERTIFICATE_REQUIRED};
  const int reason = ERR_GET_REASON(error);
  const int alert = reason - SSL_AD_REASON_OFFSET;
  if (std::ranges::find(identity, alert) != identity.end()) return errc::auth;
  return reason == SSL_R_UNSUPPORTED_PROTOCOL || alert == SSL_AD_PROTOCOL_VERSION ? errc::unsupported : errc::protocol;
}

class openssl_session final : public tls_session {
 public:
  explicit openssl_session(int fd) { wire_.fd = fd; }
  openssl_session(const openssl_session&) = delete;
  openssl_session& operator=(const openssl_session&) = delete;
  ~openssl_session() override;
  std::optional<tls_failure> prepare(const tls_context& context, const std::string& host);
  socket::encryption shake_hands(clock::time_point deadline, std::span<const int> wakeups);

  transfer send(std::string_view bytes) noexcept override;
  transfer receive(std::span<char> room) noexcept override;
  bool has_news() noexcept override;
  bool buffered() noexcept override;
  void abort() noexcept override { quiet_ = true; }
  std::optional<tls_failure> defect() override {
    const std::lock_guard held{mutex_};
    return defect_;
  }

 private:
  /// Before each call of OpenSSL, so that what it leaves behind is its own.
  void begin() noexcept {
    ERR_clear_error();
    wire_.fault = 0;
  }
  transfer judge(int result) noexcept;
  tls_failure explain(int kind);

  wire wire_;
  std::unique_ptr<SSL, release> ssl_;
  std::string host_;
  tls_verify verify_ = tls_verify::chain_and_name;
  pid_t owner_ = ::getpid();

  std::mutex mutex_;  // of all below, and of ssl_ after the handshake
  bool online_ = false;
  bool quiet_ = false;
  bool filled_ = true;            // the latest receive stopped because its room was full
  std::optional<transfer> over_;  // no more can be received
  std::optional<tls_failure> defect_;
};

openssl_session::~openssl_session() {
  // A child that inherited the session must not end it for its parent.
  const bool alive = online_ && !quiet_ && (!over_ || over_->how == transfer::status::ended);
  if (!alive || owner_ != ::getpid()) return;
  SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

std::optional<tls_failure> openssl_session::prepare(const tls_context& context, const std::string& host) {
  verify_ = context.verify;
  host_ = host;
  ERR_clear_error();
  ssl_.reset(SSL_new(context.made.get()));
  BIO* const bio = ssl_ && wire_method() != nullptr ? BIO_new(wire_method()) : nullptr;
  if (bio == nullptr) return tls_failure{errc::unreachable, "TLS: " + queued_reasons()};
  BIO_set_data(bio, &wire_);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);

  std::string name = host_;
  if (name.find(':') != std::string::npos) name.resize(std::min(name.find('%'), name.size()));  // the zone of IPv6
  if (name.ends_with('.')) name.pop_back();
  if (name.empty()) return tls_failure{errc::invalid_option, "TLS: there is no host name to verify"};
  X509_VERIFY_PARAM* const rules = SSL_get0_param(ssl_.get());
  if (X509_VERIFY_PARAM_set1_ip_asc(rules, name.c_str()) != 1) {  // not a numeric address
    X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    if (X509_VERIFY_PARAM_set1_host(rules, name.data(), name.size()) != 1 ||
        SSL_ctrl(ssl_.get(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, name.data()) != 1) {
      return tls_failure{errc::invalid_option, "TLS: " + queued_reasons()};
    }
  }
  SSL_set_verify(ssl_.get(), verify_ == tls_verify::nothing_insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, nullptr);
  return std::nullopt;
}

socket::encryption openssl_session::shake_hands(clock::time_point deadline, std::span<const int> wakeups) {
  for (;;) {
    begin();
    const int result = SSL_connect(ssl_.get());
    online_ = result == 1;
    if (online_) return {};
    const int kind = SSL_get_error(ssl_.get(), result);
    if (kind != SSL_ERROR_WANT_READ && kind != SSL_ERROR_WANT_WRITE) return {.failed = explain(kind)};
    const short events = kind == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
    const ready how = clock::now() >= deadline ? ready::deadline : wait(wire_.fd, events, deadline, wakeups);
    if (how != ready::io) return {.failed = {}, .how = how, .silent = wire_.first_size == 0};
  }
}

tls_failure openssl_session::explain(int kind) {
  const std::string_view first{wire_.first.data(), wire_.first_size};
  const unsigned long error = ERR_peek_error();
  const std::string reasons = queued_reasons();
  if (const long verdict = SSL_get_verify_result(ssl_.get());
      verify_ != tls_verify::nothing_insecure && verdict != X509_V_OK) {
    return {errc::auth, fmt::format("TLS: the server's certificate is not accepted for {}: {} ({})", host_,
                                    X509_verify_cert_error_string(verdict), reasons)};
  }
  if (!first.empty() && (first[0] < '\x14' || first[0] > '\x17')) {  // the types of TLS records
    return {errc::protocol,
            fmt::format("TLS: the server does not speak TLS on this port{} ({})",
                        first.starts_with("HTTP/") ? " but HTTP" : "; use its tls-port, or redis://", reasons)};
  }
  if (wire_.ended && first.empty()) {
    return {errc::unreachable, "TLS: the server closed the connection during the handshake; does it speak TLS here?"};
  }
  if (wire_.fault != 0) return {errc::unreachable, "TLS: " + words(wire_.fault)};
  if (wire_.ended || kind != SSL_ERROR_SSL) {
    return {errc::unreachable, fmt::format("TLS: the server closed the connection ({})", reasons)};
  }
  std::string text = "TLS: " + reasons;
  if (ERR_GET_REASON(error) == SSL_AD_REASON_OFFSET + SSL_AD_CERTIFICATE_REQUIRED) {
    text += "; the server wants a client certificate: certificate_file and key_file";
  }
  return {code_of(error), std::move(text)};
}

/// What a call of OpenSSL that did not succeed means.
transfer openssl_session::judge(int result) noexcept {
  const int kind = SSL_get_error(ssl_.get(), result);
  // TLS may have to write before it can read, and the reverse. Either way, the same call is made again later.
  if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) return {.how = transfer::status::would_block};
  if (kind == SSL_ERROR_ZERO_RETURN || wire_.ended) return {.how = transfer::status::ended};
  if (wire_.fault != 0) return {.how = transfer::status::failed, .fault = wire_.fault};
  try {
    if (!defect_) defect_ = explain(kind);
  } catch (const std::bad_alloc&) {  // NOLINT(bugprone-empty-catch): the error says less then
  }
  return {.how = transfer::status::failed, .fault = EPROTO};
}

transfer openssl_session::send(std::string_view bytes) noexcept {
  // A record each, so that a thread that receives is not held up. Also when it is repeated, a record begins and ends at
  // the same bytes.
  constexpr std::size_t record = std::size_t{16} << 10U;
  constexpr std::size_t most = 16 * record;
  std::size_t moved = 0;
  while (moved < std::min(bytes.size(), most)) {
    const std::string_view next = bytes.substr(moved, record);
    const std::lock_guard held{mutex_};
    if (over_) return {.how = transfer::status::failed, .fault = EPIPE};
    begin();
    std::size_t written = 0;
    const int result = SSL_write_ex(ssl_.get(), next.data(), next.size(), &written);
    if (result == 1) {
      moved += written;
      continue;
    }
    // A failure is told by the next call, and what the peer said about it by receive.
    const transfer what = judge(result);
    if (moved == 0) return what;
    break;
  }
  return {.how = transfer::status::done, .size = moved};
}

transfer openssl_session::receive(std::span<char> room) noexcept {
  std::size_t moved = 0;
  while (moved < room.size()) {
    const std::lock_guard held{mutex_};
    if (!over_) {
      begin();
      std::size_t got = 0;
      const int result = SSL_read_ex(ssl_.get(), room.data() + moved, room.size() - moved, &got);
      filled_ = result == 1;
      if (filled_) {
        moved += got;
        continue;
      }
      const transfer what = judge(result);
      if (what.how == transfer::status::would_block) break;
      over_ = what;
    }
    if (moved == 0) return *over_;
    break;  // what came before the end counts first
  }
  if (moved == 0) return {.how = transfer::status::would_block};
  return {.how = transfer::status::done, .size = moved};
}

bool openssl_session::has_news() noexcept {
  const std::lock_guard held{mutex_};
  if (over_) return true;
  begin();
  char byte = 0;
  std::size_t seen = 0;
  const int result = SSL_peek_ex(ssl_.get(), &byte, 1, &seen);
  return result == 1 || judge(result).how != transfer::status::would_block;
}

bool openssl_session::buffered() noexcept {
  const std::lock_guard held{mutex_};
  return over_.has_value() || (filled_ && SSL_has_pending(ssl_.get()) == 1);
}

}  // namespace

tls_session::attempt tls_session::start(const tls_context& context, int fd, const std::string& host,
                                        clock::time_point deadline, std::span<const int> wakeups) {
  attempt result;
  auto session = std::make_unique<openssl_session>(fd);
  result.outcome.failed = session->prepare(context, host);
  if (!result.outcome.failed) result.outcome = session->shake_hands(deadline, wakeups);
  if (!result.outcome.failed && result.outcome.how == ready::io) result.session = std::move(session);
  return result;
}

}  // namespace tenantry::net
