/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Pages off the wire: into the guest's mapped memory while the first image loads, otherwise into
 * staging.
 */
#include <string.h>

#include "xc_sr_restore_records.h"

/* The pre-copy's rounds and the last one name a page more than once, a checkpoint does not. */
#define LOAD_ROUNDS 8u

static int bound_entries(struct xc_sr_restore *r, uint64_t more, bool stage, struct colo_err *err)
{
    r->entries += more; /* cannot wrap: more is at most max_gfns, 2^36 */
    if (r->entries > r->max_gfns * (stage ? 1 : LOAD_ROUNDS))
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL,
                         "more pages than a guest of 0x%llx pages "
                         "has",
                         (unsigned long long)r->max_gfns);
    return 0;
}

static unsigned int type_of(uint64_t entry)
{
    return (unsigned int)(entry >> XC_SR_PFN_TYPE_SHIFT);
}

static bool has_data(uint64_t entry)
{
    return type_of(entry) < XC_SR_PFN_BROKEN;
}

static int check_entry(const struct xc_sr_restore *r, uint64_t entry, struct colo_err *err)
{
    unsigned int type = type_of(entry);

    if (entry & XC_SR_PFN_RESERVED_MASK)
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "PAGE_DATA entry 0x%llx has reserved bits",
                         (unsigned long long)entry);
    if (type >= 5 && type <= 8)
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL,
                         "PAGE_DATA entry 0x%llx has an invalid "
                         "type",
                         (unsigned long long)entry);
    if ((entry & XC_SR_PFN_MASK) >= r->max_gfns)
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL,
                         "PAGE_DATA names page 0x%llx of a guest of "
                         "0x%llx pages",
                         (unsigned long long)(entry & XC_SR_PFN_MASK),
                         (unsigned long long)r->max_gfns);
    return 0;
}

static bool goes_direct(const struct xc_sr_restore *r, uint64_t pfn, bool stage)
{
    return !stage && xc_sr_bitmap_test(&r->present, pfn) && !xc_sr_restore_is_local(r, pfn);
}

/* The pfn has no content: a hole, or a page whose content does not matter. */
static int take_empty(struct xc_sr_restore *r, uint64_t entry, bool stage, struct colo_err *err)
{
    uint64_t pfn = entry & XC_SR_PFN_MASK;
    bool hole = type_of(entry) != XC_SR_PFN_XALLOC;
    const void *page;

    r->stats.holes += hole;
    if (xc_sr_restore_is_local(r, pfn))
        return 0;
    if (stage)
        return xc_sr_staging_mark(r->staging, pfn, hole ? XC_SR_STAGED_HOLE : XC_SR_STAGED_ZERO,
                                  err);
    if (!hole) {
        xc_sr_bitmap_set(&r->received, pfn);
        return xc_sr_bitmap_test(&r->present, pfn)
                   ? 0
                   : xc_sr_staging_mark(r->staging, pfn, XC_SR_STAGED_ZERO, err);
    }
    /* Stock streams name every hole: only what an earlier round staged needs a note. */
    xc_sr_bitmap_clear(&r->received, pfn);
    if (xc_sr_staging_get(r->staging, pfn, &page) == XC_SR_STAGED_NONE)
        return 0;
    return xc_sr_staging_mark(r->staging, pfn, XC_SR_STAGED_HOLE, err);
}

static int read_run(struct xc_sr_restore *r, unsigned char *run, size_t *len, struct colo_err *err)
{
    size_t n = *len;

    *len = 0;
    return n ? xc_sr_channel_read(r->ch, run, n, xc_sr_restore_deadline(r), err) : 0;
}

/*
 * The pages of n entries.  mem holds those that go straight into the guest, in order (errs[] tells
 * which of them are not there after all); neighbours are read in one go.
 */
static int read_pages(struct xc_sr_restore *r, const uint64_t *entries, size_t n, bool stage,
                      unsigned char *mem, struct colo_err *err)
{
    unsigned char *run = NULL, *dst;
    size_t len = 0, direct = 0;
    void *page;

    for (size_t i = 0; i < n; i++) {
        uint64_t pfn = entries[i] & XC_SR_PFN_MASK;

        if (!has_data(entries[i])) {
            if (take_empty(r, entries[i], stage, err) < 0)
                return -1;
            continue;
        }
        r->stats.pages++;
        dst = NULL;
        if (goes_direct(r, pfn, stage)) {
            if (r->batch->errs[direct] == 0)
                dst = mem + direct * XC_PAGE_BYTES;
            direct++;
        }
        if (dst) {
            xc_sr_bitmap_set(&r->received, pfn);
            if (len && dst == run + len) {
                len += XC_PAGE_BYTES;
                continue;
            }
            if (read_run(r, run, &len, err) < 0)
                return -1;
            run = dst;
            len = XC_PAGE_BYTES;
            continue;
        }
        if (read_run(r, run, &len, err) < 0)
            return -1;
        if (xc_sr_restore_is_local(r, pfn)) {
            page = r->batch->scratch;
        } else {
            if (!stage)
                xc_sr_bitmap_set(&r->received, pfn);
            if (xc_sr_staging_page(r->staging, pfn, &page, err) < 0)
                return -1;
        }
        if (xc_sr_channel_read(r->ch, page, XC_PAGE_BYTES, xc_sr_restore_deadline(r), err) < 0)
            return -1;
    }
    return read_run(r, run, &len, err);
}

static int take_entries(struct xc_sr_restore *r, const uint64_t *entries, size_t n, bool stage,
                        struct colo_err *err)
{
    struct xc_sr_restore_batch *b = r->batch;
    void *mem = NULL;
    size_t direct = 0;
    int rc;

    for (size_t i = 0; i < n; i++)
        if (has_data(entries[i]) && goes_direct(r, entries[i] & XC_SR_PFN_MASK, stage))
            b->gfns[direct++] = entries[i] & XC_SR_PFN_MASK;
    if (direct && r->dom->ops->map(r->dom, b->gfns, b->errs, direct, true, &mem, err) < 0)
        return -1;
    rc = read_pages(r, entries, n, stage, mem, err);
    if (direct) {
        if (r->dom->ops->unmap(r->dom, mem, direct, rc < 0 ? NULL : err) < 0)
            rc = -1;
        /* Only now: read_pages must count the direct ones as we did above. */
        for (size_t i = 0; i < direct; i++)
            if (b->errs[i])
                xc_sr_bitmap_clear(&r->present, b->gfns[i]);
    }
    return rc;
}

int xc_sr_restore_page_data(struct xc_sr_restore *r, uint32_t length, bool stage,
                            struct colo_err *err)
{
    struct xc_sr_restore_batch *b = r->batch;
    struct xc_sr_rec_page_data hdr;
    uint64_t want;
    size_t n;

    if (length < sizeof(hdr))
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "PAGE_DATA of %u bytes", length);
    if (xc_sr_channel_read(r->ch, &hdr, sizeof(hdr), xc_sr_restore_deadline(r), err) < 0)
        return -1;
    if (!hdr.count || hdr.count > XC_SR_RESTORE_ENTRIES)
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL,
                         "PAGE_DATA of %u pages (1 to %u are "
                         "possible)",
                         hdr.count, XC_SR_RESTORE_ENTRIES);
    want = sizeof(hdr) + hdr.count * sizeof(b->entries[0]);
    if (want > length)
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "PAGE_DATA of %u pages in %u bytes",
                         hdr.count, length);
    if (xc_sr_channel_read(r->ch, b->entries, hdr.count * sizeof(b->entries[0]),
                           xc_sr_restore_deadline(r), err) < 0)
        return -1;
    for (uint32_t i = 0; i < hdr.count; i++) {
        if (check_entry(r, b->entries[i], err) < 0)
            return -1;
        want += has_data(b->entries[i]) ? XC_PAGE_BYTES : 0;
    }
    if (want != length)
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "PAGE_DATA of %u bytes should have %llu",
                         length, (unsigned long long)want);
    if (bound_entries(r, hdr.count, stage, err) < 0)
        return -1;
    for (uint32_t i = 0; i < hdr.count; i += n) {
        n = hdr.count - i < XC_SR_BATCH ? hdr.count - i : XC_SR_BATCH;
        if (take_entries(r, b->entries + i, n, stage, err) < 0)
            return -1;
    }
    return 0; /* the length is a multiple of 8: no padding */
}

/* b->gfns[0..n) have a page here: make it zero, without touching one that is. */
static int clear_direct(struct xc_sr_restore *r, size_t n, struct colo_err *err)
{
    struct xc_sr_restore_batch *b = r->batch;
    void *mem;
    int rc = 0;

    if (!n)
        return 0;
    if (r->dom->ops->map(r->dom, b->gfns, b->errs, n, true, &mem, err) < 0)
        return -1;
    for (size_t i = 0; i < n && rc == 0; i++) {
        unsigned char *page = (unsigned char *)mem + i * XC_PAGE_BYTES;

        if (b->errs[i]) {
            xc_sr_bitmap_clear(&r->present, b->gfns[i]);
            rc = xc_sr_staging_mark(r->staging, b->gfns[i], XC_SR_STAGED_ZERO, err);
        } else if (!xc_sr_page_is_zero(page)) {
            memset(page, 0, XC_PAGE_BYTES);
        }
    }
    if (r->dom->ops->unmap(r->dom, mem, n, rc < 0 ? NULL : err) < 0)
        rc = -1;
    return rc;
}

static int take_zero_run(struct xc_sr_restore *r, const struct xc_sr_rec_pfn_run *run, bool stage,
                         struct colo_err *err)
{
    struct xc_sr_restore_batch *b = r->batch;
    size_t n = 0;

    for (uint64_t pfn = run->first_pfn; pfn < run->first_pfn + run->count; pfn++) {
        if (xc_sr_restore_is_local(r, pfn))
            continue;
        if (!stage)
            xc_sr_bitmap_set(&r->received, pfn);
        if (!goes_direct(r, pfn, stage)) {
            if (xc_sr_staging_mark(r->staging, pfn, XC_SR_STAGED_ZERO, err) < 0)
                return -1;
            continue;
        }
        b->gfns[n++] = pfn;
        if (n == XC_SR_BATCH) {
            if (clear_direct(r, n, err) < 0)
                return -1;
            n = 0;
        }
    }
    return clear_direct(r, n, err);
}

int xc_sr_restore_zero_pages(struct xc_sr_restore *r, uint32_t length, bool stage,
                             struct colo_err *err)
{
    struct xc_sr_rec_pfn_run *runs = r->batch->runs;
    size_t n = length / sizeof(*runs);

    if (!n || length % sizeof(*runs) || n > XC_SR_RUNS_MAX)
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "COLO_ZERO_PAGES of %u bytes", length);
    if (xc_sr_channel_read(r->ch, runs, length, xc_sr_restore_deadline(r), err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (!runs[i].count || runs[i].first_pfn >= r->max_gfns ||
            runs[i].count > r->max_gfns - runs[i].first_pfn)
            return colo_fail(err, COLO_ERR_PROTOCOL, NULL,
                             "COLO_ZERO_PAGES names 0x%llx pages "
                             "from 0x%llx of a guest of 0x%llx pages",
                             (unsigned long long)runs[i].count,
                             (unsigned long long)runs[i].first_pfn,
                             (unsigned long long)r->max_gfns);
        if (bound_entries(r, runs[i].count, stage, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < n; i++) {
        if (take_zero_run(r, &runs[i], stage, err) < 0)
            return -1;
        r->stats.zero += runs[i].count;
    }
    return 0;
}
