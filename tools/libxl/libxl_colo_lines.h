/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The daemons' end of a control socket: requests and replies are lines of JSON.  Nothing here waits:
 * a client that sends no end of a line, or does not read, is given up.  libxl_colo_client.h is the
 * other end.
 */
#ifndef LIBXL_COLO_LINES_H
#define LIBXL_COLO_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "colo_err.h"
#include "libxl_json.h"

#define COLO_LINE_MAX  (16u << 10)  /* of a request, bytes */
#define COLO_REPLY_MAX (256u << 10) /* replies and events that a client has not read, bytes */

struct colo_lines {
    int fd; /* -1 = nobody */
    char *in, *out;
    uint32_t in_len, out_len; /* out_len > 0: poll for POLLOUT, then colo_lines_flush */
};

/* Nobody yet. */
void colo_lines_init(struct colo_lines *l);
/* A client at that socket, which does not block, and is l's from now on.  -1: out of memory, closed. */
int colo_lines_open(struct colo_lines *l, int fd);
/* Back to nobody. Idempotent. */
void colo_lines_close(struct colo_lines *l);

/* All of these: false = the client is to be closed, which is the caller's. */
bool colo_lines_flush(struct colo_lines *l);
bool colo_lines_say(struct colo_lines *l, const char *line);
/* Read what is there.  answer() gets each whole line, and returns what to say, malloc'ed; NULL, or
 * l closed by it: the client is to be closed. */
typedef char *colo_lines_answer(void *priv, const char *line, size_t len);
bool colo_lines_hear(struct colo_lines *l, colo_lines_answer *answer, void *priv);

/* One request, {"do":NAME,...}: run() may put members of the reply into g; name is "" where there is
 * none.  Returns the reply, malloc'ed: "ok", or "error" with reason and message. */
typedef int colo_request(void *priv, const char *name, const struct colo_json *q,
                         struct colo_json_gen *g, struct colo_err *err);
char *colo_request_answer(const char *line, size_t len, colo_request *run, void *priv);
/* "bad-request". Returns -1. */
int colo_request_bad(struct colo_err *err, const char *what);
/* The member "error" of a reply or status. */
void colo_request_put_error(struct colo_json_gen *g, const struct colo_err *err);

#endif
