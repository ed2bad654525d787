/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Pages onto the wire: batches of gfns, mapped once, written straight from the mapping.
 */
#include "xc_sr_save_pages.h"

#include <string.h>

/* How many batches pass between two calls of the progress callback. */
#define WATCH_BATCHES 4u

static bool is_local(const struct xc_sr_save_batch *b, uint64_t gfn)
{
    for (size_t i = 0; i < b->nlocal; i++)
        if (b->local[i] == gfn)
            return true;
    return false;
}

static bool is_zero(const void *page)
{
    const uint64_t *w = page;
    uint64_t any;

    /* Most pages that are not zero show it early: no more than a cache line at a time. */
    for (size_t i = 0; i < XC_PAGE_BYTES / sizeof(*w); i += 8) {
        any = w[i] | w[i + 1] | w[i + 2] | w[i + 3] | w[i + 4] | w[i + 5] | w[i + 6] | w[i + 7];
        if (any)
            return false;
    }
    return true;
}

static void add_zero(struct xc_sr_save_batch *b, uint64_t gfn)
{
    struct xc_sr_rec_pfn_run *last = b->nruns ? &b->runs[b->nruns - 1] : NULL;

    if (last && last->first_pfn + last->count == gfn) {
        last->count++;
        return;
    }
    b->runs[b->nruns].first_pfn = gfn;
    b->runs[b->nruns].count = 1;
    b->nruns++;
}

/* Sort the mapped batch into entries, data and zero runs.  Returns the number of entries; the iov's
 * first two places are left for header and entries, *cnt is its length. */
static uint32_t sort_batch(struct xc_sr_save *s, unsigned char *mem, bool live, int *cnt)
{
    struct xc_sr_save_batch *b = s->batch;
    unsigned char *end = NULL; /* of the last iovec */
    uint32_t n = 0;

    *cnt = 2;
    b->nruns = 0;
    for (size_t i = 0; i < b->n; i++) {
        unsigned char *page = mem + i * XC_PAGE_BYTES;

        if (b->errs[i]) {
            if (live) {
                xc_sr_bitmap_set(&s->dirty, b->gfns[i]);
            } else {
                b->entries[n++] = b->gfns[i] | (uint64_t)XC_SR_PFN_XTAB << XC_SR_PFN_TYPE_SHIFT;
                s->stats.holes++;
            }
            continue;
        }
        if (s->zero_pages && is_zero(page)) {
            add_zero(b, b->gfns[i]);
            s->stats.zero++;
            continue;
        }
        b->entries[n++] = b->gfns[i];
        s->stats.sent++;
        if (page == end) {
            b->iov[*cnt - 1].iov_len += XC_PAGE_BYTES;
        } else {
            b->iov[*cnt].iov_base = page;
            b->iov[*cnt].iov_len = XC_PAGE_BYTES;
            ++*cnt;
        }
        end = page + XC_PAGE_BYTES;
    }
    return n;
}

static int flush_batch(struct xc_sr_save *s, bool live, struct colo_err *err)
{
    const struct xc_sr_domain_ops *ops = s->dom->ops;
    struct xc_sr_save_batch *b = s->batch;
    struct xc_sr_rec_page_data hdr = {0};
    struct colo_err *uerr = err;
    colo_time t0 = colo_now(), t1, t2;
    void *mem;
    int cnt, rc = -1;

    if (!b->n)
        return 0;
    if (ops->map(s->dom, b->gfns, b->errs, b->n, false, &mem, err) < 0)
        return -1;
    t1 = colo_now();
    hdr.count = sort_batch(s, mem, live, &cnt);
    b->iov[0].iov_base = &hdr;
    b->iov[0].iov_len = sizeof(hdr);
    b->iov[1].iov_base = b->entries;
    b->iov[1].iov_len = hdr.count * sizeof(b->entries[0]);
    if (hdr.count && xc_sr_save_record(s, XC_SR_REC_PAGE_DATA, b->iov, cnt, err) < 0)
        goto out;
    if (b->nruns && xc_sr_save_simple(s, XC_SR_REC_COLO_ZERO_PAGES, b->runs,
                                      b->nruns * sizeof(b->runs[0]), err) < 0)
        goto out;
    rc = 0;
out:
    t2 = colo_now();
    if (rc < 0)
        uerr = NULL; /* the first failure is the one to tell */
    if (ops->unmap(s->dom, mem, b->n, uerr) < 0)
        rc = -1;
    s->stats.t_write += t2 - t1;
    s->stats.t_map += t1 - t0 + colo_now() - t2;
    b->n = 0;
    return rc;
}

static int tell(struct xc_sr_save *s, struct xc_sr_save_watch *w, bool last, struct colo_err *err)
{
    int r;

    if (!w->cb || (!last && ++w->batches % WATCH_BATCHES))
        return 0;
    w->progress.total_sent = s->stats.sent + s->stats.zero;
    w->progress.bytes = s->stats.bytes;
    r = w->cb(w->priv, &w->progress);
    if (r < 0)
        return colo_fail(err, COLO_ERR_CANCELLED, NULL, "sending the guest's memory was given up");
    w->stop |= r != 0;
    return 0;
}

int xc_sr_save_walk(struct xc_sr_save *s, struct xc_sr_save_watch *w, struct colo_err *err)
{
    struct xc_sr_save_batch *b = s->batch;
    uint8_t present[XC_SR_BATCH];
    uint64_t gfn = 0;
    size_t n;

    w->progress.iter_done = 0;
    w->progress.iter_pages = s->tot_pages; /* most gfns of a small guest have no page */
    for (;;) {
        if (gfn >= s->nr_gfns) {
            /* The guest may have grown behind our back. */
            if (xc_sr_save_resize(s, NULL, err) < 0)
                return -1;
            if (gfn >= s->nr_gfns)
                break;
        }
        n = s->nr_gfns - gfn < XC_SR_BATCH ? s->nr_gfns - gfn : XC_SR_BATCH;
        if (s->dom->ops->present(s->dom, gfn, n, present, err) < 0)
            return -1;
        for (size_t i = 0; i < n; i++) {
            if (!present[i])
                continue;
            xc_sr_bitmap_set(&s->known, gfn + i);
            if (is_local(b, gfn + i))
                continue;
            b->gfns[b->n++] = gfn + i;
            if (b->n < XC_SR_BATCH)
                continue;
            if (flush_batch(s, true, err) < 0)
                return -1;
            w->progress.iter_done += XC_SR_BATCH;
            if (tell(s, w, false, err) < 0)
                return -1;
        }
        gfn += n;
    }
    if (flush_batch(s, true, err) < 0)
        return -1;
    xc_sr_runs_note(&s->runs, &s->known);
    w->progress.iter_done = w->progress.iter_pages;
    return tell(s, w, true, err);
}

int xc_sr_save_rescan(struct xc_sr_save *s, struct colo_err *err)
{
    uint8_t present[XC_SR_BATCH];
    uint64_t pages;
    bool moved;
    size_t n;

    if (xc_sr_save_resize(s, &pages, err) < 0 ||
        xc_sr_runs_moved(&s->runs, s->dom, &moved, err) < 0)
        return -1;
    if (pages == s->tot_pages && !moved)
        return 0;
    for (uint64_t gfn = 0; gfn < s->nr_gfns; gfn += n) {
        n = s->nr_gfns - gfn < XC_SR_BATCH ? s->nr_gfns - gfn : XC_SR_BATCH;
        if (s->dom->ops->present(s->dom, gfn, n, present, err) < 0)
            return -1;
        for (size_t i = 0; i < n; i++) {
            if (present[i] == xc_sr_bitmap_test(&s->known, gfn + i))
                continue;
            xc_sr_bitmap_set(&s->dirty, gfn + i);
            if (present[i])
                xc_sr_bitmap_set(&s->known, gfn + i);
            else
                xc_sr_bitmap_clear(&s->known, gfn + i);
        }
    }
    xc_sr_runs_note(&s->runs, &s->known);
    s->tot_pages = pages; /* as it was before the scan: what came during it is seen next time */
    return 0;
}

int xc_sr_save_send_set(struct xc_sr_save *s, bool live, struct xc_sr_save_watch *w,
                        struct colo_err *err)
{
    struct xc_sr_save_batch *b = s->batch;
    uint64_t gfn = 0;

    w->progress.iter_done = 0;
    w->progress.iter_pages = xc_sr_bitmap_count(&s->dirty);
    while (xc_sr_bitmap_next(&s->dirty, gfn, &gfn)) {
        xc_sr_bitmap_clear(&s->dirty, gfn);
        w->progress.iter_done++;
        if (!is_local(b, gfn))
            b->gfns[b->n++] = gfn;
        gfn++;
        if (b->n < XC_SR_BATCH)
            continue;
        if (flush_batch(s, live, err) < 0)
            return -1;
        if (tell(s, w, false, err) < 0)
            return -1;
    }
    if (flush_batch(s, live, err) < 0)
        return -1;
    return tell(s, w, true, err);
}
