/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An overlay on a disk: what the secondary guest sees, whatever the primary does to the disk.
 *
 * All return 0 or a positive errno.  Offsets and lengths are bytes, within the disk's size.  Several
 * threads may ask at a time, for the same blocks too: each block is read and written as a whole.
 */
#ifndef COLO_VIEW_H
#define COLO_VIEW_H

#include "colo_overlay.h"
#include "colo_target.h"

struct colo_view {
    struct colo_target *target;
    struct colo_overlay *overlay;
};

int colo_view_read(const struct colo_view *v, void *buf, uint64_t len, uint64_t offset);

/* Into the overlay, as active blocks.  ENOSPC: it is full; part of it may have been written. */
int colo_view_write(const struct colo_view *v, const void *buf, uint64_t len, uint64_t offset);

/* Zeroes; where the view has a hole already, that costs nothing. */
int colo_view_zero(const struct colo_view *v, uint64_t offset, uint64_t len);

/* Before the primary writes to the disk there: keep what the view has only on the disk.  `zero`: it
 * will write zeroes, which changes nothing where the disk has a hole.  After a failure the view is
 * as it was, but the primary must not write. */
int colo_view_save(const struct colo_view *v, uint64_t offset, uint64_t len, bool zero);

/* What is there, as runs in order; a positive errno of `each` ends it. */
typedef int colo_view_each(void *priv, uint64_t offset, uint64_t len, bool data);
int colo_view_extents(const struct colo_view *v, uint64_t offset, uint64_t len,
                      colo_view_each *each, void *priv);

/* ---- for a chunk whose lock is held ---- */

/* Bytes [from, from + len) of the chunk, data NULL: zeroes.  Blocks that are not covered yet are, or
 * are left out if `only_covered`. */
int colo_view_put(const struct colo_view *v, uint64_t chunk, uint32_t from, uint32_t len,
                  const void *data, bool only_covered);

/* The blocks that bytes [from, from + len) of a chunk touch. */
colo_blocks colo_view_blocks(uint32_t from, uint32_t len);

#endif
