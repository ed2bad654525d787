/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Staging: what is put in comes out, the last one wins, and memory stays within its bounds.
 */
#include "testlib.h"

#include <stdlib.h>
#include <string.h>

#include "xc_sr_staging.h"

#define PAGE ((size_t)4096)
#define N    2000 /* pfns of the model */

static struct colo_err err;

static struct xc_sr_staging *new_staging(uint64_t max, size_t cap, const char *dir)
{
    struct xc_sr_staging *s = NULL;

    tl_ok(xc_sr_staging_new(max, cap, dir, &s, &err), &err);
    return s;
}

static void fill(void *page, uint64_t seed)
{
    uint64_t *p = page;

    for (size_t i = 0; i < PAGE / sizeof(*p); i++)
        p[i] = tl_rand(&seed);
}

static uint64_t staged(struct xc_sr_staging *s)
{
    uint64_t n = 0, pfn;

    for (uint64_t from = 0; !xc_sr_staging_next(s, from, &pfn); from = pfn + 1)
        n++;
    return n;
}

struct entry {
    enum xc_sr_staged_kind kind;
    uint64_t seed;
};

static void check(struct xc_sr_staging *s, const struct entry *model)
{
    unsigned char expect[PAGE];
    uint64_t pfn, from = 0;
    const void *page;

    for (uint64_t i = 0; i < N; i++) {
        tl_eq(xc_sr_staging_get(s, i, &page), model[i].kind);
        if (model[i].kind == XC_SR_STAGED_NONE)
            continue;
        tl_eq(xc_sr_staging_next(s, from, &pfn), 0);
        tl_eq(pfn, i);
        from = i + 1;
        if (model[i].kind == XC_SR_STAGED_DATA) {
            fill(expect, model[i].seed);
            assert_memory_equal(page, expect, PAGE);
        } else {
            assert_null(page);
        }
    }
    tl_eq(xc_sr_staging_next(s, from, &pfn), 1);
}

static void exercise(size_t cap, const char *dir)
{
    struct xc_sr_staging *s = new_staging(N, cap, dir);
    static struct entry model[N];
    uint64_t seed = 11;
    void *page;

    for (int round = 0; round < 4; round++) {
        memset(model, 0, sizeof(model));
        for (int i = 0; i < 3000; i++) {
            uint64_t pfn = tl_below(&seed, N), what = tl_below(&seed, 4);

            if (what >= 2) {
                model[pfn] = (struct entry){XC_SR_STAGED_DATA, tl_rand(&seed)};
                tl_ok(xc_sr_staging_page(s, pfn, &page, &err), &err);
                fill(page, model[pfn].seed);
            } else {
                model[pfn].kind = what ? XC_SR_STAGED_ZERO : XC_SR_STAGED_HOLE;
                tl_ok(xc_sr_staging_mark(s, pfn, model[pfn].kind, &err), &err);
            }
        }
        check(s, model);
        assert_true(xc_sr_staging_peak_bytes(s) <= N * PAGE);
        xc_sr_staging_reset(s);
    }
    memset(model, 0, sizeof(model));
    check(s, model);
    xc_sr_staging_free(s);
}

static void test_against_a_model_in_memory(void **state)
{
    (void)state;
    exercise(N * PAGE, NULL);
    exercise((size_t)1 << 30, NULL); /* a cap above what there can be */
}

static void test_against_a_model_with_a_file(void **state)
{
    (void)state;
    exercise(100 * PAGE + 5, "/tmp");
    exercise(0, "/tmp");
}

static void test_the_cap_without_a_file_is_an_error(void **state)
{
    struct xc_sr_staging *s = new_staging(100, 3 * PAGE, NULL);
    const void *got;
    void *page;
    int rc;

    (void)state;
    for (uint64_t i = 0; i < 3; i++) {
        tl_ok(xc_sr_staging_page(s, i * 7, &page, &err), &err);
        fill(page, i);
    }
    rc = xc_sr_staging_page(s, 50, &page, &err);
    tl_str_eq(err.reason, "staging-full");
    tl_fails(rc, &err, COLO_ERR_LOCAL);
    tl_eq(xc_sr_staging_get(s, 50, &got), XC_SR_STAGED_NONE);
    tl_eq(staged(s), 3);
    /* what needs no new slot still goes */
    tl_ok(xc_sr_staging_page(s, 7, &page, &err), &err);
    tl_ok(xc_sr_staging_mark(s, 51, XC_SR_STAGED_ZERO, &err), &err);
    tl_ok(xc_sr_staging_mark(s, 7, XC_SR_STAGED_HOLE, &err), &err);
    tl_ok(xc_sr_staging_page(s, 50, &page, &err), &err);
    tl_eq(xc_sr_staging_peak_bytes(s), 3 * PAGE);
    xc_sr_staging_free(s);
}

static void test_a_page_that_changes_its_kind_for_ever_takes_no_more_room(void **state)
{
    struct xc_sr_staging *s = new_staging(100, 2 * PAGE, NULL);
    void *page;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        tl_ok(xc_sr_staging_page(s, 1, &page, &err), &err);
        memset(page, 0xff, PAGE);
        tl_ok(xc_sr_staging_page(s, 2, &page, &err), &err);
        memset(page, 0xff, PAGE);
        tl_ok(xc_sr_staging_mark(s, 1, XC_SR_STAGED_ZERO, &err), &err);
        tl_ok(xc_sr_staging_mark(s, 2, XC_SR_STAGED_HOLE, &err), &err);
    }
    tl_eq(staged(s), 2);
    tl_eq(xc_sr_staging_peak_bytes(s), 2 * PAGE);
    xc_sr_staging_free(s);
}

static void test_pfns_and_sizes_are_bounded(void **state)
{
    struct xc_sr_staging *s = new_staging(100, PAGE, NULL);
    const uint64_t bad[] = {100, 101, UINT32_MAX, UINT64_MAX};
    const void *got;
    void *page;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        tl_fails(xc_sr_staging_page(s, bad[i], &page, &err), &err, COLO_ERR_PROTOCOL);
        tl_fails(xc_sr_staging_mark(s, bad[i], XC_SR_STAGED_ZERO, &err), &err, COLO_ERR_PROTOCOL);
        tl_eq(xc_sr_staging_get(s, bad[i], &got), XC_SR_STAGED_NONE);
    }
    tl_ok(xc_sr_staging_mark(s, 99, XC_SR_STAGED_ZERO, &err), &err);
    tl_fails(xc_sr_staging_mark(s, 5, XC_SR_STAGED_DATA, &err), &err, COLO_ERR_LOCAL);
    xc_sr_staging_free(s);
    xc_sr_staging_free(NULL);
    tl_fails(xc_sr_staging_new(0, PAGE, NULL, &s, &err), &err, COLO_ERR_LOCAL);
    tl_fails(xc_sr_staging_new(UINT64_MAX, PAGE, NULL, &s, &err), &err, COLO_ERR_LOCAL);
}

static void test_a_missing_directory_is_told(void **state)
{
    struct xc_sr_staging *s;
    int rc;

    (void)state;
    rc = xc_sr_staging_new(100, PAGE, "/nowhere/at/all", &s, &err); /* now, not when it is needed */
    tl_has(err.msg, "/nowhere/at/all");
    tl_fails(rc, &err, COLO_ERR_LOCAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_a_model_in_memory),
        cmocka_unit_test(test_against_a_model_with_a_file),
        cmocka_unit_test(test_the_cap_without_a_file_is_an_error),
        cmocka_unit_test(test_a_page_that_changes_its_kind_for_ever_takes_no_more_room),
        cmocka_unit_test(test_pfns_and_sizes_are_bounded),
        cmocka_unit_test(test_a_missing_directory_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
