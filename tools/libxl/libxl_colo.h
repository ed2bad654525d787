/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * A COLO session, both sides: what tools/xl calls.
 */
#ifndef LIBXL_COLO_H
#define LIBXL_COLO_H

#include "libxl_colo_monitor.h"
#include "xc_sr_save.h"

#define COLO_PROTOCOL_VERSION 1

/* The most that heartbeat_ms x heartbeat_misses may be: a dead peer must be found out before the
 * steps that wait for it run out of time. */
#define COLO_SILENCE_MAX_MS 30000u

#define COLO_SCRIPT_DIR     "/etc/xen/scripts/"
#define COLO_DEFAULT_SCRIPT COLO_SCRIPT_DIR "colo-proxy-setup"

struct colo_config {
    uint32_t interval_max_ms; /* a checkpoint at least this often; default 5000 */
    uint32_t interval_min_ms; /* and never sooner than this after the last; default 100 */
    /* One copy's output waits for the other's, before a checkpoint is made instead; default 200. */
    uint32_t output_wait_ms;
    uint32_t heartbeat_ms;     /* default 100 */
    uint32_t heartbeat_misses; /* default 5 */
    uint64_t staging_cap;  /* bytes of a checkpoint held in memory on the secondary; 0 = default */
    uint32_t verify_every; /* prove both copies equal at every Nth checkpoint; 0 = never */
    bool takeover_on_silence; /* secondary's policy without a fence command; default true */
    bool force;               /* -F: hosts may differ in the versions of Xen and QEMU */
    char proxyscript[128];    /* wires NICs to colo-proxy; "" = output is not compared; default
                               COLO_DEFAULT_SCRIPT */
};
void colo_config_defaults(struct colo_config *c);

/* What a session tells a person; every member may be NULL. */
struct colo_ui {
    void *priv;
    void (*message)(void *priv, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
    void (*sync)(void *priv, const struct xc_sr_precopy_progress *p, uint64_t mem_pages);
};

enum colo_outcome {
    COLO_OUT_GUEST_HERE, /* the guest is this host's and runs */
    COLO_OUT_GUEST_DOWN, /* the guest is this host's and has shut down: the monitor acts on it */
    COLO_OUT_NOTHING,    /* nothing of it is left here (or it never was) */
};

struct colo_session_params {
    struct colo_config config; /* the secondary's heartbeat and intervals come from the primary */
    const char *peer;          /* for messages and status */
    int rfd, wfd;              /* the transport */
    int cancel_fd;             /* readable = Ctrl-C or SIGTERM */
    struct colo_shared *shared;
    struct colo_monitor *monitor;
    struct colo_ui ui;
};

/* The reason codes of preflight are listed in docs/man/xl-colo.7 and libxl_colo_preflight.c. */

/*
 * Protect domain domid.  The transport is connected to `xl migrate-receive --colo`, whose banner
 * has been read.  Returns when protection is over: always -1 with the reason in *err, and *outcome
 * says where the guest is.
 */
int colo_primary(const struct colo_session_params *p, uint32_t domid, enum colo_outcome *outcome,
                 struct colo_err *err);

/* Be the second host.  The banner has been sent.  Returns as above; COLO_OUT_GUEST_HERE after a
 * takeover (and then *err says why it took over). */
int colo_secondary(const struct colo_session_params *p, enum colo_outcome *outcome,
                   struct colo_err *err);

/* Only the checks of colo_primary, against nothing but this host: -1 and COLO_ERR_REFUSED. */
int colo_preflight(uint32_t domid, const struct colo_config *config, struct colo_err *err);

/*
 * Points at which a test can stop a session: when the environment has
 * XEN_COLO_TESTPOINT=NAME[:N], the Nth time (default 1) that NAME is reached the session writes
 * COLO_RUN_DIR/testpoint.NAME and waits there until that file is removed (its heartbeat goes on),
 * so that the test can take a host away at exactly this place.
 */
void colo_testpoint(const char *name);

#endif
