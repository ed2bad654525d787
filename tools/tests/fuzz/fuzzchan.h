/* SPDX-License-Identifier: GPL-2.0-only */
/* A channel that reads the fuzzer's bytes and then ends. */
#ifndef FUZZCHAN_H
#define FUZZCHAN_H

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "xc_sr_channel.h"

static inline void fuzzchan_open(struct xc_sr_channel *ch, const void *data, size_t size)
{
    static int fd = -1; /* one file for all runs: making one is dear */

    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size ||
        lseek(fd, 0, SEEK_SET) != 0 || xc_sr_channel_init(ch, fd, -1, -1, NULL) < 0)
        abort();
}

#endif
