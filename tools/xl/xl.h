/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The command line.  One file a subcommand; what is not ours goes to the host's stock xl.
 */
#ifndef XL_H
#define XL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "libxl_colo.h"

/* ---- exit statuses of xl remus ---- */
#define XL_OK      0 /* protection ended as the operator, or the guest, wished */
#define XL_LOST    1 /* it was lost: the guest runs here without it */
#define XL_REFUSED 2 /* it never began */

/* ---- subcommands: argv[0] is the subcommand; the result is the exit status ---- */
int xl_main_remus(int argc, char **argv);
int xl_main_migrate_receive(int argc, char **argv);
int xl_main_colo_status(int argc, char **argv);
int xl_main_colo_checkpoint(int argc, char **argv);
int xl_main_colo_stop(int argc, char **argv);
int xl_main_colo_failover(int argc, char **argv);

/* ---- messages (xl_colo_progress.c) ---- */
struct xl_ui {
    struct colo_ui colo; /* for the session; its priv is this struct */
    const char *command; /* "remus": put in front of errors */
    bool tty;            /* stderr is a terminal */
    bool verbose;        /* a time in front of each line */
    int log_fd;          /* everything goes here, too; -1 = nowhere */
    int err_fd;          /* stderr, or a copy of it; written to only when that cannot block */
    bool bar;            /* an unfinished line is on the terminal */
    colo_time drawn;     /* when the progress was last shown */
    colo_time round_began;
    unsigned int round;
};
void xl_ui_init(struct xl_ui *ui, const char *command);
void xl_ui_say(struct xl_ui *ui, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "xl remus: TEXT [reason]" */
void xl_ui_error(struct xl_ui *ui, const char *what, const struct colo_err *err);

/* One line of progress, as wide as columns at most; elapsed is that of this round. */
void xl_progress_line(char *buf, size_t size, unsigned int columns, bool bar,
                      const struct xc_sr_precopy_progress *p, colo_time elapsed);

/* ---- configuration (xl_colo_conf.c) ---- */
#define XL_CONF_PATH "/etc/xen/xl.conf"
/* Takes the colo.* keys of the file into c.  A file that is not there is fine; one that cannot be
 * read or understood, and a value out of bounds, is an error that names it. */
int xl_colo_conf_read(const char *path, struct colo_config *c, struct colo_err *err);
/* A number in decimal within bounds; what says where it stood, for the message. */
int xl_parse_number(const char *what, const char *text, uint64_t least, uint64_t most,
                    uint64_t *out, struct colo_err *err);
int xl_parse_on_silence(const char *what, const char *text, struct colo_config *c,
                        struct colo_err *err);
/* The settings make sense together. */
/* The script that wires NICs to the proxy: a path, a name among Xen's scripts, or "" for none. */
int xl_set_proxyscript(const char *what, const char *text, struct colo_config *c,
                       struct colo_err *err);
int xl_colo_conf_check(const struct colo_config *c, struct colo_err *err);

enum xl_setting {
    XL_HEARTBEAT_MS,
    XL_HEARTBEAT_MISSES,
    XL_INTERVAL_MAX_MS,
    XL_INTERVAL_MIN_MS,
    XL_OUTPUT_WAIT_MS,
    XL_STAGING_CAP_MB,
    XL_NR_SETTINGS,
};
int xl_set_number(enum xl_setting s, const char *what, const char *text, struct colo_config *c,
                  struct colo_err *err);

/* ---- arguments (xl_remus_args.c): no side effects, so that they can be tested ---- */
struct xl_remus_args {
    bool help, foreground, reprotect, dry_run, verbose;
    char receiver[256]; /* options for the receiver, each with a space in front */
    const char *ssh;    /* "" = host is a command */
    const char *guest, *host;
};
/* Is this `xl remus` ours (--colo or -c), or stock Remus? */
bool xl_remus_is_colo(int argc, char *const *argv);
/* Options override what c holds.  Refusals are COLO_ERR_REFUSED "usage" or "option". */
int xl_remus_parse(int argc, char **argv, struct colo_config *c, struct xl_remus_args *out,
                   struct colo_err *err);
bool xl_receive_is_colo(int argc, char *const *argv);
struct xl_receive_args {
    bool foreground;
};
int xl_receive_parse(int argc, char **argv, struct colo_config *c, struct xl_receive_args *out,
                     struct colo_err *err);
extern const char xl_remus_usage[];

/* ---- signals (xl_signals.c) ---- */
/* SIGINT and SIGTERM (and SIGHUP when hup) make the returned fd readable for good; SIGPIPE (and
 * SIGHUP otherwise) do nothing.  What we execute is not affected. */
int xl_signals_setup(bool hup, int *cancel_fd, struct colo_err *err);

/* ---- the monitor's end of things (xl_end_monitor.c) ---- */
/* colo_monitor_end, saying what goes wrong.  foreground (-e): nobody is left in the background, so
 * stay as long as the guest has a monitor, or until cancel_fd. */
void xl_end_monitor(struct colo_monitor *m, bool watch, bool foreground, int cancel_fd,
                    struct xl_ui *ui);

/* ---- transport (xl_colo_transport.c) ---- */
struct xl_transport {
    pid_t pid; /* 0 = none */
    int pidfd, rfd, wfd;
    char host[128]; /* for messages */
};
/* Start the remote receiver, with these options, and read its banner. */
int xl_transport_open(struct xl_transport *t, const char *ssh, const char *host,
                      const char *options, int cancel_fd, struct colo_err *err);
/* Close the fds and see the child end: by itself, by SIGTERM, by SIGKILL. Idempotent. */
void xl_transport_close(struct xl_transport *t);

extern const char xl_receiver_banner[]; /* no NUL goes over the wire */

/* ---- guests and locks (xl_colo_guest.c) ---- */
/* A name or a domid, of a domain that exists here. name has room for 128 bytes. */
int xl_find_guest(const char *guest, uint32_t *domid, char *name, struct colo_err *err);
/* A session of this host, by the guest's name or domid; *status is to be freed (may be NULL). */
int xl_find_session(const char *guest, uint32_t *domid, char **status, struct colo_err *err);
/* The status of one session as JSON text. */
int xl_session_status(uint32_t domid, char **status, struct colo_err *err);

struct xl_lock {
    int fd; /* -1 = not held */
    uint32_t domid;
};
/* Held until released or the process ends; a child does not inherit it. */
int xl_lock_guest(uint32_t domid, struct xl_lock *lock, struct colo_err *err);
void xl_unlock_guest(struct xl_lock *lock);

/* ---- the host's own xl (xl_passthrough.c) ---- */
/* malloc'ed path, never our own program. */
char *xl_stock_path(struct colo_err *err);
/* Execute it with argv untouched; returns only on failure, with the exit status. */
int xl_passthrough(char **argv);
/* Run it, wait, and return its exit status. */
int xl_stock_run(char **argv);

#endif
