// Takes the place of tls.cpp where the library is built without TLS.

#include "net/tls.hpp"

namespace tenantry::net {

struct tls_context {};

std::shared_ptr<const tls_context> make_tls_context(const tls_options&) {
  throw invalid_option{"client_options.tls is set, but this library was built without TLS (TENANTRY_WITH_TLS)"};
}

tls_session::attempt tls_session::start(const tls_context&, int, const std::string&, clock::time_point,
                                        std::span<const int>) {
  return {.session = {}, .outcome = {.failed = tls_failure{errc::unsupported, "built without TLS"}}};
}

}  // namespace tenantry::net
