/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * What the files of the restorer share; nobody else includes this.
 */
#ifndef XC_SR_RESTORE_RECORDS_H
#define XC_SR_RESTORE_RECORDS_H

#include "xc_sr_restore.h"

/* Entries of a PAGE_DATA record that we take.  Stock writes at most 1024. */
#define XC_SR_RESTORE_ENTRIES 16384u

#define XC_SR_CONTEXT_MAX ((uint32_t)4 << 20)
#define XC_SR_POLICY_MAX  ((uint32_t)1 << 20)
#define XC_SR_PARAMS_MAX  4096u /* entries */
#define XC_SR_RUNS_MAX    16384u

/* Bits of xc_sr_restore.tail. */
#define XC_SR_TAIL_TSC     1u
#define XC_SR_TAIL_CONTEXT 2u
#define XC_SR_TAIL_PARAMS  4u
#define XC_SR_TAIL_ALL     7u

struct xc_sr_restore_piece { /* a mapped batch of pages that wait to be written */
    void *mem;
    size_t n;
    uint64_t gfns[XC_SR_BATCH];
};

struct xc_sr_restore_batch {
    uint64_t entries[XC_SR_RESTORE_ENTRIES];
    struct xc_sr_rec_pfn_run runs[XC_SR_RUNS_MAX];
    uint64_t gfns[XC_SR_BATCH];
    int errs[XC_SR_BATCH];
    unsigned char scratch[XC_PAGE_BYTES];

    struct xc_sr_restore_piece **pieces;
    size_t npieces, pieces_room;
    uint64_t *added; /* gfns populated for these pieces, to be undone if we fail */
    size_t nadded, added_room;
};

static inline bool xc_sr_restore_is_local(const struct xc_sr_restore *r, uint64_t gfn)
{
    for (size_t i = 0; i < r->nlocal; i++)
        if (r->local[i] == gfn)
            return true;
    return false;
}

static inline bool xc_sr_page_is_zero(const void *page)
{
    const uint64_t *w = page;

    for (size_t i = 0; i < XC_PAGE_BYTES / sizeof(*w); i += 8)
        if (w[i] | w[i + 1] | w[i + 2] | w[i + 3] | w[i + 4] | w[i + 5] | w[i + 6] | w[i + 7])
            return false;
    return true;
}

colo_time xc_sr_restore_deadline(const struct xc_sr_restore *r);

/* xc_sr_restore_records.c: all records of an image.  stage: the domain is not touched. */
int xc_sr_restore_image(struct xc_sr_restore *r, bool stage, uint32_t *last, struct colo_err *err);
void xc_sr_restore_forget_image(struct xc_sr_restore *r);

/* xc_sr_restore_pages.c: the bodies of PAGE_DATA and COLO_ZERO_PAGES. */
int xc_sr_restore_page_data(struct xc_sr_restore *r, uint32_t length, bool stage,
                            struct colo_err *err);
int xc_sr_restore_zero_pages(struct xc_sr_restore *r, uint32_t length, bool stage,
                             struct colo_err *err);

/* xc_sr_restore_apply.c */
/* Read anew which gfns have a page and which are local.  changed (may be NULL) gets the gfns that
 * have come or gone. */
int xc_sr_restore_scan(struct xc_sr_restore *r, struct xc_sr_bitmap *changed, struct colo_err *err);
/* Map the staged pages, adding those that the domain lacks; failure leaves the domain as it was. */
int xc_sr_restore_map_staged(struct xc_sr_restore *r, struct colo_err *err);
/* Write them and unmap. */
int xc_sr_restore_write_staged(struct xc_sr_restore *r, struct colo_err *err);
int xc_sr_restore_release(struct xc_sr_restore *r, const uint64_t *gfns, size_t n,
                          struct colo_err *err);
/* Release what is staged as a hole. */
int xc_sr_restore_release_staged(struct xc_sr_restore *r, struct colo_err *err);
/* Params, TSC, context. */
int xc_sr_restore_set_tail(struct xc_sr_restore *r, struct colo_err *err);

#endif
