/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fakeqmp.h"

#define COMMAND_MAX ((size_t)1 << 20)

struct fakeqmp {
    int fd;
    pthread_t thread;
    fakeqmp_handler *handler;
    void *priv;
    struct fakeqmp_manners manners;
    int64_t id;
    size_t sent;
    bool closed;
};

static void hang_up(struct fakeqmp *f)
{
    if (!f->closed)
        shutdown(f->fd, SHUT_RDWR);
    f->closed = true;
}

bool fakeqmp_send(struct fakeqmp *f, const char *text, size_t len)
{
    size_t n;
    ssize_t r;

    while (len > 0 && !f->closed) {
        n = len;
        if (f->manners.chunk && n > f->manners.chunk)
            n = f->manners.chunk;
        if (f->manners.cut_after && n > f->manners.cut_after - f->sent)
            n = f->manners.cut_after - f->sent;
        r = n ? send(f->fd, text, n, MSG_NOSIGNAL) : -1;
        if (r < 0 && n && errno == EINTR)
            continue;
        if (r < 0) {
            hang_up(f);
            break;
        }
        f->sent += (size_t)r;
        text += r;
        len -= (size_t)r;
        if (f->manners.cut_after && f->sent == f->manners.cut_after)
            hang_up(f);
    }
    return !f->closed;
}

static bool send_text(struct fakeqmp *f, char *text, int len)
{
    bool ok;

    if (len < 0)
        abort();
    ok = fakeqmp_send(f, text, (size_t)len);
    free(text);
    return ok;
}

bool fakeqmp_return(struct fakeqmp *f, const char *json)
{
    char *text;
    int len = asprintf(&text, "{\"return\": %s, \"id\": %lld}\r\n", json, (long long)f->id);

    return send_text(f, text, len);
}

bool fakeqmp_error(struct fakeqmp *f, const char *desc)
{
    char *text;
    int len = asprintf(
        &text, "{\"id\": %lld, \"error\": {\"class\": \"GenericError\", \"desc\": \"%s\"}}\r\n",
        (long long)f->id, desc);

    return send_text(f, text, len);
}

bool fakeqmp_event(struct fakeqmp *f, const char *name, const char *data)
{
    char *text;
    int len = asprintf(&text,
                       "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"%s\", "
                       "\"data\": %s}\r\n",
                       name, data);

    return send_text(f, text, len);
}

int64_t fakeqmp_id(const struct fakeqmp *f)
{
    return f->id;
}

size_t fakeqmp_sent(const struct fakeqmp *f)
{
    return f->sent;
}

static bool handle_line(struct fakeqmp *f, const char *line, size_t len)
{
    struct colo_json *cmd;
    const char *name;
    bool ok;

    if (colo_json_parse(line, len, &cmd, NULL) < 0)
        return fakeqmp_send(f, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"bad\"}}\r\n",
                            54);
    name = colo_json_get_str(cmd, "execute");
    if (!name)
        name = colo_json_get_str(cmd, "exec-oob");
    f->id = colo_json_get_int(cmd, "id", 0);
    if (!name)
        ok = fakeqmp_error(f, "no command");
    else if (!strcmp(name, "qmp_capabilities"))
        ok = fakeqmp_return(f, "{}");
    else
        ok = f->handler(f, name, colo_json_get(cmd, "arguments"), f->priv);
    colo_json_free(cmd);
    return ok;
}

/* The whole lines of what has come in; what is left of it moves to the front. */
static bool handle_lines(struct fakeqmp *f, char *buf, size_t *have)
{
    char *line = buf, *end;
    bool ok = true;

    while (ok && !f->closed && (end = memchr(line, '\n', *have - (size_t)(line - buf)))) {
        if (!f->manners.silent)
            ok = handle_line(f, line, (size_t)(end - line));
        line = end + 1;
    }
    *have -= (size_t)(line - buf);
    memmove(buf, line, *have);
    return ok;
}

/* By read: the thread sanitizer does not see that stdio's comes after the client's send. */
static void *serve(void *arg)
{
    struct fakeqmp *f = arg;
    char *buf = malloc(COMMAND_MAX);
    size_t have = 0;
    ssize_t r;

    if (!buf)
        abort();
    if (f->manners.silent || fakeqmp_send(f, FAKEQMP_GREETING, strlen(FAKEQMP_GREETING))) {
        while (!f->closed && (r = read(f->fd, buf + have, COMMAND_MAX - have)) > 0) {
            have += (size_t)r;
            if (!handle_lines(f, buf, &have))
                break;
        }
    }
    hang_up(f);
    free(buf);
    return NULL;
}

struct fakeqmp *fakeqmp_start(fakeqmp_handler *handler, void *priv,
                              const struct fakeqmp_manners *manners, int *fd)
{
    struct fakeqmp *f = calloc(1, sizeof(*f));
    int sv[2];

    if (!f || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
        abort();
    f->fd = sv[0];
    f->handler = handler;
    f->priv = priv;
    if (manners)
        f->manners = *manners;
    if (pthread_create(&f->thread, NULL, serve, f) != 0)
        abort();
    *fd = sv[1];
    return f;
}

void fakeqmp_stop(struct fakeqmp *f)
{
    pthread_join(f->thread, NULL);
    close(f->fd);
    free(f);
}
