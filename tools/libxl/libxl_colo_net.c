/* SPDX-License-Identifier: LGPL-2.1-only */
#include "libxl_colo_net.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libxl_colo_client.h"
#include "libxl_colo_control.h"
#include "libxl_colo_monitor_log.h"

int colo_net_name(struct colo_net *net, const libxl_domain_config *cfg, uint32_t domid,
                  struct colo_err *err)
{
    if (cfg->num_nics > COLO_MAX_NICS)
        return colo_fail(err, COLO_ERR_REFUSED, "too-many-nics", "%d NICs, at most %d",
                         cfg->num_nics, COLO_MAX_NICS);
    for (int i = 0; i < cfg->num_nics; i++) {
        const libxl_device_nic *nic = &cfg->nics[i];

        if (nic->ifname && *nic->ifname)
            snprintf(net->vif[i], sizeof(net->vif[i]), "%s", nic->ifname);
        else
            snprintf(net->vif[i], sizeof(net->vif[i]), "vif%u.%d", domid, nic->devid);
        snprintf(net->bridge[i], sizeof(net->bridge[i]), "%s", nic->bridge ? nic->bridge : "");
    }
    net->n = (uint32_t)cfg->num_nics;
    return 0;
}

/* ---- the proxy ---- */

static const char *program(void)
{
    return colo_client_program("colo-proxy", "XEN_COLO_PROXY");
}

int colo_net_start(struct colo_net *net, struct colo_net_undo *undo, const char *script,
                   const char *session, const char *guest, bool secondary, struct colo_err *err)
{
    char log[COLO_LOG_PATH];

    if (colo_run_dir(err))
        return -1;
    net->undo = undo;
    snprintf(undo->script, sizeof(undo->script), "%s", script);
    colo_proxy_path(undo->socket, session, secondary);
    colo_log_path(log, "xl-colo-proxy-", guest);
    return colo_proxy_start(program(), undo->socket, log, &net->px, err);
}

void colo_net_close(struct colo_net *net)
{
    colo_proxy_close(net->px);
    net->px = NULL;
}

/* ---- the script ---- */

struct setting {
    const char *name, *value;
};

/* Its last line on stderr is the error's text. */
static int wait_script(pid_t pid, int out, const char *script, const char *vif,
                       struct colo_err *err)
{
    char text[256] = "", *line;
    size_t len = 0;
    ssize_t n;
    int status;

    while ((n = read(out, text + len, sizeof(text) - 1 - len)) != 0) {
        if (n < 0 && errno != EINTR)
            break;
        len += n > 0 ? (size_t)n : 0;
        if (len == sizeof(text) - 1) /* the end says most */
            len = sizeof(text) / 2, memmove(text, text + sizeof(text) / 2 - 1, len);
    }
    text[len] = '\0';
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return colo_fail_errno(err, errno, "waiting for %s", script);
    if (WIFEXITED(status) && !WEXITSTATUS(status))
        return 0;
    while (len && text[len - 1] == '\n')
        text[--len] = '\0';
    line = strrchr(text, '\n');
    return colo_fail(err, COLO_ERR_LOCAL, "proxy-script", "%s for %s: %s", script, vif,
                     *text ? line ? line + 1 : text : "it failed");
}

static int run_script(const char *script, const char *action, const char *vif,
                      const struct setting *settings, struct colo_err *err)
{
    int fds[2], rc;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC))
        return colo_fail_errno(err, errno, "pipe");
    pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        dup2(fds[1], STDERR_FILENO);
        setenv("vifname", vif, 1);
        setenv("COLO_PROXY", program(), 1);
        for (; settings && settings->name; settings++)
            setenv(settings->name, settings->value, 1);
        execl(script, script, action, (char *)NULL);
        fprintf(stderr, "%s\n", strerror(errno));
        _exit(127);
    }
    close(fds[1]);
    if (pid < 0)
        rc = colo_fail_errno(err, errno, "fork");
    else
        rc = wait_script(pid, fds[0], script, vif, err);
    close(fds[0]);
    return rc;
}

/* What is to join the bridge: the proxy's port ("-cb"), or the guest's tap itself ("-emu"). */
static void join_with(struct colo_nics *nics, uint32_t i, const char *vif, const char *suffix)
{
    struct colo_nic_link *tap = &nics->nic[i].link[0];

    if (tap->name[0])
        snprintf(tap->name, sizeof(tap->name), "%.11s%s", vif, suffix);
}

int colo_net_wire(struct colo_net *net, struct colo_nics *nics, const char *mode,
                  uint32_t output_wait_ms, struct colo_err *err)
{
    const char *vifs[COLO_MAX_NICS];

    for (uint32_t i = 0; i < net->n; i++)
        vifs[i] = net->vif[i];
    if (colo_proxy_setup(net->px, vifs, net->n, mode, output_wait_ms, err))
        return -1;
    for (uint32_t i = 0; i < net->n; i++) {
        const char *bridge = nics ? nics->nic[i].link[0].bridge : net->bridge[i];
        const struct setting settings[] = {
            {"mode", nics ? "secondary" : "primary"}, {"bridge", bridge}, {NULL, NULL}};

        memcpy(net->undo->vif[i], net->vif[i], sizeof(net->undo->vif[i]));
        net->undo->n = i + 1;
        if (run_script(net->undo->script, "setup", net->vif[i], settings, err))
            return -1;
        if (nics)
            join_with(nics, i, net->vif[i], "-cb");
    }
    return 0;
}

int colo_net_wait_link(struct colo_net *net, int cancel_fd, colo_time deadline,
                       struct colo_err *err)
{
    struct colo_proxy_event ev;
    int rc;

    for (;;) {
        struct pollfd fds[] = {{.fd = colo_proxy_fd(net->px), .events = POLLIN},
                               {.fd = cancel_fd, .events = POLLIN}};

        rc = colo_proxy_event(net->px, &ev, err);
        if (rc < 0)
            return -1;
        if (rc > 0 && ev.type == COLO_PROXY_LINK_UP)
            return 0;
        if (rc > 0 && ev.type == COLO_PROXY_LINK_LOST)
            return colo_fail(err, COLO_ERR_LOCAL, "proxy-link", "%s", ev.text);
        if (rc > 0)
            continue;
        if (colo_now() >= deadline)
            return colo_fail(err, COLO_ERR_TIMEOUT, "proxy-link",
                             "the proxies on the two hosts cannot reach each other");
        if (poll(fds, 2, colo_poll_ms(deadline)) < 0 && errno != EINTR)
            return colo_fail_errno(err, errno, "poll");
        if (fds[1].revents)
            return colo_fail(err, COLO_ERR_CANCELLED, NULL, "interrupted by a signal");
    }
}

/* ---- the lock-step ---- */

int colo_net_hold(void *net, uint64_t checkpoint, struct colo_err *err)
{
    return colo_proxy_hold(((struct colo_net *)net)->px, checkpoint, err);
}

int colo_net_commit(void *net, uint64_t checkpoint, struct colo_err *err)
{
    return colo_proxy_checkpoint(((struct colo_net *)net)->px, checkpoint, err);
}

static void note_difference(struct colo_shared *sh, const struct colo_proxy_event *ev)
{
    struct colo_status *st = colo_status_begin(sh);
    struct colo_difference *d = st->differences;

    while (d < st->differences + COLO_MAX_DIFFERENCES - 1 && d->why[0] &&
           strcmp(d->why, ev->why) != 0)
        d++;
    snprintf(d->why, sizeof(d->why), "%.23s", ev->why);
    d->count++;
    snprintf(st->last_difference, sizeof(st->last_difference), "%.16s: %.200s", ev->why, ev->text);
    colo_status_end(sh);
}

int colo_net_event(void *net, bool *wanted, struct colo_err *err)
{
    struct colo_net *n = net;
    struct colo_proxy_event ev;
    int rc;

    while ((rc = colo_proxy_event(n->px, &ev, err)) > 0) {
        switch (ev.type) {
        case COLO_PROXY_CHECKPOINT:
            if (n->shared)
                note_difference(n->shared, &ev);
            *wanted = true;
            break;
        case COLO_PROXY_LINK_LOST:
            return colo_fail(err, COLO_ERR_LOCAL, "proxy-link", "%s", ev.text);
        case COLO_PROXY_TAP_GONE:
            return colo_fail(err, COLO_ERR_LOCAL, "proxy-tap", "%s", ev.text);
        case COLO_PROXY_LINK_UP:
        case COLO_PROXY_ASIDE:
            break;
        }
    }
    return rc;
}

void colo_net_takeover(struct colo_net *net, struct colo_nics *nics)
{
    struct colo_err ignored;

    if (net->px && colo_proxy_takeover(net->px, &ignored) == 0)
        return;
    for (uint32_t i = 0; i < net->undo->n; i++)
        join_with(nics, i, net->undo->vif[i], "-emu");
    colo_net_undo(net, net->undo, false, NULL);
}

/* ---- undoing ---- */

int colo_net_undo(struct colo_net *net, struct colo_net_undo *undo, bool rejoin,
                  struct colo_err *err)
{
    const struct setting settings[] = {{"rejoin", rejoin ? "yes" : "no"}, {NULL, NULL}};
    struct colo_proxy *px = net ? net->px : NULL;
    struct colo_err *first = err, e;
    int rc = 0;

    /* The proxy first: what it holds goes out before its taps go. */
    if (!px && undo->socket[0] && colo_proxy_attach(undo->socket, &px, NULL))
        px = NULL;
    /* one that is gone, or just going, leaves the rest to the script */
    if (px && colo_proxy_teardown(px, rejoin, &e) && strcmp(e.reason, "proxy-gone") != 0) {
        if (err)
            *err = e;
        rc = -1;
        first = NULL;
    }
    colo_proxy_close(px);
    if (net)
        net->px = NULL;
    for (uint32_t i = 0; i < undo->n && i < COLO_MAX_NICS; i++)
        if (run_script(undo->script, "teardown", undo->vif[i], settings, first)) {
            rc = -1;
            first = NULL;
        }
    if (undo->socket[0])
        unlink(undo->socket);
    memset(undo, 0, sizeof(*undo));
    return rc;
}
