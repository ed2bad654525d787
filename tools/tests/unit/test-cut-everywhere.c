/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Atomic: a stream that ends at any byte leaves the secondary at its last whole checkpoint, bit for
 * bit; before the first is whole there is a clear error.  So does one that was tampered with.
 *
 * The stream is a first image and two checkpoints between `mem` domains, libxl records included.
 */
#include <stdlib.h>
#include <string.h>

#include "srlib.h"

/* One secondary at its last whole checkpoint, and the bytes of the next. */
struct scene {
    struct sr_pair t;
    struct sr_bytes next;
    struct sr_snapshot *before; /* the secondary, suspended */
};

static void first_writes(struct sr_pair *t)
{
    const uint64_t gone = 8, born[] = {13, 14};
    const unsigned char zeroes[XC_PAGE_BYTES] = {0};

    sr_touch(t->p, 0, 31);
    sr_touch(t->p, 12, 32);
    xc_sr_mem_guest_write(t->p, 4, 0, zeroes, sizeof(zeroes));
    tl_ok(t->p->ops->populate(t->p, born, 2, &t->e), &t->e);
    sr_touch(t->p, born[1], 33);
    tl_ok(t->p->ops->release(t->p, &gone, 1, &t->e), &t->e);
    sr_touch(t->s, gone, 34); /* so that it is on the list */
    sr_touch(t->s, 5, 35);
}

static void second_writes(struct sr_pair *t)
{
    sr_touch(t->p, 1, 41);
    sr_touch(t->s, 2, 42);
    sr_touch(t->s, 14, 43);
}

/* checkpoints: how many are whole after the first image. */
static void scene_open(struct scene *sc, unsigned int checkpoints)
{
    struct sr_pair *t = &sc->t;
    struct sr_bytes b;

    sr_pair_open(t, true);
    b = sr_first(t);
    tl_ok(sr_load(t, &b), &t->e);
    sr_bytes_free(&b);
    for (unsigned int i = 0;; i++) {
        sr_assert_equal(t);
        sr_resume(t);
        if (i == 0)
            first_writes(t);
        else
            second_writes(t);
        b = sr_next(t);
        if (i == checkpoints)
            break;
        tl_ok(sr_stage_and_apply(t, &b), &t->e);
        sr_bytes_free(&b);
    }
    sc->next = b;
    sc->before = sr_snapshot(t->s);
}

static void scene_close(struct scene *sc)
{
    sr_snapshot_free(sc->before);
    sr_bytes_free(&sc->next);
    sr_pair_close(&sc->t);
}

/* Stage these bytes; whatever comes of it, the domain is as before.  Returns stage's result. */
static int try_stage(struct scene *sc, const struct sr_bytes *b)
{
    void *devices;
    size_t len;
    int rc = sr_stage(&sc->t, b, &devices, &len);

    if (rc == 0)
        free(devices);
    xc_sr_restore_discard(&sc->t.restore);
    sr_assert_unchanged(sc->t.s, sc->before);
    return rc;
}

static void cut_checkpoint(unsigned int whole)
{
    struct sr_bytes b;
    struct scene sc;

    scene_open(&sc, whole);
    b = sc.next;
    for (b.n = 0; b.n < sc.next.n; b.n++)
        tl_fails(try_stage(&sc, &b), &sc.t.e, COLO_ERR_PEER_EOF);
    /* After all those attempts the checkpoint can still be taken. */
    tl_ok(sr_stage_and_apply(&sc.t, &sc.next), &sc.t.e);
    sr_assert_equal(&sc.t);
    scene_close(&sc);
}

static void cut_in_the_first_checkpoint(void **state)
{
    (void)state;
    cut_checkpoint(0);
}

static void cut_in_the_second_checkpoint(void **state)
{
    (void)state;
    cut_checkpoint(1);
}

static void cut_in_the_first_image(void **state)
{
    struct sr_bytes whole, b;
    struct sr_pair t;

    (void)state;
    sr_pair_open(&t, true);
    whole = sr_first(&t);
    b = whole;
    for (b.n = 0; b.n < whole.n; b.n++) {
        tl_fails(sr_load(&t, &b), &t.e, COLO_ERR_PEER_EOF);
        /* It is not protected, and asking for a checkpoint says so. */
        if (b.n % 1000 == 0) {
            tl_fails(xc_sr_restore_stage(&t.restore, &t.e), &t.e, COLO_ERR_LOCAL);
            tl_fails(xc_sr_restore_apply(&t.restore, &t.e), &t.e, COLO_ERR_LOCAL);
        }
        xc_sr_restore_fini(&t.restore);
        sr_restore_open(&t);
    }
    tl_ok(sr_load(&t, &whole), &t.e);
    sr_assert_equal(&t);
    sr_bytes_free(&whole);
    sr_pair_close(&t);
}

/* ---- tampering ---- */

static void any_byte_changed_leaves_the_domain_alone(void **state)
{
    const unsigned char flips[] = {0x01, 0x80, 0xff};
    struct scene sc;
    unsigned char was;
    int refused = 0;

    (void)state;
    scene_open(&sc, 0);
    for (size_t at = 0; at < sc.next.n; at++) {
        was = sc.next.p[at];
        sc.next.p[at] ^= flips[at % sizeof(flips)];
        if (try_stage(&sc, &sc.next) < 0) {
            refused++;
            assert_true(sc.t.e.msg[0] && sc.t.e.reason[0]);
            colo_err_clear(&sc.t.e);
        }
        sc.next.p[at] = was;
    }
    assert_true(refused > 100); /* every header at least; page data carries no check of its own */
    tl_ok(sr_stage_and_apply(&sc.t, &sc.next), &sc.t.e);
    sr_assert_equal(&sc.t);
    scene_close(&sc);
}

static void oversized_records_are_refused(void **state)
{
    const uint32_t lengths[] = {0x7fffffff, 0xffffffff, XC_SR_RECORD_MAX + 1, 0x80000000};
    struct xc_sr_rhdr h;
    struct scene sc;
    struct sr_bytes b;

    (void)state;
    scene_open(&sc, 0);
    for (size_t at = 0; at < sc.next.n; at += sr_record_size(&sc.next, (long)at)) {
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
            b = sr_bytes_copy(&sc.next);
            memcpy(&h, b.p + at, sizeof(h));
            h.length = lengths[i];
            memcpy(b.p + at, &h, sizeof(h));
            tl_fails(try_stage(&sc, &b), &sc.t.e, COLO_ERR_PROTOCOL);
            sr_bytes_free(&b);
        }
    }
    scene_close(&sc);
}

/* Any record said a second time, left out, or moved to the front. */
static void reordered_records_are_refused(void **state)
{
    const uint32_t twice[] = {XC_SR_REC_X86_TSC_INFO, XC_SR_REC_HVM_CONTEXT, XC_SR_REC_HVM_PARAMS};
    struct scene sc;
    struct sr_bytes b;
    size_t size;
    long at, pages;

    (void)state;
    scene_open(&sc, 0);
    for (size_t i = 0; i < sizeof(twice) / sizeof(twice[0]); i++) {
        at = sr_find(&sc.next, false, twice[i], 0);
        assert_true(at > 0);
        size = sr_record_size(&sc.next, at);

        b = sr_bytes_copy(&sc.next);
        sr_bytes_insert(&b, (size_t)at, sc.next.p + at, size);
        tl_fails(try_stage(&sc, &b), &sc.t.e, COLO_ERR_PROTOCOL);

        sr_bytes_remove(&b, (size_t)at, 2 * size); /* not at all */
        tl_fails(try_stage(&sc, &b), &sc.t.e, COLO_ERR_PROTOCOL);

        sr_bytes_insert(&b, 0, sc.next.p + at, size); /* before the pages */
        tl_fails(try_stage(&sc, &b), &sc.t.e, COLO_ERR_PROTOCOL);
        sr_bytes_free(&b);
    }
    /* The pages after CHECKPOINT are no libxl record. */
    pages = sr_find(&sc.next, false, XC_SR_REC_PAGE_DATA, 0);
    at = sr_find(&sc.next, false, XC_SR_REC_CHECKPOINT, 0);
    assert_true(pages == 0 && at > 0);
    size = sr_record_size(&sc.next, 0);
    b = sr_bytes_copy(&sc.next);
    sr_bytes_insert(&b, (size_t)at + 8, sc.next.p, size);
    sr_bytes_remove(&b, 0, size);
    tl_fails(try_stage(&sc, &b), &sc.t.e, COLO_ERR_PROTOCOL);
    sr_bytes_free(&b);
    scene_close(&sc);
}

/* ---- failures of this host while the checkpoint is applied ---- */

static void what_fails_before_the_first_byte_leaves_the_domain_alone(void **state)
{
    const char *const ops[] = {"map", "populate"};
    struct scene sc;
    void *devices;
    size_t len;

    (void)state;
    scene_open(&sc, 0);
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        tl_ok(sr_stage(&sc.t, &sc.next, &devices, &len), &sc.t.e);
        free(devices);
        xc_sr_mem_fail_op(sc.t.s, ops[i], 1);
        tl_fails(xc_sr_restore_apply(&sc.t.restore, &sc.t.e), &sc.t.e, COLO_ERR_LOCAL);
        xc_sr_mem_fail_op(sc.t.s, ops[i], 0);
        sr_assert_unchanged(sc.t.s, sc.before);
    }
    /* Still staged: it goes through once the host can. */
    tl_ok(xc_sr_restore_apply(&sc.t.restore, &sc.t.e), &sc.t.e);
    scene_close(&sc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_in_the_first_image),
        cmocka_unit_test(cut_in_the_first_checkpoint),
        cmocka_unit_test(cut_in_the_second_checkpoint),
        cmocka_unit_test(any_byte_changed_leaves_the_domain_alone),
        cmocka_unit_test(oversized_records_are_refused),
        cmocka_unit_test(reordered_records_are_refused),
        cmocka_unit_test(what_fails_before_the_first_byte_leaves_the_domain_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
