/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * One error, told once, where it happened.
 *
 * Every function of this project that can fail returns 0 or -1 and, on -1, has filled the struct
 * colo_err it was handed.  The text says what failed and why; the caller that ends the session
 * adds what happens now.  The class is what code may branch on, the reason is a stable word that
 * scripts may branch on.
 */
#ifndef COLO_ERR_H
#define COLO_ERR_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

enum colo_err_class {
    COLO_OK = 0,
    COLO_ERR_LOCAL,       /* a call on this host failed */
    COLO_ERR_PROTOCOL,    /* the peer sent what the format forbids */
    COLO_ERR_PEER_EOF,    /* the stream ended: the peer's process is gone, its host may live */
    COLO_ERR_PEER_SILENT, /* nothing heard for the heartbeat deadline: the host or link is gone */
    COLO_ERR_CANCELLED,   /* the cancel fd fired: a signal or a command asked us to stop */
    COLO_ERR_TIMEOUT,     /* a local step missed its deadline */
    COLO_ERR_REFUSED,     /* preflight, here or at the peer, refused; reason is its code */
    COLO_ERR_GUEST_DOWN,  /* the guest shut itself down, rebooted or crashed */
    COLO_ERR_STOPPED,     /* the peer ended the session in good order */
};

struct colo_err {
    enum colo_err_class cls;
    char reason[40]; /* stable word, such as "peer-silent"; never empty when cls != COLO_OK */
    char msg[440];   /* one line for people, no trailing newline */
};

/* Forget an earlier error. */
void colo_err_clear(struct colo_err *e);

/*
 * Fill *e (which may be NULL) and return -1, so that `return colo_fail(...)` reads well.
 * reason NULL means the class's own name.  The message is cut, never overrun.
 */
int colo_fail(struct colo_err *e, enum colo_err_class cls, const char *reason, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* As colo_fail with COLO_ERR_LOCAL, adding ": " and strerror(err).  err is a positive errno. */
int colo_fail_errno(struct colo_err *e, int err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Put "prefix: " in front of the message that is there. Returns -1. */
int colo_err_prefix(struct colo_err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#ifdef __clang_analyzer__ /* looks at one file at a time: tell it what they return */
#define colo_fail(...)       (colo_fail(__VA_ARGS__), -1)
#define colo_fail_errno(...) (colo_fail_errno(__VA_ARGS__), -1)
#define colo_err_prefix(...) (colo_err_prefix(__VA_ARGS__), -1)
#endif

/* The stable name of a class: "local", "protocol", "peer-eof", ... */
const char *colo_err_class_name(enum colo_err_class cls);

/* Monotonic time in nanoseconds; a deadline is such a time, or COLO_NO_DEADLINE. */
typedef int64_t colo_time;
#define COLO_NO_DEADLINE INT64_MAX
#define COLO_MS          INT64_C(1000000)
colo_time colo_now(void);

/* A line of a log, which is stderr: the time of day, our pid, and the text, of 900 bytes at most. */
void colo_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The earlier of `timeout` from now (0 = none) and `limit` (0 = none). */
colo_time colo_deadline(colo_time timeout, colo_time limit);

/* Milliseconds for poll(2) until the deadline: rounded up, 0 when past, -1 for COLO_NO_DEADLINE. */
int colo_poll_ms(colo_time deadline);

#endif
