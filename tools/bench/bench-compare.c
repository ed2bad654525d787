/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How many packets a second one core takes through the compare engine: equal TCP streams of
 * 1448-byte segments, and 64-byte UDP frames.  A packet here is one of the primary's together with
 * its counterpart of the secondary.  usage: bench-compare [SECONDS [FLOWS]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench-header.h"
#include "colo_compare.h"

#define BATCH 64

static uint64_t released;

static void release(void *ctx, const uint8_t *frame, uint32_t len)
{
    (void)ctx;
    (void)frame;
    (void)len;
    released++;
}

static struct colo_compare *open_engine(void)
{
    const struct colo_compare_config cfg = {
        .mode = COLO_MODE_COMPARE, .seed = {1, 2}, .release = release};
    struct colo_err err = {0};
    struct colo_compare *c;

    if (colo_compare_new(&cfg, &c, &err) < 0) {
        fprintf(stderr, "bench-compare: %s\n", err.msg);
        exit(1);
    }
    return c;
}

static uint32_t tcp_frame(uint8_t *f, uint32_t flow, uint32_t seq, uint8_t flags, uint32_t len)
{
    uint32_t at = bench_header(f, 1, 6, 20 + len);

    colo_put16(f + at, 80);
    colo_put16(f + at + 2, (uint16_t)(1000 + flow));
    colo_put32(f + at + 4, seq);
    colo_put32(f + at + 8, 1);
    f[at + 12] = 0x50;
    f[at + 13] = flags;
    return at + 20 + len;
}

static uint32_t udp_frame(uint8_t *f, uint32_t flow, uint32_t n)
{
    uint32_t at = bench_header(f, 1, 17, 30); /* 64 bytes with header and payload */

    colo_put16(f + at, 53);
    colo_put16(f + at + 2, (uint16_t)(1000 + flow));
    colo_put16(f + at + 4, 30);
    colo_put32(f + at + 8, n);
    return at + 30;
}

/* Of this thread only: others may use the core, too. */
static colo_time cpu_time(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (colo_time)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void result(const char *what, uint64_t packets, uint64_t bytes, colo_time spent)
{
    double s = (double)spent / 1e9;

    printf("%-34s %7.3f Mpps %8.0f MB/s %6.0f ns a packet\n", what, (double)packets / s / 1e6,
           (double)bytes / s / 1e6, (double)spent / (double)packets);
}

static void check_all_went(struct colo_compare *c, uint64_t sent)
{
    struct colo_compare_stats st;

    colo_compare_get_stats(c, &st);
    if (released != sent || st.requests || st.held_packets) {
        fprintf(stderr,
                "bench-compare: %llu of %llu packets came out, %llu checkpoints asked for\n",
                (unsigned long long)released, (unsigned long long)sent,
                (unsigned long long)st.requests);
        exit(1);
    }
}

/* lead: how many packets the primary is ahead when the secondary's come; 0: the secondary is first. */
static void run(const char *what, bool tcp, uint32_t flows, uint32_t lead, colo_time time)
{
    static uint8_t p[BATCH][1600], s[BATCH][1600];
    uint32_t *seq = calloc(flows, sizeof(*seq)), len = 0, n = 0;
    struct colo_compare *c = open_engine();
    uint64_t sent = 0, bytes = 0;
    colo_time start, now, spent = 0;

    if (!seq)
        exit(1);
    released = 0;
    memset(p, 'x', sizeof(p));
    memset(s, 'x', sizeof(s));
    for (uint32_t f = 0; tcp && f < flows; f++, sent++) {
        len = tcp_frame(p[0], f, 1000, COLO_TCP_SYN | COLO_TCP_ACK, 0);
        colo_compare_primary(c, p[0], len, 1);
        len = tcp_frame(s[0], f, 777777, COLO_TCP_SYN | COLO_TCP_ACK, 0);
        colo_compare_secondary(c, s[0], len, 1);
    }
    bytes = 0;
    while (spent < time) {
        for (uint32_t i = 0; i < BATCH; i++, n++) {
            uint32_t flow = n % flows;

            if (tcp) {
                len = tcp_frame(p[i], flow, 1001 + seq[flow], COLO_TCP_ACK, 1448);
                tcp_frame(s[i], flow, 777778 + seq[flow], COLO_TCP_ACK, 1448);
                seq[flow] += 1448;
            } else {
                len = udp_frame(p[i], flow, n);
                udp_frame(s[i], flow, n);
            }
        }
        start = cpu_time();
        for (uint32_t i = 0, k; i < BATCH; i = k) {
            now = colo_now();
            for (k = i; !lead && k < BATCH && k < i + 8; k++)
                colo_compare_secondary(c, s[k], len, now);
            for (k = i; k < BATCH && k < i + (lead ? lead : 8); k++)
                colo_compare_primary(c, p[k], len, now);
            for (k = i; lead && k < BATCH && k < i + lead; k++)
                colo_compare_secondary(c, s[k], len, now);
            if (!lead)
                k = i + 8;
        }
        colo_compare_advance(c, colo_now());
        spent += cpu_time() - start;
        sent += BATCH;
        bytes += (uint64_t)BATCH * len;
    }
    check_all_went(c, sent);
    result(what, sent, bytes, spent);
    free(seq);
    colo_compare_free(c);
}

int main(int argc, char **argv)
{
    colo_time time = (colo_time)((argc > 1 ? atof(argv[1]) : 1.0) * 1e9);
    uint32_t flows = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1000;

    if (!flows || flows > 60000 || time <= 0) {
        fprintf(stderr, "usage: bench-compare [SECONDS [FLOWS]]\n");
        return 2;
    }
    run("TCP 1448, 1 flow, primary first", true, 1, 8, time);
    run("TCP 1448, 1 flow, secondary first", true, 1, 0, time);
    run("TCP 1448, many flows, primary first", true, flows, 8, time);
    run("UDP 64, 1 flow, primary first", false, 1, 8, time);
    run("UDP 64, many flows, primary first", false, flows, 8, time);
    run("UDP 64, many flows, secondary first", false, flows, 0, time);
    return 0;
}
