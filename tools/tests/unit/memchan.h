/* SPDX-License-Identifier: GPL-2.0-only */
/* Channels on memory files: what was written is looked at byte for byte, or read back. */
#ifndef MEMCHAN_H
#define MEMCHAN_H

#include "xc_sr_channel.h"

struct memchan {
    struct xc_sr_channel ch;
    int fd;
};

void memchan_writer(struct memchan *m);
/* Ends the writer; *bytes is malloc'ed. */
size_t memchan_taken(struct memchan *m, unsigned char **bytes);

void memchan_reader(struct memchan *m, const void *bytes, size_t len);
/* Ends the reader; tells how many bytes nobody read. */
size_t memchan_rest(struct memchan *m);

#endif
