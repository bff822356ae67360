#include "load.hpp"

#include "telemetry.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

namespace gateway {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::awaitable;
using asio::ip::tcp;
using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

namespace {

constexpr auto silently = asio::as_tuple(asio::use_awaitable);
using plain_response = http::response<http::string_body>;

tcp::endpoint server_at(std::uint16_t port) { return {asio::ip::address_v4::loopback(), port}; }

http::request<http::empty_body> get(const std::string& path, const tenantry::tenant_id* tenant) {
  http::request<http::empty_body> made{http::verb::get, path, 11};
  made.set(http::field::host, "localhost");
  if (tenant != nullptr) made.set(http::field::authorization, "Bearer demo-token-of-" + tenant->str());
  return made;
}

/// One request on a connection of its own, so that any instance may answer it.
std::optional<plain_response> asked(std::uint16_t port, const std::string& path) {
  try {
    asio::io_context loop;
    beast::tcp_stream to{loop};
    to.connect(server_at(port));
    http::write(to, get(path, nullptr));
    beast::flat_buffer buffer;
    plain_response read;
    http::read(to, buffer, read);
    return read;
  } catch (const boost::system::system_error&) {
    return std::nullopt;
  }
}

/// The answers of all instances to the same request, by their names.
std::map<std::string, plain_response> asked_all(std::uint16_t port, const std::string& path, std::size_t instances) {
  std::map<std::string, plain_response> all;
  for (int tries = 0; tries < 200 && all.size() < instances; ++tries) {
    if (auto one = asked(port, path)) all.insert_or_assign(std::string{(*one)["X-Instance"]}, std::move(*one));
  }
  return all;
}

/// The sum of a metric over the instances.
std::map<std::string, double> figures(std::uint16_t port, std::size_t instances) {
  std::map<std::string, double> sums;
  for (const auto& [name, page] : asked_all(port, "/metrics", instances)) {
    std::string_view rest = page.body();
    while (!rest.empty()) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(rest.size(), line.size() + 1));
      const std::size_t space = line.rfind(' ');
      if (line.starts_with('#') || space == std::string_view::npos) continue;
      sums[std::string{line.substr(0, space)}] += std::strtod(std::string{line.substr(space + 1)}.c_str(), nullptr);
    }
  }
  return sums;
}

/// What all clients saw. On one thread.
struct seen {
  explicit seen(const load_options& options) : how{options} {}

  const load_options& how;
  clock::time_point end;
  bool over = false;
  load_report report;
  latency took;
  struct listener {
    std::size_t tenant = 0;
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    std::uint64_t count = 0;
  };
  std::vector<listener> listeners;
};

void note(seen& all, const plain_response& read, clock::duration took) {
  ++all.report.requests;
  ++all.report.answered_by[std::string{read["X-Instance"]}];
  all.took.note(took);
  if (read.result_int() == 429) {
    ++all.report.limited;
  } else if (read.result_int() != 200) {
    ++all.report.failed;
  } else if (const auto body = nlohmann::json::parse(read.body(), nullptr, false); body.contains("source")) {
    ++all.report.by_source[body["source"].get<std::string>()];
  }
}

/// Asks again and again on one connection, and on another one where it was lost.
awaitable<void> ask_often(seen& all, const tenantry::tenant_id& tenant, std::string path, clock::duration every,
                          clock::duration begin_after) {
  asio::steady_timer timer{co_await asio::this_coro::executor, begin_after};
  co_await timer.async_wait(silently);
  while (!all.over) {
    beast::tcp_stream to{co_await asio::this_coro::executor};
    beast::flat_buffer buffer;
    const auto [refused] = co_await to.async_connect(server_at(all.how.port), silently);
    while (!refused && !all.over) {
      const auto begin = clock::now();
      to.expires_after(10s);
      const auto [unsent, written] = co_await http::async_write(to, get(path, &tenant), silently);
      plain_response read;
      const auto [lost, size] = co_await http::async_read(to, buffer, read, silently);
      if (unsent || lost) {
        if (!all.over) ++all.report.failed;
        break;
      }
      note(all, read, clock::now() - begin);
      timer.expires_at(begin + every);
      co_await timer.async_wait(silently);
    }
    if (refused) {
      timer.expires_after(100ms);
      co_await timer.async_wait(silently);
    }
  }
}

std::uint64_t offset_of(std::string_view id) {
  const std::size_t dash = id.find('-');
  std::uint64_t offset = 0;
  if (dash != std::string_view::npos) std::from_chars(id.data() + dash + 1, id.data() + id.size(), offset);
  return offset;
}

/// Ids of the events in what was read; the unfinished rest stays.
void take_events(seen& all, seen::listener& mine, std::string& bytes, std::string& last_id) {
  for (std::size_t end = bytes.find("\n\n"); end != std::string::npos; end = bytes.find("\n\n")) {
    const std::string block = bytes.substr(0, end);
    bytes.erase(0, end + 2);
    const std::size_t at = block.find("id: ");
    if (at == std::string::npos) continue;
    last_id = block.substr(at + 4, block.find('\n', at) - at - 4);
    const std::uint64_t offset = offset_of(last_id);
    if (mine.first == 0) mine.first = offset;
    if (offset <= mine.last) continue;
    mine.last = offset;
    if (block.find("event: alarm") == std::string::npos) continue;
    ++mine.count;
    ++all.report.delivered;
  }
}

awaitable<void> listen(seen& all, std::size_t number) {
  seen::listener& mine = all.listeners[number];
  std::string last_id;
  while (!all.over) {
    beast::tcp_stream to{co_await asio::this_coro::executor};
    const auto [refused] = co_await to.async_connect(server_at(all.how.port), silently);
    if (!refused) {
      auto request = get("/alarms/stream", &all.how.tenants[mine.tenant]);
      if (!last_id.empty()) request.set("Last-Event-ID", last_id);
      co_await http::async_write(to, request, silently);
      std::string bytes;
      std::array<char, 4096> some{};
      while (!all.over) {
        to.expires_after(2s);
        const auto [lost, size] = co_await to.async_read_some(asio::buffer(some), silently);
        if (lost == beast::error::timeout && !all.over) continue;
        if (lost) break;
        bytes.append(some.data(), size);
        take_events(all, mine, bytes, last_id);
      }
    }
    asio::steady_timer pause{co_await asio::this_coro::executor, 100ms};
    co_await pause.async_wait(silently);
  }
}

/// Until every listener has got the last alarm of its tenant, or a few seconds.
awaitable<void> finish(seen& all, asio::io_context& loop) {
  asio::steady_timer timer{loop};
  const auto begin = clock::now();
  while (clock::now() - begin < all.how.length && !all.how.interrupted()) {
    timer.expires_after(50ms);
    co_await timer.async_wait(silently);
  }
  all.report.seconds = std::chrono::duration<double>(clock::now() - begin).count();
  all.over = true;
  timer.expires_after(3s);
  co_await timer.async_wait(silently);
  loop.stop();
}

/// What listeners of the same tenant got that one of them did not.
std::uint64_t lost(const seen& all) {
  std::map<std::size_t, std::uint64_t> latest;
  for (const auto& each : all.listeners) latest[each.tenant] = std::max(latest[each.tenant], each.last);
  std::uint64_t sum = 0;
  for (const auto& each : all.listeners) {
    if (each.first != 0) sum += latest[each.tenant] - each.first + 1 - each.count;
  }
  return sum;
}

}  // namespace

bool all_healthy(std::uint16_t port, std::size_t instances) {
  const auto all = asked_all(port, "/healthz", instances);
  return all.size() == instances &&
         std::ranges::all_of(all, [](const auto& each) { return each.second.result() == http::status::ok; });
}

load_report run_load(const load_options& how) {
  asio::io_context loop{1};
  seen all{how};
  all.listeners.resize(how.listeners);
  const auto before = figures(how.port, how.instances);
  for (std::size_t i = 0; i < how.listeners; ++i) {
    all.listeners[i].tenant = i % how.tenants.size();
    asio::co_spawn(loop, listen(all, i), asio::detached);
  }
  for (std::size_t i = 0; i < how.dashboards; ++i) {
    const auto begin = std::chrono::milliseconds{1000 * i / std::max<std::size_t>(1, how.dashboards)};
    asio::co_spawn(loop, ask_often(all, how.tenants[i % how.tenants.size()], "/api/kpi", 1s, begin), asio::detached);
  }
  // The first tenant bursts on another route: its dashboards, and the other tenants, do not notice.
  for (int i = 0; i < 4; ++i) {
    asio::co_spawn(loop, ask_often(all, how.tenants[0], "/api/stats", 1ms, 1s), asio::detached);
  }
  asio::co_spawn(loop, finish(all, loop), asio::detached);
  loop.run();

  const auto after = figures(how.port, how.instances);
  const auto grew = [&](const std::string& name) {
    const auto was = before.find(name);
    const auto is = after.find(name);
    return is == after.end() ? 0 : static_cast<std::uint64_t>(is->second - (was == before.end() ? 0 : was->second));
  };
  all.report.p50_ms = all.took.quantile(0.5);
  all.report.p99_ms = all.took.quantile(0.99);
  all.report.database_queries = grew("gateway_database_queries_total");
  all.report.alarms = grew("gateway_alarms_appended_total");
  all.report.lost = lost(all);
  return all.report;
}

std::string load_report::table() const {
  std::string text;
  const auto line = [&text](std::string_view name, const std::string& value) {
    fmt::format_to(std::back_inserter(text), "{:<28}{:>14}\n", name, value);
  };
  line("requests/s", fmt::format("{:.0f}", static_cast<double>(requests) / std::max(seconds, 1e-9)));
  line("p50", fmt::format("{:.2f} ms", p50_ms));
  line("p99", fmt::format("{:.2f} ms", p99_ms));
  line("failed requests", std::to_string(failed));
  line("429 (one tenant bursts)", std::to_string(limited));
  for (const auto& [source, count] : by_source) line("KPIs: " + source, std::to_string(count));
  line("database queries", std::to_string(database_queries));
  line("alarms published", std::to_string(alarms));
  line("alarms delivered", std::to_string(delivered));
  line("alarms lost", std::to_string(lost));
  for (const auto& [name, count] : answered_by) line("answered by instance " + name, std::to_string(count));
  return text;
}

}  // namespace gateway
