/* SPDX-License-Identifier: GPL-2.0-only */
/* The QMP client against a server that behaves, is silent, cut off, endless or talks nonsense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "qmpserver.h"

static void test_greeting_and_commands(void **state)
{
    struct qs_fixture x;

    (void)state;
    qs_start(&x, NULL, -1);
    assert_string_equal(colo_qmp_version(x.q), "7.2.22 (Debian 1:7.2+dfsg-7)");
    qs_echo(&x);
    assert_int_equal(colo_qmp_cmd(x.q, "echo", "{\"say\":\"x\"}", qs_soon(), NULL, NULL), 0);
    qs_stop(&x);
}

static void test_replies_in_single_bytes(void **state)
{
    struct fakeqmp_manners one = {.chunk = 1};
    struct qs_fixture x;

    (void)state;
    qs_start(&x, &one, -1);
    qs_echo(&x);
    qs_stop(&x);
}

static void test_errors_have_the_servers_text(void **state)
{
    static const char *const cmd[] = {"error", "error-no-id", "error-no-desc"};
    static const char *const msg[] = {"QMP error: no such thing", "QMP error-no-id: unreadable",
                                      "QMP error-no-desc: an error without a description"};
    struct colo_err err;
    struct colo_json *ret;
    struct qs_fixture x;
    int i;

    (void)state;
    qs_start(&x, NULL, -1);
    for (i = 0; i < 3; i++) {
        colo_err_clear(&err);
        assert_int_equal(colo_qmp_cmd(x.q, cmd[i], NULL, qs_soon(), &ret, &err), -1);
        assert_null(ret);
        assert_int_equal(err.cls, COLO_ERR_LOCAL);
        assert_string_equal(err.reason, "qmp");
        assert_string_equal(err.msg, msg[i]);
    }
    qs_echo(&x);
    qs_stop(&x);
}

static void test_start_and_finish(void **state)
{
    struct qs_fixture x;
    struct colo_json *ret;
    struct colo_err err = {0};

    (void)state;
    qs_start(&x, NULL, -1);
    assert_int_equal(colo_qmp_finish(x.q, qs_soon(), NULL, &err), -1);
    assert_int_equal(colo_qmp_start(x.q, "echo", "{\"say\":\"x\"}", qs_soon(), &err), 0);
    assert_int_equal(colo_qmp_start(x.q, "echo", "{\"say\":\"y\"}", qs_soon(), &err), -1);
    assert_int_equal(colo_qmp_wait_event(x.q, "ODD", NULL, NULL, qs_soon(), &err), -1);
    assert_int_equal(colo_qmp_finish(x.q, qs_soon(), &ret, &err), 0);
    assert_string_equal(colo_json_get_str(ret, "said"), "x");
    colo_json_free(ret);
    qs_stop(&x);
}

static void test_cancel_ends_a_wait(void **state)
{
    struct qs_fixture x;
    struct colo_err err = {0};
    int fd = eventfd(0, EFD_CLOEXEC);

    (void)state;
    qs_start(&x, NULL, fd);
    assert_int_equal(colo_qmp_start(x.q, "nothing", NULL, qs_soon(), NULL), 0);
    assert_int_equal(eventfd_write(fd, 1), 0);
    assert_int_equal(colo_qmp_finish(x.q, COLO_NO_DEADLINE, NULL, &err), -1);
    assert_int_equal(err.cls, COLO_ERR_CANCELLED);
    qs_stop(&x);
    close(fd);
}

static void breaks(const char *command, const char *arguments, enum colo_err_class cls,
                   const char *reason)
{
    struct qs_fixture x;
    struct colo_err err = {0}, again = {0};
    struct colo_json *ret;

    qs_start(&x, NULL, -1);
    assert_int_equal(colo_qmp_cmd(x.q, command, arguments, qs_soon(), &ret, &err), -1);
    assert_null(ret);
    assert_int_equal(err.cls, cls);
    assert_string_equal(err.reason, reason);
    assert_int_equal(colo_qmp_cmd(x.q, "echo", NULL, qs_soon(), &ret, &again), -1);
    assert_string_equal(again.msg, err.msg); /* it stays broken, for the same reason */
    qs_stop(&x);
}

static void test_nonsense_ends_the_connection(void **state)
{
    (void)state;
    breaks("raw", "{\"text\":\"hello\"}", COLO_ERR_PROTOCOL, "qmp-garbage");
    breaks("raw", "{\"text\":\"[]\"}", COLO_ERR_PROTOCOL, "qmp-garbage");
    breaks("raw", "{\"text\":\"{}\"}", COLO_ERR_PROTOCOL, "qmp-garbage");
    breaks("raw", "{\"text\":\"{\\\"return\\\":{}}\"}", COLO_ERR_PROTOCOL, "qmp-garbage");
    breaks("raw", "{\"text\":\"{\\\"return\\\":{},\\\"id\\\":99}\"}", COLO_ERR_PROTOCOL,
           "qmp-garbage");
    breaks("raw", "{\"text\":\"{\\\"event\\\":5}\"}", COLO_ERR_PROTOCOL, "qmp-garbage");
    breaks("huge", NULL, COLO_ERR_PROTOCOL, "qmp-garbage");
    breaks("die", NULL, COLO_ERR_LOCAL, "qmp-gone");
}

static void endless(const char *command)
{
    struct qs_fixture x;
    struct colo_err err = {0};

    qs_start(&x, NULL, -1);
    assert_int_equal(colo_qmp_cmd(x.q, command, NULL, qs_in_ms(50), NULL, &err), -1);
    assert_int_equal(err.cls, COLO_ERR_TIMEOUT);
    qs_stop(&x);
}

static void test_endless_streams_meet_the_deadline(void **state)
{
    (void)state;
    endless("flood");
    endless("blank");
}

static void test_eof_at_every_byte(void **state)
{
    struct fakeqmp_manners m = {0};
    struct fakeqmp *f;
    struct colo_qmp *q;
    struct colo_json *ret;
    struct colo_err err;
    size_t total = strlen(FAKEQMP_GREETING) + strlen("{\"return\": {}, \"id\": 1}\r\n") +
                   strlen("{\"return\": {\"said\": \"hello\"}, \"id\": 2}\r\n");
    int fd, rc;

    (void)state;
    for (m.cut_after = 1; m.cut_after <= total; m.cut_after++) {
        colo_err_clear(&err);
        f = fakeqmp_start(qs_serve, NULL, &m, &fd);
        ret = NULL;
        rc = colo_qmp_open_fd(fd, -1, qs_soon(), &q, &err);
        if (rc == 0) {
            rc = colo_qmp_cmd(q, "echo", "{\"say\":\"hello\"}", qs_soon(), &ret, &err);
            colo_qmp_close(q);
        }
        fakeqmp_stop(f);
        assert_int_equal(rc, m.cut_after < total ? -1 : 0);
        assert_int_equal(ret != NULL, rc == 0);
        if (rc < 0)
            assert_string_equal(err.reason, "qmp-gone");
        colo_json_free(ret);
    }
}

static void test_silent_server(void **state)
{
    struct fakeqmp_manners silent = {.silent = true};
    struct fakeqmp *f;
    struct colo_qmp *q;
    struct colo_err err = {0};
    int fd;

    (void)state;
    f = fakeqmp_start(qs_serve, NULL, &silent, &fd);
    assert_int_equal(colo_qmp_open_fd(fd, -1, qs_in_ms(5), &q, &err), -1);
    assert_int_equal(err.cls, COLO_ERR_TIMEOUT);
    assert_null(q);
    fakeqmp_stop(f);
}

static void test_open_by_path(void **state)
{
    char dir[] = "/tmp/test-qmp-XXXXXX", path[64], too_long[200];
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct colo_qmp *q;
    struct colo_err err = {0};
    int fd;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/s", dir);
    assert_int_equal(colo_qmp_open(path, -1, qs_soon(), &q, &err), -1);
    assert_non_null(strstr(err.msg, path));
    memset(too_long, 'x', sizeof(too_long) - 1);
    too_long[sizeof(too_long) - 1] = 0;
    assert_int_equal(colo_qmp_open(too_long, -1, qs_soon(), &q, &err), -1);

    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(colo_qmp_open(path, -1, qs_in_ms(5), &q, &err), -1); /* nobody accepts */
    assert_string_equal(err.reason, "qmp-busy");
    close(fd);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greeting_and_commands),
        cmocka_unit_test(test_replies_in_single_bytes),
        cmocka_unit_test(test_errors_have_the_servers_text),
        cmocka_unit_test(test_start_and_finish),
        cmocka_unit_test(test_cancel_ends_a_wait),
        cmocka_unit_test(test_nonsense_ends_the_connection),
        cmocka_unit_test(test_endless_streams_meet_the_deadline),
        cmocka_unit_test(test_eof_at_every_byte),
        cmocka_unit_test(test_silent_server),
        cmocka_unit_test(test_open_by_path),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
