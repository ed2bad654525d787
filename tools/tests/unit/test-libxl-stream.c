/* SPDX-License-Identifier: GPL-2.0-only */
/* The libxl layer of the stream: its bytes, both directions, and what is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libxl_stream.h"
#include "memchan.h"
#include "testlib.h"

/* A stream under construction, or under reading. */
struct fixture {
    struct memchan m;
    struct libxl_stream s;
    struct colo_err e;
};

static void prepare(struct fixture *x, bool tags)
{
    memset(x, 0, sizeof(*x));
    x->s.ch = &x->m.ch;
    x->s.tags = tags;
    memset(x->s.tag.session, 0x5e, 16);
    x->s.tag.generation = 3;
    x->s.tag.checkpoint = 9;
}

static void writer(struct fixture *x, bool tags)
{
    prepare(x, tags);
    memchan_writer(&x->m);
}

static void reader(struct fixture *x, bool tags, const void *bytes, size_t len)
{
    prepare(x, tags);
    memchan_reader(&x->m, bytes, len);
}

/* Take what x wrote and read it. */
static void turn_round(struct fixture *x)
{
    unsigned char *bytes;
    size_t len = memchan_taken(&x->m, &bytes);

    reader(x, x->s.tags, bytes, len);
    free(bytes);
}

static void raw(struct fixture *x, uint32_t type, const void *body, uint32_t len)
{
    tl_ok(xc_sr_write_simple(x->s.ch, type, body, len, tl_soon(), &x->e), &x->e);
}

static void all_read(struct fixture *x)
{
    tl_eq(memchan_rest(&x->m), 0);
}

static void done(struct fixture *x)
{
    memchan_rest(&x->m);
}

static void test_bytes_are_the_stock_ones(void **state)
{
    static const unsigned char want[] = "LibxlFmt\0\0\0\2\0\0\0\0"
                                        "\1\0\0\0\0\0\0\0"
                                        "\3\0\0\0\x0d\0\0\0\2\0\0\0\0\0\0\0QEVM!\0\0\0"
                                        "\4\0\0\0\0\0\0\0"
                                        "\5\0\0\0\4\0\0\0\2\0\0\0\0\0\0\0"
                                        "\0\0\0\0\0\0\0";
    struct fixture x;
    unsigned char *bytes;
    size_t len;

    (void)state;
    writer(&x, false);
    tl_ok(libxl_stream_write_header(&x.s, &x.e), &x.e);
    tl_ok(libxl_stream_write_libxc_context(&x.s, &x.e), &x.e);
    tl_ok(libxl_stream_write_emulator(&x.s, "QEVM!", 5, &x.e), &x.e);
    tl_ok(libxl_stream_write_emulator(&x.s, NULL, 0, &x.e), &x.e);
    tl_ok(libxl_stream_write_checkpoint_end(&x.s, &x.e), &x.e);
    tl_ok(libxl_stream_write_state(&x.s, LIBXL_SR_STATE_SVM_READY, &x.e), &x.e);
    tl_ok(libxl_stream_write_end(&x.s, &x.e), &x.e);
    len = memchan_taken(&x.m, &bytes);
    tl_eq(len, sizeof(want));
    assert_memory_equal(bytes, want, len);
    free(bytes);
}

static void write_checkpoint(struct fixture *x)
{
    tl_ok(libxl_stream_write_header(&x->s, &x->e), &x->e);
    tl_ok(libxl_stream_write_caps(&x->s, "{\"a\": 1}", &x->e), &x->e);
    tl_ok(libxl_stream_write_libxc_context(&x->s, &x->e), &x->e);
    raw(x, LIBXL_SR_REC_EMULATOR_XENSTORE, "\2\0\0\0\0\0\0\0key\0value\0", 18);
    tl_ok(libxl_stream_write_emulator(&x->s, "QEVM!", 5, &x->e), &x->e);
    raw(x, LIBXL_SR_REC_COLO_DIGEST, "digest", 6);
    tl_ok(libxl_stream_write_checkpoint_end(&x->s, &x->e), &x->e);
    tl_ok(libxl_stream_write_state(&x->s, LIBXL_SR_STATE_NEW, &x->e), &x->e);
    raw(x, LIBXL_SR_REC_COLO_TIMES, "12345678", 8);
}

static int read_checkpoint(struct fixture *x)
{
    struct xc_sr_record digest, times;
    char *caps;
    void *dev;
    size_t len;
    uint32_t last;

    if (libxl_stream_read_header(&x->s, &x->e) || libxl_stream_read_caps(&x->s, &caps, &x->e))
        return -1;
    tl_str_eq(caps, "{\"a\": 1}");
    free(caps);
    if (libxl_stream_read_libxc_context(&x->s, &x->e) ||
        libxl_stream_read_emulators(&x->s, &dev, &len, &last, &digest, &x->e))
        return -1;
    tl_eq(last, LIBXL_SR_REC_CHECKPOINT_END);
    tl_eq(len, 5);
    assert_memory_equal(dev, "QEVM!", 5);
    tl_eq(digest.length, 6);
    assert_memory_equal(digest.data, "digest", 6);
    free(dev);
    xc_sr_record_free(&digest);
    if (libxl_stream_read_state(&x->s, LIBXL_SR_STATE_NEW, &x->e) ||
        libxl_stream_read_expected(&x->s, LIBXL_SR_REC_COLO_TIMES, 100, &times, &x->e))
        return -1;
    tl_eq(times.length, 8);
    xc_sr_record_free(&times);
    return 0;
}

static void test_what_is_written_is_read(void **state)
{
    struct fixture x;
    int tags;

    (void)state;
    for (tags = 0; tags < 2; tags++) {
        writer(&x, tags);
        write_checkpoint(&x);
        turn_round(&x);
        tl_ok(read_checkpoint(&x), &x.e);
        all_read(&x);
    }
}

static void test_cut_at_every_byte(void **state)
{
    struct fixture x;
    unsigned char *bytes;
    size_t len, cut;
    int tags;

    (void)state;
    for (tags = 0; tags < 2; tags++) {
        writer(&x, tags);
        write_checkpoint(&x);
        len = memchan_taken(&x.m, &bytes);
        for (cut = 0; cut < len; cut++) {
            reader(&x, tags, bytes, cut);
            tl_fails(read_checkpoint(&x), &x.e, COLO_ERR_PEER_EOF);
            done(&x);
        }
        free(bytes);
    }
}

static void test_plain_stream_ends_with_end(void **state)
{
    struct fixture x;
    uint32_t last;
    size_t len = 1;
    void *dev = &x;

    (void)state;
    writer(&x, false);
    raw(&x, LIBXL_SR_REC_COLO_DIGEST, "digest", 6);
    tl_ok(libxl_stream_write_end(&x.s, &x.e), &x.e);
    turn_round(&x);
    tl_ok(libxl_stream_read_emulators(&x.s, &dev, &len, &last, NULL, &x.e), &x.e);
    tl_eq(last, LIBXL_SR_REC_END);
    assert_null(dev);
    tl_eq(len, 0);
    all_read(&x);
}

static void test_header_is_checked(void **state)
{
    static const struct {
        const char *bytes, *reason;
    } t[] = {
        {"LibxlFmX\0\0\0\2\0\0\0\0", "bad-header"},   {"LibxlFmt\0\0\0\3\0\0\0\0", "bad-version"},
        {"LibxlFmt\0\0\0\2\0\0\0\1", "bad-header"},   {"LibxlFmt\0\0\0\2\0\0\0\2", "bad-header"},
        {"LibxlFmt\0\0\0\2\x80\0\0\0", "bad-header"},
    };
    struct fixture x;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        reader(&x, false, t[i].bytes, 16);
        assert_int_equal(libxl_stream_read_header(&x.s, &x.e), -1);
        tl_str_eq(x.e.reason, t[i].reason);
        tl_fails(-1, &x.e, COLO_ERR_PROTOCOL);
        done(&x);
    }
}

/* Each reader on one record of the test's. */
static int read_as(struct fixture *x, char reader_is)
{
    struct xc_sr_record rec;
    void *dev;
    char *caps;
    size_t len;
    uint32_t last;
    int rc;

    switch (reader_is) {
    case 's':
        return libxl_stream_read_state(&x->s, LIBXL_SR_STATE_SVM_READY, &x->e);
    case 'x':
        return libxl_stream_read_libxc_context(&x->s, &x->e);
    case 'c':
        rc = libxl_stream_read_caps(&x->s, &caps, &x->e);
        assert_int_equal(caps != NULL, rc == 0);
        return rc;
    case 'e':
        rc = libxl_stream_read_emulators(&x->s, &dev, &len, &last, NULL, &x->e);
        assert_null(dev);
        return rc;
    default:
        rc = libxl_stream_read_expected(&x->s, LIBXL_SR_REC_COLO_TIMES, 16, &rec, &x->e);
        assert_null(rec.data);
        return rc;
    }
}

static void test_refuses_records(void **state)
{
    static const struct {
        char reader;
        uint32_t type, len;
        const char *body, *says;
    } t[] = {
        {'s', LIBXL_SR_REC_CHECKPOINT_STATE, 0, "", "0 bytes"},
        {'s', LIBXL_SR_REC_CHECKPOINT_STATE, 3, "\2\0", "3 bytes"},
        {'s', LIBXL_SR_REC_CHECKPOINT_STATE, 8, "\2\0\0\0\0\0\0", "8 bytes"},
        {'s', LIBXL_SR_REC_CHECKPOINT_STATE, 4, "\3\0\0", "SVM_RESUMED (3) where SVM_READY"},
        {'s', LIBXL_SR_REC_CHECKPOINT_STATE, 4, "\377\377\377\377", "unknown (4294967295)"},
        {'s', LIBXL_SR_REC_CHECKPOINT_END, 0, "", "CHECKPOINT_END where SVM_READY"},
        {'s', XC_SR_REC_COLO_TAG, 0, "", "COLO_TAG where"},
        {'x', LIBXL_SR_REC_LIBXC_CONTEXT, 1, "", "1 bytes"},
        {'x', 77, 0, "", "type 0x4d where LIBXC_CONTEXT"},
        {'c', LIBXL_SR_REC_COLO_CAPS, 0, "", "no text"},
        {'c', LIBXL_SR_REC_COLO_CAPS, 3, "{\0}", "no text"},
        {'c', LIBXL_SR_REC_COLO_TIMES, 0, "", "COLO_TIMES where COLO_CAPS"},
        {'t', LIBXL_SR_REC_COLO_TIMES, 17, "0123456789abcdef", "17 bytes"},
        {'e', LIBXL_SR_REC_EMULATOR_CONTEXT, 7, "\2\0\0\0\0\0", "7 bytes"},
        {'e', LIBXL_SR_REC_EMULATOR_CONTEXT, 9, "\1\0\0\0\0\0\0\0x", "device model 1"},
        {'e', LIBXL_SR_REC_EMULATOR_CONTEXT, 9, "\2\0\0\0\1\0\0\0x", "device model 2, index 1"},
        {'e', LIBXL_SR_REC_EMULATOR_XENSTORE, 4, "\2\0\0", "4 bytes"},
        {'e', LIBXL_SR_REC_EMULATOR_XENSTORE, 12, "\2\0\0\0\0\0\0\0key", "pairs"},
        {'e', LIBXL_SR_REC_EMULATOR_XENSTORE, 11, "\2\0\0\0\0\0\0\0key", "pairs"},
        {'e', LIBXL_SR_REC_EMULATOR_XENSTORE, 13, "\2\0\0\0\0\0\0\0k\0v\0x", "pairs"},
        {'e', LIBXL_SR_REC_CHECKPOINT_END, 1, "", "1 bytes"},
        {'e', LIBXL_SR_REC_END, 1, "", "1 bytes"},
        {'e', LIBXL_SR_REC_CHECKPOINT_STATE, 4, "\0\0\0", "CHECKPOINT_STATE where"},
        {'e', XC_SR_REC_COLO_ZERO_PAGES, 0, "", "COLO_ZERO_PAGES where"},
    };
    struct fixture x;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        writer(&x, false);
        raw(&x, t[i].type, t[i].body, t[i].len);
        turn_round(&x);
        assert_int_equal(read_as(&x, t[i].reader), -1);
        tl_has(x.e.msg, t[i].says);
        tl_fails(-1, &x.e, COLO_ERR_PROTOCOL);
        done(&x);
    }
}

static void test_two_device_states_are_refused(void **state)
{
    struct fixture x;

    (void)state;
    writer(&x, false);
    tl_ok(libxl_stream_write_emulator(&x.s, "one", 3, &x.e), &x.e);
    tl_ok(libxl_stream_write_emulator(&x.s, "two", 3, &x.e), &x.e);
    turn_round(&x);
    assert_int_equal(read_as(&x, 'e'), -1);
    tl_has(x.e.msg, "two device states");
    tl_fails(-1, &x.e, COLO_ERR_PROTOCOL);
    done(&x);
}

static void test_lengths_are_bounded_before_memory_is_taken(void **state)
{
    static const uint32_t huge[] = {LIBXL_SR_REC_EMULATOR_CONTEXT, 0xfffffff8};
    struct fixture x;

    (void)state;
    reader(&x, false, huge, sizeof(huge));
    tl_fails(read_as(&x, 'e'), &x.e, COLO_ERR_PROTOCOL);
    done(&x);
    reader(&x, false, huge, sizeof(huge));
    tl_fails(read_as(&x, 's'), &x.e, COLO_ERR_PROTOCOL);
    done(&x);
}

static void test_unknown_optional_records_are_passed_over(void **state)
{
    struct fixture x;
    int i;

    (void)state;
    writer(&x, false);
    for (i = 0; i < 16; i++)
        raw(&x, 0x80f00000u + (uint32_t)i, "new!", 4);
    tl_ok(libxl_stream_write_state(&x.s, LIBXL_SR_STATE_SVM_READY, &x.e), &x.e);
    for (i = 0; i < 17; i++)
        raw(&x, 0x80f00000u, NULL, 0);
    tl_ok(libxl_stream_write_state(&x.s, LIBXL_SR_STATE_SVM_READY, &x.e), &x.e);
    turn_round(&x);
    tl_ok(read_as(&x, 's'), &x.e);
    tl_fails(read_as(&x, 's'), &x.e, COLO_ERR_PROTOCOL); /* not for ever */
    done(&x);
}

static void test_stop_ends_every_wait(void **state)
{
    static const char readers[] = "sxcet";
    struct fixture x;
    const char *p;
    int i;

    (void)state;
    for (p = readers; *p; p++) {
        for (i = 0; i < 2; i++) {
            writer(&x, false);
            tl_ok(libxl_stream_write_stop(&x.s, i ? "refused:xen-version-mismatch" : "operator",
                                          "it is\n\x1b[31mso\xc2\x9b", &x.e),
                  &x.e);
            turn_round(&x);
            assert_int_equal(read_as(&x, *p), -1);
            tl_str_eq(x.e.reason, i ? "xen-version-mismatch" : "operator");
            tl_has(x.e.msg, "it is??[31mso??");
            tl_has(x.e.msg, i ? "refused" : "ended");
            tl_fails(-1, &x.e, i ? COLO_ERR_REFUSED : COLO_ERR_STOPPED);
            all_read(&x);
        }
    }
}

static void test_stop_of_a_hostile_peer(void **state)
{
    struct fixture x;
    char big[700];

    (void)state;
    memset(big, 'B', sizeof(big) - 1);
    big[sizeof(big) - 1] = 0;
    writer(&x, true);
    tl_ok(libxl_stream_write_stop(&x.s, "so\n\"ALL\" of it, and more than forty bytes", big, &x.e),
          &x.e);
    raw(&x, LIBXL_SR_REC_COLO_STOP, "{}", 2);
    raw(&x, LIBXL_SR_REC_COLO_STOP, "[[", 2);
    raw(&x, LIBXL_SR_REC_COLO_STOP, NULL, 0);
    turn_round(&x);
    assert_int_equal(read_as(&x, 's'), -1);
    assert_null(strpbrk(x.e.reason, "\n\"AL ,"));
    tl_fails(-1, &x.e, COLO_ERR_STOPPED);
    tl_fails(read_as(&x, 's'), &x.e, COLO_ERR_STOPPED);
    tl_fails(read_as(&x, 's'), &x.e, COLO_ERR_PROTOCOL);
    tl_fails(read_as(&x, 's'), &x.e, COLO_ERR_PROTOCOL);
    all_read(&x);
}

static void test_tags_are_demanded_and_compared(void **state)
{
    struct fixture x;
    unsigned char *bytes, copy[100];
    size_t len, i;

    (void)state;
    writer(&x, true);
    tl_ok(libxl_stream_write_state(&x.s, LIBXL_SR_STATE_SVM_READY, &x.e), &x.e);
    len = memchan_taken(&x.m, &bytes);
    tl_eq(len, 40 + 16);
    for (i = 8; i < 40; i++) { /* each byte of the tag counts */
        memcpy(copy, bytes, len);
        copy[i] ^= 1;
        reader(&x, true, copy, len);
        assert_int_equal(read_as(&x, 's'), -1);
        tl_str_eq(x.e.reason, "foreign-message");
        tl_fails(-1, &x.e, COLO_ERR_PROTOCOL);
        done(&x);
    }
    reader(&x, true, bytes + 40, len - 40); /* none */
    tl_fails(read_as(&x, 's'), &x.e, COLO_ERR_PROTOCOL);
    done(&x);
    reader(&x, false, bytes, len); /* one that was not agreed on */
    tl_fails(read_as(&x, 's'), &x.e, COLO_ERR_PROTOCOL);
    done(&x);
    free(bytes);

    writer(&x, true);
    raw(&x, LIBXL_SR_REC_CHECKPOINT_END, NULL, 0);
    turn_round(&x);
    tl_fails(read_as(&x, 'e'), &x.e, COLO_ERR_PROTOCOL);
    done(&x);
    writer(&x, true);
    raw(&x, XC_SR_REC_COLO_TAG, &x.s.tag, sizeof(x.s.tag));
    raw(&x, XC_SR_REC_COLO_TAG, &x.s.tag, sizeof(x.s.tag));
    turn_round(&x);
    tl_fails(read_as(&x, 'e'), &x.e, COLO_ERR_PROTOCOL);
    done(&x);
}

static void test_state_names(void **state)
{
    (void)state;
    tl_str_eq(libxl_stream_state_name(LIBXL_SR_STATE_SVM_SUSPENDED), "SVM_SUSPENDED");
    tl_str_eq(libxl_stream_state_name(99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_are_the_stock_ones),
        cmocka_unit_test(test_what_is_written_is_read),
        cmocka_unit_test(test_cut_at_every_byte),
        cmocka_unit_test(test_plain_stream_ends_with_end),
        cmocka_unit_test(test_header_is_checked),
        cmocka_unit_test(test_refuses_records),
        cmocka_unit_test(test_two_device_states_are_refused),
        cmocka_unit_test(test_lengths_are_bounded_before_memory_is_taken),
        cmocka_unit_test(test_unknown_optional_records_are_passed_over),
        cmocka_unit_test(test_stop_ends_every_wait),
        cmocka_unit_test(test_stop_of_a_hostile_peer),
        cmocka_unit_test(test_tags_are_demanded_and_compared),
        cmocka_unit_test(test_state_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
