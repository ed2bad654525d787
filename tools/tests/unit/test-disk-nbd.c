/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The model of test-disk-model.c once more, now with what is really installed: nbdkit and the plugin,
 * TLS, two NBD clients, and kill -9 of the process.  Fewer requests, but everything that they go
 * through.
 *
 * COLO_SEED repeats a run, COLO_DISK_SECONDS says for how long.
 */
#include "testserver.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE    (2u << 20)
#define LONGEST (300u << 10)

static struct ts s;
static uint64_t seed, rnd, done, kills, unusable, takeovers;
static uint8_t disk[SIZE], view[SIZE], buf[SIZE];
static struct nbd_handle *p, *g;

static uint32_t some_range(uint32_t *offset)
{
    uint32_t unit = tl_below(&rnd, 3) ? 512 : 4096;
    uint32_t most = tl_below(&rnd, 20) ? 32768 : LONGEST;
    uint32_t len = ((uint32_t)tl_below(&rnd, most) / unit + 1) * unit;

    *offset = (uint32_t)tl_below(&rnd, SIZE / unit) * unit;
    return len < SIZE - *offset ? len : SIZE - *offset;
}

static void same(const uint8_t *got, const uint8_t *want, uint32_t offset, uint32_t len,
                 const char *what)
{
    for (uint32_t i = 0; memcmp(got, want + offset, len) != 0 && i < len; i++)
        if (got[i] != want[offset + i])
            fail_msg("COLO_SEED=%" PRIu64 ", request %" PRIu64
                     ": %s: byte %u is %u and should be %u",
                     seed, done, what, offset + i, got[i], want[offset + i]);
}

static int hole(void *user_data, const char *context, uint64_t offset, uint32_t *entries, size_t nr,
                int *error)
{
    const uint8_t *want = user_data;

    (void)context;
    (void)error;
    for (size_t i = 0; i + 1 < nr; offset += entries[i], i += 2)
        for (uint64_t k = offset; entries[i + 1] & LIBNBD_STATE_ZERO && k < offset + entries[i];
             k++)
            if (k < SIZE && want[k])
                fail_msg("COLO_SEED=%" PRIu64 ": byte %" PRIu64 " is in no hole", seed, k);
    return 0;
}

/* -1: the server is gone. */
static int request(struct nbd_handle *h, uint8_t *to)
{
    uint32_t offset, len = some_range(&offset);
    uint32_t fua = tl_below(&rnd, 16) ? 0 : LIBNBD_CMD_FLAG_FUA;

    done++;
    switch (tl_below(&rnd, 12)) {
    case 0:
        if (nbd_zero(h, len, offset, fua | (tl_below(&rnd, 2) ? LIBNBD_CMD_FLAG_NO_HOLE : 0)))
            return -1;
        memset(to + offset, 0, len);
        return 0;
    case 1:
        return nbd_flush(h, 0);
    case 2:
        if (h != g)
            return 0;
        return nbd_block_status(h, len, offset,
                                (nbd_extent_callback){.callback = hole, .user_data = to}, 0);
    case 3:
    case 4:
    case 5:
        if (nbd_pread(h, buf, len, offset, 0))
            return -1;
        same(buf, to, offset, len, h == g ? "the secondary's read" : "the primary's read");
        return 0;
    default:
        tl_fill(&rnd, buf, len);
        if (nbd_pwrite(h, buf, len, offset, fua))
            return -1;
        memcpy(to + offset, buf, len);
        return 0;
    }
}

static void must(int r)
{
    if (r)
        fail_msg("COLO_SEED=%" PRIu64 ", request %" PRIu64 ": %s", seed, done, nbd_get_error());
}

/* The guest goes on after a takeover, until its server is killed.  What was under way then may be there or
 * not, sector by sector. */
static void killed(void)
{
    uint32_t offset = 0, len = 0;
    useconds_t wait = (useconds_t)tl_below(&rnd, tl_below(&rnd, 3) ? 10000 : 60000);
    pid_t killer = fork();
    int status;

    assert_true(killer >= 0);
    if (killer == 0) {
        usleep(wait);
        kill(s.pid, SIGKILL);
        _exit(0);
    }
    /* it may be dead before it has answered */
    if (dprintf(s.fd, "{\"do\":\"takeover\"}\n") > 0 && read(s.fd, buf, SIZE) > 0) {
        for (;;) {
            len = some_range(&offset);
            tl_fill(&rnd, buf, len);
            if (nbd_pwrite(g, buf, len, offset, tl_below(&rnd, 8) ? 0 : LIBNBD_CMD_FLAG_FUA))
                break;
            memcpy(view + offset, buf, len);
            done++;
        }
    }
    waitpid(killer, NULL, 0);
    ts_kill(&s);
    kills++;
    status = ts_command(&s, "status");
    if (status == 3) {
        unusable++;
        tl_eq(ts_command(&s, "recover"), 1);
        td_file(&s.td, disk, SIZE, 0);
        return;
    }
    assert_true(status == 0 || status == 4);
    nbd_close(g);
    g = NULL;
    if (tl_below(&rnd, 2)) {
        tl_eq(ts_command(&s, "recover"), 0);
    } else {
        ts_start(&s, "--standalone");
        g = ts_secondary(&s);
        must(nbd_flush(g, 0));
        nbd_close(g);
        g = NULL;
        ts_gone(&s);
    }
    tl_eq(ts_command(&s, "status"), 0);
    td_file(&s.td, disk, SIZE, 0);
    for (uint32_t i = 0; i < len; i++)
        if (disk[offset + i] == buf[i])
            view[offset + i] = buf[i];
    same(disk, view, 0, SIZE, "the disk after a kill");
}

static void taken_over(void)
{
    assert_null(ts_ask(&s, "{\"do\":\"takeover\"}"));
    takeovers++;
    for (uint64_t i = tl_below(&rnd, 200); i > 0; i--)
        must(request(g, view));
    nbd_close(g);
    g = NULL;
    ts_gone(&s);
    td_file(&s.td, disk, SIZE, 0);
    same(disk, view, 0, SIZE, "the disk after a takeover");
}

static void life(void)
{
    static const char *const memory[] = {"--memory=0", "--memory=256K", NULL};
    uint64_t n = 1;

    ts_start(&s, memory[tl_below(&rnd, 3)]);
    p = ts_primary(&s);
    g = ts_secondary(&s);
    for (uint64_t i = tl_below(&rnd, 50); i > 0; i--)
        must(request(p, disk));
    ts_checkpoint(&s, n);
    memcpy(view, disk, SIZE);
    for (uint64_t i = tl_below(&rnd, 1500); i > 0; i--) {
        if (tl_below(&rnd, 100) == 0) {
            ts_checkpoint(&s, ++n);
            memcpy(view, disk, SIZE);
        }
        if (tl_below(&rnd, 2))
            must(request(p, disk));
        else
            must(request(g, view));
    }
    must(nbd_pread(g, buf, SIZE, 0, 0));
    same(buf, view, 0, SIZE, "all that the secondary sees");
    if (tl_below(&rnd, 4))
        killed();
    else
        taken_over();
    nbd_close(p);
    if (g)
        nbd_close(g);
}

static void test_what_both_clients_see(void **state)
{
    (void)state;
    ts_init(&s, SIZE);
    td_live(life, 12);
    printf("%" PRIu64 " requests, %" PRIu64 " takeovers, %" PRIu64 " kills (%" PRIu64
           " before the journal was whole)\n",
           done, takeovers, kills, unusable);
    ts_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_both_clients_see)};

    signal(SIGPIPE, SIG_IGN);
    rnd = seed = td_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
