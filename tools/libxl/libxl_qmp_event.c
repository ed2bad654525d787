/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * What a device model tells by itself: events wait in a bounded queue until somebody asks.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "libxl_qmp_priv.h"

static void drop_event(struct colo_qmp *q, size_t i)
{
    colo_json_free(q->events[i].msg);
    q->events_text -= q->events[i].text;
    q->nevents--;
    memmove(&q->events[i], &q->events[i + 1], (q->nevents - i) * sizeof(q->events[0]));
}

void colo_qmp_queue_event(struct colo_qmp *q, struct colo_json *msg, size_t text)
{
    while (q->nevents && (q->nevents == QMP_EVENTS_MAX || q->events_text + text > QMP_EVENTS_TEXT))
        drop_event(q, 0);
    q->events[q->nevents].msg = msg;
    q->events[q->nevents].text = text;
    q->nevents++;
    q->events_text += text;
}

void colo_qmp_free_events(struct colo_qmp *q)
{
    while (q->nevents)
        drop_event(q, 0);
}

int colo_qmp_wait_event(struct colo_qmp *q, const char *name,
                        bool (*match)(const struct colo_json *data, void *priv), void *priv,
                        colo_time deadline, struct colo_err *err)
{
    struct colo_json *reply;
    const struct colo_json *msg;
    char what[80];
    size_t i = 0;

    if (colo_qmp_check(q, err) < 0)
        return -1;
    if (q->pending)
        return colo_fail(err, COLO_ERR_LOCAL, "qmp", "waiting for %s while %s is not finished",
                         name, q->command);
    snprintf(what, sizeof(what), "event %s", name);
    for (;;) {
        for (i = 0; i < q->nevents; i++) {
            msg = q->events[i].msg;
            if (!strcmp(colo_json_get_str(msg, "event"), name) &&
                (!match || match(colo_json_get(msg, "data"), priv))) {
                drop_event(q, i);
                return 0;
            }
        }
        if (colo_qmp_take(q, deadline, what, &reply, err) < 0)
            return -1;
    }
}

/* What has come, without waiting for more; a stream without end does not hold us. */
static int take_in(struct colo_qmp *q, struct colo_err *err)
{
    struct pollfd p = {.fd = q->fd, .events = POLLIN};
    struct colo_json *reply;

    for (int turn = 0; turn < QMP_LATE_MAX; turn++) {
        bool line = q->have && memchr(q->buf, '\n', q->have);

        if (!line && poll(&p, 1, 0) <= 0)
            break;
        if (line ? colo_qmp_take(q, 0, "event", &reply, err) : colo_qmp_receive(q, 0, "event", err))
            return -1;
    }
    return 0;
}

int colo_qmp_next_event(struct colo_qmp *q, const char *const names[], struct colo_json **data,
                        struct colo_err *err)
{
    if (colo_qmp_check(q, err) < 0 || take_in(q, err) < 0)
        return -1;
    for (size_t i = 0; i < q->nevents; i++) {
        const char *name = colo_json_get_str(q->events[i].msg, "event");

        for (const char *const *n = names; *n; n++)
            if (!strcmp(name, *n)) {
                *data = colo_json_take(q->events[i].msg, "data");
                drop_event(q, i);
                return 1;
            }
    }
    return 0;
}

void colo_qmp_drop_events(struct colo_qmp *q, const char *name)
{
    size_t i = 0;

    while (i < q->nevents) {
        if (!strcmp(colo_json_get_str(q->events[i].msg, "event"), name))
            drop_event(q, i);
        else
            i++;
    }
}
