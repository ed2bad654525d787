/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The secondary's lists of dirty pages, as the primary takes them: only pages that either side's
 * guest can have, and each can then be sent, whether the primary has it or not.
 */
#include <fcntl.h>

#include "fuzzchan.h"
#include "xc_sr_save.h"

#define GFNS     16u
#define MAX_GFNS 40u /* the secondary's guest may reach higher */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct xc_sr_domain *open_domain(void)
{
    const struct xc_sr_mem_config cfg = {.nr_gfns = GFNS, .populated = 10};
    struct xc_sr_domain *d;

    if (xc_sr_domain_mem_open(&cfg, &d, NULL) < 0)
        abort();
    return d;
}

/* A channel that takes everything. */
static void open_sink(struct xc_sr_channel *ch)
{
    static int fd = -1;

    if (fd < 0)
        fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (xc_sr_channel_init(ch, -1, fd, -1, NULL) < 0)
        abort();
}

static void merge(struct xc_sr_save *s, struct xc_sr_channel *in)
{
    struct xc_sr_channel out;
    struct colo_err e = {0};
    uint64_t pfn;

    for (;;) {
        s->ch = in;
        if (xc_sr_save_merge_list(s, &e) < 0)
            break;
        if (s->stats.s_dirty > MAX_GFNS || xc_sr_bitmap_count(&s->dirty) > s->stats.s_dirty ||
            xc_sr_bitmap_next(&s->dirty, MAX_GFNS, &pfn))
            abort();
        open_sink(&out);
        s->ch = &out;
        if (xc_sr_save_send_dirty(s, NULL, NULL, &e) < 0 || xc_sr_bitmap_count(&s->dirty))
            abort(); /* nothing of this host fails here */
        xc_sr_channel_fini(&out);
    }
    if (e.cls == COLO_OK || !e.reason[0] || !e.msg[0])
        abort();
    if (xc_sr_bitmap_next(&s->dirty, MAX_GFNS, &pfn))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct xc_sr_domain *d = open_domain();
    struct xc_sr_channel in;
    struct xc_sr_save s = {.dom = d, .max_gfns = MAX_GFNS, .zero_pages = size % 2};

    if (xc_sr_save_init(&s, NULL) < 0 || d->ops->suspend(d, COLO_NO_DEADLINE, NULL) < 0)
        abort();
    fuzzchan_open(&in, data, size);
    merge(&s, &in);
    xc_sr_channel_fini(&in);
    xc_sr_save_fini(&s);
    d->ops->close(d);
    return 0;
}
