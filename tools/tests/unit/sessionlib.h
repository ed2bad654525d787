/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whole sessions, both sides, each in a thread, on mem domains over a link that can be broken: no
 * Xen needed.
 *
 * Every session runs in verify mode, so each checkpoint proves both copies equal; the guests of
 * both sides write between checkpoints, and what the secondary's wrote must be undone.
 */
#ifndef SESSIONLIB_H
#define SESSIONLIB_H

#include "testlib.h"

#include <pthread.h>

#include "libxl_colo_session.h"

struct sl_side {
    struct colo_session s;
    struct colo_err err;
    enum colo_restore_end end; /* secondary */
    pthread_t thread;
};

/* What the primary does once it has made stop_at checkpoints. */
enum sl_stop {
    SL_CANCEL,   /* it ends the session */
    SL_FREEZE,   /* it falls silent, its stream stays open */
    SL_FAILOVER, /* an operator at the secondary declares it dead; it goes on */
    SL_STOP,     /* an operator at the secondary ends the session; it goes on */
};

struct sl_pair {
    struct tl_link *link;
    struct sl_side p, q;
    enum sl_stop stop;
    unsigned int stop_at;
    unsigned int
        freeze_in; /* the primary falls silent in the middle of this checkpoint; 0: never */
    unsigned int linger_ms; /* how long the primary keeps its stream open after its session */
    unsigned int writes;
    bool became_guest; /* the secondary's copy */

    /* private */
    struct colo_monitor monitor;   /* the secondary's */
    struct xc_sr_domain *image[2]; /* the primary's guest at its last two checkpoints, and */
    uint64_t image_of[2];          /* which these were */
    int monitor_fd;                /* the monitor's end */
    int cancel_fd;                 /* the primary's */
    int event_fd; /* always readable: the primary's hook runs at each turn of its loop */
    int over_fd;  /* the secondary has ended: a frozen primary wakes up */
    uint64_t rng;
};

/* One pair at a time.  After opening, a test changes stop, freeze_in and the sides' sessions. */
void sl_open(struct sl_pair *t, const struct tl_rule *forward, const struct tl_rule *back,
             unsigned int stop_at);
/* How long both sides wait for a sign of life; half a second at first. */
void sl_silence(struct sl_pair *t, unsigned int ms);
void sl_run(struct sl_pair *t);
void sl_close(struct sl_pair *t);

/* The guest of the primary must never be left stopped, whatever the end was, unless the secondary
 * has said that the guest is its own: then it must stand still. */
void sl_assert_primary_runs(struct sl_pair *t);
/* The copy holds the last whole checkpoint and what it wrote itself since, and nothing else. */
void sl_assert_whole(struct sl_pair *t);
/* The copy has become the guest, and is whole. */
void sl_assert_taken(struct sl_pair *t);

#endif
