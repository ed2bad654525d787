/* SPDX-License-Identifier: GPL-2.0-only */
/* One TCP connection of the guest program. */
#ifndef CONN_H
#define CONN_H

#include "guest.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum kind { ECHO, HTTP, CONTROL };

struct conn {
    int fd;
    enum kind kind;
    bool eof;     /* nothing more comes in */
    bool closing; /* close once all output is sent */
    size_t in_len, out_pos, out_len;
    char in[8192], out[65536];
    /* http.c */
    enum { HEAD, BODY, REPLY } state;
    uint64_t body_left, body_bytes; /* of a PUT */
    uint64_t blob_seed, blob_pos, blob_len;
    bool keep, slow;
    XXH64_state_t sum; /* any cryptographic one takes the lab seconds a megabyte */
};

size_t conn_room(const struct conn *c);
void conn_put(struct conn *c, const void *data, size_t len);
void conn_print(struct conn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void conn_eat(struct conn *c, size_t len); /* drop the first len bytes of in */

#endif
