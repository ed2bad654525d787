/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Undoing what a killed session left.  Every step is tried, whatever became of those before it:
 * a guest that runs with a dirty log on is better than one that stands still.
 */
#include "libxl_colo_recover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xenguest.h>

#include <libxl_utils.h>

#include "libxl_colo_announce.h"
#include "libxl_colo_control.h"
#include "libxl_colo_disk.h"
#include "libxl_colo_lifecycle.h"
#include "libxl_colo_net.h"
#include "libxl_colo_xs.h"
#include "libxl_qmp.h"

#define QMP_TIMEOUT     (30 * 1000 * COLO_MS) /* it may be busy with the session's last command */
#define QMP_TRY         (5 * 1000 * COLO_MS)
#define SUSPEND_TIMEOUT (2 * 1000 * COLO_MS) /* for a suspend that was under way */
#define DESTROY_TIMEOUT (60 * 1000 * COLO_MS)

libxl_ctx *colo_monitor_ctx(struct colo_err *err)
{
    static libxl_ctx *ctx;
    xentoollog_logger *lg;

    if (ctx)
        return ctx;
    lg = (xentoollog_logger *)xtl_createlogger_stdiostream(
        stderr, XTL_INFO, XTL_STDIOSTREAM_SHOW_DATE | XTL_STDIOSTREAM_HIDE_PROGRESS);
    if (!lg || libxl_ctx_alloc(&ctx, LIBXL_VERSION, 0, lg)) {
        if (lg)
            xtl_logger_destroy(lg);
        ctx = NULL;
        colo_fail(err, COLO_ERR_LOCAL, NULL, "the monitor cannot open libxl");
    }
    return ctx;
}

enum colo_recover_what colo_recover_decide(const struct colo_recovery *rec)
{
    if (rec->restore_name)
        return rec->domid ? COLO_RECOVER_TAKEOVER : COLO_RECOVER_NOTHING;
    if (rec->destroy)
        return COLO_RECOVER_DESTROY; /* without a domid yet: it is found by its name */
    return rec->domid ? COLO_RECOVER_RUN_ON : COLO_RECOVER_NOTHING;
}

/* Remember the first failure. */
static void note(int step_rc, const struct colo_err *step, int *rc, struct colo_err *err)
{
    if (!step_rc)
        return;
    colo_log("%s", step->msg);
    if (!*rc && err)
        *err = *step;
    *rc = -1;
}

/* ---- destroying ---- */
/* Processes of that program with these arguments: "OPTION\0VALUE\0". */
static void kill_stray(const char *program, const char *want, size_t want_len)
{
    DIR *d = opendir("/proc");
    struct dirent *e;
    char path[64], buf[4096];
    ssize_t len;
    int fd, pid;

    if (!d)
        return;
    while ((e = readdir(d))) {
        pid = atoi(e->d_name);
        if (pid <= 1)
            continue;
        snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        len = read(fd, buf, sizeof(buf) - 1);
        close(fd);
        if (len <= 0)
            continue;
        buf[len] = '\0';
        if (strstr(buf, program) && memmem(buf, (size_t)len, want, want_len)) {
            colo_log("killing %s (process %d), which was left", buf, pid);
            kill(pid, SIGKILL);
        }
    }
    closedir(d);
}

/* A session that dies while libxl starts a QEMU can leave one that libxl has no record of. */
static void kill_stray_qemu(uint32_t domid)
{
    char want[64];

    kill_stray("qemu", want, (size_t)snprintf(want, sizeof(want), "-xen-domid%c%u", 0, domid) + 1);
}

/* A relay ends with its session, but first waits for what is under way: when the other host is dead,
 * too, that lasts, and QEMU stands still. */
static void kill_relay(const char *socket)
{
    char want[COLO_DISK_PATH + 16];

    kill_stray("nbdkit", want, (size_t)snprintf(want, sizeof(want), "--unix%c%s", 0, socket) + 1);
}

static void remove_files(uint32_t domid)
{
    static const char *const suffixes[] = {"devices", "ckpt"};
    char path[64];

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        snprintf(path, sizeof(path), COLO_RUN_DIR "/dom%u.%s", domid, suffixes[i]);
        unlink(path);
    }
}

static bool exists(libxl_ctx *ctx, uint32_t domid)
{
    return libxl_domain_info(ctx, NULL, domid) != ERROR_DOMAIN_NOTFOUND;
}

int colo_destroy_domain(uint32_t domid, struct colo_err *err)
{
    colo_time deadline = colo_now() + DESTROY_TIMEOUT;
    libxl_ctx *ctx = colo_monitor_ctx(err);
    struct colo_xs *xs;
    int rc, r;

    if (!ctx || colo_xs_open(-1, &xs, err))
        return -1;
    r = libxl_domain_destroy(ctx, domid, NULL);
    while (exists(ctx, domid)) {
        rc = colo_xs_wait_release(xs, deadline, err);
        if (rc) {
            rc = colo_fail(err, COLO_ERR_LOCAL, "destroy-failed",
                           "domain %u could not be destroyed (libxl error %d): `xl destroy %u`",
                           domid, r, domid);
            goto out;
        }
    }
    kill_stray_qemu(domid);
    rc = 0;
out:
    colo_xs_close(xs);
    return rc;
}

/* The session may have died before libxl told it the new domain's number. */
static uint32_t find_copy(const struct colo_recovery *rec)
{
    libxl_ctx *ctx = colo_monitor_ctx(NULL);
    char incoming[sizeof(rec->name) + 16];
    uint32_t domid = 0;

    if (rec->domid)
        return rec->domid;
    snprintf(incoming, sizeof(incoming), "%s--incoming", rec->name);
    if (!ctx || !rec->name[0] || libxl_name_to_domid(ctx, incoming, &domid))
        return 0;
    return domid;
}

/* ---- running on ---- */
/* QEMU serves one client at a time, and the killed session's last command first. */
static int qmp_connect(uint32_t domid, struct colo_qmp **q, struct colo_err *err)
{
    colo_time deadline = colo_now() + QMP_TIMEOUT, until;
    char path[64];

    snprintf(path, sizeof(path), "/var/run/xen/qmp-libxenstat-%u", domid);
    for (;;) {
        until = colo_now() + QMP_TRY;
        if (!colo_qmp_open(path, -1, until, q, err))
            return 0;
        if (colo_now() >= deadline)
            return colo_err_prefix(err, "the device model of domain %u", domid);
        poll(NULL, 0, 200); /* nothing tells when QEMU takes the next client */
    }
}

static int qmp_run(struct colo_qmp *q, const char *command, const char *args, struct colo_err *err)
{
    return colo_qmp_cmd(q, command, args, colo_now() + QMP_TIMEOUT, NULL, err);
}

/* The image that device state was loaded from would stay in QEMU for ever. */
static void drop_image_nodes(struct colo_qmp *q)
{
    struct colo_json *list;
    const char *node;
    char args[128];

    if (colo_qmp_cmd(q, "query-named-block-nodes", "{\"flat\":true}", colo_now() + QMP_TIMEOUT,
                     &list, NULL))
        return;
    for (size_t i = 0; i < colo_json_len(list); i++) {
        node = colo_json_get_str(colo_json_at(list, i), "node-name");
        if (!node || strncmp(node, "colo-ckpt", 9) != 0 || strpbrk(node, "\"\\"))
            continue;
        snprintf(args, sizeof(args), "{\"node-name\":\"%.64s\"}", node);
        qmp_run(q, "blockdev-del", args, NULL);
    }
    colo_json_free(list);
}

static int undo_qemu(const struct colo_recovery *rec, xc_interface *xch, bool run,
                     struct colo_err *err)
{
    struct colo_err e = {0};
    struct colo_qmp *q;
    int rc = 0, r;

    if (qmp_connect(rec->domid, &q, err))
        return -1;
    if (rec->mirrors) { /* first: the guest's writes may be waiting for the other host */
        xc_domain_pause(xch, rec->domid);
        r = colo_qdisks_stop(q, colo_now() + QMP_TIMEOUT, &e);
        note(r, &e, &rc, err);
    }
    if (run || rec->mirrors) { /* which ends with QEMU stopped for a moment */
        r = qmp_run(q, "cont", NULL, &e);
        note(r, &e, &rc, err);
    }
    if (rec->mirrors)
        xc_domain_unpause(xch, rec->domid);
    /* Whether it is on is not known, and QEMU (7.2) aborts when it is told to switch off what is
     * off, while switching on twice does nothing. */
    r = qmp_run(q, "xen-set-global-dirty-log", "{\"enable\":true}", &e) ||
        qmp_run(q, "xen-set-global-dirty-log", "{\"enable\":false}", &e);
    note(r ? -1 : 0, &e, &rc, err);
    drop_image_nodes(q);
    colo_qmp_close(q);
    return rc;
}

/*
 * Where is the domain?  1: it runs or stands suspended, and should run; 0: it has shut down by
 * itself, and is the watch's business; -1: it is gone.
 */
static int domain_state(xc_interface *xch, uint32_t domid, bool *suspended)
{
    xc_dominfo_t info;

    *suspended = false;
    if (xc_domain_getinfo(xch, domid, 1, &info) != 1 || info.domid != domid || info.dying)
        return -1;
    if (!info.shutdown)
        return 1;
    *suspended = info.shutdown_reason == SHUTDOWN_suspend;
    return *suspended;
}

/*
 * The session may have been killed just after it had asked for the suspension: wait a moment for
 * it to be complete, so that it is not completed behind our back after we resumed.
 */
static int settle(xc_interface *xch, struct colo_xs *xs, uint32_t domid, bool *suspended)
{
    colo_time deadline = colo_now() + SUSPEND_TIMEOUT;
    int state;

    for (;;) {
        state = domain_state(xch, domid, suspended);
        if (state != 1 || *suspended || colo_xs_wait_release(xs, deadline, NULL))
            return state;
    }
}

static int run_on(struct colo_recovery *rec, bool *here, struct colo_err *err)
{
    bool stopped = rec->suspended || rec->restore_name, suspended;
    xc_interface *xch = xc_interface_open(NULL, NULL, 0);
    struct colo_xs *xs = NULL;
    struct colo_err e = {0};
    int rc = 0, r, state;

    if (!xch)
        colo_fail_errno(&e, errno, "opening Xen's control interface");
    if (!xch || colo_xs_open(-1, &xs, &e)) {
        note(-1, &e, &rc, err);
        goto out;
    }
    state = stopped ? settle(xch, xs, rec->domid, &suspended)
                    : domain_state(xch, rec->domid, &suspended);
    *here = state >= 0;
    if (state < 0) {
        colo_log("domain %u is gone", rec->domid);
        goto out;
    }

    /* Harmless where it is off. */
    if (xc_shadow_control(xch, rec->domid, XEN_DOMCTL_SHADOW_OP_OFF, NULL, 0) < 0 && rec->logdirty)
        colo_log("switching the dirty log off: %s", strerror(errno));
    r = undo_qemu(rec, xch, stopped && state == 1, &e);
    note(r, &e, &rc, err);
    if (rec->paused) /* once more than it is unpaused */
        xc_domain_unpause(xch, rec->domid);
    rec->paused = false;
    if (stopped && state == 1) {
        /* Takes back a shutdown that has been asked for and is not complete, too.  Not the "fast"
         * way, which writes a return code into the registers of a guest that asked for nothing. */
        if (xc_domain_resume(xch, rec->domid, 0)) {
            colo_fail_errno(&e, errno, "resuming domain %u", rec->domid);
            note(-1, &e, &rc, err);
        }
        r = colo_xs_resume_domain(xs, rec->domid, &e);
        note(r, &e, &rc, err);
        if (rec->restore_name) /* a copy that had not run yet is as libxl built it: paused */
            xc_domain_unpause(xch, rec->domid);
    }
    rec->logdirty = rec->suspended = false;
out:
    colo_xs_close(xs);
    if (xch)
        xc_interface_close(xch);
    return rc;
}

static int become_guest(struct colo_recovery *rec, struct colo_err *err)
{
    libxl_ctx *ctx = colo_monitor_ctx(err);
    struct colo_net net = {.undo = &rec->net};
    struct colo_err e = {0};
    int rc, r;

    if (rec->net.socket[0]) {
        if (colo_proxy_attach(rec->net.socket, &net.px, NULL))
            net.px = NULL;
        colo_net_takeover(&net, &rec->nics);
        colo_net_close(&net);
    }
    rc = colo_nics_join(&rec->nics, &e);
    if (rc) {
        colo_log("%s", e.msg);
        if (err)
            *err = e;
    }
    r = ctx ? libxl_domain_rename(ctx, rec->domid, NULL, rec->name) : 0;
    if (r)
        rc = colo_fail(err, COLO_ERR_LOCAL, "rename-failed",
                       "domain %u could not be renamed to %s (libxl error %d)", rec->domid,
                       rec->name, r);
    if (!rc)
        rec->restore_name = false;
    for (int i = 1; i < COLO_ANNOUNCE_TIMES; i++) {
        poll(NULL, 0, (int)(COLO_ANNOUNCE_GAP / COLO_MS));
        colo_nics_announce(&rec->nics, NULL);
    }
    return ctx ? rc : -1;
}

/* Of the primary the relays and the key; of the secondary the servers. */
static void undo_disks(struct colo_recovery *rec)
{
    if (!rec->mirrors) {
        colo_disks_undo(NULL, &rec->disks);
        return;
    }
    for (uint32_t i = 0; i < rec->disks.n && i < COLO_MAX_DISKS; i++) {
        kill_relay(rec->disks.guest[i]);
        unlink(rec->disks.guest[i]);
    }
    if (rec->disks.key[0])
        unlink(rec->disks.key);
    memset(&rec->disks, 0, sizeof(rec->disks));
}

int colo_recover(void *priv, struct colo_shared *sh, enum colo_role role, bool *guest_here,
                 struct colo_err *err)
{
    struct colo_recovery *rec = &sh->recovery;
    enum colo_recover_what what = colo_recover_decide(rec);
    struct colo_err e = {0};
    uint32_t copy;
    int rc = 0, r;

    (void)priv;
    (void)role; /* what was noted says it all */
    *guest_here = false;
    switch (what) {
    case COLO_RECOVER_NOTHING:
        undo_disks(rec); /* they may have been copied for hours, before there was a domain */
        break;
    case COLO_RECOVER_DESTROY:
        copy = find_copy(rec);
        if (!copy) {
            undo_disks(rec);
            break;
        }
        colo_log("destroying the second copy of %s, domain %u", rec->name, copy);
        colo_net_undo(NULL, &rec->net, false, NULL);
        rc = colo_destroy_domain(copy, err);
        undo_disks(rec);
        remove_files(copy);
        rec->domid = 0;
        break;
    case COLO_RECOVER_RUN_ON:
    case COLO_RECOVER_TAKEOVER:
        colo_log(what == COLO_RECOVER_TAKEOVER ? "completing the takeover of %s, domain %u"
                                               : "%s, domain %u, is to run on unprotected",
                 rec->name, rec->domid);
        if (what == COLO_RECOVER_TAKEOVER && rec->disks.n) {
            r = colo_disks_undo_takeover(&rec->disks, &e);
            note(r, &e, &rc, err);
        }
        if (rec->mirrors)
            undo_disks(rec);
        if (run_on(rec, guest_here, rc ? NULL : err)) /* it has logged why */
            rc = -1;
        if (what == COLO_RECOVER_RUN_ON && rec->net.socket[0]) {
            r = colo_net_undo(NULL, &rec->net, true, &e);
            note(r, &e, &rc, err);
        }
        if (*guest_here && what == COLO_RECOVER_TAKEOVER) {
            r = become_guest(rec, &e);
            note(r, &e, &rc, err);
        } else if (!rec->needs_monitor)
            *guest_here = false; /* stock xl's own monitor is still with it */
        remove_files(rec->domid);
        break;
    }
    return rc;
}
