/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Network links: the proxy's two taps beside a guest's tap.  What is needed to undo it is written
 * down in the kernel, as the alias of both taps, so that it can be undone by whoever comes
 * later, after a crash of everybody else.
 */
#ifndef PROXY_LINKS_H
#define PROXY_LINKS_H

#include <net/if.h>
#include <stdbool.h>

#include "colo_err.h"

struct proxy_links {
    char tap[IFNAMSIZ];   /* the guest's tap, "vif5.0-emu" */
    char guest[IFNAMSIZ]; /* "vif5.0-cg": what the guest sends and gets */
    char port[IFNAMSIZ];  /* "vif5.0-cb": on the bridge instead of the guest's tap */
};

/* The names that belong to a vif ("vif5.0"); -1 when one would be too long. */
int proxy_links_name(const char *vif, struct proxy_links *l, struct colo_err *err);

/* Open one of our two taps, and make it if there is none: it stays when the process ends.
 * Non-blocking, one frame a read or write. */
int proxy_tap_open(const char *name, int *fd, struct colo_err *err);

/*
 * Wire the guest's tap to the first of ours, both ways.  Primary (bridge NULL): the second one takes
 * the place of the guest's tap on its bridge; a tap that is on no Linux bridge is COLO_ERR_REFUSED
 * "nic-bridge".  Secondary: `bridge` is noted as the one for later, and the guest's tap comes off it.
 * May be called again.  On failure all is undone.
 */
int proxy_links_setup(const struct proxy_links *l, const char *bridge, struct colo_err *err);

/*
 * The guest's tap goes back on its bridge, if `rejoin`, and what it sends takes it directly from now
 * on.  Our taps are still there, so that what they hold can be passed on.  The guest's tap, or all
 * of it, may have gone already.
 */
int proxy_links_aside(const struct proxy_links *l, bool rejoin, struct colo_err *err);

/* Remove our two taps. */
int proxy_links_remove(const struct proxy_links *l, struct colo_err *err);

#endif
