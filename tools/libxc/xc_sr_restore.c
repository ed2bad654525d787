/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Restoring a libxc stream: the order of things.  Reading is in xc_sr_restore_records.c and
 * xc_sr_restore_pages.c, changing the domain in xc_sr_restore_apply.c.
 */
#include "xc_sr_restore.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "xc_sr_restore_records.h"

#define DEFAULT_STAGING_CAP ((size_t)64 << 20)

colo_time xc_sr_restore_deadline(const struct xc_sr_restore *r)
{
    return r->io_timeout ? colo_now() + r->io_timeout : COLO_NO_DEADLINE;
}

int xc_sr_restore_init(struct xc_sr_restore *r, struct colo_err *err)
{
    memset(&r->stats, 0, sizeof(r->stats));
    r->peer_xen_major = r->peer_xen_minor = 0;
    memset((char *)r + offsetof(struct xc_sr_restore, staging), 0,
           sizeof(*r) - offsetof(struct xc_sr_restore, staging)); /* the private part */

    if (!r->max_gfns || r->max_gfns > XC_SR_MAX_GFNS)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "a guest of 0x%llx pages cannot be restored",
                         (unsigned long long)r->max_gfns);
    r->batch = calloc(1, sizeof(*r->batch));
    if (!r->batch)
        return colo_fail_errno(err, ENOMEM, "cannot restore a domain");
    if (xc_sr_staging_new(r->max_gfns, r->staging_cap ? r->staging_cap : DEFAULT_STAGING_CAP,
                          r->spill_dir, &r->staging, err) < 0 ||
        xc_sr_bitmap_init(&r->present, r->max_gfns, err) < 0 ||
        xc_sr_bitmap_init(&r->received, r->max_gfns, err) < 0 ||
        xc_sr_bitmap_init(&r->own, r->max_gfns, err) < 0 ||
        xc_sr_bitmap_init(&r->log, r->max_gfns, err) < 0 || xc_sr_restore_scan(r, NULL, err) < 0) {
        xc_sr_restore_fini(r);
        return -1;
    }
    return 0;
}

void xc_sr_restore_fini(struct xc_sr_restore *r)
{
    struct xc_sr_restore_batch *b = r->batch;

    if (r->logdirty)
        r->dom->ops->logdirty_disable(r->dom, NULL); /* the domain may be gone: nothing to tell */
    r->logdirty = false;
    xc_sr_restore_forget_image(r);
    xc_sr_record_free(&r->cpuid);
    xc_sr_record_free(&r->msrs);
    xc_sr_staging_free(r->staging);
    r->staging = NULL;
    xc_sr_bitmap_fini(&r->present);
    r->runs.n = 0;
    xc_sr_bitmap_fini(&r->received);
    xc_sr_bitmap_fini(&r->own);
    xc_sr_bitmap_fini(&r->log);
    if (b) {
        for (size_t i = 0; i < b->pieces_room; i++)
            free(b->pieces[i]);
        free(b->pieces);
        free(b->added);
        free(b);
    }
    r->batch = NULL;
}

int xc_sr_restore_headers(struct xc_sr_restore *r, struct colo_err *err)
{
    struct xc_sr_ihdr ihdr;
    struct xc_sr_dhdr dhdr;

    if (xc_sr_channel_read(r->ch, &ihdr, sizeof(ihdr), xc_sr_restore_deadline(r), err) < 0)
        return -1;
    if (be64toh(ihdr.marker) != XC_SR_IHDR_MARKER || be32toh(ihdr.id) != XC_SR_IHDR_ID)
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "this is not a libxc stream");
    r->version = be32toh(ihdr.version);
    if (r->version < XC_SR_IHDR_VERSION_MIN || r->version > XC_SR_IHDR_VERSION)
        return colo_fail(err, COLO_ERR_REFUSED, "stream-version",
                         "the libxc stream has version "
                         "%u; this program knows %u to %u",
                         r->version, XC_SR_IHDR_VERSION_MIN, XC_SR_IHDR_VERSION);
    if (be16toh(ihdr.options) & XC_SR_IHDR_OPT_BIG)
        return colo_fail(err, COLO_ERR_REFUSED, "stream-endian", "the libxc stream is big-endian");
    if (be16toh(ihdr.options))
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "the libxc stream has unknown options 0x%x",
                         be16toh(ihdr.options));
    if (xc_sr_channel_read(r->ch, &dhdr, sizeof(dhdr), xc_sr_restore_deadline(r), err) < 0)
        return -1;
    if (dhdr.type != XC_SR_DHDR_TYPE_X86_HVM)
        return colo_fail(err, COLO_ERR_REFUSED, "not-hvm",
                         "the stream is of a guest of type %u, "
                         "not of an HVM guest",
                         dhdr.type);
    if (dhdr.page_shift != XC_PAGE_SHIFT_4K)
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "the stream has pages of 2^%u bytes",
                         dhdr.page_shift);
    r->peer_xen_major = dhdr.xen_major;
    r->peer_xen_minor = dhdr.xen_minor;
    r->static_done = r->version < 3; /* version 2 has no static data */
    return 0;
}

int xc_sr_restore_load(struct xc_sr_restore *r, uint32_t *last, struct colo_err *err)
{
    return xc_sr_restore_image(r, false, last, err);
}

static int get_info(struct xc_sr_restore *r, struct xc_sr_domain_info *info, struct colo_err *err)
{
    if (r->dom->ops->info(r->dom, info, err) < 0)
        return -1;
    if (info->nr_gpfns > XC_SR_MAX_GFNS)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "the domain claims a size of %llu pages",
                         (unsigned long long)info->nr_gpfns);
    return 0;
}

/* Device state that was loaded may have moved pages away from under what we had written. */
static int check_moved(struct xc_sr_restore *r, struct colo_err *err)
{
    const void *page;

    for (uint64_t gfn = 0; xc_sr_bitmap_next(&r->received, gfn, &gfn); gfn++)
        if (!xc_sr_bitmap_test(&r->present, gfn) &&
            xc_sr_staging_get(r->staging, gfn, &page) == XC_SR_STAGED_NONE)
            return colo_fail(err, COLO_ERR_LOCAL, "page-moved",
                             "page 0x%llx of the guest went "
                             "away when the device state was loaded",
                             (unsigned long long)gfn);
    return 0;
}

static int release_extra(struct xc_sr_restore *r, struct colo_err *err)
{
    uint64_t *gfns = r->batch->gfns;
    size_t n = 0;

    for (uint64_t gfn = 0; xc_sr_bitmap_next(&r->present, gfn, &gfn); gfn++) {
        if (xc_sr_bitmap_test(&r->received, gfn) || xc_sr_restore_is_local(r, gfn))
            continue;
        gfns[n++] = gfn;
        if (n == XC_SR_BATCH) {
            if (xc_sr_restore_release(r, gfns, n, err) < 0)
                return -1;
            n = 0;
        }
    }
    return xc_sr_restore_release(r, gfns, n, err);
}

static int set_tail(struct xc_sr_restore *r, struct colo_err *err)
{
    colo_time t0 = colo_now();
    int rc = xc_sr_restore_set_tail(r, err);

    r->stats.t_context += colo_now() - t0;
    return rc;
}

int xc_sr_restore_finish(struct xc_sr_restore *r, bool logdirty, struct colo_err *err)
{
    struct xc_sr_domain_info info;
    colo_time t0 = colo_now();

    if (r->tail != XC_SR_TAIL_ALL)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "there is no whole image to finish");
    if (xc_sr_restore_scan(r, NULL, err) < 0 || check_moved(r, err) < 0 ||
        xc_sr_restore_map_staged(r, err) < 0)
        return -1;
    if (xc_sr_restore_write_staged(r, err) < 0 || release_extra(r, err) < 0)
        return -1;
    xc_sr_staging_reset(r->staging);
    r->stats.t_memory += colo_now() - t0;
    if (set_tail(r, err) < 0)
        return -1;
    if (logdirty) {
        if (r->dom->ops->logdirty_enable(r->dom, err) < 0)
            return -1;
        r->logdirty = true;
    }
    if (get_info(r, &info, err) < 0)
        return -1;
    r->tot_pages = info.tot_pages;
    xc_sr_runs_note(&r->runs, &r->present);
    xc_sr_restore_forget_image(r);
    r->first_done = true;
    return 0;
}

/* own |= dirty log */
static int read_log(struct xc_sr_restore *r, const struct xc_sr_domain_info *info, bool final,
                    struct colo_err *err)
{
    if (!r->logdirty)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "the dirty log is not on");
    if (xc_sr_bitmap_grow(&r->own, info->nr_gpfns, err) < 0 ||
        xc_sr_bitmap_grow(&r->log, info->nr_gpfns, err) < 0 ||
        r->dom->ops->logdirty_clean(r->dom, r->log.words, r->log.nbits, final, err) < 0)
        return -1;
    xc_sr_bitmap_or(&r->own, &r->log);
    return 0;
}

int xc_sr_restore_own_dirty(struct xc_sr_restore *r, struct colo_err *err)
{
    struct xc_sr_domain_info info;
    colo_time t0 = colo_now();
    bool moved;

    if (get_info(r, &info, err) < 0 || xc_sr_runs_moved(&r->runs, r->dom, &moved, err) < 0)
        return -1;
    /* Pages that our guest gained, gave back or moved need not be in the log, but are its doing. */
    if ((info.tot_pages != r->tot_pages || moved) && xc_sr_restore_scan(r, &r->own, err) < 0)
        return -1;
    if (read_log(r, &info, true, err) < 0)
        return -1;
    r->stats.t_dirtylog += colo_now() - t0;
    return 0;
}

int xc_sr_restore_note_dirty(struct xc_sr_restore *r, struct colo_err *err)
{
    struct xc_sr_domain_info info;
    colo_time t0 = colo_now();

    if (get_info(r, &info, err) < 0 || read_log(r, &info, false, err) < 0)
        return -1;
    if (info.tot_pages != r->tot_pages) /* present is right: we added and released by it */
        xc_sr_runs_note(&r->runs, &r->present);
    r->tot_pages = info.tot_pages;
    r->stats.t_dirtylog += colo_now() - t0;
    return 0;
}

int xc_sr_restore_send_list(struct xc_sr_restore *r, struct colo_err *err)
{
    const size_t full = XC_SR_RECORD_MAX / sizeof(uint64_t);
    size_t total = xc_sr_bitmap_count(&r->own), n = 0, first = 0, now;
    uint64_t *pfns = malloc(total * sizeof(*pfns) + 1);
    int rc = -1;

    if (!pfns)
        return colo_fail_errno(err, ENOMEM, "cannot list %zu dirty pages", total);
    for (uint64_t gfn = 0; xc_sr_bitmap_next(&r->own, gfn, &gfn); gfn++)
        if (!xc_sr_restore_is_local(r, gfn)) /* the primary would not send them */
            pfns[n++] = gfn;
    do {
        now = n - first < full ? n - first : full;
        if (xc_sr_write_simple(r->ch, XC_SR_REC_DIRTY_PFN_LIST, now ? pfns + first : NULL,
                               (uint32_t)(now * sizeof(*pfns)), xc_sr_restore_deadline(r), err) < 0)
            goto out;
        first += now;
    } while (now == full);
    rc = 0;
out:
    free(pfns);
    return rc;
}

int xc_sr_restore_stage(struct xc_sr_restore *r, struct colo_err *err)
{
    uint32_t last;

    if (!r->first_done)
        return colo_fail(err, COLO_ERR_LOCAL, NULL,
                         "no checkpoint can come before the first image "
                         "is finished");
    xc_sr_staging_reset(r->staging);
    return xc_sr_restore_image(r, true, &last, err);
}

void xc_sr_restore_discard(struct xc_sr_restore *r)
{
    xc_sr_staging_reset(r->staging);
    xc_sr_restore_forget_image(r);
}

int xc_sr_restore_apply(struct xc_sr_restore *r, struct colo_err *err)
{
    colo_time t0 = colo_now();
    bool moved;

    if (r->tail != XC_SR_TAIL_ALL)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "there is no whole checkpoint to apply");
    /* Device state that was loaded may have moved the video memory to where the primary has it. */
    if (xc_sr_runs_moved(&r->runs, r->dom, &moved, err) < 0 ||
        (moved && xc_sr_restore_scan(r, NULL, err) < 0))
        return -1;
    if (xc_sr_restore_map_staged(r, err) < 0)
        return -1;
    /* From here on there is only forward. */
    if (xc_sr_restore_write_staged(r, err) < 0 || xc_sr_restore_release_staged(r, err) < 0)
        return -1;
    r->stats.t_memory += colo_now() - t0;
    if (set_tail(r, err) < 0)
        return -1;
    xc_sr_bitmap_zero(&r->own);
    xc_sr_restore_discard(r);
    return 0;
}
