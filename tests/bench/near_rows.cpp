// A near cache against a connection, against itself in two threads, and against the same cache without it.

#include "bench.hpp"
#include "crowd.hpp"
#include "raw_redis.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>
#include <tenantry/key_schema.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <malloc.h>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace bench {

namespace {

using namespace std::chrono_literals;

inline constexpr tenantry::key_schema<"bench:{tenant}:near:{row}"> near_row;

const tenantry::tenant_id& acme() {
  static const tenantry::tenant_id one{"acme"};
  return one;
}

using texts = tenantry::cache<std::string>;

void wait_until_tracking(const texts& values) {
  while (!values.near_stats().tracking) std::this_thread::sleep_for(1ms);
}

/// One key that is in memory. The age is that of a day, so that nothing is measured but hits.
struct hot_key {
  explicit hot_key(const std::string& url) : redis{url}, raw{port_of(url)} {
    wait_until_tracking(values);
    values.put(key, std::string(512, 'v'));
    redis.execute("SET", plain, std::string(512, 'v'));
    while (values.get(key)->source() != tenantry::source::near) std::this_thread::sleep_for(1ms);
  }
  void fetch() {
    keep(values.fetch(key, []() -> std::string { throw std::logic_error{"not a hit"}; }));
  }

  tenantry::client redis;
  texts values{redis, {.ttl = 24h, .near = tenantry::near_options{.max_age = 24h}}};
  tenantry::key key = near_row(acme(), "hot");
  std::string plain = "bench:acme:plain:hot";
  raw_redis raw;
};

/// Draws rows by Zipf's law: the n-th is asked for in proportion to 1 / n^s.
class zipf {
 public:
  zipf(std::size_t rows, double s) {
    double sum = 0;
    for (std::size_t n = 1; n <= rows; ++n) below_.push_back(sum += std::pow(static_cast<double>(n), -s));
    for (double& each : below_) each /= sum;
  }
  template <class Random>
  std::size_t operator()(Random& random) const {
    const double drawn = std::uniform_real_distribution{0.0, 1.0}(random);
    const auto at = std::ranges::upper_bound(below_, drawn);
    return std::min(static_cast<std::size_t>(at - below_.begin()), below_.size() - 1);
  }

 private:
  std::vector<double> below_;
};

constexpr std::size_t rows_of_data = 20'000;
constexpr std::size_t value_bytes = 512;
constexpr unsigned readers = 64;
constexpr std::uint64_t writes_of_100 = 1;

/// What is asked for, and what is written.
struct load {
  double skew = 1;                 // of the reads
  bool writes_where_read = false;  // or all rows alike
};

/// Values without an end, read by many threads, some of them written.
struct data {
  data(const std::string& url, std::size_t first, load of, std::optional<tenantry::near_options> near)
      : operations{drawn(of)}, redis{url}, values{redis, {.ttl = 24h, .near = near}} {
    for (std::size_t n = 0; n < rows_of_data; ++n) keys.push_back(near_row(acme(), first + n));
    if (near) wait_until_tracking(values);
    for (const tenantry::key& each : keys) values.put(each, std::string(value_bytes, 'v'));
  }
  /// So many operations.
  void work() {
    thread_local std::size_t at = next_begin.fetch_add(1) * 9973;
    for (std::size_t i = 0; i < at_once; ++i) {
      const operation& next = operations[++at % operations.size()];
      if (next.writes) {
        values.put(keys[next.row], std::string(value_bytes, 'w'));
      } else {
        keep(values.fetch(keys[next.row], []() -> std::string { throw std::logic_error{"not a hit"}; }));
      }
    }
  }

  struct operation {
    std::uint32_t row = 0;
    bool writes = false;
  };
  /// Drawn beforehand, which takes longer than a hit.
  static std::vector<operation> drawn(load of) {
    const zipf draw{rows_of_data, of.skew};
    std::mt19937_64 random{42};
    std::vector<operation> all(1'000'000);
    for (operation& each : all) {
      const bool writes = random() % 100 < writes_of_100;
      const std::size_t row = writes && !of.writes_where_read ? random() % rows_of_data : draw(random);
      each = {.row = static_cast<std::uint32_t>(row), .writes = writes};
    }
    return all;
  }

  static constexpr std::size_t at_once = 16;
  static inline std::atomic<std::size_t> next_begin{1};
  const std::vector<operation> operations;
  tenantry::client redis;
  texts values;
  std::vector<tenantry::key> keys;
};

/// With memory for a tenth of the rows, and without any. Each side has rows of its own.
row zipf_row(const std::string& name, const std::string& url, load of) {
  auto with = std::make_shared<std::unique_ptr<data>>();
  auto without = std::make_shared<std::unique_ptr<data>>();
  const auto near_data = [with, url, of]() -> data& {
    if (!*with) {
      constexpr std::size_t tenth = rows_of_data / 10 * (value_bytes + 300);
      *with = std::make_unique<data>(url, 0, of, tenantry::near_options{.max_bytes = tenth, .max_age = 24h});
    }
    return **with;
  };
  const auto plain_data = [without, url, of]() -> data& {
    if (!*without) *without = std::make_unique<data>(url, rows_of_data, of, std::nullopt);
    return **without;
  };
  auto ours = std::make_shared<crowd>(readers, [near_data] { near_data().work(); });
  auto theirs = std::make_shared<crowd>(readers, [plain_data] { plain_data().work(); });
  return {.name = name,
          .baseline_name = "without near cache",
          .ours =
              [ours, near_data](std::size_t times) {
                near_data();
                ours->run(times);
              },
          .baseline =
              [theirs, plain_data](std::size_t times) {
                plain_data();
                theirs->run(times);
              },
          .done_at_once = data::at_once};
}

double bytes_in_use() {
  const auto now = ::mallinfo2();
  return static_cast<double>(now.uordblks + now.hblkhd);
}

constexpr std::size_t kept_values = 50'000;
constexpr std::size_t kept_bytes = 100;

/// What a value of 100 bytes costs beyond these, when the near cache is full.
double overhead(const std::string& url) {
  const tenantry::client redis{url};
  std::vector<tenantry::key> keys;
  for (std::size_t n = 0; n < kept_values; ++n) keys.push_back(near_row(acme(), 100'000 + n));
  {
    texts values{redis, {.ttl = 24h}};
    for (const tenantry::key& each : keys) values.put(each, std::string(kept_bytes, 'v'));
  }
  const double before = bytes_in_use();
  texts values{redis, {.ttl = 24h, .near = tenantry::near_options{.max_bytes = 16U << 20U, .max_age = 24h}}};
  wait_until_tracking(values);
  for (const tenantry::key& each : keys) keep(values.get(each));
  const double took = bytes_in_use() - before;
  return took / static_cast<double>(values.near_stats().values) - kept_bytes;
}

}  // namespace

void add_near_rows(std::vector<row>& rows, const std::string& url) {
  auto one = std::make_shared<std::unique_ptr<hot_key>>();
  const auto open = [one, url]() -> hot_key& {
    if (!*one) *one = std::make_unique<hot_key>(url);
    return **one;
  };
  rows.push_back({.name = "near_1",
                  .baseline_name = "hiredis GET",
                  .ours =
                      [open](std::size_t times) {
                        hot_key& hot = open();
                        for (std::size_t i = 0; i < times; ++i) hot.fetch();
                      },
                  .baseline =
                      [open](std::size_t times) {
                        hot_key& hot = open();
                        for (std::size_t i = 0; i < times; ++i) keep(hot.raw.get_text(hot.plain));
                      }});
  // A thousand hits at a time, so that sharing them out costs nothing.
  const auto thousand = [open] {
    hot_key& hot = open();
    for (int i = 0; i < 1000; ++i) hot.fetch();
  };
  auto two = std::make_shared<crowd>(2U, thousand);
  auto alone = std::make_shared<crowd>(1U, thousand);
  rows.push_back({.name = "near_2_hot",
                  .baseline_name = "1 thread",
                  .ours = [two](std::size_t times) { two->run(times); },
                  .baseline = [alone](std::size_t times) { alone->run(times); },
                  .done_at_once = 1000});
  rows.push_back(zipf_row("near_zipf", url, {.skew = 1.2}));
  rows.push_back(zipf_row("near_zipf_ycsb", url, {.skew = 0.99, .writes_where_read = true}));
}

void add_near_counts(std::vector<count_row>& rows, const std::string& url) {
  rows.push_back({.name = "near_bytes",
                  .unit = "bytes",
                  .baseline_name = {},
                  .ours = [url] { return overhead(url); },
                  .baseline = {}});
}

}  // namespace bench
