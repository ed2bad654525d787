/* SPDX-License-Identifier: GPL-2.0-only */
/* All sockets in one poll loop: TCP echo, HTTP and control, UDP echo, and the serial port. */
#define _GNU_SOURCE
#include "conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CONNS    512
#define ECHO_PORT    7
#define HTTP_PORT    80
#define CONTROL_PORT 9999

static const uint16_t ports[] = {[ECHO] = ECHO_PORT, [HTTP] = HTTP_PORT, [CONTROL] = CONTROL_PORT};
static int listeners[3], udp = -1;
static struct conn *conns[MAX_CONNS];
static size_t nconns;
static int button = -1;

size_t conn_room(const struct conn *c)
{
    return sizeof(c->out) - c->out_len;
}

void conn_put(struct conn *c, const void *data, size_t len)
{
    if (len > conn_room(c)) {
        c->closing = true;
        return;
    }
    memcpy(c->out + c->out_len, data, len);
    c->out_len += len;
}

void conn_print(struct conn *c, const char *fmt, ...)
{
    char text[ANSWER_MAX + 2];
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    conn_put(c, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

void conn_eat(struct conn *c, size_t len)
{
    memmove(c->in, c->in + len, c->in_len - len);
    c->in_len -= len;
}

static int bound(int type, uint16_t port)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int one = 1, zero = 0, fd = socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
    if (bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0 ||
        (type == SOCK_STREAM && listen(fd, 128) < 0)) {
        say("cannot serve port %u", port);
        close(fd);
        return -1;
    }
    return fd;
}

void server_init(void)
{
    for (int kind = ECHO; kind <= CONTROL; kind++)
        listeners[kind] = bound(SOCK_STREAM, ports[kind]);
    udp = bound(SOCK_DGRAM, ECHO_PORT);
    button = power_open();
}

static void greet(enum kind kind)
{
    for (;;) {
        int one = 1, fd = accept4(listeners[kind], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct conn *c;

        if (fd < 0)
            return;
        c = nconns < MAX_CONNS ? calloc(1, sizeof(*c)) : NULL;
        if (!c) {
            close(fd);
            return;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        c->fd = fd;
        c->kind = kind;
        conns[nconns++] = c;
    }
}

static void echo_datagrams(void)
{
    char data[65536];
    struct sockaddr_in6 from;
    socklen_t len;
    ssize_t n;

    for (len = sizeof(from); (n = recvfrom(udp, data, sizeof(data), 0, (void *)&from, &len)) >= 0;
         len = sizeof(from))
        if (sendto(udp, data, (size_t)n, 0, (void *)&from, len) < 0)
            return;
}

/* One answer a line, in order; an answer must fit, or its line waits. */
static void control_input(struct conn *c)
{
    char *end;

    while (conn_room(c) > ANSWER_MAX && (end = memchr(c->in, '\n', c->in_len)) != NULL) {
        char answer[ANSWER_MAX];
        size_t len = (size_t)(end - c->in);

        *end = 0;
        if (len && end[-1] == '\r')
            end[-1] = 0;
        control(c->in, answer);
        conn_print(c, "%s\n", answer);
        conn_eat(c, len + 1);
    }
    if (c->in_len == sizeof(c->in))
        c->closing = true; /* no newline in all that */
}

static void digest(struct conn *c)
{
    size_t n;

    switch (c->kind) {
    case ECHO:
        n = c->in_len < conn_room(c) ? c->in_len : conn_room(c);
        conn_put(c, c->in, n);
        conn_eat(c, n);
        break;
    case HTTP:
        http_input(c);
        break;
    case CONTROL:
        control_input(c);
        break;
    }
}

/* Returns false when the connection is done with. */
static bool turn(struct conn *c, short events)
{
    ssize_t n;

    if (events & POLLERR)
        return false;
    if ((events & (POLLIN | POLLHUP)) && !c->eof && c->in_len < sizeof(c->in)) {
        n = read(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len);
        if (n < 0 && errno != EAGAIN)
            return false;
        c->eof = n == 0;
        if (n > 0)
            c->in_len += (size_t)n;
    }
    for (;;) {
        if (!c->closing)
            digest(c);
        if (c->out_pos == c->out_len)
            break;
        n = write(c->fd, c->out + c->out_pos, c->out_len - c->out_pos);
        if (n < 0)
            return errno == EAGAIN;
        c->out_pos += (size_t)n;
        if (c->out_pos < c->out_len)
            return true;
        c->out_pos = c->out_len = 0;
    }
    return !c->closing && !c->eof;
}

static void serial_input(int fd)
{
    static char line[1024];
    static size_t len;
    char data[256], answer[ANSWER_MAX];
    ssize_t n;

    while ((n = read(fd, data, sizeof(data))) > 0)
        for (ssize_t i = 0; i < n; i++) {
            if (data[i] != '\n' && data[i] != '\r') {
                if (len < sizeof(line) - 1)
                    line[len++] = data[i];
            } else if (len) {
                line[len] = 0;
                len = 0;
                control(line, answer);
                say("%s", answer);
            }
        }
}

void server_run(int serial, int timeout_ms)
{
    struct pollfd set[MAX_CONNS + 6];
    size_t first = 6, had = nconns, kept = 0;

    for (int kind = ECHO; kind <= CONTROL; kind++)
        set[kind] = (struct pollfd){.fd = listeners[kind], .events = POLLIN};
    set[3] = (struct pollfd){.fd = udp, .events = POLLIN};
    set[4] = (struct pollfd){.fd = serial, .events = POLLIN};
    set[5] = (struct pollfd){.fd = button, .events = POLLIN};
    for (size_t i = 0; i < had; i++) {
        struct conn *c = conns[i];

        set[first + i] = (struct pollfd){.fd = c->fd};
        if (!c->eof && c->in_len < sizeof(c->in))
            set[first + i].events |= POLLIN;
        if (c->out_pos < c->out_len)
            set[first + i].events |= POLLOUT;
    }
    if (poll(set, first + had, timeout_ms) < 0)
        return;
    if (set[4].revents)
        serial_input(serial);
    if (set[5].revents)
        power_input(button);
    if (set[3].revents)
        echo_datagrams();
    for (size_t i = 0; i < had; i++) {
        struct conn *c = conns[i];

        bool due = set[first + i].revents || (c->slow && c->state == REPLY);

        if (!due || turn(c, set[first + i].revents)) {
            conns[kept++] = c;
        } else {
            close(c->fd);
            free(c);
        }
    }
    nconns = kept;
    for (int kind = ECHO; kind <= CONTROL; kind++)
        if (set[kind].revents)
            greet((enum kind)kind);
}
