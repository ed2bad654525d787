/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Start nbdkit with the plugin, and with sockets that are bound before: it serves more than one only when it is
 * handed them (LISTEN_FDS).
 */
#ifndef DISK_SERVE_H
#define DISK_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "colo_err.h"

struct disk_serve {
    const char *target, *session;    /* session: uuid */
    const char *control, *secondary; /* paths of unix sockets */
    const char *listen; /* numeric address or "any" for the primary's export; NULL: standalone */
    uint16_t port;      /* 0: any that is free */
    const char *psk;    /* file with the session's key, as nbdkit's --tls-psk wants it */
    const char *export; /* the primary's export; NULL: "primary" */
    const char *memory, *active, *hidden, *state_dir, *alone, *log; /* NULL: the default */
    const char *plugin; /* the plugin's file; NULL: ours */
    bool raw, standalone, foreground;
};

/* Foreground: returns only on failure.  Otherwise returns when it serves, and *port is the one of
 * the primary's export.  What the server refused has its own reason, see colo_disk_open. */
int disk_serve(const struct disk_serve *cfg, uint16_t *port, struct colo_err *err);

#endif
