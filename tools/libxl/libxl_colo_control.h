/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The control socket of a session: /run/xen-colo/DOMID.sock, directory 0700, socket 0600.
 * One JSON object a line each way:
 *   {"command":"status"}            -> {"status":{...}}
 *   {"command":"checkpoint"|"stop"|"failover"} -> {"ok":true} or {"error":{"reason":..,"message":..}}
 *   {"command":"retire"}            -> ok: a monitor that no longer protects gives the guest up
 *                                      (a new session brings its own); error "already-protected"
 * The client gets the word "busy" never: the monitor answers at once from shared memory.
 */
#ifndef LIBXL_COLO_CONTROL_H
#define LIBXL_COLO_CONTROL_H

#include "libxl_json.h"

#define COLO_RUN_DIR "/run/xen-colo"

/* Make COLO_RUN_DIR (0700, root) when it is missing. */
int colo_run_dir(struct colo_err *err);

/* Client side.  One request, one reply; *reply is to be freed with colo_json_free.  A socket that
 * is absent or that nobody answers is COLO_ERR_REFUSED "not-protected". */
int colo_control_request(uint32_t domid, const char *command, colo_time deadline,
                         struct colo_json **reply, struct colo_err *err);

/* The same, but *line is the reply's text, malloc'ed, without its newline. */
int colo_control_request_text(uint32_t domid, const char *command, colo_time deadline, char **line,
                              struct colo_err *err);

/* The domids that have a control socket that answers, ascending; *domids malloc'ed.  Stale sockets
 * are removed. */
int colo_control_list(uint32_t **domids, size_t *n, struct colo_err *err);

/* Server side, for the monitor: listen, accept and answer without ever blocking on a client. */
struct colo_control_server;
typedef char *colo_control_handler(void *priv, const char *command); /* malloc'ed JSON reply */
int colo_control_listen(uint32_t domid, colo_control_handler *h, void *priv,
                        struct colo_control_server **out, struct colo_err *err);
/* fds to poll: an epoll fd; call serve when it is readable. */
int colo_control_fd(struct colo_control_server *s);
void colo_control_serve(struct colo_control_server *s);
/* The domain got another number (reboot): a new socket beside the fds that are served. */
int colo_control_rename(struct colo_control_server *s, uint32_t domid, struct colo_err *err);
/* Remove the socket, so that somebody else may listen under its name, but go on serving those who
 * are connected; a later close does not remove the socket again.  NULL is fine. */
void colo_control_withdraw(struct colo_control_server *s);
void colo_control_close(struct colo_control_server *s); /* removes the socket; NULL is fine */

#endif
