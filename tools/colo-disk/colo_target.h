/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The disk itself: a raw file or a block device, ours alone while it is open.
 *
 * Requests return 0 or a positive errno.  Offsets and lengths are bytes, and within the size unless
 * said otherwise; several threads may ask at a time.
 */
#ifndef COLO_TARGET_H
#define COLO_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "colo_err.h"

struct colo_target {
    int fd; /* -1 = closed */
    uint64_t size;
    bool block;                       /* a block device */
    bool no_punch, no_zero, no_holes; /* found out that it cannot; set once, from any thread */
};

/*
 * Open for reading and writing, and lock: against another of us, against QEMU (its advisory locks)
 * and, for block devices, against mounts and other exclusive users.  What looks like an image of
 * another format is refused ("disk-format") unless `raw` says that its content is the guest's own
 * business.  Errors: COLO_ERR_REFUSED "disk-in-use", "disk-format", "disk-kind"; COLO_ERR_LOCAL.
 */
int colo_target_open(struct colo_target *t, const char *path, bool raw, struct colo_err *err);
void colo_target_close(struct colo_target *t);

/* Beyond the end of the disk there are zeroes to read; what is written there is ignored. */
int colo_target_read(struct colo_target *t, void *buf, size_t len, uint64_t offset);
int colo_target_write(struct colo_target *t, const void *buf, size_t len, uint64_t offset);

#define COLO_ZERO_TRIM 1 /* space may be given back */
#define COLO_ZERO_FAST 2 /* EOPNOTSUPP rather than writing zeroes out */
int colo_target_zero(struct colo_target *t, uint64_t offset, uint64_t len, int flags);

/* Give space back, as far as that is possible; what is read there is zero or what it was. */
int colo_target_trim(struct colo_target *t, uint64_t offset, uint64_t len);

/* All that was written is durable. */
int colo_target_flush(struct colo_target *t);

/* Whether there is data at offset, and up to where (at most `end`) that is so. */
int colo_target_extent(struct colo_target *t, uint64_t offset, uint64_t end, bool *data,
                       uint64_t *until);

/* Bring what may be read soon into memory; a hint. */
void colo_target_cache(struct colo_target *t, uint64_t offset, uint64_t len);

#endif
