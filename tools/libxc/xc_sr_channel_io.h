/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * What the channel needs of the system beyond poll: a write without SIGPIPE, a lock with a deadline.
 */
#ifndef XC_SR_CHANNEL_IO_H
#define XC_SR_CHANNEL_IO_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/uio.h>

#include "colo_err.h"

/* As writev, with EPIPE but never a SIGPIPE. */
ssize_t xc_sr_writev_nosignal(int fd, bool is_socket, const struct iovec *iov, int cnt);

/* 0, or an errno (ETIMEDOUT). */
int xc_sr_lock_until(pthread_mutex_t *m, colo_time deadline);

#endif
