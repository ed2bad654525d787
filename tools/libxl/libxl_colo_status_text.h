/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The status for people, made from its JSON as the control socket gives it: so that xl also shows
 * a session that a library of another version runs.
 */
#ifndef LIBXL_COLO_STATUS_TEXT_H
#define LIBXL_COLO_STATUS_TEXT_H

#include "libxl_json.h"

/* All results are malloc'ed and end in a newline; NULL = out of memory. */

/* Everything about one session.  proxy: what the proxy of this host counts (NULL: there is none); now:
 * seconds since the epoch. */
char *colo_status_text(const struct colo_json *status, const struct colo_json *proxy, int64_t now);

/* The same as JSON: the status as it is, with the counters as its member "proxy".  No newline. */
char *colo_status_with_proxy(const char *status, const struct colo_json *proxy);

/* A table, one line a session, with a heading. */
char *colo_status_table(const struct colo_json *const *status, size_t n);

/* Valid JSON text, white space between its parts made anew: one member a line, four spaces deep. */
char *colo_json_indent(const char *s);

#endif
