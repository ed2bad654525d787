/* SPDX-License-Identifier: LGPL-2.1-only */
#include "libxl_colo_guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libxl_colo_control.h"
#include "libxl_qmp.h"

libxl_ctx *colo_ctx_new(xentoollog_logger **lg, struct colo_err *err)
{
    libxl_ctx *ctx = NULL;

    *lg = (xentoollog_logger *)xtl_createlogger_stdiostream(stderr, XTL_WARN, 0);
    if (!*lg) {
        colo_fail(err, COLO_ERR_LOCAL, NULL, "cannot make a logger");
        return NULL;
    }
    if (libxl_ctx_alloc(&ctx, LIBXL_VERSION, 0, *lg)) {
        colo_fail(err, COLO_ERR_LOCAL, NULL, "cannot talk to Xen: is this dom0, and are you root?");
        xtl_logger_destroy(*lg);
        *lg = NULL;
        return NULL;
    }
    return ctx;
}

void colo_ctx_free(libxl_ctx *ctx, xentoollog_logger *lg)
{
    if (ctx)
        libxl_ctx_free(ctx);
    if (lg)
        xtl_logger_destroy(lg);
}

/* ---- what the domain's xen implementation asks of xenstore and QEMU ---- */

static int hook_wait_change(void *priv, colo_time deadline, struct colo_err *err)
{
    struct colo_guest *g = priv;

    return colo_xs_wait_release(g->xs, deadline, err);
}

static int hook_resumed(void *priv, struct colo_err *err)
{
    struct colo_guest *g = priv;

    return colo_xs_resume_domain(g->xs, g->domid, err);
}

static int qmp(struct colo_guest *g, const char *command, const char *args, struct colo_err *err)
{
    return colo_qmp_cmd(g->qmp, command, args, colo_now() + COLO_T_QMP, NULL, err);
}

static int hook_stop(void *priv, struct colo_err *err)
{
    return qmp(priv, "stop", NULL, err);
}

/* Has this copy's QEMU seen its guest shut down by itself?  Then it will not run again without a
 * reset, which loading the device state replaces anyway. */
static int reset_if_needed(struct colo_guest *g, struct colo_err *err)
{
    struct colo_json *ret = NULL;
    const char *status;
    int rc = 0;

    if (colo_qmp_cmd(g->qmp, "query-status", NULL, colo_now() + COLO_T_QMP, &ret, err))
        return -1;
    status = colo_json_get_str(ret, "status");
    if (status && !strcmp(status, "shutdown")) {
        colo_qmp_drop_events(g->qmp, "RESET");
        rc = qmp(g, "system_reset", NULL, err) ||
                     colo_qmp_wait_event(g->qmp, "RESET", NULL, NULL, colo_now() + COLO_T_QMP, err)
                 ? -1
                 : 0;
    }
    colo_json_free(ret);
    return rc;
}

static int hook_cont(void *priv, struct colo_err *err)
{
    return qmp(priv, "cont", NULL, err);
}

/*
 * QEMU 7.2 dies when it is told to switch off a log that is off already; switching on twice is
 * harmless.  So off is always on, then off.
 */
static int hook_logdirty(void *priv, bool on, struct colo_err *err)
{
    static const char command[] = "xen-set-global-dirty-log";

    if (qmp(priv, command, "{\"enable\":true}", err))
        return -1;
    return on ? 0 : qmp(priv, command, "{\"enable\":false}", err);
}

static int hook_save_begin(void *priv, struct colo_err *err)
{
    struct colo_guest *g = priv;

    return colo_devstate_save_start(g->devices, colo_now() + COLO_T_QMP, err);
}

static int hook_save(void *priv, void **buf, size_t *len, struct colo_err *err)
{
    struct colo_guest *g = priv;

    return colo_devstate_save_finish(g->devices, colo_now() + COLO_T_QMP, buf, len, err);
}

static int hook_load(void *priv, const void *buf, size_t len, struct colo_err *err)
{
    struct colo_guest *g = priv;

    if (reset_if_needed(g, err))
        return -1;
    return colo_devstate_load(g->devices, buf, len, colo_now() + COLO_T_QMP, err);
}

int colo_guest_open(struct colo_guest *g, uint32_t domid, bool for_load, struct colo_err *err)
{
    const struct xc_sr_dm_hooks hooks = {
        .priv = g,
        .wait_change = hook_wait_change,
        .resumed = hook_resumed,
        .stop = hook_stop,
        .cont = hook_cont,
        .logdirty = hook_logdirty,
        .save_begin = hook_save_begin,
        .save = hook_save,
        .load = hook_load,
    };
    char path[64], tag[32];

    memset(g, 0, sizeof(*g));
    g->domid = domid;
    snprintf(path, sizeof(path), "/var/run/xen/qmp-libxenstat-%u", domid);
    snprintf(tag, sizeof(tag), "dom%u", domid);
    /* Cancelling a session must not cancel the steps that bring the guest back: those have
     * deadlines instead of a cancel fd. */
    if (colo_run_dir(err) || colo_xs_open(-1, &g->xs, err) ||
        colo_qmp_open(path, -1, colo_now() + COLO_T_QMP, &g->qmp, err) ||
        colo_devstate_open(g->qmp, COLO_RUN_DIR, tag, for_load, colo_now() + COLO_T_QMP,
                           &g->devices, err) ||
        xc_sr_domain_xen_open(domid, &hooks, &g->dom, err)) {
        colo_guest_close(g);
        return -1;
    }
    colo_xs_heed_dm(g->xs, colo_qmp_fd(g->qmp));
    return 0;
}

void colo_guest_close(struct colo_guest *g)
{
    if (g->dom)
        g->dom->ops->close(g->dom);
    colo_devstate_close(g->devices);
    if (g->qmp)
        colo_qmp_close(g->qmp);
    colo_xs_close(g->xs);
    memset(g, 0, sizeof(*g));
}

static const char *shutdown_word(int reason)
{
    static const char *const words[] = {"poweroff", "reboot",   "suspend",
                                        "crash",    "watchdog", "soft-reset"};

    return reason >= 0 && (size_t)reason < sizeof(words) / sizeof(words[0]) ? words[reason]
                                                                            : "shutdown";
}

int colo_guest_event(void *priv, struct colo_err *err)
{
    struct colo_guest *g = priv;
    struct xc_sr_domain_info info;
    char reason[40];

    colo_xs_drain(g->xs);
    if (g->dom->ops->info(g->dom, &info, err))
        return colo_fail(err, COLO_ERR_GUEST_DOWN, "guest-destroyed", "the guest is gone");
    if (!info.shutdown)
        return 0;
    snprintf(reason, sizeof(reason), "guest-%s", shutdown_word(info.shutdown_reason));
    return colo_fail(err, COLO_ERR_GUEST_DOWN, reason, "the guest has shut down (%s)",
                     shutdown_word(info.shutdown_reason));
}

int colo_guest_bound_gfns(struct colo_guest *g, uint64_t max_memkb, uint64_t *bound,
                          struct colo_err *err)
{
    struct xc_sr_domain_info info;

    if (g->dom->ops->info(g->dom, &info, err))
        return -1;
    *bound = max_memkb / 4 + (UINT64_C(1) << 20) + (UINT64_C(1) << 16);
    if (*bound < info.nr_gpfns)
        *bound = info.nr_gpfns;
    return 0;
}

int colo_xen_version(libxl_ctx *ctx, struct colo_session *s, char *buf, size_t len,
                     struct colo_err *err)
{
    const libxl_version_info *v = libxl_get_version_info(ctx);

    if (!v)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "cannot read Xen's version");
    s->xen_major = (uint32_t)v->xen_version_major;
    s->xen_minor = (uint32_t)v->xen_version_minor;
    snprintf(buf, len, "%d.%d%s", v->xen_version_major, v->xen_version_minor,
             v->xen_version_extra ? v->xen_version_extra : "");
    return 0;
}
