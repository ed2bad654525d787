/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One guest's proxy on one host: what its files share.
 *
 * Each NIC has two taps of ours.  The guest's own tap is wired to the first one, both ways: what the
 * guest sends is read there, what is written there the guest gets.  The second one is on the bridge
 * instead of the guest's tap (the secondary's: once it has taken over).
 *
 *   primary    guest -> engine -> bridge        bridge -> link (CLIENT), engine, guest
 *              link (GUEST) -> engine
 *   secondary  guest -> rewriter, link (GUEST)  link (CLIENT) -> rewriter -> guest
 *   taken over guest -> rewriter -> bridge      bridge -> rewriter -> guest
 *
 * A checkpoint, as the two frames of reference pass it (N is its number):
 *   hold N        before the copies are suspended: the guest gets nothing more.  P tells S where in
 *                 what it passed on that was (BARRIER N)
 *   checkpoint N  S, when its copy is what P's is: what its copy sent before counts for nothing, and
 *                 what clients sent before BARRIER N its copy has; says MARK N.  P, when S is ready:
 *                 lets out what it holds, forgets what S sent before MARK N
 */
#ifndef PROXY_H
#define PROXY_H

#include "colo_compare.h"
#include "colo_rewrite.h"
#include "proxy_link.h"
#include "proxy_links.h"

#define PROXY_PENDING 8 /* connections that have not said HELLO yet */

enum proxy_phase {
    PROXY_PHASE_NEW,      /* no NICs yet */
    PROXY_PHASE_PASS,     /* P: frames go by; S: the copy does not run yet */
    PROXY_PHASE_LOCKSTEP, /* from the first checkpoint on */
    PROXY_PHASE_TAKEN,    /* S's copy is the guest */
    PROXY_PHASE_ASIDE,    /* the guest's tap is on the bridge again; to end */
};
const char *proxy_phase_name(enum proxy_phase phase);

struct proxy_nic {
    struct proxy_links links;
    int guest_fd, port_fd;        /* of links.guest and links.port */
    bool guest_idle, port_idle;   /* not polled now */
    bool guest_gone, port_gone;   /* the tap has vanished */
    struct colo_compare *compare; /* primary */
    struct colo_rewrite *rewrite; /* secondary */
    uint8_t *refused;             /* a frame for which the engine had no room */
    uint32_t refused_len;
    struct colo_divergence last; /* why a checkpoint was last asked for */
    uint64_t to_guest, to_guest_bytes, from_guest, from_guest_bytes;
    uint64_t link_dropped; /* frames for which the link had no room */
    uint64_t stale;        /* frames of before a checkpoint, dropped after it */
};

struct proxy {
    bool secondary;
    enum proxy_phase phase;
    enum colo_mode mode; /* of the lock-step */
    bool held;           /* between hold and checkpoint */
    uint64_t checkpoint; /* the last one that we were told of */
    uint64_t barrier;    /* S: the last BARRIER; P: the last we sent */
    uint64_t mark;       /* P: the last MARK */
    struct proxy_nic nic[PROXY_MAX_NICS];
    uint32_t nr_nics;
    struct proxy_link *link;
    bool link_lost;
    struct colo_err link_err;
    uint8_t frame[COLO_FRAME_MAX];
    colo_time now;
};

/* ---- proxy_forward.c ---- */

/* The taps' fds must be non-blocking and give and take one frame a call. */
int proxy_nic_start(struct proxy *p, struct proxy_nic *nic,
                    const struct colo_compare_config *limits, struct colo_err *err);
void proxy_nic_fini(struct proxy_nic *nic); /* closes the fds */

/* Frames are there.  -1 when the tap has gone. */
int proxy_from_guest(struct proxy *p, struct proxy_nic *nic, struct colo_err *err);
int proxy_from_bridge(struct proxy *p, struct proxy_nic *nic, struct colo_err *err);
/* Whether to wait for them now; a tap that is not read keeps what it has, as far as it can. */
bool proxy_reads_guest(const struct proxy *p, const struct proxy_nic *nic);
bool proxy_reads_bridge(const struct proxy *p, const struct proxy_nic *nic);

/* Messages are there.  A link that is lost is noted (link_lost, link_err), and freed. */
void proxy_from_link(struct proxy *p);
bool proxy_reads_link(const struct proxy *p);
void proxy_lose_link(struct proxy *p, const struct colo_err *why);

/* ---- proxy_steps.c: what the toolstack asks for ---- */
int proxy_hold(struct proxy *p, uint64_t checkpoint, struct colo_err *err);
int proxy_checkpoint(struct proxy *p, uint64_t checkpoint, struct colo_err *err);
/* P: frames go by from now on, and what is held goes out; the lock-step is over. */
void proxy_pass(struct proxy *p);
/* S: the copy is the guest. */
int proxy_takeover(struct proxy *p, struct colo_err *err);
/* How many connections of all NICs still need rewriting. */
uint32_t proxy_rewriting(struct proxy *p);
/* The guest's frames take the bridge directly again: read what is left in the taps and pass it on. */
void proxy_drain(struct proxy *p);

#endif
