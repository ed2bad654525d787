/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * On a Linux bridge the link is taken off it; the copy then hears and says nothing, and its NIC
 * keeps its carrier.  A link that is elsewhere (Open vSwitch, routed) is set down: we would not know
 * how to put it back.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <linux/neighbour.h>
#include <netlink/route/neighbour.h>

#include "libxl_colo_announce.h"
#include "libxl_colo_nic.h"
#include "libxl_colo_rtnl.h"

enum { TAP, VIF, NLINKS };

static int set_up(struct nl_sock *sk, struct rtnl_link *link, bool up, struct colo_err *err)
{
    struct rtnl_link *change = rtnl_link_alloc();
    int r = -NLE_NOMEM;

    if (change) {
        if (up)
            rtnl_link_set_flags(change, IFF_UP);
        else
            rtnl_link_unset_flags(change, IFF_UP);
        r = rtnl_link_change(sk, link, change, 0);
        rtnl_link_put(change);
    }
    if (r < 0)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "setting network link %s %s: %s",
                         rtnl_link_get_name(link), up ? "up" : "down", nl_geterror(r));
    return 0;
}

/* Should we be killed at any point, what is needed to undo is written down already: the kernel
 * keeps shared memory as it is, and only the compiler must be told to keep the order. */
static void set_away(struct colo_nic_link *l, bool away)
{
    __atomic_store_n(&l->away, away, __ATOMIC_SEQ_CST);
}

static int isolate_link(struct nl_sock *sk, const char *name, struct colo_nic_link *l,
                        struct colo_err *err)
{
    struct rtnl_link *link;
    int rc, r = colo_rtnl_link(sk, 0, name, &link, err);

    if (r <= 0)
        return r;
    snprintf(l->name, sizeof(l->name), "%s", name);
    l->up = rtnl_link_get_flags(link) & IFF_UP;
    rc = colo_rtnl_bridge_of(sk, link, l->bridge, err);
    if (rc < 0)
        goto out;
    l->bridge_index = rc;
    rc = 0;
    set_away(l, true);
    if (l->bridge[0]) {
        r = rtnl_link_release_ifindex(sk, rtnl_link_get_ifindex(link));
        if (r < 0)
            rc = colo_fail(err, COLO_ERR_LOCAL, NULL, "taking %s off bridge %s: %s", name,
                           l->bridge, nl_geterror(r));
    } else {
        rc = set_up(sk, link, false, err);
    }

out:
    rtnl_link_put(link);
    return rc;
}

int colo_nics_isolate(const struct colo_nic_desc *nics, size_t n, struct colo_nics *state,
                      struct colo_err *err)
{
    struct nl_sock *sk;
    size_t i;
    int rc = -1;

    memset(state, 0, sizeof(*state));
    if (n > COLO_MAX_NICS)
        return colo_fail(err, COLO_ERR_LOCAL, "too-many-nics", "%zu NICs, at most %d", n,
                         COLO_MAX_NICS);
    sk = colo_rtnl_open(err);
    if (!sk)
        return -1;
    for (i = 0; i < n; i++) {
        memcpy(state->nic[i].mac, nics[i].mac, sizeof(state->nic[i].mac));
        state->nic[i].ip = nics[i].ip;
        state->n = (uint32_t)i + 1;
        if (isolate_link(sk, nics[i].tap, &state->nic[i].link[TAP], err) < 0 ||
            isolate_link(sk, nics[i].vif, &state->nic[i].link[VIF], err) < 0)
            goto out;
        if (!state->nic[i].link[TAP].name[0] && !state->nic[i].link[VIF].name[0]) {
            colo_fail(err, COLO_ERR_LOCAL, "nic-missing",
                      "NIC %zu of the copy has neither link: no %s, no %s", i, nics[i].tap,
                      nics[i].vif);
            goto out;
        }
    }
    rc = 0;

out:
    nl_socket_free(sk);
    return rc;
}

/* The bridge may have been made anew under its name, or renamed. */
static int find_bridge(struct nl_sock *sk, const struct colo_nic_link *l, int *index,
                       struct colo_err *err)
{
    struct rtnl_link *bridge;
    int r = colo_rtnl_link(sk, 0, l->bridge, &bridge, err);

    if (r == 0)
        r = colo_rtnl_link(sk, l->bridge_index, NULL, &bridge, err);
    if (r == 0)
        return colo_fail(err, COLO_ERR_LOCAL, "bridge-missing",
                         "bridge %s, on which %s was, does not exist any more", l->bridge, l->name);
    if (r < 0)
        return -1;
    *index = rtnl_link_get_ifindex(bridge);
    rtnl_link_put(bridge);
    return 0;
}

static int join_link(struct nl_sock *sk, struct colo_nic_link *l, struct colo_err *err)
{
    struct rtnl_link *link;
    int rc = -1, r, bridge = 0;

    if (!l->away)
        return 0;
    r = colo_rtnl_link(sk, 0, l->name, &link, err);
    if (r < 0)
        return -1;
    if (r == 0)
        return colo_fail(err, COLO_ERR_LOCAL, "nic-missing",
                         "network link %s does not exist any more", l->name);
    if (l->bridge[0]) {
        if (find_bridge(sk, l, &bridge, err) < 0)
            goto out;
        r = 0;
        if (rtnl_link_get_master(link) != bridge)
            r = rtnl_link_enslave_ifindex(sk, bridge, rtnl_link_get_ifindex(link));
        if (r < 0) {
            colo_fail(err, COLO_ERR_LOCAL, NULL, "putting %s back on bridge %s: %s", l->name,
                      l->bridge, nl_geterror(r));
            goto out;
        }
    }
    if (l->up && !(rtnl_link_get_flags(link) & IFF_UP) && set_up(sk, link, true, err) < 0)
        goto out;
    set_away(l, false);
    rc = 0;

out:
    rtnl_link_put(link);
    return rc;
}

/* The bridge may know the guest's address behind the uplink, from its time on the other host, and
 * does not learn from frames of its own.  The guest's first frame would correct it; we need not
 * wait for that.  Best effort. */
static void teach_bridge(struct nl_sock *sk, const char *port, const uint8_t mac[6])
{
    struct rtnl_neigh *entry = rtnl_neigh_alloc();
    struct nl_addr *addr = nl_addr_build(AF_LLC, mac, 6);
    struct rtnl_link *link = NULL;

    if (entry && addr && colo_rtnl_link(sk, 0, port, &link, NULL) > 0) {
        rtnl_neigh_set_family(entry, AF_BRIDGE);
        rtnl_neigh_set_ifindex(entry, rtnl_link_get_ifindex(link));
        rtnl_neigh_set_lladdr(entry, addr);
        rtnl_neigh_set_flags(entry, NTF_MASTER);
        rtnl_neigh_set_state(entry, NUD_REACHABLE);
        (void)rtnl_neigh_add(sk, entry, NLM_F_CREATE | NLM_F_REPLACE);
    }
    rtnl_link_put(link);
    nl_addr_put(addr);
    rtnl_neigh_put(entry);
}

/* The link that the guest uses: the emulated NIC's if there is one, for PV drivers are off. */
static const struct colo_nic_link *used_link(const struct colo_nic_link link[NLINKS])
{
    return link[TAP].name[0] ? &link[TAP] : &link[VIF];
}

int colo_nics_join(struct colo_nics *state, struct colo_err *err)
{
    struct colo_err why = {.cls = COLO_OK}, *first = &why;
    const struct colo_nic_link *l;
    struct nl_sock *sk = NULL;
    bool was_away;
    uint32_t i;

    if (state->n == 0)
        return 0;
    sk = colo_rtnl_open(err);
    if (!sk)
        return -1;
    for (i = 0; i < state->n && i < COLO_MAX_NICS; i++) {
        l = used_link(state->nic[i].link);
        was_away = l->away;
        if (join_link(sk, &state->nic[i].link[TAP], first) < 0)
            first = NULL; /* the first error is the one that is told */
        if (join_link(sk, &state->nic[i].link[VIF], first) < 0)
            first = NULL;
        if (was_away && !l->away && l->bridge[0])
            teach_bridge(sk, l->name, state->nic[i].mac);
    }
    nl_socket_free(sk);
    if (colo_nics_announce(state, first) < 0)
        first = NULL;
    if (why.cls == COLO_OK)
        return 0;
    if (err)
        *err = why;
    return -1;
}

int colo_nics_announce(const struct colo_nics *state, struct colo_err *err)
{
    const struct colo_nic_link *l;
    struct colo_err *first = err;
    int rc = 0;
    uint32_t i;

    for (i = 0; i < state->n && i < COLO_MAX_NICS; i++) {
        l = used_link(state->nic[i].link);
        if (l->away || !l->bridge[0])
            continue;
        if (colo_announce_send(l->bridge, state->nic[i].mac, state->nic[i].ip, first) < 0) {
            first = NULL;
            rc = -1;
        }
    }
    return rc;
}
