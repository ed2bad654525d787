/* SPDX-License-Identifier: GPL-2.0-only */
/* The requests of docs/specs/proxy-control.md. */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "proxy_daemon.h"

typedef int request(struct proxy_daemon *d, const struct colo_json *q, struct colo_json_gen *g,
                    struct colo_err *err);

static int read_key(const char *hex, uint8_t key[PROXY_KEY_BYTES])
{
    static const char digits[] = "0123456789abcdef";

    if (!hex || strlen(hex) != 2 * PROXY_KEY_BYTES || strspn(hex, digits) != 2 * PROXY_KEY_BYTES)
        return -1;
    for (size_t i = 0; i < PROXY_KEY_BYTES; i++)
        key[i] = (uint8_t)((strchr(digits, hex[2 * i]) - digits) << 4 |
                           (strchr(digits, hex[2 * i + 1]) - digits));
    return 0;
}

/* ---- link: the role, the session and the other proxy ---- */

static int connect_link(struct proxy_daemon *d, const struct colo_json *q, const char *device,
                        struct colo_err *err)
{
    const char *host = colo_json_get_str(q, "host");
    int64_t port = colo_json_get_int(q, "port", 0);
    int fd;

    if (!host || port < 1 || port > 65535)
        return colo_request_bad(err, "host or port");
    if (proxy_connect(host, (uint16_t)port, device, &fd, err) ||
        proxy_link_new(fd, &d->link_cfg, &d->pending[0], err))
        return -1;
    return proxy_watch(d, fd, WATCH_PENDING, 0, EPOLLIN | EPOLLOUT, err);
}

static int link_request(struct proxy_daemon *d, const struct colo_json *q, struct colo_json_gen *g,
                        struct colo_err *err)
{
    const char *role = colo_json_get_str(q, "role");
    const char *session = colo_json_get_str(q, "session");
    const char *device = colo_json_get_str(q, "device");
    int64_t silence = colo_json_get_int(q, "silence_ms", 0);
    uint16_t port;

    if (d->proxy.link_lost || d->listen_fd >= 0 || d->pending[0] || d->proxy.link)
        return colo_fail(err, COLO_ERR_PROTOCOL, "proxy-phase", "there is a link already");
    if (!role || (strcmp(role, "primary") != 0 && strcmp(role, "secondary") != 0))
        return colo_request_bad(err, "role");
    if (read_key(colo_json_get_str(q, "key"), d->link_cfg.key))
        return colo_request_bad(err, "key");
    if (!session || uuid_parse(session, d->link_cfg.session))
        return colo_request_bad(err, "session");
    if (silence < 0 || silence > 600000)
        return colo_request_bad(err, "silence_ms");
    d->link_cfg.silence = silence * COLO_MS;
    d->proxy.secondary = d->link_cfg.secondary = !strcmp(role, "secondary");
    if (!d->proxy.secondary)
        return connect_link(d, q, device, err);
    if (proxy_listen(colo_json_get_str(q, "address"), device, &d->listen_fd, &port, err) ||
        proxy_watch(d, d->listen_fd, WATCH_LISTEN, 0, EPOLLIN, err))
        return -1;
    colo_json_put_int(g, "port", port);
    return 0;
}

/* ---- setup: the NICs ---- */

static int mode_of(const char *name, enum colo_mode *mode)
{
    for (*mode = COLO_MODE_PASS; *mode <= COLO_MODE_EVENT; ++*mode)
        if (name && !strcmp(name, colo_mode_name(*mode)))
            return 0;
    return -1;
}

static int add_nic(struct proxy_daemon *d, const char *vif, struct colo_err *err)
{
    struct proxy *p = &d->proxy;
    uint32_t i = p->nr_nics;
    struct proxy_nic *nic = &p->nic[i];

    if (proxy_links_name(vif, &nic->links, err))
        return -1;
    p->nr_nics++;
    if (proxy_tap_open(nic->links.port, &nic->port_fd, err) ||
        proxy_tap_open(nic->links.guest, &nic->guest_fd, err) ||
        proxy_nic_start(p, nic, &d->limits, err) ||
        proxy_watch(d, nic->guest_fd, WATCH_GUEST, i, EPOLLIN, err))
        return -1;
    return proxy_watch(d, nic->port_fd, WATCH_PORT, i, EPOLLIN, err);
}

/* Milliseconds or a count; 0 stays the engine's own default. */
static int read_limits(const struct colo_json *q, struct colo_compare_config *c,
                       struct colo_err *err)
{
    const struct colo_json *l = colo_json_get(q, "limits");
    int64_t data = colo_json_get_int(l, "data_timeout_ms", 0);
    int64_t ack = colo_json_get_int(l, "ack_timeout_ms", 0);
    int64_t primary = colo_json_get_int(l, "primary_timeout_ms", 0);
    int64_t packets = colo_json_get_int(l, "packets", 0);

    if (data < 0 || data > 60000 || ack < 0 || ack > 60000 || primary < 0 || primary > 60000 ||
        packets < 0 || (packets && packets < 64) || packets > 1 << 20)
        return colo_request_bad(err, "limits");
    c->data_timeout = data * COLO_MS;
    c->ack_timeout = ack * COLO_MS;
    c->primary_timeout = primary * COLO_MS;
    c->max_packets = (uint32_t)packets;
    if (getrandom(c->seed, sizeof(c->seed), 0) != sizeof(c->seed))
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "no random numbers");
    return 0;
}

static int setup_request(struct proxy_daemon *d, const struct colo_json *q, struct colo_json_gen *g,
                         struct colo_err *err)
{
    const struct colo_json *vifs = colo_json_get(q, "vifs");
    struct proxy *p = &d->proxy;

    (void)g;
    if (p->phase != PROXY_PHASE_NEW)
        return colo_fail(err, COLO_ERR_PROTOCOL, "proxy-phase", "the NICs are there already");
    if (mode_of(colo_json_get_str(q, "mode"), &p->mode))
        return colo_request_bad(err, "mode");
    if (colo_json_len(vifs) > PROXY_MAX_NICS)
        return colo_fail(err, COLO_ERR_REFUSED, "too-many-nics", "%zu NICs, at most %d",
                         colo_json_len(vifs), PROXY_MAX_NICS);
    if (read_limits(q, &d->limits, err))
        return -1;
    for (size_t i = 0; i < colo_json_len(vifs); i++) {
        const char *vif = colo_json_str(colo_json_at(vifs, i));

        if (!vif)
            return colo_request_bad(err, "vifs");
        if (add_nic(d, vif, err))
            return -1;
    }
    p->phase = PROXY_PHASE_PASS;
    return 0;
}

/* ---- the lock-step ---- */

static int number_of(const struct colo_json *q, uint64_t *n, struct colo_err *err)
{
    int64_t value = colo_json_get_int(q, "checkpoint", 0);

    *n = (uint64_t)value;
    return value > 0 ? 0 : colo_request_bad(err, "checkpoint");
}

static int hold_request(struct proxy_daemon *d, const struct colo_json *q, struct colo_json_gen *g,
                        struct colo_err *err)
{
    uint64_t n;

    (void)g;
    return number_of(q, &n, err) || proxy_hold(&d->proxy, n, err) ? -1 : 0;
}

static int checkpoint_request(struct proxy_daemon *d, const struct colo_json *q,
                              struct colo_json_gen *g, struct colo_err *err)
{
    uint64_t n;

    (void)g;
    return number_of(q, &n, err) || proxy_checkpoint(&d->proxy, n, err) ? -1 : 0;
}

static int mode_request(struct proxy_daemon *d, const struct colo_json *q, struct colo_json_gen *g,
                        struct colo_err *err)
{
    struct proxy *p = &d->proxy;
    enum colo_mode mode;

    (void)g;
    if (mode_of(colo_json_get_str(q, "mode"), &mode))
        return colo_request_bad(err, "mode");
    if (p->secondary)
        return colo_fail(err, COLO_ERR_PROTOCOL, "proxy-phase", "the mode is the primary's");
    p->mode = mode;
    if (mode == COLO_MODE_PASS) {
        proxy_pass(p);
        return 0;
    }
    for (uint32_t i = 0; p->phase == PROXY_PHASE_LOCKSTEP && i < p->nr_nics; i++)
        colo_compare_set_mode(p->nic[i].compare, mode, p->now);
    return 0;
}

static int takeover_request(struct proxy_daemon *d, const struct colo_json *q,
                            struct colo_json_gen *g, struct colo_err *err)
{
    (void)q;
    (void)g;
    if (proxy_takeover(&d->proxy, err))
        return -1;
    d->rejoin = true;
    d->check_aside = d->proxy.now;
    return 0;
}

static int stats_request(struct proxy_daemon *d, const struct colo_json *q, struct colo_json_gen *g,
                         struct colo_err *err)
{
    (void)q;
    (void)err;
    proxy_stats_put(&d->proxy, g);
    return 0;
}

/* "rejoin" says whether the guest's taps go back on their bridge. */
static int teardown_request(struct proxy_daemon *d, const struct colo_json *q,
                            struct colo_json_gen *g, struct colo_err *err)
{
    (void)g;
    d->rejoin = colo_json_get_bool(q, "rejoin", !d->proxy.secondary);
    proxy_pass(&d->proxy);
    d->quit = true;
    return proxy_step_aside(d, err);
}

static int run(void *priv, const char *name, const struct colo_json *q, struct colo_json_gen *g,
               struct colo_err *err)
{
    static const struct {
        const char *name;
        request *run;
    } requests[] = {
        {"link", link_request},   {"setup", setup_request},
        {"hold", hold_request},   {"checkpoint", checkpoint_request},
        {"mode", mode_request},   {"takeover", takeover_request},
        {"stats", stats_request}, {"teardown", teardown_request},
    };
    struct proxy_asking *a = priv;

    if (!strcmp(name, "watch")) {
        a->c->watches = true;
        return 0;
    }
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
        if (!strcmp(name, requests[i].name))
            return requests[i].run(a->d, q, g, err);
    return colo_request_bad(err, "what to do");
}

char *proxy_answer(void *asking, const char *line, size_t len)
{
    return colo_request_answer(line, len, run, asking);
}
