/* SPDX-License-Identifier: GPL-2.0-only */
/* The secondary's disk: what each side sees from state to state. */
#include "testdisk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "colo_disk_recover.h"

#define MIB (1u << 20)

static struct td t;

static int fresh(void **state)
{
    (void)state;
    td_init(&t, 4 * MIB);
    return 0;
}

static int gone(void **state)
{
    (void)state;
    td_fini(&t);
    return 0;
}

static void test_until_the_first_checkpoint(void **state)
{
    (void)state;
    td_open(&t);
    tl_eq(td_marked(&t), COLO_DISK_SYNCING);
    td_put(&t, P, 0, 8192, 1);
    td_is(&t, S, 0, 8192, 1);
    tl_eq(colo_disk_write(t.d, S, "x", 1, 0, 0), EPERM);
    tl_fails(colo_disk_takeover(t.d, 0, &t.err), &t.err, COLO_ERR_PROTOCOL);
    td_close(&t);
    tl_eq(td_marked(&t), COLO_DISK_ABORTED);
}

static void test_the_view_is_that_of_the_checkpoint(void **state)
{
    (void)state;
    td_open(&t);
    td_put(&t, P, 0, MIB, 1);
    td_checkpoint(&t, 1);
    tl_eq(td_marked(&t), COLO_DISK_LOCKSTEP);
    td_put(&t, P, 4096, 600000, 2); /* several chunks, and a part of a block */
    td_is(&t, S, 0, MIB, 1);
    td_is(&t, P, 4096, 600000, 2);
    td_put(&t, S, 8192, 4096, 3);
    td_put(&t, P, 8192, 4096, 4); /* what the guest wrote stays */
    td_is(&t, S, 8192, 4096, 3);
    td_checkpoint(&t, 2);
    td_is(&t, S, 8192, 4096, 4);
    td_is(&t, S, 0, 4096, 1);
    td_is(&t, S, 604096, MIB - 604096, 1);
}

static void test_sectors_within_blocks(void **state)
{
    (void)state;
    td_open(&t);
    td_put(&t, P, 0, 32768, 1);
    td_checkpoint(&t, 1);
    td_put(&t, S, 512, 512, 2); /* the rest is the disk's */
    td_put(&t, P, 0, 32768, 3);
    td_is(&t, S, 0, 512, 1);
    td_is(&t, S, 512, 512, 2);
    td_is(&t, S, 1024, 32768 - 1024, 1);
    td_put(&t, S, 4096 + 1024, 512, 4); /* the rest is hidden's */
    td_is(&t, S, 4096, 1024, 1);
    td_is(&t, S, 5120, 512, 4);
    td_is(&t, S, 5632, 512, 1);
    td_put(&t, S, 3584, 1024, 5); /* two blocks that are there */
    td_is(&t, S, 1024, 2560, 1);
    td_is(&t, S, 3584, 1024, 5);
    td_is(&t, S, 4608, 512, 1);
    td_put(&t, P, 300, 7, 6); /* nor need the primary write sectors */
    td_is(&t, S, 0, 512, 1);
    td_takeover(&t);
    td_is(&t, S, 0, 512, 1);
    td_is(&t, S, 512, 512, 2);
    td_is(&t, S, 3584, 1024, 5);
}

static void test_a_size_that_is_no_multiple(void **state)
{
    uint64_t size = MIB + 512;

    (void)state;
    tl_eq(truncate(t.path, (off_t)size), 0);
    td_open(&t);
    tl_eq(colo_disk_size(t.d), size);
    td_put(&t, P, MIB, 512, 1);
    td_checkpoint(&t, 1);
    td_put(&t, P, MIB, 512, 2);
    td_is(&t, S, MIB, 512, 1);
    td_put(&t, S, MIB + 100, 100, 3);
    td_takeover(&t);
    td_is(&t, S, MIB, 100, 1);
    td_is(&t, S, MIB + 100, 100, 3);
    td_close(&t);
}

static void test_takeover_makes_one_disk(void **state)
{
    uint8_t buf[4096];

    (void)state;
    td_open(&t);
    td_put(&t, P, 0, MIB, 1);
    td_checkpoint(&t, 1);
    td_put(&t, P, 0, 65536, 2);
    td_put(&t, S, 65536, 65536, 3);
    td_put(&t, S, 4096, 512, 4);
    tl_ok(colo_disk_takeover(t.d, 1000 * COLO_MS, &t.err), &t.err);
    tl_eq(colo_disk_write(t.d, P, "x", 1, 0, 0), ESHUTDOWN);
    tl_eq(colo_disk_read(t.d, P, buf, 1, 0), ESHUTDOWN);
    tl_eq(colo_disk_flush(t.d, P), ESHUTDOWN);
    td_put(&t, S, 0, 512, 5); /* the guest runs on meanwhile */
    td_put(&t, S, 2 * MIB, 512, 6);
    tl_eq(colo_disk_flush(t.d, S), 0);
    tl_ok(colo_disk_wait_folded(t.d, tl_soon(), &t.err), &t.err);
    tl_eq(td_marked(&t), COLO_DISK_STANDALONE);
    tl_ok(colo_disk_takeover(t.d, 0, &t.err), &t.err); /* again: nothing happens */
    td_is(&t, S, 0, 512, 5);
    td_is(&t, S, 512, 3584, 1);
    td_is(&t, S, 4096, 512, 4);
    td_is(&t, S, 4608, 65536 - 4608, 1);
    td_is(&t, S, 65536, 65536, 3);
    td_is(&t, S, 2 * MIB, 512, 6);
    tl_fails(colo_disk_abort(t.d, &t.err), &t.err, COLO_ERR_PROTOCOL);
    tl_fails(colo_disk_prepare(t.d, 2, 0, &t.err), &t.err, COLO_ERR_PROTOCOL);
    td_close(&t);
    tl_eq(td_marked(&t), -1); /* a disk like any other */
    td_file(&t, buf, sizeof(buf), 4096);
    tl_eq(buf[0], 4);
    tl_eq(buf[512], 1);
}

static void test_numbers_of_checkpoints(void **state)
{
    (void)state;
    td_open(&t);
    tl_fails(colo_disk_prepare(t.d, 0, 0, &t.err), &t.err, COLO_ERR_PROTOCOL);
    tl_fails(colo_disk_commit(t.d, 1, &t.err), &t.err, COLO_ERR_PROTOCOL);
    td_checkpoint(&t, 1);
    td_put(&t, S, 0, 512, 1);
    td_checkpoint(&t, 1); /* done before: the overlay is not touched */
    td_is(&t, S, 0, 512, 1);
    tl_ok(colo_disk_prepare(t.d, 5, 0, &t.err), &t.err);
    tl_ok(colo_disk_prepare(t.d, 5, 0, &t.err), &t.err);
    tl_fails(colo_disk_prepare(t.d, 6, 0, &t.err), &t.err, COLO_ERR_PROTOCOL);
    tl_fails(colo_disk_commit(t.d, 6, &t.err), &t.err, COLO_ERR_PROTOCOL);
    tl_eq(colo_disk_flush(t.d, S), 0); /* does not wait */
    colo_disk_cancel(t.d);
    td_is(&t, S, 0, 512, 1); /* nothing has been dropped */
    td_checkpoint(&t, 5);
    td_is(&t, S, 0, 512, 0);
    tl_fails(colo_disk_prepare(t.d, 4, 0, &t.err), &t.err, COLO_ERR_PROTOCOL);
    tl_str_eq(t.err.reason, "");
}

static void test_abort_closes_both(void **state)
{
    (void)state;
    td_open(&t);
    td_checkpoint(&t, 1);
    tl_ok(colo_disk_prepare(t.d, 2, 0, &t.err), &t.err);
    tl_ok(colo_disk_abort(t.d, &t.err), &t.err);
    tl_ok(colo_disk_abort(t.d, &t.err), &t.err);
    tl_eq(td_marked(&t), COLO_DISK_ABORTED);
    tl_eq(colo_disk_write(t.d, P, "x", 1, 0, 0), ESHUTDOWN);
    tl_eq(colo_disk_write(t.d, S, "x", 1, 0, 0), ESHUTDOWN);
    tl_eq(colo_disk_flush(t.d, S), ESHUTDOWN);
    tl_fails(colo_disk_takeover(t.d, 0, &t.err), &t.err, COLO_ERR_PROTOCOL);
    td_close(&t);
    t.cfg.standalone = true;
    tl_fails(colo_disk_open(&t.cfg, &t.d, &t.err), &t.err, COLO_ERR_REFUSED);
    t.cfg.standalone = false;
    td_open(&t); /* a full sync makes it good again */
    tl_eq(td_marked(&t), COLO_DISK_SYNCING);
}

/* ---- zeroes, holes and extents ---- */

struct runs {
    uint32_t n;
    struct {
        uint64_t offset, len;
        bool data;
    } run[64];
};

static int note(void *priv, uint64_t offset, uint64_t len, bool data)
{
    struct runs *r = priv;

    if (r->n && r->run[r->n - 1].data == data) {
        tl_eq(r->run[r->n - 1].offset + r->run[r->n - 1].len, offset);
        r->run[r->n - 1].len += len;
        return 0;
    }
    assert_true(r->n < 64);
    r->run[r->n].offset = offset;
    r->run[r->n].len = len;
    r->run[r->n++].data = data;
    return 0;
}

static struct runs runs(enum colo_disk_export e)
{
    struct runs r = {0};

    tl_eq(colo_disk_extents(t.d, e, 4 * MIB, 0, note, &r), 0);
    return r;
}

static void test_extents_of_both(void **state)
{
    struct runs r;

    (void)state;
    td_open(&t);
    td_put(&t, P, MIB, MIB, 1);
    r = runs(P);
    tl_eq(r.n, 3);
    tl_eq(r.run[1].offset, MIB);
    tl_eq(r.run[1].len, MIB);
    td_checkpoint(&t, 1);
    td_put(&t, P, 3 * MIB, 4096, 2); /* a hole for the secondary */
    r = runs(S);
    tl_eq(r.n, 3);
    tl_eq(r.run[2].offset, 2 * MIB);
    tl_eq(r.run[2].len, 2 * MIB);
    tl_eq(colo_disk_zero(t.d, P, MIB, MIB, COLO_DISK_TRIM), 0); /* which it does not notice */
    tl_eq(colo_disk_trim(t.d, P, 4096, 3 * MIB, 0), 0);
    tl_eq(runs(P).n, 1);
    r = runs(S);
    tl_eq(r.n, 3);
    tl_eq(r.run[1].len, MIB);
    td_is(&t, S, MIB, MIB, 1);
    tl_eq(colo_disk_zero(t.d, S, 8192, MIB + 4096, COLO_DISK_FAST), 0);
    td_put(&t, S, 3 * MIB + 8192, 1, 5);
    r = runs(S);
    tl_eq(r.n, 7);
    tl_eq(r.run[2].offset, MIB + 4096);
    tl_eq(r.run[2].len, 8192);
    tl_eq(r.run[5].offset, 3 * MIB + 8192);
    tl_eq(r.run[5].len, 4096);
    td_takeover(&t);
    td_is(&t, S, MIB, 4096, 1);
    td_is(&t, S, MIB + 4096, 8192, 0);
    td_is(&t, S, MIB + 12288, MIB - 12288, 1);
}

static void test_zeroes_cost_no_room(void **state)
{
    struct colo_disk_status st;

    (void)state;
    td_open(&t);
    td_put(&t, P, 0, 2 * MIB, 1);
    td_checkpoint(&t, 1);
    tl_eq(colo_disk_zero(t.d, S, 4 * MIB, 0, 0), 0);
    tl_eq(colo_disk_trim(t.d, S, MIB, 0, 0), 0);
    td_put(&t, P, 2 * MIB, MIB, 2); /* hidden zeroes */
    colo_disk_get_status(t.d, &st);
    tl_eq(st.overlay.memory + st.overlay.spilled, 0);
    tl_eq(st.overlay.active, 512); /* not those that are zero anyway */
    tl_eq(st.overlay.hidden, 256);
    td_is(&t, S, 0, 4 * MIB, 0);
    td_put(&t, S, 5000, 100, 3);
    td_is(&t, S, 0, 5000, 0);
    td_is(&t, S, 5000, 100, 3);
    td_is(&t, S, 5100, 4000, 0);
    tl_eq(colo_disk_zero(t.d, S, 99, 5000, 0), 0);
    td_is(&t, S, 5099, 1, 3);
    colo_disk_get_status(t.d, &st);
    tl_eq(st.overlay.memory, 4096);
    tl_eq(colo_disk_zero(t.d, S, 4096, 4096, 0), 0); /* its room can be had again */
    colo_disk_get_status(t.d, &st);
    tl_eq(st.overlay.memory, 0);
    td_takeover(&t);
    td_is(&t, S, 0, 4 * MIB, 0);
}

/* ---- who may have it ---- */

static void test_a_disk_is_had_once(void **state)
{
    struct colo_disk_report rep;
    struct colo_disk *other;

    (void)state;
    td_open(&t);
    tl_eq(colo_disk_open(&t.cfg, &other, &t.err), -1);
    tl_str_eq(t.err.reason, "disk-in-use");
    tl_ok(colo_disk_inspect(t.state, t.path, &rep, &t.err), &t.err);
    tl_eq(rep.use, COLO_DISK_SERVED);
    td_close(&t);
    tl_ok(colo_disk_inspect(t.state, t.path, &rep, &t.err), &t.err);
    tl_eq(rep.use, COLO_DISK_UNUSABLE);
    tl_has(rep.text, "aborted");
    tl_ok(colo_disk_forget(t.state, t.path, &t.err), &t.err);
    tl_ok(colo_disk_inspect(t.state, t.path, &rep, &t.err), &t.err);
    tl_eq(rep.use, COLO_DISK_USABLE);
}

static void test_qemu_is_kept_out(void **state)
{
    char command[256];

    (void)state;
    if (system("command -v qemu-io >/dev/null"))
        skip();
    td_open(&t);
    snprintf(command, sizeof(command), "qemu-io -f raw -c 'write 0 512' %s >%s/out 2>&1", t.path,
             t.folder);
    assert_true(system(command) != 0);
    td_is(&t, P, 0, 512, 0);
    td_close(&t);
    tl_eq(system(command), 0);
}

static void test_images_are_not_taken_for_raw(void **state)
{
    static const char *const magic[] = {"QFI\xfb", "KDMV", "vhdxfile", "conectix"};

    (void)state;
    for (size_t i = 0; i < sizeof(magic) / sizeof(magic[0]); i++) {
        int fd = open(t.path, O_WRONLY);

        tl_eq(pwrite(fd, magic[i], strlen(magic[i]), 0), strlen(magic[i]));
        close(fd);
        tl_eq(colo_disk_open(&t.cfg, &t.d, &t.err), -1);
        tl_str_eq(t.err.reason, "disk-format");
        tl_has(t.err.msg, "qemu-img convert");
        tl_eq(td_marked(&t), -1);
    }
    t.cfg.raw = true;
    td_open(&t);
}

static void test_what_cannot_be_a_disk(void **state)
{
    (void)state;
    t.cfg.target = "/dev/null";
    tl_fails(colo_disk_open(&t.cfg, &t.d, &t.err), &t.err, COLO_ERR_REFUSED);
    t.cfg.target = t.folder;
    tl_fails(colo_disk_open(&t.cfg, &t.d, &t.err), &t.err, COLO_ERR_LOCAL);
    t.cfg.target = "/nonexistent/disk";
    tl_fails(colo_disk_open(&t.cfg, &t.d, &t.err), &t.err, COLO_ERR_LOCAL);
    tl_eq(truncate(t.path, 0), 0);
    t.cfg.target = t.path;
    tl_fails(colo_disk_open(&t.cfg, &t.d, &t.err), &t.err, COLO_ERR_REFUSED);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fresh, gone)
    const struct CMUnitTest tests[] = {
        T(test_until_the_first_checkpoint), T(test_the_view_is_that_of_the_checkpoint),
        T(test_sectors_within_blocks),      T(test_a_size_that_is_no_multiple),
        T(test_takeover_makes_one_disk),    T(test_numbers_of_checkpoints),
        T(test_abort_closes_both),          T(test_extents_of_both),
        T(test_zeroes_cost_no_room),        T(test_a_disk_is_had_once),
        T(test_qemu_is_kept_out),           T(test_images_are_not_taken_for_raw),
        T(test_what_cannot_be_a_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
