/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Packets without connections: when two of them say the same, and how a flow is told to people.
 */
#include "colo_packet.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* Bytes [from, to) of a against those of b from b_from on, which are as many. */
static bool same(const struct colo_packet *a, uint32_t from, uint32_t to,
                 const struct colo_packet *b, uint32_t b_from, uint32_t *at)
{
    if (!memcmp(a->data + from, b->data + b_from, to - from))
        return true;
    while (a->data[from] == b->data[b_from]) {
        from++;
        b_from++;
    }
    *at = from;
    return false;
}

/* As same, up to the ends, which may lie at different lengths. */
static bool same_to_end(const struct colo_packet *a, uint32_t from, const struct colo_packet *b,
                        uint32_t b_from, uint32_t *at)
{
    uint32_t left = a->end - from, b_left = b->end - b_from;
    uint32_t both = left < b_left ? left : b_left;

    if (!same(a, from, from + both, b, b_from, at))
        return false;
    *at = from + both;
    return left == b_left;
}

bool colo_packet_equal(const struct colo_packet *a, const struct colo_packet *b, uint32_t *at)
{
    const uint8_t *ha = a->data + a->l3, *hb = b->data + b->l3;
    uint32_t head = a->l4 - a->l3, l3 = a->l3;

    *at = 0;
    if (a->key.kind != b->key.kind)
        return false;
    if (a->key.kind == COLO_PKT_OPAQUE)
        return same_to_end(a, 0, b, 0, at);
    if (a->l3 != b->l3 || !same(a, 0, l3, b, 0, at))
        return false;
    *at = l3;
    if (a->key.kind == COLO_PKT_ARP)
        return same_to_end(a, l3, b, l3, at);
    if (b->l4 - b->l3 != head || ha[0] != hb[0])
        return false;
    if (a->key.ethertype == 0x0800) {
        *at = l3 + 1;
        if ((ha[1] ^ hb[1]) & 0xfc)
            return false;
        /* Not the length, which the comparison to the end covers, and neither the identification
         * nor the flags: "don't fragment" may differ between a datagram in one piece and in many. */
        if (!same(a, l3 + 8, l3 + 10, b, l3 + 8, at) || !same(a, l3 + 12, a->l4, b, l3 + 12, at))
            return false;
    } else {
        *at = l3 + 1;
        if ((ha[1] ^ hb[1]) & 0xc0)
            return false;
        if (!same(a, l3 + 6, a->l4, b, l3 + 6, at))
            return false;
    }
    return same_to_end(a, a->l4, b, b->l4, at);
}

void colo_key_reverse(const struct colo_key *k, struct colo_key *out)
{
    *out = *k;
    memcpy(out->src, k->dst, sizeof(k->dst));
    memcpy(out->dst, k->src, sizeof(k->src));
    out->sport = k->dport;
    out->dport = k->sport;
}

static void address(const struct colo_key *k, const uint8_t *a, char *buf, uint32_t size)
{
    int family = k->ethertype == 0x86dd ? AF_INET6 : AF_INET;

    if (k->kind == COLO_PKT_OPAQUE)
        snprintf(buf, size, "%02x:%02x:%02x:%02x:%02x:%02x", a[0], a[1], a[2], a[3], a[4], a[5]);
    else
        inet_ntop(family, a, buf, size);
}

void colo_key_text(const struct colo_key *k, char *buf, uint32_t size)
{
    char src[INET6_ADDRSTRLEN], dst[INET6_ADDRSTRLEN], vlan[32] = "", what[32];
    const char *open = k->ethertype == 0x86dd ? "[" : "", *close = *open ? "]" : "";

    address(k, k->src, src, sizeof(src));
    address(k, k->dst, dst, sizeof(dst));
    if (k->vlan[1])
        snprintf(vlan, sizeof(vlan), " vlan %u.%u", k->vlan[0] & 0xfff, k->vlan[1] & 0xfff);
    else if (k->vlan[0])
        snprintf(vlan, sizeof(vlan), " vlan %u", k->vlan[0] & 0xfff);
    if (k->kind == COLO_PKT_TCP || (k->kind == COLO_PKT_IP && k->proto == 17)) {
        snprintf(buf, size, "%s %s%s%s:%u > %s%s%s:%u%s", k->proto == 6 ? "tcp" : "udp", open, src,
                 close, k->sport, open, dst, close, k->dport, vlan);
        return;
    }
    if (k->kind == COLO_PKT_IP && k->proto == 1)
        snprintf(what, sizeof(what), "icmp type %u", k->sport >> 8);
    else if (k->kind == COLO_PKT_IP && k->proto == 58)
        snprintf(what, sizeof(what), "icmp6 type %u", k->sport >> 8);
    else if (k->kind == COLO_PKT_ARP)
        snprintf(what, sizeof(what), "arp %s", k->sport == 1 ? "request" : "reply");
    else if (k->kind == COLO_PKT_OPAQUE)
        snprintf(what, sizeof(what), "ethertype %#06x", k->ethertype);
    else
        snprintf(what, sizeof(what), "%s protocol %u",
                 k->kind == COLO_PKT_FRAGMENT ? "fragments of" : "ip", k->proto);
    snprintf(buf, size, "%s %s > %s%s", what, src, dst, vlan);
}
