#pragma once
// The steps of one cache fetch, without Redis, threads or values.

namespace tenantry::detail {

/// What the driver does next.
enum class fetch_action : unsigned char {
  read,    ///< GET the key
  join,    ///< lead the flight of this key, or find the one that is under way
  wait,    ///< wait for the leader's result and answer with it
  load,    ///< call the loader
  store,   ///< SET what was loaded
  answer,  ///< return the value at hand
};

/// What came of the last action.
enum class fetch_event : unsigned char {
  hit,                ///< read: a value of the right type and format
  miss,               ///< read: no value, or none that can be used
  failed,             ///< read: Redis could not be asked
  leads,              ///< join: this fetch leads a new flight
  follows,            ///< join: another fetch leads, and this one may wait for it
  may_not_wait,       ///< join: another fetch leads, and waits for a load of this thread: waiting would never end
  loaded,             ///< load: a value that may be stored
  loaded_unstorable,  ///< load: a value that must not be stored
  stored,             ///< store: it is in Redis
  not_stored,         ///< store: it is not, or that is unknown
};

/// Reads, and reads again once it leads a flight, because the flight before it may have just stored the value. When
/// Redis fails it is not asked again in this fetch: the loader answers at once.
class fetch_machine {
 public:
  /// The first action is always read.
  [[nodiscard]] fetch_action on(fetch_event event) noexcept {
    switch (event) {
      case fetch_event::hit:
        return fetch_action::answer;
      case fetch_event::failed:
        redis_failed_ = true;
        [[fallthrough]];
      case fetch_event::miss:
        return leads_ ? fetch_action::load : fetch_action::join;
      case fetch_event::leads:
        leads_ = true;
        return redis_failed_ ? fetch_action::load : fetch_action::read;
      case fetch_event::follows:
        return fetch_action::wait;
      case fetch_event::may_not_wait:
        return fetch_action::load;
      case fetch_event::loaded:
        return leads_ && !redis_failed_ ? fetch_action::store : fetch_action::answer;
      case fetch_event::stored:
        stored_ = true;
        return fetch_action::answer;
      case fetch_event::loaded_unstorable:
      case fetch_event::not_stored:
        break;
    }
    return fetch_action::answer;
  }

  [[nodiscard]] bool leads() const noexcept { return leads_; }
  [[nodiscard]] bool stored() const noexcept { return stored_; }

 private:
  bool redis_failed_ = false;
  bool leads_ = false;
  bool stored_ = false;
};

}  // namespace tenantry::detail
