// The figures of a tenant's portfolio, out of a SQL database, on 200 dashboards: with a cache in Redis, and without.

#include "portfolio_kpi/dashboards.hpp"
#include "portfolio_kpi/generate.hpp"
#include "portfolio_kpi/portfolio.hpp"
#include "portfolio_kpi/report.hpp"
#include "schemas.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/json_codec.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace {

using namespace std::chrono_literals;
using namespace buildings;

constexpr std::uint64_t required_saving = 100;  // the database is asked at least so many times less often

struct arguments {
  std::string redis;  // empty: a private one
  std::chrono::seconds run_for{5};
};

constexpr auto usage = R"(usage: example_portfolio_kpi [--seconds N] [--redis URL]
  --seconds N   how long the dashboards stay open in all, 1 to 3600 (5)
  --redis URL   the Redis to use; the keys kpi:{tenant}:portfolio of the demo's tenants are replaced and then removed
                (a private server that is started for the demo)
)";

std::optional<arguments> parse(int count, char** words) {
  arguments result;
  for (int i = 1; i < count; i += 2) {
    const std::string_view name = words[i];
    if (i + 1 == count) return std::nullopt;
    const std::string_view value = words[i + 1];
    if (name == "--seconds") {
      int seconds = 0;
      const auto [end, fault] = std::from_chars(value.data(), value.data() + value.size(), seconds);
      if (fault != std::errc{} || end != value.data() + value.size() || seconds < 1 || seconds > 3600) {
        return std::nullopt;
      }
      result.run_for = std::chrono::seconds{seconds};
    } else if (name == "--redis" && !value.empty()) {
      result.redis = value;
    } else {
      return std::nullopt;
    }
  }
  return result;
}

tenantry::client_options patient(std::string_view url) {
  auto options = tenantry::client_options::from_url(url);
  options.timeout = 10s;  // on a machine this busy, better late from Redis than early from the database
  options.client_name = "portfolio_kpi";
  return options;
}

class demo {
 public:
  explicit demo(std::string_view url)
      : redis_{patient(url)},
        portfolios_{generate(database_)},
        kpis_{redis_, {.ttl = 5min, .jitter = 0.1}, [this](const tenantry::key& k) {
                return database_.kpi_of(k.tenant());
              }} {
    for (const tenant_portfolio& each : tenants()) truths_.emplace_back(each.counted);
    forget_all();
  }

  /// Throws std::runtime_error when something is not as it must be.
  void run(std::chrono::milliseconds run_for) {
    check_generated();

    const auto queries_at_start = database_.queries();
    statistics cached = open_all_at_once();
    cached += keep_open(run_for * 7 / 10);
    const auto cached_queries = database_.queries() - queries_at_start;
    const statistics direct = ask_directly(run_for * 3 / 10);
    const auto direct_queries = database_.queries() - queries_at_start - cached_queries;
    forget_all();

    print_table({.measured = cached, .queries = cached_queries}, {.measured = direct, .queries = direct_queries});
    const auto times = cached.requests / cached_queries;
    fmt::print("The dashboards asked {} times, the database was asked {} times: {} times less often.\n",
               grouped(cached.requests), grouped(cached_queries), grouped(times));
    require(cached.wrong + direct.wrong == 0, "a dashboard was shown wrong figures");
    require(times >= required_saving, fmt::format("it has to be {} times less often", required_saving));
  }

 private:
  static void require(bool condition, const std::string& otherwise) {
    if (!condition) throw std::runtime_error{otherwise};
  }

  [[nodiscard]] const std::vector<tenant_portfolio>& tenants() const { return portfolios_.tenants; }
  [[nodiscard]] tenantry::key key_of(std::size_t tenant) const {
    return schemas::portfolio_kpi(tenants()[tenant].tenant);
  }
  [[nodiscard]] shown ask_cache(std::size_t tenant) {
    const auto hit = kpis_.fetch(key_of(tenant));
    return {.figures = *hit, .from_cache = hit.source() == tenantry::source::redis};
  }
  void forget_all() {
    for (std::size_t tenant = 0; tenant < tenants().size(); ++tenant) kpis_.invalidate(key_of(tenant));
  }

  /// The query and the generator have to agree, although neither knows of the other.
  void check_generated() {
    const portfolio_size& size = portfolios_.size;
    fmt::print("The database holds {} tenants with {} properties, {} units, {} meter installations and {} readings.\n",
               tenants().size(), grouped(size.properties), grouped(size.units), grouped(size.installations),
               grouped(size.readings));
    for (const tenant_portfolio& each : tenants()) {
      const portfolio_kpi queried = database_.kpi_of(each.tenant);
      require(queried == each.counted,
              fmt::format("tenant {}: the query says {}, but the generator counted {}", each.tenant.str(),
                          nlohmann::json(queried).dump(), nlohmann::json(each.counted).dump()));
    }
    const tenant_portfolio& first = tenants().front();
    fmt::print(
        "For each of them the KPI query finds what the generator counted. Of {}, for example:\n"
        "  {} properties, {} units and {} installations are live; latest reading: {}\n",
        first.tenant.str(), grouped(first.counted.property_count), grouped(first.counted.unit_count),
        grouped(first.counted.installation_count), latest_reading(first.counted));
  }

  /// One load per key at a time: the first dashboard of a tenant asks the database, the others share its answer.
  statistics open_all_at_once() {
    const visit once{.refreshes_at_least = 1};
    const auto queries = database_.queries();
    statistics opened = open_dashboards(once, truths_, [this](std::size_t tenant) { return ask_cache(tenant); });
    const auto asked = database_.queries() - queries;
    fmt::print(
        "\nNothing is cached, and {} dashboards open at the same moment: {} database queries, one for each tenant.\n"
        "  Of the others {} shared such an answer, {} found it in Redis; all had their figures after {}.\n",
        once.dashboards, asked, opened.requests - opened.from_cache - asked, opened.from_cache,
        milliseconds(opened.elapsed));
    require(asked == tenants().size(), "a cold start has to take one query for each tenant");
    return opened;
  }

  /// Half-way a meter reports, while the dashboards go on asking.
  statistics keep_open(std::chrono::milliseconds time) {
    const visit stay{.at_least = time, .refreshes_at_least = 20};
    const auto queries = database_.queries();
    fmt::print("\nThe dashboards stay open and refresh every {} ms or so.\n", stay.think_time.count());
    progress_line progress;
    bool reported = false;
    const auto watch = [&](std::chrono::milliseconds elapsed, std::uint64_t requests) {
      if (!reported && elapsed >= time / 2) {
        progress.clear();
        report_new_reading();
        reported = true;
      }
      progress.show(fmt::format("{}: {} requests, {} database queries", in_seconds(elapsed), grouped(requests),
                                database_.queries() - queries));
    };
    const auto through_cache = [this](std::size_t tenant) { return ask_cache(tenant); };
    statistics seen = open_dashboards(stay, truths_, through_cache, watch);
    progress.clear();
    if (!reported) report_new_reading();
    return seen;
  }

  void report_new_reading() {
    constexpr std::size_t tenant = 0;
    const tenantry::key k = key_of(tenant);
    const portfolio_kpi before = *kpis_.fetch(k);
    portfolio_kpi after = before;
    after.latest_reading_at = portfolio_database::now.time_since_epoch().count();
    after.latest_reading_watt_hours += 700;

    const auto queries = database_.queries();
    truths_[tenant].announce(after);
    database_.add({.installation = tenants()[tenant].reporting_installation,
                   .at = portfolio_database::now,
                   .watt_hours = after.latest_reading_watt_hours});
    kpis_.invalidate(k);
    truths_[tenant].confirm();  // whoever asks from here on has to see the new reading
    const auto hit = kpis_.fetch(k);

    std::size_t untouched = 0;
    for (std::size_t other = 1; other < tenants().size(); ++other) untouched += kpis_.get(key_of(other)) ? 1 : 0;
    fmt::print(
        "  A meter of {} reports; the reading is committed and the tenant's figures are invalidated.\n"
        "    before:         {}\n"
        "    the next fetch: {} ({})\n"
        "    database queries: {}; figures of other tenants still in Redis: {} of {}\n",
        tenants()[tenant].tenant.str(), latest_reading(before), latest_reading(*hit),
        hit.source() == tenantry::source::redis ? "from Redis, a dashboard was faster" : "computed",
        database_.queries() - queries, untouched, tenants().size() - 1);
    require(*hit == after, "the fetch after an invalidation did not show the new reading");
  }

  /// The same dashboards, without the cache.
  statistics ask_directly(std::chrono::milliseconds time) {
    const visit stay{.at_least = time};
    fmt::print("\nThe same dashboards ask the database directly.\n");
    progress_line progress;
    return open_dashboards(
        stay, truths_,
        [this](std::size_t tenant) { return shown{.figures = database_.kpi_of(tenants()[tenant].tenant)}; },
        [&](std::chrono::milliseconds elapsed, std::uint64_t requests) {
          progress.show(fmt::format("{}: {} requests", in_seconds(elapsed), grouped(requests)));
        });
  }

  tenantry::client redis_;
  portfolio_database database_;
  generated_portfolios portfolios_;
  std::deque<truth> truths_;  // by tenant, as in portfolios_
  tenantry::cache<portfolio_kpi> kpis_;
};

}  // namespace

int main(int argc, char** argv) {
  const auto args = parse(argc, argv);
  if (!args) {
    fmt::print(stderr, "{}", usage);
    return 2;
  }
  try {
    std::optional<tenantry::testing::redis_server> own;
    if (args->redis.empty()) own.emplace();
    fmt::print("Redis: {}\n", own ? "a private server for this run, " + own->url() : "the given one");
    demo{own ? own->url() : args->redis}.run(args->run_for);
    return 0;
  } catch (const tenantry::invalid_option& wrong_url) {
    fmt::print(stderr, "portfolio_kpi: {}\n{}", wrong_url.what(), usage);
    return 2;
  } catch (const tenantry::error& failure) {
    fmt::print(stderr, "portfolio_kpi: {}: {}\n", to_string(failure.code()), failure.what());
  } catch (const std::exception& failure) {
    fmt::print(stderr, "portfolio_kpi: {}\n", failure.what());
  }
  return 1;
}
