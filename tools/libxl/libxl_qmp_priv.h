/* SPDX-License-Identifier: LGPL-2.1-only */
/* What the files of the QMP client share. */
#ifndef LIBXL_QMP_PRIV_H
#define LIBXL_QMP_PRIV_H

#include "libxl_qmp.h"

#define QMP_LINE_MAX    ((size_t)4 << 20)
#define QMP_EVENTS_MAX  256
#define QMP_EVENTS_TEXT QMP_LINE_MAX       /* of all queued events */
#define QMP_LATE_MAX    1024               /* reads and writes of one call after its deadline */
#define QMP_URGENT      (INT64_C(1) << 40) /* the id of the first command out of band */

struct colo_qmp_event {
    struct colo_json *msg;
    size_t text; /* its length as it came */
};

struct colo_qmp {
    int fd, cancel_fd;
    char *buf; /* [0, have): received; [0, seen) of it has no line end */
    size_t have, seen, room;
    struct colo_qmp_event events[QMP_EVENTS_MAX];
    size_t nevents, events_text;
    int64_t
        last_id; /* of the latest command; a reply to an earlier one that timed out is dropped */
    int64_t posted_id; /* of the latest command whose reply does not matter */
    int64_t urgent_id; /* the same, out of band; counted from QMP_URGENT on */
    bool pending, oob;
    struct {
        colo_time after, at; /* at: 0 = told, or nothing to tell */
        bool (*call)(void *priv);
        void *priv;
    } tell;
    unsigned int late;
    char command[64]; /* the latest, for messages */
    char version[120];
    struct colo_err broken; /* why the connection is not usable any more */
};

/* Each call begins here: is the connection of use? */
int colo_qmp_check(struct colo_qmp *q, struct colo_err *err);
/* Receive what there is, at least a byte. */
int colo_qmp_receive(struct colo_qmp *q, colo_time deadline, const char *what,
                     struct colo_err *err);
/* Take one message in: an event is queued, a reply becomes *reply, which is else NULL. */
int colo_qmp_take(struct colo_qmp *q, colo_time deadline, const char *what,
                  struct colo_json **reply, struct colo_err *err);

/* ---- libxl_qmp_event.c ---- */
/* Queues msg, which came as `text` bytes; the oldest make room. */
void colo_qmp_queue_event(struct colo_qmp *q, struct colo_json *msg, size_t text);
void colo_qmp_free_events(struct colo_qmp *q);

#endif
