/* SPDX-License-Identifier: GPL-2.0-only */
/* The lab's guest program: one static binary, PID 1 of a small Linux guest. */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE 4096u

/* main.c: what the kernel command line says, and the counter */
struct settings {
    char ip[64], ip6[80]; /* address/prefix; empty: none */
    unsigned tick_ms;
};
extern struct settings settings;
extern uint64_t counter; /* ticks so far */
extern uint64_t boot_id; /* random at boot */
double uptime(void);     /* seconds, monotonic */
void breathe(void);      /* in long work: print the ticks that are due */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* sha256.c */
struct sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
};
void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t len);
void sha256_end(struct sha256 *s, uint8_t out[32]);
void to_hex(const uint8_t *data, size_t len, char *out);

/* chain.c: the chained in-memory log; entry i's hash is sha256(hash i-1 | text) */
size_t chain_append(const char *text, size_t len, char hex[65]); /* returns its index, from 1 */
size_t chain_length(void);
void chain_head(char hex[65]);
bool chain_verify(size_t *bad); /* first bad index in *bad */
bool chain_get(size_t index, const char **text, size_t *len);

/* memory.c: dirtying, patterns, the marker page */
void memory_init(void);
bool memory_dirty(uint64_t rate, uint64_t pages);
void memory_dirty_status(uint64_t *rate, uint64_t *pages, uint64_t *done);
bool memory_fill(uint64_t pages, uint64_t seed, uint64_t *sum);
bool memory_check(uint64_t *pages, uint64_t *sum, uint64_t *bad);
uint64_t memory_mark(uint64_t value); /* returns its gfn, 0 if unknown */
bool memory_peek(uint64_t *value);    /* false: the page is not uniform */
uint64_t memory_mark_gfn(void);
uint64_t splitmix(uint64_t seed, uint64_t index);

#ifdef DISKS
/* disks.c: the path of a disk, from 0; false: there are not so many */
bool disk_device(uint64_t number, char *path, size_t size);

/* database.c: rows on the disk that is mounted; as chain.c */
void database_mount(const char *device, char *answer);
void database_umount(char *answer);
void database_add(const char *text, char *answer);
void database_check(char *answer);

/* scribble.c: blocks of 4 KiB all over a disk, gap microseconds apart */
void scribble_start(const char *device, uint64_t blocks, uint64_t gap, char *answer);
void scribble_stop(char *answer);
void scribble_check(char *answer);
#endif

/* net.c */
void net_up(const char *ip, const char *ip6);

/* power.c: the fd of the power button (-1: none), and what to do when it is readable */
int power_open(void);
void power_input(int fd);

/* control.c: one command in, one answer line out (no newline) */
#define ANSWER_MAX 4096
void control(char *line, char answer[ANSWER_MAX]);

/* server.c: TCP (echo, http, control), UDP echo; poll based */
void server_init(void);
void server_run(int serial, int timeout_ms);

/* http.c; http_tick: once a tick.  pace: bytes a second for all blobs that are asked for with slow=1,
 * 0: as fast as others */
extern uint64_t http_pace;
void http_tick(void);
struct conn;
void http_input(struct conn *c);
void http_more(struct conn *c);

#endif
