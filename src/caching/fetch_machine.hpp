#pragma once
// The steps of one fetch, without Redis, threads, clock or values.

#include "caching/envelope.hpp"
#include "caching/request.hpp"
#include "caching/stamp.hpp"

#include <tenantry/error.hpp>
#include <tenantry/key.hpp>
#include <tenantry/reply.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenantry::detail {

/// What the options of a cache mean for a fetch.
struct fetch_rules {
  std::chrono::milliseconds stale_for{0};
  double refresh_ahead = 0;  // fraction of the ttl; 0: never
  double refresh_beta = 0;   // of XFetch; 0: never
  std::chrono::milliseconds lease_ttl{5000};
  std::chrono::milliseconds lease_wait{2000};
  std::optional<std::chrono::milliseconds> soft_timeout = {};
  std::optional<std::chrono::milliseconds> hard_timeout = {};
  std::chrono::milliseconds failure_throttle{1000};
  std::uint32_t version = 0;
  bool bare = false;  // values are bytes alone, and have no stamps
  bool near = false;  // what is read is kept in memory

  [[nodiscard]] bool refreshes() const noexcept { return refresh_ahead > 0 || refresh_beta > 0; }
  /// Whether the life that Redis gives a value has to be read with it.
  [[nodiscard]] bool needs_life() const noexcept { return stale_for.count() > 0 || refreshes() || near; }
};

/// What the driver does next. Each is answered by the member named behind it.
enum class fetch_step : unsigned char {
  ask,           ///< send `requests()` in one write: `answered` or `unanswered`
  decode,        ///< make a value of `payload()`, or note that it is `absent()`: `decoded`
  board,         ///< lead or join the process's flight `identity()`: `boarded`
  await_flight,  ///< wait for the flight until `wait_until()`: `flight_ended`, `waited` or `cannot_wait`
  await_wakeup,  ///< wait for a message on `wakeup_channel()` until `wait_until()`; a new subscription counts as one:
                 ///< `woken`
  load,          ///< call the loader: `loaded` or `load_failed`
  answer,        ///< the fetch ends with the value at hand, from `source()`
  give_up,       ///< the fetch ends without a value, because of `reason()`
};

/// How a flight was boarded.
enum class boarding : unsigned char {
  leads,
  follows,
  nobody,        ///< there is none, and this fetch must not lead it
  may_not_wait,  ///< waiting for it would go in a circle
};

enum class fetch_source : unsigned char { redis, computed, stale, flight };

enum class fetch_failure : unsigned char {
  loader,     ///< what the loader threw
  flight,     ///< what the flight's loader threw
  throttled,  ///< a load failed lately; the next one may be made after `time_left()`
  timeout,    ///< the load takes longer than `hard_timeout`
};

/// What a loader gave.
struct load_outcome {
  std::string payload = {};  // nothing to store where it is absent
  bool absent = false;
  bool storable = true;
  std::chrono::milliseconds ttl{0};        // as it is to be stored
  std::chrono::milliseconds stale_for{0};  // beyond it
  std::chrono::microseconds took{0};
  std::vector<std::string> tags = {};
};

/// The names of a value, its lease, its failure marker and its hold, all in one slot.
std::vector<std::string> value_names(const key& k);

/// The protocol, which tests/model describes for a model checker:
///
/// - A value is served when its stamps are those read within this fetch, with or after it.
/// - Its load runs under a lease that is taken in one step with another look at the value, and is stored only while
///   that lease is there. It carries the stamps read before the lease was taken.
/// - A flight of this process is joined only when its lease is the one that was read within this fetch, under the
///   stamps that were read within this fetch.
/// - A lease under other stamps is taken over once these are known not to be current.
/// - After a failed load, or when a wait is over, the value at hand is read again, and served unless it is dead.
class fetch_machine {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  /// `may_wait`: false inside of a loader, which holds a lease itself.
  fetch_machine(const key& k, const fetch_rules& rules, bool may_wait);

  [[nodiscard]] fetch_step begin() { return begin(std::nullopt); }
  /// With the stamp of the tenant as it was known before, which is as good as one read now for who keeps values in
  /// memory. It is read when anything but a fresh value is found.
  [[nodiscard]] fetch_step begin(std::optional<tenant_stamp> known);
  /// Without a look at Redis, for which there is this reason, together with the others of its process under this
  /// identity.
  [[nodiscard]] fetch_step begin_apart(std::string identity, const error& why);
  /// Only to load a fresh value anew, if less than so much of its life is left, in ms.
  [[nodiscard]] fetch_step begin_refresh(std::int64_t below);
  /// As one who waits for a load that goes on without it: `await_flight`. `with_copy`: there is a stale copy.
  /// `redis_failed`: and it is one that Redis does not know of. Timeouts count from `since`.
  [[nodiscard]] fetch_step begin_following(bool with_copy, bool redis_failed, time_point since);

  [[nodiscard]] const std::vector<request>& requests() const noexcept { return requests_; }
  fetch_step answered(std::span<reply> replies, time_point now);
  fetch_step unanswered(const error& why);

  [[nodiscard]] std::string_view payload() const noexcept { return payload_; }
  [[nodiscard]] bool absent() const noexcept { return header_ && header_->absent; }
  fetch_step decoded(bool usable);

  [[nodiscard]] const std::string& identity() const noexcept { return identity_; }
  /// False when a flight of this identity is only to be joined.
  [[nodiscard]] bool may_lead() const noexcept { return may_lead_; }
  fetch_step boarded(boarding how, time_point now);

  [[nodiscard]] time_point wait_until() const noexcept { return wait_until_; }
  /// When it waited for others for the first time.
  [[nodiscard]] const std::optional<time_point>& waits_since() const noexcept { return waits_since_; }
  [[nodiscard]] const std::string& wakeup_channel() const noexcept { return names_[1]; }
  fetch_step flight_ended(bool with_value);
  fetch_step waited();
  /// It loads for itself.
  fetch_step cannot_wait() { return load_without_lease(); }
  fetch_step woken(time_point now);

  /// True while nothing was found out yet that would lead to a lease.
  [[nodiscard]] bool still_looking() const noexcept { return asking_ == asking::value || asking_ == asking::tags; }
  /// What the requests ask for: the value and the stamp of its tenant, or the stamps of its tags.
  [[nodiscard]] bool asks_for_value() const noexcept { return asking_ == asking::value; }
  [[nodiscard]] bool asks_for_tags() const noexcept { return asking_ == asking::tags; }
  /// Whether the requests ask for a lease, and for which.
  [[nodiscard]] bool asks_for_lease() const noexcept { return asking_ == asking::lease; }
  [[nodiscard]] std::string asked_lease() const { return token_ + ' ' + std::string{stamp_->str()}; }
  /// True when Redis did not answer before there was anything to load.
  [[nodiscard]] bool redis_failed() const noexcept { return redis_failed_; }
  /// True while the end of a load is brought to Redis.
  [[nodiscard]] bool ends_load() const noexcept {
    return asking_ == asking::end_tags || asking_ == asking::store || asking_ == asking::release;
  }
  /// True when the value at hand is fresh, and only to be renewed.
  [[nodiscard]] bool refreshing() const noexcept { return refreshing_; }
  /// Then: what is left of its life at most, in ms. Ends the fetch with that value.
  [[nodiscard]] std::int64_t refresh_below() const noexcept { return refresh_below_.value_or(0); }
  fetch_step leave_refreshing() { return answer(fetch_source::redis); }

  /// True while a value is written.
  [[nodiscard]] bool stores() const noexcept { return asking_ == asking::store; }
  /// The tenant's stamp as it was read, unless it was known.
  [[nodiscard]] const std::optional<tenant_stamp>& stamp() const noexcept { return stamp_; }
  [[nodiscard]] bool knew_stamp() const noexcept { return known_.has_value(); }
  /// Of the value at hand.
  [[nodiscard]] const std::optional<envelope_header>& header() const noexcept { return header_; }
  /// The stamps of its tags as they were read, in their order.
  [[nodiscard]] const std::vector<std::optional<tag_stamp>>& tags_now() const noexcept { return tags_now_; }
  /// True when it was read by the first request, was found fresh, and is not to be refreshed.
  [[nodiscard]] bool looked_and_found() const noexcept {
    return source_ == fetch_source::redis && still_looking() && !refreshing_ && !last_look_ && !refreshed_;
  }
  /// Then: for how long it stays so, in ms.
  [[nodiscard]] std::int64_t fresh_for() const noexcept;

  /// The value that a loader may be shown: stale, or about to be.
  [[nodiscard]] bool has_candidate() const;
  /// True when there is a copy that this cache may serve when its load fails.
  [[nodiscard]] bool has_copy() const { return judge() == standing::stale && rules_.stale_for.count() > 0; }
  /// True when the soft timeout was tried in vain.
  [[nodiscard]] bool soft_over() const noexcept { return soft_over_; }
  [[nodiscard]] bool holds_lease() const noexcept { return !lease_.empty(); }
  [[nodiscard]] const std::string& lease() const noexcept { return lease_; }
  [[nodiscard]] const std::string& lease_key() const noexcept { return names_[1]; }
  fetch_step loaded(load_outcome what);
  /// `marked`: others are not to try again for `failure_throttle`.
  fetch_step load_failed(bool marked = true);

  [[nodiscard]] fetch_source source() const noexcept { return source_; }
  [[nodiscard]] bool leads() const noexcept { return leads_; }
  [[nodiscard]] bool stored() const noexcept { return stored_; }
  /// True when a value was loaded and an invalidation, or the end of its lease, kept it from being stored.
  [[nodiscard]] bool fenced() const noexcept { return fenced_; }
  /// How long a load took.
  [[nodiscard]] std::chrono::milliseconds took() const noexcept {
    return std::chrono::duration_cast<std::chrono::milliseconds>(outcome_.took);
  }
  /// The server's time when the load of the value at hand began.
  [[nodiscard]] std::optional<std::chrono::microseconds> computed_at() const noexcept;
  [[nodiscard]] fetch_failure reason() const noexcept { return reason_; }
  [[nodiscard]] std::chrono::milliseconds time_left() const noexcept { return time_left_; }
  /// Why Redis could not be asked or did not take the value.
  [[nodiscard]] const std::shared_ptr<const error>& failure() const noexcept { return failure_; }

  /// What the reads of this fetch found, for counters.
  struct findings {
    bool defect = false;      // bytes that are no value of this cache
    bool wrong_type = false;  // a key of another type
  };
  [[nodiscard]] findings take_findings() noexcept { return std::exchange(found_, {}); }
  /// To be sent with some later fetch: the value at hand is current under another tags token.
  [[nodiscard]] const std::optional<request>& restamp() const noexcept { return restamp_; }

 private:
  enum class asking : unsigned char {
    value,
    tags,
    new_stamp,
    lease,
    stamp,
    end_tags,
    store,
    release,
    second_look,
    second_look_at_tags
  };
  enum class standing : unsigned char { none, dead, stale, fresh, tags_moved };
  enum class limit : unsigned char { patience, soft, hard };  // of a wait
  enum class last_resort : unsigned char { give_up, load, wait };

  fetch_step ask(asking what, std::vector<request> requests);
  std::vector<request> look(bool tracked = false);
  /// Where the parts of a look are among its requests.
  struct places {
    std::size_t value = 0;
    std::optional<std::size_t> life = {};
    std::optional<std::size_t> stamp = {};

    [[nodiscard]] std::size_t count() const noexcept { return 1U + (life ? 1U : 0U) + (stamp ? 1U : 0U); }
  };
  void take_look(std::span<reply> replies);
  void take_value(reply& value, std::int64_t life);
  [[nodiscard]] standing judge() const;
  request read_tags() const;
  bool take_tags(const reply& stamps);
  [[nodiscard]] bool refresh_due();

  fetch_step use();
  fetch_step go_on_to_load();
  fetch_step take_lease();
  fetch_step take_new_stamp(const reply& before);
  fetch_step leased(std::span<reply> replies, time_point now);
  fetch_step busy(const std::string& lease, std::int64_t life, time_point now);
  void set_limit(time_point now);
  fetch_step resort();
  fetch_step load_late();
  fetch_step load_without_lease();
  request read_stamps() const;
  [[nodiscard]] bool still_current(const reply& stamps) const;
  fetch_step take_end_tags(const reply& stamps);
  fetch_step store();
  request end_lease(std::chrono::milliseconds marker_life);
  fetch_step release();
  fetch_step look_again();
  fetch_step settle(standing how);
  fetch_step answer(fetch_source from) noexcept;
  fetch_step give_up(fetch_failure why) noexcept;

  const key& key_;
  const fetch_rules& rules_;
  bool may_wait_;
  std::vector<std::string> names_;  // value, lease, failure marker, hold
  std::string stamp_name_;
  std::string token_;

  std::vector<request> requests_;
  asking asking_ = asking::value;
  places look_;

  std::optional<tenant_stamp> stamp_;
  std::optional<tenant_stamp> known_;      // and not read
  std::optional<tenant_stamp> new_stamp_;  // proposed where there is none
  std::string bytes_;
  std::optional<envelope_header> header_;  // of bytes_
  std::string first_line_;
  std::string_view payload_;
  std::int64_t life_ = 0;  // of the value, in ms
  bool want_life_;
  bool tags_current_ = false;                       // looked at one by one
  bool soft_moved_ = false;                         // of a tag
  std::vector<std::optional<tag_stamp>> tags_now_;  // looked at one by one
  bool unusable_ = false;                           // a fresh value that cannot be decoded
  bool refreshing_ = false;                         // the value at hand is fresh
  bool only_refresh_ = false;                       // and else there is nothing to do
  bool refreshed_ = false;                          // it comes from the step that would have given the lease
  bool take_over_ = false;                          // the lease of others
  bool last_look_ = false;                          // the value at hand will do,
  last_resort last_resort_ = last_resort::give_up;  // and else this
  std::optional<std::int64_t> refresh_below_;       // less left of its life is to be renewed, in ms
  bool redis_failed_ = false;
  bool held_ = false;  // nothing may be stored
  bool late_ = false;  // waited for long enough

  std::string identity_;
  bool may_lead_ = true;
  bool leads_ = false;
  time_point wait_until_{};
  std::optional<time_point> waits_since_;
  std::optional<time_point> patience_ends_;
  time_point limit_at_{};  // the first of all limits of its wait, which is
  limit limit_ = limit::patience;
  bool follows_ = false;    // waits for a flight,
  bool own_load_ = false;   // which this fetch began: it has no limit but the timeouts
  bool with_copy_ = false;  // that the soft timeout needs,
  bool soft_over_ = false;  // unless that was tried
  time_point lease_ends_{};

  std::string lease_;
  std::chrono::microseconds began_at_{0};
  load_outcome outcome_;
  std::vector<tag_stamp> tag_stamps_;
  int tag_reads_ = 0;

  fetch_source source_ = fetch_source::redis;
  fetch_failure reason_ = fetch_failure::loader;
  std::chrono::milliseconds time_left_{0};
  bool stored_ = false;
  bool fenced_ = false;
  findings found_;
  std::optional<request> restamp_;
  std::shared_ptr<const error> failure_;
};

}  // namespace tenantry::detail
