/* SPDX-License-Identifier: LGPL-2.1-only */
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netpacket/packet.h>
#include <net/ethernet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxl_colo_announce.h"

struct arp_frame { /* of Ethernet and IPv4, on the wire */
    uint8_t to[6], from[6];
    uint16_t ethertype;
    uint16_t hw, proto;
    uint8_t hw_len, proto_len;
    uint16_t op;
    uint8_t sender_mac[6], sender_ip[4], target_mac[6], target_ip[4];
} __attribute__((packed));
_Static_assert(sizeof(struct arp_frame) == 42, "ARP frame");

static void build(const uint8_t mac[6], uint16_t ethertype, uint16_t op,
                  uint8_t frame[COLO_ANNOUNCE_FRAME], struct arp_frame *f)
{
    memset(frame, 0, COLO_ANNOUNCE_FRAME);
    memset(f, 0, sizeof(*f));
    memset(f->to, 0xff, sizeof(f->to));
    memcpy(f->from, mac, 6);
    f->ethertype = htons(ethertype);
    f->hw = htons(ARPHRD_ETHER);
    f->proto = htons(ETHERTYPE_IP);
    f->hw_len = 6;
    f->proto_len = 4;
    f->op = htons(op);
    memcpy(f->sender_mac, mac, 6);
}

void colo_announce_rarp(const uint8_t mac[6], uint8_t frame[COLO_ANNOUNCE_FRAME])
{
    struct arp_frame f;

    build(mac, ETHERTYPE_REVARP, ARPOP_RREQUEST, frame, &f);
    memcpy(f.target_mac, mac, 6);
    memcpy(frame, &f, sizeof(f));
}

void colo_announce_arp(const uint8_t mac[6], struct in_addr ip, uint8_t frame[COLO_ANNOUNCE_FRAME])
{
    struct arp_frame f;

    build(mac, ETHERTYPE_ARP, ARPOP_REQUEST, frame, &f);
    memcpy(f.sender_ip, &ip.s_addr, 4);
    memcpy(f.target_ip, &ip.s_addr, 4);
    memcpy(frame, &f, sizeof(f));
}

static int send_frame(int fd, unsigned int ifindex, const uint8_t frame[COLO_ANNOUNCE_FRAME])
{
    struct sockaddr_ll to = {
        .sll_family = AF_PACKET,
        .sll_ifindex = (int)ifindex,
        .sll_halen = 6,
        .sll_addr = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
    };
    ssize_t r;

    memcpy(&to.sll_protocol, frame + 12, 2);
    do {
        r = sendto(fd, frame, COLO_ANNOUNCE_FRAME, MSG_DONTWAIT, (struct sockaddr *)&to,
                   sizeof(to));
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -1 : 0;
}

int colo_announce_send(const char *bridge, const uint8_t mac[6], struct in_addr ip,
                       struct colo_err *err)
{
    uint8_t frame[COLO_ANNOUNCE_FRAME];
    unsigned int ifindex = if_nametoindex(bridge);
    int fd, rc = 0;

    if (!ifindex)
        return colo_fail_errno(err, errno, "announcing the guest on bridge %s", bridge);
    fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); /* protocol 0: it receives nothing */
    if (fd < 0)
        return colo_fail_errno(err, errno, "announcing the guest on bridge %s", bridge);
    colo_announce_rarp(mac, frame);
    if (send_frame(fd, ifindex, frame) < 0)
        rc = colo_fail_errno(err, errno, "announcing the guest on bridge %s", bridge);
    if (rc == 0 && ip.s_addr) {
        colo_announce_arp(mac, ip, frame);
        if (send_frame(fd, ifindex, frame) < 0)
            rc = colo_fail_errno(err, errno, "announcing the guest on bridge %s", bridge);
    }
    close(fd);
    return rc;
}
