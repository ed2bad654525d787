/* SPDX-License-Identifier: LGPL-2.1-only */
/* Whole pieces of a file, however many system calls they take. */
#ifndef COLO_FILE_H
#define COLO_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Read len bytes at offset (both in bytes).  Returns how many there were, fewer only where the file
 * ends; or -1, errno set. */
ssize_t colo_read_at(int fd, void *buf, size_t len, uint64_t offset);

/* Write len bytes at offset.  Returns 0, or an errno: what came before the error is written. */
int colo_write_at(int fd, const void *buf, size_t len, uint64_t offset);

#endif
