/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An NBD client that measures: requests of one kind and size at random places, so many at a time.
 *
 *   bench-nbd unix:PATH|tcp:PORT EXPORT KEY-FILE|- read|write SIZE DEPTH SPAN SECONDS|xCOUNT
 *
 * With xCOUNT each request is for another place, and there are COUNT of them.  Prints JSON: requests,
 * bytes, seconds, and how long requests took, in microseconds.
 */
#include <errno.h>
#include <libnbd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "colo_err.h"

#define SAMPLES (1u << 20)
#define DEEPEST 64

struct slot {
    int64_t cookie; /* -1 = free */
    colo_time begun;
    void *buf;
};

struct run {
    struct nbd_handle *h;
    bool write;
    uint32_t size, depth;
    uint64_t places, count; /* count 0: until `end` */
    colo_time end;
    uint64_t issued, done;
    uint32_t took[SAMPLES], samples;
    struct slot slot[DEEPEST];
};

static void die(const char *what)
{
    const char *why = nbd_get_error();

    fprintf(stderr, "bench-nbd: %s: %s\n", what, why ? why : strerror(errno));
    exit(1);
}

static struct nbd_handle *connect_to(const char *where, const char *export, const char *key)
{
    struct nbd_handle *h = nbd_create();
    int r;

    if (!h || nbd_set_export_name(h, export))
        die("a handle");
    nbd_set_strict_mode(h, 0);
    if (strcmp(key, "-") != 0) {
        nbd_set_tls(h, LIBNBD_TLS_REQUIRE);
        nbd_set_tls_psk_file(h, key);
        nbd_set_tls_username(h, "qemu");
    }
    if (!strncmp(where, "unix:", 5))
        r = nbd_connect_unix(h, where + 5);
    else
        r = nbd_connect_tcp(h, "127.0.0.1", where + 4);
    if (r)
        die(where);
    return h;
}

/* A walk over all places in an order that looks random: the odd step is prime to a power of two. */
static uint64_t place(const struct run *r, uint64_t i)
{
    uint64_t all = 1;

    while (all < r->places)
        all *= 2;
    for (i %= all;; i++) {
        uint64_t at = (i * 0x9e3779b97f4a7c15u) & (all - 1);

        if (at < r->places)
            return at;
    }
}

static void issue(struct run *r, struct slot *s)
{
    uint64_t offset = place(r, r->issued++) * r->size;

    s->begun = colo_now();
    s->cookie = r->write ? nbd_aio_pwrite(r->h, s->buf, r->size, offset, NBD_NULL_COMPLETION, 0)
                         : nbd_aio_pread(r->h, s->buf, r->size, offset, NBD_NULL_COMPLETION, 0);
    if (s->cookie < 0)
        die("a request");
}

static void reap(struct run *r, struct slot *s)
{
    int done = s->cookie < 0 ? 0 : nbd_aio_command_completed(r->h, (uint64_t)s->cookie);

    if (done < 0)
        die("a reply");
    if (!done)
        return;
    s->cookie = -1;
    r->took[r->samples++ % SAMPLES] = (uint32_t)((colo_now() - s->begun) / 10);
    r->done++;
}

static void go(struct run *r)
{
    bool more = true;
    uint32_t busy = 1;

    while (busy) {
        more = more && (r->count ? r->issued < r->count : colo_now() < r->end);
        busy = 0;
        for (uint32_t i = 0; i < r->depth; i++) {
            struct slot *s = &r->slot[i];

            reap(r, s);
            if (s->cookie < 0 && more && (!r->count || r->issued < r->count))
                issue(r, s);
            busy += s->cookie >= 0;
        }
        if (busy && nbd_poll(r->h, -1) < 0)
            die("poll");
    }
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

/* In microseconds; took[] is sorted. */
static double percentile(const struct run *r, uint32_t n, uint32_t of_hundred)
{
    uint64_t at = (uint64_t)n * of_hundred / 100;

    return n ? (double)r->took[at] / 100.0 : 0;
}

int main(int argc, char **argv)
{
    static struct run r;
    colo_time start;
    uint32_t n;
    double seconds;

    if (argc != 9) {
        fputs("usage: see bench-nbd.c\n", stderr);
        return 2;
    }
    r.h = connect_to(argv[1], argv[2], argv[3]);
    r.write = !strcmp(argv[4], "write");
    r.size = (uint32_t)atoi(argv[5]);
    r.depth = (uint32_t)atoi(argv[6]);
    r.places = strtoull(argv[7], NULL, 0) / r.size;
    if (r.size == 0 || r.depth == 0 || r.depth > DEEPEST || r.places == 0)
        return 2;
    for (uint32_t i = 0; i < r.depth; i++) {
        r.slot[i].cookie = -1;
        r.slot[i].buf = malloc(r.size);
        if (!r.slot[i].buf)
            return 1;
        memset(r.slot[i].buf, (int)(i + 1), r.size);
    }
    start = colo_now();
    if (argv[8][0] == 'x')
        r.count = strtoull(argv[8] + 1, NULL, 0);
    else
        r.end = start + (colo_time)(atof(argv[8]) * 1e9);
    go(&r);
    seconds = (double)(colo_now() - start) / 1e9;
    nbd_shutdown(r.h, 0);
    nbd_close(r.h);
    n = r.samples < SAMPLES ? r.samples : SAMPLES;
    qsort(r.took, n, sizeof(r.took[0]), by_size);
    printf("{\"requests\": %llu, \"bytes\": %llu, \"seconds\": %.6f, \"median_us\": %.2f, "
           "\"p99_us\": %.2f}\n",
           (unsigned long long)r.done, (unsigned long long)r.done * r.size, seconds,
           percentile(&r, n, 50), percentile(&r, n, 99));
    return 0;
}
