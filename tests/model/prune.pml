/* The protocol of section "Prune" of repo-format.md, for spin.
 *
 * One blob. It lies in pack 0, and perhaps in 1; a writer may store it again in packs 2 and 3. Two writers back it up, two
 * prunes delete packs, each process may sleep for ever between any two steps. What is written becomes visible to
 * others some time later; a wait of one staleness ends when all that was written before it is visible.
 *
 * Safe: once a writer has reported success, some pack holds the blob, at every moment after. Only a success and a
 * deletion can break that, so it is asserted there.
 *
 * Each of these, defined, is a mistake that must be found:
 *   NO_LOOK_AFTER_SNAPSHOT   a writer does not list dooms after its snapshot
 *   NO_LOOK_BEFORE_DELETE    a prune deletes without looking again
 *   ONE_WAIT                 a prune waits for one staleness instead of two
 *   LOOK_BEFORE_SNAPSHOT     a writer lists dooms before its snapshot is written, and not after
 *   COUNT_ON_DOOMED          a prune counts on a copy that another prune has doomed
 *   SPARED_IS_GOOD_AGAIN     writers lean on a doomed pack once its prune has ended, and do not mind its doom
 */
#define PACKS 4
#define SNAPSHOTS 4
/* How many of them there may come to be; -DLIMIT=4 takes ten times as long and finds no more. */
#ifndef LIMIT
#define LIMIT 3
#endif

bool present[PACKS];            /* the pack is in the store */
bool doomed[PACKS];             /* a doom that names it was written */
bool doom_seen[PACKS];          /* and everybody's list shows it */
bool ended[PACKS];              /* the prune that doomed it has ended */
bool snapshot[SNAPSHOTS];       /* the snapshot was written */
bool snapshot_seen[SNAPSHOTS];  /* and everybody's list shows it */
byte packs_used = 2;
byte snapshots_used = 0;
bool success = false;

#define HELD (present[0] || present[1] || present[2] || present[3])
#define FOUND ((present[0] && !SHUNNED(0)) || (present[1] && !SHUNNED(1)) || (present[2] && !SHUNNED(2)) || (present[3] && !SHUNNED(3)))
#define SAFE assert(!success || HELD)
#define NEEDED (snapshot_seen[0] || snapshot_seen[1] || snapshot_seen[2] || snapshot_seen[3])

#ifdef SPARED_IS_GOOD_AGAIN
#define SHUNNED(p) (doom_seen[p] && !ended[p])
#else
#define SHUNNED(p) (doom_seen[p])
#endif

/* Whatever was written becomes visible in any order, or never unless somebody waits for it. */
active proctype store() {
end:
    do
    :: atomic { doomed[0] && !doom_seen[0] -> doom_seen[0] = true }
    :: atomic { snapshot[0] && !snapshot_seen[0] -> snapshot_seen[0] = true }
    :: atomic { doomed[1] && !doom_seen[1] -> doom_seen[1] = true }
    :: atomic { snapshot[1] && !snapshot_seen[1] -> snapshot_seen[1] = true }
    :: atomic { doomed[2] && !doom_seen[2] -> doom_seen[2] = true }
    :: atomic { snapshot[2] && !snapshot_seen[2] -> snapshot_seen[2] = true }
    :: atomic { doomed[3] && !doom_seen[3] -> doom_seen[3] = true }
    :: atomic { snapshot[3] && !snapshot_seen[3] -> snapshot_seen[3] = true }
    od
}

proctype writer() {
    byte leaned, own, tries = 0;
    bool overtaken;
again:
    tries++;
    /* It leans on any copy that it may lean on, or stores the blob. */
    if
    :: present[0] && !SHUNNED(0) -> leaned = 0
    :: present[1] && !SHUNNED(1) -> leaned = 1
    :: atomic { packs_used < LIMIT -> leaned = packs_used; packs_used++ };
       present[leaned] = true
    fi;
#ifdef LOOK_BEFORE_SNAPSHOT
    overtaken = !FOUND;
#endif
    atomic { snapshots_used < LIMIT -> own = snapshots_used; snapshots_used++; snapshot[own] = true };
#ifdef NO_LOOK_AFTER_SNAPSHOT
    overtaken = false;
#else
#ifndef LOOK_BEFORE_SNAPSHOT
    overtaken = !FOUND;
#endif
#endif
    if
    :: overtaken && tries < 2 -> goto again
    :: overtaken && tries >= 2 -> skip      /* it reports failure */
    :: !overtaken -> atomic { success = true; SAFE }
    fi
}

/* Is there a copy besides `v` that a deletion may count on? */
#ifdef COUNT_ON_DOOMED
#define OTHER(v) ((v != 0 && present[0]) || (v != 1 && present[1]) || (v != 2 && present[2]) || (v != 3 && present[3]))
#else
#define OTHER(v) ((v != 0 && present[0] && !doom_seen[0]) || (v != 1 && present[1] && !doom_seen[1]) || (v != 2 && present[2] && !doom_seen[2]) || (v != 3 && present[3] && !doom_seen[3]))
#endif

proctype prune() {
    byte v;
    bool go, before[SNAPSHOTS];
    /* Any pack: what made it look unneeded may have changed since. */
    if
    :: v = 0
    :: v = 1
    :: v = 2
    :: v = 3
    fi;
    present[v];
    doomed[v] = true;
    /* The first staleness: from now on every list shows the doom. */
    atomic {
        doom_seen[v] = true;
        before[0] = snapshot[0]; before[1] = snapshot[1]; before[2] = snapshot[2]; before[3] = snapshot[3]
    };
#ifndef ONE_WAIT
    /* The second: what was written before the first ended is visible, later things may be or not. */
    ((!before[0] || snapshot_seen[0]) && (!before[1] || snapshot_seen[1])
        && (!before[2] || snapshot_seen[2]) && (!before[3] || snapshot_seen[3]));
#endif
#ifdef NO_LOOK_BEFORE_DELETE
    go = true;
#else
    /* Dooms are listed after the snapshots were read. */
    go = !NEEDED;
    if
    :: go
    :: else -> go = OTHER(v)
    fi;
#endif
    if
    :: go -> atomic { present[v] = false; SAFE }
    :: else
    fi;
    ended[v] = true
}

init {
    present[0] = true;
    if
    :: present[1] = true
    :: skip
    fi;
    atomic { run writer(); run writer(); run prune(); run prune() }
}
