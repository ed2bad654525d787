/* SPDX-License-Identifier: LGPL-2.1-only */
#include "colo_err.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* For static analysis they are macros. */
#undef colo_fail
#undef colo_fail_errno
#undef colo_err_prefix

static const char *const class_names[] = {
    [COLO_OK] = "ok",
    [COLO_ERR_LOCAL] = "local",
    [COLO_ERR_PROTOCOL] = "protocol",
    [COLO_ERR_PEER_EOF] = "peer-eof",
    [COLO_ERR_PEER_SILENT] = "peer-silent",
    [COLO_ERR_CANCELLED] = "cancelled",
    [COLO_ERR_TIMEOUT] = "timeout",
    [COLO_ERR_REFUSED] = "refused",
    [COLO_ERR_GUEST_DOWN] = "guest-down",
    [COLO_ERR_STOPPED] = "stopped",
};

const char *colo_err_class_name(enum colo_err_class cls)
{
    return (size_t)cls < sizeof(class_names) / sizeof(class_names[0]) ? class_names[cls] : "?";
}

void colo_err_clear(struct colo_err *e)
{
    if (e)
        memset(e, 0, sizeof(*e));
}

/* Part of a message may be another program's word (a peer's, a device model's), and it goes to a
 * terminal and to logs: no control characters, the two-byte ones (C1) included. */
static void clean(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        if (*c == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f)
            *c = c[1] = '?';
        if (*c < 0x20 || *c == 0x7f)
            *c = '?';
    }
}

static void fill(struct colo_err *e, enum colo_err_class cls, const char *reason)
{
    e->cls = cls;
    snprintf(e->reason, sizeof(e->reason), "%s", reason ? reason : colo_err_class_name(cls));
}

int colo_fail(struct colo_err *e, enum colo_err_class cls, const char *reason, const char *fmt, ...)
{
    va_list ap;

    if (!e)
        return -1;
    fill(e, cls, reason);
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    clean(e->msg);
    return -1;
}

int colo_fail_errno(struct colo_err *e, int err, const char *fmt, ...)
{
    va_list ap;
    size_t len;

    if (!e)
        return -1;
    fill(e, COLO_ERR_LOCAL, NULL);
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    len = strlen(e->msg);
    snprintf(e->msg + len, sizeof(e->msg) - len, ": %s", strerror(err));
    clean(e->msg);
    return -1;
}

int colo_err_prefix(struct colo_err *e, const char *fmt, ...)
{
    char old[sizeof(e->msg)]; /* the old message, moved behind the prefix */
    va_list ap;
    size_t len;

    if (!e)
        return -1;
    memcpy(old, e->msg, sizeof(old));
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    len = strlen(e->msg);
    snprintf(e->msg + len, sizeof(e->msg) - len, ": %.*s", (int)sizeof(e->msg), old);
    clean(e->msg);
    return -1;
}

colo_time colo_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (colo_time)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void colo_log(const char *fmt, ...)
{
    char text[900], stamp[32];
    struct timespec ts;
    struct tm tm;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    clock_gettime(CLOCK_REALTIME, &ts);
    localtime_r(&ts.tv_sec, &tm);
    strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &tm);
    dprintf(STDERR_FILENO, "%s.%03ld [%d] %s\n", stamp, ts.tv_nsec / 1000000, (int)getpid(), text);
}

colo_time colo_deadline(colo_time timeout, colo_time limit)
{
    colo_time deadline = timeout ? colo_now() + timeout : COLO_NO_DEADLINE;

    return limit && limit < deadline ? limit : deadline;
}

int colo_poll_ms(colo_time deadline)
{
    colo_time left;

    if (deadline == COLO_NO_DEADLINE)
        return -1;
    left = deadline - colo_now();
    if (left <= 0)
        return 0;
    left = (left + COLO_MS - 1) / COLO_MS;
    return left > INT_MAX ? INT_MAX : (int)left;
}
