/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Saving a domain as a libxc v3 stream: the order of things.  Pages are in xc_sr_save_pages.c.
 */
#include "xc_sr_save_pages.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PRECOPY_ROUNDS 5u
#define PRECOPY_ENOUGH 50u /* dirty pages: fewer are left for the checkpoint */

colo_time xc_sr_save_deadline(const struct xc_sr_save *s)
{
    return colo_deadline(s->io_timeout, s->limit);
}

int xc_sr_save_record(struct xc_sr_save *s, uint32_t type, const struct iovec *iov, int cnt,
                      struct colo_err *err)
{
    uint64_t len = 0;

    for (int i = 0; i < cnt; i++)
        len += iov[i].iov_len;
    if (xc_sr_write_record(s->ch, type, iov, cnt, xc_sr_save_deadline(s), err) < 0)
        return -1;
    s->stats.bytes += sizeof(struct xc_sr_rhdr) +
                      (len + XC_SR_RECORD_ALIGN - 1) / XC_SR_RECORD_ALIGN * XC_SR_RECORD_ALIGN;
    return 0;
}

int xc_sr_save_simple(struct xc_sr_save *s, uint32_t type, const void *body, size_t length,
                      struct colo_err *err)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)body, .iov_len = length};

    return xc_sr_save_record(s, type, &iov, length ? 1 : 0, err);
}

int xc_sr_save_resize(struct xc_sr_save *s, uint64_t *pages, struct colo_err *err)
{
    struct xc_sr_domain_info info;

    if (s->dom->ops->info(s->dom, &info, err) < 0)
        return -1;
    if (pages)
        *pages = info.tot_pages;
    if (info.nr_gpfns > XC_SR_MAX_GFNS)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "the domain claims a size of %llu pages",
                         (unsigned long long)info.nr_gpfns);
    if (info.nr_gpfns <= s->nr_gfns)
        return 0;
    if (xc_sr_bitmap_grow(&s->dirty, info.nr_gpfns, err) < 0 ||
        xc_sr_bitmap_grow(&s->log, info.nr_gpfns, err) < 0 ||
        xc_sr_bitmap_grow(&s->known, info.nr_gpfns, err) < 0)
        return -1;
    s->nr_gfns = info.nr_gpfns;
    return 0;
}

int xc_sr_save_init(struct xc_sr_save *s, struct colo_err *err)
{
    struct xc_sr_save_batch *b;
    struct xc_sr_domain_info info;

    memset(&s->stats, 0, sizeof(s->stats));
    memset(&s->dirty, 0, sizeof(s->dirty));
    memset(&s->log, 0, sizeof(s->log));
    memset(&s->known, 0, sizeof(s->known));
    s->runs.n = 0;
    s->nr_gfns = 0;
    s->tot_pages = 0;
    s->logdirty = false;
    s->batch = NULL;

    if (s->dom->ops->info(s->dom, &info, err) < 0)
        return -1;
    if (!info.hvm)
        return colo_fail(err, COLO_ERR_REFUSED, "not-hvm", "the domain is not an HVM guest");
    s->batch = b = calloc(1, sizeof(*b));
    if (!b)
        return colo_fail_errno(err, ENOMEM, "cannot save the domain");
    if (xc_sr_bitmap_init(&s->dirty, info.nr_gpfns, err) < 0 ||
        xc_sr_bitmap_init(&s->log, info.nr_gpfns, err) < 0 ||
        xc_sr_bitmap_init(&s->known, info.nr_gpfns, err) < 0 || xc_sr_save_resize(s, NULL, err) < 0)
        goto fail;
    if (!s->explicit_pfns &&
        xc_sr_local_gfns(s->dom, b->local, sizeof(b->local) / sizeof(b->local[0]), &b->nlocal,
                         err) < 0)
        goto fail;
    return 0;

fail:
    xc_sr_save_fini(s);
    return -1;
}

void xc_sr_save_fini(struct xc_sr_save *s)
{
    if (s->logdirty)
        s->dom->ops->logdirty_disable(s->dom, NULL); /* the domain may be gone: nothing to tell */
    s->logdirty = false;
    xc_sr_bitmap_fini(&s->dirty);
    xc_sr_bitmap_fini(&s->log);
    xc_sr_bitmap_fini(&s->known);
    free(s->batch);
    s->batch = NULL;
}

int xc_sr_save_begin(struct xc_sr_save *s, struct colo_err *err)
{
    const struct xc_sr_ihdr ihdr = {
        .marker = htobe64(XC_SR_IHDR_MARKER),
        .id = htobe32(XC_SR_IHDR_ID),
        .version = htobe32(XC_SR_IHDR_VERSION),
    };
    const struct xc_sr_dhdr dhdr = {
        .type = XC_SR_DHDR_TYPE_X86_HVM,
        .page_shift = XC_PAGE_SHIFT_4K,
        .xen_major = s->xen_major,
        .xen_minor = s->xen_minor,
    };
    struct xc_sr_policy policy = {0};
    struct iovec iov[2] = {
        {.iov_base = (void *)(uintptr_t)&ihdr, .iov_len = sizeof(ihdr)},
        {.iov_base = (void *)(uintptr_t)&dhdr, .iov_len = sizeof(dhdr)},
    };
    int rc = -1;

    if (s->dom->ops->get_policy(s->dom, &policy, err) < 0)
        return -1;
    if (xc_sr_channel_writev(s->ch, iov, 2, xc_sr_save_deadline(s), err) < 0)
        goto out;
    s->stats.bytes += sizeof(ihdr) + sizeof(dhdr);
    if (policy.cpuid_bytes && xc_sr_save_simple(s, XC_SR_REC_X86_CPUID_POLICY, policy.cpuid_leaves,
                                                policy.cpuid_bytes, err) < 0)
        goto out;
    if (policy.msr_bytes &&
        xc_sr_save_simple(s, XC_SR_REC_X86_MSR_POLICY, policy.msrs, policy.msr_bytes, err) < 0)
        goto out;
    rc = xc_sr_save_simple(s, XC_SR_REC_STATIC_DATA_END, NULL, 0, err);
out:
    free(policy.cpuid_leaves);
    free(policy.msrs);
    return rc;
}

int xc_sr_save_precopy(struct xc_sr_save *s, xc_sr_precopy_cb *cb, void *priv, struct colo_err *err)
{
    struct xc_sr_save_watch w = {.cb = cb, .priv = priv};

    if (!s->logdirty) {
        if (s->dom->ops->logdirty_enable(s->dom, err) < 0)
            return -1;
        s->logdirty = true;
    }
    if (xc_sr_save_resize(s, &s->tot_pages, err) < 0 || xc_sr_save_walk(s, &w, err) < 0)
        return -1;
    for (unsigned int i = 1; i <= PRECOPY_ROUNDS && !w.stop; i++) {
        if (xc_sr_save_read_dirty(s, false, err) < 0)
            return -1;
        if (xc_sr_bitmap_count(&s->dirty) < PRECOPY_ENOUGH)
            break;
        w.progress.iteration = i;
        if (xc_sr_save_send_set(s, true, &w, err) < 0)
            return -1;
    }
    return 0;
}

int xc_sr_save_mark_all(struct xc_sr_save *s, struct colo_err *err)
{
    xc_sr_bitmap_zero(&s->known);
    s->tot_pages = 0; /* everything is news */
    return xc_sr_save_rescan(s, err);
}

int xc_sr_save_read_dirty(struct xc_sr_save *s, bool final, struct colo_err *err)
{
    colo_time t0 = colo_now();

    if (!s->logdirty)
        return 0; /* a suspended domain that was marked whole */
    /* In this order: a page that comes after the scan is watched from the clean on, and makes the
     * next scan happen. */
    if (xc_sr_save_rescan(s, err) < 0)
        return -1;
    if (s->dom->ops->logdirty_clean(s->dom, s->log.words, s->log.nbits, final, err) < 0)
        return -1;
    xc_sr_bitmap_or(&s->dirty, &s->log);
    s->stats.p_dirty = xc_sr_bitmap_count(&s->log);
    s->stats.t_dirtylog += colo_now() - t0;
    return 0;
}

int xc_sr_save_merge_list(struct xc_sr_save *s, struct colo_err *err)
{
    struct xc_sr_record rec = {0};
    uint64_t bound, left;
    const uint64_t *pfns;
    uint32_t limit;
    bool more;
    int rc = -1;

    if (xc_sr_save_resize(s, NULL, err) < 0)
        return -1;
    bound = s->max_gfns > s->nr_gfns ? s->max_gfns : s->nr_gfns;
    if (xc_sr_bitmap_grow(&s->dirty, bound, err) < 0)
        return -1;
    s->stats.s_dirty = 0;
    left = bound; /* pfns that the list can still have without naming one twice */
    do {
        limit = left < XC_SR_RECORD_MAX / sizeof(*pfns) ? (uint32_t)(left * sizeof(*pfns))
                                                        : XC_SR_RECORD_MAX;
        if (xc_sr_read_record(s->ch, limit, xc_sr_save_deadline(s), &rec, err) < 0) {
            colo_err_prefix(err, "the secondary's list of dirty pages");
            goto out;
        }
        if (rec.type != XC_SR_REC_DIRTY_PFN_LIST || rec.length % sizeof(*pfns)) {
            colo_fail(err, COLO_ERR_PROTOCOL, NULL,
                      "expected the secondary's list of dirty pages, "
                      "got %s of %u bytes",
                      xc_sr_record_name(rec.type), rec.length);
            goto out;
        }
        pfns = rec.data;
        for (size_t i = 0; i < rec.length / sizeof(*pfns); i++) {
            if (pfns[i] >= bound) {
                colo_fail(err, COLO_ERR_PROTOCOL, NULL,
                          "the secondary lists page 0x%llx of a "
                          "guest of 0x%llx pages",
                          (unsigned long long)pfns[i], (unsigned long long)bound);
                goto out;
            }
            xc_sr_bitmap_set(&s->dirty, pfns[i]);
        }
        s->stats.s_dirty += rec.length / sizeof(*pfns);
        left -= rec.length / sizeof(*pfns);
        more = rec.length == XC_SR_RECORD_MAX;
        xc_sr_record_free(&rec);
    } while (more);
    rc = 0;
out:
    xc_sr_record_free(&rec);
    return rc;
}

int xc_sr_save_send_dirty(struct xc_sr_save *s, xc_sr_precopy_cb *cb, void *priv,
                          struct colo_err *err)
{
    struct xc_sr_save_watch w = {.cb = cb, .priv = priv};

    s->stats.union_dirty = xc_sr_bitmap_count(&s->dirty);
    return xc_sr_save_send_set(s, false, &w, err);
}

static int send_tsc(struct xc_sr_save *s, struct colo_err *err)
{
    struct xc_sr_rec_tsc_info rec = {0};
    struct xc_sr_tsc_info tsc = {0};

    if (s->dom->ops->get_tsc(s->dom, &tsc, err) < 0)
        return -1;
    rec.mode = tsc.mode;
    rec.khz = tsc.khz;
    rec.nsec = tsc.nsec;
    rec.incarnation = tsc.incarnation;
    return xc_sr_save_simple(s, XC_SR_REC_X86_TSC_INFO, &rec, sizeof(rec), err);
}

static int send_context(struct xc_sr_save *s, struct colo_err *err)
{
    void *buf = NULL;
    size_t len = 0;
    int rc;

    if (s->dom->ops->get_hvm_context(s->dom, &buf, &len, err) < 0)
        return -1;
    rc = xc_sr_save_simple(s, XC_SR_REC_HVM_CONTEXT, buf, len, err);
    free(buf);
    return rc;
}

static int send_params(struct xc_sr_save *s, struct colo_err *err)
{
    struct xc_sr_rec_hvm_params hdr = {0};
    struct xc_sr_rec_hvm_params_entry e[64];
    struct iovec iov[2] = {{.iov_base = &hdr, .iov_len = sizeof(hdr)}, {.iov_base = e}};
    uint64_t value;

    for (size_t i = 0; i < xc_sr_nr_hvm_params && hdr.count < sizeof(e) / sizeof(e[0]); i++) {
        if (s->dom->ops->get_hvm_param(s->dom, xc_sr_hvm_params[i], &value, err) < 0)
            return -1;
        if (!value)
            continue;
        e[hdr.count].index = xc_sr_hvm_params[i];
        e[hdr.count].value = value;
        hdr.count++;
    }
    iov[1].iov_len = hdr.count * sizeof(e[0]);
    return xc_sr_save_record(s, XC_SR_REC_HVM_PARAMS, iov, hdr.count ? 2 : 1, err);
}

int xc_sr_save_tail(struct xc_sr_save *s, uint32_t last, struct colo_err *err)
{
    colo_time t0 = colo_now();

    if (send_tsc(s, err) < 0 || send_context(s, err) < 0 || send_params(s, err) < 0 ||
        xc_sr_save_simple(s, last, NULL, 0, err) < 0)
        return -1;
    s->stats.t_context += colo_now() - t0;
    return 0;
}
