/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The states of a session, the legal ways between them, and what `xl colo-status` shows of it.
 */
#ifndef LIBXL_COLO_STATE_H
#define LIBXL_COLO_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "colo_err.h"

enum colo_role { COLO_PRIMARY, COLO_SECONDARY };

enum colo_state {
    COLO_STATE_INIT,               /* connecting, preflight, building the secondary */
    COLO_STATE_PRECOPY,            /* first image under way, guest runs on the primary only */
    COLO_STATE_DISK_SYNC,          /* waiting for the disks' first sync */
    COLO_STATE_LOCKSTEP,           /* both copies run */
    COLO_STATE_CHECKPOINT_SUSPEND, /* both copies are being suspended */
    COLO_STATE_CHECKPOINT_SEND,    /* primary: pages and states go out */
    COLO_STATE_CHECKPOINT_STAGE,   /* secondary: they come in, nothing is touched */
    COLO_STATE_CHECKPOINT_APPLY,   /* secondary applies; primary waits for SVM_READY */
    COLO_STATE_CHECKPOINT_RESUME,  /* both copies are being resumed */
    COLO_STATE_TAKEOVER,           /* secondary: becoming the guest */
    COLO_STATE_UNPROTECTED,        /* the guest runs here, with no second copy */
    COLO_STATE_GUEST_DOWN,         /* the guest shut itself down, rebooted or crashed */
    COLO_STATE_ENDED,              /* nothing of the session is left on this host */
    COLO_NR_STATES,
};

const char *colo_state_name(enum colo_state s); /* "LOCKSTEP" */
const char *colo_role_name(enum colo_role r);   /* "primary" */
bool colo_state_legal(enum colo_role role, enum colo_state from, enum colo_state to);

/* Why a checkpoint was made. */
enum colo_trigger {
    COLO_TRIGGER_FIRST,
    COLO_TRIGGER_PERIOD,
    COLO_TRIGGER_REQUEST,    /* xl colo-checkpoint */
    COLO_TRIGGER_DIVERGENCE, /* the comparer asked for it */
    COLO_NR_TRIGGERS,
};
const char *colo_trigger_name(enum colo_trigger t); /* "period" */

#define COLO_PAUSE_SAMPLES 1024

/* The steps of a pause, nanoseconds, of one checkpoint. */
struct colo_pause_steps {
    int64_t suspend;      /* vCPUs and device model stopped */
    int64_t peer_suspend; /* waiting for SVM_SUSPENDED and its list, beyond our own work */
    int64_t dirty_log;    /* reading our log, merging the list */
    int64_t pages_map;    /* mapping */
    int64_t pages_write;  /* writing to the peer */
    int64_t context;      /* TSC, HVM context, params */
    int64_t device_save;  /* waiting for QEMU beyond our own work */
    int64_t peer_apply;   /* CHECKPOINT_END to SVM_READY */
    int64_t resume;
    int64_t total;
    /* told by the peer */
    int64_t svm_suspend, svm_stage, svm_device_load, svm_memory, svm_context, svm_dirty_log;
};

/* How often the copies' output differed, for one of the comparer's reasons ("payload"). */
#define COLO_MAX_DIFFERENCES 16
struct colo_difference {
    char why[24]; /* "" = not used, nor any after it */
    uint64_t count;
};

struct colo_status {
    enum colo_role role;
    enum colo_state state;
    char guest[128];
    char uuid[40]; /* of the guest */
    char peer[128];
    char session[40]; /* uuid */
    uint64_t generation;
    uint32_t domid;
    int64_t started_wall, protected_since_wall; /* seconds since the epoch, 0 = not yet */

    uint64_t checkpoints;
    uint64_t triggers[COLO_NR_TRIGGERS];
    uint32_t interval_max_ms, interval_min_ms, heartbeat_ms, heartbeat_misses;

    int64_t pause_ns[COLO_PAUSE_SAMPLES]; /* ring, of checkpoints % COLO_PAUSE_SAMPLES */
    uint64_t pauses;                      /* samples ever put in */
    struct colo_pause_steps last_steps;

    /* last checkpoint, pages; and totals */
    uint64_t p_dirty, s_dirty, union_dirty, sent;
    uint64_t total_sent, bytes_out, bytes_in;
    uint64_t staging_peak;
    uint64_t mem_pages; /* the guest's size */

    /* first sync */
    uint64_t sync_done, sync_total; /* pages of this round */
    uint32_t sync_round;
    int64_t sync_ns;     /* how long the first sync took, 0 = not over */
    int64_t takeover_ns; /* peer judged lost to guest running here; 0 = none */

    uint64_t verified; /* checkpoints whose copies were proved equal */
    struct colo_difference differences[COLO_MAX_DIFFERENCES];
    char last_difference[240]; /* the flow and the first packet of it, for people */
    char network[24];          /* "pass" until the proxy of a session says otherwise */
    char disks[64];            /* "none", "copying, 5 of 32 MiB", "replicated", "not replicated" */
    char policy[64];           /* what was decided on peer loss, and by which rule */
    char last_reason[40];      /* stable word */
    char last_error[448];
};

#endif
