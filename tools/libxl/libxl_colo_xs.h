/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * What a session needs of xenstore: to be told when a domain shuts down or goes away (the special
 * watch @releaseDomain), and to take a shutdown back.
 */
#ifndef LIBXL_COLO_XS_H
#define LIBXL_COLO_XS_H

#include <stdbool.h>
#include <stdint.h>

#include "colo_err.h"

struct colo_xs;

/*
 * A connection of its own (with a reader thread of libxenstore's: open it after any fork), with
 * the watch set and its first, meaningless event taken.  cancel_fd readable = COLO_ERR_CANCELLED
 * from the waits; -1 = none.
 */
int colo_xs_open(int cancel_fd, struct colo_xs **out, struct colo_err *err);
void colo_xs_close(struct colo_xs *x); /* NULL is fine */

/* A wait is also over, with COLO_ERR_LOCAL "qmp-gone", when this socket to the device model hangs
 * up: without it no I/O of the guest completes, and no suspend either.  Borrowed; -1 = none. */
void colo_xs_heed_dm(struct colo_xs *x, int dm_fd);

/* Readable when an event is pending, for a caller's own poll; then call colo_xs_drain. */
int colo_xs_fd(const struct colo_xs *x);

/* Take what is pending without waiting: true when some domain shut down or went away. */
bool colo_xs_drain(struct colo_xs *x);

/* Wait until some domain shuts down or goes away (which one, the caller finds out); events that
 * were pending count.  COLO_ERR_TIMEOUT at the deadline. */
int colo_xs_wait_release(struct colo_xs *x, colo_time deadline, struct colo_err *err);

/* Tell xenstored that a domain that had shut down runs again: without it the domain's next
 * shutdown is not announced. */
int colo_xs_resume_domain(struct colo_xs *x, uint32_t domid, struct colo_err *err);

#endif
