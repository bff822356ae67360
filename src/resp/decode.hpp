#pragma once
// Turns one whole, checked reply into a value, with hiredis' reader.

#include <tenantry/reply.hpp>

#include <memory>
#include <string_view>

struct redisReader;

namespace tenantry::resp {

class decoder {
 public:
  decoder();

  /// The reply that fills `frame`, which a framer has found complete. Errors: connection_error (protocol) where the
  /// reader disagrees with the framer; the decoder is not usable after that.
  [[nodiscard]] reply decode(std::string_view frame);

 private:
  struct free_reader {
    void operator()(redisReader* reader) const noexcept;
  };
  std::unique_ptr<redisReader, free_reader> reader_;
};

}  // namespace tenantry::resp
