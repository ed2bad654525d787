/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The network of a session: one colo-proxy on each host, the script that wires it to the guest's
 * NICs, and their undoing, also by a monitor after the session was killed.
 */
#ifndef LIBXL_COLO_NET_H
#define LIBXL_COLO_NET_H

#include <libxl.h>

#include "libxl_colo_nic.h"
#include "libxl_colo_proxy.h"
#include "libxl_colo_shared.h"

struct colo_net {
    struct colo_proxy *px; /* NULL = this session has no proxy */
    struct colo_net_undo *undo;
    struct colo_shared *shared; /* primary: whose status tells of differences; else NULL */
    uint32_t n;
    char vif[COLO_MAX_NICS][IFNAMSIZ];
    char bridge[COLO_MAX_NICS][IFNAMSIZ]; /* of the configuration; "" = it names none */
};

/* The names of the guest's vifs ("vif5.0", or what vifname= says). */
int colo_net_name(struct colo_net *net, const libxl_domain_config *cfg, uint32_t domid,
                  struct colo_err *err);

/* Start this host's proxy.  `undo` must outlive everything, and is for colo_net_undo also after a
 * failure. */
int colo_net_start(struct colo_net *net, struct colo_net_undo *undo, const char *script,
                   const char *session, const char *guest, bool secondary, struct colo_err *err);

/*
 * Wire the NICs to the proxy.  Primary: frames go by from now on.  Secondary: nics, which are
 * isolated, then name the proxy's ports as what is to join the bridges at takeover.
 */
int colo_net_wire(struct colo_net *net, struct colo_nics *nics, const char *mode,
                  uint32_t output_wait_ms, struct colo_err *err);

/* Wait until the two proxies have found each other. */
int colo_net_wait_link(struct colo_net *net, int cancel_fd, colo_time deadline,
                       struct colo_err *err);

/* ---- session hooks, with net = struct colo_net ---- */
int colo_net_hold(void *net, uint64_t checkpoint, struct colo_err *err);
int colo_net_commit(void *net, uint64_t checkpoint, struct colo_err *err);
/* Primary: a lost link or tap ends protection. */
int colo_net_event(void *net, bool *wanted, struct colo_err *err);

/* Secondary: its copy is the guest.  Without a proxy (any more) the guest's taps join directly: then
 * nics name them again. */
void colo_net_takeover(struct colo_net *net, struct colo_nics *nics);

/*
 * Nothing of it is left; the guest's taps are on their bridges if `rejoin`.  Goes on past errors
 * and tells the first.  net may be closed (px NULL) or NULL.
 */
int colo_net_undo(struct colo_net *net, struct colo_net_undo *undo, bool rejoin,
                  struct colo_err *err);

/* The proxy goes on without this process. */
void colo_net_close(struct colo_net *net);

#endif
