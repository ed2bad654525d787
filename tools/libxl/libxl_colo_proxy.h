/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The toolstack's side of colo-proxy: starting one for a guest, and its control socket
 * (docs/specs/proxy-control.md).  The proxy outlives whoever started it: a monitor finds it again by
 * the socket's path.
 */
#ifndef LIBXL_COLO_PROXY_H
#define LIBXL_COLO_PROXY_H

#include <stdbool.h>
#include <stdint.h>

#include "libxl_json.h"

#define COLO_PROXY_KEY_HEX 64

struct colo_proxy;

#define COLO_PROXY_PATH 96
/* Its control socket. */
void colo_proxy_path(char path[COLO_PROXY_PATH], const char *session, bool secondary);

/* Start `program run path log`, connect to it and watch it; log may be NULL. */
int colo_proxy_start(const char *program, const char *path, const char *log,
                     struct colo_proxy **out, struct colo_err *err);
/* Connect to one that runs.  None there: COLO_ERR_LOCAL "proxy-gone". */
int colo_proxy_attach(const char *path, struct colo_proxy **out, struct colo_err *err);
/* Get events from now on, after colo_proxy_attach. */
int colo_proxy_watch(struct colo_proxy *px, struct colo_err *err);
/* The proxy goes on without us. NULL is fine. */
void colo_proxy_close(struct colo_proxy *px);

/* 64 hex digits, from the kernel's random numbers. */
int colo_proxy_make_key(char key[COLO_PROXY_KEY_HEX + 1], struct colo_err *err);

struct colo_proxy_link {
    const char *session; /* uuid */
    const char *key;
    const char *device;  /* network device of the link; NULL: any */
    const char *address; /* secondary: to listen on, NULL: all; primary: the peer's host */
    uint16_t port;       /* the peer's (primary); the one that was chosen (secondary) */
    uint32_t silence_ms; /* 0: the proxy's own choice */
};
/* Secondary: listens, and sets link->port. */
int colo_proxy_listen(struct colo_proxy *px, struct colo_proxy_link *link, struct colo_err *err);
/* Primary: begins to connect; the event "link-up" says when it is done. */
int colo_proxy_connect(struct colo_proxy *px, const struct colo_proxy_link *link,
                       struct colo_err *err);

/* output_wait_ms: 0 = the engine's own.  The NICs, by the names of their vifs; mode is "compare", "buffer", "event" or "pass". */
int colo_proxy_setup(struct colo_proxy *px, const char *const *vifs, size_t n, const char *mode,
                     uint32_t output_wait_ms, struct colo_err *err);
int colo_proxy_hold(struct colo_proxy *px, uint64_t checkpoint, struct colo_err *err);
int colo_proxy_checkpoint(struct colo_proxy *px, uint64_t checkpoint, struct colo_err *err);
int colo_proxy_takeover(struct colo_proxy *px, struct colo_err *err);
/* The guest's taps go back on their bridge, if `rejoin`; the proxy ends. */
int colo_proxy_teardown(struct colo_proxy *px, bool rejoin, struct colo_err *err);
/* Its counters, as docs/specs/proxy-control.md has them; to be freed with colo_json_free. */
int colo_proxy_stats(struct colo_proxy *px, struct colo_json **stats, struct colo_err *err);

enum colo_proxy_event_type {
    COLO_PROXY_LINK_UP,
    COLO_PROXY_LINK_LOST,
    COLO_PROXY_CHECKPOINT, /* wanted */
    COLO_PROXY_TAP_GONE,
    COLO_PROXY_ASIDE,
};
struct colo_proxy_event {
    enum colo_proxy_event_type type;
    char why[32];   /* CHECKPOINT: "payload", ...; LINK_LOST, TAP_GONE: the reason */
    char text[400]; /* for people */
};
/* Readable when there is an event, or the proxy has gone. */
int colo_proxy_fd(const struct colo_proxy *px);
/* 1: *ev is the next one; 0: none; -1: the proxy has gone ("proxy-gone").  To be asked also after
 * any request: of what came with a reply the fd does not tell. */
int colo_proxy_event(struct colo_proxy *px, struct colo_proxy_event *ev, struct colo_err *err);
#endif
