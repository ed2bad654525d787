/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Undoing what a session left that was killed, from what it had noted in shared memory.
 */
#ifndef LIBXL_COLO_RECOVER_H
#define LIBXL_COLO_RECOVER_H

#include <libxl.h>

#include "libxl_colo_shared.h"

enum colo_recover_what {
    COLO_RECOVER_NOTHING,  /* no domain of ours exists */
    COLO_RECOVER_DESTROY,  /* our copy is not the guest */
    COLO_RECOVER_RUN_ON,   /* our copy is the guest: it must run, unprotected */
    COLO_RECOVER_TAKEOVER, /* the same, and it must get the guest's name and its NICs first */
};
enum colo_recover_what colo_recover_decide(const struct colo_recovery *rec);

/* The ops member of the same name (libxl_colo_lifecycle.h). */
int colo_recover(void *priv, struct colo_shared *sh, enum colo_role role, bool *guest_here,
                 struct colo_err *err);

/* The monitor's libxl context, which logs to its log; made at the first call, and the process's
 * until its end.  NULL and *err.  Only for the worker thread. */
libxl_ctx *colo_monitor_ctx(struct colo_err *err);

/* Destroy a domain, should it be there, and wait until nothing of it is left. */
int colo_destroy_domain(uint32_t domid, struct colo_err *err);

#endif
