#include "caching/sweep_machine.hpp"

#include <tenantry/error.hpp>

#include <algorithm>
#include <charconv>
#include <utility>

namespace tenantry::detail {

namespace {

constexpr std::size_t pages_per_second = 10;  // at least, where keys per second are limited

std::int64_t number(const reply& text) {
  const std::string& digits = text.str();
  std::int64_t value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return value;
}

std::chrono::microseconds clock_of(const reply& time) {
  return std::chrono::seconds{number(time[0])} + std::chrono::microseconds{number(time[1])};
}

std::uint64_t count_of(const reply& one) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(one.integer(), 0));
}

const key_pattern& known(const catalog& keys, const key_pattern& pattern) {
  if (!keys.makes(pattern)) throw invalid_option{"no schema of the invalidator's catalog makes " + pattern.str()};
  return pattern;
}

}  // namespace

void command_size::took(std::size_t keys, std::chrono::microseconds busy) noexcept {
  if (busy.count() < 0) return;             // the server's clock was set back
  if (keys < keys_ && busy <= aim) return;  // says nothing about a full one
  const auto spent = std::max<std::size_t>(static_cast<std::size_t>(busy.count()), 1);
  const std::size_t fits = keys * static_cast<std::size_t>(aim.count()) / spent;
  keys_ = std::clamp(std::min(fits, 2 * keys_), least, most);
}

sweep_machine::sweep_machine(const catalog& keys, const tenant_id& tenant, const sweep_options& how)
    : sweep_machine{keys, tenant, std::nullopt, how} {}

sweep_machine::sweep_machine(const catalog& keys, const key_pattern& pattern, const sweep_options& how)
    : sweep_machine{keys, pattern.tenant(), known(keys, pattern), how} {}

sweep_machine::sweep_machine(catalog keys, const tenant_id& tenant, std::optional<key_pattern> pattern,
                             const sweep_options& how)
    : catalog_{std::move(keys)},
      tenant_{tenant},
      pattern_{std::move(pattern)},
      action_{how.action},
      keys_per_second_{how.keys_per_second},
      glob_{glob()} {
  if (keys_per_second_ == 0U) throw invalid_option{"sweep_options.keys_per_second is 0"};
  if (how.bytes == sweep_bytes::measured) report_.bytes = 0;
}

/// Matches whatever may be ours, and as little else as one glob can: keys in both placements, and companions, which
/// begin with a brace of their own. It begins with plain text where it can, because the server gives that up quickest.
std::string sweep_machine::glob() const {
  if (pattern_) return "*" + pattern_->str() + (pattern_->str().ends_with('*') ? "" : "*");
  const auto patterns = catalog_.patterns(tenant_);
  const bool tenant_ends_a_key = std::ranges::any_of(
      patterns, [this](const key_pattern& each) { return each.str().ends_with(":" + tenant_.str()); });
  return "*" + tenant_.str() + (tenant_ends_a_key ? "*" : "[:}]*");
}

bool sweep_machine::is_ours(std::string_view name) const noexcept {
  const std::string_view owner = key::owner_of(name).value_or(name);
  return catalog_.holds(tenant_, owner) && (!pattern_ || pattern_->matches(owner));
}

std::size_t sweep_machine::next_page() const noexcept {
  if (!keys_per_second_) return scan_size_.keys();
  return std::min(scan_size_.keys(), std::max<std::size_t>(*keys_per_second_ / pages_per_second, 1));
}

std::vector<command> sweep_machine::next() {
  std::vector<command> all;
  sent_.clear();
  const auto add = [&](part what, command one) {
    all.push_back(std::move(one));
    sent_.push_back(what);
  };
  if (report_.bytes) {
    for (const std::string& name : found_) add(part::usage, command{"MEMORY", "USAGE", name});
  }
  if (!begun_) add(part::size, command{"DBSIZE"});
  add(part::clock, command{"TIME"});
  if (action_ == sweep_action::remove && !found_.empty()) {
    add_unlinks(all);
    add(part::clock, command{"TIME"});
  }
  if (!scan_over_) {
    page_ = next_page();
    add(part::scan, command{"SCAN", cursor_, "MATCH", glob_, "COUNT", page_});
    add(part::clock, command{"TIME"});
  }
  return all;
}

void sweep_machine::add_unlinks(std::vector<command>& all) {
  std::vector<std::string_view> words;
  for (std::span<const std::string> rest{found_}; !rest.empty(); rest = rest.subspan(words.size() - 1)) {
    const auto these = rest.first(std::min(rest.size(), unlink_size_.keys()));
    words.assign({"UNLINK"});
    words.insert(words.end(), these.begin(), these.end());
    all.emplace_back(std::span<const std::string_view>{words});
    sent_.push_back(part::unlink);
  }
}

void sweep_machine::on(std::span<const reply> replies) {
  static constexpr std::string_view names[] = {"TIME", "DBSIZE", "SCAN", "UNLINK", "MEMORY USAGE"};
  const std::size_t unlinked = found_.size();
  std::chrono::microseconds clock{0};
  part before = part::clock;
  for (std::size_t i = 0; i < sent_.size(); ++i) {
    const reply& answer = replies[i];
    if (answer.is_error()) throw server_error{names[static_cast<std::size_t>(sent_[i])], answer.error_text()};
    switch (sent_[i]) {
      case part::clock: {
        const std::chrono::microseconds now = clock_of(answer);
        if (before == part::scan) scan_size_.took(page_, now - clock);
        if (before == part::unlink) unlink_size_.took(unlinked, now - clock);
        clock = now;
        break;
      }
      case part::size:
        report_.total = count_of(answer);
        begun_ = true;
        break;
      case part::scan:
        take_page(answer);
        break;
      case part::unlink:
        report_.deleted += count_of(answer);
        break;
      case part::usage:
        if (!answer.is_nil()) *report_.bytes += count_of(answer);  // nil: it has expired meanwhile
        break;
    }
    before = sent_[i];
  }
  const bool scanned_now = std::ranges::find(sent_, part::scan) != sent_.end();
  if (!scanned_now) found_.clear();
  const bool work_left = !found_.empty() && (action_ == sweep_action::remove || report_.bytes);
  report_.complete = scan_over_ && !work_left;
}

/// The end is cursor 0 and nothing else: a page may be empty anywhere.
void sweep_machine::take_page(const reply& page) {
  cursor_ = page[0].str();
  scan_over_ = cursor_ == "0";
  found_.clear();
  for (const reply& each : page[1].elements()) {
    if (is_ours(each.str())) found_.push_back(each.str());
  }
  report_.matched += found_.size();
  looked_through_ += page_;
  report_.scanned = scan_over_ ? report_.total : std::min(looked_through_, report_.total);
}

sweep_machine::duration sweep_machine::pause(duration step) const noexcept {
  if (!keys_per_second_ || scan_over_) return duration::zero();
  const auto due = std::chrono::duration_cast<duration>(
      std::chrono::duration<double>{static_cast<double>(page_) / static_cast<double>(*keys_per_second_)});
  return std::max(due - step, duration::zero());
}

}  // namespace tenantry::detail
