/* SPDX-License-Identifier: GPL-2.0-only */
/* The control socket: lines in, lines out, nobody can block us. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proxy_daemon.h"

int proxy_control_listen(struct proxy_daemon *d, struct colo_err *err)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    mode_t old;
    int r;

    if (strlen(d->control_path) >= sizeof(sun.sun_path))
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "the path %s is too long for a socket",
                         d->control_path);
    memcpy(sun.sun_path, d->control_path, strlen(d->control_path));
    d->control_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (d->control_fd < 0)
        return colo_fail_errno(err, errno, "a control socket");
    unlink(d->control_path);
    old = umask(077);
    r = bind(d->control_fd, (const struct sockaddr *)&sun, sizeof(sun));
    umask(old);
    if (r || listen(d->control_fd, PROXY_CLIENTS))
        return colo_fail_errno(err, errno, "the control socket %s", d->control_path);
    return proxy_watch(d, d->control_fd, WATCH_CONTROL, 0, EPOLLIN, err);
}

void proxy_control_close(struct proxy_client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    free(c->in);
    free(c->out);
    memset(c, 0, sizeof(*c));
    c->fd = -1;
}

void proxy_control_accept(struct proxy_daemon *d)
{
    int fd = accept4(d->control_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct proxy_client *c = d->client;

    if (fd < 0)
        return;
    while (c < d->client + PROXY_CLIENTS && c->fd >= 0)
        c++;
    if (c == d->client + PROXY_CLIENTS) {
        close(fd);
        return;
    }
    c->fd = fd;
    c->in = malloc(PROXY_LINE_MAX);
    if (!c->in || proxy_watch(d, fd, WATCH_CLIENT, (uint32_t)(c - d->client), EPOLLIN, NULL))
        proxy_control_close(c);
}

/* False: the client is gone. */
static bool flush(struct proxy_daemon *d, struct proxy_client *c)
{
    ssize_t n;

    while (c->out_len > 0) {
        n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            proxy_control_close(c);
            return false;
        }
        memmove(c->out, c->out + n, c->out_len - (size_t)n);
        c->out_len -= (uint32_t)n;
    }
    proxy_watch(d, c->fd, WATCH_CLIENT, (uint32_t)(c - d->client),
                EPOLLIN | (c->out_len ? EPOLLOUT : 0), NULL);
    return true;
}

/* A client that does not read is cut off. */
static bool say(struct proxy_daemon *d, struct proxy_client *c, const char *line)
{
    size_t len = strlen(line);
    char *larger = NULL;

    if (c->out_len + len + 1 <= PROXY_REPLY_MAX)
        larger = realloc(c->out, c->out_len + len + 1);
    if (!larger) {
        proxy_control_close(c);
        return false;
    }
    c->out = larger;
    memcpy(c->out + c->out_len, line, len);
    c->out[c->out_len + len] = '\n';
    c->out_len += (uint32_t)len + 1;
    return flush(d, c);
}

/* All whole lines that are here. */
static bool serve(struct proxy_daemon *d, struct proxy_client *c)
{
    char *end, *reply;
    bool there;
    size_t len;

    while ((end = memchr(c->in, '\n', c->in_len))) {
        len = (size_t)(end - c->in);
        reply = proxy_request(d, c, c->in, len);
        there = reply && say(d, c, reply);
        free(reply);
        if (!there) {
            proxy_control_close(c);
            return false;
        }
        c->in_len -= (uint32_t)len + 1;
        memmove(c->in, end + 1, c->in_len);
    }
    return true;
}

void proxy_control_ready(struct proxy_daemon *d, struct proxy_client *c, uint32_t events)
{
    ssize_t n;

    if ((events & EPOLLOUT) && !flush(d, c))
        return;
    for (;;) {
        n = recv(c->fd, c->in + c->in_len, PROXY_LINE_MAX - c->in_len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n > 0) {
            c->in_len += (uint32_t)n;
            if (!serve(d, c))
                return;
        }
        if (n <= 0 || c->in_len == PROXY_LINE_MAX) {
            proxy_control_close(c);
            return;
        }
    }
}

void proxy_control_event(struct proxy_daemon *d, char *line)
{
    for (uint32_t i = 0; line && i < PROXY_CLIENTS; i++)
        if (d->client[i].fd >= 0 && d->client[i].watches)
            say(d, &d->client[i], line);
    free(line);
}
