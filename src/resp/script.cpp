#include <tenantry/script.hpp>

#include <array>
#include <bit>
#include <cstdint>
#include <utility>

namespace tenantry {

namespace {

// SHA-1 (FIPS 180-4), here because EVALSHA is addressed by it and no package of the core offers it. It names scripts;
// nothing secret depends on it.
class sha1 {
 public:
  static std::string hex(std::string_view message) {
    sha1 digest;
    std::string padded{message};
    padded += '\x80';
    while (padded.size() % 64 != 56) padded += '\0';
    const std::uint64_t bits = std::uint64_t{message.size()} * 8;
    for (int shift = 56; shift >= 0; shift -= 8)
      padded += static_cast<char>((bits >> static_cast<unsigned>(shift)) & 255U);
    for (std::size_t at = 0; at < padded.size(); at += 64) digest.block(std::string_view{padded}.substr(at, 64));

    std::string text;
    for (const std::uint32_t word : digest.state_) {
      for (int shift = 28; shift >= 0; shift -= 4)
        text += "0123456789abcdef"[(word >> static_cast<unsigned>(shift)) & 15U];
    }
    return text;
  }

 private:
  void block(std::string_view bytes) {
    std::array<std::uint32_t, 80> w{};
    for (std::size_t i = 0; i < 64; ++i) {
      w[i / 4] = (w[i / 4] << 8U) | static_cast<unsigned char>(bytes[i]);
    }
    for (std::size_t i = 16; i < 80; ++i) w[i] = std::rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);

    auto [a, b, c, d, e] = state_;
    for (std::size_t i = 0; i < 80; ++i) {
      std::uint32_t f = 0;
      std::uint32_t k = 0;
      if (i < 20) {
        f = (b & c) | (~b & d);
        k = 0x5a827999;
      } else if (i < 40) {
        f = b ^ c ^ d;
        k = 0x6ed9eba1;
      } else if (i < 60) {
        f = (b & c) | (b & d) | (c & d);
        k = 0x8f1bbcdc;
      } else {
        f = b ^ c ^ d;
        k = 0xca62c1d6;
      }
      const std::uint32_t next = std::rotl(a, 5) + f + e + k + w[i];
      e = d;
      d = c;
      c = std::rotl(b, 30);
      b = a;
      a = next;
    }
    state_ = {state_[0] + a, state_[1] + b, state_[2] + c, state_[3] + d, state_[4] + e};
  }

  std::array<std::uint32_t, 5> state_{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
};

}  // namespace

script::script(std::string body) : body_{std::move(body)}, sha_{sha1::hex(body_)} {}

}  // namespace tenantry
