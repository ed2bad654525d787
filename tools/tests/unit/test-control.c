/* SPDX-License-Identifier: GPL-2.0-only */
/* The control socket: requests, replies, and clients that misbehave. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "libxl_colo_control.h"

#define PATIENCE (colo_now() + 20 * 1000 * COLO_MS)

struct server {
    uint32_t domid;
    struct colo_control_server *s;
    pthread_t thread;
    int stop_fd;
    bool running;
    size_t reply_size; /* of the command "big" */
};

static char *handler(void *priv, const char *command)
{
    const struct server *t = priv;
    char *reply;

    if (!strcmp(command, "nothing"))
        return NULL;
    if (!strcmp(command, "big")) {
        reply = malloc(t->reply_size + 1);
        memset(reply, ' ', t->reply_size);
        memcpy(reply, "{}", 2);
        reply[t->reply_size] = '\0';
        return reply;
    }
    return asprintf(&reply, "{\"ok\":true,\"was\":\"%s\"}", command) < 0 ? NULL : reply;
}

static void *serve(void *arg)
{
    struct server *t = arg;
    struct pollfd fds[] = {{.fd = colo_control_fd(t->s), .events = POLLIN},
                           {.fd = t->stop_fd, .events = POLLIN}};

    while (poll(fds, 2, -1) >= 0 && !fds[1].revents)
        colo_control_serve(t->s);
    return NULL;
}

static void start(struct server *t)
{
    t->running = true;
    pthread_create(&t->thread, NULL, serve, t);
}

static void halt(struct server *t)
{
    uint64_t one = 1;

    if (!t->running)
        return;
    assert_int_equal(write(t->stop_fd, &one, sizeof(one)), sizeof(one));
    pthread_join(t->thread, NULL);
    t->running = false;
}

static int set_up(void **state)
{
    struct server *t = calloc(1, sizeof(*t));
    struct colo_err err = {0};

    assert_non_null(t);
    t->domid = 2000000000u + 2 * (uint32_t)getpid();
    t->stop_fd = eventfd(0, 0);
    if (colo_run_dir(&err) || colo_control_listen(t->domid, handler, t, &t->s, &err)) {
        print_error("%s\n", err.msg);
        close(t->stop_fd);
        free(t);
        return -1;
    }
    *state = t;
    return 0;
}

static int tear_down(void **state)
{
    struct server *t = *state;

    halt(t);
    colo_control_close(t->s);
    close(t->stop_fd);
    free(t);
    return 0;
}

static void path_of(uint32_t domid, struct sockaddr_un *sun)
{
    memset(sun, 0, sizeof(*sun));
    sun->sun_family = AF_UNIX;
    snprintf(sun->sun_path, sizeof(sun->sun_path), "%s/%u.sock", COLO_RUN_DIR, domid);
}

static int dial(uint32_t domid)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un sun;

    path_of(domid, &sun);
    assert_int_equal(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Up to a newline or the end; returns false when there was nothing before the end. */
static bool line(int fd, char *buf, size_t size)
{
    size_t n = 0;

    while (n + 1 < size && recv(fd, buf + n, 1, 0) == 1 && buf[n] != '\n')
        n++;
    buf[n] = '\0';
    return n > 0;
}

static void expect(int fd, const char *text)
{
    char buf[512];

    assert_true(line(fd, buf, sizeof(buf)));
    assert_string_equal(buf, text);
}

static void refused(int fd)
{
    char buf[512];

    assert_true(line(fd, buf, sizeof(buf)));
    assert_non_null(strstr(buf, "\"reason\":\"bad-request\""));
    assert_false(line(fd, buf, sizeof(buf)));
    close(fd);
}

static void answers(uint32_t domid)
{
    struct colo_json *reply;
    struct colo_err err = {0};

    if (colo_control_request(domid, "status", PATIENCE, &reply, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(colo_json_get_str(reply, "was"), "status");
    colo_json_free(reply);
}

static void nobody(uint32_t domid)
{
    struct colo_json *reply;
    struct colo_err err = {0};

    assert_int_equal(colo_control_request(domid, "status", PATIENCE, &reply, &err), -1);
    assert_null(reply);
    assert_int_equal(err.cls, COLO_ERR_REFUSED);
    assert_string_equal(err.reason, "not-protected");
}

static void test_a_request_is_answered(void **state)
{
    struct server *t = *state;
    struct colo_err err = {0};
    char *text;

    start(t);
    answers(t->domid);
    assert_int_equal(colo_control_request_text(t->domid, "stop", PATIENCE, &text, &err), 0);
    assert_string_equal(text, "{\"ok\":true,\"was\":\"stop\"}");
    free(text);
}

static void test_only_root_gets_in(void **state)
{
    struct server *t = *state;
    struct sockaddr_un sun;
    struct stat st;

    path_of(t->domid, &sun);
    assert_int_equal(stat(sun.sun_path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(COLO_RUN_DIR, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static void test_absent_and_unanswered_sockets_are_not_protected(void **state)
{
    struct server *t = *state;
    struct sockaddr_un sun;
    int fd;

    nobody(t->domid + 1);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    path_of(t->domid + 1, &sun);
    assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
    close(fd);
    nobody(t->domid + 1);
    unlink(sun.sun_path);
}

static void test_a_silent_monitor_is_a_timeout(void **state)
{
    struct server *t = *state;
    struct colo_json *reply;
    struct colo_err err = {0};

    assert_int_equal(
        colo_control_request(t->domid, "status", colo_now() + 50 * COLO_MS, &reply, &err), -1);
    assert_int_equal(err.cls, COLO_ERR_TIMEOUT);
    assert_string_equal(err.reason, "monitor-silent");
}

static void test_bad_requests_are_refused(void **state)
{
    static const char *const bad[] = {"hello\n",           "\n",   "[]\n",
                                      "{\"command\":7}\n", "{}\n", "{\"command\":\"status\"} x\n"};
    struct server *t = *state;
    char long_line[2000];
    size_t i;
    int fd;

    start(t);
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        fd = dial(t->domid);
        say(fd, bad[i]);
        refused(fd);
    }
    fd = dial(t->domid);
    memset(long_line, 'x', sizeof(long_line));
    send(fd, long_line, 512, MSG_NOSIGNAL);
    refused(fd);
    answers(t->domid);
}

static void test_no_answer_from_the_handler_is_an_error(void **state)
{
    struct server *t = *state;
    struct colo_json *reply;
    struct colo_err err = {0};

    start(t);
    assert_int_equal(colo_control_request(t->domid, "nothing", PATIENCE, &reply, &err), 0);
    assert_string_equal(colo_json_get_str(colo_json_get(reply, "error"), "reason"), "local");
    colo_json_free(reply);
}

static void test_requests_in_pieces_and_several_at_once(void **state)
{
    struct server *t = *state;
    int fd;

    start(t);
    fd = dial(t->domid);
    say(fd, "{\"comm");
    answers(t->domid); /* others do not wait for the rest */
    say(fd, "and\":\"a\"}\n{\"command\":\"b\"}\n{\"command\":\"c\"}\n");
    expect(fd, "{\"ok\":true,\"was\":\"a\"}");
    expect(fd, "{\"ok\":true,\"was\":\"b\"}");
    expect(fd, "{\"ok\":true,\"was\":\"c\"}");
    close(fd);
}

static void test_a_client_that_does_not_read_holds_nobody_up(void **state)
{
    struct server *t = *state;
    char *buf;
    size_t n = 0;
    ssize_t r;
    int fd;

    t->reply_size = 4 << 20; /* more than a socket buffers */
    start(t);
    fd = dial(t->domid);
    say(fd, "{\"command\":\"big\"}\n{\"command\":\"then\"}\n");
    answers(t->domid);
    buf = malloc(t->reply_size + 1);
    while (n < t->reply_size + 1 && (r = recv(fd, buf + n, t->reply_size + 1 - n, 0)) > 0)
        n += (size_t)r;
    assert_int_equal(n, t->reply_size + 1);
    assert_int_equal(buf[n - 1], '\n');
    expect(fd, "{\"ok\":true,\"was\":\"then\"}");
    free(buf);
    close(fd);
}

static void test_an_endless_reply_is_refused(void **state)
{
    struct server *t = *state;
    struct colo_json *reply;
    struct colo_err err = {0};

    t->reply_size = 4 << 20;
    start(t);
    assert_int_equal(colo_control_request(t->domid, "big", PATIENCE, &reply, &err), -1);
    assert_int_equal(err.cls, COLO_ERR_PROTOCOL);
    answers(t->domid);
}

static void test_idle_clients_give_way(void **state)
{
    struct server *t = *state;
    int fds[40];
    char c;
    int i;

    start(t);
    for (i = 0; i < 40; i++) {
        fds[i] = dial(t->domid);
        say(fds[i], "{\"command\":\"hi\"}\n");
        expect(fds[i], "{\"ok\":true,\"was\":\"hi\"}");
    }
    answers(t->domid);
    assert_true(recv(fds[0], &c, 1, 0) <= 0); /* the oldest was closed */
    for (i = 0; i < 40; i++)
        close(fds[i]);
}

static void test_a_second_server_is_refused(void **state)
{
    struct server *t = *state;
    struct colo_control_server *other;
    struct colo_err err = {0};

    assert_int_equal(colo_control_listen(t->domid, handler, t, &other, &err), -1);
    assert_null(other);
    assert_string_equal(err.reason, "already-protected");
    start(t);
    answers(t->domid);
}

static void test_a_stale_socket_is_replaced(void **state)
{
    struct server *t = *state;
    struct colo_control_server *other;
    struct colo_err err = {0};
    struct sockaddr_un sun;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    path_of(t->domid + 1, &sun);
    assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
    close(fd);
    assert_int_equal(colo_control_listen(t->domid + 1, handler, t, &other, &err), 0);
    assert_int_equal(access(sun.sun_path, F_OK), 0);
    colo_control_close(other);
    assert_int_equal(access(sun.sun_path, F_OK), -1);
}

static void test_rename_keeps_those_who_are_connected(void **state)
{
    struct server *t = *state;
    struct colo_err err = {0};
    int fd = dial(t->domid);

    colo_control_serve(t->s);
    assert_int_equal(colo_control_rename(t->s, t->domid + 1, &err), 0);
    start(t);
    nobody(t->domid);
    answers(t->domid + 1);
    say(fd, "{\"command\":\"still\"}\n");
    expect(fd, "{\"ok\":true,\"was\":\"still\"}");
    close(fd);
}

static void test_withdraw_leaves_the_name_to_the_next(void **state)
{
    struct server *t = *state, next = {0};
    struct colo_err err = {0};
    int fd = dial(t->domid);

    colo_control_serve(t->s);
    colo_control_withdraw(t->s);
    nobody(t->domid);
    assert_int_equal(colo_control_listen(t->domid, handler, &next, &next.s, &err), 0);
    start(t);
    say(fd, "{\"command\":\"old\"}\n");
    expect(fd, "{\"ok\":true,\"was\":\"old\"}");
    close(fd);
    halt(t);
    colo_control_close(t->s); /* must not remove the other's socket */
    t->s = NULL;
    next.stop_fd = eventfd(0, 0);
    start(&next);
    answers(t->domid);
    halt(&next);
    colo_control_close(next.s);
    close(next.stop_fd);
}

static void test_list_finds_the_living_and_removes_the_dead(void **state)
{
    struct server *t = *state;
    struct colo_control_server *second;
    struct colo_err err = {0};
    struct sockaddr_un sun;
    uint32_t *domids, stale = t->domid + 1000000000u;
    size_t n, i, found = 0;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    path_of(stale, &sun);
    unlink(sun.sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
    close(fd);
    assert_int_equal(colo_control_listen(t->domid + 1, handler, t, &second, &err), 0);
    assert_int_equal(colo_control_list(&domids, &n, &err), 0);
    for (i = 0; i < n; i++) {
        assert_int_not_equal(domids[i], stale);
        assert_true(i == 0 || domids[i - 1] < domids[i]);
        found += domids[i] == t->domid || domids[i] == t->domid + 1;
    }
    assert_int_equal(found, 2);
    assert_int_equal(access(sun.sun_path, F_OK), -1);
    free(domids);
    colo_control_close(second);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_request_is_answered),
        TEST(test_only_root_gets_in),
        TEST(test_absent_and_unanswered_sockets_are_not_protected),
        TEST(test_a_silent_monitor_is_a_timeout),
        TEST(test_bad_requests_are_refused),
        TEST(test_no_answer_from_the_handler_is_an_error),
        TEST(test_requests_in_pieces_and_several_at_once),
        TEST(test_a_client_that_does_not_read_holds_nobody_up),
        TEST(test_an_endless_reply_is_refused),
        TEST(test_idle_clients_give_way),
        TEST(test_a_second_server_is_refused),
        TEST(test_a_stale_socket_is_replaced),
        TEST(test_rename_keeps_those_who_are_connected),
        TEST(test_withdraw_leaves_the_name_to_the_next),
        TEST(test_list_finds_the_living_and_removes_the_dead),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
