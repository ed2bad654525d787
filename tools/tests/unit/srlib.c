/* SPDX-License-Identifier: GPL-2.0-only */
#include "srlib.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- bytes ---- */

void sr_bytes_free(struct sr_bytes *b)
{
    free(b->p);
    b->p = NULL;
    b->n = 0;
}

struct sr_bytes sr_bytes_copy(const struct sr_bytes *b)
{
    struct sr_bytes c = {.p = malloc(b->n + 1), .n = b->n};

    assert_non_null(c.p);
    memcpy(c.p, b->p, b->n);
    return c;
}

void sr_bytes_insert(struct sr_bytes *b, size_t at, const void *p, size_t len)
{
    b->p = realloc(b->p, b->n + len + 1);
    assert_non_null(b->p);
    memmove(b->p + at + len, b->p + at, b->n - at);
    memcpy(b->p + at, p, len);
    b->n += len;
}

void sr_bytes_remove(struct sr_bytes *b, size_t at, size_t len)
{
    memmove(b->p + at, b->p + at + len, b->n - at - len);
    b->n -= len;
}

/* ---- channels of one direction ---- */

static int scratch_fd(void)
{
    int fd = memfd_create("srlib", MFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

void sr_source_open(struct sr_source *s, const struct sr_bytes *b)
{
    struct colo_err e = {0};

    s->fd = scratch_fd();
    assert_true(write(s->fd, b->p, b->n) == (ssize_t)b->n);
    assert_true(lseek(s->fd, 0, SEEK_SET) == 0);
    tl_ok(xc_sr_channel_init(&s->ch, s->fd, -1, -1, &e), &e);
}

void sr_source_close(struct sr_source *s)
{
    xc_sr_channel_fini(&s->ch);
    close(s->fd);
}

void sr_sink_open(struct sr_sink *s)
{
    struct colo_err e = {0};

    s->fd = scratch_fd();
    tl_ok(xc_sr_channel_init(&s->ch, -1, s->fd, -1, &e), &e);
}

struct sr_bytes sr_sink_close(struct sr_sink *s)
{
    struct sr_bytes b = {0};
    struct stat st;

    xc_sr_channel_fini(&s->ch);
    assert_true(fstat(s->fd, &st) == 0);
    b.n = (size_t)st.st_size;
    b.p = malloc(b.n + 1);
    assert_non_null(b.p);
    assert_true(pread(s->fd, b.p, b.n, 0) == (ssize_t)b.n);
    close(s->fd);
    return b;
}

/* ---- the pair ---- */

void sr_touch(struct xc_sr_domain *d, uint64_t gfn, uint64_t seed)
{
    unsigned char page[XC_PAGE_BYTES];

    tl_fill(&seed, page, sizeof(page));
    assert_true(xc_sr_mem_guest_write(d, gfn, 0, page, sizeof(page)));
}

/* As if its builder had written it: before the guest runs. */
static void build_page(struct xc_sr_domain *d, uint64_t gfn, uint64_t seed)
{
    void *page = xc_sr_mem_page(d, gfn);

    if (page && seed)
        tl_fill(&seed, page, XC_PAGE_BYTES);
    else if (page)
        memset(page, 0, XC_PAGE_BYTES);
}

static void set_blobs(struct xc_sr_domain *d, uint64_t seed)
{
    unsigned char buf[200];

    tl_fill(&seed, buf, sizeof(buf));
    xc_sr_mem_set_context(d, buf, 117);
    xc_sr_mem_set_devices(d, buf + 100, 60);
}

static struct xc_sr_domain *open_mem(uint64_t populated)
{
    const struct xc_sr_mem_config cfg = {.nr_gfns = SR_GFNS, .populated = populated};
    struct colo_err e = {0};
    struct xc_sr_domain *d;

    tl_ok(xc_sr_domain_mem_open(&cfg, &d, &e), &e);
    return d;
}

void sr_restore_open(struct sr_pair *t)
{
    memset(&t->restore, 0, sizeof(t->restore));
    t->restore.dom = t->s;
    t->restore.max_gfns = SR_GFNS;
    tl_ok(xc_sr_restore_init(&t->restore, &t->e), &t->e);
}

void sr_pair_open(struct sr_pair *t, bool zero_pages)
{
    const struct xc_sr_tsc_info tsc = {.mode = 2, .khz = 2000000, .nsec = 123456, .incarnation = 1};
    const uint64_t twelve = 12;

    memset(t, 0, sizeof(*t));
    t->p = open_mem(9);
    t->s = open_mem(10);
    tl_ok(t->p->ops->populate(t->p, &twelve, 1, &t->e), &t->e);
    for (uint64_t gfn = 0; gfn < SR_GFNS; gfn++) {
        build_page(t->p, gfn, gfn == 2 || gfn == 7 ? 0 : 100 + gfn);
        build_page(t->s, gfn, 200 + gfn);
    }
    set_blobs(t->p, 1);
    set_blobs(t->s, 2);
    tl_ok(t->p->ops->set_tsc(t->p, &tsc, &t->e), &t->e);
    tl_ok(t->p->ops->set_hvm_param(t->p, xc_sr_hvm_params[3], 77, &t->e), &t->e);

    t->save.dom = t->p;
    t->save.zero_pages = zero_pages;
    t->save.max_gfns = SR_GFNS;
    t->save.xen_major = 4;
    t->save.xen_minor = 17;
    tl_ok(xc_sr_save_init(&t->save, &t->e), &t->e);
    sr_restore_open(t);
}

void sr_pair_close(struct sr_pair *t)
{
    xc_sr_save_fini(&t->save);
    xc_sr_restore_fini(&t->restore);
    t->p->ops->close(t->p);
    t->s->ops->close(t->s);
}

void sr_assert_equal(struct sr_pair *t)
{
    char why[200] = "";

    if (!xc_sr_mem_equal(t->p, t->s, why, sizeof(why)))
        fail_msg("the copies differ: %s", why);
}

void sr_assert_same_but_devices(struct sr_pair *t)
{
    void *devices;
    size_t len;

    tl_ok(t->p->ops->devices_save(t->p, &devices, &len, &t->e), &t->e);
    xc_sr_mem_set_devices(t->s, devices, len);
    free(devices);
    sr_assert_equal(t);
}

/* ---- the primary ---- */

static struct sr_bytes end_checkpoint(struct sr_pair *t, struct sr_sink *sink)
{
    struct libxl_stream ls = {.ch = &sink->ch};
    void *state = NULL;
    size_t len;

    tl_ok(xc_sr_save_send_dirty(&t->save, NULL, NULL, &t->e), &t->e);
    tl_ok(xc_sr_save_tail(&t->save, XC_SR_REC_CHECKPOINT, &t->e), &t->e);
    tl_ok(t->p->ops->devices_save(t->p, &state, &len, &t->e), &t->e);
    tl_ok(libxl_stream_write_emulator(&ls, state, len, &t->e), &t->e);
    free(state);
    tl_ok(libxl_stream_write_checkpoint_end(&ls, &t->e), &t->e);
    return sr_sink_close(sink);
}

struct sr_bytes sr_plain(struct sr_pair *t)
{
    struct sr_sink sink;

    sr_sink_open(&sink);
    t->save.ch = &sink.ch;
    tl_ok(t->p->ops->suspend(t->p, tl_soon(), &t->e), &t->e);
    tl_ok(xc_sr_save_begin(&t->save, &t->e), &t->e);
    tl_ok(xc_sr_save_mark_all(&t->save, &t->e), &t->e);
    tl_ok(xc_sr_save_read_dirty(&t->save, true, &t->e), &t->e);
    tl_ok(xc_sr_save_send_dirty(&t->save, NULL, NULL, &t->e), &t->e);
    tl_ok(xc_sr_save_tail(&t->save, XC_SR_REC_END, &t->e), &t->e);
    tl_eq(sink.ch.bytes_out, t->save.stats.bytes);
    return sr_sink_close(&sink);
}

struct sr_bytes sr_first(struct sr_pair *t)
{
    struct sr_sink sink;

    sr_sink_open(&sink);
    t->save.ch = &sink.ch;
    tl_ok(xc_sr_save_begin(&t->save, &t->e), &t->e);
    tl_ok(xc_sr_save_precopy(&t->save, NULL, NULL, &t->e), &t->e);
    tl_ok(t->p->ops->suspend(t->p, tl_soon(), &t->e), &t->e);
    tl_ok(xc_sr_save_read_dirty(&t->save, true, &t->e), &t->e);
    return end_checkpoint(t, &sink);
}

struct sr_bytes sr_next(struct sr_pair *t)
{
    struct sr_source source;
    struct sr_sink sink;
    struct sr_bytes list;

    set_blobs(t->p, xc_sr_bitmap_count(&t->save.dirty) + t->save.stats.bytes);
    tl_ok(t->p->ops->suspend(t->p, tl_soon(), &t->e), &t->e);
    tl_ok(t->s->ops->suspend(t->s, tl_soon(), &t->e), &t->e);
    sr_sink_open(&sink);
    t->restore.ch = &sink.ch;
    tl_ok(xc_sr_restore_own_dirty(&t->restore, &t->e), &t->e);
    tl_ok(xc_sr_restore_send_list(&t->restore, &t->e), &t->e);
    list = sr_sink_close(&sink);

    sr_source_open(&source, &list);
    tl_ok(xc_sr_save_read_dirty(&t->save, true, &t->e), &t->e);
    t->save.ch = &source.ch;
    tl_ok(xc_sr_save_merge_list(&t->save, &t->e), &t->e);
    sr_source_close(&source);
    sr_bytes_free(&list);

    sr_sink_open(&sink);
    t->save.ch = &sink.ch;
    return end_checkpoint(t, &sink);
}

/* ---- the secondary ---- */

/* One end of the stream after CHECKPOINT: device state and CHECKPOINT_END. */
static int read_tail(struct sr_pair *t, struct xc_sr_channel *ch, void **devices, size_t *len)
{
    struct libxl_stream ls = {.ch = ch};
    uint32_t last;

    if (libxl_stream_read_emulators(&ls, devices, len, &last, NULL, &t->e) < 0)
        return -1;
    if (last != LIBXL_SR_REC_CHECKPOINT_END) {
        free(*devices);
        return colo_fail(&t->e, COLO_ERR_PROTOCOL, NULL, "no CHECKPOINT_END");
    }
    return 0;
}

int sr_load(struct sr_pair *t, const struct sr_bytes *b)
{
    struct sr_source source;
    void *devices = NULL;
    uint32_t last;
    size_t len;
    int rc = -1;

    tl_ok(t->s->ops->suspend(t->s, tl_soon(), &t->e), &t->e);
    sr_source_open(&source, b);
    t->restore.ch = &source.ch;
    if (xc_sr_restore_headers(&t->restore, &t->e) < 0 ||
        xc_sr_restore_load(&t->restore, &last, &t->e) < 0)
        goto out;
    if (last == XC_SR_REC_CHECKPOINT && read_tail(t, &source.ch, &devices, &len) < 0) {
        devices = NULL;
        goto out;
    }
    if (devices && t->s->ops->devices_load(t->s, devices, len, &t->e) < 0)
        goto out;
    rc = xc_sr_restore_finish(&t->restore, last == XC_SR_REC_CHECKPOINT, &t->e);
out:
    free(devices);
    sr_source_close(&source);
    return rc;
}

int sr_stage(struct sr_pair *t, const struct sr_bytes *b, void **devices, size_t *len)
{
    struct sr_source source;
    int rc = -1;

    *devices = NULL;
    sr_source_open(&source, b);
    t->restore.ch = &source.ch;
    if (xc_sr_restore_stage(&t->restore, &t->e) == 0)
        rc = read_tail(t, &source.ch, devices, len);
    sr_source_close(&source);
    return rc;
}

int sr_apply(struct sr_pair *t, const void *devices, size_t len)
{
    if (t->s->ops->devices_load(t->s, devices, len, &t->e) < 0 ||
        xc_sr_restore_apply(&t->restore, &t->e) < 0)
        return -1;
    return xc_sr_restore_note_dirty(&t->restore, &t->e);
}

int sr_stage_and_apply(struct sr_pair *t, const struct sr_bytes *b)
{
    void *devices;
    size_t len;
    int rc;

    if (sr_stage(t, b, &devices, &len) < 0)
        return -1;
    rc = sr_apply(t, devices, len);
    free(devices);
    return rc;
}

void sr_resume(struct sr_pair *t)
{
    tl_ok(t->p->ops->resume(t->p, &t->e), &t->e);
    tl_ok(t->s->ops->resume(t->s, &t->e), &t->e);
}

/* ---- snapshots ---- */

struct sr_snapshot {
    bool present[SR_GFNS];
    unsigned char page[SR_GFNS][XC_PAGE_BYTES];
    uint64_t params[64];
    struct xc_sr_tsc_info tsc;
    void *context, *devices;
    size_t context_len, devices_len;
};

struct sr_snapshot *sr_snapshot(struct xc_sr_domain *d)
{
    struct sr_snapshot *s = calloc(1, sizeof(*s));
    struct colo_err e = {0};
    const void *page;

    assert_non_null(s);
    for (uint64_t gfn = 0; gfn < SR_GFNS; gfn++) {
        page = xc_sr_mem_page(d, gfn);
        s->present[gfn] = page != NULL;
        if (page)
            memcpy(s->page[gfn], page, XC_PAGE_BYTES);
    }
    for (size_t i = 0; i < xc_sr_nr_hvm_params; i++)
        tl_ok(d->ops->get_hvm_param(d, xc_sr_hvm_params[i], &s->params[i], &e), &e);
    tl_ok(d->ops->get_tsc(d, &s->tsc, &e), &e);
    tl_ok(d->ops->get_hvm_context(d, &s->context, &s->context_len, &e), &e);
    tl_ok(d->ops->devices_save(d, &s->devices, &s->devices_len, &e), &e);
    return s;
}

void sr_snapshot_free(struct sr_snapshot *s)
{
    free(s->context);
    free(s->devices);
    free(s);
}

void sr_assert_unchanged(struct xc_sr_domain *d, const struct sr_snapshot *was)
{
    struct sr_snapshot *is = sr_snapshot(d);
    const char *what = NULL;

    for (uint64_t gfn = 0; gfn < SR_GFNS; gfn++)
        if (is->present[gfn] != was->present[gfn] ||
            memcmp(is->page[gfn], was->page[gfn], XC_PAGE_BYTES) != 0) {
            print_error("gfn %llu has changed\n", (unsigned long long)gfn);
            what = "memory";
        }
    if (memcmp(is->params, was->params, sizeof(is->params)) != 0)
        what = "params";
    if (is->tsc.mode != was->tsc.mode || is->tsc.khz != was->tsc.khz ||
        is->tsc.nsec != was->tsc.nsec || is->tsc.incarnation != was->tsc.incarnation)
        what = "TSC";
    if (is->context_len != was->context_len ||
        memcmp(is->context, was->context, is->context_len) != 0)
        what = "context";
    if (is->devices_len != was->devices_len ||
        memcmp(is->devices, was->devices, is->devices_len) != 0)
        what = "devices";
    sr_snapshot_free(is);
    if (what)
        fail_msg("the domain's %s changed", what);
}

/* ---- records ---- */

size_t sr_record_size(const struct sr_bytes *b, long at)
{
    struct xc_sr_rhdr h;

    memcpy(&h, b->p + at, sizeof(h));
    return sizeof(h) + ((size_t)h.length + 7) / 8 * 8;
}

long sr_find(const struct sr_bytes *b, bool headers, uint32_t type, unsigned int nth)
{
    size_t at = headers ? sizeof(struct xc_sr_ihdr) + sizeof(struct xc_sr_dhdr) : 0;
    struct xc_sr_rhdr h;

    while (at + sizeof(h) <= b->n) {
        memcpy(&h, b->p + at, sizeof(h));
        if (h.type == type && nth-- == 0)
            return (long)at;
        at += sr_record_size(b, (long)at);
    }
    return -1;
}
