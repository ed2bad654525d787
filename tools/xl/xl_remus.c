/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * xl remus --colo: protect a guest, and say what became of it.
 */
#include "xl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libxl_colo_control.h"

#define ANSWER_TIME (5 * 1000 * COLO_MS)

struct remus {
    struct xl_remus_args args;
    struct colo_config config;
    struct xl_ui ui;
    uint32_t domid;
    char name[128];
    struct xl_lock lock;
    struct colo_shared *shared;
    struct colo_monitor monitor;
    int cancel_fd;
};

static int already(struct remus *r, struct colo_err *err)
{
    const char *session, *peer;
    struct colo_json *j = NULL;
    char *status = NULL;

    if (!xl_session_status(r->domid, &status, NULL))
        colo_json_parse(status, strlen(status), &j, NULL);
    session = colo_json_get_str(j, "session");
    peer = colo_json_get_str(j, "peer");
    if (session && peer)
        colo_fail(err, COLO_ERR_REFUSED, "already-protected",
                  "%s is protected already (session %s, peer %s); see xl colo-status", r->name,
                  session, peer);
    else
        colo_fail(err, COLO_ERR_REFUSED, "already-protected",
                  "%s is protected already; see xl colo-status", r->name);
    colo_json_free(j);
    free(status);
    return -1;
}

/* The monitor that an earlier session left with the guest gives it up; *had = there was one. */
static int retire_monitor(struct remus *r, bool *had, struct colo_err *err)
{
    const struct colo_json *error;
    const char *reason, *message;
    struct colo_json *reply;
    int rc;

    *had = false;
    if (colo_control_request(r->domid, "retire", colo_now() + ANSWER_TIME, &reply, err)) {
        if (!strcmp(err->reason, "not-protected")) {
            colo_err_clear(err);
            return 0;
        }
        return -1;
    }
    *had = true;
    error = colo_json_get(reply, "error");
    reason = colo_json_get_str(error, "reason");
    message = colo_json_get_str(error, "message");
    if (!error)
        rc = 0;
    else if (reason && !strcmp(reason, "already-protected"))
        rc = already(r, err);
    else
        rc = colo_fail(err, COLO_ERR_REFUSED, reason ? reason : "control-reply", "%s: %s", r->name,
                       message ? message : "its monitor did not say why");
    colo_json_free(reply);
    return rc;
}

/* Everything on this host: after it, the guest is ours to protect. */
static int claim(struct remus *r, struct colo_err *err)
{
    const struct colo_monitor_opts opts = {.role = COLO_PRIMARY, .foreground = r->args.foreground};
    struct colo_status *st;
    bool had;

    if (xl_find_guest(r->args.guest, &r->domid, r->name, err) ||
        xl_lock_guest(r->domid, &r->lock, err))
        return -1;
    r->shared = colo_shared_new(err);
    if (!r->shared || retire_monitor(r, &had, err))
        return -1;
    st = colo_status_begin(r->shared);
    st->role = COLO_PRIMARY;
    st->domid = r->domid;
    snprintf(st->guest, sizeof(st->guest), "%s", r->name);
    snprintf(st->peer, sizeof(st->peer), "%s", r->args.host);
    colo_status_end(r->shared);
    snprintf(r->shared->recovery.name, sizeof(r->shared->recovery.name), "%s", r->name);
    if (had) {
        /* Whatever becomes of us, the guest has no other monitor. */
        r->shared->recovery.needs_monitor = true;
        r->shared->recovery.domid = r->domid;
    }
    return colo_monitor_start(r->shared, &opts, &r->monitor, err);
}

static enum colo_outcome session(struct remus *r, struct colo_err *err)
{
    struct colo_session_params p = {
        .config = r->config,
        .peer = *r->args.ssh ? r->args.host : "the receiver",
        .cancel_fd = r->cancel_fd,
        .shared = r->shared,
        .monitor = &r->monitor,
        .ui = r->ui.colo,
    };
    enum colo_outcome outcome = COLO_OUT_GUEST_HERE;
    struct xl_transport t;

    if (xl_transport_open(&t, r->args.ssh, r->args.host, r->args.receiver, r->cancel_fd, err))
        return outcome;
    p.rfd = t.rfd;
    p.wfd = t.wfd;
    colo_primary(&p, r->domid, &outcome, err);
    xl_transport_close(&t);
    return outcome;
}

/* What happened, why, and what happens now.  Returns the exit status. */
static int report(struct remus *r, enum colo_outcome outcome, const struct colo_err *err)
{
    struct xl_ui *ui = &r->ui;
    bool began = r->shared->status.protected_since_wall != 0;

    switch (outcome) {
    case COLO_OUT_GUEST_DOWN:
        xl_ui_error(ui, r->name, err);
        if (strcmp(err->reason, "guest-destroyed") != 0)
            xl_ui_say(ui, "%s went down by itself: its on_poweroff, on_reboot or on_crash applies",
                      r->name);
        if (strcmp(err->reason, "guest-poweroff") != 0 && strcmp(err->reason, "guest-reboot") != 0)
            return XL_LOST;
        return began ? XL_OK : XL_REFUSED;
    case COLO_OUT_NOTHING:
        xl_ui_error(ui, r->name, err);
        xl_ui_say(
            ui, "%s runs at %s now; the copy here is out of date and stays paused: `xl destroy %s`",
            r->name, r->args.host, r->name);
        return XL_LOST;
    case COLO_OUT_GUEST_HERE:
        break;
    }
    if (!began) {
        xl_ui_error(ui, "not protected", err);
        xl_ui_say(ui, "%s runs on here as before", r->name);
        return XL_REFUSED;
    }
    if (!strcmp(err->reason, "operator-stop")) {
        xl_ui_say(ui, "%s [%s]", err->msg, err->reason);
        xl_ui_say(ui, "%s runs on here, unprotected, as was asked for", r->name);
        return XL_OK;
    }
    xl_ui_error(ui, "protection has ended", err);
    xl_ui_say(ui, "%s runs on here, UNPROTECTED; xl remus --colo protects it again", r->name);
    return XL_LOST;
}

/* --reprotect: the next life of the guest; 0 when it is there and ours. */
static int next_life(struct remus *r, struct colo_err *err)
{
    struct colo_status *st;
    uint32_t domid;

    xl_ui_say(&r->ui, "waiting for %s to come back", r->name);
    if (colo_monitor_wait_reboot(&r->monitor, r->cancel_fd, &domid, err))
        return -1;
    xl_unlock_guest(&r->lock);
    r->domid = domid;
    if (xl_lock_guest(domid, &r->lock, err))
        return -1;
    st = colo_status_begin(r->shared);
    colo_state_set(r->shared, COLO_STATE_INIT);
    memset((char *)st + offsetof(struct colo_status, checkpoints), 0,
           sizeof(*st) - offsetof(struct colo_status, checkpoints));
    st->domid = domid;
    st->protected_since_wall = 0;
    colo_status_end(r->shared);
    xl_ui_say(&r->ui, "%s is back as domain %u: protecting it again", r->name, domid);
    return 0;
}

/* Hand the guest over to the monitor, or send that away. */
static void finish(struct remus *r, enum colo_outcome outcome)
{
    bool watch = outcome != COLO_OUT_NOTHING && r->shared->recovery.needs_monitor;

    if (watch && !r->shared->recovery.domid)
        r->shared->recovery.domid = r->domid;
    xl_end_monitor(&r->monitor, watch, r->args.foreground, r->cancel_fd, &r->ui);
}

static int protect(struct remus *r)
{
    enum colo_outcome outcome = COLO_OUT_GUEST_HERE;
    struct colo_err err = {0};
    int status;

    for (;;) {
        outcome = session(r, &err);
        status = report(r, outcome, &err);
        if (outcome != COLO_OUT_GUEST_DOWN || !r->args.reprotect)
            break;
        colo_err_clear(&err);
        if (next_life(r, &err)) {
            xl_ui_say(&r->ui, "not protected again: %s [%s]", err.msg, err.reason);
            break;
        }
        colo_err_clear(&err);
    }
    finish(r, outcome);
    return status;
}

static int dry_run(struct remus *r, struct colo_err *err)
{
    if (xl_find_guest(r->args.guest, &r->domid, r->name, err) ||
        colo_preflight(r->domid, &r->config, err))
        return -1;
    printf("%s can be protected, as far as this host can tell\n", r->name);
    return 0;
}

int xl_main_remus(int argc, char **argv)
{
    struct remus r = {.lock = {.fd = -1}, .monitor = {.fd = -1}, .cancel_fd = -1};
    struct colo_err err = {0};
    int rc;

    xl_ui_init(&r.ui, "remus");
    /* Once for what is wrong without any file, and again for options to win over the file. */
    colo_config_defaults(&r.config);
    rc = xl_remus_parse(argc, argv, &r.config, &r.args, &err);
    if (!rc && r.args.help) {
        fputs(xl_remus_usage, stdout);
        return XL_OK;
    }
    if (!rc) {
        colo_config_defaults(&r.config);
        rc = xl_colo_conf_read(XL_CONF_PATH, &r.config, &err);
    }
    if (!rc)
        rc = xl_remus_parse(argc, argv, &r.config, &r.args, &err);
    if (!rc) {
        r.ui.verbose = r.args.verbose;
        rc = r.args.dry_run ? dry_run(&r, &err) : claim(&r, &err);
    }
    if (!rc && !r.args.dry_run)
        rc = xl_signals_setup(true, &r.cancel_fd, &err);
    if (rc) {
        xl_ui_error(&r.ui, "refused", &err);
        if (r.shared)
            finish(&r, COLO_OUT_GUEST_HERE);
        rc = XL_REFUSED;
    } else if (!r.args.dry_run) {
        rc = protect(&r);
    }
    xl_unlock_guest(&r.lock);
    colo_shared_free(r.shared);
    return rc;
}
