/* SPDX-License-Identifier: GPL-2.0-only */
#include "colo_packet.h"

#include <string.h>

#define ETH_HLEN     14u
#define ETHERTYPE_V4 0x0800
#define ETHERTYPE_AR 0x0806
#define ETHERTYPE_V6 0x86dd
#define IS_TAG(t)    ((t) == 0x8100 || (t) == 0x88a8 || (t) == 0x9100)

#define PROTO_ICMP  1
#define PROTO_TCP   6
#define PROTO_UDP   17
#define PROTO_ICMP6 58

#define MAX_EXT_HEADERS 16

/* Each of these returns false for what is malformed; the frame is opaque then. */

static bool parse_tcp_options(struct colo_packet *p, uint32_t at)
{
    const uint8_t *d = p->data;
    uint32_t olen;

    while (at < p->payload) {
        if (d[at] == 0) /* end of the list */
            return true;
        if (d[at] == 1) {
            at++;
            continue;
        }
        if (p->payload - at < 2)
            return false;
        olen = d[at + 1];
        if (olen < 2 || olen > p->payload - at)
            return false;
        if (d[at] == 2 && olen == 4) {
            p->mss = colo_be16(d + at + 2);
        } else if (d[at] == 3 && olen == 3) {
            p->wscale = d[at + 2] < 255 ? (uint8_t)(d[at + 2] + 1) : 255;
        } else if (d[at] == 4 && olen == 2) {
            p->sack_ok = true;
        } else if (d[at] == 5 && olen >= 10 && olen % 8 == 2) {
            p->sack = (uint16_t)(at + 2);
            p->sack_blocks = (uint16_t)(olen / 8);
        } else if (d[at] == 8 && olen == 10) {
            p->ts = (uint16_t)(at + 2);
            p->tsval = colo_be32(d + at + 2);
            p->tsecr = colo_be32(d + at + 6);
        }
        at += olen;
    }
    return true;
}

static bool parse_tcp(struct colo_packet *p)
{
    const uint8_t *t = p->data + p->l4;
    uint32_t avail = p->end - p->l4, hlen;
    uint8_t f;

    if (avail < 20)
        return false;
    hlen = (t[12] >> 4) * 4u;
    if (hlen < 20 || hlen > avail || p->l4 > UINT16_MAX - 60)
        return false;
    f = t[13];
    /* Only what a connection can hold: SYN alone, RST, and otherwise always an ACK. */
    if (f & COLO_TCP_SYN ? f & (COLO_TCP_FIN | COLO_TCP_RST) : !(f & (COLO_TCP_RST | COLO_TCP_ACK)))
        return false;
    p->flags = f;
    p->key.sport = colo_be16(t);
    p->key.dport = colo_be16(t + 2);
    p->seq = colo_be32(t + 4);
    p->ack = f & COLO_TCP_ACK ? colo_be32(t + 8) : 0;
    p->urgent = colo_be16(t + 18);
    p->payload = p->l4 + hlen;
    return parse_tcp_options(p, p->l4 + 20);
}

/* What is behind the IP header and not a fragment. */
static bool parse_l4(struct colo_packet *p)
{
    const uint8_t *t = p->data + p->l4;
    uint32_t avail = p->end - p->l4;
    bool echo;

    p->key.kind = COLO_PKT_IP;
    switch (p->key.proto) {
    case PROTO_TCP:
        p->key.kind = COLO_PKT_TCP;
        return parse_tcp(p);
    case PROTO_UDP:
        if (avail < 8 || colo_be16(t + 4) < 8 || colo_be16(t + 4) > avail)
            return false;
        p->key.sport = colo_be16(t);
        p->key.dport = colo_be16(t + 2);
        return true;
    case PROTO_ICMP:
    case PROTO_ICMP6:
        if (avail < 4)
            return false;
        p->key.sport = colo_be16(t);
        echo = p->key.proto == PROTO_ICMP ? t[0] == 0 || t[0] == 8 : t[0] == 128 || t[0] == 129;
        if (echo && avail >= 8)
            p->key.dport = colo_be16(t + 4);
        return true;
    default:
        return true;
    }
}

static bool parse_v4(struct colo_packet *p)
{
    const uint8_t *h = p->data + p->l3;
    uint32_t avail = p->len - p->l3, hlen, total, frag;

    if (avail < 20 || h[0] >> 4 != 4)
        return false;
    hlen = (h[0] & 15) * 4u;
    total = colo_be16(h + 2);
    if (hlen < 20 || total < hlen || total > avail)
        return false;
    p->l4 = p->l3 + hlen;
    p->end = p->l3 + total;
    p->key.proto = h[9];
    memcpy(p->key.src, h + 12, 4);
    memcpy(p->key.dst, h + 16, 4);
    frag = colo_be16(h + 6);
    if (!(frag & 0x3fff))
        return parse_l4(p);
    p->key.kind = COLO_PKT_FRAGMENT;
    p->frag_id = colo_be16(h + 4);
    p->frag_off = (frag & 0x1fff) * 8;
    p->frag_more = frag & 0x2000;
    return total > hlen && p->frag_off + (total - hlen) <= 65535 - hlen &&
           (!p->frag_more || (total - hlen) % 8 == 0);
}

static bool parse_v6_fragment(struct colo_packet *p, uint32_t at, uint32_t prev)
{
    const uint8_t *f = p->data + at;
    uint32_t off;

    if (p->end - at <= 8)
        return false;
    off = colo_be16(f + 2);
    p->key.kind = COLO_PKT_FRAGMENT;
    p->key.proto = f[0];
    p->frag_id = colo_be32(f + 4);
    p->frag_off = off & 0xfff8;
    p->frag_more = off & 1;
    p->frag_hdr = at;
    p->frag_prev = prev;
    p->l4 = at + 8;
    return p->frag_off + (p->end - p->l4) + (at - p->l3 - 40) <= 65535 &&
           (!p->frag_more || (p->end - p->l4) % 8 == 0);
}

static bool parse_v6(struct colo_packet *p)
{
    const uint8_t *d = p->data, *h = d + p->l3;
    uint32_t avail = p->len - p->l3, at, prev, hlen;
    uint8_t next;

    if (avail < 40 || h[0] >> 4 != 6 || colo_be16(h + 4) > avail - 40)
        return false;
    p->end = p->l3 + 40 + colo_be16(h + 4);
    memcpy(p->key.src, h + 8, 16);
    memcpy(p->key.dst, h + 24, 16);
    at = p->l3 + 40;
    prev = p->l3 + 6;
    next = h[6];
    for (int n = 0; n < MAX_EXT_HEADERS; n++) {
        switch (next) {
        case 0: /* hop by hop, routing, destination options, mobility */
        case 43:
        case 60:
        case 135:
        case 51: /* authentication */
            if (p->end - at < 8)
                return false;
            hlen = next == 51 ? (d[at + 1] + 2u) * 4 : (d[at + 1] + 1u) * 8;
            if (hlen > p->end - at)
                return false;
            next = d[at];
            prev = at;
            at += hlen;
            continue;
        case 44:
            return parse_v6_fragment(p, at, prev);
        default:
            p->key.proto = next;
            p->l4 = at;
            return parse_l4(p);
        }
    }
    return false;
}

static bool parse_arp(struct colo_packet *p)
{
    const uint8_t *a = p->data + p->l3;

    /* Ethernet and IPv4 only; others are compared as they are. */
    if (p->len - p->l3 < 28 || colo_be16(a) != 1 || colo_be16(a + 2) != ETHERTYPE_V4 || a[4] != 6 ||
        a[5] != 4)
        return false;
    p->key.kind = COLO_PKT_ARP;
    p->key.sport = colo_be16(a + 6);
    memcpy(p->key.src, a + 14, 4);
    memcpy(p->key.dst, a + 24, 4);
    p->end = p->l3 + 28;
    return true;
}

static void make_opaque(struct colo_packet *p)
{
    const struct colo_key old = p->key;
    const uint8_t *data = p->data;
    uint32_t len = p->len, l3 = p->l3;

    memset(p, 0, sizeof(*p));
    p->data = data;
    p->len = len;
    p->l3 = l3;
    p->end = len;
    p->key.kind = COLO_PKT_OPAQUE;
    memcpy(p->key.vlan, old.vlan, sizeof(old.vlan));
    p->key.ethertype = old.ethertype;
    if (len >= 12) {
        memcpy(p->key.dst, data, 6);
        memcpy(p->key.src, data + 6, 6);
    }
}

void colo_packet_parse(struct colo_packet *p, const uint8_t *data, uint32_t len)
{
    uint32_t at = ETH_HLEN;
    uint16_t type;
    bool good;

    memset(p, 0, sizeof(*p));
    p->data = data;
    p->len = len;
    p->end = len;
    if (len < ETH_HLEN || len > COLO_FRAME_MAX) {
        make_opaque(p);
        return;
    }
    type = colo_be16(data + 12);
    for (int n = 0; n < 2 && IS_TAG(type) && len - at >= 4; n++) {
        p->key.vlan[n] = (uint16_t)(0x8000 | (colo_be16(data + at) & 0xfff));
        type = colo_be16(data + at + 2);
        at += 4;
    }
    p->l3 = at;
    p->key.ethertype = type;
    switch (type) {
    case ETHERTYPE_V4:
        good = parse_v4(p);
        break;
    case ETHERTYPE_V6:
        good = parse_v6(p);
        break;
    case ETHERTYPE_AR:
        good = parse_arp(p);
        break;
    default:
        good = false;
    }
    if (!good)
        make_opaque(p);
}
