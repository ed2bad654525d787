/* SPDX-License-Identifier: GPL-2.0-only */
/* Seeds of fuzz-compare (one script for each kind of frame, and a connection's life), and of what
 * reads the proxies' link and control socket. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "colo_packet.h"
#include "mkseeds.h"

struct script {
    size_t len;
    uint8_t b[4096];
};

static void put(struct script *s, const void *data, size_t len)
{
    if (len > sizeof(s->b) - s->len)
        abort();
    memcpy(s->b + s->len, data, len);
    s->len += len;
}

static void begin(struct script *s)
{
    s->len = 0;
    put(s, (uint8_t[]){1, 2, 0xff, 0xfe, 4}, 5); /* numbers; mode compare */
}

static void save(const struct script *s, const char *dir, const char *target, const char *name)
{
    char path[512];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", dir, target);
    mkdir(path, 0777);
    snprintf(path, sizeof(path), "%s/%s/%s", dir, target, name);
    f = fopen(path, "w");
    if (!f || fwrite(s->b, s->len, 1, f) != 1 || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

/* To the client's side, the primary's, the secondary's, both. */
enum { CLIENT = 0x06, PRIMARY = 0x0e, SECONDARY = 0x16, BOTH = 0x1e };

static void frame(struct script *s, uint8_t op, const uint8_t *f, uint32_t len)
{
    put(s, (uint8_t[]){op, (uint8_t)len}, 2);
    put(s, f, len);
}

/* Ethernet and IP in front of len bytes of a protocol; returns where those go. */
static uint32_t headers(uint8_t *f, bool v6, bool tag, uint8_t proto, uint32_t len, uint16_t frag)
{
    uint32_t at = 12;

    memset(f, 0, 120);
    if (tag) {
        colo_put16(f + at, 0x8100);
        colo_put16(f + at + 2, 5);
        at += 4;
    }
    colo_put16(f + at, v6 ? 0x86dd : 0x0800);
    at += 2;
    if (v6) {
        f[at] = 0x60;
        colo_put16(f + at + 4, (uint16_t)(len + (frag ? 8 : 0)));
        f[at + 6] = frag ? 44 : proto;
        f[at + 23] = 1;
        f[at + 39] = 2;
        at += 40;
        if (frag) {
            f[at] = proto;
            colo_put16(f + at + 2, (uint16_t)((frag & 0x1fff) * 8 | !!(frag & 0x2000)));
            at += 8;
        }
        return at;
    }
    f[at] = 0x45;
    colo_put16(f + at + 2, (uint16_t)(20 + len));
    colo_put16(f + at + 6, frag);
    f[at + 9] = proto;
    f[at + 15] = 1;
    f[at + 19] = 2;
    return at + 20;
}

static void tcp_segment(struct script *s, uint8_t op, bool v6, uint32_t seq, uint8_t flags)
{
    static const uint8_t options[20] = {1, 1, 8, 10, 0, 0,   0, 9, 0, 0,
                                        0, 7, 2, 4,  5, 180, 1, 3, 3, 7};
    uint8_t f[160];
    uint32_t at = headers(f, v6, false, 6, 44, 0);

    colo_put16(f + at, 22);
    colo_put16(f + at + 2, 5000);
    colo_put32(f + at + 4, seq);
    f[at + 12] = 0xa0;
    f[at + 13] = flags;
    memcpy(f + at + 20, options, sizeof(options));
    memcpy(f + at + 40, "data", 4);
    frame(s, op, f, at + 44);
}

static void all_frames(const char *dir, bool v6)
{
    static const uint16_t frags[] = {0x2000, 1};
    struct script s;
    uint8_t f[160];
    uint32_t at;

    begin(&s);
    at = headers(f, v6, true, 17, 12, 0);
    f[at + 5] = 12;
    frame(&s, PRIMARY, f, at + 12);
    frame(&s, SECONDARY, f, at + 12);
    at = headers(f, v6, false, v6 ? 58 : 1, 12, 0);
    f[at] = v6 ? 129 : 0;
    frame(&s, SECONDARY, f, at + 12);
    frame(&s, PRIMARY, f, at + 12);
    for (int i = 0; i < 2; i++) {
        at = headers(f, v6, false, 17, 8, frags[i]);
        f[at + 5] = 16;
        frame(&s, BOTH, f, at + 8);
    }
    colo_put16(f + 12, 0x0806);
    memcpy(f + 14, "\0\1\10\0\6\4\0\1", 8);
    frame(&s, BOTH, f, 60);
    tcp_segment(&s, PRIMARY, v6, 1000, COLO_TCP_SYN | COLO_TCP_ACK);
    tcp_segment(&s, SECONDARY, v6, 5000, COLO_TCP_SYN | COLO_TCP_ACK);
    tcp_segment(&s, PRIMARY, v6, 1005, COLO_TCP_ACK);
    tcp_segment(&s, CLIENT, v6, 1, COLO_TCP_ACK);
    tcp_segment(&s, SECONDARY, v6, 5005, COLO_TCP_ACK | COLO_TCP_FIN);
    tcp_segment(&s, BOTH, v6, 1009, COLO_TCP_RST);
    save(&s, dir, "fuzz-compare", v6 ? "frames-v6" : "frames-v4");
}

static void connection(const char *dir)
{
    static const uint8_t steps[] = {
        4,    2, 0, 0,   0,                         /* SYN of both */
        2,    0, 0, 0,   9,   3,    0, 0, 0,   4,   /* 9 bytes against 4 and 5 */
        3,    0, 0, 4,   5,   0x10,                 /* ... 100 ms pass */
        3,    0, 0, 9,   200, 2,    0, 0, 9,   100, /* the secondary ahead */
        2,    0, 0, 109, 100, 5,    0, 0, 209, 4,   /* a wrong byte */
        0x21, 4, 0, 0,   213, 9,                    /* a checkpoint, and on */
        4,    1, 0, 222, 0,   4,    4, 0, 223, 0,   /* FIN, RST */
    };
    struct script s;

    begin(&s);
    put(&s, steps, sizeof(steps));
    save(&s, dir, "fuzz-compare", "connection");
}

/* After HELLO: PING, BARRIER or MARK 1, a frame. */
static void messages(const char *dir, bool secondary)
{
    struct script s = {0};

    put(&s, (uint8_t[]){(uint8_t)(4 | secondary), 5}, 2);
    put(&s, (uint8_t[]){6, [15] = 1}, 16);
    put(&s, (uint8_t[]){secondary ? 4 : 5, [7] = 8, [15] = 2, [23] = 1}, 24);
    put(&s, (uint8_t[]){secondary ? 2 : 3, 1, [7] = 14, [15] = 3, [29] = 9}, 30);
    save(&s, dir, "fuzz-proxy-link", secondary ? "secondary" : "primary");
}

static void requests(const char *dir)
{
    static const char key[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    static const char lockstep[] =
        "{\"do\":\"setup\",\"vifs\":[\"vif1.0\",\"vif1.1\"],\"mode\":\"compare\","
        "\"limits\":{\"packets\":64,\"data_timeout_ms\":5}}\n"
        "{\"do\":\"hold\",\"checkpoint\":1}\n{\"do\":\"checkpoint\",\"checkpoint\":1}\n"
        "{\"do\":\"stats\"}\n{\"do\":\"mode\",\"mode\":\"pass\"}\n{\"do\":\"takeover\"}\n"
        "{\"do\":\"watch\"}\n{\"do\":\"teardown\",\"rejoin\":false}\n";

    for (int secondary = 0; secondary < 2; secondary++) {
        struct script s = {0};
        int n = snprintf(
            (char *)s.b, sizeof(s.b),
            "{\"do\":\"link\",\"role\":\"%s\",\"key\":\"%s\",\"silence_ms\":900,"
            "\"session\":\"01234567-0123-0123-0123-0123456789ab\",\"%s\":\"127.0.0.1\","
            "\"port\":9}\n%s",
            secondary ? "secondary" : "primary", key, secondary ? "address" : "host", lockstep);

        s.len = (size_t)n;
        save(&s, dir, "fuzz-proxy-requests", secondary ? "secondary" : "primary");
    }
}

void mkseeds_proxy(const char *dir)
{
    messages(dir, false);
    messages(dir, true);
    requests(dir);
    all_frames(dir, false);
    all_frames(dir, true);
    connection(dir);
}
