/* SPDX-License-Identifier: GPL-2.0-only */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memchan.h"

static void open_file(struct memchan *m)
{
    m->fd = memfd_create("memchan", MFD_CLOEXEC);
    if (m->fd < 0)
        abort();
}

void memchan_writer(struct memchan *m)
{
    open_file(m);
    if (xc_sr_channel_init(&m->ch, -1, m->fd, -1, NULL) < 0)
        abort();
}

size_t memchan_taken(struct memchan *m, unsigned char **bytes)
{
    struct stat st;

    if (fstat(m->fd, &st) < 0)
        abort();
    *bytes = malloc((size_t)st.st_size + 1);
    if (!*bytes || pread(m->fd, *bytes, (size_t)st.st_size, 0) != st.st_size)
        abort();
    xc_sr_channel_fini(&m->ch);
    close(m->fd);
    return (size_t)st.st_size;
}

void memchan_reader(struct memchan *m, const void *bytes, size_t len)
{
    open_file(m);
    if (pwrite(m->fd, bytes, len, 0) != (ssize_t)len)
        abort();
    if (xc_sr_channel_init(&m->ch, m->fd, -1, -1, NULL) < 0)
        abort();
}

size_t memchan_rest(struct memchan *m)
{
    char c[4096];
    ssize_t r;
    size_t rest = m->ch.tail - m->ch.head;

    while ((r = read(m->fd, c, sizeof(c))) > 0)
        rest += (size_t)r;
    xc_sr_channel_fini(&m->ch);
    close(m->fd);
    return rest;
}
