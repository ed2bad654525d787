/* SPDX-License-Identifier: LGPL-2.1-only */
#include "xc_sr_runs.h"

void xc_sr_runs_note(struct xc_sr_runs *runs, const struct xc_sr_bitmap *present)
{
    uint64_t gfn = 0;

    runs->n = 0;
    while (runs->n < sizeof(runs->first) / sizeof(runs->first[0]) &&
           xc_sr_bitmap_next(present, gfn, &gfn)) {
        if (gfn)
            runs->first[runs->n++] = gfn;
        while (xc_sr_bitmap_test(present, gfn))
            gfn++;
    }
}

int xc_sr_runs_moved(const struct xc_sr_runs *runs, struct xc_sr_domain *dom, bool *moved,
                     struct colo_err *err)
{
    uint8_t present = 1;

    for (size_t i = 0; i < runs->n && present; i++)
        if (dom->ops->present(dom, runs->first[i], 1, &present, err) < 0)
            return -1;
    *moved = !present;
    return 0;
}
