/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The process around a proxy: one epoll loop over its control socket, its link and its taps.
 */
#ifndef PROXY_DAEMON_H
#define PROXY_DAEMON_H

#include <stdarg.h>

#include "libxl_colo_lines.h"
#include "proxy.h"

#define PROXY_CLIENTS 8

struct proxy_client {
    struct colo_lines lines; /* .fd -1 = free */
    bool watches;
};

struct proxy_daemon {
    struct proxy proxy;
    struct proxy_link_config link_cfg;
    struct colo_compare_config limits;
    int epoll_fd, control_fd, listen_fd;
    const char *control_path;
    struct proxy_client client[PROXY_CLIENTS];
    struct proxy_link *pending[PROXY_PENDING]; /* not up yet */
    uint32_t link_events;                      /* what the link is polled for */
    colo_time check_aside;                     /* when to look whether rewriting is over */
    colo_time alone_limit;
    colo_time alone_at; /* when to end should nobody watch until then */
    bool rejoin;        /* on the way out, the guest's taps go back on their bridge */
    bool quit;
};

struct proxy_run {
    const char *control_path;
    const char *log; /* NULL, or one that cannot be opened: messages go nowhere */
    /* As soon as requests are taken the calling process exits with status 0, and a child goes on in
     * a session of its own. */
    bool background;
    colo_time alone_limit; /* before a takeover: without anybody who watches; 0 means 30 s */
};

/* Returns when it is told to end, has stepped aside, or was alone for too long. */
int proxy_daemon_run(const struct proxy_run *run, struct colo_err *err);

/* ---- proxy_process.c ---- */
/* Exit, and let a child return in a session of its own, with its messages in `log` (NULL: none). */
int proxy_background(const char *log, struct colo_err *err);
/* Keep CAP_NET_ADMIN, for taps and what they are wired with; no program that is run gets more. */
int proxy_drop_privileges(struct colo_err *err);

/* One that answers requests, without a loop or a socket to get them from. */
int proxy_daemon_init(struct proxy_daemon *d, const struct proxy_run *run, struct colo_err *err);
void proxy_daemon_fini(struct proxy_daemon *d);

/* ---- proxy_control.c: who asks ---- */
int proxy_control_listen(struct proxy_daemon *d, struct colo_err *err);
void proxy_control_accept(struct proxy_daemon *d);
void proxy_control_ready(struct proxy_daemon *d, struct proxy_client *c, uint32_t events);
void proxy_control_close(struct proxy_client *c);
/* One line of JSON to every client that watches; frees it. */
void proxy_control_event(struct proxy_daemon *d, char *line);

/* ---- proxy_requests.c: what is asked ---- */
/* A colo_lines_answer for a client's request; NULL: out of memory. */
struct proxy_asking {
    struct proxy_daemon *d;
    struct proxy_client *c;
};
char *proxy_answer(void *asking, const char *line, size_t len);

/* ---- proxy_stats.c ---- */
void proxy_stats_put(struct proxy *p, struct colo_json_gen *g);

/* ---- proxy_daemon.c ---- */
/* Wait for events on fd (0: none, but an error or the end is told all the same). */
enum proxy_watch {
    WATCH_CONTROL,
    WATCH_CLIENT,
    WATCH_LISTEN,
    WATCH_PENDING,
    WATCH_LINK,
    WATCH_GUEST,
    WATCH_PORT
};
int proxy_watch(struct proxy_daemon *d, int fd, enum proxy_watch what, uint32_t index,
                uint32_t events, struct colo_err *err);
/* The guest's taps are on their bridge again; what is left in ours is passed on, and they go. */
int proxy_step_aside(struct proxy_daemon *d, struct colo_err *err);

#endif
