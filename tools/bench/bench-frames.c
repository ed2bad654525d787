/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Equal frames into both inputs of a comparer, as fast as they come out again, for bench-proxy.
 *
 *   bench-frames SECONDS KIND WINDOW PRIMARY SECONDARY OUT
 *
 * An end is a network link, as NAMESPACE:LINK, or the path of a unix socket, where a 32-bit length
 * goes before each frame, as QEMU's filters have it.  KIND is "udp" (64 bytes) or "tcp" (segments of
 * 1448 bytes of one stream); WINDOW, how many frames are inside at a time.  Prints how many went
 * through and the seconds, as JSON.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench-header.h"
#include "colo_err.h"

#define BATCH   32
#define HOST    77   /* our frames are from 10.0.0.77 */
#define PATIENT 5000 /* ms without anything coming out: something is wrong */

struct end {
    bool link; /* else a socket */
    int fd;
};

/* ---- the ends ---- */

static int open_link(const char *where, bool out)
{
    struct sockaddr_ll sll = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    const char *name = strchr(where, ':') + 1;
    char path[128];
    int one = 1, size = 8 << 20, fd, ns;

    snprintf(path, sizeof(path), "/run/netns/%.*s", (int)(name - 1 - where), where);
    ns = open(path, O_RDONLY | O_CLOEXEC);
    if (ns < 0 || setns(ns, CLONE_NEWNET))
        err(1, "%s", path);
    close(ns);
    sll.sll_ifindex = (int)if_nametoindex(name);
    fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, out ? htons(ETH_P_ALL) : 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&sll, sizeof(sll)))
        err(1, "%s", name);
    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
    return fd;
}

static int open_socket(const char *path)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&sun, sizeof(sun)))
        err(1, "%s", path);
    return fd;
}

static struct end open_end(const char *where, bool out)
{
    bool link = strchr(where, ':') != NULL;

    return (struct end){.link = link, .fd = link ? open_link(where, out) : open_socket(where)};
}

static void send_frame(const struct end *e, const uint8_t *frame, uint32_t len)
{
    uint32_t be = htonl(len);
    struct iovec v[] = {{&be, sizeof(be)}, {(void *)frame, len}};
    ssize_t n;

    do
        n = e->link ? send(e->fd, frame, len, 0) : writev(e->fd, v, 2);
    while (n < 0 && (errno == EINTR || errno == ENOBUFS));
    if (n != (ssize_t)len + (e->link ? 0 : 4))
        err(1, "sending a frame");
}

static uint64_t out_so_far;

/* How many frames of ours have come out; at most `most` of them, waiting for one if wait. */
static uint32_t receive(const struct end *e, bool wait, uint32_t most)
{
    static uint8_t in[1 << 20];
    static uint32_t have;
    struct pollfd pfd = {.fd = e->fd, .events = POLLIN};
    uint32_t n = 0, at = 0, len;
    ssize_t r;

    if (wait && poll(&pfd, 1, PATIENT) <= 0)
        errx(1, "nothing comes out any more, after %" PRIu64 " frames", out_so_far);
    while (e->link && n < most) {
        r = recv(e->fd, in, sizeof(in), MSG_DONTWAIT);
        if (r <= 0)
            break;
        n += r > 40 && in[12] == 8 && in[26] == 10 &&
             in[29] == HOST; /* from the address of our frames */
    }
    if (e->link) {
        out_so_far += n;
        return n;
    }
    r = recv(e->fd, in + have, sizeof(in) - have, MSG_DONTWAIT);
    have += r > 0 ? (uint32_t)r : 0;
    while (have - at >= 4) {
        len = colo_be32(in + at);
        if (have - at < 4 + len)
            break;
        at += 4 + len;
        n++;
    }
    have -= at;
    memmove(in, in + at, have);
    out_so_far += n;
    return n;
}

/* ---- frames ---- */

static uint32_t udp(uint8_t *f, uint32_t n)
{
    uint32_t at = bench_header(f, HOST, 17, 30);

    colo_put16(f + at, 53);
    colo_put16(f + at + 2, 4000);
    colo_put16(f + at + 4, 30);
    colo_put32(f + at + 8, n);
    return at + 30;
}

/* With eight bytes of options, so that no frame is short: QEMU pads those from a tap. */
static uint32_t tcp(uint8_t *f, uint32_t seq, uint8_t flags, uint32_t len)
{
    uint32_t at = bench_header(f, HOST, 6, 28 + len);

    colo_put16(f + at, 80);
    colo_put16(f + at + 2, 4000);
    colo_put32(f + at + 4, seq);
    colo_put32(f + at + 8, 1);
    f[at + 12] = 0x70;
    f[at + 13] = flags;
    colo_put16(f + at + 14, 0xffff);
    memset(f + at + 16, 0, 4);
    memset(f + at + 20, 1, 8);
    return at + 28 + len;
}

/* Until a frame comes out: QEMU takes connections one after the other, in its own time. */
static void probe(const struct end *p, const struct end *s, const struct end *out)
{
    struct pollfd pfd = {.fd = out->fd, .events = POLLIN};
    colo_time until = colo_now() + PATIENT * INT64_C(1000000);
    uint8_t frame[1600];
    uint32_t len = udp(frame, UINT32_MAX);

    do {
        if (colo_now() > until)
            errx(1, "nothing comes out");
        send_frame(p, frame, len);
        send_frame(s, frame, len);
    } while (poll(&pfd, 1, 200) <= 0);
    while (poll(&pfd, 1, 200) > 0) /* what was late */
        receive(out, false, 1);
}

int main(int argc, char **argv)
{
    static uint8_t frame[BATCH][1600];
    uint32_t len[BATCH], seq = 1, inside = 0;
    uint64_t sent = 0;
    bool is_tcp;
    colo_time begun, until;
    struct end p, s, out;
    uint32_t window;

    if (argc != 7) {
        fprintf(stderr, "usage: bench-frames SECONDS udp|tcp WINDOW PRIMARY SECONDARY OUT\n");
        return 2;
    }
    is_tcp = !strcmp(argv[2], "tcp");
    window = (uint32_t)atoi(argv[3]);
    p = open_end(argv[4], false);
    s = open_end(argv[5], false);
    out = open_end(argv[6], true);
    memset(frame, 'x', sizeof(frame));
    probe(&p, &s, &out);
    begun = colo_now();
    until = begun + (int64_t)(atof(argv[1]) * 1e9);
    if (is_tcp) {
        len[0] = tcp(frame[0], 0, 0x12, 0);
        send_frame(&p, frame[0], len[0]);
        send_frame(&s, frame[0], len[0]);
        for (inside = 1; inside > 0;)
            inside -= receive(&out, true, 1);
    }
    while (colo_now() < until || inside > 0) {
        if (colo_now() < until && inside + BATCH <= window) {
            for (int i = 0; i < BATCH; i++, sent++) {
                len[i] = is_tcp ? tcp(frame[i], seq, 0x10, 1448) : udp(frame[i], (uint32_t)sent);
                seq += 1448;
            }
            for (int i = 0; i < BATCH; i++)
                send_frame(&p, frame[i], len[i]);
            for (int i = 0; i < BATCH; i++)
                send_frame(&s, frame[i], len[i]);
            inside += BATCH;
        }
        inside -= receive(&out, colo_now() >= until || inside + BATCH > window, inside);
    }
    printf("{\"frames\": %" PRIu64 ", \"seconds\": %.6f}\n", sent,
           (double)(colo_now() - begun) / 1e9);
    return 0;
}
