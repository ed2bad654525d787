/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * What both sides of the control socket know.
 */
#ifndef LIBXL_COLO_CONTROL_PRIV_H
#define LIBXL_COLO_CONTROL_PRIV_H

#include <sys/un.h>

#include "colo_err.h"

void colo_control_address(uint32_t domid, struct sockaddr_un *sun);

/* A connected, non-blocking socket.  COLO_ERR_REFUSED "not-protected" when nobody listens. */
int colo_control_connect(uint32_t domid, int *fd, struct colo_err *err);

#endif
