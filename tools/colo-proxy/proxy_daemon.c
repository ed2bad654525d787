/* SPDX-License-Identifier: GPL-2.0-only */
/* One loop; what is ready is looked at, then time is let pass, then what has come of it goes out. */
#include "proxy_daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS       64
#define ASIDE_PERIOD (1000 * COLO_MS)
#define ALONE_LIMIT  (30 * 1000 * COLO_MS)

int proxy_watch(struct proxy_daemon *d, int fd, enum proxy_watch what, uint32_t index,
                uint32_t events, struct colo_err *err)
{
    struct epoll_event ev = {.events = events, .data.u64 = (uint64_t)what << 32 | index};

    if (epoll_ctl(d->epoll_fd, EPOLL_CTL_MOD, fd, &ev) == 0)
        return 0;
    if (errno == ENOENT && epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0)
        return 0;
    return colo_fail_errno(err, errno, "epoll_ctl");
}

/* ---- events for the toolstack ---- */

static struct colo_json_gen *event(const char *name)
{
    struct colo_json_gen *g = colo_json_gen_new(false);

    if (g) {
        colo_json_open(g, NULL);
        colo_json_put_str(g, "event", name);
    }
    return g;
}

static void send_event(struct proxy_daemon *d, struct colo_json_gen *g)
{
    if (!g)
        return;
    colo_json_close(g);
    proxy_control_event(d, colo_json_gen_finish(g));
}

static void tell_error(struct proxy_daemon *d, const char *name, const struct colo_err *err)
{
    struct colo_json_gen *g = event(name);

    colo_log("%s: %s", name, err->msg);
    if (g) {
        colo_json_put_str(g, "reason", err->reason);
        colo_json_put_str(g, "message", err->msg);
    }
    send_event(d, g);
}

/* A checkpoint is wanted: once, whichever NIC it is for. */
static void tell_divergence(struct proxy_daemon *d, struct proxy_nic *nic)
{
    const struct colo_divergence *v = &nic->last;
    struct colo_json_gen *g = event("checkpoint");

    colo_log("checkpoint %" PRIu64 " wanted for %s: %s: %s %s", d->proxy.checkpoint + 1,
             nic->links.tap, colo_why_name(v->why), v->flow, v->text);
    if (g) {
        colo_json_put_str(g, "why", colo_why_name(v->why));
        colo_json_put_str(g, "nic", nic->links.tap);
        colo_json_put_str(g, "flow", v->flow);
        colo_json_put_str(g, "text", v->text);
    }
    send_event(d, g);
}

/* ---- the link ---- */

static void note_link(struct proxy_daemon *d, bool was_up)
{
    struct proxy *p = &d->proxy;

    if (was_up && !p->link)
        tell_error(d, "link-lost", &p->link_err);
}

static void link_is_up(struct proxy_daemon *d, uint32_t index)
{
    d->proxy.link = d->pending[index];
    d->pending[index] = NULL;
    for (uint32_t i = 0; i < PROXY_PENDING; i++) {
        proxy_link_free(d->pending[i]);
        d->pending[i] = NULL;
    }
    if (d->listen_fd >= 0)
        close(d->listen_fd);
    d->listen_fd = -1;
    d->link_events = 0; /* of this fd nothing was waited for as WATCH_LINK */
    colo_log("the link to the other proxy is up");
    send_event(d, event("link-up"));
}

/* One that connected; until its HELLO it may be anybody. */
static void pending_ready(struct proxy_daemon *d, uint32_t index)
{
    struct proxy_link *l = d->pending[index];
    struct proxy_link_event ev;
    struct colo_err err = {0};
    int rc;

    if (!l)
        return;
    rc = proxy_link_next(l, &ev, &err);
    if (rc > 0) { /* a HELLO: nothing else comes first */
        link_is_up(d, index);
        return;
    }
    if (rc == 0)
        rc = proxy_link_flush(l, &err);
    if (rc == 0)
        return;
    proxy_link_free(l);
    d->pending[index] = NULL;
    if (d->proxy.secondary)
        colo_log("a connection was refused: %s", err.msg);
    else
        tell_error(d, "link-lost", &err);
}

static void accept_link(struct proxy_daemon *d)
{
    int fd = accept4(d->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct colo_err err = {0};
    uint32_t i = 0;

    if (fd < 0)
        return;
    while (i < PROXY_PENDING && d->pending[i])
        i++;
    if (i == PROXY_PENDING) {
        close(fd);
        return;
    }
    if (proxy_link_new(fd, &d->link_cfg, &d->pending[i], &err))
        colo_log("%s", err.msg);
    else
        proxy_watch(d, fd, WATCH_PENDING, i, EPOLLIN, NULL);
}

/* Small messages must not wait for larger ones. */
static void set_nodelay(const struct proxy_link *l)
{
    static const int one = 1;

    setsockopt(proxy_link_fd(l), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* ---- the loop ---- */

static void tap_gone(struct proxy_daemon *d, int fd, bool *gone, const struct colo_err *err)
{
    *gone = true;
    epoll_ctl(d->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    tell_error(d, "tap-gone", err);
}

static void dispatch(struct proxy_daemon *d, const struct epoll_event *ev)
{
    uint32_t i = (uint32_t)ev->data.u64;
    struct proxy_nic *nic = &d->proxy.nic[i];
    struct colo_err err = {0};

    switch ((enum proxy_watch)(ev->data.u64 >> 32)) {
    case WATCH_CONTROL:
        proxy_control_accept(d);
        break;
    case WATCH_CLIENT:
        if (d->client[i].lines.fd >= 0)
            proxy_control_ready(d, &d->client[i], ev->events);
        break;
    case WATCH_LISTEN:
        if (d->listen_fd >= 0)
            accept_link(d);
        break;
    case WATCH_PENDING:
        pending_ready(d, i);
        break;
    case WATCH_LINK:
        proxy_from_link(&d->proxy);
        break;
    case WATCH_GUEST:
        if (i < d->proxy.nr_nics && !nic->guest_gone && proxy_from_guest(&d->proxy, nic, &err))
            tap_gone(d, nic->guest_fd, &nic->guest_gone, &err);
        break;
    case WATCH_PORT:
        if (i < d->proxy.nr_nics && !nic->port_gone && proxy_from_bridge(&d->proxy, nic, &err))
            tap_gone(d, nic->port_fd, &nic->port_gone, &err);
        break;
    }
}

/* What is waited for now. */
static void set_interest(struct proxy_daemon *d)
{
    struct proxy *p = &d->proxy;
    uint32_t link;

    for (uint32_t i = 0; i < p->nr_nics; i++) {
        struct proxy_nic *nic = &p->nic[i];

        if (!nic->guest_gone && nic->guest_idle == proxy_reads_guest(p, nic)) {
            nic->guest_idle = !nic->guest_idle;
            proxy_watch(d, nic->guest_fd, WATCH_GUEST, i, nic->guest_idle ? 0 : EPOLLIN, NULL);
        }
        if (!nic->port_gone && nic->port_idle == proxy_reads_bridge(p, nic)) {
            nic->port_idle = !nic->port_idle;
            proxy_watch(d, nic->port_fd, WATCH_PORT, i, nic->port_idle ? 0 : EPOLLIN, NULL);
        }
    }
    for (uint32_t i = 0; i < PROXY_PENDING; i++)
        if (d->pending[i])
            proxy_watch(d, proxy_link_fd(d->pending[i]), WATCH_PENDING, i,
                        proxy_link_events(d->pending[i]), NULL);
    if (!p->link)
        return;
    link = proxy_link_events(p->link) & (proxy_reads_link(p) ? ~0u : ~(uint32_t)EPOLLIN);
    if (link != d->link_events &&
        proxy_watch(d, proxy_link_fd(p->link), WATCH_LINK, 0, link, NULL) == 0)
        d->link_events = link;
}

static colo_time earlier(colo_time a, colo_time b)
{
    return a < b ? a : b;
}

static colo_time next_deadline(const struct proxy_daemon *d)
{
    const struct proxy *p = &d->proxy;
    colo_time t = COLO_NO_DEADLINE;

    for (uint32_t i = 0; i < p->nr_nics; i++)
        if (p->nic[i].compare)
            t = earlier(t, colo_compare_deadline(p->nic[i].compare));
    for (uint32_t i = 0; i < PROXY_PENDING; i++)
        if (d->pending[i])
            t = earlier(t, proxy_link_deadline(d->pending[i]));
    if (p->link)
        t = earlier(t, proxy_link_deadline(p->link));
    if (p->phase == PROXY_PHASE_TAKEN)
        t = earlier(t, d->check_aside);
    return earlier(t, d->alone_at);
}

int proxy_step_aside(struct proxy_daemon *d, struct colo_err *err)
{
    struct proxy *p = &d->proxy;
    struct colo_err *first = err;
    int rc = 0;

    if (p->secondary && p->phase == PROXY_PHASE_LOCKSTEP)
        p->phase = PROXY_PHASE_PASS; /* what a copy that is given up sends is dropped */
    for (uint32_t i = 0; i < p->nr_nics; i++) {
        if (proxy_links_aside(&p->nic[i].links, d->rejoin, first)) {
            first = NULL;
            rc = -1;
        }
    }
    if (p->phase == PROXY_PHASE_TAKEN)
        p->phase = PROXY_PHASE_ASIDE;
    proxy_drain(p);
    for (uint32_t i = 0; i < p->nr_nics; i++) {
        const struct proxy_links links = p->nic[i].links;

        proxy_nic_fini(&p->nic[i]);
        if (proxy_links_remove(&links, first)) {
            first = NULL;
            rc = -1;
        }
    }
    p->nr_nics = 0;
    return rc;
}

/* Is anything left that needs us?  A guest that has moved in here and has only new connections. */
static void maybe_aside(struct proxy_daemon *d)
{
    struct colo_err err = {0};

    if (d->proxy.phase != PROXY_PHASE_TAKEN || d->proxy.now < d->check_aside)
        return;
    d->check_aside = d->proxy.now + ASIDE_PERIOD;
    if (proxy_rewriting(&d->proxy) > 0)
        return;
    if (proxy_step_aside(d, &err))
        tell_error(d, "aside-failed", &err);
    colo_log("no connection needs rewriting any more: stepped aside");
    send_event(d, event("aside"));
    d->quit = true;
}

static bool watched(const struct proxy_daemon *d)
{
    for (uint32_t i = 0; i < PROXY_CLIENTS; i++)
        if (d->client[i].lines.fd >= 0 && d->client[i].watches)
            return true;
    return false;
}

/* Session and monitor were killed: nobody will ever let out what we hold.  The guest runs on. */
static void maybe_alone(struct proxy_daemon *d)
{
    struct proxy *p = &d->proxy;
    struct colo_err err = {0};

    if (p->phase >= PROXY_PHASE_TAKEN || watched(d))
        d->alone_at = p->now + d->alone_limit;
    if (p->now < d->alone_at)
        return;
    colo_log("no session and no monitor is there any more: ending");
    d->rejoin = !p->secondary;
    proxy_pass(p);
    if (proxy_step_aside(d, &err))
        colo_log("%s", err.msg);
    d->quit = true;
}

static void pass_time(struct proxy_daemon *d)
{
    struct proxy *p = &d->proxy;
    bool had_link = p->link != NULL;
    struct colo_err err = {0};

    p->now = colo_now();
    for (uint32_t i = 0; i < p->nr_nics; i++) {
        struct proxy_nic *nic = &p->nic[i];

        if (!nic->compare)
            continue;
        colo_compare_advance(nic->compare, p->now);
        if (colo_compare_take_request(nic->compare, &nic->last))
            tell_divergence(d, nic);
    }
    if (p->link && (proxy_link_advance(p->link, p->now, &err) || proxy_link_flush(p->link, &err)))
        proxy_lose_link(p, &err);
    note_link(d, had_link);
    for (uint32_t i = 0; i < PROXY_PENDING; i++)
        if (d->pending[i] && proxy_link_advance(d->pending[i], p->now, &err))
            pending_ready(d, i);
    maybe_aside(d);
    maybe_alone(d);
}

static int loop(struct proxy_daemon *d, struct colo_err *err)
{
    struct epoll_event events[EVENTS];
    bool had_link;
    int n;

    while (!d->quit) {
        set_interest(d);
        n = epoll_wait(d->epoll_fd, events, EVENTS, colo_poll_ms(next_deadline(d)));
        if (n < 0 && errno != EINTR)
            return colo_fail_errno(err, errno, "epoll_wait");
        d->proxy.now = colo_now();
        had_link = d->proxy.link != NULL;
        for (int i = 0; i < n; i++)
            dispatch(d, &events[i]);
        if (!had_link && d->proxy.link)
            set_nodelay(d->proxy.link);
        else
            note_link(d, had_link);
        pass_time(d);
    }
    return 0;
}

int proxy_daemon_init(struct proxy_daemon *d, const struct proxy_run *run, struct colo_err *err)
{
    memset(d, 0, sizeof(*d));
    d->control_path = run->control_path;
    d->control_fd = d->listen_fd = -1;
    for (int i = 0; i < PROXY_CLIENTS; i++)
        colo_lines_init(&d->client[i].lines);
    for (int i = 0; i < PROXY_MAX_NICS; i++)
        d->proxy.nic[i].guest_fd = d->proxy.nic[i].port_fd = -1;
    d->alone_limit = run->alone_limit ? run->alone_limit : ALONE_LIMIT;
    d->alone_at = colo_now() + d->alone_limit;
    d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return d->epoll_fd < 0 ? colo_fail_errno(err, errno, "epoll_create") : 0;
}

void proxy_daemon_fini(struct proxy_daemon *d)
{
    for (int i = 0; i < PROXY_CLIENTS; i++)
        proxy_control_close(&d->client[i]);
    for (int i = 0; i < PROXY_PENDING; i++)
        proxy_link_free(d->pending[i]);
    proxy_link_free(d->proxy.link);
    for (int i = 0; i < PROXY_MAX_NICS; i++)
        proxy_nic_fini(&d->proxy.nic[i]);
    if (d->listen_fd >= 0)
        close(d->listen_fd);
    if (d->control_fd >= 0) {
        close(d->control_fd);
        unlink(d->control_path);
    }
    if (d->epoll_fd >= 0)
        close(d->epoll_fd);
    explicit_bzero(d, sizeof(*d));
}

int proxy_daemon_run(const struct proxy_run *run, struct colo_err *err)
{
    struct proxy_daemon *d = calloc(1, sizeof(*d));
    int rc = -1;

    if (!d)
        return colo_fail_errno(err, ENOMEM, "the proxy");
    signal(SIGPIPE, SIG_IGN);
    if (proxy_daemon_init(d, run, err) == 0 && proxy_control_listen(d, err) == 0 &&
        (!run->background || proxy_background(run->log, err) == 0))
        rc = loop(d, err);
    proxy_daemon_fini(d);
    free(d);
    return rc;
}
