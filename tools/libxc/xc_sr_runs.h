/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Has a block of the guest's memory moved?
 *
 * A device model moves the video memory when the guest gives the card another address: as many
 * pages as before, at other gfns, and no dirty log tells of it.  Such blocks are runs of present
 * gfns with holes around them, and they move as a whole, so it is enough to look at where each run
 * begins.  (A block that moves away and back between two looks is not seen.)
 */
#ifndef XC_SR_RUNS_H
#define XC_SR_RUNS_H

#include "xc_sr_bitmap.h"
#include "xc_sr_domain.h"

struct xc_sr_runs {
    size_t n;
    uint64_t first[32]; /* of a guest with more runs, the first ones */
};

/* Remember where the runs of `present` begin; gfn 0, where RAM begins, is left out. */
void xc_sr_runs_note(struct xc_sr_runs *runs, const struct xc_sr_bitmap *present);

/* *moved: there is a hole now where a run began. */
int xc_sr_runs_moved(const struct xc_sr_runs *runs, struct xc_sr_domain *dom, bool *moved,
                     struct colo_err *err);

#endif
