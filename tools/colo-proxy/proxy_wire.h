/* SPDX-License-Identifier: GPL-2.0-only */
/* Traffic control, as far as the proxy's wiring needs it. */
#ifndef PROXY_WIRE_H
#define PROXY_WIRE_H

#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <stdbool.h>

#include "colo_err.h"

/* A plain queue of so many frames: others drop what nobody has read for some milliseconds. */
int proxy_wire_queue(struct nl_sock *sk, struct rtnl_link *link, int frames, struct colo_err *err);

/* The qdisc that filters on what comes in hang on: 0 = made, 1 = it was there, -1 */
int proxy_wire_ingress(struct nl_sock *sk, struct rtnl_link *link, struct colo_err *err);

/* All that comes in on `from` goes out on `to`, and nowhere else.  May be called again. */
int proxy_wire_filter(struct nl_sock *sk, struct rtnl_link *from, struct rtnl_link *to,
                      struct colo_err *err);

/* Undo proxy_wire_filter, and proxy_wire_ingress if `all`.  Nothing there is fine. */
int proxy_wire_unfilter(struct nl_sock *sk, struct rtnl_link *from, bool all, struct colo_err *err);

#endif
