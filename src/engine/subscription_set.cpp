#include "engine/subscription_set.hpp"

namespace tenantry::detail {

standing subscription_set::want(push_kind kind, std::string_view name) {
  records& known = of(kind);
  auto found = known.find(name);
  if (found == known.end()) found = known.emplace(name, subscription{.kind = kind}).first;
  record& each = *found;
  if (!each.second.wanted) {
    change(each, [](subscription& one) { one.wanted = true; });
    settle(each);
  }
  if (each.second.refused) return standing::refused;
  return each.second.confirmed() ? standing::confirmed : standing::pending;
}

void subscription_set::unwant(push_kind kind, std::string_view name) {
  const auto found = of(kind).find(name);
  if (found == of(kind).end() || !found->second.wanted) return;
  change(*found, [](subscription& one) { one.wanted = false; });
  settle(*found);
}

void subscription_set::begin() {
  online_ = true;
  awaited_ = open_;
  for (records& known : all_) {
    for (record& each : known) {
      each.second.awaited = true;
      settle(each);
    }
  }
}

void subscription_set::end() {
  online_ = false;
  for (auto& each : queues_) each.clear();
  halves_.clear();
  open_ = awaited_ = 0;
  for (records& known : all_) {
    std::erase_if(known, [](const record& each) { return !each.second.wanted; });
    for (record& each : known) each.second = {.kind = each.second.kind, .wanted = true};
    open_ += known.size();
  }
}

/// What has to be sent for a name of which nothing is on the way.
subscription::motion subscription_set::need(const subscription& of_one) noexcept {
  if (of_one.wanted) return of_one.held || of_one.refused ? motion::none : motion::joining;
  return of_one.held && !of_one.kept ? motion::leaving : motion::none;
}

fifo<subscription_set::record*>& subscription_set::queue(push_kind kind, motion what) noexcept {
  return queues_[static_cast<std::size_t>(kind) + (what == motion::leaving ? kinds : 0)];
}

/// Keeps the counts while something about a name changes.
template <class Change>
void subscription_set::change(record& each, Change&& apply) {
  subscription& one = each.second;
  if (one.open()) --open_;
  apply(one);
  if (one.open()) {
    ++open_;
  } else if (one.awaited) {
    one.awaited = false;
    --awaited_;
  }
}

/// Lists the name if something has to be sent for it, and forgets it if nobody wants, has or will look at it.
void subscription_set::settle(record& each) {
  subscription& one = each.second;
  if (one.listed || one.on_the_way != motion::none) return;
  const motion what = need(one);
  if (what != motion::none) {
    if (!online_) return;
    queue(one.kind, what).push_back(&each);
    one.listed = true;
  } else if (!one.wanted && !one.held) {
    records& known = of(one.kind);
    known.erase(known.find(each.first));
  }
}

bool subscription_set::has_work() const noexcept {
  if (!halves_.empty()) return true;
  for (const auto& each : queues_) {
    if (!each.empty()) return true;
  }
  return false;
}

/// A listed name is looked at: true when `what` is to be sent for it.
bool subscription_set::still_needed(record& each, motion what) {
  each.second.listed = false;
  if (need(each.second) == what) return true;
  settle(each);
  return false;
}

void subscription_set::take(fifo<record*>& from, batch& into) {
  std::size_t bytes = 0;
  while (!from.empty() && into.names.size() < most_names) {
    record& each = *from.front();
    bytes += each.first.size() + 16;
    if (bytes > most_bytes && !into.names.empty()) return;
    from.pop_front();
    if (still_needed(each, into.what)) into.names.push_back(&each);
  }
}

std::optional<subscription_set::batch> subscription_set::next() {
  batch made;
  while (!halves_.empty() && made.names.empty()) {
    made.what = motion::joining;
    const std::vector<record*> half = std::move(halves_.front());
    halves_.pop_front();
    made.kind = half.front()->second.kind;
    for (record* const each : half) {
      if (still_needed(*each, made.what)) made.names.push_back(each);
    }
  }
  // The queues take turns, so that many names of one kind do not keep the others waiting. A name may move to another
  // queue once when it is looked at, hence the second round.
  for (std::size_t tried = 0; tried < 2 * queues_.size() && made.names.empty(); ++tried) {
    const std::size_t at = turn_++ % queues_.size();
    made.kind = static_cast<push_kind>(at % kinds);
    made.what = at < kinds ? motion::joining : motion::leaving;
    while (!queues_[at].empty() && made.names.empty()) take(queues_[at], made);
  }
  if (made.names.empty()) return std::nullopt;
  for (record* const each : made.names) {
    change(*each, [&](subscription& one) { one.on_the_way = made.what; });
  }
  return made;
}

bool subscription_set::joined(record& each) {
  change(each, [](subscription& one) {
    one.held = true;
    one.on_the_way = motion::none;
  });
  const bool wanted = each.second.wanted;
  settle(each);
  return wanted;
}

void subscription_set::left(record& each) {
  change(each, [](subscription& one) {
    one.held = false;
    one.on_the_way = motion::none;
  });
  settle(each);
}

bool subscription_set::refuse(record& each) {
  const bool wanted = each.second.wanted;
  change(each, [](subscription& one) {
    one.refused = true;
    one.on_the_way = motion::none;
  });
  settle(each);
  return wanted;
}

bool subscription_set::again(record& each) {
  change(each, [](subscription& one) { one.on_the_way = motion::none; });
  const bool stays = each.second.confirmed();
  settle(each);
  return stays;
}

bool subscription_set::keep(record& each) {
  each.second.kept = each.second.held;
  return again(each);
}

void subscription_set::split(std::vector<record*> names) {
  for (record* const each : names) {
    change(*each, [](subscription& one) { one.on_the_way = motion::none; });
    each->second.listed = true;
  }
  const auto middle = names.begin() + static_cast<std::ptrdiff_t>(names.size() / 2);
  halves_.push_back({names.begin(), middle});
  halves_.push_back({middle, names.end()});
}

bool subscription_set::lose(push_kind kind, std::string_view name) {
  const auto found = of(kind).find(name);
  if (found == of(kind).end() || !found->second.held) return false;
  record& each = *found;
  const bool was_confirmed = each.second.confirmed();
  const bool synced = awaited_ == 0;
  change(each, [](subscription& one) { one.held = one.kept = false; });
  if (was_confirmed && !synced && !each.second.awaited) {
    each.second.awaited = true;
    ++awaited_;
  }
  settle(each);
  return was_confirmed;
}

bool subscription_set::delivers(push_kind kind, std::string_view name) const {
  const auto found = of(kind).find(name);
  return found != of(kind).end() && found->second.wanted && found->second.on_the_way != motion::leaving;
}

}  // namespace tenantry::detail
