/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * A QMP client: one connection, held for a whole session, commands with deadlines.
 * libxl keeps /var/run/xen/qmp-libxl-DOMID for itself; ours is qmp-libxenstat-DOMID.
 */
#ifndef LIBXL_QMP_H
#define LIBXL_QMP_H

#include "libxl_json.h"

struct colo_qmp;

/* Connect, read the greeting, leave capabilities negotiation.  Hostile or endless replies are
 * bounded (a line above 4 MiB is COLO_ERR_PROTOCOL).  cancel_fd readable = COLO_ERR_CANCELLED; -1
 * = none. */
int colo_qmp_open(const char *path, int cancel_fd, colo_time deadline, struct colo_qmp **out,
                  struct colo_err *err);
/* The same on a connected stream socket, which it then owns (tests, fuzzing). */
int colo_qmp_open_fd(int fd, int cancel_fd, colo_time deadline, struct colo_qmp **out,
                     struct colo_err *err);
void colo_qmp_close(struct colo_qmp *q);

/* The socket, for a caller's poll with events 0: it hangs up when the device model is gone. */
int colo_qmp_fd(const struct colo_qmp *q);

/* The server's version from the greeting, "7.2.22 (Debian ...)"; lives as long as q. */
const char *colo_qmp_version(const struct colo_qmp *q);

/*
 * Run a command; arguments is a JSON object as text or NULL.  An error reply is COLO_ERR_LOCAL with
 * reason "qmp" and the server's text.  *ret (may be NULL) gets the "return" member, to be freed
 * with colo_json_free; events that come in between are queued (at most 256, oldest dropped).
 */
int colo_qmp_cmd(struct colo_qmp *q, const char *command, const char *arguments, colo_time deadline,
                 struct colo_json **ret, struct colo_err *err);

/* The same in two halves, so that the caller works while QEMU does.  One command at a time. */
int colo_qmp_start(struct colo_qmp *q, const char *command, const char *arguments,
                   colo_time deadline, struct colo_err *err);
int colo_qmp_finish(struct colo_qmp *q, colo_time deadline, struct colo_json **ret,
                    struct colo_err *err);

/* Send a command whose reply does not matter: it is taken away when it comes. */
int colo_qmp_post(struct colo_qmp *q, const char *command, const char *arguments,
                  colo_time deadline, struct colo_err *err);

/*
 * Run a command at once, even while QEMU is busy with another one ("exec-oob").  Its reply does not
 * matter.  A QEMU whose socket cannot do that: COLO_ERR_REFUSED "qmp-no-oob".
 */
int colo_qmp_urgent(struct colo_qmp *q, const char *command, const char *arguments,
                    colo_time deadline, struct colo_err *err);
/* Whether it can. */
bool colo_qmp_has_urgent(const struct colo_qmp *q);

/*
 * Be told when a command takes long: `late` is called for each command that has had no reply `after`
 * it was sent, and after each such time again while it returns true; it may call colo_qmp_urgent, and
 * nothing else of this connection.  NULL: not any more.
 */
void colo_qmp_on_late(struct colo_qmp *q, colo_time after, bool (*late)(void *priv), void *priv);

/* The oldest event of one of those names (NULL at their end) that has come: 1, and its "data" (NULL
 * when it has none) is the caller's to free; 0: none.  Does not wait. */
int colo_qmp_next_event(struct colo_qmp *q, const char *const names[], struct colo_json **data,
                        struct colo_err *err);

/* Wait for an event of that name for which match (may be NULL) returns true on its "data".
 * match sees the events in the order in which they came, some of them more than once. */
int colo_qmp_wait_event(struct colo_qmp *q, const char *name,
                        bool (*match)(const struct colo_json *data, void *priv), void *priv,
                        colo_time deadline, struct colo_err *err);
/* Forget queued events of that name. */
void colo_qmp_drop_events(struct colo_qmp *q, const char *name);

#endif
