#include "alarm_stream.hpp"

#include "awaiting.hpp"

#include <tenantry/error.hpp>
#include <tenantry/sse.hpp>

#include <nlohmann/json.hpp>

#include <chrono>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <variant>

namespace gateway {

namespace tn = tenantry;
using boost::asio::awaitable;

namespace {

std::string gap_data(const tn::gap& missed) {
  nlohmann::ordered_json data{{"cause", to_string(missed.cause)}};
  data["lost"] = missed.lost ? nlohmann::ordered_json(*missed.lost) : nlohmann::ordered_json(nullptr);
  return data.dump();
}

/// Browsers that lost the same server do not all come back at once.
std::chrono::milliseconds retry_after() {
  thread_local std::minstd_rand random{std::random_device{}()};
  return std::chrono::milliseconds{std::uniform_int_distribution{2000, 5000}(random)};
}

class counted {
 public:
  explicit counted(std::atomic<std::uint64_t>& what) noexcept : what_{what} { ++what_; }
  counted(const counted&) = delete;
  counted& operator=(const counted&) = delete;
  ~counted() { --what_; }

 private:
  std::atomic<std::uint64_t>& what_;
};

/// One listener, for as long as it lives.
class listening {
 public:
  listening(const event_lines& lines, stream_counters& counters, const tn::tenant_id& tenant)
      : lines_{lines}, open_{counters.open}, tenant_{tenant} {
    ++counters.opened;
    lines_.write("sse_subscribed", {{.name = "tenant", .value = std::string_view{tenant_.str()}}});
  }
  listening(const listening&) = delete;
  listening& operator=(const listening&) = delete;
  ~listening() { lines_.write("sse_unsubscribed", {{.name = "tenant", .value = std::string_view{tenant_.str()}}}); }

 private:
  const event_lines& lines_;
  const counted open_;
  const tn::tenant_id tenant_;
};

awaitable<void> run(services& of, const event_lines& lines, stream_counters& counters, tn::tenant_id tenant,
                    std::optional<std::string> last_id, std::chrono::seconds keep_alive, byte_sink& to) {
  const listening here{lines, counters, tenant};
  std::string first = tn::sse_retry{.after = retry_after()}.str();
  tn::sse_comment{.text = "alarms of " + tenant.str()}.append_to(first);
  if (!co_await to.write(std::move(first))) co_return;
  try {
    auto following = of.alarm_log.async_follow(of.subscriber, tenant, last_id);
    tn::follower<alarm> feed = co_await as_awaitable(std::move(following));
    const counted follows{counters.following};
    while (!to.gone().stop_requested()) {
      auto waiting = feed.async_next_for(keep_alive, to.gone());
      const std::optional<tn::log_event<alarm>> next = co_await as_awaitable(std::move(waiting));
      std::string bytes;
      if (!next) {
        bytes = tn::sse_keep_alive;
      } else if (const auto* came = std::get_if<tn::logged<alarm>>(&*next)) {
        tn::sse_event{.id = came->id(), .event = "alarm", .data = came->payload()}.append_to(bytes);
        ++counters.delivered;
      } else if (const auto* missed = std::get_if<tn::gap>(&*next)) {
        tn::sse_event{.id = missed->id, .event = "gap", .data = gap_data(*missed)}.append_to(bytes);
        ++counters.gaps;
      } else {
        break;  // the browser comes back, and resumes
      }
      if (!co_await to.write(std::move(bytes))) break;
    }
  } catch (const tn::error& why) {  // the same
    lines.write("sse_failed", {{.name = "tenant", .value = std::string_view{tenant.str()}},
                               {.name = "code", .value = to_string(why.code())}});
  }
}

}  // namespace

stream alarm_stream(services& of, const event_lines& lines, stream_counters& counters, const request& from,
                    const tn::tenant_id& tenant, std::chrono::seconds keep_alive) {
  std::optional<std::string> last_id;
  if (const auto header = from.field("Last-Event-ID"); !header.empty()) {
    last_id = header;
  } else if (std::string asked = from.parameter("last_event_id"); !asked.empty()) {
    last_id = std::move(asked);
  }
  stream made;
  for (const auto& [name, value] : tn::sse_headers) made.fields.emplace_back(name, value);
  made.run = [&of, &lines, &counters, tenant, last_id, keep_alive](byte_sink& to) {
    return run(of, lines, counters, tenant, last_id, keep_alive, to);
  };
  return made;
}

}  // namespace gateway
