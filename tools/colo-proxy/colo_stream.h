/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One TCP connection in the direction guest -> client, said twice: by the primary and by the
 * secondary.  The two are compared as byte streams, by position, so segmentation, retransmission
 * and order do not matter.  Position 0 is the SYN (the first sequence number seen, if the connection
 * is older than what we know of it), data follows, and the FIN takes the position after the last
 * byte.  Each side has its own numbering: copies that run apart choose different initial sequence
 * numbers.
 *
 * Release rule.  A segment of the primary may go to the client when
 *  - data and FIN: the secondary has produced the same at the same positions.  What was compared
 *    before may go again (a retransmission); it is checked once more while the ring holds it and
 *    the client has not acknowledged it;
 *  - SYN: the secondary has sent one with the same options (except timestamps);
 *  - RST: the secondary has sent one, too, since either last said anything else, and no data that
 *    the primary did not send;
 *  - acknowledgement: the secondary has acknowledged at least as much.  So no client is told that
 *    its data has arrived before both copies have it.
 * Windows, timestamps, SACK blocks, PSH and ECN bits, TTL and the IP identification are not compared.
 */
#ifndef COLO_STREAM_H
#define COLO_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "colo_packet.h"
#include "colo_ranges.h"
#include "colo_ring.h"

/* What a SYN says that both copies have to say alike. */
struct colo_syn {
    bool seen;
    uint32_t isn;
    uint16_t mss;
    uint8_t wscale;
    bool ack, sack_ok, ts;
};

struct colo_stream {
    struct colo_ring ring;       /* the secondary's bytes */
    struct colo_ranges compared; /* positions that the primary may send, FIN and SYN included */

    /* What is compared now. */
    bool p_based, s_based;   /* the bases are known */
    uint32_t p_base, s_base; /* sequence numbers of position 0 */
    struct colo_syn p_syn, s_syn;
    bool s_ack_known, s_fin_known, s_rst, s_urg_known;
    bool p_fin, p_rst;
    uint32_t s_ack;
    int64_t s_fin, s_urg; /* positions */
    bool client_known;
    int64_t client_ack; /* the client has all positions below */

    /* A new connection between the same ports that the secondary began before the primary. */
    struct colo_syn next;
    uint32_t next_ack;
    bool next_rst;

    /* The primary's last word, also what is still held: where a checkpoint makes both go on. */
    struct colo_syn in_syn;
    bool in_based, in_ack_known, in_fin, in_rst;
    uint32_t in_base, in_end, in_ack;
};

enum colo_stream_verdict {
    COLO_STREAM_RELEASE,   /* it may go now */
    COLO_STREAM_WAIT,      /* for bytes, SYN, FIN or RST of the secondary */
    COLO_STREAM_WAIT_ACK,  /* for the secondary's acknowledgement only */
    COLO_STREAM_DIFFERENT, /* it never may; see struct colo_stream_diff */
};

struct colo_stream_diff {
    const char *what; /* "data", "fin", "rst", "syn": static text */
    int64_t pos;      /* in the stream */
    uint32_t at;      /* offset in the primary's frame */
    int other;        /* the secondary's byte there, or -1 */
};

/* *s all zero is an empty stream. */

/* A segment has come from the primary; to be called once for each, in order, before it is checked. */
void colo_stream_arrived(struct colo_stream *s, const struct colo_packet *p);

/*
 * May the primary's segment p go?  Segments are asked for in order, each until it is released.
 * *diff is filled for COLO_STREAM_DIFFERENT.  After COLO_STREAM_RELEASE p counts as sent.
 */
enum colo_stream_verdict colo_stream_check(struct colo_stream *s, const struct colo_packet *p,
                                           struct colo_stream_diff *diff);

/* A segment of the secondary.  False when its bytes do not fit (the other is too far behind, memory
 * is at its cap, too many holes). */
bool colo_stream_secondary(struct colo_stream *s, struct colo_budget *b,
                           const struct colo_packet *p);

/* A segment of the client's: what it acknowledges needs no further comparing. */
void colo_stream_client(struct colo_stream *s, const struct colo_packet *p);

/* The secondary has said something that the primary has not (yet). */
bool colo_stream_pending(const struct colo_stream *s);

/* Both number alike, so that the stream could be forgotten and met again in the middle. */
bool colo_stream_alike(const struct colo_stream *s);

/*
 * A checkpoint: the secondary is now what the primary is, all that the primary has sent so far is
 * out, what the secondary had sent counts for nothing.
 */
void colo_stream_checkpoint(struct colo_stream *s);

void colo_stream_fini(struct colo_stream *s, struct colo_budget *b);

#endif
