/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The primary's disks: QEMU copies each of them to the other host while the guest runs, and from
 * then on a write of the guest's is complete when it is on both hosts' disks.  A mirror job with
 * copy-mode=write-blocking onto an NBD node does both; when the guest's vCPUs and QEMU are stopped,
 * the other host has every write.
 */
#ifndef LIBXL_COLO_QDISK_H
#define LIBXL_COLO_QDISK_H

#include <libxl.h>

#include "libxl_colo_shared.h"
#include "libxl_qmp.h"

struct colo_qdisk {
    char vdev[COLO_VDEV]; /* "hda" */
    char device[32];      /* QEMU's name of the drive: "ide0-hd0" */
    uint64_t size;        /* bytes */
    /* colo-host and colo-export of its configuration, borrowed; NULL: none */
    const char *host, *export;
    bool ready;           /* all is on both hosts */
    uint64_t done, total; /* of the first copy, bytes; about what is left to do, too */
};

struct colo_qdisks {
    struct colo_qmp *qmp; /* borrowed */
    uint32_t n;
    struct colo_qdisk disk[COLO_MAX_DISKS];
};

/* Is it one that has to be replicated? */
bool colo_disk_is_replicated(const libxl_device_disk *disk);

/* What libxl calls the drive of that vdev ("hda", "xvdb", "sdc"), with that kind of controller.
 * "disk-vdev": one that an HVM guest without PV drivers does not see. */
int colo_qdisk_device(const char *vdev, libxl_hdtype type, char *device, size_t len,
                      struct colo_err *err);

/* prepare: the disks to replicate, as QEMU has them. */
int colo_qdisks_prepare(struct colo_qdisks *d, struct colo_qmp *q, const libxl_domain_config *cfg,
                        struct colo_err *err);

/* start: QEMU begins to copy, each disk to the NBD server on its socket.  What an earlier session may
 * have left has been stopped before. */
int colo_qdisks_start(struct colo_qdisks *d, const char *const sockets[], struct colo_err *err);

/* How far it is (done, total, ready).  1: all disks are on both hosts; 0: not yet. */
int colo_qdisks_progress(struct colo_qdisks *d, struct colo_err *err);

/* get_error: has a copy failed?  Does not wait.  "disk-mirror" with QEMU's own words.  After QEMU has
 * been stopped this is the last word: what the guest has written is on both disks. */
int colo_qdisks_check(struct colo_qdisks *d, struct colo_err *err);

/*
 * The other host does not answer: end the connections to it at once, so that no write of the guest's
 * waits any longer.  Also while QEMU is busy with another command.  Protection cannot go on after it.
 */
void colo_qdisks_cut(struct colo_qdisks *d);

/* stop: the guest writes to its own disks only, and nothing of ours is left in QEMU.  By the names of
 * things in there: also for one that a killed session left.  The guest must not run meanwhile, for
 * QEMU is stopped for a moment: Xen answers a vCPU's I/O by itself then, with ones. */
int colo_qdisks_stop(struct colo_qmp *q, colo_time deadline, struct colo_err *err);

#endif
