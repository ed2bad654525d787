/* SPDX-License-Identifier: GPL-2.0-only */
/* Where there is no room or no luck; and many threads at a time. */
#include "testdisk.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "colo_disk_recover.h"

#define MIB (1u << 20)

static struct td t;
static char small[96]; /* a file system of 256 KiB */

static int fresh(void **state)
{
    (void)state;
    td_init(&t, 4 * MIB);
    snprintf(small, sizeof(small), "%s/small", t.folder);
    return 0;
}

static int gone(void **state)
{
    (void)state;
    td_close(&t);
    umount2(small, MNT_DETACH);
    td_fini(&t);
    return 0;
}

static bool mount_small(void)
{
    return mkdir(small, 0700) == 0 && mount("tmpfs", small, "tmpfs", 0, "size=256k") == 0;
}

/* ---- overlays that do not fit ---- */

static void test_overlays_go_on_in_files(void **state)
{
    struct colo_disk_status st;

    (void)state;
    t.cfg.memory = 65536;
    td_open(&t);
    td_put(&t, P, 0, 4 * MIB, 1);
    td_checkpoint(&t, 1);
    for (int i = 0; i < 2; i++) { /* what they held is gone with a checkpoint */
        td_put(&t, P, 0, 2 * MIB, 2);
        td_put(&t, S, MIB, 2 * MIB, 3);
        td_put(&t, S, 100, 512, 4);
        colo_disk_get_status(t.d, &st);
        tl_eq(st.overlay.memory, 65536);
        tl_eq(st.overlay.spilled, 3 * MIB - 65536);
        td_is(&t, S, 0, 100, i ? 2 : 1);
        td_is(&t, S, 100, 512, 4);
        td_is(&t, S, 612, MIB - 612, i ? 2 : 1);
        td_is(&t, S, MIB, 2 * MIB, 3);
        td_is(&t, S, 3 * MIB, MIB, 1);
        td_checkpoint(&t, 2 + (uint64_t)i);
        colo_disk_tidy(t.d);
        td_is(&t, S, 0, 2 * MIB, 2);
    }
    td_put(&t, S, 0, 3 * MIB, 5);
    td_takeover(&t);
    td_is(&t, S, 0, 3 * MIB, 5);
    td_is(&t, S, 3 * MIB, MIB, 1);
}

static void test_a_full_active_overlay(void **state)
{
    static uint8_t buf[MIB];
    char active[128];

    (void)state;
    if (!mount_small())
        skip();
    snprintf(active, sizeof(active), "%s/active", small);
    t.cfg.memory = 0;
    t.cfg.active = active;
    td_open(&t);
    td_put(&t, P, 0, 4 * MIB, 1);
    td_checkpoint(&t, 1);
    tl_eq(colo_disk_write(t.d, S, buf, MIB, 0, 0), ENOSPC);
    tl_eq(colo_disk_state(t.d), COLO_DISK_FAILED);
    tl_str_eq(t.d->error.reason, "disk-overlay-full");
    tl_fails(colo_disk_prepare(t.d, 2, 0, &t.err), &t.err, COLO_ERR_LOCAL);
    td_put(&t, P, MIB, MIB, 2); /* that goes on, and does not show */
    td_is(&t, S, MIB, MIB, 1);
    td_takeover(&t); /* what the guest has is still a disk: it was told of the error */
    td_is(&t, S, MIB, MIB, 1);
}

static void test_a_full_hidden_overlay(void **state)
{
    static uint8_t buf[MIB];
    char hidden[128];

    (void)state;
    if (!mount_small())
        skip();
    snprintf(hidden, sizeof(hidden), "%s/hidden", small);
    t.cfg.memory = 0;
    t.cfg.hidden = hidden;
    td_open(&t);
    td_put(&t, P, 0, 4 * MIB, 1);
    td_checkpoint(&t, 1);
    memset(buf, 2, sizeof(buf));
    tl_eq(colo_disk_write(t.d, P, buf, MIB, 0, 0), ENOSPC);
    tl_eq(colo_disk_state(t.d), COLO_DISK_FAILED);
    td_is(&t, S, 0, 4 * MIB, 1); /* the view is whole, and so is the disk */
    td_is(&t, P, 0, 4 * MIB, 1);
}

/* The fold does without: nothing is durable before it is over. */
static void test_no_room_for_the_journal(void **state)
{
    (void)state;
    if (!mount_small())
        skip();
    t.cfg.state_dir = small;
    td_open(&t);
    td_put(&t, P, 0, 4 * MIB, 1);
    td_checkpoint(&t, 1);
    td_put(&t, S, 0, 2 * MIB, 2);
    td_put(&t, P, 2 * MIB, MIB, 3);
    tl_ok(colo_disk_takeover(t.d, 0, &t.err), &t.err);
    td_put(&t, S, 100, 512, 4);
    tl_eq(colo_disk_flush(t.d, S), 0);
    tl_eq(colo_disk_state(t.d), COLO_DISK_STANDALONE);
    tl_str_eq(t.d->error.reason, "disk-journal");
    td_is(&t, S, 100, 512, 4);
    td_is(&t, S, 612, 2 * MIB - 612, 2);
    td_is(&t, S, 2 * MIB, 2 * MIB, 1);
}

static void test_an_error_of_the_disk(void **state)
{
    int full = open("/dev/full", O_RDWR);

    (void)state;
    td_open(&t);
    td_checkpoint(&t, 1);
    dup2(full, t.d->target.fd);
    close(full);
    tl_eq(colo_disk_write(t.d, P, "x", 1, 0, 0), ENOSPC);
    tl_eq(colo_disk_state(t.d), COLO_DISK_FAILED);
    tl_str_eq(t.d->error.reason, "disk-io");
    tl_has(t.d->error.msg, "the primary's write fails");
}

static void test_files_of_somebody_else(void **state)
{
    (void)state;
    t.cfg.active = t.path; /* the disk itself */
    tl_eq(colo_disk_open(&t.cfg, &t.d, &t.err), -1);
    tl_str_eq(t.err.reason, "disk-in-use");
    t.cfg.active = "/dev/null";
    tl_fails(colo_disk_open(&t.cfg, &t.d, &t.err), &t.err, COLO_ERR_REFUSED);
}

/* ---- a checkpoint while requests run ---- */

struct worker {
    pthread_t thread;
    enum colo_disk_export e;
    uint64_t seed;
};

static bool stop;

static void *work(void *arg)
{
    struct worker *w = arg;
    uint8_t *buf = malloc(65536);

    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        uint64_t len = (1 + tl_below(&w->seed, 128)) * 512;
        uint64_t offset = tl_below(&w->seed, (4 * MIB - len) / 512) * 512;
        int r = 0;

        /* the primary's blocks are of one byte each time, so a torn view would show */
        memset(buf, (int)tl_below(&w->seed, 256), len);
        switch (tl_below(&w->seed, 6)) {
        case 0:
            r = colo_disk_read(t.d, w->e, buf, len, offset);
            break;
        case 1:
            r = colo_disk_zero(t.d, w->e, len, offset, COLO_DISK_TRIM);
            break;
        case 2:
            r = colo_disk_flush(t.d, w->e);
            break;
        default:
            r = colo_disk_write(t.d, w->e, buf, len, offset, 0);
        }
        if (r && !(r == ESHUTDOWN && w->e == P))
            fail_msg("%s", strerror(r));
    }
    free(buf);
    return NULL;
}

static void test_many_threads(void **state)
{
    struct worker w[6];
    struct colo_disk_status st;

    (void)state;
    t.cfg.memory = MIB; /* both memory and files */
    td_open(&t);
    td_checkpoint(&t, 1);
    stop = false;
    for (uint64_t i = 0; i < 6; i++) {
        w[i] = (struct worker){.e = i % 2 ? P : S, .seed = i + 1};
        tl_eq(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    }
    for (uint64_t n = 2; n < 60; n++) {
        usleep(5000);
        tl_ok(colo_disk_prepare(t.d, n, 20000 * COLO_MS, &t.err), &t.err);
        colo_disk_get_status(t.d, &st);
        tl_ok(colo_disk_commit(t.d, n, &t.err), &t.err);
        colo_disk_tidy(t.d);
    }
    usleep(20000);
    td_takeover(&t); /* they go on during the fold, too */
    usleep(20000);
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (int i = 0; i < 6; i++)
        pthread_join(w[i].thread, NULL);
    colo_disk_get_status(t.d, &st);
    tl_eq(st.state, COLO_DISK_STANDALONE);
    tl_str_eq(st.error.msg, "");
}

/* What the secondary reads while the primary writes all the time is that of the checkpoint. */
static void *overwrite(void *arg)
{
    uint8_t *buf = malloc(MIB);

    (void)arg;
    for (int byte = 2; !__atomic_load_n(&stop, __ATOMIC_RELAXED); byte = byte % 200 + 2) {
        memset(buf, byte, MIB);
        for (uint64_t at = 0; at < 4 * MIB; at += MIB)
            tl_eq(colo_disk_write(t.d, P, buf, MIB, at, 0), 0);
    }
    free(buf);
    return NULL;
}

static void test_a_view_that_does_not_move(void **state)
{
    colo_time end = colo_now() + 1500 * COLO_MS;
    uint8_t *buf = malloc(4 * MIB);
    pthread_t writer;
    uint64_t n = 1;

    (void)state;
    td_open(&t);
    td_put(&t, P, 0, 4 * MIB, 1);
    td_checkpoint(&t, n);
    stop = false;
    tl_eq(pthread_create(&writer, NULL, overwrite, NULL), 0);
    while (colo_now() < end) {
        tl_ok(colo_disk_prepare(t.d, ++n, 20000 * COLO_MS, &t.err), &t.err);
        /* of a write that is cut into pieces by a checkpoint none is: the gate is closed between */
        tl_ok(colo_disk_commit(t.d, n, &t.err), &t.err);
        for (int i = 0; i < 3; i++) {
            tl_eq(colo_disk_read(t.d, S, buf, 4 * MIB, 0), 0);
            for (uint32_t at = 0; at < 4 * MIB; at++)
                if (buf[at] != buf[at - at % MIB])
                    fail_msg("byte %u is %u, not %u", at, buf[at], buf[at - at % MIB]);
        }
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    pthread_join(writer, NULL);
    free(buf);
}

/* A request that does not come back in time: the checkpoint is refused, and others go on. */
static void test_a_checkpoint_has_a_deadline(void **state)
{
    (void)state;
    td_open(&t);
    td_checkpoint(&t, 1);
    colo_gate_enter(&t.d->gate);
    tl_eq(colo_disk_prepare(t.d, 2, 20 * COLO_MS, &t.err), -1);
    tl_str_eq(t.err.reason, "disk-busy");
    td_put(&t, S, 0, 512, 1);
    colo_gate_leave(&t.d->gate);
    td_is(&t, S, 0, 512, 1);
    td_checkpoint(&t, 2);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fresh, gone)
    const struct CMUnitTest tests[] = {
        T(test_overlays_go_on_in_files),
        T(test_a_full_active_overlay),
        T(test_a_full_hidden_overlay),
        T(test_no_room_for_the_journal),
        T(test_an_error_of_the_disk),
        T(test_files_of_somebody_else),
        T(test_many_threads),
        T(test_a_view_that_does_not_move),
        T(test_a_checkpoint_has_a_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
