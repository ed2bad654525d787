/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Between the two ends of a monitor's socket pair (SOCK_SEQPACKET: one message a packet).
 */
#ifndef LIBXL_COLO_MONITOR_PRIV_H
#define LIBXL_COLO_MONITOR_PRIV_H

#include "libxl_colo_monitor.h"

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

void colo_monitor_child(const struct colo_monitor_child *c) __attribute__((noreturn));

#endif
