/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * A real guest as a session needs it: the Xen domain, its QEMU and the xenstore watch, put together
 * as a struct xc_sr_domain.  Needs root in dom0.
 */
#ifndef LIBXL_COLO_GUEST_H
#define LIBXL_COLO_GUEST_H

#include <libxl.h>

#include "libxl_colo_devstate.h"
#include "libxl_colo_session.h"
#include "libxl_colo_xs.h"

struct colo_guest {
    uint32_t domid;
    struct colo_xs *xs;
    struct colo_qmp *qmp;
    struct colo_devstate *devices;
    struct xc_sr_domain *dom;
};

/* A libxl context that logs warnings and errors to stderr.  NULL and *err on failure. */
libxl_ctx *colo_ctx_new(xentoollog_logger **lg, struct colo_err *err);
void colo_ctx_free(libxl_ctx *ctx, xentoollog_logger *lg);

/* Attach to a domain that runs (for_load false) or was built for an incoming session (true). */
int colo_guest_open(struct colo_guest *g, uint32_t domid, bool for_load, struct colo_err *err);
/* Let go of it, leaving it as it is.  Idempotent on a zeroed or closed guest. */
void colo_guest_close(struct colo_guest *g);

/* What no gfn of this guest can reach: its memory as configured, the hole below 4 GiB, and room for
 * video memory; or what it has reached already. */
int colo_guest_bound_gfns(struct colo_guest *g, uint64_t max_memkb, uint64_t *bound,
                          struct colo_err *err);

/* session hooks, with priv = struct colo_guest */
int colo_guest_event(void *priv, struct colo_err *err);

/* "4.17.7" with its extra version, as in `xl info`; and its first two numbers into the session. */
int colo_xen_version(libxl_ctx *ctx, struct colo_session *s, char *buf, size_t len,
                     struct colo_err *err);

/* ---- preflight (libxl_colo_preflight.c) ---- */
/* The primary's guest and host.  cfg is the running guest's configuration. */
int colo_preflight_primary(libxl_ctx *ctx, uint32_t domid, const libxl_domain_config *cfg,
                           const struct colo_config *conf, struct colo_err *err);
/* The secondary's host, before anything is created.  cfg is the configuration received. */
int colo_preflight_secondary(libxl_ctx *ctx, libxl_domain_config *cfg, struct colo_err *err);

#endif
