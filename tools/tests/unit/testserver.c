/* SPDX-License-Identifier: GPL-2.0-only */
#include "testserver.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM  "build/colo-disk"
#define PATIENCE (30 * 1000 * COLO_MS)

void ts_init(struct ts *s, uint64_t size)
{
    FILE *f;

    memset(s, 0, sizeof(*s));
    s->fd = -1;
    td_init(&s->td, size);
    snprintf(s->control, sizeof(s->control), "%s/control", s->td.folder);
    snprintf(s->secondary, sizeof(s->secondary), "%s/secondary", s->td.folder);
    snprintf(s->key, sizeof(s->key), "%s/key", s->td.folder);
    snprintf(s->log, sizeof(s->log), "%s/log", s->td.folder);
    f = fopen(s->key, "w");
    assert_non_null(f);
    fputs("qemu:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n", f);
    fclose(f);
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* the server's parent is gone as soon as it serves */
}

void ts_fini(struct ts *s)
{
    ts_hang_up(s);
    if (s->pid > 0)
        ts_kill(s);
    td_fini(&s->td);
}

int ts_try(struct ts *s, const char *more)
{
    char command[1024], line[64] = "";
    FILE *f;
    int n;

    snprintf(command, sizeof(command),
             PROGRAM
             " serve --control=%s --secondary=%s --session=%s --state-dir=%s --log=%s %s %s",
             s->control, s->secondary, s->td.cfg.session, s->td.state, s->log, more ? more : "",
             s->td.path);
    if (!more || !strstr(more, "--standalone")) {
        n = (int)strlen(command);
        snprintf(command + n, sizeof(command) - (size_t)n, " --listen=127.0.0.1 --tls-psk=%s",
                 s->key);
    }
    f = popen(command, "r");
    assert_non_null(f);
    s->port = 0;
    if (fgets(line, sizeof(line), f))
        sscanf(line, "port %d", &s->port);
    n = pclose(f);
    if (n)
        return WIFEXITED(n) ? WEXITSTATUS(n) : -1;
    ts_connect(s);
    s->pid = (int)ts_number(s, "pid");
    return 0;
}

void ts_start(struct ts *s, const char *more)
{
    tl_eq(ts_try(s, more), 0);
}

void ts_connect(struct ts *s)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};

    s->in_len = 0;
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memcpy(sun.sun_path, s->control, strlen(s->control));
    if (connect(s->fd, (const struct sockaddr *)&sun, sizeof(sun)))
        fail_msg("%s: %s", s->control, strerror(errno));
}

void ts_hang_up(struct ts *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

struct colo_json *ts_line(struct ts *s)
{
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    struct colo_err err = {0};
    struct colo_json *j;
    char *end;
    ssize_t n;

    while (!(end = memchr(s->in, '\n', s->in_len))) {
        if (poll(&p, 1, 30000) != 1)
            fail_msg("no reply");
        n = read(s->fd, s->in + s->in_len, sizeof(s->in) - s->in_len);
        if (n <= 0)
            fail_msg("the control socket was closed");
        s->in_len += (size_t)n;
    }
    tl_ok(colo_json_parse(s->in, (size_t)(end - s->in), &j, &err), &err);
    s->in_len -= (size_t)(end + 1 - s->in);
    memmove(s->in, end + 1, s->in_len);
    return j;
}

static struct colo_json *ask(struct ts *s, const char *request)
{
    struct colo_json *j;

    tl_eq(dprintf(s->fd, "%s\n", request), strlen(request) + 1);
    for (;;) {
        j = ts_line(s);
        if (!colo_json_get(j, "event"))
            return j;
        colo_json_free(j);
    }
}

const char *ts_ask(struct ts *s, const char *request)
{
    static char reason[64];
    struct colo_json *j = ask(s, request);
    const char *why = colo_json_get_str(colo_json_get(j, "error"), "reason");

    snprintf(reason, sizeof(reason), "%s", why ? why : "");
    assert_true(!why == colo_json_get_bool(j, "ok", false));
    colo_json_free(j);
    return reason[0] ? reason : NULL;
}

int64_t ts_number(struct ts *s, const char *key)
{
    struct colo_json *j = ask(s, "{\"do\":\"status\"}");
    int64_t n = colo_json_get_int(j, key, -1);

    colo_json_free(j);
    return n;
}

const char *ts_state(struct ts *s)
{
    static char state[32];
    struct colo_json *j = ask(s, "{\"do\":\"status\"}");

    snprintf(state, sizeof(state), "%s", colo_json_get_str(j, "state"));
    colo_json_free(j);
    return state;
}

void ts_wait_state(struct ts *s, const char *state)
{
    colo_time deadline = colo_now() + PATIENCE;

    while (strcmp(ts_state(s), state) != 0) {
        if (colo_now() > deadline)
            fail_msg("still %s, not %s", ts_state(s), state);
        usleep(2000);
    }
}

void ts_checkpoint(struct ts *s, uint64_t n)
{
    char request[64];
    const char *why;

    snprintf(request, sizeof(request), "{\"do\":\"checkpoint\",\"checkpoint\":%llu}",
             (unsigned long long)n);
    why = ts_ask(s, request);
    if (why)
        fail_msg("%s", why);
}

static void wait_end(struct ts *s)
{
    colo_time deadline = colo_now() + PATIENCE;

    /* ours, since its parent is gone */
    while (waitpid(s->pid, NULL, WNOHANG) == 0) {
        if (colo_now() > deadline)
            fail_msg("the server does not end");
        usleep(2000);
    }
    s->pid = 0;
}

void ts_gone(struct ts *s)
{
    wait_end(s);
    ts_hang_up(s);
    tl_eq(access(s->control, F_OK), -1);
    tl_eq(access(s->secondary, F_OK), -1);
}

void ts_kill(struct ts *s)
{
    kill(s->pid, SIGKILL);
    wait_end(s);
    ts_hang_up(s);
}

struct nbd_handle *ts_tcp(struct ts *s, const char *export, const char *key)
{
    struct nbd_handle *h = nbd_create();
    char port[8];

    assert_non_null(h);
    snprintf(port, sizeof(port), "%d", s->port);
    nbd_set_export_name(h, export);
    if (key) {
        nbd_set_tls(h, LIBNBD_TLS_REQUIRE);
        nbd_set_tls_psk_file(h, key);
        nbd_set_tls_username(h, "qemu");
    }
    if (nbd_connect_tcp(h, "127.0.0.1", port) == 0)
        return h;
    nbd_close(h);
    return NULL;
}

struct nbd_handle *ts_unix(struct ts *s, const char *export)
{
    struct nbd_handle *h = nbd_create();

    assert_non_null(h);
    nbd_set_export_name(h, export);
    nbd_add_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION);
    if (nbd_connect_unix(h, s->secondary) == 0)
        return h;
    nbd_close(h);
    return NULL;
}

struct nbd_handle *ts_primary(struct ts *s)
{
    return ts_tcp(s, "primary", s->key);
}

struct nbd_handle *ts_secondary(struct ts *s)
{
    return ts_unix(s, "secondary");
}

int ts_command(struct ts *s, const char *command)
{
    char text[512];
    int r;

    snprintf(text, sizeof(text), PROGRAM " %s --state-dir=%s %s >%s/out 2>&1", command, s->td.state,
             s->td.path, s->td.folder);
    r = system(text);
    return WIFEXITED(r) ? WEXITSTATUS(r) : -1;
}
