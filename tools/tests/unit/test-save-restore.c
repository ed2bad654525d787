/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Saving and restoring between `mem` domains: plain and COLO streams, live rounds, holes, zero
 * pages, old streams.
 */
#include <stdlib.h>
#include <string.h>

#include "srlib.h"

#define HEADERS (sizeof(struct xc_sr_ihdr) + sizeof(struct xc_sr_dhdr))

/* ---- plain streams ---- */

static void a_plain_stream_makes_an_equal_domain(void **state)
{
    struct sr_pair t;
    struct sr_bytes b;
    void *devices;
    size_t len;

    (void)state;
    sr_pair_open(&t, false);
    b = sr_plain(&t);
    tl_eq(t.save.stats.sent, 10);
    tl_eq(t.save.stats.zero, 0);
    assert_true(sr_find(&b, true, XC_SR_REC_COLO_ZERO_PAGES, 0) < 0);
    tl_ok(sr_load(&t, &b), &t.e);
    tl_eq(t.restore.stats.pages, 10);
    tl_eq(t.restore.stats.populated, 1);
    tl_eq(t.restore.stats.released, 1);
    tl_eq(t.restore.peer_xen_major, 4);
    tl_eq(t.restore.peer_xen_minor, 17);
    /* A libxc stream has no device state. */
    tl_ok(t.p->ops->devices_save(t.p, &devices, &len, &t.e), &t.e);
    xc_sr_mem_set_devices(t.s, devices, len);
    free(devices);
    sr_assert_equal(&t);
    sr_bytes_free(&b);
    sr_pair_close(&t);
}

static void a_version_2_stream_has_no_static_data(void **state)
{
    struct sr_pair t;
    struct sr_bytes b;
    long at;

    (void)state;
    sr_pair_open(&t, false);
    b = sr_plain(&t);
    at = sr_find(&b, true, XC_SR_REC_STATIC_DATA_END, 0);
    assert_true(at > 0);
    sr_bytes_remove(&b, HEADERS, (size_t)at - HEADERS + 8);
    tl_fails(sr_load(&t, &b), &t.e, COLO_ERR_PROTOCOL); /* as version 3 */
    xc_sr_restore_fini(&t.restore);
    sr_restore_open(&t);
    b.p[15] = 2;
    tl_ok(sr_load(&t, &b), &t.e);
    sr_bytes_free(&b);
    sr_pair_close(&t);
}

/* ---- COLO streams ---- */

struct rounds {
    struct sr_pair *t;
    unsigned int calls, last, stop_in;
};

/* The guest writes all its pages while each round is sent. */
static int busy_guest(void *priv, const struct xc_sr_precopy_progress *p)
{
    struct rounds *r = priv;

    assert_true(p->iter_done <= p->iter_pages);
    r->calls++;
    r->last = p->iteration;
    for (uint64_t gfn = 0; gfn < 9; gfn++)
        sr_touch(r->t->p, gfn, 1000 * r->calls + gfn);
    return r->stop_in && r->calls >= r->stop_in;
}

static struct sr_bytes live(struct sr_pair *t, xc_sr_precopy_cb *cb, void *priv)
{
    struct sr_sink sink;

    sr_sink_open(&sink);
    t->save.ch = &sink.ch;
    tl_ok(xc_sr_save_begin(&t->save, &t->e), &t->e);
    tl_ok(xc_sr_save_precopy(&t->save, cb, priv, &t->e), &t->e);
    tl_ok(t->p->ops->suspend(t->p, tl_soon(), &t->e), &t->e);
    tl_ok(xc_sr_save_read_dirty(&t->save, true, &t->e), &t->e);
    tl_ok(xc_sr_save_send_dirty(&t->save, NULL, NULL, &t->e), &t->e);
    tl_ok(xc_sr_save_tail(&t->save, XC_SR_REC_END, &t->e), &t->e);
    return sr_sink_close(&sink);
}

static void a_guest_that_writes_during_precopy_arrives_whole(void **state)
{
    struct rounds r;
    struct sr_pair t;
    struct sr_bytes b;

    (void)state;
    sr_pair_open(&t, true);
    r = (struct rounds){.t = &t};
    b = live(&t, busy_guest, &r);
    /* Nine dirty pages are few: no round of their own, they wait for the checkpoint. */
    tl_eq(r.last, 0);
    tl_ok(sr_load(&t, &b), &t.e);
    sr_assert_same_but_devices(&t);
    sr_bytes_free(&b);
    sr_pair_close(&t);
}

/* A page that goes away between the walk and the end is a hole at the end. */
static int losing_guest(void *priv, const struct xc_sr_precopy_progress *p)
{
    struct sr_pair *t = priv;
    const uint64_t lost = 3, born[] = {10, 15};

    if (p->iteration == 0 && p->iter_done == p->iter_pages && xc_sr_mem_page(t->p, lost)) {
        sr_touch(t->p, lost, 50);
        tl_ok(t->p->ops->release(t->p, &lost, 1, &t->e), &t->e);
        tl_ok(t->p->ops->populate(t->p, born, 2, &t->e), &t->e);
        sr_touch(t->p, born[0], 51);
    }
    return 0;
}

static void a_page_lost_during_precopy_is_taken_away(void **state)
{
    struct sr_pair t;
    struct sr_bytes b;

    (void)state;
    sr_pair_open(&t, true);
    b = live(&t, losing_guest, &t);
    tl_eq(t.save.stats.holes, 1);
    tl_ok(sr_load(&t, &b), &t.e);
    assert_null(xc_sr_mem_page(t.s, 3));
    sr_assert_same_but_devices(&t);
    sr_bytes_free(&b);
    sr_pair_close(&t);
}

static void many_checkpoints_keep_the_copies_equal(void **state)
{
    struct sr_pair t;
    struct sr_bytes b;
    uint64_t rnd = 5, gfn;

    (void)state;
    for (int zero = 0; zero < 2; zero++) {
        sr_pair_open(&t, zero);
        b = sr_first(&t);
        tl_ok(sr_load(&t, &b), &t.e);
        sr_bytes_free(&b);
        for (int i = 0; i < 50; i++) {
            sr_assert_equal(&t);
            sr_resume(&t);
            for (int k = 0; k < 6; k++) {
                struct xc_sr_domain *d = k % 2 ? t.p : t.s;

                gfn = tl_below(&rnd, SR_GFNS);
                if (xc_sr_mem_page(d, gfn))
                    sr_touch(d, gfn, tl_rand(&rnd));
                else
                    tl_ok(d->ops->populate(d, &gfn, 1, &t.e), &t.e), sr_touch(d, gfn, 1);
            }
            b = sr_next(&t);
            tl_ok(sr_stage_and_apply(&t, &b), &t.e);
            sr_bytes_free(&b);
        }
        sr_assert_equal(&t);
        sr_pair_close(&t);
    }
}

static void zero_pages_travel_as_runs(void **state)
{
    struct sr_pair t;
    struct sr_bytes b;

    (void)state;
    sr_pair_open(&t, true);
    b = sr_first(&t);
    tl_eq(t.save.stats.zero, 2);
    tl_eq(t.save.stats.sent, 8);
    tl_ok(sr_load(&t, &b), &t.e);
    tl_eq(t.restore.stats.zero, 2);
    sr_assert_equal(&t);
    sr_bytes_free(&b);
    sr_pair_close(&t);
}

static void staging_beyond_its_cap_is_refused(void **state)
{
    struct sr_pair t;
    struct sr_bytes b;

    (void)state;
    sr_pair_open(&t, false);
    xc_sr_restore_fini(&t.restore);
    memset(&t.restore, 0, sizeof(t.restore));
    t.restore.dom = t.s;
    t.restore.max_gfns = SR_GFNS;
    t.restore.staging_cap = 2 * XC_PAGE_BYTES;
    tl_ok(xc_sr_restore_init(&t.restore, &t.e), &t.e);
    b = sr_first(&t);
    tl_ok(sr_load(&t, &b), &t.e);
    sr_bytes_free(&b);
    sr_resume(&t);
    for (uint64_t gfn = 0; gfn < 5; gfn++)
        sr_touch(t.p, gfn, 60 + gfn);
    b = sr_next(&t);
    tl_fails(sr_stage_and_apply(&t, &b), &t.e, COLO_ERR_LOCAL);
    sr_bytes_free(&b);
    sr_pair_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_stream_makes_an_equal_domain),
        cmocka_unit_test(a_version_2_stream_has_no_static_data),
        cmocka_unit_test(a_guest_that_writes_during_precopy_arrives_whole),
        cmocka_unit_test(a_page_lost_during_precopy_is_taken_away),
        cmocka_unit_test(many_checkpoints_keep_the_copies_equal),
        cmocka_unit_test(zero_pages_travel_as_runs),
        cmocka_unit_test(staging_beyond_its_cap_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
