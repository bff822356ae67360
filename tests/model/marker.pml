/* The failure marker: after a failed load, fetches are turned away for a while. One key of one tenant. check.cmake runs
 * Spin on it.
 *
 * Claim: a fetch that begins after the key or its tenant was invalidated, hard or soft, or after a put, is not turned
 * away by the failure of a load that began before: not by its marker, and not by waiting for it.
 *
 * A load that fails frees its lease and leaves a marker with the stamps it had read, in one script. The marker expires
 * by itself. A fetch that finds no fresh value reads the marker with the value, and is turned away while the marker's
 * stamps are the tenant's: it serves its stale copy, or throws. Hard and soft tokens are one stamp here: any change
 * voids the marker.
 *
 * The rules, and the macro that removes each; without any one of them Spin must find a violation:
 *   NO_STAMP_TEST      a marker counts only while it has the tenant's stamps
 *   NO_EARLY_STAMP     a marker has the stamps read before the load, not those at its failure
 *   NO_FENCE           a load leaves a marker only while the lease holds its token
 *   NO_KILL            invalidate(key), expire(key) and put delete the lease, so that an older load leaves no marker
 *   NO_REMOVAL         invalidate(key) and put delete the marker, in the same step
 *   NO_EXPIRE_REMOVAL  so does expire(key)
 *   NO_JOIN_RULE       a flight is joined only if the lease holds its token and its stamp was read within this fetch
 *
 * What keeps the model small is told in leases.pml. Values are left out: a fetch that finds a fresh one does nothing.
 */
#ifndef STAMPS
#define STAMPS 3 /* how many the tenant has, one after another */
#endif

#define WATCHED 1
#define FELLOW 2
#define ELSEWHERE 3

bit db;
bit bound; /* a load that began on older data must not turn away a fetch that begins now */

byte lease, lease_stamp; /* 0: free */
byte marker;             /* its stamp; 0: no marker */
bit marker_db;           /* the database when the load that failed began */
byte stamp = 1;

byte flight; /* the stamp of the fellow's flight; 0: none */
bit joined;  /* the watched fetch waits for it */
bit landed, landed_db;

#ifdef NO_STAMP_TEST
#define TURNED_AWAY (m != 0)
#else
#define TURNED_AWAY (m == s)
#endif
#ifdef NO_EARLY_STAMP
#define STAMP_OF_MARKER stamp
#else
#define STAMP_OF_MARKER s
#endif
#ifdef NO_FENCE
#define MAY_MARK(who) true
#else
#define MAY_MARK(who) (lease == who)
#endif
#define MAY_TAKE_LEASE (lease == 0 || lease_stamp != s)
#ifdef NO_JOIN_RULE
#define MAY_JOIN (flight != 0)
#else
#define MAY_JOIN (near && flight == s)
#endif

inline read_marker() {
  atomic { m = marker; m_db = marker_db; near = (lease == FELLOW) }
}

inline remove_marker() {
  atomic { marker = 0; marker_db = 0 }
}

inline free_lease() {
  atomic { lease = 0; lease_stamp = 0 }
}

inline take_lease(who) {
  atomic { lease = who; lease_stamp = s; load_db = db }
}

inline give_up(who) {
  atomic {
    if
    :: (lease == who) -> free_lease()
    :: else
    fi
  }
}

inline fail(who) {
  atomic {
    if
    :: MAY_MARK(who) -> marker = STAMP_OF_MARKER; marker_db = load_db
    :: else
    fi;
    give_up(who)
  }
}

proctype Fetch() {
  bit low, near, m_db, load_db;
  byte m, s;
end:
begin:
  /* One round trip to two slots: in either order. */
  if
  :: atomic { low = bound; read_marker() };
     atomic { s = stamp; goto judge }
  :: atomic { low = bound; s = stamp };
     atomic { read_marker(); goto judge }
  fi;
judge:
  atomic {
    if
    :: TURNED_AWAY -> assert(m_db >= low); goto done
    :: else
    fi;
    m = 0;
    m_db = 0;
    if
    :: MAY_JOIN -> joined = 1; near = 0; s = 0; goto follow
    :: true
    fi
  };
  atomic {
    if
    :: MAY_TAKE_LEASE -> take_lease(WATCHED); near = 0
    :: else ->
       near = (lease == FELLOW);
       if
       :: MAY_JOIN -> joined = 1; near = 0; s = 0; goto follow
       :: goto done
       fi
    fi
  };
  if
  :: atomic { true -> give_up(WATCHED); goto done } /* it stores a value, of no matter here */
  :: atomic { assert(load_db >= low); fail(WATCHED); goto done }
  fi;
follow:
  atomic { landed -> assert(landed_db >= low) };
done:
  atomic { low = 0; near = 0; m_db = 0; load_db = 0; m = 0; s = 0; landed = 0; landed_db = 0; goto begin }
}

proctype Others(byte me) {
  bit load_db;
  byte s;
end:
begin:
  s = stamp;
  atomic {
    if
    :: MAY_TAKE_LEASE -> take_lease(me)
    :: else -> goto done
    fi;
    if
    :: (me == FELLOW) -> flight = s
    :: else
    fi
  };
  atomic {
    if
    :: true -> give_up(me)
    :: true -> fail(me)
    fi;
    if
    :: (me == FELLOW) -> flight = 0
    :: else
    fi;
    if
    :: (me == FELLOW && joined) -> joined = 0; landed = 1; landed_db = load_db
    :: else
    fi
  };
done:
  atomic { load_db = 0; s = 0; goto begin }
}

proctype Writer() {
end:
  do
  :: atomic { (db == 0) -> db = 1 }
  :: atomic { /* invalidate(key), put */
#ifndef NO_REMOVAL
       remove_marker();
#endif
#ifndef NO_KILL
       free_lease();
#endif
       bound = db
     }
  :: atomic { /* expire(key) */
#ifndef NO_EXPIRE_REMOVAL
       remove_marker();
#endif
#ifndef NO_KILL
       free_lease();
#endif
       bound = db
     }
  :: atomic { (stamp < STAMPS) -> stamp++; bound = db } /* invalidate(tenant) or expire(tenant) */
  od
}

proctype Time() {
end:
  do
  :: atomic { (lease != 0) -> free_lease() }
  :: atomic { (marker != 0) -> remove_marker() }
  od
}

init {
  atomic { run Fetch(); run Others(FELLOW); run Others(ELSEWHERE); run Writer(); run Time() }
}
