/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The secondary's disks: one colo-disk for each (docs/specs/disk-control.md), which the primary's
 * QEMU writes to and the second copy's QEMU reads from, and their undoing, also by a monitor after
 * the session was killed.
 */
#ifndef LIBXL_COLO_DISK_H
#define LIBXL_COLO_DISK_H

#include <libxl.h>

#include "libxl_colo_qdisk.h"
#include "libxl_colo_shared.h"
#include "libxl_colo_session.h"

struct colo_client;

struct colo_disks {
    uint32_t n;
    struct colo_client *server[COLO_MAX_DISKS];
    struct colo_disk_undo *undo;
    uint64_t prepared; /* the checkpoint; 0 = none */
};

/*
 * Start the servers of all disks that are to be replicated; theirs says what the primary has, mine
 * gets where the servers listen.  "file-missing", "disk-kind", "disk-size": what is here is not fit for
 * it; "disk-start", or the server's own reason.  `undo` must outlive everything, and is for colo_disks_undo also
 * after a failure.
 */
int colo_disks_start(struct colo_disks *d, struct colo_disk_undo *undo,
                     const libxl_domain_config *cfg, const struct colo_caps *theirs,
                     const char *address, struct colo_caps_disk mine[COLO_MAX_DISKS],
                     struct colo_err *err);

/* The second copy's device model is to open the servers' sockets, not the disks: set what colo-dm
 * takes its orders from, in cfg and in the environment of this process; and take it back. */
int colo_disks_wrap(const struct colo_disks *d, libxl_domain_config *cfg, const char *device_model,
                    struct colo_err *err);
int colo_disks_unwrap(libxl_ctx *ctx, uint32_t domid, const char *override, struct colo_err *err);

/* ---- session hooks, with disks = struct colo_disks ---- */
/* Our copy is suspended, and the primary's writes are here: all that can fail. */
int colo_disks_hold(void *disks, uint64_t checkpoint, struct colo_err *err);
/* Our copy is at that checkpoint: so are its disks. */
int colo_disks_commit(void *disks, uint64_t checkpoint, struct colo_err *err);
/* Our copy is the guest: the primary is locked out, and the disks become the guest's.  Goes on past
 * errors and tells the first. */
int colo_disks_takeover(void *disks, struct colo_err *err);

/* Give the disks up. d may be closed or NULL. */
void colo_disks_undo(struct colo_disks *d, struct colo_disk_undo *undo);
/* By the sockets alone. */
int colo_disks_undo_takeover(struct colo_disk_undo *undo, struct colo_err *err);

/* After a takeover: wait until no server holds the guest's disks any more, so that a device model can
 * open them.  COLO_ERR_TIMEOUT "disk-in-use". */
int colo_disks_wait_free(const libxl_domain_config *cfg, colo_time deadline, struct colo_err *err);

/* The servers go on without this process. */
void colo_disks_close(struct colo_disks *d);

#endif
