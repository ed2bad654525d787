/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * TLS for a QEMU that has none (Debian's for Xen is built without): nbdkit's nbd plugin, which QEMU
 * reaches on a Unix socket of this host and which reaches the other host's disk under TLS with the
 * session's key.  It dies with this process.
 */
#ifndef LIBXL_COLO_RELAY_H
#define LIBXL_COLO_RELAY_H

#include <sys/types.h>

#include "libxl_colo_shared.h"

#define COLO_DISK_USER   "xen-colo" /* to whom the session's key belongs */
#define COLO_DISK_EXPORT "primary"

/* Nothing of it is used but the fields; a zeroed one is none. */
struct colo_relay {
    pid_t pid; /* 0 = none */
    char socket[COLO_DISK_PATH];
};

/* Where the other host serves a disk. */
struct colo_relay_way {
    const char *host;
    uint16_t port;
    const char *export;  /* NULL: COLO_DISK_EXPORT */
    const char *keyfile; /* has to stay until QEMU has connected */
};

/* A key in a file of its own, as nbdkit and libnbd want it: "user:hex". */
int colo_relay_put_key(const char *path, const char *key, struct colo_err *err);

/*
 * Start one at that socket, and wait until it listens.  log is a file for what it complains of.
 * "disk-link": the other host cannot be reached there; "disk-start": nbdkit does not start.
 */
int colo_relay_start(struct colo_relay *r, const char *socket, const struct colo_relay_way *way,
                     const char *log, struct colo_err *err);
/* Ends it, and removes the socket.  Idempotent. */
void colo_relay_stop(struct colo_relay *r);

#endif
