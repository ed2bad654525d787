/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Being a guest's monitor with libxl: wait for its end, then do what its configuration wants, as
 * the background xl of `xl create` does (which has left when the guest was first suspended).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libxl_utils.h>

#include "libxl_colo_disk.h"
#include "libxl_colo_lifecycle.h"
#include "libxl_colo_recover.h"

#define DUMP_DIR      "/var/lib/xen/dump"     /* where stock xl puts them */
#define DISKS_TIMEOUT (3600 * 1000 * COLO_MS) /* to fold what the copy wrote in lock-step */

struct colo_watch {
    libxl_ctx *ctx;
    uint32_t domid;
    libxl_domain_config cfg;
    libxl_evgen_domain_death *death;
    int reason;     /* of its shutdown; meaningful when !destroyed */
    bool destroyed; /* by somebody else */
};

static int xl_fail(struct colo_err *err, const char *reason, int r, const char *what,
                   uint32_t domid)
{
    return colo_fail(err, COLO_ERR_LOCAL, reason,
                     "%s domain %u failed (libxl error %d); the log"
                     " has libxl's own words",
                     what, domid, r);
}

static void watch_close(struct colo_watch *w)
{
    if (w->death)
        libxl_evdisable_domain_death(w->ctx, w->death);
    libxl_domain_config_dispose(&w->cfg);
    free(w);
}

/* The newest configuration that can be had; the one before is kept when there is none. */
static int take_config(struct colo_watch *w, struct colo_err *err)
{
    libxl_domain_config fresh;
    int r;

    libxl_domain_config_init(&fresh);
    r = libxl_retrieve_domain_configuration(w->ctx, w->domid, &fresh, NULL);
    if (r) {
        libxl_domain_config_dispose(&fresh);
        return xl_fail(err, NULL, r, "reading the configuration of", w->domid);
    }
    libxl_domain_config_dispose(&w->cfg);
    w->cfg = fresh;
    return 0;
}

static int watch_begin(void *priv, uint32_t domid, struct colo_watch **out, struct colo_err *err)
{
    libxl_ctx *ctx = colo_monitor_ctx(err);
    struct colo_watch *w;
    int rc, r;

    (void)priv;
    if (!ctx)
        return -1;
    w = calloc(1, sizeof(*w));
    if (!w)
        return colo_fail_errno(err, ENOMEM, "watching domain %u", domid);
    w->ctx = ctx;
    w->domid = domid;
    libxl_domain_config_init(&w->cfg);
    rc = take_config(w, err);
    if (rc)
        goto out;
    r = libxl_evenable_domain_death(ctx, domid, 0, &w->death);
    if (r) {
        w->death = NULL;
        rc = xl_fail(err, NULL, r, "watching", domid);
    }
out:
    if (rc) {
        watch_close(w);
        return rc;
    }
    colo_log("watching %s, domain %u", w->cfg.c_info.name, domid);
    *out = w;
    return 0;
}

static int watch_wait(struct colo_watch *w, struct colo_err *err)
{
    libxl_event *event;
    bool down = false;
    int r;

    while (!down) {
        r = libxl_event_wait(w->ctx, &event, LIBXL_EVENTMASK_ALL, NULL, NULL);
        if (r)
            return xl_fail(err, NULL, r, "waiting for the end of", w->domid);
        if (event->domid == w->domid && event->type == LIBXL_EVENT_TYPE_DOMAIN_SHUTDOWN) {
            w->reason = event->u.domain_shutdown.shutdown_reason;
            down = true;
        } else if (event->domid == w->domid && event->type == LIBXL_EVENT_TYPE_DOMAIN_DEATH) {
            w->destroyed = down = true;
        }
        libxl_event_free(w->ctx, event);
    }
    return 0;
}

/* "NAME-YYYY-MMDD-hhmm.ss" and the like. */
static char *dated(const char *prefix, const char *name)
{
    time_t now = time(NULL);
    char date[32], *s;
    struct tm tm;

    localtime_r(&now, &tm);
    strftime(date, sizeof(date), "-%Y-%m%d-%H%M.%S", &tm);
    return asprintf(&s, "%s%s%s", prefix, name, date) < 0 ? NULL : s;
}

static void dump_core(struct colo_watch *w)
{
    char *path = dated(DUMP_DIR "/", w->cfg.c_info.name);
    int r;

    if (!path)
        return;
    colo_log("dumping the guest's memory to %s", path);
    r = libxl_domain_core_dump(w->ctx, w->domid, path, NULL);
    if (r)
        colo_log("the dump failed (libxl error %d)", r);
    free(path);
}

/* Give the dead domain another name and uuid, so that it can be looked at beside the new one. */
static int set_aside(struct colo_watch *w, struct colo_err *err)
{
    libxl_uuid uuid;
    char *suffix = dated("", "");
    int rc, r;

    if (!suffix)
        return colo_fail_errno(err, ENOMEM, "renaming domain %u", w->domid);
    libxl_uuid_generate(&uuid);
    r = libxl_domain_preserve(w->ctx, w->domid, &w->cfg.c_info, suffix, uuid);
    rc = r ? xl_fail(err, "rename-failed", r, "renaming", w->domid) : 0;
    free(suffix);
    return rc;
}

static int restart(struct colo_watch *w, uint32_t *domid, struct colo_err *err)
{
    uint32_t fresh = INVALID_DOMID;
    int r;

    colo_log("building %s anew", w->cfg.c_info.name);
    if (colo_disks_wait_free(&w->cfg, colo_now() + DISKS_TIMEOUT, err))
        return colo_err_prefix(err, "%s is not restarted", w->cfg.c_info.name);
    r = libxl_domain_create_new(w->ctx, &w->cfg, &fresh, NULL, NULL);
    if (r)
        return colo_fail(err, COLO_ERR_LOCAL, "restart-failed",
                         "%s could not be restarted (libxl error %d): `xl create` starts it",
                         w->cfg.c_info.name, r);
    r = libxl_domain_unpause(w->ctx, fresh, NULL);
    if (r)
        return xl_fail(err, "restart-failed", r, "starting the restarted", fresh);
    *domid = fresh;
    colo_log("%s runs again, as domain %u", w->cfg.c_info.name, fresh);
    return 0;
}

static int watch_act(struct colo_watch *w, uint32_t *domid, struct colo_err *err)
{
    const struct colo_life_policy policy = {
        .on_poweroff = w->cfg.on_poweroff,
        .on_reboot = w->cfg.on_reboot,
        .on_crash = w->cfg.on_crash,
        .on_watchdog = w->cfg.on_watchdog,
        .on_soft_reset = w->cfg.on_soft_reset,
    };
    struct colo_life_plan plan;

    *domid = 0;
    if (w->destroyed) {
        colo_log("domain %u has been destroyed", w->domid);
        return 0;
    }
    plan = colo_life_decide(&policy, w->reason);
    colo_log("domain %u has shut down (%s): %s", w->domid,
             libxl_shutdown_reason_to_string(w->reason), plan.why);

    /* What has been changed meanwhile (xl block-attach, ...) is to be there again. */
    if (plan.step == COLO_LIFE_RESTART || plan.step == COLO_LIFE_RENAME_RESTART)
        take_config(w, NULL);
    libxl_evdisable_domain_death(w->ctx, w->death);
    w->death = NULL;
    if (plan.coredump)
        dump_core(w);
    switch (plan.step) {
    case COLO_LIFE_LEAVE:
    case COLO_LIFE_PRESERVE:
        return 0;
    case COLO_LIFE_DESTROY:
        return colo_destroy_domain(w->domid, err);
    case COLO_LIFE_RESTART:
        return colo_destroy_domain(w->domid, err) ? -1 : restart(w, domid, err);
    case COLO_LIFE_RENAME_RESTART:
        return set_aside(w, err) ? -1 : restart(w, domid, err);
    }
    return 0;
}

const struct colo_monitor_ops colo_monitor_xen_ops = {
    .recover = colo_recover,
    .watch = watch_begin,
    .wait = watch_wait,
    .act = watch_act,
    .close = watch_close,
};
