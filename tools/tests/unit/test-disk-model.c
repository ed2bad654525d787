/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Random requests on both exports, with checkpoints, takeovers and kills, against a model that is two
 * plain arrays: the disk, as the primary wrote it, and what the secondary must see.
 *
 * COLO_SEED repeats a run, COLO_DISK_SECONDS says for how long (a few by default).
 */
#include "testdisk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "colo_disk_recover.h"

#define SIZE    ((2u << 20) + 1536) /* eight chunks, and a bit */
#define LONGEST (400u << 10)

static uint64_t seed, rnd, done;
static uint8_t disk[SIZE], view[SIZE], buf[SIZE];
static struct td t;
static uint64_t checkpoint;

/* Where: now and then aligned to blocks, mostly to sectors, seldom to nothing. */
static uint32_t some_range(uint32_t *offset)
{
    static const uint32_t units[] = {4096, 4096, 512, 512, 512, 1};
    uint32_t unit = units[tl_below(&rnd, 6)];
    uint32_t most = tl_below(&rnd, 20) ? 32768 : LONGEST;
    uint32_t len = ((uint32_t)tl_below(&rnd, most) / unit + 1) * unit;

    *offset = (uint32_t)tl_below(&rnd, SIZE / unit) * unit;
    return len < SIZE - *offset ? len : SIZE - *offset;
}

static void same(const uint8_t *got, const uint8_t *want, uint32_t offset, uint32_t len,
                 const char *what)
{
    if (!memcmp(got, want + offset, len))
        return;
    for (uint32_t i = 0; i < len; i++)
        if (got[i] != want[offset + i])
            fail_msg("COLO_SEED=%" PRIu64 ", request %" PRIu64
                     ": %s: byte %u is %u and should be %u",
                     seed, done, what, offset + i, got[i], want[offset + i]);
}

static void check_all(enum colo_disk_export e, const uint8_t *want)
{
    tl_eq(colo_disk_read(t.d, e, buf, SIZE, 0), 0);
    same(buf, want, 0, SIZE, e == S ? "all that the secondary sees" : "the disk");
}

/* ---- requests ---- */

static int holes(void *priv, uint64_t offset, uint64_t len, bool data)
{
    const uint8_t *want = priv;

    for (uint64_t i = offset; !data && i < offset + len; i++)
        if (want[i])
            fail_msg("COLO_SEED=%" PRIu64 ", request %" PRIu64 ": byte %" PRIu64 " is in no hole",
                     seed, done, i);
    return 0;
}

/* One request on this export, done to `to` as well.  A trim may leave what it was, so that is read
 * back; which it then must stay. */
static void request(enum colo_disk_export e, uint8_t *to)
{
    uint32_t offset, len = some_range(&offset);
    int flags = tl_below(&rnd, 16) ? 0 : COLO_DISK_FUA;

    done++;
    switch (tl_below(&rnd, 16)) {
    case 0:
        tl_eq(colo_disk_zero(t.d, e, len, offset, flags | COLO_DISK_TRIM), 0);
        memset(to + offset, 0, len);
        break;
    case 1:
        tl_eq(colo_disk_zero(t.d, e, len, offset, flags), 0);
        memset(to + offset, 0, len);
        break;
    case 2:
        tl_eq(colo_disk_trim(t.d, e, len, offset, flags), 0);
        tl_eq(colo_disk_read(t.d, e, buf, len, offset), 0);
        for (uint32_t i = 0; i < len; i++)
            assert_true(buf[i] == 0 || buf[i] == to[offset + i]);
        memcpy(to + offset, buf, len);
        break;
    case 3:
        tl_eq(colo_disk_flush(t.d, e), 0);
        break;
    case 4:
        tl_eq(colo_disk_extents(t.d, e, len, offset, holes, to), 0);
        break;
    case 5:
    case 6:
    case 7:
    case 8:
        tl_eq(colo_disk_read(t.d, e, buf, len, offset), 0);
        same(buf, to, offset, len, e == S ? "the secondary's read" : "the primary's read");
        break;
    default:
        tl_fill(&rnd, to + offset, len < 64 ? len : 64);
        if (len > 64)
            memset(to + offset + 64, (int)tl_below(&rnd, 4), len - 64);
        tl_eq(colo_disk_write(t.d, e, to + offset, len, offset, flags), 0);
        break;
    }
}

/* ---- the rest of a disk's life ---- */

static void begin(void)
{
    t.cfg.standalone = false;
    t.cfg.memory = (uint64_t)tl_below(&rnd, 300) * 4096; /* none, some, enough */
    td_open(&t);
    checkpoint = 0;
}

static void a_checkpoint(void)
{
    checkpoint += 1 + tl_below(&rnd, 3);
    tl_ok(colo_disk_prepare(t.d, checkpoint, 5000 * COLO_MS, &t.err), &t.err);
    if (tl_below(&rnd, 4) == 0) {
        colo_disk_cancel(t.d);
        check_all(S, view);
        return;
    }
    tl_ok(colo_disk_commit(t.d, checkpoint, &t.err), &t.err);
    memcpy(view, disk, SIZE);
    if (tl_below(&rnd, 4) == 0)
        colo_disk_tidy(t.d);
}

/* The secondary's guest becomes the guest, and goes on while its disk is folded and after. */
static void a_takeover(void)
{
    tl_ok(colo_disk_takeover(t.d, 5000 * COLO_MS, &t.err), &t.err);
    for (uint64_t i = tl_below(&rnd, 60); i > 0; i--)
        request(S, view);
    if (tl_below(&rnd, 2))
        tl_ok(colo_disk_wait_folded(t.d, tl_soon(), &t.err), &t.err);
    check_all(S, view);
    td_close(&t);
    tl_eq(td_marked(&t), -1);
    td_file(&t, buf, SIZE, 0);
    same(buf, view, 0, SIZE, "the disk after a takeover");
    memcpy(disk, view, SIZE);
}

/* ---- kill -9 ---- */

/* The child: a takeover, and then writes that are told about when they are done. */
static void live_until_killed(int fd)
{
    uint32_t offset, len;

    if (colo_disk_takeover(t.d, 5000 * COLO_MS, &t.err))
        _exit(1);
    for (;;) {
        len = some_range(&offset);
        tl_fill(&rnd, buf, len);
        if (write(fd, &offset, 4) != 4 || write(fd, &len, 4) != 4 ||
            write(fd, buf, len) != (ssize_t)len)
            _exit(1);
        if (colo_disk_write(t.d, S, buf, len, offset, 0) ||
            (tl_below(&rnd, 8) == 0 && colo_disk_flush(t.d, S)) || write(fd, "d", 1) != 1)
            _exit(1);
    }
}

static bool get(int fd, void *to, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = read(fd, (uint8_t *)to + at, len - at);

        if (n <= 0)
            return false;
        at += (size_t)n;
    }
    return true;
}

/* What the child wrote goes into view; of a write that was under way it is not known whether it was
 * done (each byte may be either).*/
static uint32_t hear(int fd, uint32_t *offset, uint8_t *torn)
{
    uint32_t len;
    char d;

    while (get(fd, offset, 4) && get(fd, &len, 4)) {
        if (!get(fd, torn, len))
            return 0;
        if (!get(fd, &d, 1))
            return len;
        memcpy(view + *offset, torn, len);
        done++;
    }
    return 0;
}

/* Its server is killed at some time after the takeover: what it acknowledged is there, or the disk is
 * marked as unusable. */
static void a_kill(void)
{
    static uint8_t torn[SIZE];
    struct colo_journal_found found;
    struct colo_disk_report rep;
    uint32_t offset = 0, len;
    int fds[2];
    pid_t pid;

    tl_eq(pipe(fds), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        /* the disk is opened anew, so that its locks are the child's */
        close(fds[0]);
        td_open(&t);
        for (uint64_t i = 0; i < 3; i++) {
            if (i == 1)
                td_checkpoint(&t, 1);
            for (int k = 0; k < 40; k++) {
                len = some_range(&offset);
                tl_fill(&rnd, buf, len);
                if (colo_disk_write(t.d, i == 2 ? S : P, buf, len, offset, 0))
                    _exit(1);
                offset |= i == 2 ? 1u << 31 : 0;
                if (write(fds[1], &offset, 4) != 4 || write(fds[1], &len, 4) != 4 ||
                    write(fds[1], buf, len) != (ssize_t)len)
                    _exit(1);
            }
        }
        offset = UINT32_MAX;
        if (write(fds[1], &offset, 4) != 4)
            _exit(1);
        live_until_killed(fds[1]);
    }
    close(fds[1]);
    for (uint64_t n = 0; get(fds[0], &offset, 4) && offset != UINT32_MAX; n++) {
        bool secondary = offset >> 31;

        offset &= ~(1u << 31);
        assert_true(get(fds[0], &len, 4) && get(fds[0], torn, len));
        if (n == 40)
            memcpy(view, disk, SIZE);
        memcpy((secondary ? view : disk) + offset, torn, len);
        done++;
    }
    usleep((useconds_t)tl_below(&rnd, 1 + (tl_below(&rnd, 4) ? 2000 : 12000)));
    kill(pid, SIGKILL);
    len = hear(fds[0], &offset, torn);
    waitpid(pid, NULL, 0);
    close(fds[0]);
    tl_ok(colo_disk_inspect(t.state, t.path, &rep, &t.err), &t.err);
    if (rep.use == COLO_DISK_UNUSABLE) {
        tl_fails(colo_disk_recover(t.state, t.path, &found, &t.err), &t.err, COLO_ERR_REFUSED);
        td_file(&t, disk, SIZE, 0);
        return;
    }
    if (tl_below(&rnd, 2)) {
        tl_ok(colo_disk_recover(t.state, t.path, &found, &t.err), &t.err);
        td_file(&t, buf, SIZE, 0);
    } else { /* or the next server does it */
        t.cfg.standalone = true;
        td_open(&t);
        tl_eq(colo_disk_read(t.d, S, buf, SIZE, 0), 0);
        td_close(&t);
        t.cfg.standalone = false;
    }
    for (uint32_t i = 0; i < len; i++)
        if (buf[offset + i] == torn[i])
            view[offset + i] = torn[i];
    same(buf, view, 0, SIZE, "the disk after a kill");
    memcpy(disk, view, SIZE);
}

/* ---- ---- */

static uint64_t kills, unusable, takeovers;

static void life(void)
{
    struct td copy;

    begin();
    memcpy(view, disk, SIZE);
    for (uint64_t i = tl_below(&rnd, 300); i > 0; i--)
        request(P, disk);
    checkpoint = 1;
    td_checkpoint(&t, 1);
    memcpy(view, disk, SIZE);
    for (uint64_t i = tl_below(&rnd, 20000); i > 0; i--) {
        if (tl_below(&rnd, 300) == 0)
            a_checkpoint();
        else if (tl_below(&rnd, 2))
            request(P, disk);
        else
            request(S, view);
    }
    check_all(P, disk);
    check_all(S, view);
    switch (tl_below(&rnd, 3)) {
    case 0: /* given up; the disk is as the primary left it */
        td_close(&t);
        tl_eq(td_marked(&t), COLO_DISK_ABORTED);
        break;
    case 1:
        takeovers++;
        a_takeover();
        break;
    default:
        td_close(&t);
        for (int i = 0; i < 10; i++) {
            copy = t;
            kills++;
            a_kill();
            t = copy;
            unusable += td_marked(&t) == COLO_DISK_LOCKSTEP;
        }
        break;
    }
}

static void test_what_both_sides_see(void **state)
{
    (void)state;
    td_init(&t, SIZE);
    td_live(life, 8);
    printf("%" PRIu64 " requests, %" PRIu64 " takeovers, %" PRIu64 " kills (%" PRIu64
           " before the journal was whole)\n",
           done, takeovers, kills, unusable);
    td_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_both_sides_see)};

    rnd = seed = td_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
