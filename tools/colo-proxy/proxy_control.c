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
    colo_lines_close(&c->lines);
    c->watches = false;
}

void proxy_control_accept(struct proxy_daemon *d)
{
    int fd = accept4(d->control_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct proxy_client *c = d->client;

    if (fd < 0)
        return;
    while (c < d->client + PROXY_CLIENTS && c->lines.fd >= 0)
        c++;
    if (c == d->client + PROXY_CLIENTS) {
        close(fd);
        return;
    }
    if (colo_lines_open(&c->lines, fd) ||
        proxy_watch(d, fd, WATCH_CLIENT, (uint32_t)(c - d->client), EPOLLIN, NULL))
        proxy_control_close(c);
}

/* What is to become of a client: closed when it is gone, else waited for. */
static void settle(struct proxy_daemon *d, struct proxy_client *c, bool there)
{
    if (there)
        proxy_watch(d, c->lines.fd, WATCH_CLIENT, (uint32_t)(c - d->client),
                    EPOLLIN | (c->lines.out_len ? EPOLLOUT : 0), NULL);
    else
        proxy_control_close(c);
}

void proxy_control_ready(struct proxy_daemon *d, struct proxy_client *c, uint32_t events)
{
    struct proxy_asking asking = {.d = d, .c = c};
    bool there = !(events & EPOLLOUT) || colo_lines_flush(&c->lines);

    settle(d, c, there && colo_lines_hear(&c->lines, proxy_answer, &asking));
}

void proxy_control_event(struct proxy_daemon *d, char *line)
{
    for (uint32_t i = 0; line && i < PROXY_CLIENTS; i++)
        if (d->client[i].lines.fd >= 0 && d->client[i].watches)
            settle(d, &d->client[i], colo_lines_say(&d->client[i].lines, line));
    free(line);
}
