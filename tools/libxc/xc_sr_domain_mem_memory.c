/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The mem domain's memory: a sparse memfd, so that any set of gfns can be mapped side by side.
 */
#include "xc_sr_domain_mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

int xc_sr_mem_op_present(struct xc_sr_domain *d, uint64_t first, size_t n, uint8_t *present,
                         struct colo_err *err)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);

    if (xc_sr_mem_injected(m, "present", err))
        return -1;
    for (size_t i = 0; i < n; i++)
        present[i] = xc_sr_bitmap_test(&m->present, first + i);
    return 0;
}

int xc_sr_mem_op_map(struct xc_sr_domain *d, const uint64_t *gfns, int *errs, size_t n,
                     bool writable, void **addr, struct colo_err *err)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);
    int prot = PROT_READ | (writable ? PROT_WRITE : 0);
    unsigned char *window;
    size_t run;

    if (xc_sr_mem_injected(m, "map", err))
        return -1;
    if (n == 0 || n > SIZE_MAX / XC_PAGE_BYTES)
        return colo_fail_errno(err, EINVAL, "mapping %zu pages", n);
    window = mmap(NULL, n * XC_PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                  -1, 0);
    if (window == MAP_FAILED)
        return colo_fail_errno(err, errno, "mapping %zu pages", n);
    for (size_t i = 0; i < n; i += run) {
        run = 1;
        errs[i] = xc_sr_bitmap_test(&m->present, gfns[i]) ? 0 : EINVAL;
        if (errs[i])
            continue;
        while (i + run < n && gfns[i + run] == gfns[i] + run &&
               xc_sr_bitmap_test(&m->present, gfns[i + run])) {
            errs[i + run] = 0;
            run++;
        }
        if (mmap(window + i * XC_PAGE_BYTES, run * XC_PAGE_BYTES, prot, MAP_SHARED | MAP_FIXED,
                 m->memfd, (off_t)(gfns[i] * XC_PAGE_BYTES)) == MAP_FAILED) {
            colo_fail_errno(err, errno, "mapping gfn %#llx", (unsigned long long)gfns[i]);
            munmap(window, n * XC_PAGE_BYTES);
            return -1;
        }
    }
    *addr = window;
    return 0;
}

int xc_sr_mem_op_unmap(struct xc_sr_domain *d, void *addr, size_t n, struct colo_err *err)
{
    if (xc_sr_mem_injected(xc_sr_mem_of(d), "unmap", err))
        return -1;
    if (munmap(addr, n * XC_PAGE_BYTES))
        return colo_fail_errno(err, errno, "unmapping %zu pages", n);
    return 0;
}

/* No word of it is zero, and no two pages are equal. */
static void fill_with_garbage(struct xc_sr_mem *m, uint64_t gfn)
{
    uint64_t *p = (uint64_t *)(m->base + gfn * XC_PAGE_BYTES);

    for (size_t i = 0; i < XC_PAGE_BYTES / sizeof(*p); i++) {
        m->garbage = m->garbage * UINT64_C(6364136223846793005) + 1442695040888963407;
        p[i] = m->garbage | UINT64_C(0x0101010101010101);
    }
}

int xc_sr_mem_op_populate(struct xc_sr_domain *d, const uint64_t *gfns, size_t n,
                          struct colo_err *err)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);
    size_t done = 0;
    int rc = -1;

    if (xc_sr_mem_injected(m, "populate", err))
        return -1;
    pthread_mutex_lock(&m->lock);
    for (; done < n; done++) {
        uint64_t g = gfns[done];

        if (g >= m->cfg.nr_gfns || xc_sr_bitmap_test(&m->present, g)) {
            colo_fail_errno(err, EINVAL, "populating gfn %#llx", (unsigned long long)g);
            goto out;
        }
        if (m->pages + done == m->cfg.max_pages) {
            colo_fail_errno(err, ENOMEM, "populating %zu pages, with %llu of %llu in use", n,
                            (unsigned long long)m->pages, (unsigned long long)m->cfg.max_pages);
            goto out;
        }
        xc_sr_bitmap_set(&m->present, g);
    }
    m->pages += n;
    for (size_t i = 0; i < n; i++) {
        fill_with_garbage(m, gfns[i]);
        xc_sr_bitmap_clear(&m->watched, gfns[i]);
        if (gfns[i] >= m->top)
            m->top = gfns[i] + 1;
    }
    rc = 0;

out:
    for (size_t i = 0; rc && i < done; i++) /* all or nothing */
        xc_sr_bitmap_clear(&m->present, gfns[i]);
    pthread_mutex_unlock(&m->lock);
    return rc;
}

int xc_sr_mem_op_release(struct xc_sr_domain *d, const uint64_t *gfns, size_t n,
                         struct colo_err *err)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);
    int rc = -1;

    if (xc_sr_mem_injected(m, "release", err))
        return -1;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < n; i++) {
        if (!xc_sr_bitmap_test(&m->present, gfns[i]))
            continue;
        if (fallocate(m->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      (off_t)(gfns[i] * XC_PAGE_BYTES), (off_t)XC_PAGE_BYTES)) {
            colo_fail_errno(err, errno, "releasing gfn %#llx", (unsigned long long)gfns[i]);
            goto out;
        }
        xc_sr_bitmap_clear(&m->present, gfns[i]);
        m->pages--;
    }
    rc = 0;

out:
    pthread_mutex_unlock(&m->lock);
    return rc;
}

/* ---- dirty log ---- */

static void watch_all(struct xc_sr_mem *m)
{
    xc_sr_bitmap_zero(&m->dirty);
    xc_sr_bitmap_set_range(&m->watched, 0, m->cfg.nr_gfns);
}

int xc_sr_mem_op_logdirty_enable(struct xc_sr_domain *d, struct colo_err *err)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);

    if (xc_sr_mem_injected(m, "logdirty_enable", err))
        return -1;
    pthread_mutex_lock(&m->lock);
    watch_all(m);
    m->logdirty = true;
    pthread_mutex_unlock(&m->lock);
    return 0;
}

int xc_sr_mem_op_logdirty_clean(struct xc_sr_domain *d, uint64_t *bitmap, uint64_t nbits,
                                bool final, struct colo_err *err)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);
    uint64_t have;
    int rc = -1;

    if (xc_sr_mem_injected(m, "logdirty_clean", err))
        return -1;
    pthread_mutex_lock(&m->lock);
    if (!m->logdirty || nbits % 64) {
        colo_fail_errno(err, EINVAL, "reading the dirty log");
        goto out;
    }
    if (final && !m->suspended) {
        colo_fail_errno(err, EBUSY, "reading the dirty log for good while the domain runs");
        goto out;
    }
    have = m->dirty.nbits < nbits ? m->dirty.nbits : nbits;
    memset(bitmap, 0, nbits / 8);
    memcpy(bitmap, m->dirty.words, have / 8);
    watch_all(m);
    rc = 0;

out:
    pthread_mutex_unlock(&m->lock);
    return rc;
}

int xc_sr_mem_op_logdirty_disable(struct xc_sr_domain *d, struct colo_err *err)
{
    struct xc_sr_mem *m = xc_sr_mem_of(d);

    if (xc_sr_mem_injected(m, "logdirty_disable", err))
        return -1;
    pthread_mutex_lock(&m->lock);
    m->logdirty = false;
    pthread_mutex_unlock(&m->lock);
    return 0;
}
