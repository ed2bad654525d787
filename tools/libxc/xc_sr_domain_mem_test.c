/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * What tests do to a mem domain from the side: play the guest, make ops fail, compare two.
 */
#include "xc_sr_domain_mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *xc_sr_mem_page(struct xc_sr_domain *d, uint64_t gfn)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);

    return xc_sr_bitmap_test(&m->present, gfn) ? m->base + gfn * XC_PAGE_BYTES : NULL;
}

bool xc_sr_mem_guest_write(struct xc_sr_domain *d, uint64_t gfn, size_t off, const void *src,
                           size_t len)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);
    bool can;

    if (off > XC_PAGE_BYTES || len > XC_PAGE_BYTES - off)
        return false;
    pthread_mutex_lock(&m->lock);
    can = !m->suspended && m->shutdown_reason < 0 && xc_sr_bitmap_test(&m->present, gfn);
    if (can) {
        m->has_run = true;
        memcpy(m->base + gfn * XC_PAGE_BYTES + off, src, len);
        if (m->logdirty && xc_sr_bitmap_test(&m->watched, gfn))
            xc_sr_bitmap_set(&m->dirty, gfn);
    }
    pthread_mutex_unlock(&m->lock);
    return can;
}

void xc_sr_mem_guest_shutdown(struct xc_sr_domain *d, int reason)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);

    pthread_mutex_lock(&m->lock);
    if (!m->suspended)
        m->shutdown_reason = reason;
    pthread_mutex_unlock(&m->lock);
}

static void set_or_abort(struct xc_sr_mem_blob *b, const void *buf, size_t len)
{
    struct colo_err err;

    if (xc_sr_mem_blob_set(b, buf, len, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
}

void xc_sr_mem_set_context(struct xc_sr_domain *d, const void *buf, size_t len)
{
    set_or_abort(&xc_sr_mem_of(d)->context, buf, len);
}

void xc_sr_mem_set_devices(struct xc_sr_domain *d, const void *buf, size_t len)
{
    set_or_abort(&xc_sr_mem_of(d)->devices, buf, len);
}

bool xc_sr_mem_is_suspended(struct xc_sr_domain *d)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);
    bool r;

    pthread_mutex_lock(&m->lock);
    r = m->suspended;
    pthread_mutex_unlock(&m->lock);
    return r;
}

void xc_sr_mem_fail_op(struct xc_sr_domain *d, const char *op, unsigned int nth)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);

    snprintf(m->fail_name, sizeof(m->fail_name), "%s", op);
    m->fail_nth = nth;
}

/* ---- comparing ---- */

static bool blobs_equal(const struct xc_sr_mem_blob *a, const struct xc_sr_mem_blob *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static bool is_one_of(uint64_t gfn, const uint64_t *gfns, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (gfns[i] == gfn)
            return true;
    }
    return false;
}

static bool memory_equal(struct xc_sr_mem *a, struct xc_sr_mem *b, char *why, size_t whylen)
{
    uint64_t top = a->top > b->top ? a->top : b->top;
    uint64_t local[64];
    size_t n, more;

    if (xc_sr_local_gfns(&a->dom, local, 32, &n, NULL) ||
        xc_sr_local_gfns(&b->dom, local + n, 32, &more, NULL)) {
        snprintf(why, whylen, "the local gfns cannot be told");
        return false;
    }
    for (uint64_t g = 0; g < top; g++) {
        const unsigned char *pa = xc_sr_mem_page(&a->dom, g), *pb = xc_sr_mem_page(&b->dom, g);

        if ((!pa && !pb) || is_one_of(g, local, n + more))
            continue;
        if (!pa || !pb) {
            snprintf(why, whylen, "gfn %#llx is a hole in the %s", (unsigned long long)g,
                     pa ? "second" : "first");
            return false;
        }
        if (memcmp(pa, pb, XC_PAGE_BYTES) != 0) {
            snprintf(why, whylen, "gfn %#llx differs", (unsigned long long)g);
            return false;
        }
    }
    return true;
}

bool xc_sr_mem_equal(struct xc_sr_domain *da, struct xc_sr_domain *db, char *why, size_t whylen)
{
    struct xc_sr_mem *a = xc_sr_mem_of(da), *b = xc_sr_mem_of(db);

    if (!memory_equal(a, b, why, whylen))
        return false;
    for (size_t i = 0; i < xc_sr_nr_hvm_params; i++) {
        uint32_t p = xc_sr_hvm_params[i];

        if (!xc_sr_hvm_param_is_local(p) && a->params[p] != b->params[p]) {
            snprintf(why, whylen, "HVM param %u is %#llx and %#llx", p,
                     (unsigned long long)a->params[p], (unsigned long long)b->params[p]);
            return false;
        }
    }
    if (!blobs_equal(&a->context, &b->context)) {
        snprintf(why, whylen, "HVM context of %zu and %zu bytes", a->context.len, b->context.len);
        return false;
    }
    if (!blobs_equal(&a->devices, &b->devices)) {
        snprintf(why, whylen, "device state of %zu and %zu bytes", a->devices.len, b->devices.len);
        return false;
    }
    if (a->tsc.mode != b->tsc.mode || a->tsc.khz != b->tsc.khz || a->tsc.nsec != b->tsc.nsec ||
        a->tsc.incarnation != b->tsc.incarnation) {
        snprintf(why, whylen, "TSC info");
        return false;
    }
    return true;
}
