/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The compare engine: what the two copies of a guest send on one NIC goes in, what may go to the
 * clients comes out.  No I/O, no clock, no threads: frames and the time are handed in.  An engine
 * for each NIC.
 *
 *   primary:    every frame that the primary's guest sends
 *   secondary:  every frame that the secondary's guest sends, as its guest wrote it: sequence
 *               numbers are not to be rewritten before
 *   client:     every frame that goes to the primary's guest (optional: without it retransmissions
 *               and keepalive probes cost more checkpoints)
 *
 * Rules.  A frame of the primary goes out when the secondary has said the same (TCP: the same
 * bytes and acknowledgements, see colo_stream.h; everything else: an equal packet, in flow order),
 * in order within its flow.  Otherwise it is held until a checkpoint.  Nothing is dropped, nothing
 * goes out uncompared.  A checkpoint is asked for, once, when
 *   - the copies differ,
 *   - a frame of the primary has waited for data_timeout (ack_timeout, if it only waits for the
 *     secondary to acknowledge what the primary acknowledges: a copy may delay that by 0.5 s, RFC
 *     9293 3.8.6.3),
 *   - the secondary has been ahead for primary_timeout without the primary following,
 *   - three quarters of what may be held are held, or the flow table is full of flows that cannot
 *     be forgotten.
 * Flows in which the copies do not differ go on being released meanwhile.
 *
 * When the engine can no longer follow the secondary (a cap reached, no memory) it is blind: all
 * further frames of the primary are held, until the next checkpoint.  Memory never runs out in a
 * way that makes two things equal.
 */
#ifndef COLO_COMPARE_H
#define COLO_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "colo_err.h"

enum colo_mode {
    COLO_MODE_PASS,    /* out at once; the secondary is ignored */
    COLO_MODE_COMPARE, /* COLO */
    COLO_MODE_BUFFER,  /* Remus: out at the next checkpoint */
    COLO_MODE_EVENT,   /* Kemari: as buffer, and what is held asks for a checkpoint */
};
const char *colo_mode_name(enum colo_mode mode);

/* Why a checkpoint is asked for. */
enum colo_why {
    COLO_WHY_PAYLOAD,          /* a packet, or bytes of a stream, differ */
    COLO_WHY_STREAM,           /* SYN, FIN or RST differ */
    COLO_WHY_SECONDARY_SILENT, /* the secondary has not said what the primary said */
    COLO_WHY_SECONDARY_ACK,    /* ... has not acknowledged what the primary acknowledged */
    COLO_WHY_PRIMARY_SILENT,   /* the primary has not said what the secondary said */
    COLO_WHY_FRAGMENT,         /* the primary's fragments contradict each other or miss one */
    COLO_WHY_QUEUE,            /* as much is held as may be */
    COLO_WHY_FLOWS,            /* as many flows are open as may be */
    COLO_WHY_EVENT,            /* mode event: something is held */
    COLO_WHY_START,            /* comparing begins with the next checkpoint */
    COLO_WHY_COUNT
};
/* A stable word: "payload", "secondary-silent", ... */
const char *colo_why_name(enum colo_why why);

struct colo_divergence {
    enum colo_why why;
    char flow[128]; /* for people; "" when it is of no flow */
    char text[200]; /* one line: what differs where, with the first bytes in hex */
};

#define COLO_LATENCY_BUCKETS 32

struct colo_compare_stats {
    uint64_t primary_packets, primary_bytes;
    uint64_t secondary_packets, secondary_bytes;
    uint64_t released_packets, released_bytes;
    uint64_t matched;             /* released because the secondary said the same */
    uint64_t secondary_ignored;   /* not looked at: other mode, blind, flow differs already */
    uint64_t refused;             /* times that colo_compare_primary had no room */
    uint64_t checkpoints;         /* done */
    uint64_t requests;            /* asked for */
    uint64_t why[COLO_WHY_COUNT]; /* flows stopped, and caps reached, by reason */
    uint64_t evicted;             /* flows forgotten to make room */
    uint32_t flows;
    uint32_t held_packets, held_packets_peak; /* of the primary */
    uint64_t held_bytes, held_bytes_peak;
    uint64_t stream_bytes; /* memory for the secondary's streams */
    /* Released packets by how long they were held: [0] less than 1 us, [i] less than 2^i us. */
    uint64_t latency[COLO_LATENCY_BUCKETS];
};

struct colo_compare_config {
    enum colo_mode mode; /* COLO_MODE_COMPARE: the copies are alike at this moment */
    /* Nanoseconds; 0 means 200 ms, 600 ms and 1 s. */
    colo_time data_timeout, ack_timeout, primary_timeout;
    /* 0 means 65536 flows, 32768 packets and 64 MiB held of each side, 256 MiB for streams. At
     * least 8 packets and four of the longest frames. */
    uint32_t max_flows, max_packets;
    uint64_t max_bytes, max_stream_bytes;
    uint64_t seed[2]; /* random, nobody else knows it */
    /* Takes a frame that goes out; it is the callee's for the time of the call only. Must not call
     * the engine. */
    void (*release)(void *ctx, const uint8_t *frame, uint32_t len);
    void *ctx;
};

struct colo_compare;

int colo_compare_new(const struct colo_compare_config *cfg, struct colo_compare **out,
                     struct colo_err *err);
/* What is still held is lost. NULL is fine. */
void colo_compare_free(struct colo_compare *c);

/*
 * All times are monotonic nanoseconds; one that goes back counts as the latest before.
 *
 * A frame of the primary; the engine copies what it keeps.  -1 when there is no room: the frame has not
 * been taken and has to be handed in again after a checkpoint; until then the guest's device
 * should not be read from.
 */
int colo_compare_primary(struct colo_compare *c, const uint8_t *frame, uint32_t len, colo_time now);
void colo_compare_secondary(struct colo_compare *c, const uint8_t *frame, uint32_t len,
                            colo_time now);
void colo_compare_client(struct colo_compare *c, const uint8_t *frame, uint32_t len, colo_time now);

/* Time has passed. */
void colo_compare_advance(struct colo_compare *c, colo_time now);
/* When to call colo_compare_advance at the latest (it may find nothing to do), or COLO_NO_DEADLINE. */
colo_time colo_compare_deadline(const struct colo_compare *c);

/* A checkpoint is wanted: true once, with the reason in *why (NULL: not of interest), until the next one. */
bool colo_compare_take_request(struct colo_compare *c, struct colo_divergence *why);

/*
 * The secondary is now what the primary was when it was suspended, and all frames that the primary
 * sent before have been handed in: everything held goes out in the order in which it came, what
 * the secondary said is forgotten, and the copies are compared from here on.  Frames that the
 * secondary sent before it became what the primary is must not be handed in after this call.
 */
void colo_compare_checkpoint(struct colo_compare *c, colo_time now);

/*
 * To pass: everything held goes out.  To buffer and event: what is held stays.  To compare: begins
 * at the next checkpoint, which is asked for; until then everything is held.
 */
void colo_compare_set_mode(struct colo_compare *c, enum colo_mode mode, colo_time now);
enum colo_mode colo_compare_mode(const struct colo_compare *c);

void colo_compare_get_stats(const struct colo_compare *c, struct colo_compare_stats *out);

#endif
