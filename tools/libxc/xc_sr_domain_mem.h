/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The inside of the mem domain, for its two files: the ops, and what tests do to it.
 */
#ifndef XC_SR_DOMAIN_MEM_H
#define XC_SR_DOMAIN_MEM_H

#include <pthread.h>

#include "xc_sr_bitmap.h"
#include "xc_sr_domain.h"

#define MEM_NR_PARAMS 64

struct xc_sr_mem_blob {
    void *data;
    size_t len;
};

struct xc_sr_mem {
    struct xc_sr_domain dom;
    struct xc_sr_mem_config cfg;
    int memfd;           /* the page of gfn g lies at g * 4096, if present */
    unsigned char *base; /* all of it, mapped once */
    uint64_t top;        /* highest gfn ever used + 1 */
    uint64_t pages;
    uint64_t garbage; /* seed of the next fresh page's content */

    pthread_mutex_t lock; /* guest writes may come from another thread: guards what follows */
    struct xc_sr_bitmap present, dirty, watched;
    bool logdirty;
    bool suspended;
    bool has_run;
    int shutdown_reason; /* the guest's own doing; -1 = none */

    bool saving; /* devices_save_begin was called */
    uint64_t params[MEM_NR_PARAMS];
    struct xc_sr_mem_blob context, devices;
    struct xc_sr_mem_blob cpuid, msrs;
    struct xc_sr_tsc_info tsc;

    char fail_name[24];
    unsigned int fail_nth;
};

static inline struct xc_sr_mem *xc_sr_mem_of(struct xc_sr_domain *d)
{
    return (struct xc_sr_mem *)d;
}

/* Every op begins with this: is it the one that is to fail? */
int xc_sr_mem_injected(struct xc_sr_mem *m, const char *op, struct colo_err *err);

/* The ops of xc_sr_domain_mem_memory.c. */
int xc_sr_mem_op_present(struct xc_sr_domain *d, uint64_t first, size_t n, uint8_t *present,
                         struct colo_err *err);
int xc_sr_mem_op_map(struct xc_sr_domain *d, const uint64_t *gfns, int *errs, size_t n,
                     bool writable, void **addr, struct colo_err *err);
int xc_sr_mem_op_unmap(struct xc_sr_domain *d, void *addr, size_t n, struct colo_err *err);
int xc_sr_mem_op_populate(struct xc_sr_domain *d, const uint64_t *gfns, size_t n,
                          struct colo_err *err);
int xc_sr_mem_op_release(struct xc_sr_domain *d, const uint64_t *gfns, size_t n,
                         struct colo_err *err);
int xc_sr_mem_op_logdirty_enable(struct xc_sr_domain *d, struct colo_err *err);
int xc_sr_mem_op_logdirty_clean(struct xc_sr_domain *d, uint64_t *bitmap, uint64_t nbits,
                                bool final, struct colo_err *err);
int xc_sr_mem_op_logdirty_disable(struct xc_sr_domain *d, struct colo_err *err);

int xc_sr_mem_blob_set(struct xc_sr_mem_blob *b, const void *data, size_t len,
                       struct colo_err *err);

#endif
