/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * What the session's process shares with its monitor: the status, and what must be undone should
 * the session's process be killed.  One anonymous shared mapping, made before the monitor is forked.
 * The session writes, the monitor reads; a sequence count tells the reader of a torn read.
 */
#ifndef LIBXL_COLO_SHARED_H
#define LIBXL_COLO_SHARED_H

#include <stdatomic.h>

#include "libxl_colo_nic.h"
#include "libxl_colo_state.h"

#define COLO_MAX_DISKS 16
#define COLO_VDEV      16

#define COLO_DISK_PATH 96

/* Servers of the second copy's disks (libxl_colo_disk.h). */
struct colo_disk_undo {
    uint32_t n;
    char key[COLO_DISK_PATH];                     /* the file with the session's key; "" = none */
    char control[COLO_MAX_DISKS][COLO_DISK_PATH]; /* their control sockets, */
    char guest[COLO_MAX_DISKS][COLO_DISK_PATH];   /* and those that QEMU opens */
};

/* What this host would be left with if the session vanished now.  Each field is set before the
 * thing is done and cleared after it is undone, by plain stores: undoing is always idempotent. */
struct colo_recovery {
    uint32_t domid;        /* our copy; 0 = none exists */
    bool destroy;          /* our copy is not the guest: destroy it (secondary before takeover) */
    bool logdirty;         /* dirty logs may be on */
    bool suspended;        /* vCPUs and QEMU may be stopped by us */
    bool restore_name;     /* takeover under way: the domain must get `name` and its NICs */
    char name[128];        /* the guest's own name */
    struct colo_nics nics; /* isolated NICs (secondary) */
    struct colo_net_undo net;    /* our proxy */
    struct colo_disk_undo disks; /* secondary: its servers; primary: the relays, and the key */
    bool mirrors;                /* primary: QEMU may be copying its disks */
    bool paused;                 /* primary: by us, while that ends */
    /* The guest has no monitor but ours: stock xl's exits when the guest is first suspended.  Set
     * by colo_state_set, or by the session that retired an older monitor of ours; never cleared. */
    bool needs_monitor;
};

struct colo_shared {
    atomic_uint seq; /* odd while the status is being written */
    struct colo_status status;
    struct colo_recovery recovery;
};

struct colo_shared *colo_shared_new(struct colo_err *err);
void colo_shared_free(struct colo_shared *sh);

/* The session's own edits: between begin and end the status may be changed. */
struct colo_status *colo_status_begin(struct colo_shared *sh);
void colo_status_end(struct colo_shared *sh);
/* Edit what it says of the disks. */
void colo_status_disks(struct colo_shared *sh, const char *text);
/* A consistent copy for a reader (after 0.1 s of tries, a possibly torn one). */
void colo_status_read(struct colo_shared *sh, struct colo_status *out);
/* Change state (to the same one: nothing happens); aborts on an illegal transition, which is a bug
 * of ours.  Allowed between begin and end, too. */
void colo_state_set(struct colo_shared *sh, enum colo_state to);
void colo_status_error(struct colo_shared *sh, const struct colo_err *err);
void colo_status_pause(struct colo_shared *sh, const struct colo_pause_steps *steps);

/* The status as JSON (pretty or one line), malloc'ed: what `xl colo-status -j` prints. */
char *colo_status_json(const struct colo_status *st, bool pretty);
/* last, median and p99 of the pauses in the ring, ns; all 0 when there is none. */
void colo_status_pauses(const struct colo_status *st, int64_t *last, int64_t *median, int64_t *p99);

#endif
