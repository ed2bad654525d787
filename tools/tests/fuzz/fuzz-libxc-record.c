/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The whole libxc reader on a `mem` domain: headers, the first image, then checkpoints, from any
 * bytes.  A checkpoint that is not whole must leave the domain as it was.
 */
#include "fuzzchan.h"
#include "xc_sr_restore.h"

#define GFNS 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct xc_sr_domain *open_domain(void)
{
    const struct xc_sr_mem_config cfg = {.nr_gfns = GFNS, .populated = 10};
    struct xc_sr_domain *d;

    if (xc_sr_domain_mem_open(&cfg, &d, NULL) < 0 || d->ops->suspend(d, COLO_NO_DEADLINE, NULL) < 0)
        abort();
    return d;
}

/* Memory only: enough to see a write that should not be. */
static uint64_t sum_of(struct xc_sr_domain *d)
{
    uint64_t sum = 1;
    const uint64_t *w;

    for (uint64_t gfn = 0; gfn < GFNS; gfn++) {
        w = xc_sr_mem_page(d, gfn);
        sum = sum * 31 + (w != NULL);
        for (size_t i = 0; w && i < XC_PAGE_BYTES / sizeof(*w); i += 64)
            sum = (sum ^ w[i] ^ w[i + 63]) * UINT64_C(0x100000001b3);
    }
    return sum;
}

static void need_error(const struct colo_err *e)
{
    if (e->cls == COLO_OK || !e->reason[0] || !e->msg[0])
        abort();
}

static void restore(struct xc_sr_domain *d, struct xc_sr_channel *ch)
{
    struct xc_sr_restore r = {.dom = d, .ch = ch, .max_gfns = GFNS};
    struct colo_err e = {0};
    uint64_t before;
    uint32_t last;

    if (xc_sr_restore_init(&r, &e) < 0)
        abort();
    if (xc_sr_restore_headers(&r, &e) < 0 || xc_sr_restore_load(&r, &last, &e) < 0) {
        need_error(&e);
        goto out;
    }
    if (xc_sr_restore_finish(&r, last == XC_SR_REC_CHECKPOINT, &e) < 0) {
        need_error(&e);
        goto out;
    }
    while (last == XC_SR_REC_CHECKPOINT) {
        before = sum_of(d);
        if (xc_sr_restore_stage(&r, &e) < 0) {
            need_error(&e);
            if (sum_of(d) != before)
                abort();
            break;
        }
        if (xc_sr_restore_apply(&r, &e) < 0 || xc_sr_restore_note_dirty(&r, &e) < 0)
            abort(); /* nothing of this host fails here */
    }
out:
    xc_sr_restore_fini(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct xc_sr_domain *d = open_domain();
    struct xc_sr_channel ch;

    fuzzchan_open(&ch, data, size);
    restore(d, &ch);
    xc_sr_channel_fini(&ch);
    d->ops->close(d);
    return 0;
}
