/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What an Ethernet frame is, as far as comparing two copies of a guest needs it.  Frames come from
 * guests and networks, so every length in them is checked against what is there.  What does not
 * hold together is COLO_PKT_OPAQUE: never an error, but compared byte by byte.
 *
 * Formats: RFC 791, 826, 792, 4443, 768, 9293, 7323, 2018, 8200, IEEE 802.1Q.
 */
#ifndef COLO_PACKET_H
#define COLO_PACKET_H

#include <stdbool.h>
#include <stdint.h>

/* Longest frame that anything here takes: the largest IP packet, its Ethernet header and tags. */
#define COLO_FRAME_MAX (65536u + 64u)

enum colo_packet_kind {
    COLO_PKT_OPAQUE, /* unknown ethertype, or malformed */
    COLO_PKT_ARP,
    COLO_PKT_FRAGMENT, /* a piece of an IPv4 or IPv6 datagram */
    COLO_PKT_TCP,
    COLO_PKT_IP, /* UDP, ICMP, ICMPv6 and every other protocol over IP */
};

/*
 * Which flow a frame is of.  All bytes are defined, so that keys are compared with memcmp and
 * hashed as six 64-bit words.  Addresses of IPv4 are in the first four bytes, those of opaque
 * frames (MAC addresses) in the first six.
 */
struct colo_key {
    uint8_t src[16], dst[16];
    uint16_t sport, dport; /* host order; ICMP: type and code, identifier; ARP: operation, 0 */
    uint16_t vlan[2];      /* outer, inner: 0x8000 | VLAN id, or 0 */
    uint16_t ethertype;    /* host order, behind the tags */
    uint8_t kind;          /* enum colo_packet_kind */
    uint8_t proto;         /* IP protocol */
    uint32_t zero;
};
_Static_assert(sizeof(struct colo_key) == 48, "a key has no padding");

#define COLO_TCP_FIN 0x01
#define COLO_TCP_SYN 0x02
#define COLO_TCP_RST 0x04
#define COLO_TCP_ACK 0x10
#define COLO_TCP_URG 0x20

/* Offsets count from the start of the frame. */
struct colo_packet {
    const uint8_t *data; /* the frame itself, borrowed from the caller of colo_packet_parse */
    uint32_t len;
    struct colo_key key;
    uint32_t l3;      /* first byte behind ethertype and tags */
    uint32_t l4;      /* IP: first byte of TCP, UDP, ...; of the piece, if a fragment */
    uint32_t payload; /* TCP: first byte of data */
    uint32_t end;     /* IP: behind the last byte of the datagram; what follows is padding */

    /* TCP only */
    uint32_t seq, ack; /* ack is 0 without COLO_TCP_ACK */
    uint16_t urgent;
    uint8_t flags;
    uint8_t wscale; /* option + 1, 0 = none */
    uint16_t mss;   /* 0 = none */
    bool sack_ok;
    uint16_t ts;          /* where TSval is, 0 = no timestamps; TSecr follows it */
    uint16_t sack;        /* where the first SACK block is, 0 = none */
    uint16_t sack_blocks; /* how many */
    uint32_t tsval, tsecr;

    /* fragments only */
    uint32_t frag_id;
    uint32_t frag_off;  /* bytes */
    uint32_t frag_hdr;  /* IPv6: where the fragment header is */
    uint32_t frag_prev; /* IPv6: where the type of the fragment header is said */
    bool frag_more;
};

/*
 * Fill *p from the frame of len bytes at data, which must stay as long as *p is used.  Cannot
 * fail: frames that are too short for Ethernet, lie about a length or break a format are opaque.
 */
void colo_packet_parse(struct colo_packet *p, const uint8_t *data, uint32_t len);

/*
 * Whether two packets of one flow (the same key, not TCP and no fragments) say the same to who
 * gets them.  Not compared are padding, the IPv4 identification and header checksum, the IPv6 flow
 * label and ECN.  On false *at is where in a's frame the first difference is (its end if it is
 * the shorter one).
 */
bool colo_packet_equal(const struct colo_packet *a, const struct colo_packet *b, uint32_t *at);

/* The key of the opposite direction of a TCP connection. */
void colo_key_reverse(const struct colo_key *k, struct colo_key *out);

/* "tcp 10.0.0.1:80 > 10.0.0.2:4000 vlan 5" for the log; always terminated, cut at size. */
void colo_key_text(const struct colo_key *k, char *buf, uint32_t size);

static inline uint16_t colo_be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t colo_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline void colo_put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}
static inline void colo_put32(uint8_t *p, uint32_t v)
{
    colo_put16(p, (uint16_t)(v >> 16));
    colo_put16(p + 2, (uint16_t)v);
}

#endif
