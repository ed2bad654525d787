/* SPDX-License-Identifier: GPL-2.0-only */
/* Device state saved by and loaded into a device model that is a thread of the test. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fakeqmp.h"
#include "libxl_colo_devstate.h"

struct fixture {
    char dir[40];
    struct fakeqmp_model m;
    struct fakeqmp *f;
    struct colo_qmp *q;
    struct colo_devstate *d;
    struct colo_err err;
};

static colo_time soon(void)
{
    return colo_now() + 20000 * COLO_MS;
}

/* A state as QEMU writes it, as far as we look at it: the magic, then anything. */
static unsigned char *make_state(size_t len, unsigned char fill)
{
    unsigned char *s = malloc(len);

    assert_non_null(s);
    memset(s, fill, len);
    memcpy(s, "QEVM\0\0\0\3", 8);
    return s;
}

static int open_it(struct fixture *x, bool for_load)
{
    int fd;

    strcpy(x->dir, "/tmp/test-devstate-XXXXXX");
    assert_non_null(mkdtemp(x->dir));
    x->f = fakeqmp_start(fakeqmp_model_handler, &x->m, NULL, &fd);
    assert_int_equal(colo_qmp_open_fd(fd, -1, soon(), &x->q, NULL), 0);
    return colo_devstate_open(x->q, x->dir, "7", for_load, soon(), &x->d, &x->err);
}

static void must_open(struct fixture *x, bool for_load)
{
    if (open_it(x, for_load) < 0)
        fail_msg("%s", x->err.msg);
}

static unsigned int files_in(const char *dir)
{
    DIR *dp = opendir(dir);
    struct dirent *e;
    unsigned int n = 0;

    while ((e = readdir(dp)))
        n += e->d_name[0] != '.';
    closedir(dp);
    return n;
}

/* Closing leaves neither a file nor a node behind. */
static void close_it(struct fixture *x)
{
    bool node_known = x->d && !x->m.die_cmd && !x->m.fail_cmd;

    colo_devstate_close(x->d);
    colo_qmp_close(x->q);
    fakeqmp_stop(x->f);
    assert_int_equal(files_in(x->dir), 0);
    assert_int_equal(rmdir(x->dir), 0);
    if (node_known)
        assert_string_equal(x->m.node, "");
    assert_string_equal(x->m.bad, "");
    fakeqmp_model_fini(&x->m);
}

static int load(struct fixture *x, size_t len, unsigned char fill)
{
    unsigned char *s = make_state(len, fill);
    int rc = colo_devstate_load(x->d, s, len, soon(), &x->err);

    if (rc == 0) {
        assert_true(x->m.loaded_len >= len);
        assert_memory_equal(x->m.loaded, s, len);
    }
    free(s);
    return rc;
}

static void must_load(struct fixture *x, size_t len, unsigned char fill)
{
    if (load(x, len, fill) < 0)
        fail_msg("%s", x->err.msg);
}

/* A job is dismissed without waiting: until the device model has done that, its manners stay. */
static void settle(struct fixture *x)
{
    if (colo_qmp_cmd(x->q, "query-status", NULL, soon(), NULL, &x->err) < 0)
        fail_msg("%s", x->err.msg);
}

static void test_save(void **state)
{
    struct fixture x = {0};
    unsigned char *s = make_state(200000, 5);
    size_t len;
    void *buf;

    (void)state;
    x.m.state = s;
    must_open(&x, false);
    for (x.m.state_len = 200000; x.m.state_len > 50000; x.m.state_len /= 2) {
        assert_int_equal(colo_devstate_save_start(x.d, soon(), &x.err), 0);
        assert_int_equal(colo_devstate_save_finish(x.d, soon(), &buf, &len, &x.err), 0);
        assert_int_equal(len, x.m.state_len); /* nothing is left of a longer one before it */
        assert_memory_equal(buf, s, len);
        free(buf);
    }
    close_it(&x);
    free(s);
}

static void save_fails(struct fixture *x, const char *reason)
{
    size_t len = 1;
    void *buf = x;

    must_open(x, false);
    if (colo_devstate_save_start(x->d, soon(), &x->err) == 0)
        assert_int_equal(colo_devstate_save_finish(x->d, soon(), &buf, &len, &x->err), -1);
    assert_null(buf);
    assert_int_equal(len, 0);
    assert_string_equal(x->err.reason, reason);
    close_it(x);
}

static void test_save_that_fails(void **state)
{
    struct fixture error = {.m.fail_cmd = "xen-save-devices-state"};
    struct fixture dies = {.m.die_cmd = "xen-save-devices-state"};
    struct fixture empty = {.m.state = "", .m.state_len = 0};

    (void)state;
    save_fails(&error, "qmp");
    save_fails(&dies, "qmp-gone");
    save_fails(&empty, "device-state-size");
}

static void test_load_again_and_again(void **state)
{
    struct fixture x = {0};
    unsigned char fill;

    (void)state;
    must_open(&x, true);
    for (fill = 1; fill <= 50; fill++)
        must_load(&x, 200000 + fill, fill);
    assert_int_equal(x.m.loads, 50);
    assert_int_equal(x.m.nodes, 1);
    assert_int_equal(x.m.loaded_len, 4u << 20);
    close_it(&x);
    assert_int_equal(x.m.dismissed, 50);
}

static void test_shorter_state_leaves_nothing_behind_it(void **state)
{
    struct fixture x = {0};
    size_t i;

    (void)state;
    must_open(&x, true);
    must_load(&x, 300000, 0xaa);
    must_load(&x, 100, 0xbb);
    for (i = 100; i < x.m.loaded_len; i++)
        assert_int_equal(((unsigned char *)x.m.loaded)[i], 0);
    close_it(&x);
}

static void test_image_grows_with_the_state(void **state)
{
    struct fixture x = {0};

    (void)state;
    must_open(&x, true);
    must_load(&x, 3u << 20, 1);
    assert_int_equal(x.m.loaded_len, 6u << 20);
    must_load(&x, 6u << 20, 2);
    assert_int_equal(x.m.nodes, 1);
    must_load(&x, (6u << 20) + 1, 3);
    assert_int_equal(x.m.nodes, 2);
    assert_int_equal(x.m.deleted, 1);
    must_load(&x, 100, 4);
    assert_int_equal(x.m.nodes, 2);
    close_it(&x);
}

static void test_event_before_the_reply_and_of_other_jobs(void **state)
{
    struct fixture x = {.m.event_first = true, .m.other_jobs = true};

    (void)state;
    must_open(&x, true);
    must_load(&x, 1000, 1);
    must_load(&x, 1000, 2);
    close_it(&x);
    assert_int_equal(x.m.dismissed, 2);
}

static void test_job_error_is_told(void **state)
{
    struct fixture x = {.m.job_error = "Unknown savevm section"};

    (void)state;
    must_open(&x, true);
    assert_int_equal(load(&x, 1000, 1), -1);
    assert_string_equal(x.err.reason, "device-state-load");
    assert_non_null(strstr(x.err.msg, "Unknown savevm section"));
    settle(&x);
    x.m.job_error = NULL;
    must_load(&x, 1000, 2);
    close_it(&x);
    assert_int_equal(x.m.dismissed, 2);
}

static void test_job_whose_events_tell_little_is_asked(void **state)
{
    struct fixture good = {.m.few_events = true};
    struct fixture bad = {.m.few_events = true, .m.job_error = "made to fail"};

    (void)state;
    must_open(&good, true);
    must_load(&good, 1000, 1);
    close_it(&good);
    must_open(&bad, true);
    assert_int_equal(load(&bad, 1000, 1), -1);
    assert_non_null(strstr(bad.err.msg, "made to fail"));
    close_it(&bad);
}

static void test_job_that_does_not_end_meets_the_deadline(void **state)
{
    struct fixture x = {.m.no_event = true, .m.other_jobs = true};
    unsigned char *s = make_state(100, 1);

    (void)state;
    must_open(&x, true);
    assert_int_equal(colo_devstate_load(x.d, s, 100, colo_now() + 100 * COLO_MS, &x.err), -1);
    assert_int_equal(x.err.cls, COLO_ERR_TIMEOUT);
    close_it(&x);
    free(s);
}

static void test_failure_at_every_command(void **state)
{
    static const char *const cmd[] = {"blockdev-add", "snapshot-load", "query-jobs"};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(cmd) / sizeof(cmd[0]); i++) {
        struct fixture fails = {.m.fail_cmd = cmd[i], .m.few_events = true};
        struct fixture dies = {.m.die_cmd = cmd[i], .m.few_events = true};

        must_open(&fails, true);
        assert_int_equal(load(&fails, 1000, 1), -1);
        assert_string_equal(fails.err.reason, "qmp");
        settle(&fails);
        fails.m.fail_cmd = NULL;
        must_load(&fails, 1000, 2);
        close_it(&fails);
        must_open(&dies, true);
        assert_int_equal(load(&dies, 1000, 1), -1);
        assert_string_equal(dies.err.reason, "qmp-gone");
        close_it(&dies);
    }
}

static void test_probe_refuses_by_reason(void **state)
{
    struct fixture no_save = {.m.lacks = "xen-save-devices-state"};
    struct fixture no_load = {.m.lacks = "xen-load-devices-state snapshot-load"};
    struct fixture failing = {.m.fail_cmd = "query-commands"};

    (void)state;
    assert_int_equal(open_it(&no_save, false), -1);
    assert_int_equal(no_save.err.cls, COLO_ERR_REFUSED);
    assert_string_equal(no_save.err.reason, "qemu-no-device-save");
    close_it(&no_save);
    assert_int_equal(open_it(&no_load, true), -1);
    assert_int_equal(no_load.err.cls, COLO_ERR_REFUSED);
    assert_string_equal(no_load.err.reason, "qemu-no-device-load");
    close_it(&no_load);
    assert_int_equal(open_it(&failing, true), -1);
    close_it(&failing);
}

static void test_old_qemu_loads_directly(void **state)
{
    struct fixture x = {.m.lacks = "snapshot-load"};

    (void)state;
    must_open(&x, true);
    must_load(&x, 5000, 1);
    must_load(&x, 4000, 2);
    assert_int_equal(x.m.loaded_len, 4000);
    assert_int_equal(x.m.nodes, 0);
    close_it(&x);
}

static void test_nodes_of_a_killed_session_are_removed(void **state)
{
    struct fixture x = {.m.stale_node = true};

    (void)state;
    must_open(&x, true);
    assert_int_equal(x.m.deleted, 1);
    must_load(&x, 5000, 1);
    close_it(&x);
}

static void test_hostile_state_never_reaches_qemu(void **state)
{
    struct fixture x = {0};
    static const char *const junk[] = {"", "QEVM", "QEVM\0\0\0\2 some", "garbage, but long"};
    size_t i;

    (void)state;
    must_open(&x, true);
    for (i = 0; i < sizeof(junk) / sizeof(junk[0]); i++) {
        assert_int_equal(colo_devstate_load(x.d, junk[i], i < 2 ? 4 * i : 13, soon(), &x.err), -1);
        assert_int_equal(x.err.cls, COLO_ERR_PROTOCOL);
    }
    assert_int_equal(colo_devstate_load(x.d, "QEVM", COLO_DEVSTATE_MAX + 1, soon(), &x.err), -1);
    assert_string_equal(x.err.reason, "device-state-size");
    assert_int_equal(x.m.loads + x.m.nodes, 0);
    close_it(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_save),
        cmocka_unit_test(test_save_that_fails),
        cmocka_unit_test(test_load_again_and_again),
        cmocka_unit_test(test_shorter_state_leaves_nothing_behind_it),
        cmocka_unit_test(test_image_grows_with_the_state),
        cmocka_unit_test(test_event_before_the_reply_and_of_other_jobs),
        cmocka_unit_test(test_job_error_is_told),
        cmocka_unit_test(test_job_whose_events_tell_little_is_asked),
        cmocka_unit_test(test_job_that_does_not_end_meets_the_deadline),
        cmocka_unit_test(test_failure_at_every_command),
        cmocka_unit_test(test_probe_refuses_by_reason),
        cmocka_unit_test(test_old_qemu_loads_directly),
        cmocka_unit_test(test_nodes_of_a_killed_session_are_removed),
        cmocka_unit_test(test_hostile_state_never_reaches_qemu),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
