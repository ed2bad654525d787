/* SPDX-License-Identifier: GPL-2.0-only */
/* The control socket, in a thread of its own: lines in, lines out, nobody can block us. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "disk.h"

/* ---- sockets ---- */

int disk_listen_unix(const char *path, int *out, struct colo_err *err)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    *out = -1;
    if (fd < 0)
        return colo_fail_errno(err, errno, "a socket");
    if (strlen(path) >= sizeof(sun.sun_path)) {
        colo_fail(err, COLO_ERR_LOCAL, NULL, "the path %s is too long for a socket", path);
        goto fail;
    }
    memcpy(sun.sun_path, path, strlen(path));
    if (connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) == 0) {
        colo_fail(err, COLO_ERR_REFUSED, "disk-in-use", "somebody listens at %s already", path);
        goto fail;
    }
    if (errno == ECONNREFUSED)
        unlink(path); /* of one that was killed */
    /* with the mode of the socket before it is bound, nobody else can ever connect */
    if (fchmod(fd, 0600) || bind(fd, (const struct sockaddr *)&sun, sizeof(sun)) ||
        listen(fd, DISK_CLIENTS)) {
        colo_fail_errno(err, errno, "cannot listen at %s", path);
        goto fail;
    }
    *out = fd;
    return 0;
fail:
    close(fd);
    return -1;
}

int disk_server_init(struct disk_server *s, struct colo_disk *disk, colo_time alone,
                     struct colo_err *err)
{
    struct colo_disk_status st;

    memset(s, 0, sizeof(*s));
    s->disk = disk;
    s->listen_fd = -1;
    for (int i = 0; i < DISK_CLIENTS; i++)
        colo_lines_init(&s->client[i].lines);
    s->hold_until = COLO_NO_DEADLINE;
    s->alone_limit = alone ? alone : DISK_ALONE;
    s->alone_at = colo_now() + s->alone_limit;
    colo_disk_get_status(disk, &st);
    s->told = st.state;
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return s->wake_fd < 0 ? colo_fail_errno(err, errno, "an eventfd") : 0;
}

int disk_server_listen(struct disk_server *s, const char *path, struct colo_err *err)
{
    if (disk_listen_unix(path, &s->listen_fd, err))
        return -1;
    s->control_path = strdup(path);
    return s->control_path ? 0 : colo_fail_errno(err, ENOMEM, "%s", path);
}

static void hang_up(struct disk_server *s, struct disk_client *c)
{
    colo_lines_close(&c->lines);
    c->watches = false;
    if (s->holder != c)
        return;
    colo_log("who prepared a checkpoint is gone: cancelled");
    colo_disk_cancel(s->disk);
    s->holder = NULL;
    s->hold_until = COLO_NO_DEADLINE;
}

static void take_client(struct disk_server *s)
{
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct disk_client *c = s->client;

    if (fd < 0)
        return;
    while (c < s->client + DISK_CLIENTS && c->lines.fd >= 0)
        c++;
    if (c == s->client + DISK_CLIENTS) {
        close(fd);
        return;
    }
    (void)colo_lines_open(&c->lines, fd); /* or it is closed */
}

static void serve(struct disk_server *s, struct disk_client *c, short events)
{
    struct disk_asking asking = {.s = s, .c = c};

    if (((events & POLLOUT) && !colo_lines_flush(&c->lines)) ||
        ((events & ~POLLOUT) && !colo_lines_hear(&c->lines, disk_answer, &asking)))
        hang_up(s, c);
}

static void tell(struct disk_server *s)
{
    struct colo_disk_status st;
    bool error;
    char *line;

    colo_disk_get_status(s->disk, &st);
    error = st.error.cls != COLO_OK;
    if (st.state == s->told && error == s->told_error)
        return;
    colo_log("the disk is %s%s%s", colo_disk_state_name(st.state), error ? ": " : "",
             error ? st.error.msg : "");
    if (st.state >= COLO_DISK_TAKEOVER && st.state <= COLO_DISK_STANDALONE && !s->primary_cut) {
        disk_cut(s->port, NULL); /* the primary's host may be without power */
        s->primary_cut = true;
    }
    s->told = st.state;
    s->told_error = error;
    line = disk_event(s, &st);
    for (int i = 0; line && i < DISK_CLIENTS; i++)
        if (s->client[i].lines.fd >= 0 && s->client[i].watches &&
            !colo_lines_say(&s->client[i].lines, line))
            hang_up(s, &s->client[i]);
    free(line);
}

/* ---- when to end ---- */

static bool has_clients(const struct disk_server *s)
{
    for (int i = 0; i < DISK_CLIENTS; i++)
        if (s->client[i].lines.fd >= 0)
            return true;
    return false;
}

/* Who started us was killed, or the guest that took over is gone, and its disk is whole. */
static void maybe_end(struct disk_server *s)
{
    uint32_t guests = __atomic_load_n(&s->guests, __ATOMIC_ACQUIRE);
    colo_time now = colo_now();
    bool folds = s->told == COLO_DISK_TAKEOVER || s->told == COLO_DISK_FOLDING;
    bool taken = folds || s->told == COLO_DISK_STANDALONE;

    if (has_clients(s) || folds || (taken && guests > 0))
        s->alone_at = now + s->alone_limit;
    if (now >= s->alone_at) {
        colo_log("nobody controls this disk any more: ending");
        s->quit = true;
    } else if (s->told == COLO_DISK_STANDALONE && guests == 0 &&
               __atomic_load_n(&s->guests_ever, __ATOMIC_ACQUIRE) > 0) {
        colo_log("the guest is gone, and all is on the disk: ending");
        s->quit = true;
    }
}

static void maybe_let_go(struct disk_server *s)
{
    if (colo_now() < s->hold_until)
        return;
    colo_log("a prepared checkpoint was not committed in time: cancelled");
    colo_disk_cancel(s->disk);
    s->holder = NULL;
    s->hold_until = COLO_NO_DEADLINE;
}

static void pass_time(struct disk_server *s)
{
    maybe_let_go(s);
    tell(s);
    maybe_end(s);
    if (__atomic_load_n(&s->asked, __ATOMIC_ACQUIRE)) {
        colo_log("told to end");
        s->quit = true;
    }
}

/* What serves the exports ends when its last connection does; some may only be beginning. */
static void end(struct disk_server *s)
{
    const struct timespec moment = {.tv_nsec = 50 * 1000 * 1000};

    if (!s->end)
        return;
    s->end();
    while (!__atomic_load_n(&s->ended, __ATOMIC_ACQUIRE)) {
        disk_cut(s->port, s->guest_path);
        nanosleep(&moment, NULL);
    }
}

static void *loop(void *arg)
{
    struct disk_server *s = arg;
    struct pollfd p[DISK_CLIENTS + 2];
    colo_time until;
    uint64_t n;

    while (!s->quit && !__atomic_load_n(&s->ended, __ATOMIC_ACQUIRE)) {
        p[0] = (struct pollfd){.fd = s->wake_fd, .events = POLLIN};
        p[1] = (struct pollfd){.fd = s->listen_fd, .events = POLLIN};
        for (int i = 0; i < DISK_CLIENTS; i++) {
            const struct colo_lines *l = &s->client[i].lines;

            p[i + 2] = (struct pollfd){.fd = l->fd,
                                       .events = (short)(POLLIN | (l->out_len ? POLLOUT : 0))};
        }
        until = s->alone_at < s->hold_until ? s->alone_at : s->hold_until;
        if (poll(p, DISK_CLIENTS + 2, colo_poll_ms(until)) < 0 && errno != EINTR)
            break;
        if (p[0].revents)
            (void)!read(s->wake_fd, &n, sizeof(n));
        for (int i = 0; i < DISK_CLIENTS; i++)
            if (s->client[i].lines.fd >= 0)
                serve(s, &s->client[i], p[i + 2].revents);
        if (p[1].revents)
            take_client(s);
        pass_time(s);
        if (s->told == COLO_DISK_LOCKSTEP && !s->holder)
            colo_disk_tidy(s->disk); /* after the reply */
    }
    end(s);
    return NULL;
}

int disk_server_start(struct disk_server *s, struct colo_err *err)
{
    int r = pthread_create(&s->thread, NULL, loop, s);

    s->runs = r == 0;
    return r ? colo_fail_errno(err, r, "a thread for the control socket") : 0;
}

void disk_server_wake(struct disk_server *s)
{
    const uint64_t one = 1;

    (void)!write(s->wake_fd, &one, sizeof(one));
}

void disk_server_ask_end(struct disk_server *s)
{
    __atomic_store_n(&s->asked, true, __ATOMIC_RELEASE);
    disk_server_wake(s);
}

void disk_server_guest(struct disk_server *s, int change)
{
    __atomic_fetch_add(&s->guests, (uint32_t)change, __ATOMIC_ACQ_REL);
    if (change > 0)
        __atomic_fetch_add(&s->guests_ever, 1, __ATOMIC_ACQ_REL);
    disk_server_wake(s);
}

void disk_server_fini(struct disk_server *s)
{
    if (s->runs) {
        __atomic_store_n(&s->ended, true, __ATOMIC_RELEASE);
        disk_server_wake(s);
        pthread_join(s->thread, NULL);
        s->runs = false;
    }
    for (int i = 0; i < DISK_CLIENTS; i++)
        hang_up(s, &s->client[i]);
    if (s->listen_fd >= 0)
        close(s->listen_fd);
    s->listen_fd = -1;
    if (s->control_path)
        unlink(s->control_path);
    free(s->control_path);
    s->control_path = NULL;
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    s->wake_fd = -1;
}
