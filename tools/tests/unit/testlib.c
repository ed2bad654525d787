/* SPDX-License-Identifier: GPL-2.0-only */
#include "testlib.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- asserts ---- */

void tl_eq_at(uint64_t a, uint64_t b, const char *sa, const char *sb, const char *file, int line)
{
    if (a == b)
        return;
    print_error("%s = %llu (%#llx), but %s = %llu (%#llx)\n", sa, (unsigned long long)a,
                (unsigned long long)a, sb, (unsigned long long)b, (unsigned long long)b);
    _fail(file, line);
}

void tl_has_at(const char *text, const char *needle, const char *file, int line)
{
    if (strstr(text, needle))
        return;
    print_error("\"%s\" does not contain \"%s\"\n", text, needle);
    _fail(file, line);
}

void tl_ok_at(int rc, const struct colo_err *e, const char *what, const char *file, int line)
{
    if (rc == 0)
        return;
    print_error("%s = %d: %s [%s]\n", what, rc, e->msg, e->reason);
    _fail(file, line);
}

void tl_fails_at(int rc, struct colo_err *e, enum colo_err_class cls, const char *what,
                 const char *file, int line)
{
    if (rc != -1 || e->cls != cls || !e->reason[0] || !e->msg[0]) {
        print_error("%s = %d: class %s, expected %s; reason \"%s\", message \"%s\"\n", what, rc,
                    colo_err_class_name(e->cls), colo_err_class_name(cls), e->reason, e->msg);
        _fail(file, line);
    }
    colo_err_clear(e);
}

colo_time tl_soon(void)
{
    return colo_now() + 60000 * COLO_MS;
}

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "testlib: %s: %s\n", what, strerror(errno));
        abort();
    }
}

/* ---- numbers that look random ---- */

uint64_t tl_rand(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 32;
}

uint64_t tl_below(uint64_t *state, uint64_t limit)
{
    return tl_rand(state) % limit;
}

void tl_fill(uint64_t *state, void *buf, size_t len)
{
    unsigned char *p = buf;

    for (size_t i = 0; i < len; i++)
        p[i] = (unsigned char)(tl_rand(state) >> 24);
}

/* ---- a link between two sockets ---- */

struct way { /* one direction: what comes from `from` goes to `to` */
    int from, to;
    struct tl_rule rule;
    uint64_t done; /* bytes delivered or swallowed */
    unsigned char buf[16384];
    size_t head, tail;
    bool ended; /* from has ended, and `to` has been told */
};

struct tl_link {
    int ends[2];
    int wake;
    pthread_t thread;
    pthread_mutex_t lock; /* of everything below */
    pthread_cond_t moved;
    bool quit, cut, released;
    struct way way[2];
};

void tl_socketpair(int fds[2], int small)
{
    int size = 4096;

    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0, "socketpair");
    for (int i = 0; small && i < 2; i++)
        must(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0, "SO_SNDBUF");
}

/* How many of the buffered bytes may go out now. */
static size_t may_send(const struct tl_link *l, const struct way *w)
{
    size_t n = w->tail - w->head;

    if (w->rule.chunk && n > w->rule.chunk)
        n = w->rule.chunk;
    if (!l->released && w->rule.hold_at != TL_NEVER && n > w->rule.hold_at - w->done)
        n = (size_t)(w->rule.hold_at - w->done);
    if (w->rule.cut_at != TL_NEVER && n > w->rule.cut_at - w->done)
        n = (size_t)(w->rule.cut_at - w->done);
    if (w->rule.hole_at != TL_NEVER && w->done < w->rule.hole_at && n > w->rule.hole_at - w->done)
        n = (size_t)(w->rule.hole_at - w->done);
    return n;
}

static void send_some(struct tl_link *l, struct way *w)
{
    size_t n = may_send(l, w);
    ssize_t r = (ssize_t)n;

    if (n == 0)
        return;
    if (w->rule.flip_at - w->done < n) {
        w->buf[w->head + (w->rule.flip_at - w->done)] ^= w->rule.flip;
        w->rule.flip_at = TL_NEVER;
    }
    if (w->done < w->rule.hole_at)
        r = send(w->to, w->buf + w->head, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (r < 0 && errno != EAGAIN)
        w->head = w->tail = 0; /* nobody reads any more */
    if (r <= 0)
        return;
    w->head += (size_t)r;
    w->done += (uint64_t)r;
    pthread_cond_broadcast(&l->moved);
}

static void take_some(struct way *w)
{
    ssize_t r;

    if (w->ended || w->head != w->tail)
        return;
    r = recv(w->from, w->buf, sizeof(w->buf), MSG_DONTWAIT);
    if (r < 0 && errno == EAGAIN)
        return;
    w->head = 0;
    w->tail = r > 0 ? (size_t)r : 0;
    if (r <= 0) {
        shutdown(w->to, SHUT_WR);
        w->ended = true;
    }
}

static void cut_now(struct tl_link *l)
{
    shutdown(l->way[0].from, SHUT_RDWR);
    shutdown(l->way[1].from, SHUT_RDWR);
    l->cut = true;
}

static void *relay(void *priv)
{
    struct tl_link *l = priv;
    struct pollfd fds[5];

    pthread_mutex_lock(&l->lock);
    while (!l->quit) {
        fds[0] = (struct pollfd){.fd = l->wake, .events = POLLIN};
        for (int i = 0; i < 2; i++) {
            struct way *w = &l->way[i];
            bool empty = w->head == w->tail;

            if (!l->cut && w->done >= w->rule.cut_at)
                cut_now(l);
            fds[1 + i] = (struct pollfd){.fd = empty && !w->ended && !l->cut ? w->from : -1,
                                         .events = POLLIN};
            fds[3 + i] =
                (struct pollfd){.fd = may_send(l, w) && !l->cut ? w->to : -1, .events = POLLOUT};
        }
        pthread_mutex_unlock(&l->lock);
        poll(fds, 5, -1);
        pthread_mutex_lock(&l->lock);
        if (fds[0].revents) {
            eventfd_t v;

            eventfd_read(l->wake, &v);
        }
        for (int i = 0; i < 2 && !l->cut; i++) {
            if (fds[1 + i].revents)
                take_some(&l->way[i]);
            if (fds[3 + i].revents)
                send_some(l, &l->way[i]);
        }
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

struct tl_link *tl_link_open(const struct tl_rule *rule0, const struct tl_rule *rule1)
{
    const struct tl_rule perfect = TL_PERFECT;
    struct tl_link *l = calloc(1, sizeof(*l));
    int a[2], b[2];

    must(l != NULL, "calloc");
    tl_socketpair(a, 0);
    tl_socketpair(b, 0);
    l->ends[0] = a[0];
    l->ends[1] = b[0];
    l->way[0].from = l->way[1].to = a[1];
    l->way[1].from = l->way[0].to = b[1];
    l->way[0].rule = rule0 ? *rule0 : perfect;
    l->way[1].rule = rule1 ? *rule1 : perfect;
    l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    must(l->wake >= 0, "eventfd");
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->moved, NULL);
    must(pthread_create(&l->thread, NULL, relay, l) == 0, "pthread_create");
    return l;
}

int tl_link_fd(struct tl_link *l, int end)
{
    return l->ends[end];
}

static void tell(struct tl_link *l, bool *what)
{
    pthread_mutex_lock(&l->lock);
    *what = true;
    pthread_mutex_unlock(&l->lock);
    eventfd_write(l->wake, 1);
}

void tl_link_release(struct tl_link *l)
{
    tell(l, &l->released);
}

void tl_link_cut(struct tl_link *l)
{
    pthread_mutex_lock(&l->lock);
    cut_now(l);
    pthread_mutex_unlock(&l->lock);
    eventfd_write(l->wake, 1);
}

uint64_t tl_link_count(struct tl_link *l, int end)
{
    uint64_t n;

    pthread_mutex_lock(&l->lock);
    n = l->way[end].done;
    pthread_mutex_unlock(&l->lock);
    return n;
}

void tl_link_wait(struct tl_link *l, int end, uint64_t n)
{
    pthread_mutex_lock(&l->lock);
    while (l->way[end].done < n)
        pthread_cond_wait(&l->moved, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

void tl_link_close(struct tl_link *l)
{
    tell(l, &l->quit);
    pthread_join(l->thread, NULL);
    close(l->ends[0]);
    close(l->ends[1]);
    close(l->way[0].from);
    close(l->way[1].from);
    close(l->wake);
    pthread_cond_destroy(&l->moved);
    pthread_mutex_destroy(&l->lock);
    free(l);
}
