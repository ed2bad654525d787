/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The monitor's ties to where it was started from, and its log.
 */
#ifndef LIBXL_COLO_MONITOR_LOG_H
#define LIBXL_COLO_MONITOR_LOG_H

#include "libxl_colo_monitor_priv.h"

/* Let go of every inherited fd but c->fd and c->pidfd (which get other numbers): a caller that
 * waits for the end of our output, or a peer for the end of a connection, must not wait for us. */
void colo_monitor_detach(struct colo_monitor_child *c);

#define COLO_LOG_PATH 256
/* Where the log of something about a guest goes; the guest's name need not be fit for a file. */
void colo_log_path(char path[COLO_LOG_PATH], const char *prefix, const char *guest);
/* The same of what serves one of its disks. */
void colo_log_path_disk(char path[COLO_LOG_PATH], const char *vdev, const char *guest);

/* stdout and stderr go to the log; again when the guest's name has become known. */
void colo_monitor_log_open(const struct colo_monitor_child *c);

#endif
