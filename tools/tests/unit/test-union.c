/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The union: what the secondary's guest has written on its own is undone at the next checkpoint,
 * because its dirty pages are sent as well as the primary's.
 */
#include <stdlib.h>
#include <string.h>

#include "srlib.h"

#define MARKER 5u

static void start(struct sr_pair *t)
{
    struct sr_bytes b;

    sr_pair_open(t, true);
    b = sr_first(t);
    tl_ok(sr_load(t, &b), &t->e);
    sr_bytes_free(&b);
    sr_assert_equal(t);
    sr_resume(t);
}

static void checkpoint(struct sr_pair *t)
{
    struct sr_bytes b = sr_next(t);

    tl_ok(sr_stage_and_apply(t, &b), &t->e);
    sr_bytes_free(&b);
}

static void a_page_dirtied_only_on_the_secondary_is_undone(void **state)
{
    struct sr_pair t;

    (void)state;
    start(&t);
    xc_sr_mem_guest_write(t.s, MARKER, 100, "marker", 6);
    checkpoint(&t);
    sr_assert_equal(&t);
    tl_eq(t.save.stats.p_dirty, 0);
    tl_eq(t.save.stats.s_dirty, 1);
    tl_eq(t.save.stats.union_dirty, 1);
    sr_pair_close(&t);
}

static void a_page_that_the_primary_does_not_have_is_taken_away(void **state)
{
    const uint64_t gfn = 11;
    struct sr_pair t;

    (void)state;
    start(&t);
    tl_ok(t.s->ops->populate(t.s, &gfn, 1, &t.e), &t.e);
    sr_touch(t.s, gfn, 9);
    checkpoint(&t);
    sr_assert_equal(&t);
    assert_null(xc_sr_mem_page(t.s, gfn));
    sr_pair_close(&t);
}

static void a_page_that_the_secondary_lost_comes_back(void **state)
{
    const uint64_t gfn = 3;
    struct sr_pair t;

    (void)state;
    start(&t);
    tl_ok(t.s->ops->release(t.s, &gfn, 1, &t.e), &t.e);
    sr_touch(t.p, gfn, 10);
    checkpoint(&t);
    sr_assert_equal(&t);
    sr_pair_close(&t);
}

static void pages_of_both_sides_are_sent_once(void **state)
{
    struct sr_pair t;

    (void)state;
    start(&t);
    for (uint64_t gfn = 0; gfn < 6; gfn++)
        sr_touch(t.p, gfn, 300 + gfn);
    for (uint64_t gfn = 4; gfn < 9; gfn++)
        sr_touch(t.s, gfn, 400 + gfn);
    memset(&t.save.stats, 0, sizeof(t.save.stats));
    checkpoint(&t);
    sr_assert_equal(&t);
    tl_eq(t.save.stats.p_dirty, 6);
    tl_eq(t.save.stats.s_dirty, 5);
    tl_eq(t.save.stats.union_dirty, 9);
    tl_eq(t.save.stats.sent + t.save.stats.zero, 9);
    sr_pair_close(&t);
}

/* What the secondary wrote before a checkpoint that never became whole is still on its list. */
static void a_discarded_checkpoint_keeps_the_secondarys_dirt(void **state)
{
    struct sr_pair t;
    struct sr_bytes b;

    (void)state;
    start(&t);
    sr_touch(t.s, MARKER, 11);
    b = sr_next(&t);
    b.n -= 8;
    tl_fails(sr_stage_and_apply(&t, &b), &t.e, COLO_ERR_PEER_EOF);
    xc_sr_restore_discard(&t.restore);
    sr_bytes_free(&b);
    sr_resume(&t);
    checkpoint(&t);
    sr_assert_equal(&t);
    sr_pair_close(&t);
}

/* The test of the test: with one bit of the secondary's set lost, the copies differ. */
static void losing_one_bit_is_seen(void **state)
{
    struct sr_pair t;
    struct sr_bytes b;
    char why[200];

    (void)state;
    start(&t);
    sr_touch(t.s, MARKER, 12);
    sr_touch(t.s, MARKER + 1, 13);
    b = sr_next(&t);
    sr_bytes_free(&b);
    /* A second list without the marker, and the primary's set as it was. */
    xc_sr_bitmap_clear(&t.restore.own, MARKER);
    b = sr_next(&t);
    tl_ok(sr_stage_and_apply(&t, &b), &t.e);
    sr_bytes_free(&b);
    assert_false(xc_sr_mem_equal(t.p, t.s, why, sizeof(why)));
    sr_pair_close(&t);
}

static void writes_while_loading_are_on_the_next_list(void **state)
{
    struct sr_pair t;
    struct sr_bytes b;
    void *devices;
    size_t len;

    (void)state;
    start(&t);
    b = sr_next(&t);
    tl_ok(sr_stage(&t, &b, &devices, &len), &t.e);
    tl_ok(xc_sr_restore_apply(&t.restore, &t.e), &t.e);
    /* The device model, say; only a guest that runs can write here. */
    tl_ok(t.s->ops->resume(t.s, &t.e), &t.e);
    sr_touch(t.s, MARKER, 14);
    tl_ok(t.s->ops->suspend(t.s, tl_soon(), &t.e), &t.e);
    tl_ok(xc_sr_restore_note_dirty(&t.restore, &t.e), &t.e);
    tl_ok(t.s->ops->devices_load(t.s, devices, len, &t.e), &t.e);
    free(devices);
    sr_bytes_free(&b);
    sr_resume(&t);
    checkpoint(&t);
    sr_assert_equal(&t);
    sr_pair_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_dirtied_only_on_the_secondary_is_undone),
        cmocka_unit_test(a_page_that_the_primary_does_not_have_is_taken_away),
        cmocka_unit_test(a_page_that_the_secondary_lost_comes_back),
        cmocka_unit_test(pages_of_both_sides_are_sent_once),
        cmocka_unit_test(a_discarded_checkpoint_keeps_the_secondarys_dirt),
        cmocka_unit_test(losing_one_bit_is_seen),
        cmocka_unit_test(writes_while_loading_are_on_the_next_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
