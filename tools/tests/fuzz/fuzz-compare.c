/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Frames for the compare engine and the rewriter: a script of frames to both sides, checkpoints and
 * time.  Nothing may go out between checkpoints that the secondary has not said, all that was
 * taken goes out in the end, and the caps hold.
 *
 * The script: five bytes (low bits of initial sequence numbers, of both sides; mode), then steps of an
 * op byte each; see LLVMFuzzerTestOneInput.
 */
#include <stdlib.h>
#include <string.h>

#include "colo_compare.h"
#include "colo_packet.h"
#include "colo_rewrite.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STREAM    4096u /* positions of the connection that the script builds */
#define MAX_SAID  128u  /* packets of the secondary that are remembered */
#define MAX_FRAME 400u

struct said {
    uint32_t len;
    bool used;
    uint8_t b[MAX_FRAME];
};

static struct {
    struct colo_compare *c;
    bool free_to_go; /* in a checkpoint, or not comparing */
    bool forgotten;  /* more was said than is remembered */
    uint32_t p_isn, s_isn;
    uint64_t taken, out;
    uint32_t nr_said;
    struct said said[MAX_SAID];
    int16_t s_byte[STREAM]; /* what the secondary said at this position, or -1 */
    bool shared[STREAM];    /* went out, or was sent before the last checkpoint */
    bool sent[STREAM];      /* by the primary */
} w;

#define CHECK(x)     \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

static bool is_built(const struct colo_packet *p)
{
    return p->key.kind == COLO_PKT_TCP && p->key.sport == 80 && p->key.dport == 4000;
}

static void check_built(const struct colo_packet *p)
{
    uint32_t pos = p->seq - w.p_isn;

    if (p->flags & COLO_TCP_SYN)
        pos++;
    for (uint32_t i = p->payload; i < p->end; i++, pos++) {
        CHECK(pos < STREAM);
        CHECK(w.free_to_go || w.shared[pos] || w.s_byte[pos] == p->data[i]);
        w.shared[pos] = true;
    }
}

static void released(void *ctx, const uint8_t *frame, uint32_t len)
{
    struct colo_packet p, s;
    uint32_t at;

    (void)ctx;
    w.out++;
    colo_packet_parse(&p, frame, len);
    if (is_built(&p)) {
        check_built(&p);
        return;
    }
    if (w.free_to_go || w.forgotten || p.key.kind == COLO_PKT_TCP ||
        p.key.kind == COLO_PKT_FRAGMENT)
        return;
    for (uint32_t i = 0; i < w.nr_said; i++) {
        colo_packet_parse(&s, w.said[i].b, w.said[i].len);
        if (!w.said[i].used && !memcmp(&s.key, &p.key, sizeof(p.key)) &&
            colo_packet_equal(&p, &s, &at)) {
            w.said[i].used = true;
            return;
        }
    }
    abort();
}

static void checkpoint(colo_time now)
{
    w.free_to_go = true;
    colo_compare_checkpoint(w.c, now);
    w.free_to_go = colo_compare_mode(w.c) != COLO_MODE_COMPARE;
    w.nr_said = 0;
    w.forgotten = false;
    /* What the primary has sent both have, and so what lies below it in the stream. */
    for (uint32_t i = STREAM, below = 0; i-- > 0;) {
        below |= w.sent[i];
        w.shared[i] |= below;
        w.s_byte[i] = -1;
    }
    w.s_isn = w.p_isn;
}

static void say(const uint8_t *frame, uint32_t len, bool primary, colo_time now)
{
    struct colo_packet p;

    if (primary) {
        w.taken += colo_compare_primary(w.c, frame, len, now) == 0;
        return;
    }
    colo_packet_parse(&p, frame, len);
    /* Fragments may make any packet. */
    if (w.nr_said == MAX_SAID || len > MAX_FRAME || p.key.kind == COLO_PKT_FRAGMENT) {
        w.forgotten = true;
    } else {
        w.said[w.nr_said].used = false;
        w.said[w.nr_said].len = len;
        memcpy(w.said[w.nr_said++].b, frame, len);
    }
    colo_compare_secondary(w.c, frame, len, now);
}

/* A segment of the connection that both sides have: data[0] flags, [1..2] position, [3] length. */
static void build(const uint8_t *data, bool primary, uint8_t flip, colo_time now)
{
    static const uint8_t head[38] = {2,  0,    0, 0, 0,  1, 2, 0, 0, 0,  0,         2,         8,
                                     0,  0x45, 0, 0, 0,  0, 0, 0, 0, 64, 6,         0,         0,
                                     10, 0,    0, 1, 10, 0, 0, 2, 0, 80, 4000 >> 8, 4000 & 255};
    uint32_t pos = 1 + colo_be16(data + 1) % (STREAM - 300), len = data[3], isn;
    uint8_t *f = malloc(54 + len), flags = data[0] & 0x3f;

    CHECK(f);
    if (flags & COLO_TCP_SYN) {
        flags = COLO_TCP_SYN | COLO_TCP_ACK;
        pos = len = 0;
    } else if (flags & COLO_TCP_RST) {
        len = 0;
    } else {
        flags |= COLO_TCP_ACK;
    }
    isn = primary ? w.p_isn : w.s_isn;
    if (primary && pos) /* who goes on from here has sent what is before */
        w.sent[pos - 1] = true;
    memcpy(f, head, sizeof(head));
    colo_put16(f + 16, (uint16_t)(40 + len));
    colo_put32(f + 38, isn + pos);
    colo_put32(f + 42, data[0] >> 6);
    memset(f + 46, 0, 8);
    f[46] = 0x50;
    f[47] = flags;
    for (uint32_t i = 0; i < len; i++) {
        f[54 + i] = (uint8_t)((pos + i) * 7 + (i == flip));
        if (primary)
            w.sent[pos + i] = true;
        else if (w.s_byte[pos + i] < 0)
            w.s_byte[pos + i] = f[54 + i];
    }
    if (primary && (flags & COLO_TCP_FIN))
        w.sent[pos + len] = true;
    if (primary)
        w.taken += colo_compare_primary(w.c, f, 54 + len, now) == 0;
    else
        colo_compare_secondary(w.c, f, 54 + len, now);
    free(f);
}

static void raw(struct colo_rewrite *r, const uint8_t *frame, uint32_t len, uint8_t op,
                colo_time now)
{
    struct colo_packet p;
    uint8_t *b = malloc(len ? len : 1);

    CHECK(b);
    if (len)
        memcpy(b, frame, len);
    colo_packet_parse(&p, b, len);
    if (!is_built(&p)) {
        if (op & 1)
            say(b, len, true, now);
        if (op & 2)
            say(b, len, false, now);
        if (!(op & 3))
            colo_compare_client(w.c, b, len, now);
    }
    if (op & 1)
        colo_rewrite_from_guest(r, b, len, now);
    else
        colo_rewrite_to_guest(r, b, len, now);
    free(b);
}

static void check_caps(const struct colo_compare_config *cfg)
{
    struct colo_compare_stats st;

    colo_compare_get_stats(w.c, &st);
    CHECK(st.flows <= cfg->max_flows);
    CHECK(st.held_packets <= cfg->max_packets + 1); /* and a datagram made of them */
    CHECK(st.stream_bytes <= cfg->max_stream_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct colo_compare_config cfg = {.max_flows = 8,
                                      .max_packets = 32,
                                      .max_stream_bytes = 20000,
                                      .seed = {1, 2},
                                      .release = released};
    const struct colo_rewrite_config rcfg = {.max_flows = 8};
    struct colo_divergence why;
    struct colo_rewrite *r;
    colo_time now = COLO_MS;
    uint32_t len;

    if (size < 5)
        return 0;
    memset(&w, 0, offsetof(__typeof__(w), said));
    memset(w.s_byte, -1, sizeof(w.s_byte));
    memset(w.shared, 0, sizeof(w.shared));
    memset(w.sent, 0, sizeof(w.sent));
    w.p_isn = (uint32_t)data[0] << 24 | (uint32_t)(int8_t)data[1];
    w.s_isn = (uint32_t)data[2] << 24 | (uint32_t)(int8_t)data[3];
    cfg.mode = data[4] % 8 < 4 ? data[4] % 4 : COLO_MODE_COMPARE;
    w.free_to_go = cfg.mode != COLO_MODE_COMPARE;
    CHECK(colo_compare_new(&cfg, &w.c, NULL) == 0 && colo_rewrite_new(&rcfg, &r, NULL) == 0);
    data += 5;
    size -= 5;
    while (size) {
        uint8_t op = *data++;

        size--;
        switch (op & 7) {
        case 0: /* time */
            now += (op >> 3) * 50 * COLO_MS;
            colo_compare_advance(w.c, now);
            CHECK(colo_compare_deadline(w.c) > now);
            break;
        case 1: /* a checkpoint; a mode */
            if (op >> 3 < 4) {
                w.free_to_go = true;
                colo_compare_set_mode(w.c, op >> 3, now);
                w.free_to_go = op >> 3 != COLO_MODE_COMPARE;
            }
            checkpoint(now);
            colo_rewrite_checkpoint(r);
            break;
        case 2: /* a segment of the primary's, of the secondary's, of both, with a wrong byte */
        case 3:
        case 4:
        case 5:
            if (size < 4)
                break;
            if ((op & 7) != 3)
                build(data, true, 255, now);
            if ((op & 7) != 2)
                build(data, false, (op & 7) == 5 ? op >> 3 : 255, now);
            data += 4;
            size -= 4;
            break;
        default: /* any frame */
            len = size ? *data : 0;
            if (size <= len)
                break;
            raw(r, data + 1, len, op >> 3, now);
            data += len + 1;
            size -= len + 1;
        }
        colo_compare_take_request(w.c, &why);
        check_caps(&cfg);
    }
    checkpoint(now);
    CHECK(w.taken == w.out);
    colo_rewrite_active(r, now);
    colo_rewrite_free(r);
    colo_compare_free(w.c);
    return 0;
}
