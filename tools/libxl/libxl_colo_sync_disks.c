/* SPDX-License-Identifier: LGPL-2.1-only */
#include "libxl_colo_sync_disks.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxl_colo_control.h"
#include "libxl_colo_monitor_log.h"
#include "libxl_colo_proxy.h"

#define LOOK_EVERY  (500 * COLO_MS)
#define SPEAK_AFTER (10 * 1000 * COLO_MS)
#define LATE_LIMIT  (10 * 1000 * COLO_MS) /* for writes to reach the other host's disk */
#define T_STOP      (30 * 1000 * COLO_MS)

/* What libxl started as the device model: the process that listens at the QMP socket, by the name it
 * was started with.  The other host has the same. */
static int device_model(struct colo_qmp *q, char *path, size_t len, struct colo_err *err)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    char proc[40];
    FILE *f;
    size_t n = 0;

    path[0] = '\0';
    if (!getsockopt(colo_qmp_fd(q), SOL_SOCKET, SO_PEERCRED, &peer, &size)) {
        snprintf(proc, sizeof(proc), "/proc/%d/cmdline", (int)peer.pid);
        f = fopen(proc, "re");
        if (f) {
            n = fread(path, 1, len - 1, f); /* the first word ends at its NUL */
            fclose(f);
        }
        path[n] = '\0';
    }
    return path[0] == '/' ? 0
                          : colo_fail(err, COLO_ERR_LOCAL, NULL,
                                      "the path of the guest's device model cannot be found out");
}

int colo_sync_disks_caps(const struct colo_sync *sync, struct colo_caps *caps, struct colo_err *err)
{
    const struct colo_qdisks *d = &sync->q;

    caps->disks = d->n;
    for (uint32_t i = 0; i < d->n; i++) {
        memcpy(caps->disk[i].vdev, d->disk[i].vdev, sizeof(caps->disk[i].vdev));
        caps->disk[i].size = d->disk[i].size;
    }
    if (!d->n)
        return 0;
    return colo_proxy_make_key(caps->disk_key, err) ||
                   device_model(d->qmp, caps->device_model, sizeof(caps->device_model), err)
               ? -1
               : 0;
}

/* The first copy of all disks. */
struct copying {
    colo_time begun, moved; /* when something was copied last */
    uint64_t done;          /* bytes, by then */
    unsigned int told;      /* tenths that were said */
};

/* For those who look at the status; and a line for each tenth to those who wait, from the time on
 * that they have waited long.  -1: it goes on no more.  Then the guest must not go on waiting, for
 * what it writes to where the copy has been has to be there, too. */
static int show_progress(struct colo_session *s, const struct colo_qdisks *d, struct copying *c,
                         struct colo_err *err)
{
    uint64_t done = 0, total = 0;
    colo_time now = colo_now();
    unsigned int tenths;
    char text[64];

    for (uint32_t i = 0; i < d->n; i++) {
        done += d->disk[i].done;
        total += d->disk[i].total;
    }
    if (done != c->done)
        c->moved = now;
    c->done = done;
    if (now - c->moved > LATE_LIMIT)
        return colo_fail(err, COLO_ERR_TIMEOUT, "disk-mirror",
                         "for %d s nothing could be written to the other host's disks",
                         (int)(LATE_LIMIT / (1000 * COLO_MS)));
    tenths = total ? (unsigned int)(done * 10 / total) : 0;
    snprintf(text, sizeof(text), "copying, %.0f of %.0f MiB", (double)done / (1 << 20),
             (double)total / (1 << 20));
    colo_status_disks(s->shared, text);
    if (now - c->begun > SPEAK_AFTER && tenths > c->told) {
        colo_session_say(s, "disks: %s", text);
        c->told = tenths;
    }
    return 0;
}

/* How long the peer may be silent. */
static colo_time silence(const struct colo_session *s)
{
    return (colo_time)s->config.heartbeat_ms * s->config.heartbeat_misses * COLO_MS;
}

static int hook_check(void *disks, struct colo_err *err)
{
    return colo_qdisks_check(disks, err);
}

static void hook_cut(void *disks)
{
    colo_qdisks_cut(disks);
}

/*
 * QEMU's stop waits for every write to be on both hosts.  That takes long where the other host's disk
 * is slow, and for ever where the host is gone: as long as it sends something, wait; up to a limit,
 * since the guest stands still.
 */
static bool when_late(void *priv)
{
    struct colo_sync *sync = priv;
    colo_time now = colo_now();
    int unread = 0;

    ioctl(sync->s->ch.rfd, FIONREAD, &unread);
    if (!sync->late_at || now - sync->late_last > 2 * silence(sync->s)) { /* another command */
        sync->late_at = now;
        sync->unread = 0;
    }
    sync->late_last = now;
    if (unread > sync->unread && now - sync->late_at < LATE_LIMIT) {
        sync->unread = unread;
        return true;
    }
    sync->late_at = 0;
    colo_qdisks_cut(&sync->q);
    return false;
}

static int start(struct colo_session *s, struct colo_sync *d, const char *host,
                 const struct colo_caps *mine, const struct colo_caps *peer, struct colo_err *err)
{
    struct colo_disk_undo *undo = &s->shared->recovery.disks;
    const char *sockets[COLO_MAX_DISKS];
    char log[COLO_LOG_PATH];
    int rc;

    s->shared->recovery.mirrors = true;
    snprintf(undo->key, sizeof(undo->key), COLO_RUN_DIR "/disk-%.36s-p.psk", mine->session);
    rc = colo_relay_put_key(undo->key, mine->disk_key, err);
    for (uint32_t i = 0; i < d->q.n && !rc; i++) {
        const struct colo_qdisk *disk = &d->q.disk[i];
        const struct colo_relay_way way = {.host = disk->host ? disk->host : host,
                                           .port = peer->disk[i].port,
                                           .export = disk->export,
                                           .keyfile = undo->key};
        const char *vdev = disk->vdev;

        snprintf(undo->guest[i], sizeof(undo->guest[i]), COLO_RUN_DIR "/disk-%.36s-%.15s-p.nbd",
                 mine->session, vdev);
        colo_log_path_disk(log, vdev, s->shared->recovery.name);
        undo->n = i + 1;
        sockets[i] = undo->guest[i];
        if (i >= peer->disks || strcmp(peer->disk[i].vdev, vdev) != 0)
            rc = colo_fail(err, COLO_ERR_PROTOCOL, "bad-capabilities", "the peer serves no disk %s",
                           vdev);
        else if (colo_relay_start(&d->relay[i], sockets[i], &way, log, err))
            rc = colo_err_prefix(err, "disk %s", vdev);
    }
    if (!rc)
        rc = colo_qdisks_start(&d->q, sockets, err);
    unlink(undo->key);
    undo->key[0] = '\0';
    return rc;
}

int colo_sync_disks(struct colo_session *s, struct colo_sync *sync, const char *host,
                    const struct colo_caps *mine, const struct colo_caps *peer,
                    struct colo_err *err)
{
    struct colo_qdisks *d = &sync->q;
    struct copying copying = {.begun = colo_now()};
    int rc;

    if (!d->n)
        return 0;
    colo_state_set(s->shared, COLO_STATE_DISK_SYNC);
    s->hooks.disks = d;
    s->hooks.disk_check = hook_check;
    s->hooks.disk_cut = hook_cut;
    sync->s = s;
    colo_qmp_on_late(d->qmp, silence(s), when_late, sync);
    if (start(s, sync, host, mine, peer, err))
        return -1;
    xc_sr_channel_listen(&s->ch);
    copying.moved = colo_now();
    while ((rc = colo_qdisks_progress(d, err)) == 0) {
        colo_time until = colo_now() + LOOK_EVERY;
        struct colo_wanted ignored = {0};

        if (show_progress(s, d, &copying, err))
            return -1;
        while (colo_now() < until)
            if (colo_trigger_watch(s, until, &ignored, err))
                return -1;
    }
    if (rc < 0)
        return -1;
    colo_status_disks(s->shared, "replicated");
    colo_session_say(s, "disks: on both hosts after %.1f s",
                     (double)(colo_now() - copying.begun) / 1e9);
    return 0;
}

void colo_sync_disks_end(struct colo_session *s, struct colo_sync *sync)
{
    struct colo_recovery *rec = &s->shared->recovery;
    struct colo_err e = {0};

    if (!rec->mirrors)
        return;
    colo_qmp_on_late(sync->q.qmp, 0, NULL, NULL);
    colo_qdisks_cut(
        &sync->q); /* QEMU may be waiting for the other host: then it answers nothing else */
    if (colo_qdisks_stop(sync->q.qmp, colo_now() + T_STOP, &e))
        colo_session_say(s, "the guest's disks: %s", e.msg);
    else
        rec->mirrors = false;
    for (uint32_t i = 0; i < sync->q.n; i++)
        colo_relay_stop(&sync->relay[i]);
    memset(&rec->disks, 0, sizeof(rec->disks));
    colo_status_disks(s->shared, "not replicated");
}
