/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A gate that requests go through: closed, it lets nobody in, and is shut once all are out.
 */
#ifndef COLO_GATE_H
#define COLO_GATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "colo_err.h"

struct colo_gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t inside;
    bool closed;
};

void colo_gate_init(struct colo_gate *g);
void colo_gate_fini(struct colo_gate *g);

/* Waits while the gate is closed.  Each enter has its leave. */
void colo_gate_enter(struct colo_gate *g);
void colo_gate_leave(struct colo_gate *g);

/* Close, and wait until nobody is inside.  COLO_ERR_TIMEOUT ("disk-busy"): somebody still was at the
 * deadline, and the gate is open again; or another caller had it closed until then. */
int colo_gate_close(struct colo_gate *g, colo_time deadline, struct colo_err *err);
void colo_gate_open(struct colo_gate *g);

#endif
