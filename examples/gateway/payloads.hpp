#pragma once
// What gateways send over MQTT: topics and payloads, read and written.
//
//     mbus/{tenant}/{gateway}/readings   {"gateway":"gw-1","firmware":"1.4.2",
//                                         "readings":[{"meter":"m-12","at":1767225600,"wh":123456}, ...]}
//     mbus/{tenant}/{gateway}/alarm      {"id":"gw-1-7-c0ffee","severity":"warning","text":"...","at":1767225600000}
//
// 1 to 500 readings; `at` is Unix time, in seconds with a reading and in milliseconds with an alarm; `wh` is the
// meter's counter. An alarm's id is unique within the tenant: an alarm that comes again with the same id is the same
// alarm. Ids and names (tenant, gateway, meter, firmware) are 1 to 64 of [A-Za-z0-9._-], a text is 1 to 200 bytes of
// UTF-8, a severity one of info, warning, critical. Fields that are not named here are not read.

#include "schemas.hpp"
#include "store.hpp"

#include <tenantry/tenant.hpp>

#include <array>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace gateway {

inline constexpr std::size_t max_payload = 64U << 10U;
inline constexpr std::size_t max_readings = 500;

/// What the bridge subscribes to.
inline constexpr std::array<std::string_view, 2> subscribed_topics{"mbus/+/+/readings", "mbus/+/+/alarm"};

/// Why a message was refused.
enum class refusal : unsigned char {
  topic,            ///< it is not one of ours
  size,             ///< over 64 KiB
  json,             ///< it is no JSON
  field,            ///< a field is missing, of another type, or out of range
  foreign,          ///< the payload is of another gateway than the topic
  unknown_tenant,   ///< nobody's
  unknown_gateway,  ///< the tenant has no such gateway
  unknown_meter,    ///< not of this tenant and gateway
};
inline constexpr std::array refusals{refusal::topic,           refusal::size,         refusal::json,
                                     refusal::field,           refusal::foreign,      refusal::unknown_tenant,
                                     refusal::unknown_gateway, refusal::unknown_meter};
std::string_view to_string(refusal why) noexcept;

/// The detail names a field or a place, and quotes nothing of the payload: it goes into logs.
class refused : public std::runtime_error {
 public:
  refused(refusal why, const std::string& detail) : std::runtime_error{detail}, why_{why} {}
  [[nodiscard]] refusal why() const noexcept { return why_; }

 private:
  refusal why_;
};

struct report {
  std::string firmware;
  std::vector<reading> readings;
};

struct message {
  tenantry::tenant_id tenant;
  std::string gateway;
  std::variant<report, alarm> what;
};

/// Whether tenant, gateway and meters exist is not known here.
/// Errors: refused, whatever the bytes are.
message parse(std::string_view topic, std::string_view payload);

std::string topic_of(const tenantry::tenant_id& tenant, std::string_view gateway, const report& what);
std::string topic_of(const tenantry::tenant_id& tenant, std::string_view gateway, const alarm& what);
std::string payload_of(std::string_view gateway, const report& what);
std::string payload_of(const alarm& what);

}  // namespace gateway
