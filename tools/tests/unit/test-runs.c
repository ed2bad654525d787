/* SPDX-License-Identifier: GPL-2.0-only */
/* A block of pages that moves while the number of pages stays. */
#include "testlib.h"

#include "xc_sr_runs.h"

#define RAM   64
#define GFNS  512
#define BLOCK 10

static struct colo_err err;

static void block(struct xc_sr_domain *d, uint64_t first, bool there)
{
    uint64_t gfns[BLOCK];

    for (size_t i = 0; i < BLOCK; i++)
        gfns[i] = first + i;
    tl_ok(there ? d->ops->populate(d, gfns, BLOCK, &err) : d->ops->release(d, gfns, BLOCK, &err),
          &err);
}

static void note(struct xc_sr_domain *d, struct xc_sr_runs *runs)
{
    struct xc_sr_bitmap known = {0};
    uint8_t present[GFNS];

    tl_ok(xc_sr_bitmap_init(&known, GFNS, &err), &err);
    tl_ok(d->ops->present(d, 0, GFNS, present, &err), &err);
    for (uint64_t gfn = 0; gfn < GFNS; gfn++)
        if (present[gfn])
            xc_sr_bitmap_set(&known, gfn);
    xc_sr_runs_note(runs, &known);
    xc_sr_bitmap_fini(&known);
}

static bool moved(struct xc_sr_domain *d, const struct xc_sr_runs *runs)
{
    bool yes = false;

    tl_ok(xc_sr_runs_moved(runs, d, &yes, &err), &err);
    return yes;
}

static void test_a_block_that_moves_is_seen(void **state)
{
    struct xc_sr_mem_config cfg = {.nr_gfns = GFNS, .populated = RAM};
    struct xc_sr_runs runs = {0};
    struct xc_sr_domain *d;

    (void)state;
    tl_ok(xc_sr_domain_mem_open(&cfg, &d, &err), &err);
    block(d, 100, true);
    block(d, 200, true);
    note(d, &runs);
    tl_eq(runs.n, 2); /* RAM begins at 0, and stays there */
    assert_false(moved(d, &runs));

    block(d, 200, false);
    block(d, 300, true);
    assert_true(moved(d, &runs));
    note(d, &runs);
    assert_false(moved(d, &runs));

    block(d, 400, true); /* one more is for the count of pages to tell */
    assert_false(moved(d, &runs));
    d->ops->close(d);
}

static void test_more_runs_than_are_looked_at(void **state)
{
    struct xc_sr_bitmap known = {0};
    struct xc_sr_runs runs = {0};

    (void)state;
    tl_ok(xc_sr_bitmap_init(&known, GFNS, &err), &err);
    for (uint64_t gfn = 1; gfn < GFNS; gfn += 2)
        xc_sr_bitmap_set(&known, gfn);
    xc_sr_runs_note(&runs, &known);
    tl_eq(runs.n, sizeof(runs.first) / sizeof(runs.first[0]));
    tl_eq(runs.first[1], 3);
    xc_sr_bitmap_zero(&known);
    xc_sr_runs_note(&runs, &known);
    tl_eq(runs.n, 0);
    xc_sr_bitmap_fini(&known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_block_that_moves_is_seen),
        cmocka_unit_test(test_more_runs_than_are_looked_at),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
