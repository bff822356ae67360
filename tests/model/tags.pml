/* Tags: one value that its loader tags, one tag, one tenant. check.cmake runs Spin on it.
 *
 * Claims, for a fetch that begins after an invalidation of the key or of the tag returned:
 * - after a hard one it never yields data loaded before it, also not when its load fails;
 * - after a soft one it never yields such data as fresh;
 * - and no fetch yields a stale copy that was invalidated hard before its load failed.
 *
 * The tenant's stamp has a token for all its tags together. A tag's stamp is a key beside it, in the same slot, with a
 * hard and a soft token. Invalidating a tag replaces its hard token and the tenant's tags token, expiring it the soft
 * one and the tags token; another tag of the tenant moves only the tags token. A value carries the tags token read
 * before its load and the tag's stamp read when the load ends, for only then all tags are known. A reader that finds
 * its tags token in the value is done; any other reads the tag's stamp in a second round trip, and if that is unchanged
 * it may restamp: give the value its tags token, which spares others the second trip. The hard and the soft token of
 * the tenant are left out: stale.pml has them, and they only add misses.
 *
 * The rules, and the macro that removes each; without any one of them Spin must find a violation:
 *   NO_TAGS_MOVE      invalidating a tag moves the tags token, too
 *   NO_MOVE_ATOMIC    both in one step: moving it later stores an older load with the new stamp of the tag
 *   NO_MOVED_TEST     a load stores nothing if the tags token moved while it ran
 *   NO_READ_ATOMIC    when a load ends, the tags token and the tag's stamp are read in one step
 *   NO_SOFT_TEST      a value with another soft token of the tag is not fresh
 *   NO_CHECK_TAG      the check after a failure reads the tag's stamp if the tags token differs
 *   NO_JOIN_TAGS      a flight is joined only if its tags token is the one read within this fetch
 *   NO_NEW_TAG        a lost stamp of a tag is replaced by one that never was, not by a first one
 *   NO_RESTAMP_TEST   a restamp changes only the very value that was read, which the script compares
 *   NO_RESTAMP_EARLY  it gives the value the tags token that was read before the tag's stamp
 *
 * What keeps the model small is told in leases.pml.
 */
#ifndef MOVES
#define MOVES 2 /* how often a tag is invalidated, expired or lost */
#endif

#define NONE 2 /* no value; values are 0 and 1, the data before and after one write */
#define WATCHED 1
#define FELLOW 2

bit db;
bit hard_bound;  /* data older than this must not be seen at all by a fetch that begins now */
bit fresh_bound; /* and not as fresh */

byte val = NONE;
byte val_tags, val_hard, val_soft;
bit val_marked;
byte lease; /* 0: free */
byte lease_tags;
byte tags = 1, tag_hard = 1, tag_soft = 1;
byte moves;

byte flight; /* the tags token of the fellow's flight; 0: none */
bit joined;
byte landed; /* 0: not yet; 1: with a failure; 2 and 3: with data 0 and 1 */

#ifdef NO_SOFT_TEST
#define IS_FRESH (!marked)
#else
#define IS_FRESH (!marked && vs == tag_soft)
#endif
#define MAY_TAKE_LEASE (lease == 0 || lease_tags != t)
#ifdef NO_JOIN_TAGS
#define MAY_JOIN (near && flight != 0)
#else
#define MAY_JOIN (near && flight == t)
#endif

inline read_value() {
  atomic { v = val; vt = val_tags; vh = val_hard; vs = val_soft; marked = val_marked }
}

inline forget_value() {
  atomic { v = NONE; vt = 0; vh = 0; vs = 0; marked = 0 }
}

inline remove_value() {
  atomic { val = NONE; val_tags = 0; val_hard = 0; val_soft = 0; val_marked = 0 }
}

inline free_lease() {
  atomic { lease = 0; lease_tags = 0 }
}

inline take_lease(who) {
  atomic { lease = who; lease_tags = t; ver = db }
}

inline give_up(who) {
  atomic {
    if
    :: (lease == who) -> free_lease()
    :: else
    fi
  }
}

inline compare_token() {
  atomic {
    if
#ifndef NO_MOVED_TEST
    :: (tags != t) -> t = 0 /* store nothing */
#endif
    :: else
    fi
  }
}

inline read_tag() {
  atomic {
    if
    :: (t != 0) -> h = tag_hard; s = tag_soft
    :: else
    fi
  }
}

inline end_load() {
#ifdef NO_READ_ATOMIC
  compare_token();
  read_tag()
#else
  atomic { compare_token(); read_tag() }
#endif
}

inline store(who) {
  atomic {
    if
    :: (lease == who && t != 0) -> val = ver; val_tags = t; val_hard = h; val_soft = s; val_marked = 0
    :: else
    fi;
    give_up(who)
  }
}

proctype Fetch() {
  bit hard_low, fresh_low, marked, near, ver;
  byte v = NONE, vt, vh, vs, t, h, s;
end:
begin:
  /* One round trip to two slots: in either order. */
  if
  :: atomic { hard_low = hard_bound; fresh_low = fresh_bound; read_value(); near = (lease == FELLOW) };
     atomic { t = tags; goto judge }
  :: atomic { hard_low = hard_bound; fresh_low = fresh_bound; t = tags };
     atomic { read_value(); near = (lease == FELLOW); goto judge }
  fi;
judge:
  atomic {
    if
    :: (v == NONE) -> goto miss
    :: (v != NONE && vt == t && !marked) -> assert(v >= fresh_low); goto done
    :: (v != NONE && vt == t && marked) -> goto stale
    :: (v != NONE && vt != t)
    fi
  };
  atomic { /* the second round trip */
    if
    :: (vh != tag_hard) -> goto miss
    :: (vh == tag_hard && IS_FRESH) -> assert(v >= fresh_low); goto done
    :: (vh == tag_hard && !IS_FRESH)
    fi
  };
stale:
  atomic {
    if
    :: assert(v >= hard_low); goto done /* another load has just failed */
    :: goto miss
    fi
  };
miss:
  atomic {
    forget_value();
    if
    :: MAY_JOIN -> joined = 1; near = 0; t = 0; goto follow
    :: true
    fi
  };
  atomic {
    if
    :: MAY_TAKE_LEASE -> take_lease(WATCHED); near = 0
    :: else ->
       near = (lease == FELLOW);
       if
       :: MAY_JOIN -> joined = 1; near = 0; t = 0; goto follow
       :: goto done
       fi
    fi
  };
  if
  :: end_load();
     atomic { assert(ver >= fresh_low); store(WATCHED); goto done }
  :: atomic { hard_low = hard_bound; give_up(WATCHED); t = 0; ver = 0 } /* the load fails */
  fi;
look:
  if
  :: read_value();
     atomic { t = tags; goto check }
  :: t = tags;
     atomic { read_value(); goto check }
  fi;
check:
  atomic {
    if
    :: (v == NONE) -> goto done
#ifdef NO_CHECK_TAG
    :: (v != NONE) -> assert(v >= hard_low); goto done
#else
    :: (v != NONE && vt == t) -> assert(v >= hard_low); goto done
    :: (v != NONE && vt != t)
#endif
    fi
  };
  atomic {
    if
    :: (vh == tag_hard) -> assert(v >= hard_low)
    :: else
    fi;
    goto done
  };
follow:
  atomic {
    if
    :: (landed == 1) -> landed = 0; hard_low = hard_bound; goto look
    :: (landed > 1) -> assert(landed - 2 >= fresh_low)
    fi
  };
done:
  atomic {
    forget_value();
    near = 0;
    ver = 0;
    t = 0;
    h = 0;
    s = 0;
    hard_low = 0;
    fresh_low = 0;
    landed = 0;
    goto begin
  }
}

inline land(how) {
  atomic {
    flight = 0;
    if
    :: joined -> joined = 0; landed = how
    :: else
    fi
  }
}

/* What other fetches do: loads, and restamps. */
proctype Others() {
  bit marked, ver;
  byte v = NONE, vt, vh, vs, t, h, s;
end:
begin:
  if
  :: t = tags
  :: read_value();
     t = tags;
     goto restamp
  :: t = tags;
     read_value();
     goto restamp
  fi;
  atomic {
    if
    :: MAY_TAKE_LEASE -> take_lease(FELLOW); flight = t
    :: else -> goto done
    fi
  };
  if
  :: end_load();
     atomic { store(FELLOW); land(2 + ver); goto done }
  :: atomic { true -> give_up(FELLOW); land(1); goto done }
  fi;
restamp:
  atomic {
    if
    :: (v != NONE && vt != t && vh == tag_hard && vs == tag_soft)
    :: else -> goto done
    fi
  };
#ifdef NO_RESTAMP_EARLY
  t = tags;
#endif
  atomic {
    if
#ifdef NO_RESTAMP_TEST
    :: true -> val = v; val_tags = t; val_hard = vh; val_soft = vs; val_marked = marked
#else
    :: (val == v && val_tags == vt && val_hard == vh && val_soft == vs && val_marked == marked) -> val_tags = t
#endif
    :: else
    fi
  };
done:
  atomic { forget_value(); ver = 0; t = 0; h = 0; s = 0; goto begin }
}

proctype Writer() {
end:
  do
  :: atomic { (db == 0) -> db = 1 }
  :: atomic { remove_value(); free_lease(); hard_bound = db; fresh_bound = db }         /* invalidate(key) */
  :: atomic { val_marked = (val != NONE); free_lease(); fresh_bound = db }              /* expire(key) */
  :: atomic { (moves < MOVES) -> moves++; tags++ }                                               /* another tag */
#if defined(NO_TAGS_MOVE)
  :: atomic { (moves < MOVES) -> moves++; tag_hard++; hard_bound = db; fresh_bound = db }
#elif defined(NO_MOVE_ATOMIC)
  :: atomic { (moves < MOVES) -> moves++; tag_hard++ };
     atomic { tags++; hard_bound = db; fresh_bound = db }
#else
  :: atomic { (moves < MOVES) -> moves++; tag_hard++; tags++; hard_bound = db; fresh_bound = db } /* invalidate(tag) */
#endif
  :: atomic { (moves < MOVES) -> moves++; tag_soft++; tags++; fresh_bound = db }                  /* expire(tag) */
  od
}

proctype Time() {
end:
  do
  :: atomic { (lease != 0) -> free_lease() }
  :: atomic { (val != NONE) -> remove_value() }
#ifdef NO_NEW_TAG
  :: tag_hard = 1
#else
  :: atomic { (moves < MOVES) -> moves++; tag_hard++ }
#endif
  od
}

init {
  atomic { run Fetch(); run Others(); run Writer(); run Time() }
}
