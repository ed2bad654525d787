/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The mem domain: its life, and all of its state that is not memory: copies of what was set.
 */
#include "xc_sr_domain_mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SHUTDOWN_SUSPEND 2

int xc_sr_mem_injected(struct xc_sr_mem *m, const char *op, struct colo_err *err)
{
    if (!m->fail_nth || (strcmp(m->fail_name, op) != 0 && strcmp(m->fail_name, "*") != 0))
        return 0;
    if (--m->fail_nth)
        return 0;
    return colo_fail(err, COLO_ERR_LOCAL, "injected", "%s was made to fail", op);
}

int xc_sr_mem_blob_set(struct xc_sr_mem_blob *b, const void *data, size_t len, struct colo_err *err)
{
    void *copy = NULL;

    if (len) {
        copy = malloc(len);
        if (!copy)
            return colo_fail_errno(err, ENOMEM, "%zu bytes", len);
        memcpy(copy, data, len);
    }
    free(b->data);
    b->data = copy;
    b->len = len;
    return 0;
}

static int blob_get(const struct xc_sr_mem_blob *b, void **buf, size_t *len, struct colo_err *err)
{
    struct xc_sr_mem_blob copy = {NULL, 0};

    if (xc_sr_mem_blob_set(&copy, b->data, b->len, err))
        return -1;
    *buf = copy.data;
    *len = copy.len;
    return 0;
}

/* ---- vCPUs and platform ---- */

static int mem_info(struct xc_sr_domain *d, struct xc_sr_domain_info *out, struct colo_err *err)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);

    if (xc_sr_mem_injected(m, "info", err))
        return -1;
    pthread_mutex_lock(&m->lock);
    *out = (struct xc_sr_domain_info){
        .hvm = true,
        .vcpus = 1,
        .nr_gpfns = m->top,
        .tot_pages = m->pages,
        .max_pages = m->cfg.max_pages,
        .shutdown = m->suspended || m->shutdown_reason >= 0,
        .shutdown_reason = m->shutdown_reason >= 0 ? m->shutdown_reason
                           : m->suspended          ? SHUTDOWN_SUSPEND
                                                   : -1,
    };
    pthread_mutex_unlock(&m->lock);
    return 0;
}

static int mem_get_hvm_context(struct xc_sr_domain *d, void **buf, size_t *len,
                               struct colo_err *err)
{
    if (xc_sr_mem_injected(xc_sr_mem_of(d), "get_hvm_context", err))
        return -1;
    return blob_get(&xc_sr_mem_of(d)->context, buf, len, err);
}

static int mem_set_hvm_context(struct xc_sr_domain *d, const void *buf, size_t len,
                               struct colo_err *err)
{
    if (xc_sr_mem_injected(xc_sr_mem_of(d), "set_hvm_context", err))
        return -1;
    return xc_sr_mem_blob_set(&xc_sr_mem_of(d)->context, buf, len, err);
}

static int mem_get_hvm_param(struct xc_sr_domain *d, uint32_t index, uint64_t *value,
                             struct colo_err *err)
{
    if (xc_sr_mem_injected(xc_sr_mem_of(d), "get_hvm_param", err))
        return -1;
    if (index >= MEM_NR_PARAMS)
        return colo_fail_errno(err, EINVAL, "reading HVM param %u", index);
    *value = xc_sr_mem_of(d)->params[index];
    return 0;
}

static int mem_set_hvm_param(struct xc_sr_domain *d, uint32_t index, uint64_t value,
                             struct colo_err *err)
{
    if (xc_sr_mem_injected(xc_sr_mem_of(d), "set_hvm_param", err))
        return -1;
    if (index >= MEM_NR_PARAMS)
        return colo_fail_errno(err, EINVAL, "setting HVM param %u", index);
    xc_sr_mem_of(d)->params[index] = value;
    return 0;
}

static int mem_get_tsc(struct xc_sr_domain *d, struct xc_sr_tsc_info *out, struct colo_err *err)
{
    if (xc_sr_mem_injected(xc_sr_mem_of(d), "get_tsc", err))
        return -1;
    *out = xc_sr_mem_of(d)->tsc;
    return 0;
}

static int mem_set_tsc(struct xc_sr_domain *d, const struct xc_sr_tsc_info *in,
                       struct colo_err *err)
{
    if (xc_sr_mem_injected(xc_sr_mem_of(d), "set_tsc", err))
        return -1;
    xc_sr_mem_of(d)->tsc = *in;
    return 0;
}

static int mem_get_policy(struct xc_sr_domain *d, struct xc_sr_policy *out, struct colo_err *err)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);

    if (xc_sr_mem_injected(m, "get_policy", err) ||
        blob_get(&m->cpuid, &out->cpuid_leaves, &out->cpuid_bytes, err))
        return -1;
    if (blob_get(&m->msrs, &out->msrs, &out->msr_bytes, err)) {
        free(out->cpuid_leaves);
        return -1;
    }
    return 0;
}

static int mem_set_policy(struct xc_sr_domain *d, const struct xc_sr_policy *in,
                          struct colo_err *err)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);

    if (xc_sr_mem_injected(m, "set_policy", err))
        return -1;
    if (m->has_run)
        return colo_fail_errno(err, EBUSY, "setting the policies of a domain that has run");
    if (in->cpuid_bytes % 24 || in->msr_bytes % 16)
        return colo_fail_errno(err, EINVAL, "policies of %zu and %zu bytes", in->cpuid_bytes,
                               in->msr_bytes);
    if (in->cpuid_bytes && xc_sr_mem_blob_set(&m->cpuid, in->cpuid_leaves, in->cpuid_bytes, err))
        return -1;
    return in->msr_bytes ? xc_sr_mem_blob_set(&m->msrs, in->msrs, in->msr_bytes, err) : 0;
}

/* ---- running, devices ---- */

static int mem_suspend(struct xc_sr_domain *d, colo_time deadline, struct colo_err *err)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);
    int reason;

    (void)deadline;
    if (xc_sr_mem_injected(m, "suspend", err))
        return -1;
    pthread_mutex_lock(&m->lock); /* a guest write that is under way is completed */
    reason = m->shutdown_reason;
    m->suspended = true;
    pthread_mutex_unlock(&m->lock);
    if (reason >= 0)
        return colo_fail(err, COLO_ERR_GUEST_DOWN, NULL, "the guest has shut down, reason %d",
                         reason);
    return 0;
}

static int mem_resume(struct xc_sr_domain *d, struct colo_err *err)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);

    if (xc_sr_mem_injected(m, "resume", err))
        return -1;
    if (m->saving) /* as a device model that is at work on something else */
        return colo_fail_errno(err, EBUSY, "resuming while devices are saved");
    pthread_mutex_lock(&m->lock);
    m->suspended = false;
    m->shutdown_reason = -1;
    m->has_run = true;
    pthread_mutex_unlock(&m->lock);
    return 0;
}

static int must_be_suspended(struct xc_sr_mem *m, const char *what, struct colo_err *err)
{
    if (!m->suspended)
        return colo_fail_errno(err, EBUSY, "%s of a running domain", what);
    return 0;
}

static int mem_devices_save_begin(struct xc_sr_domain *d, struct colo_err *err)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);

    if (xc_sr_mem_injected(m, "devices_save_begin", err) ||
        must_be_suspended(m, "saving devices", err))
        return -1;
    if (m->saving)
        return colo_fail_errno(err, EBUSY, "saving devices twice at a time");
    m->saving = true;
    return 0;
}

static int mem_devices_save(struct xc_sr_domain *d, void **buf, size_t *len, struct colo_err *err)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);

    m->saving = false;
    if (xc_sr_mem_injected(m, "devices_save", err) || must_be_suspended(m, "saving devices", err))
        return -1;
    return blob_get(&m->devices, buf, len, err);
}

static int mem_devices_load(struct xc_sr_domain *d, const void *buf, size_t len,
                            struct colo_err *err)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);

    if (xc_sr_mem_injected(m, "devices_load", err) || must_be_suspended(m, "loading devices", err))
        return -1;
    return xc_sr_mem_blob_set(&m->devices, buf, len, err);
}

/* ---- life ---- */

static void mem_close(struct xc_sr_domain *d)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);

    if (m->base)
        munmap(m->base, m->cfg.nr_gfns * XC_PAGE_BYTES);
    if (m->memfd >= 0)
        close(m->memfd);
    xc_sr_bitmap_fini(&m->present);
    xc_sr_bitmap_fini(&m->dirty);
    xc_sr_bitmap_fini(&m->watched);
    free(m->context.data);
    free(m->devices.data);
    free(m->cpuid.data);
    free(m->msrs.data);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

static const struct xc_sr_domain_ops mem_ops = {
    .name = "mem",
    .info = mem_info,
    .present = xc_sr_mem_op_present,
    .map = xc_sr_mem_op_map,
    .unmap = xc_sr_mem_op_unmap,
    .populate = xc_sr_mem_op_populate,
    .release = xc_sr_mem_op_release,
    .logdirty_enable = xc_sr_mem_op_logdirty_enable,
    .logdirty_clean = xc_sr_mem_op_logdirty_clean,
    .logdirty_disable = xc_sr_mem_op_logdirty_disable,
    .get_hvm_context = mem_get_hvm_context,
    .set_hvm_context = mem_set_hvm_context,
    .get_hvm_param = mem_get_hvm_param,
    .set_hvm_param = mem_set_hvm_param,
    .get_tsc = mem_get_tsc,
    .set_tsc = mem_set_tsc,
    .get_policy = mem_get_policy,
    .set_policy = mem_set_policy,
    .suspend = mem_suspend,
    .resume = mem_resume,
    .devices_save_begin = mem_devices_save_begin,
    .devices_save = mem_devices_save,
    .devices_load = mem_devices_load,
    .close = mem_close,
};

static int set_defaults(struct xc_sr_mem *m, struct colo_err *err)
{
    static const uint32_t leaves[2][6] = {{0, UINT32_MAX, 1, 2, 3, 4}, {1, 0, 5, 6, 7, 8}};
    static const uint64_t msrs[2][2] = {{0xce, 0x10}, {0x10a, 0x2b}};

    if (xc_sr_mem_blob_set(&m->cpuid, leaves, sizeof(leaves), err))
        return -1;
    return xc_sr_mem_blob_set(&m->msrs, msrs, sizeof(msrs), err);
}

int xc_sr_domain_mem_open(const struct xc_sr_mem_config *cfg, struct xc_sr_domain **out,
                          struct colo_err *err)
{
    struct xc_sr_mem *m;
    void *base;

    if (cfg->nr_gfns == 0 || cfg->nr_gfns > XC_SR_MAX_GFNS || cfg->populated > cfg->nr_gfns)
        return colo_fail_errno(err, EINVAL, "a domain of %llu pages",
                               (unsigned long long)cfg->nr_gfns);
    m = calloc(1, sizeof(*m));
    if (!m)
        return colo_fail_errno(err, ENOMEM, "a domain in memory");
    m->dom.ops = &mem_ops;
    m->cfg = *cfg;
    if (m->cfg.max_pages == 0)
        m->cfg.max_pages = cfg->nr_gfns;
    m->top = m->pages = cfg->populated;
    m->garbage = cfg->nr_gfns;
    m->shutdown_reason = -1;
    pthread_mutex_init(&m->lock, NULL);

    m->memfd = memfd_create("guest", MFD_CLOEXEC);
    if (m->memfd < 0 || ftruncate(m->memfd, (off_t)(cfg->nr_gfns * XC_PAGE_BYTES))) {
        colo_fail_errno(err, errno, "a domain's memory");
        goto fail;
    }
    base = mmap(NULL, cfg->nr_gfns * XC_PAGE_BYTES, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_NORESERVE, m->memfd, 0);
    if (base == MAP_FAILED) {
        colo_fail_errno(err, errno, "mapping a domain's memory");
        goto fail;
    }
    m->base = base;
    if (xc_sr_bitmap_init(&m->present, cfg->nr_gfns, err) ||
        xc_sr_bitmap_init(&m->dirty, cfg->nr_gfns, err) ||
        xc_sr_bitmap_init(&m->watched, cfg->nr_gfns, err) || set_defaults(m, err))
        goto fail;
    xc_sr_bitmap_set_range(&m->present, 0, cfg->populated);
    *out = &m->dom;
    return 0;

fail:
    mem_close(&m->dom);
    return -1;
}
