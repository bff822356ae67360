#include "api.hpp"

#include "near_figures.hpp"
#include "page_files.hpp"

#include <tenantry/error.hpp>
#include <tenantry/executor.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <exception>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace gateway {

namespace tn = tenantry;
using nlohmann::json;

namespace {

constexpr int listed = 20;

response failed(unsigned status, std::string_view code, std::string_view detail) {
  return {.status = status, .body = json{{"error", code}, {"detail", detail}}.dump()};
}

std::optional<int> number(std::string_view text, int least, int most) {
  int value = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (fault != std::errc{} || end != text.data() + text.size() || value < least || value > most) return std::nullopt;
  return value;
}

std::string_view type_of(std::string_view file) {
  if (file.ends_with(".html")) return "text/html; charset=utf-8";
  if (file.ends_with(".js")) return "text/javascript; charset=utf-8";
  if (file.ends_with(".css")) return "text/css; charset=utf-8";
  if (file.ends_with(".svg")) return "image/svg+xml";
  return "application/octet-stream";
}

std::optional<response> page(std::string_view name) {
  if (name.empty()) name = "index.html";
  for (const page_file& each : page_files()) {
    if (each.name != name) continue;
    return response{.type = std::string{type_of(name)},
                    .body = std::string{each.bytes},
                    .fields = {{"Content-Security-Policy",
                                "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"},
                               {"Cache-Control", "no-cache"},
                               {"X-Content-Type-Options", "nosniff"}}};
  }
  return std::nullopt;
}

std::int64_t age_ms(const std::optional<std::chrono::system_clock::time_point>& computed) {
  if (!computed) return 0;
  const auto age = std::chrono::system_clock::now() - *computed;
  return std::max<std::int64_t>(0, std::chrono::duration_cast<std::chrono::milliseconds>(age).count());
}

/// A route of the limiter is a pattern, not a path: each month of each unit would have a limit of its own.
std::string limited_route(const std::vector<std::string>& parts) {
  static constexpr std::array<std::string_view, 7> known{"kpi",         "readings",   "gateways", "units",
                                                         "settlements", "properties", "stats"};
  if (parts[0] == "alarms") return "/alarms/stream";
  return "/api/" + (std::ranges::find(known, parts[1]) == known.end() ? std::string{"unknown"} : parts[1]);
}

}  // namespace

api::api(services& of, const logins& who, const event_lines& lines, api_options how)
    : of_{of}, who_{who}, lines_{lines}, how_{std::move(how)} {}

tn::task<answer> api::serve(request what) {
  const auto begin = std::chrono::steady_clock::now();
  std::optional<answer> made;
  try {
    auto routing = route(what);
    made.emplace(co_await std::move(routing));
  } catch (const tn::error& why) {  // Redis is away where nothing else can be given, or a name that is none
    const bool names = why.code() == tn::errc::invalid_name;
    made.emplace(names ? failed(400, "bad_name", why.what())
                       : failed(503, to_string(why.code()), "the service is not available for a moment"));
  } catch (const std::exception& why) {
    lines_.write("request_failed", {{.name = "path", .value = std::string_view{what.path}},
                                    {.name = "detail", .value = std::string_view{why.what()}}});
    made.emplace(failed(500, "internal", "the request failed"));
  }
  if (const auto* const done = std::get_if<response>(&*made)) {
    latency_.note(std::chrono::steady_clock::now() - begin);
    by_status_[std::min<std::size_t>(done->status / 100, by_status_.size() - 1)].fetch_add(1,
                                                                                           std::memory_order_relaxed);
  }
  co_return std::move(*made);
}

tn::task<answer> api::route(const request& what) {
  const std::vector<std::string>& parts = what.segments;
  const bool tenants = !parts.empty() && (parts[0] == "api" || parts[0] == "alarms") && parts.size() > 1;
  if (tenants) {
    const std::optional<tn::tenant_id> tenant = who_.tenant_of(what);
    if (!tenant) {
      response no = failed(401, "unauthorized", "a bearer token is needed");
      no.fields.emplace_back("WWW-Authenticate", "Bearer");
      co_return answer{std::move(no)};
    }
    auto answering = for_tenant(what, *tenant);
    co_return co_await std::move(answering);
  }
  if (what.method != "GET" && what.method != "HEAD") {
    response no = failed(405, "method", "only GET is possible here");
    no.fields.emplace_back("Allow", "GET, HEAD");
    co_return answer{std::move(no)};
  }
  if (parts.empty()) co_return answer{failed(400, "bad_path", "a path begins with a slash")};
  const std::string_view name = parts.size() == 1 ? std::string_view{parts[0]} : std::string_view{what.path};
  if (name == "healthz") {
    auto asking = is_healthy();
    response healthy = co_await std::move(asking);
    co_return answer{std::move(healthy)};
  }
  if (name == "metrics") co_return answer{response{.type = "text/plain; version=0.0.4", .body = metrics()}};
  if (what.path == "/demo/logins" && how_.demo_logins) {
    co_return answer{response{.body = who_.json(), .fields = {{"Cache-Control", "no-store"}}}};
  }
  if (auto file = page(name)) co_return answer{std::move(*file)};
  co_return answer{failed(404, "not_found", "there is nothing here")};
}

tn::task<answer> api::for_tenant(const request& what, const tn::tenant_id& tenant) {
  const std::vector<std::string>& parts = what.segments;
  auto asking = of_.limiter.async_acquire(tenant, limited_route(parts));
  const tn::decision admitted = co_await std::move(asking);
  headers limits = admitted.headers(tn::header_style::ietf);
  if (!admitted) {
    limited_.fetch_add(1, std::memory_order_relaxed);
    response no = failed(429, "rate_limited", "too many requests");
    json body = json::parse(no.body);
    body["retry_after_ms"] = admitted.retry_after ? admitted.retry_after->count() : 0;
    no.body = body.dump();
    no.fields = std::move(limits);
    co_return answer{std::move(no)};
  }

  const bool reads = what.method == "GET" || what.method == "HEAD";
  const std::string& second = parts[1];
  if (parts[0] == "alarms") {
    const bool known = parts.size() == 2 && second == "stream";
    if (known && what.method == "GET") {
      co_return answer{alarm_stream(of_, lines_, streams_, what, tenant, how_.keep_alive)};
    }
    if (known) {
      response no = failed(405, "method", "only GET is possible here");
      no.fields.emplace_back("Allow", "GET");
      co_return answer{std::move(no)};
    }
    co_return answer{failed(404, "not_found", "there is nothing here")};
  }
  std::optional<tn::task<response>> work;
  if (reads && second == "kpi" && parts.size() == 2) work.emplace(portfolio(tenant));
  if (reads && second == "readings" && parts.size() == 5) work.emplace(readings(tenant, parts[2], parts[3], parts[4]));
  if (reads && second == "gateways" && parts.size() == 4 && parts[3] == "health")
    work.emplace(health_of(tenant, parts[2]));
  if (reads && second == "settlements" && parts.size() == 3 && parts[2].ends_with(".pdf")) {
    work.emplace(settlement(tenant, parts[2].substr(0, parts[2].size() - 4)));
  }
  if (what.method == "POST" && second == "properties" && parts.size() == 2)
    work.emplace(add_property(tenant, what.body));

  response made;
  if (work) {
    made = co_await std::move(*work);
  } else if (reads && second == "units" && parts.size() == 2) {
    co_await tn::resume_on(of_.direct.get_executor());
    made = {.body = json{{"units", of_.database.units(tenant, listed)}}.dump()};
  } else if (reads && second == "settlements" && parts.size() == 2) {
    co_await tn::resume_on(of_.direct.get_executor());
    made = {.body = json{{"settlements", of_.database.settlements(tenant, listed)}}.dump()};
  } else if (reads && second == "stats" && parts.size() == 2) {
    made = stats();
  } else if (second == "properties" && parts.size() == 2) {
    made = failed(405, "method", "only POST is possible here");
    made.fields.emplace_back("Allow", "POST");
  } else if (!reads && limited_route(parts) != "/api/unknown") {
    made = failed(405, "method", "only GET is possible here");
    made.fields.emplace_back("Allow", "GET, HEAD");
  } else {
    made = failed(404, "not_found", "there is nothing here");
  }
  made.fields.insert(made.fields.end(), std::make_move_iterator(limits.begin()), std::make_move_iterator(limits.end()));
  made.fields.emplace_back("Cache-Control", "no-store");
  co_return answer{std::move(made)};
}

static_assert(std::ranges::all_of(sources,
                                  [](tn::source each) { return sources[static_cast<std::size_t>(each)] == each; }));

void api::count(tn::source from) noexcept {
  by_source_[static_cast<std::size_t>(from)].fetch_add(1, std::memory_order_relaxed);
}

template <class T>
response api::value_of(const tn::cached<T>& hit) {
  count(hit.source());
  return {.body = json{{"value", *hit},
                       {"source", to_string(hit.source())},
                       {"age_ms", age_ms(hit.computed_at())},
                       {"instance", how_.instance}}
                      .dump()};
}

tn::task<response> api::portfolio(const tn::tenant_id& tenant) {
  auto fetching = of_.kpis.async_fetch(portfolio_kpi(tenant));
  const tn::cached<kpi> hit = co_await std::move(fetching);
  co_return value_of(hit);
}

tn::task<response> api::readings(const tn::tenant_id& tenant, std::string unit, std::string year, std::string month) {
  const auto y = number(year, 2000, 9999);
  const auto m = number(month, 1, 12);
  if (!y || !m || unit.empty())
    co_return failed(400, "bad_month", "readings are at /api/readings/{unit}/{year}/{month}");
  auto fetching = of_.months.async_fetch(reading_monthly(tenant, unit, *y, *m));
  const auto hit = co_await std::move(fetching);
  if (hit.absent()) co_return failed(404, "not_found", "this tenant has no such unit");
  co_return value_of(hit);
}

tn::task<response> api::health_of(const tn::tenant_id& tenant, std::string gateway) {
  if (gateway.empty()) co_return failed(400, "bad_name", "the name of a gateway is empty");
  auto looking = of_.gateways.async_get(gateway_health(tenant, gateway));
  const auto hit = co_await std::move(looking);
  if (!hit) co_return failed(404, "not_found", "nothing was heard of this gateway for two minutes");
  co_return value_of(*hit);
}

tn::task<response> api::settlement(const tn::tenant_id& tenant, std::string id) {
  if (id.empty()) co_return failed(404, "not_found", "there is no such settlement");
  auto fetching = of_.settlements.async_fetch(settlement_pdf(tenant, id));
  const auto hit = co_await std::move(fetching);
  if (hit.absent()) co_return failed(404, "not_found", "there is no such settlement");
  count(hit.source());
  co_return response{.type = "application/pdf",
                     .body = *hit,
                     .fields = {{"X-Source", std::string{to_string(hit.source())}},
                                {"X-Age-Ms", std::to_string(age_ms(hit.computed_at()))}}};
}

tn::task<response> api::add_property(const tn::tenant_id& tenant, const std::string& body) {
  const auto given = nlohmann::json::parse(body, nullptr, false);
  const bool shaped = given.is_object() && given.contains("name") && given["name"].is_string() &&
                      given.contains("units") && given["units"].is_number_integer();
  const std::string name = shaped ? given["name"].get<std::string>() : std::string{};
  const std::int64_t count = shaped ? given["units"].get<std::int64_t>() : -1;
  if (name.empty() || name.size() > 100 || count < 0 || count > 1000) {
    co_return failed(400, "bad_property", R"(a property is {"name": 1-100 bytes, "units": 0-1000})");
  }
  co_await tn::resume_on(of_.direct.get_executor());
  const std::int64_t id = of_.database.add_property(tenant, name, static_cast<int>(count));  // committed
  auto invalidating = of_.invalidate.async_invalidate(tenant);
  co_await std::move(invalidating);
  co_return response{.status = 201, .body = json{{"id", id}, {"instance", how_.instance}}.dump()};
}

response api::stats() const {
  json hits;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    hits[std::string{to_string(sources[i])}] = by_source_[i].load(std::memory_order_relaxed);
  }
  return {.body = json{{"hits", hits},
                       {"latency_ms", {{"p50", latency_.quantile(0.5)}, {"p99", latency_.quantile(0.99)}}},
                       {"near", staleness(of_)},
                       {"instance", how_.instance}}
                      .dump()};
}

tn::task<response> api::is_healthy() {
  bool redis = true;
  try {
    auto asking = of_.redis.async_execute("PING");
    (void)co_await std::move(asking);
  } catch (const tn::error&) {
    redis = false;
  }
  const bool mqtt = how_.mqtt_connected();
  co_return response{.status = redis && mqtt ? 200U : 503U,
                     .body = json{{"redis", redis ? "up" : "down"}, {"mqtt", mqtt ? "up" : "down"}}.dump()};
}

std::string api::metrics() const {
  metrics_page page;
  page.counter("gateway_responses_total", "Responses by the first digit of their status.");
  for (std::size_t i = 1; i < by_status_.size(); ++i) {
    page.add(static_cast<double>(by_status_[i].load(std::memory_order_relaxed)),
             {{"status", std::to_string(i) + "xx"}});
  }
  page.gauge("gateway_response_seconds", "How long responses took.");
  page.add(latency_.quantile(0.5) / 1000, {{"quantile", "0.5"}})
      .add(latency_.quantile(0.99) / 1000, {{"quantile", "0.99"}});
  page.counter("gateway_cache_answers_total", "Values by where they came from.");
  for (std::size_t i = 0; i < sources.size(); ++i) {
    page.add(static_cast<double>(by_source_[i].load(std::memory_order_relaxed)), {{"source", to_string(sources[i])}});
  }
  show_near(of_, page);
  page.counter("gateway_rate_limited_total", "Requests that were refused with 429.").add(static_cast<double>(limited_));
  page.counter("gateway_database_queries_total", "Queries for figures.");
  page.add(static_cast<double>(of_.database.queries()));
  page.gauge("gateway_streams", "Alarm streams that are open.").add(static_cast<double>(streams_.open));
  page.gauge("gateway_followers", "Of them, those that have been subscribed.")
      .add(static_cast<double>(streams_.following));
  page.counter("gateway_streams_opened_total", "Alarm streams.").add(static_cast<double>(streams_.opened));
  page.counter("gateway_alarms_delivered_total", "Alarms sent to streams.")
      .add(static_cast<double>(streams_.delivered));
  page.counter("gateway_gaps_total", "Gaps told to streams.").add(static_cast<double>(streams_.gaps));
  how_.more_metrics(page);
  return page.text();
}

}  // namespace gateway
