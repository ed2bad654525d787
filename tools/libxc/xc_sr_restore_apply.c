/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * What has been received becomes the domain.  All that can be refused (memory for new pages, the
 * mappings) is asked for before the first byte changes.
 */
#include "xc_sr_restore_records.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int scan_local(struct xc_sr_restore *r, struct colo_err *err)
{
    return xc_sr_local_gfns(r->dom, r->local, sizeof(r->local) / sizeof(r->local[0]), &r->nlocal,
                            err);
}

int xc_sr_restore_scan(struct xc_sr_restore *r, struct xc_sr_bitmap *changed, struct colo_err *err)
{
    struct xc_sr_domain_info info;
    uint8_t present[XC_SR_BATCH];
    size_t n;

    if (scan_local(r, err) < 0 || r->dom->ops->info(r->dom, &info, err) < 0)
        return -1;
    if (info.nr_gpfns > XC_SR_MAX_GFNS)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "the domain claims a size of %llu pages",
                         (unsigned long long)info.nr_gpfns);
    if (xc_sr_bitmap_grow(&r->present, info.nr_gpfns, err) < 0 ||
        (changed && xc_sr_bitmap_grow(changed, info.nr_gpfns, err) < 0))
        return -1;
    for (uint64_t gfn = 0; gfn < info.nr_gpfns; gfn += n) {
        n = info.nr_gpfns - gfn < XC_SR_BATCH ? info.nr_gpfns - gfn : XC_SR_BATCH;
        if (r->dom->ops->present(r->dom, gfn, n, present, err) < 0)
            return -1;
        for (size_t i = 0; i < n; i++) {
            if (present[i] == xc_sr_bitmap_test(&r->present, gfn + i))
                continue;
            if (present[i])
                xc_sr_bitmap_set(&r->present, gfn + i);
            else
                xc_sr_bitmap_clear(&r->present, gfn + i);
            if (changed)
                xc_sr_bitmap_set(changed, gfn + i);
        }
    }
    r->tot_pages = info.tot_pages;
    xc_sr_runs_note(&r->runs, &r->present);
    return 0;
}

/* ---- staged pages: map all, then write all ---- */

static void unmap_pieces(struct xc_sr_restore *r)
{
    struct xc_sr_restore_batch *b = r->batch;

    for (size_t i = 0; i < b->npieces; i++)
        if (b->pieces[i]->mem) {
            r->dom->ops->unmap(r->dom, b->pieces[i]->mem, b->pieces[i]->n, NULL);
            b->pieces[i]->mem = NULL;
        }
    b->npieces = 0;
}

/* Pieces are kept from checkpoint to checkpoint. */
static int next_piece(struct xc_sr_restore_batch *b, struct xc_sr_restore_piece **out,
                      struct colo_err *err)
{
    struct xc_sr_restore_piece **more;
    size_t room;

    if (b->npieces == b->pieces_room) {
        room = b->pieces_room ? b->pieces_room * 2 : 16;
        more = realloc(b->pieces, room * sizeof(*more));
        if (!more)
            return colo_fail_errno(err, ENOMEM, "cannot apply the checkpoint");
        memset(more + b->pieces_room, 0, (room - b->pieces_room) * sizeof(*more));
        b->pieces = more;
        b->pieces_room = room;
    }
    if (!b->pieces[b->npieces]) {
        b->pieces[b->npieces] = calloc(1, sizeof(**out));
        if (!b->pieces[b->npieces])
            return colo_fail_errno(err, ENOMEM, "cannot apply the checkpoint");
    }
    *out = b->pieces[b->npieces++];
    (*out)->n = 0;
    (*out)->mem = NULL;
    return 0;
}

static int note_added(struct xc_sr_restore_batch *b, const uint64_t *gfns, size_t n,
                      struct colo_err *err)
{
    uint64_t *more;
    size_t room = b->added_room;

    while (b->nadded + n > room)
        room = room ? room * 2 : XC_SR_BATCH;
    if (room != b->added_room) {
        more = realloc(b->added, room * sizeof(*more));
        if (!more)
            return colo_fail_errno(err, ENOMEM, "cannot apply the checkpoint");
        b->added = more;
        b->added_room = room;
    }
    memcpy(b->added + b->nadded, gfns, n * sizeof(*gfns));
    b->nadded += n;
    return 0;
}

/* Map a piece; what the domain lacks is added, and the piece mapped again. */
static int map_piece(struct xc_sr_restore *r, struct xc_sr_restore_piece *p, struct colo_err *err)
{
    const struct xc_sr_domain_ops *ops = r->dom->ops;
    struct xc_sr_restore_batch *b = r->batch;
    size_t lack;

    for (bool again = false;; again = true) {
        if (ops->map(r->dom, p->gfns, b->errs, p->n, true, &p->mem, err) < 0) {
            p->mem = NULL;
            return -1;
        }
        lack = 0;
        for (size_t i = 0; i < p->n; i++)
            if (b->errs[i])
                b->gfns[lack++] = p->gfns[i];
        if (!lack)
            return 0;
        if (again)
            return colo_fail(err, COLO_ERR_LOCAL, NULL,
                             "page 0x%llx cannot be mapped after it was "
                             "added",
                             (unsigned long long)b->gfns[0]);
        ops->unmap(r->dom, p->mem, p->n, NULL);
        p->mem = NULL;
        if (note_added(b, b->gfns, lack, err) < 0)
            return -1;
        if (ops->populate(r->dom, b->gfns, lack, err) < 0)
            return -1; /* some may be there now: all are taken away again */
        r->stats.populated += lack;
    }
}

int xc_sr_restore_map_staged(struct xc_sr_restore *r, struct colo_err *err)
{
    struct xc_sr_restore_batch *b = r->batch;
    struct xc_sr_restore_piece *p = NULL;
    const void *page;

    b->npieces = 0;
    b->nadded = 0;
    for (uint64_t pfn = 0; xc_sr_staging_next(r->staging, pfn, &pfn) == 0; pfn++) {
        if (xc_sr_staging_get(r->staging, pfn, &page) == XC_SR_STAGED_HOLE ||
            xc_sr_restore_is_local(r, pfn))
            continue;
        if (!p && next_piece(b, &p, err) < 0)
            goto fail;
        p->gfns[p->n++] = pfn;
        if (p->n == XC_SR_BATCH) {
            if (map_piece(r, p, err) < 0)
                goto fail;
            p = NULL;
        }
    }
    if (p && map_piece(r, p, err) < 0)
        goto fail;
    if (b->nadded && xc_sr_bitmap_grow(&r->present, b->added[b->nadded - 1] + 1, err) < 0)
        goto fail;
    for (size_t i = 0; i < b->nadded; i++)
        xc_sr_bitmap_set(&r->present, b->added[i]);
    return 0;

fail:
    unmap_pieces(r);
    if (b->nadded)
        r->dom->ops->release(r->dom, b->added, b->nadded, NULL);
    b->nadded = 0;
    return -1;
}

int xc_sr_restore_write_staged(struct xc_sr_restore *r, struct colo_err *err)
{
    struct xc_sr_restore_batch *b = r->batch;
    const void *page;
    int rc = 0;

    for (size_t i = 0; i < b->npieces; i++) {
        struct xc_sr_restore_piece *p = b->pieces[i];
        unsigned char *dst = p->mem;

        for (size_t k = 0; k < p->n; k++, dst += XC_PAGE_BYTES) {
            if (xc_sr_staging_get(r->staging, p->gfns[k], &page) == XC_SR_STAGED_DATA)
                memcpy(dst, page, XC_PAGE_BYTES);
            else if (!xc_sr_page_is_zero(dst))
                memset(dst, 0, XC_PAGE_BYTES);
        }
        if (r->dom->ops->unmap(r->dom, p->mem, p->n, rc < 0 ? NULL : err) < 0)
            rc = -1;
        p->mem = NULL;
    }
    b->npieces = 0;
    b->nadded = 0;
    return rc;
}

int xc_sr_restore_release(struct xc_sr_restore *r, const uint64_t *gfns, size_t n,
                          struct colo_err *err)
{
    if (!n)
        return 0;
    if (r->dom->ops->release(r->dom, gfns, n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (xc_sr_bitmap_test(&r->present, gfns[i])) {
            xc_sr_bitmap_clear(&r->present, gfns[i]);
            r->stats.released++;
        }
    return 0;
}

int xc_sr_restore_release_staged(struct xc_sr_restore *r, struct colo_err *err)
{
    uint64_t *gfns = r->batch->gfns;
    const void *page;
    size_t n = 0;

    for (uint64_t pfn = 0; xc_sr_staging_next(r->staging, pfn, &pfn) == 0; pfn++) {
        if (xc_sr_staging_get(r->staging, pfn, &page) != XC_SR_STAGED_HOLE ||
            xc_sr_restore_is_local(r, pfn))
            continue;
        gfns[n++] = pfn;
        if (n == XC_SR_BATCH) {
            if (xc_sr_restore_release(r, gfns, n, err) < 0)
                return -1;
            n = 0;
        }
    }
    return xc_sr_restore_release(r, gfns, n, err);
}

/* ---- params, TSC, context ---- */

static int set_param(struct xc_sr_restore *r, uint32_t index, uint64_t value, struct colo_err *err)
{
    uint64_t now;

    if (r->dom->ops->get_hvm_param(r->dom, index, &now, err) < 0)
        return -1;
    return now == value ? 0 : r->dom->ops->set_hvm_param(r->dom, index, value, err);
}

int xc_sr_restore_set_tail(struct xc_sr_restore *r, struct colo_err *err)
{
    const struct xc_sr_rec_hvm_params *p = r->params.data;
    const struct xc_sr_rec_hvm_params_entry *e = (const struct xc_sr_rec_hvm_params_entry *)(p + 1);
    const struct xc_sr_rec_tsc_info *t = r->tsc.data;
    struct xc_sr_tsc_info tsc = {
        .mode = t->mode,
        .khz = t->khz,
        .nsec = t->nsec,
        .incarnation = t->incarnation,
    };
    uint64_t value;

    /* A param that is not in the record is 0 over there. */
    for (size_t i = 0; i < xc_sr_nr_hvm_params; i++) {
        if (xc_sr_hvm_param_is_local(xc_sr_hvm_params[i]))
            continue;
        value = 0;
        for (uint32_t k = 0; k < p->count; k++)
            if (e[k].index == xc_sr_hvm_params[i])
                value = e[k].value;
        if (set_param(r, xc_sr_hvm_params[i], value, err) < 0)
            return -1;
    }
    if (r->dom->ops->set_tsc(r->dom, &tsc, err) < 0)
        return -1;
    return r->dom->ops->set_hvm_context(r->dom, r->context.data, r->context.length, err);
}
