/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The domain, as a stream sees it: the first of the project's two seams.
 *
 * `xen` (xc_sr_domain_xen.c) is a real HVM domain through libxenctrl and libxenforeignmemory.
 * `mem` (xc_sr_domain_mem.c) is a domain that is a plain memory with a dirty map, for unit tests,
 * fuzzing, fault injection and benchmarks at native speed.
 *
 * Rules for every op: 0, or -1 with *err filled.  Frames are 4096 bytes (XC_PAGE_SIZE).  pfn and
 * gfn are the same number for an HVM guest.  Buffers that an op hands out are malloc'ed and are
 * the caller's to free.  Ops of one domain are called by one thread at a time.
 */
#ifndef XC_SR_DOMAIN_H
#define XC_SR_DOMAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "colo_err.h"

#define XC_PAGE_SHIFT_4K 12
#define XC_PAGE_BYTES    ((size_t)4096)

/* No HVM guest of Xen 4.17 on x86 has a gfn at or above 2^36 (a p2m of 48 address bits). */
#define XC_SR_MAX_GFNS (UINT64_C(1) << 36)

#define XC_SR_SHUTDOWN_SUSPEND 2 /* Xen's SHUTDOWN_suspend: what suspend does */

struct xc_sr_domain_info {
    bool hvm;
    unsigned int vcpus;
    uint64_t nr_gpfns;   /* highest gfn + 1, re-read at each call */
    uint64_t tot_pages;  /* pages that the domain owns now */
    uint64_t max_pages;  /* its limit */
    bool shutdown;       /* all vCPUs are down, ... */
    int shutdown_reason; /* ... for this SHUTDOWN_* reason; -1 when not shut down */
    bool paused;
};

struct xc_sr_tsc_info {
    uint32_t mode;
    uint32_t khz;
    uint64_t nsec;
    uint32_t incarnation;
};

struct
    xc_sr_policy { /* wire layouts of X86_CPUID_POLICY (24 B) and X86_MSR_POLICY (16 B) records */
    void *cpuid_leaves;
    size_t cpuid_bytes;
    void *msrs;
    size_t msr_bytes;
};

struct xc_sr_domain;

struct xc_sr_domain_ops {
    const char *name; /* "xen" or "mem" */

    int (*info)(struct xc_sr_domain *d, struct xc_sr_domain_info *out, struct colo_err *err);

    /* Which of the gfns first..first+n-1 have a page behind them: present[i] = 1 or 0. */
    int (*present)(struct xc_sr_domain *d, uint64_t first, size_t n, uint8_t *present,
                   struct colo_err *err);

    /*
     * Map n gfns to n consecutive pages of our address space, *addr.  errs[i] is 0, or a positive
     * errno for a gfn that has no page behind it (a hole: not an error of the call; the page at
     * that place must not be touched).  unmap takes the same address and n.
     */
    int (*map)(struct xc_sr_domain *d, const uint64_t *gfns, int *errs, size_t n, bool writable,
               void **addr, struct colo_err *err);
    int (*unmap)(struct xc_sr_domain *d, void *addr, size_t n, struct colo_err *err);

    /* Give each gfn a fresh page; all or an error.  The content of a fresh page is undefined. */
    int (*populate)(struct xc_sr_domain *d, const uint64_t *gfns, size_t n, struct colo_err *err);
    /* Take the pages behind these gfns away; gfns without one are passed over. */
    int (*release)(struct xc_sr_domain *d, const uint64_t *gfns, size_t n, struct colo_err *err);

    /*
     * Dirty log of all gfns, the device model's writes included.  enable starts with a clean log.
     * clean reads and clears it: bitmap has room for nbits (a multiple of 64), bit g = gfn g was
     * written since the last clean; bits past the domain's end come back 0.  final says that the
     * domain is suspended and that this is the read that a checkpoint is made from.
     */
    int (*logdirty_enable)(struct xc_sr_domain *d, struct colo_err *err);
    int (*logdirty_clean)(struct xc_sr_domain *d, uint64_t *bitmap, uint64_t nbits, bool final,
                          struct colo_err *err);
    int (*logdirty_disable)(struct xc_sr_domain *d, struct colo_err *err);

    /* HVM context: vCPUs, LAPIC, IOAPIC, PIT, ...: an opaque blob of Xen's. */
    int (*get_hvm_context)(struct xc_sr_domain *d, void **buf, size_t *len, struct colo_err *err);
    int (*set_hvm_context)(struct xc_sr_domain *d, const void *buf, size_t len,
                           struct colo_err *err);

    int (*get_hvm_param)(struct xc_sr_domain *d, uint32_t index, uint64_t *value,
                         struct colo_err *err);
    int (*set_hvm_param)(struct xc_sr_domain *d, uint32_t index, uint64_t value,
                         struct colo_err *err);

    int (*get_tsc)(struct xc_sr_domain *d, struct xc_sr_tsc_info *out, struct colo_err *err);
    int (*set_tsc)(struct xc_sr_domain *d, const struct xc_sr_tsc_info *in, struct colo_err *err);

    /* Policies: get allocates both arrays.  set only works before the domain has first run. */
    int (*get_policy)(struct xc_sr_domain *d, struct xc_sr_policy *out, struct colo_err *err);
    int (*set_policy)(struct xc_sr_domain *d, const struct xc_sr_policy *in, struct colo_err *err);

    /*
     * suspend: shut all vCPUs down with reason suspend, wait until they are (each vCPU first
     * completes its outstanding I/O), and stop the device model.  -1 with COLO_ERR_GUEST_DOWN when
     * the guest has shut down for another reason.  resume undoes it.  Calling suspend on a
     * suspended domain, or resume on a running one, is allowed and does nothing.
     */
    int (*suspend)(struct xc_sr_domain *d, colo_time deadline, struct colo_err *err);
    int (*resume)(struct xc_sr_domain *d, struct colo_err *err);

    /* Device-model state, an opaque blob of QEMU's; the domain is suspended.  A domain without a
     * device model saves 0 bytes.  load may move pages in the p2m (video memory). */
    /* devices_save_begin, which may be NULL, lets the device model work while the caller does other
     * things; devices_save then collects the result, and must do so before resume. */
    int (*devices_save_begin)(struct xc_sr_domain *d, struct colo_err *err);
    int (*devices_save)(struct xc_sr_domain *d, void **buf, size_t *len, struct colo_err *err);
    int (*devices_load)(struct xc_sr_domain *d, const void *buf, size_t len, struct colo_err *err);

    void (*close)(struct xc_sr_domain *d); /* frees d; leaves the domain itself as it is */
};

struct xc_sr_domain {
    const struct xc_sr_domain_ops *ops;
    /* the implementation's own fields follow in its larger struct */
};

/* HVM_PARAM_* indices that a stream carries, in the stock order; and those of them whose value is
 * the receiving host's own business when a stream is laid over a domain that was built there
 * (rings and ioreq pages: the local xenstored, xenconsoled and QEMU hold them). */
extern const uint32_t xc_sr_hvm_params[];
extern const size_t xc_sr_nr_hvm_params;
bool xc_sr_hvm_param_is_local(uint32_t index);

/*
 * The pages behind the local params (xenstore ring, console ring, ioreq and bufioreq pages).
 * Their content is never sent nor overwritten: gfns[] gets up to max gfns, *n their number.
 */
int xc_sr_local_gfns(struct xc_sr_domain *d, uint64_t *gfns, size_t max, size_t *n,
                     struct colo_err *err);

/* ---- xen ---- */
/*
 * What the xen implementation needs from the layer above, because libxc knows neither xenstore
 * nor QMP.  Same return rules.  wait_change blocks until the state of some domain may have changed
 * (the @releaseDomain watch) or the deadline is past; spurious returns are fine.  resumed tells
 * xenstored that the domain runs again, so that it announces its next shutdown.
 */
struct xc_sr_dm_hooks {
    void *priv;
    int (*wait_change)(void *priv, colo_time deadline, struct colo_err *err);
    int (*resumed)(void *priv, struct colo_err *err);
    int (*stop)(void *priv, struct colo_err *err);
    int (*cont)(void *priv, struct colo_err *err);
    int (*logdirty)(void *priv, bool on, struct colo_err *err);
    int (*save_begin)(void *priv, struct colo_err *err);
    int (*save)(void *priv, void **buf, size_t *len, struct colo_err *err);
    int (*load)(void *priv, const void *buf, size_t len, struct colo_err *err);
};

/* Attach to a built domain.  hooks may be NULL (no device model: plain tools); it is copied. */
int xc_sr_domain_xen_open(uint32_t domid, const struct xc_sr_dm_hooks *hooks,
                          struct xc_sr_domain **out, struct colo_err *err);

/* ---- mem ---- */
/*
 * A domain that is a plain memory.  It is as unhelpful as a real one may be: a hole is not
 * readable, a read-only mapping not writable, a fresh page is full of garbage, writes through a
 * mapping do not mark pages dirty, and a page that was added while the dirty log was on is only
 * watched from the next clean on.  Populating a gfn that has a page is an error, as are setting
 * policies of a domain that has run, the final clean of a running domain, and saving or loading
 * device state while it runs.
 */
struct xc_sr_mem_config {
    uint64_t nr_gfns; /* size of the gfn space; info's nr_gpfns is the highest one ever used + 1 */
    uint64_t populated; /* gfns 0..populated-1 have a page at first, filled with zeroes */
    uint64_t max_pages; /* populate fails with ENOMEM beyond it; 0 = nr_gfns */
};
int xc_sr_domain_mem_open(const struct xc_sr_mem_config *cfg, struct xc_sr_domain **out,
                          struct colo_err *err);
/* For tests: the page behind a gfn or NULL; a guest's write (marks dirty when the log is on).  A
 * guest that is suspended or down does not write, nor one to a hole: false.  Guest writes may come
 * from a thread of their own. */
void *xc_sr_mem_page(struct xc_sr_domain *d, uint64_t gfn);
bool xc_sr_mem_guest_write(struct xc_sr_domain *d, uint64_t gfn, size_t off, const void *src,
                           size_t len);
/* The guest shuts itself down, unless it is suspended already: suspend then finds it down for this
 * reason.  As on Xen, the domain is stopped all the same, and resume makes it run again. */
void xc_sr_mem_guest_shutdown(struct xc_sr_domain *d, int reason);
void xc_sr_mem_set_context(struct xc_sr_domain *d, const void *buf, size_t len);
void xc_sr_mem_set_devices(struct xc_sr_domain *d, const void *buf, size_t len);
bool xc_sr_mem_is_suspended(struct xc_sr_domain *d);
/* Equal memory (holes included, the pages of the local params left out), context, params that
 * travel, TSC and device state?  On false, why[] says what differs first. */
bool xc_sr_mem_equal(struct xc_sr_domain *a, struct xc_sr_domain *b, char *why, size_t whylen);
/* The nth op from now (1 = the next) of this name fails with COLO_ERR_LOCAL, reason "injected", and
 * does nothing; 0 clears.  The name is that of the ops' member; "*" counts every op. */
void xc_sr_mem_fail_op(struct xc_sr_domain *d, const char *op, unsigned int nth);

#endif
