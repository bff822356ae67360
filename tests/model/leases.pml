/* Leases, fences and stamps of the cache: one key of one tenant. check.cmake runs Spin on it.
 *
 * Claim: a fetch that begins after an invalidation returned never yields data loaded before it, and never waits for a
 * load that began before it. A put is an invalidation that also stores.
 *
 * Redis holds the value with the stamp it was loaded under, the lease with its token and the stamp it was taken under,
 * and the tenant's stamp, in a slot of its own: so readers compare stamps, scripts do not. Each atomic block is one
 * command or one script. Lease and value may expire at any moment. The stamp may be lost, and is then made anew.
 *
 * The rules, and the macro that removes each; without any one of them Spin must find a violation:
 *   NO_FENCE         a load stores only while the lease holds its token
 *   NO_UNIQUE_TOKEN  each attempt has a token of its own, not each process
 *   NO_RENEWAL_TEST  a load renews its lease only while that holds its token
 *   NO_EARLY_STAMP   a value carries the stamp read before its load
 *   NO_NEW_STAMP     a lost stamp is replaced by one that never was, not by a first one
 *   NO_KILL          invalidating the key deletes the lease, in the same command
 *   NO_PUT_KILL      a put deletes the lease, in the same script
 *   NO_TICKET_TEST   a put of what was read from the database stores only while the lease is its ticket
 *   NO_EARLY_TICKET  the ticket is taken before the database is read
 *   NO_TAKEOVER      a lease taken under another stamp is taken over at once
 *   NO_JOIN_LEASE    a flight is joined only if the lease, read within this fetch, holds its token
 *   NO_JOIN_STAMP    a flight is joined only if it has the stamp read within this fetch
 *   NO_WITHDRAWAL    a flight whose request for its lease is not answered in time takes no more fetches along: its load
 *                    runs all the same, and the request may still be executed when that has long read the database
 *
 * How the model stays small, and why that loses nothing:
 * - All writes to the database before one of them count as the old data, 0, and all from it on as the new data, 1.
 * - One fetch is watched, again and again. Other fetches act on it only by their loads and puts, and those are here:
 *   from the watched fetch's process (its flight can be joined) and from elsewhere.
 * - A fetch that waits for a lease begins again when it wakes: that is a watched fetch of its own.
 * - A load reads the database as soon as it has the lease; what it read later could only be newer.
 * - An invalidation counts from the moment it acts, which is before it returns.
 */
#ifndef STAMPS
#define STAMPS 3 /* how many the tenant has, one after another */
#endif

#define NONE 2 /* no value; values are 0 and 1 */
#define WATCHED 1
#define FELLOW 2
#define ELSEWHERE 3

#ifdef NO_UNIQUE_TOKEN
#define TOKEN(who) (who == FELLOW -> WATCHED : who)
#else
#define TOKEN(who) who
#endif
#ifdef NO_FENCE
#define MAY_STORE(who) true
#else
#define MAY_STORE(who) (lease == TOKEN(who))
#endif
#ifdef NO_TICKET_TEST
#define MAY_PUT(who) true
#else
#define MAY_PUT(who) (lease == TOKEN(who))
#endif
#ifdef NO_EARLY_STAMP
#define STAMP_OF_VALUE stamp
#else
#define STAMP_OF_VALUE s
#endif
#ifdef NO_TAKEOVER
#define MAY_TAKE_LEASE (lease == 0)
#else
#define MAY_TAKE_LEASE (lease == 0 || lease_stamp != s)
#endif
#if defined(NO_JOIN_LEASE)
#define MAY_JOIN (flight != 0 && flight == s)
#elif defined(NO_JOIN_STAMP)
#define MAY_JOIN (near && flight != 0)
#else
#define MAY_JOIN (near && flight == s)
#endif

bit db;
bit bound; /* data older than this must not be seen by a fetch that begins now */

byte val = NONE;
byte val_stamp;
byte lease; /* 0: free */
byte lease_stamp;
bit lease_db; /* the database when the lease was taken */
byte stamp = 1;

byte flight; /* the stamp of the fellow's flight; 0: none */
byte sent;   /* the stamp of the fellow's request for a lease that is not executed yet; 0: none */
bit joined;  /* the watched fetch waits for it */
byte landed = NONE;

inline read_value() {
  atomic { v = val; vs = val_stamp; near = (lease == TOKEN(FELLOW)) }
}

inline free_lease() {
  atomic { lease = 0; lease_stamp = 0; lease_db = 0 }
}

/* The loader reads the database in the same step, see above. */
inline take_lease(who) {
  atomic { lease = TOKEN(who); lease_stamp = s; lease_db = db; ver = db }
}

/* A renewal changes nothing while the lease is the load's own. */
#ifdef NO_RENEWAL_TEST
#define RENEW_LEASE(who)                                                        \
  if                                                                            \
  :: atomic { lease = TOKEN(who); lease_stamp = s; lease_db = ver }             \
  :: true                                                                       \
  fi;
#else
#define RENEW_LEASE(who)
#endif

inline store(who) {
  atomic {
    if
    :: MAY_STORE(who) -> val = ver; val_stamp = STAMP_OF_VALUE
    :: else
    fi;
    if
    :: (lease == TOKEN(who)) -> free_lease()
    :: else
    fi
  }
}

proctype Fetch() {
  bit low, near, ver;
  byte v = NONE, vs, s;
end:
begin:
  /* One round trip to two slots: in either order. */
  if
  :: atomic { low = bound; read_value() };
     atomic { s = stamp; goto judge }
  :: atomic { low = bound; s = stamp };
     atomic { read_value(); goto judge }
  fi;
judge:
  atomic {
    if
    :: (v != NONE && vs == s) -> assert(v >= low); goto done
    :: else -> v = NONE; vs = 0
    fi;
    if
    :: MAY_JOIN -> joined = 1; s = 0; near = 0; goto follow
    :: near = 0 /* not every fetch that may join comes in time */
    fi
  };
  /* The script answers with the lease that is in the way. */
  atomic {
    if
    :: MAY_TAKE_LEASE -> take_lease(WATCHED); goto load
    :: else ->
       assert(lease_db >= low);
       near = (lease == TOKEN(FELLOW));
       if
       :: MAY_JOIN -> joined = 1; s = 0; near = 0; goto follow
       :: goto done
       fi
    fi
  };
load:
  RENEW_LEASE(WATCHED)
  atomic { assert(ver >= low); store(WATCHED); goto done };
follow:
  atomic { (landed != NONE) -> assert(landed >= low) };
done:
  atomic { low = 0; near = 0; ver = 0; v = NONE; vs = 0; s = 0; landed = NONE; goto begin }
}

/* What the other fetches of this key do: loads, and puts with a ticket. */
proctype Others(byte me) {
  bit ver;
  byte s;
end:
begin:
  s = stamp;
  if
  :: atomic {
       MAY_TAKE_LEASE -> take_lease(me);
       if
       :: (me == FELLOW) -> flight = s
       :: else
       fi
     };
     RENEW_LEASE(me)
     atomic {
       store(me);
       if
       :: (me == FELLOW) -> flight = 0
       :: else
       fi;
       if
       :: (me == FELLOW && joined) -> joined = 0; landed = ver
       :: else
       fi;
       ver = 0;
       s = 0;
       goto begin
     }
#ifdef NO_EARLY_TICKET
  :: ver = db;
     s = stamp;
     atomic { lease = TOKEN(me); lease_stamp = s; lease_db = db };
#else
  :: take_lease(me);
#endif
     atomic {
       if
       :: MAY_PUT(me) -> val = ver; val_stamp = s
       :: else
       fi;
       if
       :: (lease == TOKEN(me)) -> free_lease()
       :: else
       fi;
       ver = 0;
       s = 0;
       goto begin
     }
  :: atomic { (me == FELLOW) -> flight = s; sent = s };
     /* Its patience is over: it loads without knowing of a lease, and stores nothing. */
     atomic {
       ver = db;
#ifndef NO_WITHDRAWAL
       flight = 0
#endif
     };
     atomic {
       flight = 0;
       if
       :: joined -> joined = 0; landed = ver
       :: else
       fi;
       ver = 0;
       s = 0
     };
     /* The next load has another token. */
     atomic { (sent == 0 && lease != TOKEN(me)) -> goto begin }
  :: atomic { s = 0; goto begin } /* a hit, or a wait */
  fi
}

proctype Writer() {
  byte s;
end:
  do
  :: atomic { (db == 0) -> db = 1 }
  :: atomic { /* invalidate(key) */
       val = NONE;
       val_stamp = 0;
#ifndef NO_KILL
       free_lease();
#endif
       bound = db
     }
  :: atomic { (stamp < STAMPS) -> stamp++; bound = db } /* invalidate(tenant) */
  :: s = stamp; /* put, by the one who writes the database */
     atomic {
       val = db;
       val_stamp = s;
#ifndef NO_PUT_KILL
       free_lease();
#endif
       bound = db;
       s = 0
     }
  od
}

proctype Time() {
end:
  do
  :: atomic { (lease != 0) -> free_lease() }
  :: atomic { (val != NONE) -> val = NONE; val_stamp = 0 }
  :: atomic { (sent != 0) -> sent = 0 }
  :: atomic {
       (sent != 0 && (lease == 0 || lease_stamp != sent)) ->
       lease = TOKEN(FELLOW);
       lease_stamp = sent;
       lease_db = db;
       sent = 0
     }
#ifdef NO_NEW_STAMP
  :: stamp = 1
#else
  :: atomic { (stamp < STAMPS) -> stamp++ }
#endif
  od
}

init {
  atomic { run Fetch(); run Others(FELLOW); run Others(ELSEWHERE); run Writer(); run Time() }
}
