/* SPDX-License-Identifier: GPL-2.0-only */
/* The disk's server as a process: who may connect, what it is asked, when it ends. */
#include "testserver.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1u << 20)

static struct ts s, other;
static uint8_t buf[MIB];

static int fresh(void **state)
{
    (void)state;
    ts_init(&s, 8 * MIB);
    return 0;
}

static int gone(void **state)
{
    (void)state;
    ts_fini(&s);
    return 0;
}

static void put(struct nbd_handle *h, uint64_t offset, size_t len, uint8_t byte)
{
    memset(buf, byte, len);
    if (nbd_pwrite(h, buf, len, offset, 0))
        fail_msg("%s", nbd_get_error());
}

static void is(struct nbd_handle *h, uint64_t offset, size_t len, uint8_t byte)
{
    if (nbd_pread(h, buf, len, offset, 0))
        fail_msg("%s", nbd_get_error());
    for (size_t i = 0; i < len; i++)
        tl_eq(buf[i], byte);
}

/* ---- who may connect ---- */

static void test_who_may_connect(void **state)
{
    char wrong[128];
    struct nbd_handle *h;
    struct stat st;
    FILE *f;

    (void)state;
    snprintf(wrong, sizeof(wrong), "%s/wrong", s.td.folder);
    f = fopen(wrong, "w");
    fputs("qemu:ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n", f);
    fclose(f);
    ts_start(&s, NULL);
    assert_null(ts_tcp(&s, "primary", NULL)); /* without TLS */
    assert_null(ts_tcp(&s, "primary", wrong));
    assert_null(ts_tcp(&s, "secondary", NULL));
    assert_null(ts_tcp(&s, "secondary", s.key));
    assert_null(ts_unix(&s, "primary"));
    assert_null(ts_unix(&s, ""));
    assert_null(ts_unix(&s, "other"));
    h = ts_primary(&s);
    assert_non_null(h);
    nbd_close(h);
    h = ts_secondary(&s);
    assert_non_null(h);
    nbd_close(h);
    tl_eq(stat(s.secondary, &st), 0);
    tl_eq(st.st_mode & 0777, 0600);
    tl_eq(stat(s.control, &st), 0);
    tl_eq(st.st_mode & 0777, 0600);
}

/* The socket's mode keeps others out; and were it another one, so would we. */
static void test_other_users_may_not(void **state)
{
    int status = 0;
    pid_t pid;

    (void)state;
    if (geteuid() != 0)
        skip();
    ts_start(&s, NULL);
    tl_eq(chmod(s.td.folder, 0755), 0);
    tl_eq(chmod(s.secondary, 0666), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(setuid(65534) ? 2 : ts_secondary(&s) != NULL);
    tl_eq(waitpid(pid, &status, 0), pid);
    tl_eq(status, 0);
}

/* ---- a life ---- */

static void test_a_life(void **state)
{
    struct nbd_handle *p, *g;

    (void)state;
    ts_start(&s, NULL);
    tl_eq(ts_command(&s, "status"), 5);
    p = ts_primary(&s);
    g = ts_secondary(&s);
    put(p, 0, MIB, 1);
    tl_eq(nbd_pwrite(g, buf, 512, 0, 0), -1); /* it is not running yet */
    ts_checkpoint(&s, 1);
    put(p, 0, MIB, 2);
    is(g, 0, MIB, 1);
    put(g, 512, 512, 3);
    tl_eq(nbd_zero(g, 8192, 8192, LIBNBD_CMD_FLAG_FAST_ZERO), 0);
    tl_eq(nbd_trim(g, 8192, 65536, 0), 0);
    tl_eq(nbd_cache(g, 8192, 0, 0), 0);
    tl_eq(nbd_pwrite(p, buf, 512, 4 * MIB, LIBNBD_CMD_FLAG_FUA), 0);
    tl_eq(nbd_flush(p, 0), 0);
    tl_eq(nbd_flush(g, 0), 0);
    assert_null(ts_ask(&s, "{\"do\":\"stats\"}"));
    assert_null(ts_ask(&s, "{\"do\":\"takeover\"}"));
    tl_eq(nbd_pwrite(p, buf, 512, 0, 0), -1);
    assert_null(ts_primary(&s));
    put(g, 0, 512, 4);
    tl_eq(nbd_flush(g, 0), 0);
    ts_wait_state(&s, "standalone");
    is(g, 0, 512, 4);
    is(g, 512, 512, 3);
    is(g, 1024, 7168, 1);
    is(g, 8192, 8192, 0);
    is(g, 16384, 40000, 1);
    is(g, 4 * MIB, 512, 0);
    nbd_close(g);
    ts_gone(&s); /* although the primary's connection, and ours, are there */
    nbd_close(p);
    tl_eq(td_marked(&s.td), -1);
    tl_eq(ts_command(&s, "status"), 0);
    td_file(&s.td, buf, 1024, 0);
    tl_eq(buf[0], 4);
    tl_eq(buf[512], 3);
}

static void test_given_up(void **state)
{
    struct nbd_handle *g;

    (void)state;
    ts_start(&s, NULL);
    g = ts_secondary(&s);
    ts_checkpoint(&s, 1);
    assert_null(ts_ask(&s, "{\"do\":\"abort\"}"));
    ts_gone(&s);
    nbd_close(g);
    tl_eq(ts_command(&s, "status"), 3);
    tl_eq(ts_command(&s, "recover"), 1);
    tl_eq(ts_command(&s, "forget"), 0);
    tl_eq(ts_command(&s, "status"), 0);
}

static void test_a_signal_ends_it_whoever_is_connected(void **state)
{
    struct nbd_handle *p, *g;

    (void)state;
    ts_start(&s, NULL);
    p = ts_primary(&s);
    g = ts_secondary(&s);
    kill(s.pid, SIGTERM);
    ts_gone(&s);
    nbd_close(p);
    nbd_close(g);
    tl_eq(td_marked(&s.td), COLO_DISK_ABORTED);
}

static void test_nobody_controls_it(void **state)
{
    struct nbd_handle *p;

    (void)state;
    ts_start(&s, "--alone=1");
    p = ts_primary(&s);
    usleep(1200000);
    tl_str_eq(ts_state(&s), "syncing"); /* we do */
    ts_hang_up(&s);
    ts_gone(&s);
    nbd_close(p);
    tl_eq(td_marked(&s.td), COLO_DISK_ABORTED);
}

static void test_after_a_takeover_it_stays(void **state)
{
    struct nbd_handle *g;

    (void)state;
    ts_start(&s, "--alone=1");
    g = ts_secondary(&s);
    ts_checkpoint(&s, 1);
    assert_null(ts_ask(&s, "{\"do\":\"takeover\"}"));
    ts_hang_up(&s);
    usleep(1300000);
    is(g, 0, MIB, 0);
    nbd_close(g);
    ts_gone(&s);
}

/* ---- what it is asked ---- */

static void test_wrong_requests(void **state)
{
    (void)state;
    ts_start(&s, NULL);
    tl_str_eq(ts_ask(&s, "{\"do\":\"dance\"}"), "bad-request");
    tl_str_eq(ts_ask(&s, "{\"do\":\"checkpoint\"}"), "bad-request");
    tl_str_eq(ts_ask(&s, "{\"do\":\"checkpoint\",\"checkpoint\":-1}"), "bad-request");
    tl_str_eq(ts_ask(&s, "{\"do\":\"takeover\"}"), "disk-phase");
    tl_str_eq(ts_ask(&s, "{\"do\":\"end\"}"), "disk-phase");
    tl_str_eq(ts_ask(&s, "{\"do\":\"commit\",\"checkpoint\":1}"), "disk-checkpoint");
    tl_str_eq(ts_ask(&s, "nonsense"), "bad-json");
    tl_str_eq(ts_ask(&s, "{\"do\":\"prepare\",\"checkpoint\":1,\"timeout_ms\":0}"), "bad-request");
    memset(buf, ' ', 5000);
    tl_eq(write(s.fd, buf, 5000), 5000); /* no line so far: hung up */
    ts_hang_up(&s);
    ts_connect(&s);
    tl_str_eq(ts_state(&s), "syncing");
}

static void test_events(void **state)
{
    struct colo_json *j;

    (void)state;
    ts_start(&s, NULL);
    assert_null(ts_ask(&s, "{\"do\":\"watch\"}"));
    tl_eq(dprintf(s.fd, "{\"do\":\"checkpoint\",\"checkpoint\":1}\n"), 35);
    j = ts_line(&s);
    assert_true(colo_json_get_bool(j, "ok", false));
    colo_json_free(j);
    j = ts_line(&s);
    tl_str_eq(colo_json_get_str(j, "event"), "state");
    tl_str_eq(colo_json_get_str(j, "state"), "lockstep");
    colo_json_free(j);
}

/* ---- several disks ---- */

static void test_all_disks_or_none(void **state)
{
    struct nbd_handle *a, *b;

    (void)state;
    ts_init(&other, 8 * MIB);
    ts_start(&s, NULL);
    ts_start(&other, NULL);
    a = ts_secondary(&s);
    b = ts_secondary(&other);
    ts_checkpoint(&s, 1);
    ts_checkpoint(&other, 1);
    put(a, 0, 512, 1);
    put(b, 0, 512, 1);
    assert_null(ts_ask(&s, "{\"do\":\"prepare\",\"checkpoint\":2}"));
    tl_eq(ts_number(&s, "prepared"), 2);
    tl_eq(nbd_flush(a, 0), 0); /* nor does a flush wait */
    /* the other one cannot: nothing has happened to the first */
    tl_str_eq(ts_ask(&other, "{\"do\":\"prepare\",\"checkpoint\":0}"), "bad-request");
    assert_null(ts_ask(&s, "{\"do\":\"cancel\"}"));
    is(a, 0, 512, 1);
    assert_null(ts_ask(&s, "{\"do\":\"prepare\",\"checkpoint\":2}"));
    assert_null(ts_ask(&other, "{\"do\":\"prepare\",\"checkpoint\":2}"));
    assert_null(ts_ask(&s, "{\"do\":\"commit\",\"checkpoint\":2}"));
    assert_null(ts_ask(&other, "{\"do\":\"commit\",\"checkpoint\":2}"));
    assert_null(ts_ask(&other, "{\"do\":\"commit\",\"checkpoint\":2}"));
    is(a, 0, 512, 0);
    is(b, 0, 512, 0);
    nbd_close(a);
    nbd_close(b);
    ts_fini(&other);
}

static void test_who_prepared_is_gone(void **state)
{
    struct nbd_handle *g;

    (void)state;
    ts_start(&s, NULL);
    g = ts_secondary(&s);
    ts_checkpoint(&s, 1);
    put(g, 0, 512, 1);
    assert_null(ts_ask(&s, "{\"do\":\"prepare\",\"checkpoint\":2}"));
    ts_hang_up(&s);
    is(g, 0, 512, 1);
    ts_connect(&s);
    assert_null(ts_ask(&s, "{\"do\":\"prepare\",\"checkpoint\":2,\"hold_ms\":50}"));
    is(g, 0, 512, 1); /* when that is over */
    tl_eq(ts_number(&s, "prepared"), 0);
    tl_str_eq(ts_ask(&s, "{\"do\":\"commit\",\"checkpoint\":2}"), "disk-checkpoint");
    nbd_close(g);
}

/* ---- what does not start ---- */

static void test_what_does_not_start(void **state)
{
    FILE *f;

    (void)state;
    ts_start(&s, NULL);
    tl_eq(ts_try(&s, NULL), 1); /* the same sockets */
    tl_str_eq(ts_state(&s), "syncing");
    assert_null(ts_ask(&s, "{\"do\":\"abort\"}"));
    ts_gone(&s);
    tl_eq(ts_try(&s, "--standalone"), 1); /* it is no guest's disk */
    tl_eq(access(s.secondary, F_OK), -1);
    f = fopen(s.td.path, "r+");
    fputs("QFI\xfb", f);
    fclose(f);
    tl_eq(ts_try(&s, NULL), 1);
    tl_eq(access(s.secondary, F_OK), -1);
    tl_eq(access(s.control, F_OK), -1);
    ts_start(&s, "--raw --memory=1M");
    ts_kill(&s); /* what it leaves is in nobody's way */
    ts_start(&s, "--raw");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fresh, gone)
    const struct CMUnitTest tests[] = {
        T(test_who_may_connect),
        T(test_other_users_may_not),
        T(test_a_life),
        T(test_given_up),
        T(test_a_signal_ends_it_whoever_is_connected),
        T(test_nobody_controls_it),
        T(test_after_a_takeover_it_stays),
        T(test_wrong_requests),
        T(test_events),
        T(test_all_disks_or_none),
        T(test_who_prepared_is_gone),
        T(test_what_does_not_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
