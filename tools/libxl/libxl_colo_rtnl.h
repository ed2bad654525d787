/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * What all that changes network links begins with.
 */
#ifndef LIBXL_COLO_RTNL_H
#define LIBXL_COLO_RTNL_H

#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>

#include "colo_err.h"

/* A socket to the kernel, to be freed with nl_socket_free; NULL on failure. */
struct nl_sock *colo_rtnl_open(struct colo_err *err);

/*
 * The link of that name, or of that number if name is NULL, as the kernel has it now: 1, and *link
 * is to be given back with rtnl_link_put; 0 and NULL when there is none; -1.
 */
int colo_rtnl_link(struct nl_sock *sk, int index, const char *name, struct rtnl_link **link,
                   struct colo_err *err);

/*
 * The Linux bridge that the link is on: its index, and its name; 0 and "" when it is on none (the
 * master of an Open vSwitch port is of another type); -1 on failure.
 */
int colo_rtnl_bridge_of(struct nl_sock *sk, struct rtnl_link *link, char name[IFNAMSIZ],
                        struct colo_err *err);

#endif
