/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The way that the two proxies of a guest talk: on the network device that forwarddev= of a vif
 * names, or else wherever the peer's address leads.
 */
#ifndef LIBXL_COLO_FORWARD_H
#define LIBXL_COLO_FORWARD_H

#include <libxl.h>
#include <net/if.h>

#include "colo_err.h"

#define COLO_ADDRESS 64 /* a numeric address, and what names it */

/* What the first NIC with a forwarddev= says; NULL when none has. */
const char *colo_forward_device(const libxl_domain_config *cfg);

/*
 * Secondary: the address to listen at, numeric.  On `device`: its first IPv4 address, or else its
 * first IPv6 one, a link-local one at last; without any: COLO_ERR_REFUSED "forwarddev".  Device NULL:
 * the one at which ssh found this host; "" without ssh, which is all addresses.
 */
int colo_forward_listen(const char *device, char address[COLO_ADDRESS], struct colo_err *err);

/* How to write such an address, so that a link-local one is looked for on device. */
void colo_forward_host(const char *device, const char *address, char host[COLO_ADDRESS + IFNAMSIZ]);

#endif
