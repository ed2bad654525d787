/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Where a checkpoint waits on the secondary until it is whole: pages by pfn, last one wins.
 *
 * Memory is bounded twice: at most one slot a pfn below max_gfns, and at most mem_cap bytes of page
 * data in memory; what goes beyond lies in an unlinked file in spill_dir.  Slots are reused from
 * checkpoint to checkpoint.
 */
#ifndef XC_SR_STAGING_H
#define XC_SR_STAGING_H

#include <stddef.h>
#include <stdint.h>

#include "colo_err.h"

enum xc_sr_staged_kind {
    XC_SR_STAGED_NONE,
    XC_SR_STAGED_DATA,
    XC_SR_STAGED_ZERO,
    XC_SR_STAGED_HOLE
};

struct xc_sr_staging;

/* spill_dir may be NULL: then what exceeds mem_cap is an error ("staging-full"). */
int xc_sr_staging_new(uint64_t max_gfns, size_t mem_cap, const char *spill_dir,
                      struct xc_sr_staging **out, struct colo_err *err);
void xc_sr_staging_free(struct xc_sr_staging *s); /* NULL is fine */

/* Room for the data of pfn: 4096 bytes to be written by the caller at once, before the next call. */
int xc_sr_staging_page(struct xc_sr_staging *s, uint64_t pfn, void **page, struct colo_err *err);
/* pfn becomes all zeroes, or a hole. */
int xc_sr_staging_mark(struct xc_sr_staging *s, uint64_t pfn, enum xc_sr_staged_kind kind,
                       struct colo_err *err);
/* What is staged for pfn; *page is valid for DATA until the next xc_sr_staging_page or reset. */
enum xc_sr_staged_kind xc_sr_staging_get(struct xc_sr_staging *s, uint64_t pfn, const void **page);

/* All staged pfns in ascending order: *pfn = first one >= from; 0 = found, 1 = no more. */
int xc_sr_staging_next(struct xc_sr_staging *s, uint64_t from, uint64_t *pfn);

size_t xc_sr_staging_peak_bytes(const struct xc_sr_staging *s);
void xc_sr_staging_reset(struct xc_sr_staging *s); /* O(staged) */

#endif
