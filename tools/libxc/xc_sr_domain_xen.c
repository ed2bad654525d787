/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The `xen` domain: a real HVM domain of this host.  Opening, run state and the device model; its
 * memory and its processors have files of their own.
 */
#include "xc_sr_domain_xen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int getinfo(struct xc_sr_domain_xen *x, xc_dominfo_t *info, struct colo_err *err)
{
    int r = xc_domain_getinfo(x->xch, x->domid, 1, info);

    if (r < 0)
        return colo_fail_errno(err, errno, "cannot get the state of domain %u", x->domid);
    /* Xen answers with the next higher domain when this one is gone. */
    if (r == 0 || info->domid != x->domid)
        return colo_fail(err, COLO_ERR_GUEST_DOWN, "guest-destroyed", "there is no domain %u",
                         x->domid);
    if (info->dying)
        return colo_fail(err, COLO_ERR_GUEST_DOWN, "guest-destroyed",
                         "domain %u is being destroyed", x->domid);
    return 0;
}

int xc_sr_xen_info(struct xc_sr_domain *d, struct xc_sr_domain_info *out, struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);
    xc_dominfo_t info;
    xen_pfn_t gpfns;

    if (getinfo(x, &info, err) < 0)
        return -1;
    if (xc_domain_nr_gpfns(x->xch, x->domid, &gpfns) < 0)
        return colo_fail_errno(err, errno, "cannot get the size of domain %u", x->domid);
    out->hvm = info.hvm;
    out->vcpus = info.max_vcpu_id + 1;
    out->nr_gpfns = gpfns;
    out->tot_pages = info.nr_pages;
    out->max_pages = info.max_memkb >> (XC_PAGE_SHIFT_4K - 10);
    out->shutdown = info.shutdown;
    out->shutdown_reason = info.shutdown ? (int)info.shutdown_reason : -1;
    out->paused = info.paused;
    return 0;
}

static int guest_down(struct xc_sr_domain_xen *x, unsigned int code, struct colo_err *err)
{
    switch (code) {
    case SHUTDOWN_poweroff:
        return colo_fail(err, COLO_ERR_GUEST_DOWN, "guest-poweroff",
                         "the guest (domain %u) has "
                         "powered itself off",
                         x->domid);
    case SHUTDOWN_reboot:
        return colo_fail(err, COLO_ERR_GUEST_DOWN, "guest-reboot",
                         "the guest (domain %u) is "
                         "rebooting",
                         x->domid);
    default:
        return colo_fail(err, COLO_ERR_GUEST_DOWN, "guest-crash",
                         "the guest (domain %u) has "
                         "crashed (shutdown code %u)",
                         x->domid, code);
    }
}

/* Without hooks there is nobody to tell us of a change of state: look again in a millisecond. */
static int wait_change(struct xc_sr_domain_xen *x, colo_time deadline, struct colo_err *err)
{
    const struct timespec pause = {.tv_nsec = COLO_MS};

    if (x->has_hooks && x->hooks.wait_change)
        return x->hooks.wait_change(x->hooks.priv, deadline, err);
    nanosleep(&pause, NULL);
    return 0;
}

static int xen_suspend(struct xc_sr_domain *d, colo_time deadline, struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);
    xc_dominfo_t info;

    if (!x->down) {
        if (xc_domain_shutdown(x->xch, x->domid, SHUTDOWN_suspend) < 0)
            return colo_fail_errno(err, errno, "cannot suspend domain %u", x->domid);
        x->down = true;
    }
    /* Most often all vCPUs are down when the call returns; one with I/O at the device model
     * completes that first. */
    for (;;) {
        if (getinfo(x, &info, err) < 0)
            return -1;
        if (info.shutdown)
            break;
        if (colo_now() >= deadline)
            return colo_fail(err, COLO_ERR_TIMEOUT, "suspend-timeout",
                             "domain %u did not suspend in time: a vCPU is waiting for its device "
                             "model",
                             x->domid);
        if (wait_change(x, deadline, err) < 0)
            return -1;
    }
    /* The device model stops in either case: a secondary's guest that went down on its own gets the
     * primary's state again. */
    if (x->has_hooks && x->hooks.stop && !x->dm_stopped) {
        /* One that was too slow may stop later: it is to be told to go on in any case. */
        x->dm_stopped = true;
        if (x->hooks.stop(x->hooks.priv, err) < 0)
            return -1;
    }
    return info.shutdown_reason == SHUTDOWN_suspend ? 0 : guest_down(x, info.shutdown_reason, err);
}

static int xen_resume(struct xc_sr_domain *d, struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);
    xc_dominfo_t info;

    if (x->dm_stopped) {
        if (x->hooks.cont && x->hooks.cont(x->hooks.priv, err) < 0)
            return -1;
        x->dm_stopped = false;
    }
    if (getinfo(x, &info, err) < 0)
        return -1;
    if (!info.shutdown && !x->down)
        return 0;
    /* Not the "fast" way, which writes a return code into the guest's registers: for guests that
     * have called the hypervisor to be suspended, and this one knows nothing of it. */
    if (xc_domain_resume(x->xch, x->domid, 0) < 0)
        return colo_fail_errno(err, errno, "cannot resume domain %u", x->domid);
    x->down = false;
    if (x->has_hooks && x->hooks.resumed)
        return x->hooks.resumed(x->hooks.priv, err);
    return 0;
}

static int xen_devices_save_begin(struct xc_sr_domain *d, struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);

    if (!x->has_hooks || !x->hooks.save_begin)
        return 0;
    if (x->hooks.save_begin(x->hooks.priv, err) < 0)
        return -1;
    x->dm_saving = true;
    return 0;
}

static int xen_devices_save(struct xc_sr_domain *d, void **buf, size_t *len, struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);

    *buf = NULL;
    *len = 0;
    if (!x->has_hooks || !x->hooks.save)
        return 0;
    if (!x->dm_saving && xen_devices_save_begin(d, err) < 0)
        return -1;
    x->dm_saving = false;
    return x->hooks.save(x->hooks.priv, buf, len, err);
}

static int xen_devices_load(struct xc_sr_domain *d, const void *buf, size_t len,
                            struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);

    if (!len)
        return 0;
    if (!x->has_hooks || !x->hooks.load)
        return colo_fail(err, COLO_ERR_LOCAL, NULL,
                         "domain %u has no device model to load a state "
                         "into",
                         x->domid);
    return x->hooks.load(x->hooks.priv, buf, len, err);
}

static void xen_close(struct xc_sr_domain *d)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);

    xc_sr_xen_memory_fini(x);
    if (x->xch)
        xc_interface_close(x->xch);
    if (x->log)
        xtl_logger_destroy(x->log);
    free(x);
}

static const struct xc_sr_domain_ops xen_ops = {
    .name = "xen",
    .info = xc_sr_xen_info,
    .present = xc_sr_xen_present,
    .map = xc_sr_xen_map,
    .unmap = xc_sr_xen_unmap,
    .populate = xc_sr_xen_populate,
    .release = xc_sr_xen_release,
    .logdirty_enable = xc_sr_xen_logdirty_enable,
    .logdirty_clean = xc_sr_xen_logdirty_clean,
    .logdirty_disable = xc_sr_xen_logdirty_disable,
    .get_hvm_context = xc_sr_xen_get_hvm_context,
    .set_hvm_context = xc_sr_xen_set_hvm_context,
    .get_hvm_param = xc_sr_xen_get_hvm_param,
    .set_hvm_param = xc_sr_xen_set_hvm_param,
    .get_tsc = xc_sr_xen_get_tsc,
    .set_tsc = xc_sr_xen_set_tsc,
    .get_policy = xc_sr_xen_get_policy,
    .set_policy = xc_sr_xen_set_policy,
    .suspend = xen_suspend,
    .resume = xen_resume,
    .devices_save_begin = xen_devices_save_begin,
    .devices_save = xen_devices_save,
    .devices_load = xen_devices_load,
    .close = xen_close,
};

int xc_sr_domain_xen_open(uint32_t domid, const struct xc_sr_dm_hooks *hooks,
                          struct xc_sr_domain **out, struct colo_err *err)
{
    struct xc_sr_domain_xen *x = calloc(1, sizeof(*x));
    xc_dominfo_t info;

    if (!x)
        return colo_fail_errno(err, ENOMEM, "cannot open domain %u", domid);
    x->d.ops = &xen_ops;
    x->domid = domid;
    if (hooks) {
        x->hooks = *hooks;
        x->has_hooks = true;
    }
    /* We tell of our failures ourselves; what the libraries log is only for their real errors. */
    x->log = (xentoollog_logger *)xtl_createlogger_stdiostream(stderr, XTL_ERROR, 0);
    if (!x->log) {
        colo_fail_errno(err, ENOMEM, "cannot open domain %u", domid);
        goto fail;
    }
    x->xch = xc_interface_open(x->log, x->log, 0);
    if (!x->xch) {
        colo_fail_errno(err, errno, "cannot talk to Xen (is this a Xen host, and are you root?)");
        goto fail;
    }
    if (xc_sr_xen_memory_init(x, err) < 0 || getinfo(x, &info, err) < 0)
        goto fail;
    if (!info.hvm) {
        colo_fail(err, COLO_ERR_REFUSED, "not-hvm", "domain %u is not an HVM guest", domid);
        goto fail;
    }
    *out = &x->d;
    return 0;

fail:
    xen_close(&x->d);
    return -1;
}
