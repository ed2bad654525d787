/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The monitor: a process beside each session, forked before it touches anything.
 *
 * While the session lives, the monitor serves the control socket (libxl_colo_control.h).  When the
 * session ends in good order it says what is to become of the monitor.  When the session is killed
 * the monitor sees its socket close and does what struct colo_recovery says: on the primary the
 * guest runs on, unprotected; on the secondary the copy is destroyed, unless a takeover had begun,
 * which is then finished.  Afterwards the monitor is to the guest what the background xl of
 * `xl create` is: it honours on_poweroff, on_reboot, on_crash, on_watchdog, on_soft_reset.
 */
#ifndef LIBXL_COLO_MONITOR_H
#define LIBXL_COLO_MONITOR_H

#include <sys/types.h>

#include "libxl_colo_lifecycle.h"

struct colo_monitor {
    pid_t pid;
    int fd; /* our end of the socket pair; poll it for colo_monitor_command */
};

struct colo_monitor_opts {
    enum colo_role role;
    bool foreground;     /* -e: do not detach from the session's terminal and process group */
    const char *logfile; /* NULL = /var/log/xen/xl-colo-GUEST.log */
};

/* Forks.  recovery.name, when it is known, names the log.  The child never returns from this call.  Must be called before threads are made and
 * before the transport is opened (the monitor must not hold the transport's fds). */
int colo_monitor_start(struct colo_shared *sh, const struct colo_monitor_opts *opts,
                       struct colo_monitor *out, struct colo_err *err);
/* The same with other hands (tests). */
int colo_monitor_start_ops(struct colo_shared *sh, const struct colo_monitor_opts *opts,
                           const struct colo_monitor_ops *ops, void *priv, struct colo_monitor *out,
                           struct colo_err *err);

enum colo_monitor_cmd {
    COLO_CMD_NONE,
    COLO_CMD_CHECKPOINT, /* make one now */
    COLO_CMD_STOP,       /* end protection; the guest stays on the primary */
    COLO_CMD_FAILOVER,   /* secondary: the operator says that the primary is dead: take over now */
};
/* What an operator asked for through the control socket; NONE when nothing waits. Never blocks.
 * Should the monitor have died, m->fd becomes -1, which poll(2) passes over. */
enum colo_monitor_cmd colo_monitor_command(struct colo_monitor *m);

/* recovery.domid has been set, changed or cleared: the control socket follows it.  Never blocks;
 * the monitor learns of a domid that it was not told of when it has to undo. */
void colo_monitor_domid_changed(struct colo_monitor *m);

/*
 * The session is over.  watch: the guest (recovery.domid) is this host's: be its monitor until it
 * is gone; returns when the monitor watches it (a guest that has already shut down counts as
 * watched, and is acted on).  Otherwise the monitor removes its socket and exits; returns when it
 * has (deadline).  Closes m->fd; calling it again does nothing.
 */
int colo_monitor_end(struct colo_monitor *m, bool watch, struct colo_err *err);

/* The session is over and could not undo all of its own: as if it had been killed, the monitor does
 * what recovery says.  Closes m->fd. */
void colo_monitor_abandon(struct colo_monitor *m);

/*
 * --reprotect: as colo_monitor_end with watch, but stay connected and wait until the guest has
 * been rebooted as a new domain.  0 and *domid: the guest runs, recovery.domid is set, and the
 * monitor serves this process's next session as after colo_monitor_start.  Or -1 and m->fd closed:
 * COLO_ERR_GUEST_DOWN when the guest is gone for good, COLO_ERR_STOPPED "retired" when another
 * session has taken it, COLO_ERR_CANCELLED (the monitor watches on).
 */
int colo_monitor_wait_reboot(struct colo_monitor *m, int cancel_fd, uint32_t *domid,
                             struct colo_err *err);

#endif
