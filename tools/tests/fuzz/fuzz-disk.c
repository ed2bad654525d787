/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What colo-disk reads from outside: a record (first byte even), or a journal.  What is accepted as
 * a record is written again as the same; what a journal's reader hands on is within the disk.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "colo_disk_journal.h"
#include "colo_disk_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t disk_size;

static int check(void *priv, uint64_t block, uint32_t nr, const void *data)
{
    const volatile uint8_t *last = data;

    (void)priv;
    if (nr == 0 || nr > COLO_CHUNK_BLOCKS || (data && last[nr * COLO_BLOCK - 1] > 255))
        abort();
    if (disk_size && (block + nr - 1) * COLO_BLOCK >= disk_size)
        abort();
    return 0;
}

static void record(const char *text, size_t len)
{
    struct colo_disk_record r, again;
    char *written, *twice;

    if (colo_disk_record_parse(text, len, &r, NULL))
        return;
    written = colo_disk_record_text(&r);
    if (!written || colo_disk_record_parse(written, strlen(written), &again, NULL))
        abort();
    twice = colo_disk_record_text(&again);
    if (!twice || strcmp(written, twice) != 0)
        abort();
    free(twice);
    free(written);
}

static void journal(const uint8_t *data, size_t size)
{
    static int fd = -1;
    struct colo_journal_found found;

    if (fd < 0)
        fd = memfd_create("journal", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    disk_size = 0;
    if (colo_journal_read(fd, 0, 0, NULL, NULL, &found, NULL))
        return;
    if (found.len > size)
        abort();
    disk_size = found.size;
    if (colo_journal_read(fd, found.id, found.len, check, NULL, &found, NULL))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] & 1)
        journal(data + 1, size - 1);
    else
        record((const char *)data + 1, size - 1);
    return 0;
}
