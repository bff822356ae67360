/* Soft invalidation, and stale copies for loads that fail: one key of one tenant. check.cmake runs Spin on it.
 *
 * Claims, for a fetch that begins after an invalidation returned, in any process:
 * - after a hard one (invalidate, put) it never yields data loaded before it, also not when its load fails;
 * - after a soft one (expire) it never yields such data as fresh;
 * - and no fetch yields a stale copy that was invalidated hard before its load failed, whenever that fetch began.
 *
 * The tenant's stamp is one key with a hard and a soft token. A value carries both, as read before its load, and a mark
 * that it is no longer fresh: expire(key) and its age set it. A value with another hard token is a miss. One with
 * another soft token, or marked, is a stale copy: it is served only when the load fails, or another load just did.
 *
 * The rules, and the macro that removes each; without any one of them Spin must find a violation:
 *   NO_SOFT_TEST      a value with another soft token is not fresh
 *   NO_EARLY_SOFT     a value carries the soft token read before its load
 *   NO_EXPIRE_KILL    expire(key) deletes the lease
 *   NO_EXPIRE_ATOMIC  expire(key) marks the value and deletes the lease in one step
 *   NO_SOFT_ATOMIC    expire(tenant) replaces the soft token in one step: reading the stamp and writing it back may
 *                     bring back a hard token that an invalidation just replaced
 *   NO_JOIN_SOFT      a flight is joined only if its soft token, too, is the one read within this fetch
 *   NO_CHECK          after a failure, its own or that of the flight it joined, a fetch reads value and stamp again
 *   NO_CHECK_HARD     this check compares the hard tokens, it is not enough that there is a value
 *   NO_CHECK_COPY     what is served is the copy that the check read, not the one from before the load
 *   NO_LEASE_LOOK     a loader is shown a copy only if that was still the value when the lease was taken: an
 *                     invalidation before that does not keep the load from storing what it made of the copy
 *
 * What keeps the model small is told in leases.pml. Besides the watched fetch there is one endless row of other
 * fetches. Joining them is always a choice, so they stand for the same process and for another.
 */
#ifndef HARDS
#define HARDS 2 /* hard tokens, one after another */
#endif
#ifndef SOFTS
#define SOFTS 2
#endif

#define NONE 2 /* no value; values are 0 and 1, the data before and after one write */
#define WATCHED 1
#define FELLOW 2

bit db;
bit hard_bound;  /* data older than this must not be seen at all by a fetch that begins now */
bit fresh_bound; /* and not as fresh */

byte val = NONE;
byte val_hard, val_soft;
bit val_marked;
byte lease; /* 0: free */
byte lease_hard, lease_soft;
byte hard = 1, soft = 1;

bit hard_low, fresh_low; /* the bounds of the watched fetch */
byte flight_hard, flight_soft;
bit joined; /* the watched fetch waits for its fellow's flight */
bit landed, landed_remade;
byte landed_value; /* NONE: its load failed */

#ifdef NO_SOFT_TEST
#define FRESH (v != NONE && vh == h && !marked)
#else
#define FRESH (v != NONE && vh == h && vs == s && !marked)
#endif
#define STALE (v != NONE && vh == h)
#ifdef NO_CHECK_HARD
#define SERVABLE (v != NONE)
#else
#define SERVABLE STALE
#endif
#ifdef NO_EARLY_SOFT
#define SOFT_OF_VALUE soft
#else
#define SOFT_OF_VALUE s
#endif
#define MAY_TAKE_LEASE (lease == 0 || lease_hard != h || lease_soft != s)
#ifdef NO_JOIN_SOFT
#define MAY_JOIN (near && flight_hard == h)
#else
#define MAY_JOIN (near && flight_hard == h && flight_soft == s)
#endif

#if defined(NO_CHECK) || defined(NO_CHECK_COPY) || defined(NO_LEASE_LOOK)
#define KEEP_SEEN
#endif
#ifdef NO_CHECK_COPY
#define SERVED seen
#else
#define SERVED v
#endif

inline read_stamp() {
  atomic { h = hard; s = soft }
}

inline read_value() {
  atomic { v = val; vh = val_hard; vs = val_soft; marked = val_marked }
}

/* What is at hand before the load. */
inline keep_seen() {
#ifdef KEEP_SEEN
  if
  :: STALE -> seen = v
  :: else
  fi
#else
  skip
#endif
}

inline forget_seen() {
#ifdef KEEP_SEEN
  seen = NONE
#else
  skip
#endif
}

inline forget_value() {
  atomic { v = NONE; vh = 0; vs = 0; marked = 0 }
}

inline remove_value() {
  atomic { val = NONE; val_hard = 0; val_soft = 0; val_marked = 0 }
}

inline free_lease() {
  atomic { lease = 0; lease_hard = 0; lease_soft = 0 }
}

/* What a loader makes of the copy that it is shown is as old as that, for a hard invalidation. */
inline take_lease(who) {
  atomic {
    lease = who;
    lease_hard = h;
    lease_soft = s;
    ver = db;
#ifdef NO_LEASE_LOOK
    shown = seen
#else
    shown = (val_hard == h -> val : NONE)
#endif
  }
}

inline store(who, value, is_remade) {
  atomic {
    if
    :: (lease == who) ->
       val = value;
       val_hard = h;
       val_soft = SOFT_OF_VALUE;
       val_marked = is_remade; /* only the hard claims are for it */
       free_lease()
    :: else
    fi
  }
}

inline give_up(who) {
  atomic {
    if
    :: (lease == who) -> free_lease()
    :: else
    fi
  }
}

inline join() {
  atomic { joined = 1; near = 0; h = 0; s = 0 }
}

proctype Fetch() {
  bit marked, near, ver;
  byte v = NONE, vh, vs, h, s, shown = NONE;
#ifdef KEEP_SEEN
  byte seen = NONE;
#endif
end:
begin:
  /* One round trip to two slots: in either order. */
  if
  :: atomic { hard_low = hard_bound; fresh_low = fresh_bound; read_value(); near = (lease == FELLOW) };
     atomic { read_stamp(); goto judge }
  :: atomic { hard_low = hard_bound; fresh_low = fresh_bound; read_stamp() };
     atomic { read_value(); near = (lease == FELLOW); goto judge }
  fi;
judge:
  atomic {
    if
    :: FRESH -> assert(v >= fresh_low); goto done
    :: (STALE && !FRESH) -> assert(v >= hard_low); goto done /* another load has just failed */
    :: !FRESH
    fi;
    keep_seen();
    forget_value();
    if
    :: MAY_JOIN -> join(); goto follow
    :: true
    fi
  };
  atomic {
    if
    :: MAY_TAKE_LEASE -> near = 0; take_lease(WATCHED)
    :: else ->
       near = (lease == FELLOW);
       if
       :: MAY_JOIN -> join(); goto follow
       :: goto done
       fi
    fi
  };
  if
  :: atomic { assert(ver >= fresh_low); store(WATCHED, ver, 0); goto done }
  :: atomic { (shown != NONE) -> assert(shown >= hard_low); store(WATCHED, shown, 1); goto done }
  :: atomic { /* the load fails */
       hard_low = hard_bound; /* the third claim */
       give_up(WATCHED);
       h = 0;
       s = 0;
       ver = 0;
       shown = NONE
     }
  fi;
look:
#ifdef NO_CHECK
  atomic { assert(seen >= hard_low); goto done };
#endif
  if
  :: read_value();
     atomic { read_stamp(); goto check }
  :: read_stamp();
     atomic { read_value(); goto check }
  fi;
check:
  atomic {
    if
    :: SERVABLE -> assert(SERVED >= hard_low)
    :: FRESH -> assert(v >= fresh_low)
    :: !SERVABLE
    fi;
    goto done
  };
follow:
  atomic {
    landed ->
    if
    :: (landed_value == NONE) -> landed = 0; landed_value = 0; goto look
    :: (landed_value != NONE && landed_remade) -> assert(landed_value >= hard_low)
    :: (landed_value != NONE && !landed_remade) -> assert(landed_value >= fresh_low)
    fi
  };
done:
  atomic {
    forget_value();
    forget_seen();
    near = 0;
    ver = 0;
    h = 0;
    s = 0;
    shown = NONE;
    hard_low = 0;
    fresh_low = 0;
    landed = 0;
    landed_remade = 0;
    landed_value = 0;
    goto begin
  }
}

inline land(value, is_remade) {
  atomic {
    flight_hard = 0;
    flight_soft = 0;
    if
    :: joined ->
       joined = 0;
       landed = 1;
       landed_value = value;
       landed_remade = is_remade;
       hard_low = (landed_value == NONE -> hard_bound : hard_low) /* the third claim */
    :: else
    fi
  }
}

/* The other fetches: their loads, and what these hand to the watched fetch if it has joined them. */
proctype Others() {
  bit ver;
  byte h, s, shown = NONE;
#ifdef KEEP_SEEN
  bit marked;
  byte v = NONE, vh, vs, seen = NONE;
#endif
end:
begin:
  read_stamp();
#ifdef KEEP_SEEN
  atomic { read_value(); keep_seen(); forget_value() };
#endif
  atomic {
    if
    :: MAY_TAKE_LEASE -> take_lease(FELLOW); flight_hard = h; flight_soft = s
    :: else -> goto done
    fi
  };
  atomic {
    if
    :: true -> store(FELLOW, ver, 0); land(ver, 0)
    :: (shown != NONE) -> store(FELLOW, shown, 1); land(shown, 1)
    :: true -> give_up(FELLOW); land(NONE, 0)
    fi
  };
done:
  atomic { forget_seen(); ver = 0; h = 0; s = 0; shown = NONE; goto begin }
}

proctype Writer() {
end:
  do
  :: atomic { (db == 0) -> db = 1 }
  :: atomic { remove_value(); free_lease(); hard_bound = db; fresh_bound = db } /* invalidate(key) */
  :: atomic {                                                                   /* put; its steps are in leases.pml */
       val = db;
       val_hard = hard;
       val_soft = soft;
       val_marked = 0;
       free_lease();
       hard_bound = db;
       fresh_bound = db
     }
  :: atomic { (hard < HARDS) -> hard++; hard_bound = db; fresh_bound = db } /* invalidate(tenant) */
#ifndef NO_SOFT_ATOMIC
  :: atomic { (soft < SOFTS) -> soft++; fresh_bound = db } /* expire(tenant) */
#endif
#ifdef NO_EXPIRE_ATOMIC
  :: val_marked = (val != NONE);
     atomic { free_lease(); fresh_bound = db }
#else
  :: atomic { /* expire(key) */
       val_marked = (val != NONE);
#ifndef NO_EXPIRE_KILL
       free_lease();
#endif
       fresh_bound = db
     }
#endif
  od
}

#ifdef NO_SOFT_ATOMIC
proctype Expire() {
  byte h;
  h = hard;
  atomic { hard = h; soft = 2; fresh_bound = db }
}
#endif

proctype Time() {
end:
  do
  :: atomic { (lease != 0) -> free_lease() }
  :: atomic { (val != NONE) -> remove_value() }
  :: atomic { (val != NONE && !val_marked) -> val_marked = 1 }
  od
}

init {
  atomic {
    run Fetch();
    run Others();
    run Writer();
#ifdef NO_SOFT_ATOMIC
    run Expire();
#endif
    run Time()
  }
}
