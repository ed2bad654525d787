/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Frames for the tests of the proxy: a builder, and an engine whose output is kept.
 */
#ifndef TESTPACKETS_H
#define TESTPACKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "colo_compare.h"
#include "colo_packet.h"

/* Between which ends, and how it is wrapped. */
struct tp_conn {
    bool v6;
    uint16_t vlan[2]; /* ids, 0 = no tag */
    uint8_t src, dst; /* last byte of the addresses */
    uint16_t sport, dport;
    bool ipv4_options, v6_extensions;
    uint8_t proto; /* tp_ip only */
};

struct tp_frame {
    uint32_t len;
    uint8_t b[COLO_FRAME_MAX];
};

struct tp_tcp {
    uint32_t seq, ack;
    uint8_t flags;
    uint16_t mss;
    uint8_t wscale; /* + 1 */
    bool sack_ok, ts;
    uint32_t tsval, tsecr;
    uint32_t sack[4][2];
    uint32_t sack_blocks;
    uint16_t urgent, window;
    const void *data;
    uint32_t len;
};

/* Frames with right checksums; *f is filled. `id` counts up in the IPv4 identification. */
void tp_tcp(struct tp_frame *f, const struct tp_conn *c, const struct tp_tcp *t);
void tp_udp(struct tp_frame *f, const struct tp_conn *c, const void *data, uint32_t len);
void tp_icmp_echo(struct tp_frame *f, const struct tp_conn *c, uint16_t id, uint16_t seq,
                  const void *data, uint32_t len);
void tp_ip(struct tp_frame *f, const struct tp_conn *c, const void *data, uint32_t len);
void tp_arp(struct tp_frame *f, uint8_t from, uint8_t to, bool reply);
void tp_other(struct tp_frame *f, uint16_t ethertype, const void *data, uint32_t len);

/* Cut a datagram into fragments with at most mtu bytes of IP payload each (a multiple of 8).  Returns how
 * many; they are written to out, which has room for max. */
uint32_t tp_fragment(const struct tp_frame *whole, uint32_t mtu, struct tp_frame *out,
                     uint32_t max);

/* Put the right TCP checksum into a frame that a test has changed. */
void tp_fix_tcp_checksum(struct tp_frame *f);

/* The TCP or UDP checksum of an unfragmented frame is right (and the IPv4 header's). */
bool tp_checksums_right(const uint8_t *frame, uint32_t len);

/* ---- an engine whose output is kept ---- */

struct tp_out {
    struct colo_compare *c;
    colo_time now;
    uint32_t n, room;
    struct {
        uint32_t len;
        uint8_t *b;
    } * frame;
};

/* NULL: default configuration, mode compare. The seed and the release function are filled in. */
void tp_open(struct tp_out *o, const struct colo_compare_config *cfg);
void tp_close(struct tp_out *o);
int tp_p(struct tp_out *o, const struct tp_frame *f);
void tp_s(struct tp_out *o, const struct tp_frame *f);
void tp_client(struct tp_out *o, const struct tp_frame *f);
void tp_pass_time(struct tp_out *o, uint32_t ms);
void tp_checkpoint(struct tp_out *o);
/* Forget what came out so far. */
void tp_clear(struct tp_out *o);
/* The reason of the request that has not been taken yet, or "" . */
const char *tp_asked(struct tp_out *o);

#endif
