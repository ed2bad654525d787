/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The `xen` domain's memory: which frames there are, mapping, adding and removing them, and the
 * dirty log.
 */
#include "xc_sr_domain_xen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FRAMES_PAGES (XC_SR_XEN_FRAMES * sizeof(xen_pfn_t) / XC_PAGE_BYTES)

int xc_sr_xen_memory_init(struct xc_sr_domain_xen *x, struct colo_err *err)
{
    const xc_hypercall_buffer_t empty = {HYPERCALL_BUFFER_INIT_NO_BOUNCE};

    x->dirty = empty;
    x->fmem = xenforeignmemory_open(x->log, 0);
    if (!x->fmem)
        return colo_fail_errno(err, errno, "cannot map guests' memory");
    x->call = xencall_open(x->log, 0);
    if (!x->call)
        return colo_fail_errno(err, errno, "cannot call Xen");
    x->domctl = xencall_alloc_buffer_pages(x->call, 1);
    x->frames = xencall_alloc_buffer_pages(x->call, FRAMES_PAGES);
    if (!x->domctl || !x->frames)
        return colo_fail_errno(err, ENOMEM, "cannot get memory for hypercalls");
    return 0;
}

static void free_dirty(struct xc_sr_domain_xen *x)
{
    DECLARE_HYPERCALL_BUFFER_SHADOW(uint64_t, dirty, &x->dirty);

    if (x->dirty_pages)
        xc_hypercall_buffer_free_pages(x->xch, dirty, (int)x->dirty_pages);
    x->dirty_pages = 0;
}

void xc_sr_xen_memory_fini(struct xc_sr_domain_xen *x)
{
    free_dirty(x);
    if (x->call) {
        if (x->frames)
            xencall_free_buffer_pages(x->call, x->frames, FRAMES_PAGES);
        if (x->domctl)
            xencall_free_buffer_pages(x->call, x->domctl, 1);
        xencall_close(x->call);
    }
    if (x->fmem)
        xenforeignmemory_close(x->fmem);
}

/* x->frames holds n gfns; turn them into present[]. */
static int frames_present(struct xc_sr_domain_xen *x, size_t n, uint8_t *present,
                          struct colo_err *err)
{
    memset(x->domctl, 0, sizeof(*x->domctl));
    x->domctl->cmd = XEN_DOMCTL_getpageframeinfo3;
    x->domctl->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    x->domctl->domain = (domid_t)x->domid;
    x->domctl->u.getpageframeinfo3.num = n;
    set_xen_guest_handle_raw(x->domctl->u.getpageframeinfo3.array, x->frames);
    if (xencall1(x->call, __HYPERVISOR_domctl, (uintptr_t)x->domctl) < 0)
        return colo_fail_errno(err, errno, "cannot ask which pages domain %u has", x->domid);
    for (size_t i = 0; i < n; i++) {
        switch (x->frames[i] & XEN_DOMCTL_PFINFO_LTAB_MASK) {
        case XEN_DOMCTL_PFINFO_XTAB:
        case XEN_DOMCTL_PFINFO_XALLOC:
        case XEN_DOMCTL_PFINFO_BROKEN:
            present[i] = 0;
            break;
        default:
            present[i] = 1;
        }
    }
    return 0;
}

int xc_sr_xen_present(struct xc_sr_domain *d, uint64_t first, size_t n, uint8_t *present,
                      struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);

    for (size_t done = 0, now; done < n; done += now) {
        now = n - done < XC_SR_XEN_FRAMES ? n - done : XC_SR_XEN_FRAMES;
        for (size_t i = 0; i < now; i++)
            x->frames[i] = first + done + i;
        if (frames_present(x, now, present + done, err) < 0)
            return -1;
    }
    return 0;
}

int xc_sr_xen_map(struct xc_sr_domain *d, const uint64_t *gfns, int *errs, size_t n, bool writable,
                  void **addr, struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);
    int prot = writable ? PROT_READ | PROT_WRITE : PROT_READ;

    _Static_assert(sizeof(xen_pfn_t) == sizeof(uint64_t), "gfns go to Xen as they are");
    *addr = xenforeignmemory_map(x->fmem, x->domid, prot, n, (const xen_pfn_t *)gfns, errs);
    if (!*addr)
        return colo_fail_errno(err, errno, "cannot map %zu pages of domain %u", n, x->domid);
    for (size_t i = 0; i < n; i++)
        errs[i] = abs(errs[i]); /* the kernel's sign leaks through */
    return 0;
}

int xc_sr_xen_unmap(struct xc_sr_domain *d, void *addr, size_t n, struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);

    if (xenforeignmemory_unmap(x->fmem, addr, n) < 0)
        return colo_fail_errno(err, errno, "cannot unmap pages of domain %u", x->domid);
    return 0;
}

int xc_sr_xen_populate(struct xc_sr_domain *d, const uint64_t *gfns, size_t n, struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);
    struct xc_sr_domain_info info;
    int rc = -1;
    xen_pfn_t *list; /* the hypercall writes to it */

    if (!n)
        return 0;
    if (xc_sr_xen_info(d, &info, err) < 0)
        return -1;
    if (info.tot_pages + n > info.max_pages &&
        xc_domain_setmaxmem(x->xch, x->domid, (info.tot_pages + n) << (XC_PAGE_SHIFT_4K - 10)) < 0)
        return colo_fail_errno(err, errno, "cannot raise the memory limit of domain %u", x->domid);
    list = malloc(n * sizeof(*list));
    if (!list)
        return colo_fail_errno(err, ENOMEM, "cannot add %zu pages to domain %u", n, x->domid);
    memcpy(list, gfns, n * sizeof(*list));
    if (xc_domain_populate_physmap_exact(x->xch, x->domid, n, 0, 0, list) < 0) {
        colo_fail_errno(err, errno ? errno : ENOMEM, "cannot add %zu pages to domain %u", n,
                        x->domid);
        goto out;
    }
    rc = 0;
out:
    free(list);
    return rc;
}

int xc_sr_xen_release(struct xc_sr_domain *d, const uint64_t *gfns, size_t n, struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);
    uint8_t present[XC_SR_XEN_FRAMES];
    xen_pfn_t list[XC_SR_XEN_FRAMES];
    unsigned long there;

    for (size_t done = 0, now; done < n; done += now) {
        now = n - done < XC_SR_XEN_FRAMES ? n - done : XC_SR_XEN_FRAMES;
        memcpy(x->frames, gfns + done, now * sizeof(*x->frames));
        if (frames_present(x, now, present, err) < 0)
            return -1;
        there = 0;
        for (size_t i = 0; i < now; i++)
            if (present[i])
                list[there++] = gfns[done + i];
        if (there && xc_domain_decrease_reservation_exact(x->xch, x->domid, there, 0, list) < 0)
            return colo_fail_errno(err, errno ? errno : EINVAL,
                                   "cannot take %lu pages from domain %u", there, x->domid);
    }
    return 0;
}

int xc_sr_xen_logdirty_enable(struct xc_sr_domain *d, struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);
    int r = xc_shadow_control(x->xch, x->domid, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, NULL, 0);

    if (r < 0) {
        /* Left on by a tool that died. */
        xc_shadow_control(x->xch, x->domid, XEN_DOMCTL_SHADOW_OP_OFF, NULL, 0);
        r = xc_shadow_control(x->xch, x->domid, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, NULL, 0);
    }
    if (r < 0)
        return colo_fail_errno(err, errno, "cannot turn the dirty log of domain %u on", x->domid);
    if (x->has_hooks && x->hooks.logdirty && x->hooks.logdirty(x->hooks.priv, true, err) < 0) {
        x->hooks.logdirty(x->hooks.priv, false, NULL); /* it may just have been slow */
        xc_shadow_control(x->xch, x->domid, XEN_DOMCTL_SHADOW_OP_OFF, NULL, 0);
        return -1;
    }
    return 0;
}

static int want_dirty(struct xc_sr_domain_xen *x, uint64_t nbits, struct colo_err *err)
{
    size_t pages = (nbits / 8 + XC_PAGE_BYTES - 1) / XC_PAGE_BYTES;
    DECLARE_HYPERCALL_BUFFER_SHADOW(uint64_t, dirty, &x->dirty);

    if (pages <= x->dirty_pages)
        return 0;
    free_dirty(x);
    dirty = xc_hypercall_buffer_alloc_pages(x->xch, dirty, (int)pages);
    if (!dirty)
        return colo_fail_errno(err, ENOMEM, "cannot get memory for a dirty log of %zu pages",
                               pages);
    x->dirty_pages = pages;
    return 0;
}

int xc_sr_xen_logdirty_clean(struct xc_sr_domain *d, uint64_t *bitmap, uint64_t nbits, bool final,
                             struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);
    xc_shadow_op_stats_t stats;
    long long got;
    uint64_t bits;

    if (want_dirty(x, nbits, err) < 0)
        return -1;
    got = xc_logdirty_control(x->xch, x->domid, XEN_DOMCTL_SHADOW_OP_CLEAN, &x->dirty,
                              (unsigned long)nbits, final ? XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL : 0,
                              &stats);
    if (got < 0)
        return colo_fail_errno(err, errno, "cannot read the dirty log of domain %u", x->domid);
    bits = (uint64_t)got < nbits ? (uint64_t)got : nbits;
    memset(bitmap, 0, nbits / 8);
    memcpy(bitmap, x->dirty.hbuf, (bits + 7) / 8);
    if (bits % 64)
        bitmap[bits / 64] &= (UINT64_C(1) << (bits % 64)) - 1;
    return 0;
}

int xc_sr_xen_logdirty_disable(struct xc_sr_domain *d, struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);
    int rc = 0;

    if (xc_shadow_control(x->xch, x->domid, XEN_DOMCTL_SHADOW_OP_OFF, NULL, 0) < 0)
        rc = colo_fail_errno(err, errno, "cannot turn the dirty log of domain %u off", x->domid);
    if (x->has_hooks && x->hooks.logdirty && x->hooks.logdirty(x->hooks.priv, false, err) < 0)
        rc = -1;
    free_dirty(x);
    return rc;
}
