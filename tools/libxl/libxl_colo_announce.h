/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Telling the network that a guest's MAC address is now behind this host.
 *
 * Switches learn from the source address of frames, so a frame with the guest's address as its
 * source leaves through the bridge's own device: the bridge floods it out of all its ports, the
 * uplink among them.  (A frame put on the guest's port would go to the guest instead.)
 */
#ifndef LIBXL_COLO_ANNOUNCE_H
#define LIBXL_COLO_ANNOUNCE_H

#include <netinet/in.h>

#include "colo_err.h"

#define COLO_ANNOUNCE_FRAME 60              /* the shortest Ethernet frame, without its checksum */
#define COLO_ANNOUNCE_TIMES 3               /* how often a caller repeats; frames get lost, */
#define COLO_ANNOUNCE_GAP   (100 * COLO_MS) /* uplinks need a moment to forward */

/* "Who am I?" of mac, as a broadcast: harmless to all who are no RARP servers. */
void colo_announce_rarp(const uint8_t mac[6], uint8_t frame[COLO_ANNOUNCE_FRAME]);
/* "ip is at mac", as a broadcast: neighbours correct what they have. */
void colo_announce_arp(const uint8_t mac[6], struct in_addr ip, uint8_t frame[COLO_ANNOUNCE_FRAME]);

/* One announcement out of the bridge: RARP, and gratuitous ARP when ip is not 0.  Does not wait. */
int colo_announce_send(const char *bridge, const uint8_t mac[6], struct in_addr ip,
                       struct colo_err *err);

#endif
