/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * What the files of the `xen` domain share; nobody else includes this.
 */
#ifndef XC_SR_DOMAIN_XEN_H
#define XC_SR_DOMAIN_XEN_H

#include <xencall.h>
#include <xenctrl.h>
#include <xenforeignmemory.h>
#include <xenguest.h>
#include <xentoollog.h>

#include "xc_sr_domain.h"

/* Frames that one XEN_DOMCTL_getpageframeinfo3 may ask for. */
#define XC_SR_XEN_FRAMES ((size_t)1024)

struct xc_sr_domain_xen {
    struct xc_sr_domain d;
    uint32_t domid;
    struct xc_sr_dm_hooks hooks;
    bool has_hooks;

    xentoollog_logger *log;
    xc_interface *xch;
    xenforeignmemory_handle *fmem;
    xencall_handle *call;

    /* Hypercall-safe memory, allocated once: a checkpoint must not pay for it. */
    struct xen_domctl *domctl;
    xen_pfn_t *frames; /* XC_SR_XEN_FRAMES */
    xc_hypercall_buffer_t dirty;
    size_t dirty_pages;

    size_t context_size; /* as Xen last reported it; 0 = not asked yet */
    bool down;           /* we asked for the shutdown and have not resumed since */
    bool dm_stopped;
    bool dm_saving; /* begun, not yet collected */
};

static inline struct xc_sr_domain_xen *xc_sr_xen(struct xc_sr_domain *d)
{
    return (struct xc_sr_domain_xen *)d;
}

/* xc_sr_domain_xen.c */
int xc_sr_xen_info(struct xc_sr_domain *d, struct xc_sr_domain_info *out, struct colo_err *err);

/* xc_sr_domain_xen_memory.c */
int xc_sr_xen_memory_init(struct xc_sr_domain_xen *x, struct colo_err *err);
void xc_sr_xen_memory_fini(struct xc_sr_domain_xen *x);
int xc_sr_xen_present(struct xc_sr_domain *d, uint64_t first, size_t n, uint8_t *present,
                      struct colo_err *err);
int xc_sr_xen_map(struct xc_sr_domain *d, const uint64_t *gfns, int *errs, size_t n, bool writable,
                  void **addr, struct colo_err *err);
int xc_sr_xen_unmap(struct xc_sr_domain *d, void *addr, size_t n, struct colo_err *err);
int xc_sr_xen_populate(struct xc_sr_domain *d, const uint64_t *gfns, size_t n,
                       struct colo_err *err);
int xc_sr_xen_release(struct xc_sr_domain *d, const uint64_t *gfns, size_t n, struct colo_err *err);
int xc_sr_xen_logdirty_enable(struct xc_sr_domain *d, struct colo_err *err);
int xc_sr_xen_logdirty_clean(struct xc_sr_domain *d, uint64_t *bitmap, uint64_t nbits, bool final,
                             struct colo_err *err);
int xc_sr_xen_logdirty_disable(struct xc_sr_domain *d, struct colo_err *err);

/* xc_sr_domain_xen_cpu.c */
int xc_sr_xen_get_hvm_context(struct xc_sr_domain *d, void **buf, size_t *len,
                              struct colo_err *err);
int xc_sr_xen_set_hvm_context(struct xc_sr_domain *d, const void *buf, size_t len,
                              struct colo_err *err);
int xc_sr_xen_get_hvm_param(struct xc_sr_domain *d, uint32_t index, uint64_t *value,
                            struct colo_err *err);
int xc_sr_xen_set_hvm_param(struct xc_sr_domain *d, uint32_t index, uint64_t value,
                            struct colo_err *err);
int xc_sr_xen_get_tsc(struct xc_sr_domain *d, struct xc_sr_tsc_info *out, struct colo_err *err);
int xc_sr_xen_set_tsc(struct xc_sr_domain *d, const struct xc_sr_tsc_info *in,
                      struct colo_err *err);
int xc_sr_xen_get_policy(struct xc_sr_domain *d, struct xc_sr_policy *out, struct colo_err *err);
int xc_sr_xen_set_policy(struct xc_sr_domain *d, const struct xc_sr_policy *in,
                         struct colo_err *err);

#endif
