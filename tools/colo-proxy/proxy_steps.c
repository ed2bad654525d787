/* SPDX-License-Identifier: GPL-2.0-only */
/* What the toolstack asks for at checkpoints and at the end. */
#include "proxy.h"

#define DRAIN_TURNS 256

/* All that the guest has sent so far; without an error, since what a vanished tap held is lost. */
static void drain_guest(struct proxy *p, struct proxy_nic *nic)
{
    uint64_t before;

    if (nic->guest_gone)
        return;
    do {
        before = nic->from_guest;
        if (proxy_from_guest(p, nic, NULL))
            return;
    } while (nic->from_guest != before);
}

int proxy_hold(struct proxy *p, uint64_t checkpoint, struct colo_err *err)
{
    if (p->phase != PROXY_PHASE_PASS && p->phase != PROXY_PHASE_LOCKSTEP)
        return colo_fail(err, COLO_ERR_PROTOCOL, "proxy-phase", "hold in phase %s",
                         proxy_phase_name(p->phase));
    if (checkpoint <= p->checkpoint)
        return colo_fail(err, COLO_ERR_PROTOCOL, "proxy-phase",
                         "checkpoint %llu after checkpoint %llu", (unsigned long long)checkpoint,
                         (unsigned long long)p->checkpoint);
    p->held = true;
    if (!p->secondary && p->link) {
        p->barrier = checkpoint;
        proxy_link_send_number(p->link, PROXY_MSG_BARRIER, checkpoint);
    }
    return 0;
}

/*
 * P: all that its guest has sent is handed to the engine, which then lets out what it holds.  An
 * engine without room lets out what it holds first: that, too, is covered by this checkpoint.
 */
static void commit(struct proxy *p, struct proxy_nic *nic)
{
    drain_guest(p, nic);
    while (nic->refused_len) {
        uint32_t len = nic->refused_len;

        colo_compare_checkpoint(nic->compare, p->now);
        nic->refused_len = 0;
        if (colo_compare_primary(nic->compare, nic->refused, len, p->now))
            break; /* longer than all the room there is: not a frame of a NIC */
        drain_guest(p, nic);
    }
    if (colo_compare_mode(nic->compare) != p->mode)
        colo_compare_set_mode(nic->compare, p->mode, p->now);
    colo_compare_checkpoint(nic->compare, p->now);
}

/* S: what the copy sent before it became what P's is counts for nothing. */
static void forget(struct proxy *p, struct proxy_nic *nic)
{
    enum proxy_phase phase = p->phase;
    uint64_t before = nic->from_guest;

    p->phase = PROXY_PHASE_PASS; /* in which S drops what it reads */
    drain_guest(p, nic);
    p->phase = phase;
    nic->from_guest = before;
    colo_rewrite_checkpoint(nic->rewrite);
}

int proxy_checkpoint(struct proxy *p, uint64_t checkpoint, struct colo_err *err)
{
    if (!p->held || checkpoint <= p->checkpoint)
        return colo_fail(err, COLO_ERR_PROTOCOL, "proxy-phase", "checkpoint %llu: not held for it",
                         (unsigned long long)checkpoint);
    for (uint32_t i = 0; i < p->nr_nics; i++)
        if (p->secondary)
            forget(p, &p->nic[i]);
        else
            commit(p, &p->nic[i]);
    p->checkpoint = checkpoint;
    p->phase = PROXY_PHASE_LOCKSTEP;
    p->held = false;
    if (p->secondary && p->link)
        proxy_link_send_number(p->link, PROXY_MSG_MARK, checkpoint);
    return 0;
}

void proxy_pass(struct proxy *p)
{
    p->held = false;
    if (p->secondary || p->phase == PROXY_PHASE_NEW)
        return;
    p->phase = PROXY_PHASE_PASS;
    for (uint32_t i = 0; i < p->nr_nics; i++) {
        struct proxy_nic *nic = &p->nic[i];

        colo_compare_set_mode(nic->compare, COLO_MODE_PASS, p->now);
        if (nic->refused_len)
            colo_compare_primary(nic->compare, nic->refused, nic->refused_len, p->now);
        nic->refused_len = 0;
    }
}

int proxy_takeover(struct proxy *p, struct colo_err *err)
{
    if (p->phase == PROXY_PHASE_TAKEN || p->phase == PROXY_PHASE_ASIDE)
        return 0;
    if (!p->secondary || p->phase != PROXY_PHASE_LOCKSTEP)
        return colo_fail(err, COLO_ERR_PROTOCOL, "proxy-phase", "takeover in phase %s",
                         proxy_phase_name(p->phase));
    p->phase = PROXY_PHASE_TAKEN;
    p->held = false;
    return 0;
}

uint32_t proxy_rewriting(struct proxy *p)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->nr_nics; i++)
        n += p->nic[i].rewrite ? colo_rewrite_active(p->nic[i].rewrite, p->now) : 0;
    return n;
}

void proxy_drain(struct proxy *p)
{
    for (uint32_t i = 0; i < p->nr_nics; i++) {
        struct proxy_nic *nic = &p->nic[i];
        uint64_t before;

        drain_guest(p, nic);
        /* Broadcasts go on coming as long as the port is on the bridge: they have an end here. */
        for (int turn = 0; turn < DRAIN_TURNS && !nic->port_gone; turn++) {
            before = nic->to_guest;
            if (proxy_from_bridge(p, nic, NULL) || nic->to_guest == before)
                break;
        }
    }
}
