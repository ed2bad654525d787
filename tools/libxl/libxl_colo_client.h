/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * A connection to the control socket of one of our daemons (colo-proxy, colo-disk): a request is a
 * line with a JSON object, and so is its reply (docs/specs/proxy-control.md, disk-control.md).
 */
#ifndef LIBXL_COLO_CLIENT_H
#define LIBXL_COLO_CLIENT_H

#include "libxl_json.h"

struct colo_client;

/* What its errors call it: "the guest's colo-proxy", and the reason when it has gone. */
struct colo_client_name {
    const char *who, *gone;
};

/* Run a program that goes to the background by itself, once it can be talked to, and wait until it
 * has.  argv[0] is its path.  COLO_ERR_LOCAL with that reason. */
int colo_client_run(char *const argv[], const char *reason, struct colo_err *err);

/* The path of a program of ours: installed beside xl, or where the environment's `variable` says.
 * Valid until the next call. */
const char *colo_client_program(const char *name, const char *variable);

/* name must outlive the client.  Nobody there: COLO_ERR_LOCAL, name->gone. */
int colo_client_open(const char *path, const struct colo_client_name *name,
                     struct colo_client **out, struct colo_err *err);
void colo_client_close(struct colo_client *c); /* NULL is fine */
int colo_client_fd(const struct colo_client *c);

/* The beginning of a request: {"do": what */
struct colo_json_gen *colo_client_request(const char *what);

/* What came between a request and its reply. */
typedef void colo_client_event(void *priv, const struct colo_json *event);

/* Send g, complete it, and wait for the reply; g is freed.  reply may be NULL.  An error reply is
 * COLO_ERR_LOCAL with the daemon's reason.  Events go to on_event (NULL: are dropped). */
int colo_client_ask(struct colo_client *c, struct colo_json_gen *g, colo_client_event *on_event,
                    void *priv, struct colo_json **reply, struct colo_err *err);
/* The two halves, so that several daemons work at a time. */
int colo_client_send(struct colo_client *c, struct colo_json_gen *g, struct colo_err *err);
int colo_client_reply(struct colo_client *c, colo_client_event *on_event, void *priv,
                      struct colo_json **reply, struct colo_err *err);

/* The next line that has come: 1 and *line; 0 = none yet. */
int colo_client_line(struct colo_client *c, struct colo_json **line, struct colo_err *err);

#endif
