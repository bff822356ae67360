#include "demo_data.hpp"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <cmath>
#include <numbers>
#include <random>
#include <string>

namespace gateway {

namespace {

constexpr std::int64_t day = 86'400;
constexpr std::int64_t read_at = day - 900;  // a quarter to midnight
constexpr std::int64_t days = 365;
constexpr int gateways = 6;

constexpr std::array<std::string_view, 8> properties{"Ahornweg 3",   "Birkenallee 17", "Deichtor 8",  "Gartenring 41",
                                                     "Lindenhof 12", "Marktplatz 1",   "Parkallee 9", "Seeblick 26"};

/// FNV-1a: the same number for the same name on every machine.
std::uint64_t seed_of(std::string_view name) {
  std::uint64_t hash = 14'695'981'039'346'656'037U;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 1'099'511'628'211U;
  return hash;
}

int year_of(std::int64_t at) {
  const std::chrono::sys_seconds when{std::chrono::seconds{at}};
  return static_cast<int>(std::chrono::year_month_day{std::chrono::floor<std::chrono::days>(when)}.year());
}

class generator {
 public:
  generator(const sqlite::connection& db, std::string_view tenant, std::int64_t now)
      : tenant_{tenant},
        now_{now},
        random_{seed_of(tenant)},
        property_{db, "INSERT INTO properties (tenant, name) VALUES (?1, ?2) RETURNING id"},
        unit_{db, "INSERT INTO units VALUES (?1, ?2, ?3)"},
        meter_{db, "INSERT INTO meters VALUES (?1, ?2, ?3, ?4)"},
        reading_{db, "INSERT INTO readings VALUES (?1, ?2, ?3, ?4)"},
        settlement_{db, "INSERT INTO settlements VALUES (?1, ?2, ?3, ?4)"} {}

  void run() {
    for (std::size_t i = 0; i < properties.size(); ++i) add_property(i);
  }

 private:
  void add_property(std::size_t number) {
    sqlite::rows made = property_.query(tenant_, properties.at(number));
    if (!made.next()) throw std::logic_error{"an insert without its id"};
    const std::int64_t property = made.integer(0);
    const auto units = between(6, 9);
    for (std::int64_t i = 0; i < units; ++i) add_unit(property, fmt::format("gw-{}", (number % gateways) + 1));
    for (int year = year_of(now_ - (days * day)); year <= year_of(now_); ++year) {
      settlement_.run(tenant_, fmt::format("s-{}-{}", number + 1, year), property, std::int64_t{year});
    }
  }

  void add_unit(std::int64_t property, const std::string& gateway) {
    const std::string unit = fmt::format("u-{}", ++units_);
    unit_.run(tenant_, unit, property);
    const auto meters = between(0, 2) == 0 ? 1 : 2;  // electricity, and most have one for the heat pump
    for (int i = 0; i < meters; ++i) {
      const std::string meter = fmt::format("m-{}", ++meters_);
      meter_.run(tenant_, meter, unit, gateway);
      add_readings(meter, i == 0 ? 0.1 : 0.7);
    }
  }

  // The counter of a meter is a function of the date, so that it does not depend on the day on which it is made up.
  void add_readings(const std::string& meter, double season) {
    constexpr std::int64_t first_day = 18'262;  // 2020-01-01
    const auto a_day = static_cast<double>(between(4'000, 14'000));
    const auto before = static_cast<double>(between(0, 20'000'000));
    const std::uint64_t own = random_();
    const std::int64_t today = now_ / day;
    for (std::int64_t date = today - days; date <= today; ++date) {
      const std::int64_t at = (date * day) + read_at;
      if (at > now_) break;
      constexpr double year = 365.25;
      const auto age = static_cast<double>(date - first_day);
      const double turn = 2 * std::numbers::pi * age / year;
      const double winter = season * year / (2 * std::numbers::pi) * std::sin(turn);
      const auto noise = static_cast<double>((own ^ (static_cast<std::uint64_t>(date) * 0x9E3779B97F4A7C15U)) >> 40U);
      const double uneven = noise / static_cast<double>(1U << 24U) * 0.25;  // of a day: the counter never decreases
      reading_.run(tenant_, meter, at, static_cast<std::int64_t>(before + (a_day * (age + winter + uneven))));
    }
  }

  // The distributions of <random> differ between standard libraries, its engines do not.
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(high - low + 1));
  }

  std::string_view tenant_;
  std::int64_t now_;
  std::mt19937_64 random_;
  sqlite::statement property_;
  sqlite::statement unit_;
  sqlite::statement meter_;
  sqlite::statement reading_;
  sqlite::statement settlement_;
  int units_ = 0;
  int meters_ = 0;
};

}  // namespace

std::vector<tenantry::tenant_id> demo_tenants(int number) {
  constexpr std::array<std::string_view, 3> named{"acme", "globex", "initech"};
  std::vector<tenantry::tenant_id> all;
  for (int i = 0; i < number; ++i) {
    const auto at = static_cast<std::size_t>(i);
    all.emplace_back(at < named.size() ? std::string{named.at(at)} : fmt::format("tenant-{}", i + 1));
  }
  return all;
}

void write_demo_data(const sqlite::connection& into, std::string_view tenant, std::int64_t now) {
  generator{into, tenant, now}.run();
}

}  // namespace gateway
