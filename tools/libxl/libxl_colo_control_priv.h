/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * What both sides of the control socket know, and a server without a socket of its own.
 */
#ifndef LIBXL_COLO_CONTROL_PRIV_H
#define LIBXL_COLO_CONTROL_PRIV_H

#include <sys/un.h>

#include "libxl_colo_control.h"

void colo_control_address(uint32_t domid, struct sockaddr_un *sun);

/* A connected, non-blocking socket.  COLO_ERR_REFUSED "not-protected" when nobody listens. */
int colo_control_connect(uint32_t domid, int *fd, struct colo_err *err);

/* A server that does not listen, and a client for it: fd is connected, and s's from now on. */
int colo_control_new(colo_control_handler *h, void *priv, struct colo_control_server **out,
                     struct colo_err *err);
void colo_control_add(struct colo_control_server *s, int fd);

#endif
