/* SPDX-License-Identifier: GPL-2.0-only */
/* The QMP client against a server that behaves, is late, cut off, endless or talks nonsense. */
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

#include "fakeqmp.h"
#include "libxl_qmp.h"

static colo_time in_ms(int ms)
{
    return colo_now() + ms * COLO_MS;
}

static colo_time soon(void)
{
    return in_ms(20000);
}

/* One server for all tests: what it does is named by the command. */
static bool serve(struct fakeqmp *f, const char *command, const struct colo_json *arguments,
                  void *priv)
{
    char text[200], *big;
    size_t n = 5u << 20;
    bool ok;
    int i;

    (void)priv;
    if (!strcmp(command, "echo")) {
        snprintf(text, sizeof(text), "{\"said\": \"%s\"}", colo_json_get_str(arguments, "say"));
        return fakeqmp_return(f, text);
    }
    if (!strcmp(command, "nothing"))
        return true;
    if (!strcmp(command, "late")) { /* nothing came of the one before, until now */
        snprintf(text, sizeof(text), "{\"return\": {\"old\": 1}, \"id\": %lld}\r\n",
                 (long long)fakeqmp_id(f) - 1);
        return fakeqmp_send(f, text, strlen(text)) && fakeqmp_return(f, "{\"new\": 1}");
    }
    if (!strcmp(command, "events")) {
        for (i = 0; i < (int)colo_json_get_int(arguments, "n", 1); i++) {
            snprintf(text, sizeof(text), "{\"nr\": %d}", i);
            if (!fakeqmp_event(f, i % 2 ? "ODD" : "EVEN", text))
                return false;
        }
        return fakeqmp_return(f, "{}");
    }
    if (!strcmp(command, "event-later"))
        return fakeqmp_return(f, "{}") && fakeqmp_event(f, "LATER", "{\"nr\": 9}");
    if (!strcmp(command, "flood")) {
        while (fakeqmp_event(f, "FLOOD", "{}"))
            ;
        return false;
    }
    if (!strcmp(command, "blank")) {
        while (fakeqmp_send(f, "\r\n \r\n", 5))
            ;
        return false;
    }
    if (!strcmp(command, "huge")) {
        big = malloc(n);
        memset(big, ' ', n);
        ok = fakeqmp_send(f, big, n);
        free(big);
        return ok;
    }
    if (!strcmp(command, "error"))
        return fakeqmp_error(f, "no such thing");
    if (!strcmp(command, "error-no-id")) {
        const char *t = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"unreadable\"}}\r\n";
        return fakeqmp_send(f, t, strlen(t));
    }
    if (!strcmp(command, "error-no-desc")) {
        snprintf(text, sizeof(text), "{\"error\": 7, \"id\": %lld}\n", (long long)fakeqmp_id(f));
        return fakeqmp_send(f, text, strlen(text));
    }
    if (!strcmp(command, "raw")) {
        const char *t = colo_json_get_str(arguments, "text");
        return fakeqmp_send(f, t, strlen(t)) && fakeqmp_send(f, "\n", 1);
    }
    return strcmp(command, "die") != 0 && fakeqmp_error(f, "unknown");
}

struct fixture {
    struct fakeqmp *f;
    struct colo_qmp *q;
};

static void start(struct fixture *x, const struct fakeqmp_manners *manners, int cancel_fd)
{
    struct colo_err err = {0};
    int fd;

    x->f = fakeqmp_start(serve, NULL, manners, &fd);
    if (colo_qmp_open_fd(fd, cancel_fd, soon(), &x->q, &err) < 0)
        fail_msg("%s", err.msg);
}

static void stop(struct fixture *x)
{
    colo_qmp_close(x->q);
    fakeqmp_stop(x->f);
}

static void echo(struct fixture *x)
{
    struct colo_json *ret;
    struct colo_err err = {0};

    if (colo_qmp_cmd(x->q, "echo", "{\"say\":\"hello\"}", soon(), &ret, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(colo_json_get_str(ret, "said"), "hello");
    colo_json_free(ret);
}

static void test_greeting_and_commands(void **state)
{
    struct fixture x;

    (void)state;
    start(&x, NULL, -1);
    assert_string_equal(colo_qmp_version(x.q), "7.2.22 (Debian 1:7.2+dfsg-7)");
    echo(&x);
    assert_int_equal(colo_qmp_cmd(x.q, "echo", "{\"say\":\"x\"}", soon(), NULL, NULL), 0);
    stop(&x);
}

static void test_replies_in_single_bytes(void **state)
{
    struct fakeqmp_manners one = {.chunk = 1};
    struct fixture x;

    (void)state;
    start(&x, &one, -1);
    echo(&x);
    stop(&x);
}

static void test_errors_have_the_servers_text(void **state)
{
    static const char *const cmd[] = {"error", "error-no-id", "error-no-desc"};
    static const char *const msg[] = {"QMP error: no such thing", "QMP error-no-id: unreadable",
                                      "QMP error-no-desc: an error without a description"};
    struct colo_err err;
    struct colo_json *ret;
    struct fixture x;
    int i;

    (void)state;
    start(&x, NULL, -1);
    for (i = 0; i < 3; i++) {
        colo_err_clear(&err);
        assert_int_equal(colo_qmp_cmd(x.q, cmd[i], NULL, soon(), &ret, &err), -1);
        assert_null(ret);
        assert_int_equal(err.cls, COLO_ERR_LOCAL);
        assert_string_equal(err.reason, "qmp");
        assert_string_equal(err.msg, msg[i]);
    }
    echo(&x);
    stop(&x);
}

static bool is_nr(const struct colo_json *data, void *priv)
{
    return colo_json_get_int(data, "nr", -1) == *(int *)priv;
}

static void test_events_are_queued_and_matched(void **state)
{
    struct fixture x;
    struct colo_err err = {0};
    int nr = 3;

    (void)state;
    start(&x, NULL, -1);
    assert_int_equal(colo_qmp_cmd(x.q, "events", "{\"n\":6}", soon(), NULL, NULL), 0);
    assert_int_equal(colo_qmp_wait_event(x.q, "ODD", is_nr, &nr, soon(), NULL), 0);
    assert_int_equal(colo_qmp_wait_event(x.q, "ODD", is_nr, &nr, in_ms(1), &err), -1);
    assert_int_equal(err.cls, COLO_ERR_TIMEOUT);
    assert_int_equal(colo_qmp_wait_event(x.q, "ODD", NULL, NULL, soon(), NULL), 0);
    colo_qmp_drop_events(x.q, "ODD");
    assert_int_equal(colo_qmp_wait_event(x.q, "ODD", NULL, NULL, in_ms(1), NULL), -1);
    nr = 4;
    assert_int_equal(colo_qmp_wait_event(x.q, "EVEN", is_nr, &nr, soon(), NULL), 0);
    nr = 9;
    assert_int_equal(colo_qmp_cmd(x.q, "event-later", NULL, soon(), NULL, NULL), 0);
    assert_int_equal(colo_qmp_wait_event(x.q, "LATER", is_nr, &nr, soon(), NULL), 0);
    stop(&x);
}

static void test_oldest_events_are_dropped(void **state)
{
    struct fixture x;
    int nr = 43;

    (void)state;
    start(&x, NULL, -1);
    assert_int_equal(colo_qmp_cmd(x.q, "events", "{\"n\":300}", soon(), NULL, NULL), 0);
    assert_int_equal(colo_qmp_wait_event(x.q, "ODD", is_nr, &nr, in_ms(1), NULL), -1);
    nr = 44;
    assert_int_equal(colo_qmp_wait_event(x.q, "EVEN", is_nr, &nr, soon(), NULL), 0);
    stop(&x);
}

static void test_reply_after_its_deadline_is_passed_over(void **state)
{
    struct fixture x;
    struct colo_json *ret;
    struct colo_err err = {0};

    (void)state;
    start(&x, NULL, -1);
    assert_int_equal(colo_qmp_cmd(x.q, "nothing", NULL, in_ms(5), NULL, &err), -1);
    assert_int_equal(err.cls, COLO_ERR_TIMEOUT);
    assert_non_null(strstr(err.msg, "nothing"));
    assert_int_equal(colo_qmp_cmd(x.q, "late", NULL, soon(), &ret, NULL), 0);
    assert_int_equal(colo_json_get_int(ret, "new", 0), 1);
    colo_json_free(ret);
    echo(&x);
    stop(&x);
}

static void test_start_and_finish(void **state)
{
    struct fixture x;
    struct colo_json *ret;
    struct colo_err err = {0};

    (void)state;
    start(&x, NULL, -1);
    assert_int_equal(colo_qmp_finish(x.q, soon(), NULL, &err), -1);
    assert_int_equal(colo_qmp_start(x.q, "echo", "{\"say\":\"x\"}", soon(), &err), 0);
    assert_int_equal(colo_qmp_start(x.q, "echo", "{\"say\":\"y\"}", soon(), &err), -1);
    assert_int_equal(colo_qmp_wait_event(x.q, "ODD", NULL, NULL, soon(), &err), -1);
    assert_int_equal(colo_qmp_finish(x.q, soon(), &ret, &err), 0);
    assert_string_equal(colo_json_get_str(ret, "said"), "x");
    colo_json_free(ret);
    stop(&x);
}

static void test_posted_commands_replies_are_taken_away(void **state)
{
    struct fixture x;
    int i, nr = 9;

    (void)state;
    start(&x, NULL, -1);
    for (i = 0; i < 3; i++)
        assert_int_equal(colo_qmp_post(x.q, i % 2 ? "error" : "event-later", NULL, soon(), NULL),
                         0);
    echo(&x);
    assert_int_equal(colo_qmp_post(x.q, "event-later", NULL, soon(), NULL), 0);
    for (i = 0; i < 3; i++)
        assert_int_equal(colo_qmp_wait_event(x.q, "LATER", is_nr, &nr, soon(), NULL), 0);
    echo(&x);
    stop(&x);
}

static void test_cancel_ends_a_wait(void **state)
{
    struct fixture x;
    struct colo_err err = {0};
    int fd = eventfd(0, EFD_CLOEXEC);

    (void)state;
    start(&x, NULL, fd);
    assert_int_equal(colo_qmp_start(x.q, "nothing", NULL, soon(), NULL), 0);
    assert_int_equal(eventfd_write(fd, 1), 0);
    assert_int_equal(colo_qmp_finish(x.q, COLO_NO_DEADLINE, NULL, &err), -1);
    assert_int_equal(err.cls, COLO_ERR_CANCELLED);
    stop(&x);
    close(fd);
}

static void breaks(const char *command, const char *arguments, enum colo_err_class cls,
                   const char *reason)
{
    struct fixture x;
    struct colo_err err = {0}, again = {0};
    struct colo_json *ret;

    start(&x, NULL, -1);
    assert_int_equal(colo_qmp_cmd(x.q, command, arguments, soon(), &ret, &err), -1);
    assert_null(ret);
    assert_int_equal(err.cls, cls);
    assert_string_equal(err.reason, reason);
    assert_int_equal(colo_qmp_cmd(x.q, "echo", NULL, soon(), &ret, &again), -1);
    assert_string_equal(again.msg, err.msg); /* it stays broken, for the same reason */
    stop(&x);
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
    struct fixture x;
    struct colo_err err = {0};

    start(&x, NULL, -1);
    assert_int_equal(colo_qmp_cmd(x.q, command, NULL, in_ms(50), NULL, &err), -1);
    assert_int_equal(err.cls, COLO_ERR_TIMEOUT);
    stop(&x);
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
        f = fakeqmp_start(serve, NULL, &m, &fd);
        ret = NULL;
        rc = colo_qmp_open_fd(fd, -1, soon(), &q, &err);
        if (rc == 0) {
            rc = colo_qmp_cmd(q, "echo", "{\"say\":\"hello\"}", soon(), &ret, &err);
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
    f = fakeqmp_start(serve, NULL, &silent, &fd);
    assert_int_equal(colo_qmp_open_fd(fd, -1, in_ms(5), &q, &err), -1);
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
    assert_int_equal(colo_qmp_open(path, -1, soon(), &q, &err), -1);
    assert_non_null(strstr(err.msg, path));
    memset(too_long, 'x', sizeof(too_long) - 1);
    too_long[sizeof(too_long) - 1] = 0;
    assert_int_equal(colo_qmp_open(too_long, -1, soon(), &q, &err), -1);

    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(colo_qmp_open(path, -1, in_ms(5), &q, &err), -1); /* nobody accepts */
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
        cmocka_unit_test(test_events_are_queued_and_matched),
        cmocka_unit_test(test_oldest_events_are_dropped),
        cmocka_unit_test(test_reply_after_its_deadline_is_passed_over),
        cmocka_unit_test(test_start_and_finish),
        cmocka_unit_test(test_posted_commands_replies_are_taken_away),
        cmocka_unit_test(test_cancel_ends_a_wait),
        cmocka_unit_test(test_nonsense_ends_the_connection),
        cmocka_unit_test(test_endless_streams_meet_the_deadline),
        cmocka_unit_test(test_eof_at_every_byte),
        cmocka_unit_test(test_silent_server),
        cmocka_unit_test(test_open_by_path),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
