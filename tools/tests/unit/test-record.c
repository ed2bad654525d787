/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Record framing: sizes, padding, limits, heartbeats, and every place where a stream can be cut.
 */
#include "testlib.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "xc_sr_record.h"

static struct colo_err err;

struct pair {
    struct xc_sr_channel a, b;
    int fds[2];
};

static void pair_open(struct pair *p)
{
    tl_socketpair(p->fds, 0);
    tl_ok(xc_sr_channel_init(&p->a, p->fds[0], p->fds[0], -1, &err), &err);
    tl_ok(xc_sr_channel_init(&p->b, p->fds[1], p->fds[1], -1, &err), &err);
}

static void pair_close(struct pair *p)
{
    xc_sr_channel_fini(&p->a);
    xc_sr_channel_fini(&p->b);
    close(p->fds[0]);
    close(p->fds[1]);
}

static void heartbeat(struct xc_sr_channel *ch)
{
    struct xc_sr_rec_tag tag = {.generation = 1};

    tl_ok(xc_sr_write_simple(ch, XC_SR_REC_COLO_HEARTBEAT, &tag, sizeof(tag), tl_soon(), &err),
          &err);
}

static void raw(struct pair *p, const void *buf, size_t len)
{
    tl_eq(send(p->fds[0], buf, len, 0), len);
}

static void test_every_length_is_padded_to_eight(void **state)
{
    unsigned char body[64], wire[80];
    uint64_t seed = 5;
    struct pair p;

    (void)state;
    pair_open(&p);
    tl_fill(&seed, body, sizeof(body));
    for (uint32_t len = 0; len <= sizeof(body); len++) {
        uint32_t padded = (len + 7) / 8 * 8;
        struct xc_sr_record rec;
        struct xc_sr_rhdr h;
        struct iovec iov[3] = {
            {body, len / 3}, {body + len / 3, 0}, {body + len / 3, len - len / 3}};

        tl_ok(xc_sr_write_record(&p.a, 0x1234, iov, 3, tl_soon(), &err), &err);
        tl_eq(recv(p.fds[1], wire, sizeof(wire), 0), 8 + padded);
        memcpy(&h, wire, sizeof(h));
        tl_eq(h.type, 0x1234);
        tl_eq(h.length, len);
        assert_memory_equal(wire + 8, body, len);
        for (uint32_t i = len; i < padded; i++)
            tl_eq(wire[8 + i], 0);

        raw(&p, wire, 8 + padded);
        tl_ok(xc_sr_read_record(&p.b, 64, tl_soon(), &rec, &err), &err);
        tl_eq(rec.type, 0x1234);
        tl_eq(rec.length, len);
        if (len)
            assert_memory_equal(rec.data, body, len);
        else
            assert_null(rec.data);
        xc_sr_record_free(&rec);
        xc_sr_record_free(&rec);
    }
    pair_close(&p);
}

static void *write_large(void *priv)
{
    struct xc_sr_channel *ch = priv;
    size_t len = (5 << 20) + 3;
    unsigned char *body = malloc(len);
    uint64_t seed = 8;
    int rc;

    tl_fill(&seed, body, len);
    rc = xc_sr_write_simple(ch, XC_SR_REC_HVM_CONTEXT, body, (uint32_t)len, tl_soon(), NULL);
    free(body);
    return rc ? ch : NULL;
}

static void test_a_large_record_grows_as_it_comes(void **state)
{
    struct xc_sr_record rec;
    unsigned char *body;
    uint64_t seed = 8;
    pthread_t t;
    struct pair p;
    void *failed;

    (void)state;
    pair_open(&p);
    pthread_create(&t, NULL, write_large, &p.a);
    tl_ok(xc_sr_read_record(&p.b, 8 << 20, tl_soon(), &rec, &err), &err);
    pthread_join(t, &failed);
    assert_null(failed);
    tl_eq(rec.length, (5 << 20) + 3);
    body = malloc(rec.length);
    tl_fill(&seed, body, rec.length);
    assert_memory_equal(rec.data, body, rec.length);
    free(body);
    xc_sr_record_free(&rec);
    pair_close(&p);
}

static void test_lengths_and_padding_are_not_believed(void **state)
{
    const struct xc_sr_rhdr huge = {XC_SR_REC_HVM_CONTEXT, UINT32_MAX};
    const struct xc_sr_rhdr odd_heartbeat = {XC_SR_REC_COLO_HEARTBEAT, 24};
    const unsigned char dirty_pad[16] = {7, 0, 0, 0, 5, 0, 0, 0, 1, 2, 3, 4, 5, 0, 9, 0};
    const struct xc_sr_rhdr announced = {XC_SR_REC_HVM_CONTEXT, XC_SR_RECORD_MAX};
    struct xc_sr_record rec;
    struct pair p;
    int rc;

    (void)state;
    pair_open(&p);
    raw(&p, &huge, sizeof(huge));
    rc = xc_sr_read_record(&p.b, XC_SR_RECORD_MAX, tl_soon(), &rec, &err);
    tl_has(err.msg, "HVM_CONTEXT");
    tl_has(err.msg, "4294967295");
    tl_fails(rc, &err, COLO_ERR_PROTOCOL);
    assert_null(rec.data);
    pair_close(&p);

    pair_open(&p);
    raw(&p, &odd_heartbeat, sizeof(odd_heartbeat));
    tl_fails(xc_sr_read_record(&p.b, 100, tl_soon(), &rec, &err), &err, COLO_ERR_PROTOCOL);
    pair_close(&p);

    pair_open(&p);
    raw(&p, dirty_pad, sizeof(dirty_pad));
    tl_fails(xc_sr_read_record(&p.b, 100, tl_soon(), &rec, &err), &err, COLO_ERR_PROTOCOL);
    assert_null(rec.data);
    pair_close(&p);

    /* 128 MiB promised, the end instead */
    pair_open(&p);
    raw(&p, &announced, sizeof(announced));
    shutdown(p.fds[0], SHUT_WR);
    tl_fails(xc_sr_read_record(&p.b, XC_SR_RECORD_MAX, tl_soon(), &rec, &err), &err,
             COLO_ERR_PEER_EOF);
    pair_close(&p);
}

static void test_the_writer_keeps_the_limits(void **state)
{
    struct iovec iov[1025] = {{NULL, 0}};
    struct pair p;
    char c;

    (void)state;
    pair_open(&p);
    tl_fails(xc_sr_write_record(&p.a, 1, iov, 1025, tl_soon(), &err), &err, COLO_ERR_LOCAL);
    tl_fails(xc_sr_write_record(&p.a, 1, iov, -1, tl_soon(), &err), &err, COLO_ERR_LOCAL);
    iov[0].iov_len = XC_SR_RECORD_MAX;
    iov[1].iov_len = 1;
    tl_eq(xc_sr_write_record(&p.a, 1, iov, 2, tl_soon(), &err), -1);
    tl_has(err.msg, "longer than");
    iov[1].iov_len = SIZE_MAX;
    tl_fails(xc_sr_write_record(&p.a, 1, iov, 2, tl_soon(), &err), &err, COLO_ERR_LOCAL);
    tl_eq(recv(p.fds[1], &c, 1, MSG_DONTWAIT), -1); /* nothing went out */
    for (int i = 0; i < 1024; i++)
        iov[i] = (struct iovec){"x", 1};
    tl_ok(xc_sr_write_record(&p.a, 1, iov, 1024, tl_soon(), &err), &err);
    pair_close(&p);
}

static void test_heartbeats_are_passed_over(void **state)
{
    struct xc_sr_record rec;
    struct pair p;
    bool pending;

    (void)state;
    pair_open(&p);
    tl_ok(xc_sr_record_pending(&p.b, &pending, &err), &err);
    tl_eq(pending, false);
    heartbeat(&p.a);
    heartbeat(&p.a);
    tl_ok(xc_sr_record_pending(&p.b, &pending, &err), &err);
    tl_eq(pending, false);
    assert_null(xc_sr_channel_peek(&p.b, 1)); /* they were taken away */
    heartbeat(&p.a);
    tl_ok(xc_sr_write_simple(&p.a, XC_SR_REC_CHECKPOINT, NULL, 0, tl_soon(), &err), &err);
    heartbeat(&p.a);
    tl_ok(xc_sr_record_pending(&p.b, &pending, &err), &err);
    tl_eq(pending, true);
    heartbeat(&p.a);
    tl_ok(xc_sr_read_record(&p.b, 0, tl_soon(), &rec, &err), &err);
    tl_eq(rec.type, XC_SR_REC_CHECKPOINT);
    tl_fails(xc_sr_read_record(&p.b, 0, colo_now() + COLO_MS, &rec, &err), &err, COLO_ERR_TIMEOUT);
    pair_close(&p);
}

static void test_pending_with_parts_of_records(void **state)
{
    struct {
        struct xc_sr_rhdr h;
        struct xc_sr_rec_tag tag;
    } beat = {{XC_SR_REC_COLO_HEARTBEAT, sizeof(beat.tag)}, {.checkpoint = 9}};
    const struct xc_sr_rhdr part = {XC_SR_REC_HVM_CONTEXT, 100};
    struct pair p;
    bool pending;

    (void)state;
    pair_open(&p);
    for (size_t i = 0; i < sizeof(beat); i++) { /* a heartbeat is never pending, byte by byte */
        raw(&p, (char *)&beat + i, 1);
        tl_ok(xc_sr_record_pending(&p.b, &pending, &err), &err);
        tl_eq(pending, false);
    }
    assert_null(xc_sr_channel_peek(&p.b, 1));
    for (size_t i = 0; i < sizeof(part); i++) {
        raw(&p, (const char *)&part + i, 1);
        tl_ok(xc_sr_record_pending(&p.b, &pending, &err), &err);
        tl_eq(pending, i == sizeof(part) - 1);
    }
    pair_close(&p);

    /* the end inside a header is for the reader to tell, not to wait for */
    pair_open(&p);
    raw(&p, &part, 3);
    shutdown(p.fds[0], SHUT_WR);
    tl_ok(xc_sr_record_pending(&p.b, &pending, &err), &err);
    tl_eq(pending, true);
    pair_close(&p);

    pair_open(&p);
    heartbeat(&p.a);
    shutdown(p.fds[0], SHUT_WR);
    tl_fails(xc_sr_record_pending(&p.b, &pending, &err), &err, COLO_ERR_PEER_EOF);
    pair_close(&p);

    pair_open(&p);
    beat.h.length = 0;
    raw(&p, &beat, sizeof(beat.h));
    tl_fails(xc_sr_record_pending(&p.b, &pending, &err), &err, COLO_ERR_PROTOCOL);
    pair_close(&p);
}

static void test_a_long_writer_does_not_drown_in_heartbeats(void **state)
{
    struct xc_sr_record rec;
    uint64_t in, out;
    struct pair p;
    size_t avail;

    (void)state;
    pair_open(&p);
    for (size_t n = 0; n < 3 * XC_SR_CHANNEL_BUF; n += 40) {
        heartbeat(&p.b);
        if (n % 1600 == 0) {
            tl_ok(xc_sr_write_simple(&p.a, XC_SR_REC_CHECKPOINT, NULL, 0, tl_soon(), &err), &err);
            tl_ok(xc_sr_read_record(&p.b, 0, tl_soon(), &rec, &err), &err);
        }
    }
    tl_ok(xc_sr_channel_pump(&p.a, &avail, &err), &err);
    assert_true(avail < XC_SR_CHANNEL_BUF);
    xc_sr_channel_bytes(&p.a, &in, &out);
    assert_true(in > 2 * XC_SR_CHANNEL_BUF);
    pair_close(&p);
}

/* Three records and a heartbeat, cut behind each byte: whole records come out, then the end. */
static void test_a_stream_cut_at_every_byte(void **state)
{
    static const uint32_t lengths[3] = {13, 0, 40};
    unsigned char body[40] = {0};
    uint64_t total = (8 + 16) + 40 + 8 + (8 + 40), ends[3] = {24, 72, 120};

    (void)state;
    for (uint64_t cut = 0; cut <= total; cut++) {
        struct tl_rule rule = TL_PERFECT;
        struct xc_sr_channel a, b;
        struct xc_sr_record rec;
        struct tl_link *l;

        rule.cut_at = cut;
        rule.chunk = cut % 5;
        l = tl_link_open(&rule, NULL);
        tl_ok(xc_sr_channel_init(&a, -1, tl_link_fd(l, 0), -1, &err), &err);
        tl_ok(xc_sr_channel_init(&b, tl_link_fd(l, 1), -1, -1, &err), &err);
        for (int i = 0; i < 3; i++) { /* late writes fail when the cut comes early */
            xc_sr_write_simple(&a, (uint32_t)i + 1, body, lengths[i], tl_soon(), NULL);
            if (i == 0)
                xc_sr_write_simple(&a, XC_SR_REC_COLO_HEARTBEAT, body, 32, tl_soon(), NULL);
        }
        for (int i = 0; i < 3 && ends[i] <= cut; i++) {
            tl_ok(xc_sr_read_record(&b, 40, tl_soon(), &rec, &err), &err);
            tl_eq(rec.type, i + 1);
            tl_eq(rec.length, lengths[i]);
            xc_sr_record_free(&rec);
        }
        tl_fails(xc_sr_read_record(&b, 40, tl_soon(), &rec, &err), &err, COLO_ERR_PEER_EOF);
        xc_sr_channel_fini(&a);
        xc_sr_channel_fini(&b);
        tl_link_close(l);
    }
}

/* A peer that dies in the middle of a record, or of a heartbeat, is silent like any other. */
static void test_part_of_a_record_does_not_hide_silence(void **state)
{
    struct {
        struct xc_sr_rhdr h;
        struct xc_sr_rec_tag tag;
    } beat = {{XC_SR_REC_COLO_HEARTBEAT, sizeof(beat.tag)}, {.checkpoint = 9}};
    struct pair p;
    bool pending;

    (void)state;
    for (size_t len = 1; len < sizeof(beat); len++) {
        pair_open(&p);
        raw(&p, &beat, len);
        tl_ok(xc_sr_record_pending(&p.b, &pending, &err), &err);
        tl_eq(pending, false);
        p.b.silence = 1000 * COLO_MS;
        p.b.heard -= 1100 * COLO_MS;
        tl_fails(xc_sr_record_pending(&p.b, &pending, &err), &err, COLO_ERR_PEER_SILENT);
        pair_close(&p);
    }
}

/* Wherever a record was due, and of whatever kind: the peer's goodbye ends the reading. */
static void test_a_stop_comes_through_anywhere(void **state)
{
    struct xc_sr_record rec;
    struct pair p;

    (void)state;
    pair_open(&p);
    heartbeat(&p.a);
    tl_ok(xc_sr_write_simple(&p.a, XC_SR_REC_COLO_STOP, "{}?", 3, tl_soon(), &err), &err);
    tl_fails(xc_sr_read_record(&p.b, 100, tl_soon(), &rec, &err), &err, COLO_ERR_STOPPED);
    tl_eq(p.b.stop_len, 3);
    assert_memory_equal(p.b.stop, "{}?", 3);
    /* a second one replaces the first */
    tl_ok(xc_sr_write_simple(&p.a, XC_SR_REC_COLO_STOP, NULL, 0, tl_soon(), &err), &err);
    tl_fails(xc_sr_read_record(&p.b, 100, tl_soon(), &rec, &err), &err, COLO_ERR_STOPPED);
    tl_eq(p.b.stop_len, 0);
    pair_close(&p);

    pair_open(&p);
    raw(&p, &(struct xc_sr_rhdr){XC_SR_REC_COLO_STOP, XC_SR_STOP_MAX + 1},
        sizeof(struct xc_sr_rhdr));
    tl_fails(xc_sr_read_record(&p.b, UINT32_MAX, tl_soon(), &rec, &err), &err, COLO_ERR_PROTOCOL);
    pair_close(&p);
}

static void test_a_flood_of_heartbeats_does_not_move_a_deadline(void **state)
{
    struct xc_sr_record rec;
    struct pair p;

    (void)state;
    pair_open(&p);
    for (int i = 0; i < 5; i++)
        heartbeat(&p.a);
    tl_fails(xc_sr_read_record(&p.b, 100, colo_now(), &rec, &err), &err, COLO_ERR_TIMEOUT);
    assert_non_null(xc_sr_channel_peek(&p.b, 1)); /* it did not read all of them first */
    pair_close(&p);
}

static void test_heartbeats_of_others_are_no_life_signs(void **state)
{
    const struct xc_sr_rec_tag mine = {.session = {1, 2, 3}, .generation = 1};
    struct xc_sr_rec_tag theirs[] = {mine, mine, mine};
    struct pair p;
    bool pending;

    (void)state;
    theirs[0].checkpoint = 77; /* whatever checkpoint it is at */
    theirs[1].session[15] = 1;
    theirs[2].generation = 2;
    for (size_t i = 0; i < 3; i++) {
        pair_open(&p);
        p.b.tag = &mine;
        tl_ok(xc_sr_write_simple(&p.a, XC_SR_REC_COLO_HEARTBEAT, &theirs[i], sizeof(mine),
                                 tl_soon(), &err),
              &err);
        if (i == 0)
            tl_ok(xc_sr_record_pending(&p.b, &pending, &err), &err);
        else
            tl_fails(xc_sr_record_pending(&p.b, &pending, &err), &err, COLO_ERR_PROTOCOL);
        pair_close(&p);
    }
}

static void test_names(void **state)
{
    (void)state;
    tl_str_eq(xc_sr_record_name(XC_SR_REC_PAGE_DATA), "PAGE_DATA");
    tl_str_eq(xc_sr_record_name(0x77777777), "type 0x77777777");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_length_is_padded_to_eight),
        cmocka_unit_test(test_a_large_record_grows_as_it_comes),
        cmocka_unit_test(test_lengths_and_padding_are_not_believed),
        cmocka_unit_test(test_the_writer_keeps_the_limits),
        cmocka_unit_test(test_heartbeats_are_passed_over),
        cmocka_unit_test(test_heartbeats_of_others_are_no_life_signs),
        cmocka_unit_test(test_part_of_a_record_does_not_hide_silence),
        cmocka_unit_test(test_a_stop_comes_through_anywhere),
        cmocka_unit_test(test_a_flood_of_heartbeats_does_not_move_a_deadline),
        cmocka_unit_test(test_pending_with_parts_of_records),
        cmocka_unit_test(test_a_long_writer_does_not_drown_in_heartbeats),
        cmocka_unit_test(test_a_stream_cut_at_every_byte),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
