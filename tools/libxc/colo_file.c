/* SPDX-License-Identifier: LGPL-2.1-only */
#include "colo_file.h"

#include <errno.h>
#include <unistd.h>

ssize_t colo_read_at(int fd, void *buf, size_t len, uint64_t offset)
{
    size_t done = 0;
    ssize_t n;

    while (done < len) {
        n = pread(fd, (uint8_t *)buf + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int colo_write_at(int fd, const void *buf, size_t len, uint64_t offset)
{
    size_t done = 0;
    ssize_t n;

    while (done < len) {
        n = pwrite(fd, (const uint8_t *)buf + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? errno : EIO;
        done += (size_t)n;
    }
    return 0;
}
