// A stream of server-sent events, as a server writes it. Prints it; no Redis and no network are needed.

#include <tenantry/sse.hpp>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <optional>
#include <random>
#include <string>
#include <string_view>

using namespace std::chrono_literals;

struct request {
  std::optional<std::string_view> last_event_id;        // the header field Last-Event-ID
  std::optional<std::string_view> query_last_event_id;  // ?last_event_id=
};

/// After which event to go on: what the browser remembers wins over what the page began with.
std::optional<std::string_view> resume_after(const request& from) {
  return from.last_event_id ? from.last_event_id : from.query_last_event_id;
}

std::chrono::milliseconds retry_of_one_client() {
  static std::mt19937 random{std::random_device{}()};
  return std::chrono::milliseconds{std::uniform_int_distribution{2000, 5000}(random)};
}

int main() {
  std::string out = "HTTP/1.1 200 OK\r\n";
  for (const auto& [name, value] : tenantry::sse_headers) out.append(name).append(": ").append(value).append("\r\n");
  out += "\r\n";
  const std::size_t head = out.size();

  tenantry::sse_retry{retry_of_one_client()}.append_to(out);  // at once: the client knows that it is connected
  const request again{.last_event_id = "17-40-x2", .query_last_event_id = "17-1-b8"};
  tenantry::sse_comment{"after " + std::string{resume_after(again).value_or("the end")}}.append_to(out);

  // The position is older than what is kept: say so, with the position from which it goes on.
  tenantry::sse_event{.id = "17-52-q7", .event = "gap", .data = R"({"lost":12})"}.append_to(out);

  const std::string json = "{\n  \"gateway\": \"gw-7\",\n  \"alarm\": \"smoke\"\n}";
  tenantry::sse_event{.id = "17-53-x9", .event = "alarm", .data = json}.append_to(out);

  out += tenantry::sse_keep_alive;  // nothing was written for 15 s
  std::cout << out;
  return std::ranges::count(out.substr(head), '\n') == 17 ? 0 : 1;
}
