/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * What becomes of a guest whose monitor we are: the decisions (libxl_colo_lifecycle.c), and the
 * hands that carry them out, as an ops table so that the monitor can be tested without Xen.
 */
#ifndef LIBXL_COLO_LIFECYCLE_H
#define LIBXL_COLO_LIFECYCLE_H

#include "libxl_colo_shared.h"

/* ---- decisions ---- */
/* The on_* of a guest's configuration; the numbers are those of libxl_action_on_shutdown. */
struct colo_life_policy {
    int on_poweroff, on_reboot, on_crash, on_watchdog, on_soft_reset;
};

enum colo_life_step {
    COLO_LIFE_LEAVE, /* the domain is somebody else's business now: touch nothing */
    COLO_LIFE_DESTROY,
    COLO_LIFE_RESTART,        /* destroy, and build it anew from its configuration */
    COLO_LIFE_RENAME_RESTART, /* keep it under another name, and build a new one */
    COLO_LIFE_PRESERVE,       /* keep it as it is */
};

struct colo_life_plan {
    enum colo_life_step step;
    bool coredump;   /* first write one */
    const char *why; /* one line for the log */
};

/* reason is a libxl_shutdown_reason.  As under stock xl a guest that reboots is restarted however
 * short it lived.  (A soft reset is destruction here: only PV drivers can ask Xen for one, and
 * guests that have them are not protected.) */
struct colo_life_plan colo_life_decide(const struct colo_life_policy *policy, int reason);

/* ---- hands ---- */
struct colo_watch; /* a guest being watched; belongs to the implementation */

/* All run on one thread of the monitor's, and may block. */
struct colo_monitor_ops {
    /*
     * The session was killed: undo what sh->recovery says.  *guest_here: the guest is this host's
     * from now on and is to be watched (sh->recovery.domid).  It is meaningful on -1 too.
     */
    int (*recover)(void *priv, struct colo_shared *sh, enum colo_role role, bool *guest_here,
                   struct colo_err *err);
    /* Begin to watch: take its configuration while it is there. */
    int (*watch)(void *priv, uint32_t domid, struct colo_watch **out, struct colo_err *err);
    /* Until the guest has shut down or is gone.  Touches nothing. */
    int (*wait)(struct colo_watch *w, struct colo_err *err);
    /* Do what its configuration wants.  *domid is the new domain, or 0 when there is nothing to
     * watch any more; -1: as *domid 0, with the reason. */
    int (*act)(struct colo_watch *w, uint32_t *domid, struct colo_err *err);
    /* After act, or instead of it. */
    void (*close)(struct colo_watch *w);
};

extern const struct colo_monitor_ops colo_monitor_xen_ops; /* libxl_colo_watch.c */

#endif
