/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Dirty sets against a plain array of booleans.
 */
#include "testlib.h"

#include <stdlib.h>
#include <string.h>

#include "xc_sr_bitmap.h"

static struct colo_err err;

#define N 1000

static void check(const struct xc_sr_bitmap *b, const bool *model, uint64_t n)
{
    uint64_t count = 0, bit, from = 0;

    for (uint64_t i = 0; i < n; i++) {
        tl_eq(xc_sr_bitmap_test(b, i), model[i]);
        count += model[i];
    }
    tl_eq(xc_sr_bitmap_count(b), count);
    for (uint64_t i = 0; i < n; i++) {
        if (model[i]) {
            assert_true(xc_sr_bitmap_next(b, from, &bit));
            tl_eq(bit, i);
            from = i + 1;
        }
    }
    assert_false(xc_sr_bitmap_next(b, from, &bit));
}

static void test_an_empty_set(void **state)
{
    struct xc_sr_bitmap b;
    uint64_t bit;

    (void)state;
    tl_ok(xc_sr_bitmap_init(&b, 0, &err), &err);
    assert_false(xc_sr_bitmap_test(&b, 0));
    assert_false(xc_sr_bitmap_next(&b, 0, &bit));
    tl_eq(xc_sr_bitmap_count(&b), 0);
    xc_sr_bitmap_zero(&b);
    xc_sr_bitmap_set_range(&b, 0, 5);
    xc_sr_bitmap_fini(&b);
    xc_sr_bitmap_fini(&b);
}

static void test_ranges_set_exactly_their_bits(void **state)
{
    uint64_t seed = 7;

    (void)state;
    for (int round = 0; round < 300; round++) {
        uint64_t first = tl_below(&seed, N + 100), count = tl_below(&seed, 200);
        bool model[1024] = {false};
        struct xc_sr_bitmap b;

        if (round == 0)
            first = 64, count = 64;
        if (round == 1)
            first = 3, count = UINT64_MAX;
        if (round == 2)
            first = 1023, count = 1;
        tl_ok(xc_sr_bitmap_init(&b, N, &err), &err);
        tl_eq(b.nbits, 1024);
        xc_sr_bitmap_set_range(&b, first, count);
        for (uint64_t i = first; i < 1024 && i - first < count; i++)
            model[i] = true;
        check(&b, model, 1024);
        xc_sr_bitmap_fini(&b);
    }
}

static void test_single_bits_and_union(void **state)
{
    bool ma[1024] = {false}, mb[512] = {false};
    struct xc_sr_bitmap a, b;
    uint64_t seed = 3;

    (void)state;
    tl_ok(xc_sr_bitmap_init(&a, 1024, &err), &err);
    tl_ok(xc_sr_bitmap_init(&b, 512, &err), &err);
    for (int i = 0; i < 900; i++) {
        uint64_t x = tl_below(&seed, 1024), y = tl_below(&seed, 512);

        if (tl_below(&seed, 3)) {
            xc_sr_bitmap_set(&a, x);
            ma[x] = true;
        } else {
            xc_sr_bitmap_clear(&a, x);
            ma[x] = false;
        }
        if (i % 7 == 0) {
            xc_sr_bitmap_set(&b, y);
            mb[y] = true;
        }
    }
    check(&a, ma, 1024);
    check(&b, mb, 512);
    xc_sr_bitmap_or(&a, &b);
    for (int i = 0; i < 512; i++)
        ma[i] |= mb[i];
    check(&a, ma, 1024);
    xc_sr_bitmap_zero(&a);
    memset(ma, 0, sizeof(ma));
    check(&a, ma, 1024);
    xc_sr_bitmap_fini(&a);
    xc_sr_bitmap_fini(&b);
}

static void test_growing_keeps_bits_and_adds_clear_ones(void **state)
{
    bool model[4096] = {false};
    struct xc_sr_bitmap b;

    (void)state;
    tl_ok(xc_sr_bitmap_init(&b, 1, &err), &err);
    tl_eq(b.nbits, 64);
    xc_sr_bitmap_set_range(&b, 0, 64);
    memset(model, 1, 64);
    tl_ok(xc_sr_bitmap_grow(&b, 65, &err), &err);
    tl_eq(b.nbits, 128);
    check(&b, model, 128);
    tl_ok(xc_sr_bitmap_grow(&b, 4096, &err), &err);
    check(&b, model, 4096);
    tl_ok(xc_sr_bitmap_grow(&b, 10, &err), &err);
    tl_eq(b.nbits, 4096);
    assert_false(xc_sr_bitmap_test(&b, 4096));
    /* more than there can be: an error, and the set is as it was */
    tl_fails(xc_sr_bitmap_grow(&b, UINT64_MAX, &err), &err, COLO_ERR_LOCAL);
    check(&b, model, 4096);
    xc_sr_bitmap_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_set),
        cmocka_unit_test(test_ranges_set_exactly_their_bits),
        cmocka_unit_test(test_single_bits_and_union),
        cmocka_unit_test(test_growing_keeps_bits_and_adds_clear_ones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
