/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The control socket, the answering side: no client, slow, silent or mad, can make it wait.
 */
#include "libxl_colo_control.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxl_colo_control_priv.h"

#define CLIENTS     16
#define REQUEST_MAX 512

struct client {
    int fd;          /* -1 = free */
    uint64_t serial; /* the oldest gives way when all are taken */
    char in[REQUEST_MAX];
    size_t in_len;
    char *out; /* what the socket had no room for */
    size_t out_len, out_sent;
    bool last; /* close when out has gone */
};

struct colo_control_server {
    int epfd, listen_fd;
    struct sockaddr_un sun; /* sun_path "" = withdrawn */
    dev_t dev;
    ino_t ino;
    colo_control_handler *handler;
    void *priv;
    uint64_t serial;
    struct client clients[CLIENTS];
};

static int bind_and_listen(int fd, uint32_t domid, const struct sockaddr_un *sun,
                           struct colo_err *err)
{
    struct sockaddr_un before = {.sun_family = AF_UNIX};
    struct colo_err why = {0};
    int other;

    if (!colo_control_connect(domid, &other, &why)) {
        close(other);
        return colo_fail(err, COLO_ERR_REFUSED, "already-protected",
                         "another session has domain %" PRIu32, domid);
    }
    if (strcmp(why.reason, "not-protected") != 0) {
        *err = why;
        return -1;
    }
    /* Under its own name only when it listens: until then it would look like a stale one, which
     * colo_control_list removes.  That of a monitor that was killed is replaced. */
    snprintf(before.sun_path, sizeof(before.sun_path), "%.90s.new", sun->sun_path);
    unlink(before.sun_path);
    if (fchmod(fd, 0600) || bind(fd, (const struct sockaddr *)&before, sizeof(before)) ||
        listen(fd, CLIENTS) || rename(before.sun_path, sun->sun_path)) {
        colo_fail_errno(err, errno, "cannot listen on %s", sun->sun_path);
        unlink(before.sun_path);
        return -1;
    }
    return 0;
}

/* On failure s still has the socket that it had. */
static int open_listener(struct colo_control_server *s, uint32_t domid, struct colo_err *err)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    struct sockaddr_un sun;
    struct stat st;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return colo_fail_errno(err, errno, "cannot make a socket");
    colo_control_address(domid, &sun);
    if (bind_and_listen(fd, domid, &sun, err))
        goto fail;
    if (lstat(sun.sun_path, &st) || epoll_ctl(s->epfd, EPOLL_CTL_ADD, fd, &ev)) {
        colo_fail_errno(err, errno, "cannot serve %s", sun.sun_path);
        unlink(sun.sun_path);
        goto fail;
    }
    colo_control_withdraw(s);
    s->listen_fd = fd;
    s->sun = sun;
    s->dev = st.st_dev;
    s->ino = st.st_ino;
    return 0;
fail:
    close(fd);
    return -1;
}

int colo_control_new(colo_control_handler *h, void *priv, struct colo_control_server **out,
                     struct colo_err *err)
{
    struct colo_control_server *s = calloc(1, sizeof(*s));
    int i;

    *out = NULL;
    if (!s)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "out of memory");
    s->listen_fd = -1;
    s->handler = h;
    s->priv = priv;
    for (i = 0; i < CLIENTS; i++)
        s->clients[i].fd = -1;
    s->epfd = epoll_create1(EPOLL_CLOEXEC);
    if (s->epfd < 0) {
        colo_fail_errno(err, errno, "cannot serve the control socket");
        colo_control_close(s);
        return -1;
    }
    *out = s;
    return 0;
}

int colo_control_listen(uint32_t domid, colo_control_handler *h, void *priv,
                        struct colo_control_server **out, struct colo_err *err)
{
    struct colo_control_server *s;

    *out = NULL;
    if (colo_control_new(h, priv, &s, err))
        return -1;
    if (open_listener(s, domid, err)) {
        colo_control_close(s);
        return -1;
    }
    *out = s;
    return 0;
}

int colo_control_fd(struct colo_control_server *s)
{
    return s->epfd;
}

int colo_control_rename(struct colo_control_server *s, uint32_t domid, struct colo_err *err)
{
    return open_listener(s, domid, err);
}

void colo_control_withdraw(struct colo_control_server *s)
{
    struct stat st;

    if (!s || s->listen_fd < 0)
        return;
    /* By now the name may be somebody else's. */
    if (!lstat(s->sun.sun_path, &st) && st.st_dev == s->dev && st.st_ino == s->ino)
        unlink(s->sun.sun_path);
    close(s->listen_fd);
    s->listen_fd = -1;
}

static void drop(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    free(c->out);
    memset(c, 0, sizeof(*c));
    c->fd = -1;
}

void colo_control_close(struct colo_control_server *s)
{
    int i;

    if (!s)
        return;
    colo_control_withdraw(s);
    for (i = 0; i < CLIENTS; i++)
        drop(&s->clients[i]);
    if (s->epfd >= 0)
        close(s->epfd);
    free(s);
}

void colo_control_add(struct colo_control_server *s, int fd)
{
    struct client *c = &s->clients[0];
    struct epoll_event ev = {.events = EPOLLIN};
    int i;

    for (i = 0; i < CLIENTS; i++) {
        if (s->clients[i].fd < 0) {
            c = &s->clients[i];
            break;
        }
        if (s->clients[i].serial < c->serial)
            c = &s->clients[i];
    }
    drop(c);
    c->serial = ++s->serial;
    ev.data.ptr = c;
    if (epoll_ctl(s->epfd, EPOLL_CTL_ADD, fd, &ev))
        close(fd);
    else
        c->fd = fd;
}

static void accept_client(struct colo_control_server *s)
{
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd >= 0)
        colo_control_add(s, fd);
}

/* What the client waits for: our reading, or room for what we have to say. */
static void rearm(struct colo_control_server *s, struct client *c)
{
    struct epoll_event ev = {.events = c->out ? EPOLLOUT : EPOLLIN, .data.ptr = c};

    if (epoll_ctl(s->epfd, EPOLL_CTL_MOD, c->fd, &ev))
        drop(c);
}

static void flush(struct colo_control_server *s, struct client *c)
{
    ssize_t r;

    while (c->out_sent < c->out_len) {
        r = send(c->fd, c->out + c->out_sent, c->out_len - c->out_sent,
                 MSG_NOSIGNAL | MSG_DONTWAIT);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0 && errno == EAGAIN) {
            rearm(s, c);
            return;
        }
        if (r < 0) {
            drop(c);
            return;
        }
        c->out_sent += (size_t)r;
    }
    free(c->out);
    c->out = NULL;
    c->out_len = c->out_sent = 0;
    if (c->last)
        drop(c);
    else
        rearm(s, c);
}

/* Takes text. */
static void answer(struct colo_control_server *s, struct client *c, char *text)
{
    static const char failed[] = "{\"error\":{\"reason\":\"local\",\"message\":\"out of memory\"}}";
    char *line = NULL;
    size_t len;

    if (!text)
        text = strdup(failed);
    if (text) {
        len = strlen(text);
        line = realloc(text, len + 2);
        if (!line)
            free(text);
    }
    if (!line) {
        drop(c);
        return;
    }
    line[len] = '\n';
    line[len + 1] = '\0';
    c->out = line;
    c->out_len = len + 1;
    c->out_sent = 0;
    flush(s, c);
}

static void refuse(struct colo_control_server *s, struct client *c, const char *message)
{
    struct colo_json_gen *g = colo_json_gen_new(false);
    char *text = NULL;

    if (g) {
        colo_json_open(g, NULL);
        colo_json_open(g, "error");
        colo_json_put_str(g, "reason", "bad-request");
        colo_json_put_str(g, "message", message);
        colo_json_close(g);
        colo_json_close(g);
        text = colo_json_gen_finish(g);
    }
    c->last = true;
    answer(s, c, text);
}

static void handle_line(struct colo_control_server *s, struct client *c, const char *line,
                        size_t len)
{
    struct colo_json *request;
    const char *command;
    struct colo_err err;

    if (colo_json_parse(line, len, &request, &err)) {
        refuse(s, c, "a request is one JSON object on one line");
        return;
    }
    command = colo_json_get_str(request, "command");
    if (command)
        answer(s, c, s->handler(s->priv, command));
    else
        refuse(s, c, "a request has a member \"command\" that is a string");
    colo_json_free(request);
}

static void take_requests(struct colo_control_server *s, struct client *c)
{
    char line[REQUEST_MAX];
    size_t len;
    char *end;

    while (c->fd >= 0 && !c->out && (end = memchr(c->in, '\n', c->in_len))) {
        len = (size_t)(end - c->in);
        memcpy(line, c->in, len);
        c->in_len -= len + 1;
        memmove(c->in, end + 1, c->in_len);
        handle_line(s, c, line, len);
    }
    if (c->fd >= 0 && !c->out && c->in_len == sizeof(c->in))
        refuse(s, c, "the request is too long");
}

static void serve_client(struct colo_control_server *s, struct client *c, uint32_t events)
{
    ssize_t r;

    if (c->out) {
        if (events & (EPOLLERR | EPOLLHUP))
            drop(c);
        else if (events & EPOLLOUT)
            flush(s, c);
        if (c->fd >= 0 && !c->out)
            take_requests(s, c); /* that came in with the first one */
        return;
    }
    r = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);
    if (r > 0) {
        c->in_len += (size_t)r;
        take_requests(s, c);
    } else if (r == 0 || (errno != EAGAIN && errno != EINTR)) {
        drop(c);
    }
}

void colo_control_serve(struct colo_control_server *s)
{
    struct epoll_event ev;

    /* One at a time: a client that was dropped, or a listener that was withdrawn, while another
     * event was handled has no event left over. */
    while (epoll_wait(s->epfd, &ev, 1, 0) == 1) {
        if (ev.data.ptr)
            serve_client(s, ev.data.ptr, ev.events);
        else if (s->listen_fd >= 0)
            accept_client(s);
    }
}
