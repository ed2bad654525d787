/* SPDX-License-Identifier: GPL-2.0-only */
#include "colo_gate.h"

#include <errno.h>
#include <time.h>

void colo_gate_init(struct colo_gate *g)
{
    pthread_condattr_t attr;

    g->inside = 0;
    g->closed = false;
    pthread_mutex_init(&g->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&g->changed, &attr);
    pthread_condattr_destroy(&attr);
}

void colo_gate_fini(struct colo_gate *g)
{
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
}

void colo_gate_enter(struct colo_gate *g)
{
    pthread_mutex_lock(&g->lock);
    while (g->closed)
        pthread_cond_wait(&g->changed, &g->lock);
    g->inside++;
    pthread_mutex_unlock(&g->lock);
}

void colo_gate_leave(struct colo_gate *g)
{
    pthread_mutex_lock(&g->lock);
    if (--g->inside == 0 && g->closed)
        pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static int wait_until(struct colo_gate *g, colo_time deadline)
{
    struct timespec ts = {.tv_sec = deadline / 1000000000, .tv_nsec = deadline % 1000000000};

    return deadline == COLO_NO_DEADLINE ? pthread_cond_wait(&g->changed, &g->lock)
                                        : pthread_cond_timedwait(&g->changed, &g->lock, &ts);
}

int colo_gate_close(struct colo_gate *g, colo_time deadline, struct colo_err *err)
{
    uint32_t left;
    int r = 0;

    pthread_mutex_lock(&g->lock);
    while (g->closed && r == 0)
        r = wait_until(g, deadline);
    if (r) { /* another has it closed for so long */
        pthread_mutex_unlock(&g->lock);
        return colo_fail(err, COLO_ERR_TIMEOUT, "disk-busy", "the disk is kept still already");
    }
    g->closed = true;
    while (g->inside > 0 && r == 0)
        r = wait_until(g, deadline);
    left = g->inside;
    if (left > 0) {
        g->closed = false;
        pthread_cond_broadcast(&g->changed);
    }
    pthread_mutex_unlock(&g->lock);
    if (left == 0)
        return 0;
    return colo_fail(err, COLO_ERR_TIMEOUT, "disk-busy", "%u requests are not done in time", left);
}

void colo_gate_open(struct colo_gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->closed = false;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}
