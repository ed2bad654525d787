/* SPDX-License-Identifier: GPL-2.0-only */
/* Frames, between the taps, the link and the engine. */
#include "proxy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH 64 /* frames from one tap before the others get their turn */

const char *proxy_phase_name(enum proxy_phase phase)
{
    static const char *const names[] = {"new", "pass", "lockstep", "taken", "aside"};

    return names[phase];
}

/*
 * A tap takes a frame or drops it, as a wire would, when the guest or the bridge cannot keep up.
 * That the tap itself has gone is noticed when it is read.
 */
static void put_frame(int fd, const uint8_t *frame, uint32_t len)
{
    ssize_t n;

    do
        n = write(fd, frame, len);
    while (n < 0 && errno == EINTR);
}

static void release(void *ctx, const uint8_t *frame, uint32_t len)
{
    const struct proxy_nic *nic = ctx;

    put_frame(nic->port_fd, frame, len);
}

int proxy_nic_start(struct proxy *p, struct proxy_nic *nic,
                    const struct colo_compare_config *limits, struct colo_err *err)
{
    struct colo_compare_config cfg = *limits;
    const struct colo_rewrite_config rewrite = {.seed = {limits->seed[0], limits->seed[1]}};

    if (p->secondary)
        return colo_rewrite_new(&rewrite, &nic->rewrite, err);
    cfg.mode = COLO_MODE_PASS; /* until the first checkpoint */
    cfg.release = release;
    cfg.ctx = nic;
    nic->refused = malloc(COLO_FRAME_MAX);
    if (!nic->refused)
        return colo_fail_errno(err, ENOMEM, "a NIC's buffer");
    return colo_compare_new(&cfg, &nic->compare, err);
}

void proxy_nic_fini(struct proxy_nic *nic)
{
    colo_compare_free(nic->compare);
    colo_rewrite_free(nic->rewrite);
    free(nic->refused);
    if (nic->guest_fd >= 0)
        close(nic->guest_fd);
    if (nic->port_fd >= 0)
        close(nic->port_fd);
    memset(nic, 0, sizeof(*nic));
    nic->guest_fd = nic->port_fd = -1;
}

/* One frame into p->frame: its length, 0 when there is none, -1 when the tap has gone. */
static int get_frame(struct proxy *p, int fd, const char *name, struct colo_err *err)
{
    ssize_t n;

    do
        n = read(fd, p->frame, sizeof(p->frame));
    while (n < 0 && errno == EINTR);
    if (n > 0)
        return (int)n;
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n == 0)
        return colo_fail(err, COLO_ERR_LOCAL, "proxy-tap", "network link %s has gone", name);
    colo_fail_errno(err, errno, "network link %s", name);
    return -1;
}

void proxy_lose_link(struct proxy *p, const struct colo_err *why)
{
    if (!p->link)
        return;
    proxy_link_free(p->link);
    p->link = NULL;
    p->link_lost = true;
    p->link_err = *why;
}

static void send_on_link(struct proxy *p, struct proxy_nic *nic, enum proxy_msg type,
                         const uint8_t *frame, uint32_t len)
{
    if (!p->link || !proxy_link_send_frame(p->link, type, (uint8_t)(nic - p->nic), frame, len))
        nic->link_dropped++; /* lost as on a network: a TCP copy asks its client again */
}

/* ---- from the guest ---- */

/* One for which the engine has no room is kept for later. */
static void guest_frame(struct proxy *p, struct proxy_nic *nic, uint8_t *frame, uint32_t len)
{
    if (!p->secondary) {
        if (colo_compare_primary(nic->compare, frame, len, p->now)) {
            memmove(nic->refused, frame, len);
            nic->refused_len = len;
        }
        return;
    }
    switch (p->phase) {
    case PROXY_PHASE_LOCKSTEP:
        colo_rewrite_observe(nic->rewrite, frame, len, p->now);
        send_on_link(p, nic, PROXY_MSG_GUEST, frame, len);
        break;
    case PROXY_PHASE_TAKEN:
    case PROXY_PHASE_ASIDE:
        colo_rewrite_from_guest(nic->rewrite, frame, len, p->now);
        put_frame(nic->port_fd, frame, len);
        break;
    case PROXY_PHASE_NEW:
    case PROXY_PHASE_PASS:
        nic->stale++;
        break;
    }
}

bool proxy_reads_guest(const struct proxy *p, const struct proxy_nic *nic)
{
    if (nic->guest_gone || nic->refused_len)
        return false;
    return !(p->secondary && p->phase == PROXY_PHASE_LOCKSTEP && p->link &&
             proxy_link_full(p->link));
}

int proxy_from_guest(struct proxy *p, struct proxy_nic *nic, struct colo_err *err)
{
    int n;

    for (int i = 0; i < BATCH && proxy_reads_guest(p, nic); i++) {
        n = get_frame(p, nic->guest_fd, nic->links.guest, err);
        if (n <= 0)
            return n;
        nic->from_guest++;
        nic->from_guest_bytes += (uint64_t)n;
        guest_frame(p, nic, p->frame, (uint32_t)n);
    }
    return 0;
}

/* ---- to the guest ---- */

static void to_guest(struct proxy_nic *nic, const uint8_t *frame, uint32_t len)
{
    nic->to_guest++;
    nic->to_guest_bytes += len;
    put_frame(nic->guest_fd, frame, len);
}

bool proxy_reads_bridge(const struct proxy *p, const struct proxy_nic *nic)
{
    if (nic->port_gone || p->held)
        return false;
    if (p->secondary)
        return p->phase >= PROXY_PHASE_TAKEN;
    return !(p->link && proxy_link_full(p->link));
}

int proxy_from_bridge(struct proxy *p, struct proxy_nic *nic, struct colo_err *err)
{
    int n;

    for (int i = 0; i < BATCH && proxy_reads_bridge(p, nic); i++) {
        n = get_frame(p, nic->port_fd, nic->links.port, err);
        if (n <= 0)
            return n;
        if (p->secondary) {
            colo_rewrite_to_guest(nic->rewrite, p->frame, (uint32_t)n, p->now);
        } else if (p->phase == PROXY_PHASE_LOCKSTEP) {
            colo_compare_client(nic->compare, p->frame, (uint32_t)n, p->now);
            send_on_link(p, nic, PROXY_MSG_CLIENT, p->frame, (uint32_t)n);
        }
        to_guest(nic, p->frame, (uint32_t)n);
    }
    return 0;
}

/* ---- from the link ---- */

static void client_frame(struct proxy *p, struct proxy_nic *nic, const struct proxy_link_event *ev)
{
    if (p->phase < PROXY_PHASE_LOCKSTEP || p->held || p->barrier < p->checkpoint) {
        nic->stale++; /* the copy has it by the checkpoint */
        return;
    }
    memcpy(p->frame, ev->data, ev->len);
    colo_rewrite_to_guest(nic->rewrite, p->frame, ev->len, p->now);
    to_guest(nic, p->frame, ev->len);
}

/* What the second copy sends at a checkpoint that we are not at yet is not for the engine's eyes. */
bool proxy_reads_link(const struct proxy *p)
{
    return p->secondary || p->mark <= p->checkpoint;
}

static void take(struct proxy *p, const struct proxy_link_event *ev)
{
    struct proxy_nic *nic = &p->nic[ev->nic];

    switch (ev->type) {
    case PROXY_MSG_CLIENT:
        if (ev->nic < p->nr_nics)
            client_frame(p, nic, ev);
        break;
    case PROXY_MSG_GUEST:
        if (ev->nic >= p->nr_nics)
            break;
        if (p->phase == PROXY_PHASE_LOCKSTEP && p->mark == p->checkpoint)
            colo_compare_secondary(nic->compare, ev->data, ev->len, p->now);
        else
            nic->stale++;
        break;
    case PROXY_MSG_BARRIER:
        p->barrier = ev->checkpoint;
        break;
    case PROXY_MSG_MARK:
        p->mark = ev->checkpoint;
        break;
    case PROXY_MSG_HELLO:
    case PROXY_MSG_PING:
        break;
    }
}

void proxy_from_link(struct proxy *p)
{
    struct proxy_link_event ev;
    struct colo_err err;
    int rc = 0;

    while (p->link && proxy_reads_link(p)) {
        rc = proxy_link_next(p->link, &ev, &err);
        if (rc <= 0)
            break;
        take(p, &ev);
    }
    if (rc < 0)
        proxy_lose_link(p, &err);
}
