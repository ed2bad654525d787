/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The secondary's bring-up: read the guest's configuration and the primary's capabilities, answer,
 * build NAME--incoming from the same configuration, paused and cut off from the network, and then
 * the lock-step (libxl_colo_restore.c).  At its end: takeover, or nothing is left here.
 */
#include "libxl_colo_guest.h"

#include <arpa/inet.h>
#include <libxl_utils.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "libxl_colo_announce.h"
#include "libxl_colo_disk.h"
#include "libxl_colo_forward.h"
#include "libxl_colo_net.h"

struct bringup {
    const struct colo_session_params *p;
    libxl_ctx *ctx;
    xentoollog_logger *lg;
    libxl_domain_config cfg;
    char name[128]; /* the guest's own */
    uint32_t domid; /* of the copy; 0 = none */
    struct colo_guest guest;
    struct colo_net net;
    struct colo_disks disks;
    struct colo_session s;
};

static int take_config(struct bringup *b, const char *json, struct colo_err *err)
{
    if (libxl_domain_config_from_json(b->ctx, &b->cfg, json))
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-config",
                         "libxl does not understand the configuration that the primary sent");
    if (!b->cfg.c_info.name || !*b->cfg.c_info.name ||
        strlen(b->cfg.c_info.name) >= sizeof(b->name))
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-config",
                         "the guest's name is missing or longer than %zu characters",
                         sizeof(b->name) - 1);
    for (const char *c = b->cfg.c_info.name; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return colo_fail(err, COLO_ERR_PROTOCOL, "bad-config",
                             "the guest's name holds a control character");
    snprintf(b->name, sizeof(b->name), "%s", b->cfg.c_info.name);
    return 0;
}

static void adopt(struct bringup *b, const struct colo_caps *peer)
{
    struct colo_session *s = &b->s;
    struct colo_status *st;

    s->config.heartbeat_ms = peer->heartbeat_ms;
    s->config.heartbeat_misses = peer->heartbeat_misses;
    s->config.interval_max_ms = peer->interval_max_ms;
    s->config.interval_min_ms = peer->interval_min_ms;
    s->ls.tag.generation = peer->generation;
    if (uuid_parse(peer->session, s->ls.tag.session))
        uuid_clear(s->ls.tag.session);

    st = colo_status_begin(s->shared);
    snprintf(st->guest, sizeof(st->guest), "%s", b->name);
    snprintf(st->uuid, sizeof(st->uuid), LIBXL_UUID_FMT, LIBXL_UUID_BYTES(b->cfg.c_info.uuid));
    snprintf(st->peer, sizeof(st->peer), "%s", peer->host);
    snprintf(st->session, sizeof(st->session), "%s", peer->session);
    st->generation = peer->generation;
    st->started_wall = time(NULL);
    st->interval_max_ms = peer->interval_max_ms;
    st->interval_min_ms = peer->interval_min_ms;
    st->heartbeat_ms = peer->heartbeat_ms;
    st->heartbeat_misses = peer->heartbeat_misses;
    st->mem_pages = b->cfg.b_info.max_memkb / 4;
    snprintf(st->network, sizeof(st->network), "%s", b->net.px ? "compare" : "pass");
    snprintf(st->disks, sizeof(st->disks), "%s", b->disks.n ? "to be copied" : "none");
    colo_status_end(s->shared);
}

static int answer(struct bringup *b, const struct colo_caps *mine, struct colo_err *err)
{
    char *json = colo_caps_to_json(mine);
    int rc = json ? libxl_stream_write_caps(&b->s.ls, json, err)
                  : colo_fail(err, COLO_ERR_LOCAL, NULL, "out of memory");

    free(json);
    return rc;
}

/* The proxy listens before the primary hears of it. */
static int start_network(struct bringup *b, const struct colo_caps *peer, struct colo_caps *mine,
                         struct colo_err *err)
{
    const char *device = colo_forward_device(&b->cfg);
    char host[COLO_ADDRESS + IFNAMSIZ];
    struct colo_proxy_link link = {
        .session = peer->session, .key = peer->proxy_key, .device = device};

    if (!peer->proxy_key[0] || !b->p->config.proxyscript[0])
        return 0;
    if (colo_forward_listen(device, mine->proxy_address, err))
        return -1;
    colo_forward_host(device, mine->proxy_address, host);
    if (host[0])
        link.address = host;
    if (colo_net_start(&b->net, &b->p->shared->recovery.net, b->p->config.proxyscript,
                       peer->session, b->name, true, err) ||
        colo_proxy_listen(b->net.px, &link, err))
        return -1;
    mine->proxy_port = link.port;
    return 0;
}

/* So do the servers of its disks. */
static int start_disks(struct bringup *b, const struct colo_caps *peer, struct colo_caps *mine,
                       struct colo_err *err)
{
    const char *device = colo_forward_device(&b->cfg);
    char host[COLO_ADDRESS + IFNAMSIZ];

    if (peer->disks && access(peer->device_model, X_OK))
        return colo_fail(err, COLO_ERR_REFUSED, "file-missing",
                         "the device model %s does not exist on this host", peer->device_model);
    if (peer->disks && colo_forward_listen(device, mine->disk_address, err))
        return -1;
    colo_forward_host(device, mine->disk_address, host);
    mine->disks = peer->disks;
    return colo_disks_start(&b->disks, &b->p->shared->recovery.disks, &b->cfg, peer,
                            host[0] ? host : "any", mine->disk, err);
}

/* Who the primary and its guest are; is this host fit for it? */
static int handshake(struct bringup *b, struct colo_caps *peer, struct colo_err *err)
{
    struct colo_session *s = &b->s;
    struct colo_caps mine = {.protocol = COLO_PROTOCOL_VERSION, .zero_pages = true, .tags = true};
    char *config = NULL, *caps = NULL;
    int rc = -1;

    s->ls.io_timeout = COLO_T_HANDSHAKE;
    gethostname(mine.host, sizeof(mine.host) - 1);
    if (libxl_xl_header_read(&s->ch, colo_now() + COLO_T_HANDSHAKE, &config, err) ||
        libxl_stream_read_header(&s->ls, err) || libxl_stream_read_caps(&s->ls, &caps, err) ||
        colo_caps_from_json(caps, true, peer, err) || take_config(b, config, err) ||
        colo_xen_version(b->ctx, s, mine.xen, sizeof(mine.xen), err) ||
        colo_caps_match(&mine, peer, err) || colo_preflight_secondary(b->ctx, &b->cfg, err) ||
        start_disks(b, peer, &mine, err) || start_network(b, peer, &mine, err))
        goto out;
    s->zero_pages = mine.zero_pages && peer->zero_pages;
    s->ls.tags = mine.tags && peer->tags;
    adopt(b, peer);
    rc = answer(b, &mine, err);
out:
    free(config);
    free(caps);
    return rc;
}

/* NICs of the copy, by the names that libxl gave their links. */
static int isolate_nics(struct bringup *b, struct colo_err *err)
{
    struct colo_nic_desc desc[COLO_MAX_NICS];

    if (colo_net_name(&b->net, &b->cfg, b->domid, err))
        return -1;
    memset(desc, 0, sizeof(desc));
    for (uint32_t i = 0; i < b->net.n; i++) {
        const libxl_device_nic *nic = &b->cfg.nics[i];

        memcpy(desc[i].vif, b->net.vif[i], sizeof(desc[i].vif));
        snprintf(desc[i].tap, sizeof(desc[i].tap), "%.11s-emu", b->net.vif[i]);
        memcpy(desc[i].mac, nic->mac, sizeof(desc[i].mac));
        if (!nic->ip || !inet_aton(nic->ip, &desc[i].ip))
            desc[i].ip.s_addr = 0;
    }
    return colo_nics_isolate(desc, b->net.n, &b->p->shared->recovery.nics, err);
}

static int wire_network(struct bringup *b, struct colo_err *err)
{
    struct colo_session *s = &b->s;

    if (!b->net.px)
        return 0;
    if (colo_net_wire(&b->net, &b->p->shared->recovery.nics, "compare", 0, err))
        return -1;
    /* Its events are the primary's business: a copy without a link is still one that can take over. */
    s->hooks.net = &b->net;
    s->hooks.net_hold = colo_net_hold;
    s->hooks.net_commit = colo_net_commit;
    return 0;
}

static int check_qemu(struct bringup *b, const struct colo_caps *peer, struct colo_err *err)
{
    const char *mine = colo_qmp_version(b->guest.qmp);

    if (peer->force || !strcmp(mine, peer->qemu))
        return 0;
    return colo_fail(err, COLO_ERR_REFUSED, "qemu-mismatch",
                     "this host has QEMU %s, the primary (%s) has QEMU %s: both must be the same",
                     mine, peer->host, peer->qemu);
}

/* libxl makes the domain; its device model gets the servers of its disks, and its configuration
 * stays what it is at the primary's. */
static int create(struct bringup *b, const char *device_model, struct colo_err *err)
{
    char *override = b->cfg.b_info.device_model ? strdup(b->cfg.b_info.device_model) : NULL;
    int rc = colo_disks_wrap(&b->disks, &b->cfg, device_model, err);

    if (!rc) {
        rc = libxl_domain_create_new(b->ctx, &b->cfg, &b->domid, NULL, NULL);
        if (rc)
            rc = colo_fail(err, COLO_ERR_LOCAL, "create-failed",
                           "libxl could not create %s on this host (error %d); its log says why",
                           b->cfg.c_info.name, rc);
        else
            b->p->shared->recovery.domid = b->domid;
        if (!rc && b->disks.n)
            rc = colo_disks_unwrap(b->ctx, b->domid, override, err);
    }
    free(override);
    return rc;
}

static int build(struct bringup *b, const struct colo_caps *peer, struct colo_err *err)
{
    struct colo_recovery *rec = &b->p->shared->recovery;
    char incoming[sizeof(b->name) + 16];

    snprintf(incoming, sizeof(incoming), "%s--incoming", b->name);
    free(b->cfg.c_info.name);
    b->cfg.c_info.name = strdup(incoming);
    if (!b->cfg.c_info.name)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "out of memory");
    snprintf(rec->name, sizeof(rec->name), "%s", b->name);
    rec->destroy = true;
    if (create(b, peer->device_model, err))
        return -1;
    colo_status_begin(b->p->shared)->domid = b->domid;
    colo_status_end(b->p->shared);
    colo_monitor_domid_changed(b->p->monitor);
    if (isolate_nics(b, err) || wire_network(b, err) ||
        colo_guest_open(&b->guest, b->domid, true, err) || check_qemu(b, peer, err) ||
        colo_guest_bound_gfns(&b->guest, b->cfg.b_info.max_memkb, &b->s.max_gfns, err))
        return -1;
    b->s.dom = b->guest.dom;
    return colo_qmp_cmd(b->guest.qmp, "stop", NULL, colo_now() + COLO_T_QMP, NULL, err);
}

/* ---- hooks ---- */

static int hook_first_run(void *priv, struct colo_err *err)
{
    struct bringup *b = priv;

    if (colo_qmp_cmd(b->guest.qmp, "cont", NULL, colo_now() + COLO_T_QMP, NULL, err))
        return -1;
    if (libxl_domain_unpause(b->ctx, b->domid, NULL))
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "cannot unpause the second copy");
    return 0;
}

static int hook_become_guest(void *priv, struct colo_err *err)
{
    struct bringup *b = priv;
    struct colo_recovery *rec = &b->p->shared->recovery;
    int rc, r;

    if (rec->net.socket[0])
        colo_net_takeover(&b->net, &rec->nics);
    rc = colo_nics_join(&rec->nics, err);
    r = libxl_domain_rename(b->ctx, b->domid, NULL, b->name);
    if (r)
        rc = colo_fail(err, COLO_ERR_LOCAL, "rename-failed",
                       "the guest runs, but could not be renamed to %s (libxl error %d)", b->name,
                       r);
    return rc;
}

/* The primary copies its disks, for hours perhaps, before it sends anything of the guest.  A device
 * model that is started before would read a disk that is not there yet. */
static int wait_for_disks(struct bringup *b, struct colo_err *err)
{
    struct colo_session *s = &b->s;
    bool pending;

    colo_state_set(s->shared, COLO_STATE_DISK_SYNC);
    xc_sr_channel_listen(&s->ch);
    for (;;) {
        struct pollfd fds[] = {
            {.fd = s->ch.rfd, .events = POLLIN},
            {.fd = s->ch.cancel_fd, .events = POLLIN},
            {.fd = s->monitor ? s->monitor->fd : -1, .events = POLLIN},
        };

        if (xc_sr_record_pending(&s->ch, &pending, err))
            return -1;
        if (pending && libxl_stream_read_libxc_context(&s->ls, err))
            return -1;
        s->announced = pending;
        if (pending)
            return 0;
        if (colo_session_command(s) == COLO_CMD_STOP)
            return colo_fail(err, COLO_ERR_CANCELLED, "operator-stop",
                             "protection was stopped on request at the secondary");
        if (poll(fds, 3, colo_poll_ms(xc_sr_channel_silent_at(&s->ch))) < 0 && errno != EINTR)
            return colo_fail_errno(err, errno, "poll");
        if (fds[1].revents)
            return colo_fail(err, COLO_ERR_CANCELLED, NULL, "the receiver was told to stop");
    }
}

static int set_up(struct bringup *b, struct colo_err *err)
{
    struct colo_session *s = &b->s;
    struct colo_caps peer;

    b->ctx = colo_ctx_new(&b->lg, err);
    if (!b->ctx || handshake(b, &peer, err) || colo_session_alive(s, err))
        return -1;
    colo_session_say(s, "receiving %s from %s", b->name, peer.host);
    if ((b->disks.n && wait_for_disks(b, err)) || build(b, &peer, err))
        return -1;
    xc_sr_channel_listen(&s->ch);
    if (b->disks.n) {
        s->hooks.disks = &b->disks;
        s->hooks.disk_hold = colo_disks_hold;
        s->hooks.disk_commit = colo_disks_commit;
        s->hooks.disk_takeover = colo_disks_takeover;
        colo_status_disks(s->shared, "replicated");
    }
    s->hooks.priv = b;
    s->hooks.event_fd = -1;
    s->hooks.dm_fd = colo_qmp_fd(b->guest.qmp);
    s->hooks.first_run = hook_first_run;
    s->hooks.become_guest = hook_become_guest;
    return 0;
}

/* One announcement went out at takeover; frames get lost, so some more while nobody waits. */
static void announce_again(struct bringup *b)
{
    const struct timespec gap = {.tv_nsec = COLO_ANNOUNCE_GAP};

    for (int i = 1; i < COLO_ANNOUNCE_TIMES; i++) {
        nanosleep(&gap, NULL);
        colo_nics_announce(&b->p->shared->recovery.nics, NULL);
    }
}

/* Should it fail, recovery.destroy stays set, and the monitor tries again. */
static void destroy_copy(struct bringup *b)
{
    struct colo_recovery *rec = &b->p->shared->recovery;

    if (rec->net.socket[0])
        colo_net_undo(&b->net, &rec->net, false, NULL);
    if (b->domid && libxl_domain_destroy(b->ctx, b->domid, NULL))
        colo_session_say(&b->s, "could not destroy domain %u, its monitor tries again", b->domid);
    else
        rec->destroy = false;
    colo_disks_undo(&b->disks, &rec->disks); /* when its device model has gone */
}

int colo_secondary(const struct colo_session_params *p, enum colo_outcome *outcome,
                   struct colo_err *err)
{
    struct bringup b = {.p = p};
    struct colo_session *s = &b.s;
    enum colo_restore_end end = COLO_RESTORE_FAILED;

    *outcome = COLO_OUT_NOTHING;
    libxl_domain_config_init(&b.cfg);
    s->role = COLO_SECONDARY;
    colo_status_begin(p->shared)->role = COLO_SECONDARY;
    colo_status_end(p->shared);
    s->config = p->config;
    s->shared = p->shared;
    s->monitor = p->monitor;
    s->ui = p->ui;
    s->hb.stop_fd = -1;
    s->ls.ch = &s->ch;
    if (xc_sr_channel_init(&s->ch, p->rfd, p->wfd, p->cancel_fd, err))
        return -1;

    if (set_up(&b, err)) {
        colo_session_explain(s, err);
        colo_session_goodbye(s, err);
    } else {
        colo_restore_run(s, &end, err);
    }
    if (end == COLO_RESTORE_TAKEN) {
        *outcome = COLO_OUT_GUEST_HERE;
        announce_again(&b);
    }

    colo_heartbeat_stop(&s->hb);
    colo_net_close(&b.net);
    colo_disks_close(&b.disks);
    colo_guest_close(&b.guest);
    if (end != COLO_RESTORE_TAKEN)
        destroy_copy(&b);
    colo_status_error(p->shared, err);
    colo_state_set(p->shared,
                   end == COLO_RESTORE_TAKEN ? COLO_STATE_UNPROTECTED : COLO_STATE_ENDED);
    xc_sr_channel_fini(&s->ch);
    libxl_domain_config_dispose(&b.cfg);
    colo_ctx_free(b.ctx, b.lg);
    return -1;
}
