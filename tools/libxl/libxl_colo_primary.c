/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The primary's bring-up: preflight, the guest's configuration and our capabilities to the peer,
 * its answer, and then the lock-step (libxl_colo_save.c).
 */
#include "libxl_colo_forward.h"
#include "libxl_colo_guest.h"
#include "libxl_colo_net.h"
#include "libxl_colo_sync_disks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uuid/uuid.h>

struct bringup {
    const struct colo_session_params *p;
    libxl_ctx *ctx;
    xentoollog_logger *lg;
    libxl_domain_config cfg;
    char *config_json;
    struct colo_guest guest;
    struct colo_net net;
    struct colo_sync disks;
    struct colo_session s;
};

static int read_config(struct bringup *b, uint32_t domid, struct colo_err *err)
{
    int rc = libxl_retrieve_domain_configuration(b->ctx, domid, &b->cfg, NULL);

    if (rc)
        return colo_fail(err, COLO_ERR_LOCAL, NULL,
                         "cannot read the configuration of domain %u from libxl (error %d)", domid,
                         rc);
    b->config_json = libxl_domain_config_to_json(b->ctx, &b->cfg);
    if (!b->config_json)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "cannot write the guest's configuration");
    return 0;
}

static void describe(struct bringup *b, uint32_t domid, const struct colo_caps *caps)
{
    const struct colo_config *c = &b->p->config;
    struct colo_status *st = colo_status_begin(b->p->shared);

    snprintf(st->guest, sizeof(st->guest), "%s", b->cfg.c_info.name);
    snprintf(st->uuid, sizeof(st->uuid), LIBXL_UUID_FMT, LIBXL_UUID_BYTES(b->cfg.c_info.uuid));
    snprintf(st->peer, sizeof(st->peer), "%s", b->p->peer);
    snprintf(st->session, sizeof(st->session), "%s", caps->session);
    st->generation = caps->generation;
    st->domid = domid;
    st->started_wall = time(NULL);
    st->interval_max_ms = c->interval_max_ms;
    st->interval_min_ms = c->interval_min_ms;
    st->heartbeat_ms = c->heartbeat_ms;
    st->heartbeat_misses = c->heartbeat_misses;
    st->mem_pages = b->cfg.b_info.max_memkb / 4;
    snprintf(st->network, sizeof(st->network), "%s", caps->proxy_key[0] ? "compare" : "pass");
    snprintf(st->disks, sizeof(st->disks), "%s", b->disks.q.n ? "to be copied" : "none");
    colo_status_end(b->p->shared);
}

static int make_caps(struct bringup *b, struct colo_caps *caps, struct colo_err *err)
{
    const struct colo_config *c = &b->p->config;
    uuid_t session;

    memset(caps, 0, sizeof(*caps));
    caps->protocol = COLO_PROTOCOL_VERSION;
    caps->zero_pages = caps->tags = true;
    caps->force = c->force;
    gethostname(caps->host, sizeof(caps->host) - 1);
    snprintf(caps->qemu, sizeof(caps->qemu), "%s", colo_qmp_version(b->guest.qmp));
    uuid_generate(session);
    uuid_unparse_lower(session, caps->session);
    memcpy(b->s.ls.tag.session, session, sizeof(session));
    caps->generation = b->s.ls.tag.generation = 1;
    caps->heartbeat_ms = c->heartbeat_ms;
    caps->heartbeat_misses = c->heartbeat_misses;
    caps->interval_max_ms = c->interval_max_ms;
    caps->interval_min_ms = c->interval_min_ms;
    if (c->proxyscript[0] && b->cfg.num_nics && colo_proxy_make_key(caps->proxy_key, err))
        return -1;
    if (colo_qdisks_prepare(&b->disks.q, b->guest.qmp, &b->cfg, err) ||
        colo_sync_disks_caps(&b->disks, caps, err))
        return -1;
    return colo_xen_version(b->ctx, &b->s, caps->xen, sizeof(caps->xen), err);
}

/* Who we are and what the guest is; who the peer is, or why it refuses. */
static int handshake(struct bringup *b, const struct colo_caps *mine, struct colo_caps *peer,
                     struct colo_err *err)
{
    struct colo_session *s = &b->s;
    char *json = colo_caps_to_json(mine);
    char *reply = NULL;
    int rc = -1;

    if (!json)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "out of memory");
    s->ls.io_timeout = COLO_T_HANDSHAKE;
    if (libxl_xl_header_write(&s->ch, b->config_json, colo_now() + COLO_T_HANDSHAKE, err) ||
        libxl_stream_write_header(&s->ls, err) || libxl_stream_write_caps(&s->ls, json, err) ||
        libxl_stream_read_caps(&s->ls, &reply, err) ||
        colo_caps_from_json(reply, false, peer, err) || colo_caps_match(mine, peer, err))
        goto out;
    s->zero_pages = mine->zero_pages && peer->zero_pages;
    s->ls.tags = mine->tags && peer->tags;
    rc = 0;
out:
    free(json);
    free(reply);
    return rc;
}

/* Both proxies run, have found each other, and frames go by way of ours. */
static int set_up_network(struct bringup *b, uint32_t domid, const struct colo_caps *mine,
                          const struct colo_caps *peer, struct colo_err *err)
{
    struct colo_session *s = &b->s;
    const char *device = colo_forward_device(&b->cfg);
    char host[COLO_ADDRESS + IFNAMSIZ];
    struct colo_proxy_link link = {
        .session = mine->session,
        .key = mine->proxy_key,
        .device = device,
        .address = b->p->peer,
        .port = peer->proxy_port,
    };

    if (!mine->proxy_key[0])
        return 0;
    if (!peer->proxy_port)
        return colo_fail(err, COLO_ERR_REFUSED, "proxy-mismatch",
                         "%s runs no colo-proxy for the guest: set colo.default.proxyscript there",
                         b->p->peer);
    if (peer->proxy_address[0]) {
        colo_forward_host(device, peer->proxy_address, host);
        link.address = host;
    }
    if (colo_net_name(&b->net, &b->cfg, domid, err) ||
        colo_net_start(&b->net, &b->p->shared->recovery.net, b->p->config.proxyscript,
                       mine->session, b->cfg.c_info.name, false, err) ||
        colo_proxy_connect(b->net.px, &link, err) ||
        colo_net_wait_link(&b->net, b->p->cancel_fd, colo_now() + COLO_T_HANDSHAKE, err) ||
        colo_net_wire(&b->net, NULL, "compare", b->p->config.output_wait_ms, err))
        return -1;
    b->net.shared = b->p->shared;
    s->hooks.net = &b->net;
    s->hooks.net_fd = colo_proxy_fd(b->net.px);
    s->hooks.net_hold = colo_net_hold;
    s->hooks.net_commit = colo_net_commit;
    s->hooks.net_event = colo_net_event;
    return 0;
}

/* QEMU has to stop for the end of a copy, see libxl_colo_qdisk.c; and while it stands nobody answers a
 * vCPU.  0: the guest stands still. */
static int pause_guest(struct bringup *b, uint32_t domid)
{
    struct colo_recovery *rec = &b->p->shared->recovery;

    rec->paused = true;
    if (libxl_domain_pause(b->ctx, domid, NULL) == 0)
        return 0;
    rec->paused = false; /* it is not there any more */
    return -1;
}

static void unpause_guest(struct bringup *b, uint32_t domid)
{
    if (libxl_domain_unpause(b->ctx, domid, NULL))
        colo_session_say(&b->s, "the guest could not be unpaused, its monitor tries again");
    else
        b->p->shared->recovery.paused = false;
}

static void end_disks(struct bringup *b, uint32_t domid, bool runs)
{
    bool paused = b->p->shared->recovery.mirrors && runs && pause_guest(b, domid) == 0;

    colo_sync_disks_end(&b->s, &b->disks);
    if (paused)
        unpause_guest(b, domid);
}

/* What a session may have left that was killed together with its monitor. */
static int clear_disks(struct bringup *b, uint32_t domid, struct colo_err *err)
{
    int rc;

    if (pause_guest(b, domid))
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "the guest cannot be paused");
    rc = colo_qdisks_stop(b->disks.q.qmp, colo_now() + COLO_T_QMP, err);
    unpause_guest(b, domid);
    return rc;
}

/* The same way as the proxies'. */
static int set_up_disks(struct bringup *b, uint32_t domid, const struct colo_caps *mine,
                        const struct colo_caps *peer, struct colo_err *err)
{
    char host[COLO_ADDRESS + IFNAMSIZ];

    if (b->disks.q.n && clear_disks(b, domid, err))
        return -1;
    colo_forward_host(colo_forward_device(&b->cfg), peer->disk_address, host);
    return colo_sync_disks(&b->s, &b->disks, host[0] ? host : b->p->peer, mine, peer, err);
}

static int set_up(struct bringup *b, uint32_t domid, struct colo_err *err)
{
    struct colo_session *s = &b->s;
    struct colo_caps caps, peer;

    b->ctx = colo_ctx_new(&b->lg, err);
    if (!b->ctx || read_config(b, domid, err) ||
        colo_preflight_primary(b->ctx, domid, &b->cfg, &b->p->config, err) ||
        colo_guest_open(&b->guest, domid, false, err) || make_caps(b, &caps, err) ||
        colo_guest_bound_gfns(&b->guest, b->cfg.b_info.max_memkb, &s->max_gfns, err))
        return -1;
    describe(b, domid, &caps);
    b->p->shared->recovery.domid = domid;
    snprintf(b->p->shared->recovery.name, sizeof(b->p->shared->recovery.name), "%s",
             b->cfg.c_info.name);
    colo_monitor_domid_changed(b->p->monitor);

    s->dom = b->guest.dom;
    s->hooks.priv = &b->guest;
    s->hooks.event_fd = colo_xs_fd(b->guest.xs);
    s->hooks.guest_event = colo_guest_event;
    s->hooks.dm_fd = colo_qmp_fd(b->guest.qmp);
    if (handshake(b, &caps, &peer, err)) {
        colo_session_explain(s, err);
        return -1;
    }
    if (colo_session_alive(s, err) || set_up_disks(b, domid, &caps, &peer, err) ||
        set_up_network(b, domid, &caps, &peer, err)) {
        colo_session_explain(
            s, err); /* the copying of disks lasts: the peer may have left meanwhile */
        return -1;
    }
    return 0;
}

/* The peer has been told, or is gone: what the guest says need not wait for its copy any more. */
static void end_network(struct bringup *b, bool rejoin)
{
    struct colo_net_undo *undo = &b->p->shared->recovery.net;
    struct colo_err e = {0};

    if (undo->socket[0] && colo_net_undo(&b->net, undo, rejoin, &e))
        colo_session_say(&b->s, "the guest's network: %s", e.msg);
}

int colo_primary(const struct colo_session_params *p, uint32_t domid, enum colo_outcome *outcome,
                 struct colo_err *err)
{
    static const enum colo_state after[] = {
        [COLO_OUT_GUEST_HERE] = COLO_STATE_UNPROTECTED,
        [COLO_OUT_GUEST_DOWN] = COLO_STATE_GUEST_DOWN,
        [COLO_OUT_NOTHING] = COLO_STATE_ENDED,
    };
    struct bringup b = {.p = p};
    struct colo_session *s = &b.s;

    *outcome = COLO_OUT_GUEST_HERE;
    libxl_domain_config_init(&b.cfg);
    s->role = COLO_PRIMARY;
    colo_status_begin(p->shared)->role = COLO_PRIMARY;
    colo_status_end(p->shared);
    colo_state_set(p->shared, COLO_STATE_INIT);
    s->config = p->config;
    s->shared = p->shared;
    s->monitor = p->monitor;
    s->ui = p->ui;
    s->hb.stop_fd = -1;
    s->hooks.event_fd = -1;
    s->ls.ch = &s->ch;
    if (xc_sr_channel_init(&s->ch, p->rfd, p->wfd, p->cancel_fd, err))
        return -1;

    if (set_up(&b, domid, err))
        colo_session_goodbye(s, err);
    else
        colo_save_run(s, err);
    if (err->cls == COLO_ERR_GUEST_DOWN)
        *outcome = COLO_OUT_GUEST_DOWN;
    else if (colo_session_peer_said(err, COLO_STOP_TAKEN))
        *outcome = COLO_OUT_NOTHING;

    if (*outcome == COLO_OUT_NOTHING && libxl_domain_pause(b.ctx, domid, NULL))
        colo_session_say(s,
                         "domain %u could not be paused, although the guest runs at %s: "
                         "`xl destroy %u` at once",
                         domid, p->peer, domid);
    colo_heartbeat_stop(&s->hb);
    end_network(&b, *outcome == COLO_OUT_GUEST_HERE);
    end_disks(&b, domid, *outcome == COLO_OUT_GUEST_HERE);
    colo_status_error(p->shared, err);
    colo_state_set(p->shared, after[*outcome]);
    xc_sr_channel_fini(&s->ch);
    colo_guest_close(&b.guest);
    free(b.config_json);
    libxl_domain_config_dispose(&b.cfg);
    colo_ctx_free(b.ctx, b.lg);
    return -1;
}

int colo_preflight(uint32_t domid, const struct colo_config *config, struct colo_err *err)
{
    struct colo_session_params p = {0};
    struct bringup b = {.p = &p};
    int rc = -1;

    libxl_domain_config_init(&b.cfg);
    b.ctx = colo_ctx_new(&b.lg, err);
    if (b.ctx && !read_config(&b, domid, err))
        rc = colo_preflight_primary(b.ctx, domid, &b.cfg, config, err);
    free(b.config_json);
    libxl_domain_config_dispose(&b.cfg);
    colo_ctx_free(b.ctx, b.lg);
    return rc;
}
