/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The second copy's NICs: away from the network while it runs in lock-step, back on it, and
 * announced, when it becomes the guest.
 */
#ifndef LIBXL_COLO_NIC_H
#define LIBXL_COLO_NIC_H

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>

#include "colo_err.h"
#include "libxl_colo_proxy.h"

#define COLO_MAX_NICS 16

struct colo_nic_desc {
    char vif[IFNAMSIZ]; /* the backend's link, "vif5.0" */
    char tap[IFNAMSIZ]; /* the emulated NIC's, "vif5.0-emu" */
    uint8_t mac[6];
    struct in_addr ip; /* 0 = not known */
};

/*
 * What was isolated and how to undo it.  Plain data that may lie in shared memory: each link is
 * written down before it is touched, so that another process can undo what a killed one began.
 * All zero = nothing is isolated.
 */
struct colo_nic_link {
    char name[IFNAMSIZ];   /* empty = there was no such link */
    char bridge[IFNAMSIZ]; /* empty = it was on no Linux bridge, and was set down instead */
    int32_t bridge_index;
    bool up;   /* before we came */
    bool away; /* isolated now */
};
struct colo_nics {
    uint32_t n;
    struct {
        uint8_t mac[6];
        struct in_addr ip;
        struct colo_nic_link link[2]; /* tap, vif */
    } nic[COLO_MAX_NICS];
};

/*
 * A session's proxy, and how to undo it (libxl_colo_net.c).  Plain data in shared memory: written down before it is done.  All zero =
 * nothing.
 */
struct colo_net_undo {
    char socket[COLO_PROXY_PATH]; /* of the proxy; "" = none was started */
    char script[128];
    uint32_t n; /* NICs for which the script was run */
    char vif[COLO_MAX_NICS][IFNAMSIZ];
};

/*
 * Take the NICs off the network.  A NIC with neither link is COLO_ERR_LOCAL "nic-missing".  After a
 * failure what was isolated is in *state all the same.
 */
int colo_nics_isolate(const struct colo_nic_desc *nics, size_t n, struct colo_nics *state,
                      struct colo_err *err);

/*
 * Put every link back where it was, then announce.  Goes on past a link or bridge that vanished
 * ("nic-missing", "bridge-missing"; the message has the first one's name); that link stays `away`,
 * so that a later call tries again.  Links that are back already are left alone.
 */
int colo_nics_join(struct colo_nics *state, struct colo_err *err);

/* Announce once more; callers repeat COLO_ANNOUNCE_TIMES in all, COLO_ANNOUNCE_GAP apart. NICs that
 * are on no Linux bridge, or away, are passed over. */
int colo_nics_announce(const struct colo_nics *state, struct colo_err *err);

#endif
