#include "messaging/log_cursor.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace tenantry::detail {

log_cursor::log_cursor(std::optional<std::string_view> last_id, std::uint64_t max_replay) : max_replay_{max_replay} {
  if (!last_id) return;
  const auto id = log_id::parse(*last_id);
  if (!id) {
    start_ = start::at_end_after_gap;
    return;
  }
  start_ = start::at_id;
  epoch_ = id->epoch;
  next_ = id->offset + 1;
  last_tag_ = id->tag;
}

/// With the last event that was delivered, to see whether it is still there.
std::uint64_t log_cursor::page_from() const noexcept { return std::max<std::uint64_t>(next_ - 1, 1); }

void log_cursor::tell(gap_cause why, std::optional<std::uint64_t> lost, std::deque<log_output>& out) {
  ++counters_.gaps;
  counters_.lost += lost.value_or(0);
  const auto now = std::chrono::steady_clock::now();
  out.emplace_back(gap{.cause = why,
                       .from = now,
                       .to = now,
                       .lost = lost,
                       .id = epoch_.empty() ? std::string{} : log_id{epoch_, next_ - 1, last_tag_}.str()});
}

void log_cursor::begin_at_end(const log_page& read) {
  epoch_ = read.epoch;
  next_ = read.top + 1;
  last_tag_ = log_id::no_tag;
  if (!read.entries.empty() && read.entries.back().offset == read.top) last_tag_ = read.entries.back().tag;
  wants_page_ = false;
}

/// Another log, or this one without its end: all of it that there is.
void log_cursor::reset(const log_page& read, std::deque<log_output>& out) {
  epoch_ = read.epoch;
  next_ = read.first > 0 ? read.first : read.top + 1;
  last_tag_ = log_id::no_tag;
  tell(gap_cause::reset, std::nullopt, out);
  wants_page_ = next_ <= read.top;
}

void log_cursor::skip_to(std::uint64_t offset, gap_cause why, std::deque<log_output>& out) {
  const std::uint64_t lost = offset - next_;
  next_ = offset;
  last_tag_ = log_id::no_tag;
  tell(why, lost, out);
}

void log_cursor::deliver(std::uint64_t offset, const std::string& tag, std::shared_ptr<const std::string> payload,
                         std::deque<log_output>& out) {
  ++counters_.delivered;
  next_ = offset + 1;
  last_tag_ = tag;
  if (recent_.empty()) recent_.resize(remembered);
  recent_[offset % remembered] = {.offset = offset, .tag = tag};
  out.emplace_back(logged_payload{.id = log_id{epoch_, offset, tag}.str(), .payload = std::move(payload)});
}

bool log_cursor::known(std::uint64_t offset, std::string_view tag) const noexcept {
  if (recent_.empty()) return false;
  const seen& then = recent_[offset % remembered];
  return then.offset == offset && then.tag == tag;
}

void log_cursor::page(const shared_page& page, std::deque<log_output>& out) {
  const log_page& read = *page;
  ++counters_.reads;
  const start how = std::exchange(start_, start::done);
  if (how == start::at_end || how == start::at_end_after_gap) {
    begin_at_end(read);
    if (how == start::at_end_after_gap) tell(gap_cause::invalid_id, std::nullopt, out);
    return;
  }
  const std::uint64_t last = next_ - 1;
  if (epoch_.empty()) epoch_ = read.epoch;  // it has begun since
  if (read.epoch != epoch_ || last > read.top) return reset(read, out);
  const auto same = std::ranges::find(read.entries, last, &log_entry::offset);
  if (same != read.entries.end() && last_tag_ != log_id::no_tag && same->tag != last_tag_) return reset(read, out);
  wants_page_ = false;
  if (last == read.top) return;
  if (read.first == 0) return skip_to(read.top + 1, gap_cause::trimmed, out);
  if (next_ < read.first) skip_to(read.first, gap_cause::trimmed, out);
  if (how == start::at_id && read.top - next_ + 1 > max_replay_) {
    skip_to(read.top - max_replay_ + 1, gap_cause::too_far, out);
    wants_page_ = true;
    return;
  }
  replay(page, out);
}

void log_cursor::replay(const shared_page& page, std::deque<log_output>& out) {
  bool progress = false;
  for (const log_entry& each : page->entries) {
    if (each.offset < next_) continue;
    if (each.offset > next_) skip_to(each.offset, gap_cause::trimmed, out);  // deleted from within
    deliver(each.offset, each.tag, {page, &each.payload}, out);
    ++counters_.replayed;
    progress = true;
  }
  if (next_ > page->top) return;
  if (progress) {
    wants_page_ = true;
  } else {
    skip_to(page->top + 1, gap_cause::trimmed, out);
  }
}

void log_cursor::live(const log_id& id, std::string_view payload, std::deque<log_output>& out) {
  if (epoch_.empty() && id.offset == 1) epoch_ = id.epoch;  // the first event of a log that was not there
  if (id.epoch == epoch_ && id.offset == next_) {
    deliver(id.offset, id.tag, std::make_shared<const std::string>(payload), out);
  } else if (id.epoch != epoch_ || !known(id.offset, id.tag)) {
    wants_page_ = true;
  }
}

}  // namespace tenantry::detail
