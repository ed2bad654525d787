/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The monitor's inside: what goes between the two ends of its socket pair (SOCK_SEQPACKET: one
 * message a packet) and, the other way round, from its worker thread to its main thread.
 */
#ifndef LIBXL_COLO_MONITOR_PRIV_H
#define LIBXL_COLO_MONITOR_PRIV_H

#include <pthread.h>

#include "libxl_colo_monitor.h"
#include "libxl_colo_proxy.h"

enum colo_monitor_msg_type {
    /* session to monitor */
    COLO_MSG_DOMID = 1, /* recovery.domid is another one */
    COLO_MSG_END,       /* over, nothing to watch */
    COLO_MSG_WATCH,     /* over, watch the guest */
    COLO_MSG_REPROTECT, /* the same, and tell of its reboot */
    /* monitor to session */
    COLO_MSG_COMMAND,  /* value = enum colo_monitor_cmd */
    COLO_MSG_WATCHING, /* answer to WATCH and REPROTECT */
    COLO_MSG_REBOOTED, /* value = the new domid */
    COLO_MSG_GONE,     /* nothing to watch; err says why when it was not the guest's own end */
    COLO_MSG_RETIRED,  /* another session has the guest */
};

struct colo_monitor_msg {
    uint32_t type;
    uint32_t value;
    struct colo_err err;
};

/* What the child has of its parent. */
struct colo_monitor_child {
    struct colo_shared *sh;
    struct colo_monitor_opts opts;
    const struct colo_monitor_ops *ops;
    void *priv;
    int fd;    /* socket pair */
    int pidfd; /* readable when the session's process is gone; -1 where the kernel has none */
};

/* ---- inside the process ---- */
enum colo_monitor_phase {
    PHASE_SERVING, /* a session lives; its requests and the operator's are passed on */
    PHASE_WORKING, /* the session is over or was killed: the worker runs */
    PHASE_RETIRED, /* another session has the guest: end without touching anything */
};

struct mon {
    struct colo_monitor_child c;
    enum colo_monitor_phase phase;
    struct colo_control_server *control;
    uint32_t control_domid;
    int work_fds[2]; /* pipe, struct colo_monitor_msg from the worker */
    colo_time end_at;
    struct colo_proxy *px; /* of a guest that was taken over; NULL = none, or none any more */
    bool term;             /* end when the worker is done with what it does */

    /* the worker */
    pthread_t thread;
    bool killed;    /* recover first */
    bool reprotect; /* the session waits for a reboot */
    pthread_mutex_t lock;
    bool acting;  /* the guest is being dealt with: it cannot be given up now */
    bool retired; /* the worker must not touch the guest any more */
};

/* Start the worker.  killed: undo first; reprotect: end, and tell, when the guest has rebooted. */
void colo_monitor_work(struct mon *m, bool killed, bool reprotect);

/* ---- libxl_colo_monitor_proxy.c ---- */
void colo_monitor_proxy_watch(struct mon *m);   /* if a takeover left one */
int colo_monitor_proxy_fd(const struct mon *m); /* -1 = none */
void colo_monitor_proxy_ready(struct mon *m);   /* the fd is readable */
bool colo_monitor_proxy_needed(const struct mon *m);

/* The child's life. */
void colo_monitor_child(const struct colo_monitor_child *c) __attribute__((noreturn));

#endif
