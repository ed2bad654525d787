/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * After a takeover the guest's frames go by its proxy until no connection of before needs it.  The
 * monitor waits for that end, and is there should the proxy die before: a guest whose proxy is gone
 * is on no network.
 */
#include <unistd.h>

#include "libxl_colo_monitor_log.h"
#include "libxl_colo_monitor_priv.h"
#include "libxl_colo_net.h"

/* The guest's taps join their bridge themselves, unless the worker is at the guest: then all of it
 * goes anyhow. */
static void proxy_ended(struct mon *m)
{
    struct colo_err err = {0};

    colo_proxy_close(m->px);
    m->px = NULL;
    pthread_mutex_lock(&m->lock);
    if (!m->acting && !m->retired && colo_net_undo(NULL, &m->c.sh->recovery.net, true, &err))
        colo_log("the guest's network: %s", err.msg);
    pthread_mutex_unlock(&m->lock);
}

void colo_monitor_proxy_watch(struct mon *m)
{
    const char *path = m->c.sh->recovery.net.socket;
    struct colo_err err = {0};

    if (m->px || !path[0])
        return;
    if (colo_proxy_attach(path, &m->px, &err) || colo_proxy_watch(m->px, &err))
        proxy_ended(m); /* or it was not needed for long */
}

int colo_monitor_proxy_fd(const struct mon *m)
{
    return m->px ? colo_proxy_fd(m->px) : -1;
}

void colo_monitor_proxy_ready(struct mon *m)
{
    struct colo_proxy_event ev;
    struct colo_err err = {0};
    bool aside = false;
    int rc;

    while ((rc = colo_proxy_event(m->px, &ev, &err)) > 0)
        aside |= ev.type == COLO_PROXY_ASIDE;
    if (aside)
        colo_log("no connection needs the guest's proxy any more");
    else if (rc < 0)
        colo_log("%s: connections from before the takeover are lost", err.msg);
    if (aside || rc < 0)
        proxy_ended(m);
}

bool colo_monitor_proxy_needed(const struct mon *m)
{
    return m->px != NULL;
}
