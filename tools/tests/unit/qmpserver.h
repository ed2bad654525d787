/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of the QMP client share: a server whose commands name what it does, and a client
 * of it.
 */
#ifndef QMPSERVER_H
#define QMPSERVER_H

#include "fakeqmp.h"
#include "libxl_qmp.h"

colo_time qs_in_ms(int ms);
colo_time qs_soon(void); /* so far away that only a hung test meets it */

/* The server.  What the commands do is written there. */
fakeqmp_handler qs_serve;

struct qs_fixture {
    struct fakeqmp *f;
    struct colo_qmp *q;
};

/* A server and a client that is connected to it; manners may be NULL, cancel_fd -1. */
void qs_start(struct qs_fixture *x, const struct fakeqmp_manners *manners, int cancel_fd);
void qs_stop(struct qs_fixture *x);
/* One command and its reply, as proof that the connection works. */
void qs_echo(struct qs_fixture *x);

#endif
