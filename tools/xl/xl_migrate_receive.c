/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * xl migrate-receive --colo: the second host.  Its stdin and stdout are the session's; what it says
 * goes to stderr, which is the primary's terminal while that lives, and to a log.
 */
#include "xl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOG_PATH "/var/log/xen/xl-colo-receive.log"

struct receiver {
    struct xl_receive_args args;
    struct colo_config config;
    struct xl_ui ui;
    int rfd, wfd, cancel_fd;
    struct colo_shared *shared;
    struct colo_monitor monitor;
};

/*
 * Move the three fds away: a child of ours, or a library that prints, must neither talk into the
 * stream nor hold the connection.  fd 2 becomes the log.
 */
static int take_stdio(struct receiver *r, struct colo_err *err)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    r->rfd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    r->wfd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (null < 0 || r->rfd < 0 || r->wfd < 0)
        return colo_fail_errno(err, errno, "stdin and stdout must be the connection");
    r->ui.err_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3); /* -1 = closed: the log will do */
    r->ui.log_fd = open(LOG_PATH, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
    if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
        dup2(r->ui.log_fd >= 0 ? r->ui.log_fd : null, STDERR_FILENO) < 0)
        return colo_fail_errno(err, errno, "cannot move stdin and stdout");
    close(null);
    return 0;
}

static int send_banner(struct receiver *r, struct colo_err *err)
{
    const char *p = xl_receiver_banner;
    size_t left = strlen(p);
    ssize_t n;

    while (left) {
        n = write(r->wfd, p, left);
        if (n < 0 && errno != EINTR)
            return colo_fail_errno(err, errno, "cannot send the banner");
        if (n > 0) {
            p += n;
            left -= (size_t)n;
        }
    }
    return 0;
}

static int begin(struct receiver *r, struct colo_err *err)
{
    const struct colo_monitor_opts opts = {.role = COLO_SECONDARY,
                                           .foreground = r->args.foreground};

    r->shared = colo_shared_new(err);
    if (!r->shared)
        return -1;
    colo_status_begin(r->shared)->role = COLO_SECONDARY;
    colo_status_end(r->shared);
    if (colo_monitor_start(r->shared, &opts, &r->monitor, err) ||
        xl_signals_setup(false, &r->cancel_fd, err))
        return -1;
    return send_banner(r, err);
}

static enum colo_outcome session(struct receiver *r, struct colo_err *err)
{
    struct colo_session_params p = {
        .config = r->config,
        .rfd = r->rfd,
        .wfd = r->wfd,
        .cancel_fd = r->cancel_fd,
        .shared = r->shared,
        .monitor = &r->monitor,
        .ui = r->ui.colo,
    };
    enum colo_outcome outcome = COLO_OUT_NOTHING;

    colo_secondary(&p, &outcome, err);
    return outcome;
}

/* The connection goes first: the primary's ssh waits for it. */
static void hang_up(struct receiver *r)
{
    close(r->rfd);
    close(r->wfd);
    if (r->ui.err_fd >= 0)
        close(r->ui.err_fd);
    r->ui.err_fd = -1;
}

static int report(struct receiver *r, enum colo_outcome outcome, const struct colo_err *err)
{
    const char *guest = r->shared->status.guest[0] ? r->shared->status.guest : "the guest";

    if (outcome == COLO_OUT_GUEST_HERE) {
        xl_ui_error(&r->ui, "the primary was lost", err);
        xl_ui_say(&r->ui, "%s runs here now, unprotected", guest);
        return 0;
    }
    xl_ui_error(&r->ui, guest, err);
    if (!r->shared->recovery.destroy)
        xl_ui_say(&r->ui, "nothing of %s is left on this host", guest);
    return err->cls == COLO_ERR_STOPPED || err->cls == COLO_ERR_GUEST_DOWN ? 0 : 1;
}

int xl_main_migrate_receive(int argc, char **argv)
{
    struct receiver r = {.rfd = -1, .wfd = -1, .cancel_fd = -1, .monitor = {.fd = -1}};
    enum colo_outcome outcome = COLO_OUT_NOTHING;
    struct colo_err err = {0};
    int rc;

    xl_ui_init(&r.ui, "migrate-receive");
    colo_config_defaults(&r.config);
    rc = xl_colo_conf_read(XL_CONF_PATH, &r.config, &err);
    if (!rc)
        rc = xl_receive_parse(argc, argv, &r.config, &r.args, &err);
    if (!rc && isatty(STDIN_FILENO))
        rc = colo_fail(&err, COLO_ERR_REFUSED, "usage",
                       "this is run by xl remus --colo on the other host, not by hand");
    if (!rc)
        rc = take_stdio(&r, &err);
    if (!rc)
        rc = begin(&r, &err);
    if (rc) {
        xl_ui_error(&r.ui, "refused", &err);
        rc = XL_REFUSED;
    } else {
        outcome = session(&r, &err);
        rc = report(&r, outcome, &err);
        hang_up(&r);
    }
    if (outcome == COLO_OUT_NOTHING && r.shared && r.shared->recovery.destroy)
        colo_monitor_abandon(&r.monitor); /* it destroys what we could not */
    xl_end_monitor(&r.monitor, outcome != COLO_OUT_NOTHING, r.args.foreground, r.cancel_fd, &r.ui);
    colo_shared_free(r.shared);
    return rc;
}
