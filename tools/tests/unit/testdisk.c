/* SPDX-License-Identifier: GPL-2.0-only */
#include "testdisk.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "colo_disk_recover.h"

void td_init(struct td *t, uint64_t size)
{
    int fd;

    memset(t, 0, sizeof(*t));
    snprintf(t->folder, sizeof(t->folder), "%s/test-disk-XXXXXX",
             access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    assert_non_null(mkdtemp(t->folder));
    snprintf(t->path, sizeof(t->path), "%s/disk", t->folder);
    snprintf(t->state, sizeof(t->state), "%s/state", t->folder);
    fd = open(t->path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    tl_eq(ftruncate(fd, (off_t)size), 0);
    close(fd);
    t->cfg = (struct colo_disk_config){.target = t->path,
                                       .state_dir = t->state,
                                       .session = "01234567-89ab-cdef-0123-456789abcdef",
                                       .memory = 16 << 20};
}

void td_open(struct td *t)
{
    tl_ok(colo_disk_open(&t->cfg, &t->d, &t->err), &t->err);
}

void td_close(struct td *t)
{
    colo_disk_close(t->d);
    t->d = NULL;
}

void td_kill(struct td *t)
{
    struct colo_disk *d = t->d;

    /* what a process has in memory goes with it, and so do its locks */
    colo_disk_cancel(d);
    colo_disk_fold_end(d);
    colo_journal_fini(&d->journal);
    colo_overlay_fini(&d->overlay);
    colo_target_close(&d->target);
    colo_gate_fini(&d->gate);
    free(d);
    t->d = NULL;
}

void td_fini(struct td *t)
{
    char command[128];

    td_close(t);
    snprintf(command, sizeof(command), "rm -rf %s", t->folder);
    tl_eq(system(command), 0);
}

void td_file(const struct td *t, void *buf, uint64_t len, uint64_t offset)
{
    int fd = open(t->path, O_RDONLY);

    assert_true(fd >= 0);
    tl_eq(pread(fd, buf, len, (off_t)offset), len);
    close(fd);
}

void td_is(struct td *t, enum colo_disk_export e, uint64_t offset, uint64_t len, uint8_t byte)
{
    uint8_t *buf = malloc(len);

    assert_non_null(buf);
    tl_eq(colo_disk_read(t->d, e, buf, len, offset), 0);
    for (uint64_t i = 0; i < len; i++)
        if (buf[i] != byte)
            fail_msg("byte %llu is %u, not %u", (unsigned long long)(offset + i), buf[i], byte);
    free(buf);
}

void td_put(struct td *t, enum colo_disk_export e, uint64_t offset, uint64_t len, uint8_t byte)
{
    uint8_t *buf = malloc(len);

    assert_non_null(buf);
    memset(buf, byte, len);
    tl_eq(colo_disk_write(t->d, e, buf, len, offset, 0), 0);
    free(buf);
}

void td_checkpoint(struct td *t, uint64_t n)
{
    tl_ok(colo_disk_prepare(t->d, n, 5000 * COLO_MS, &t->err), &t->err);
    tl_ok(colo_disk_commit(t->d, n, &t->err), &t->err);
}

void td_takeover(struct td *t)
{
    tl_ok(colo_disk_takeover(t->d, 5000 * COLO_MS, &t->err), &t->err);
    tl_ok(colo_disk_wait_folded(t->d, tl_soon(), &t->err), &t->err);
}

int td_marked(struct td *t)
{
    char target[PATH_MAX], path[PATH_MAX];
    struct colo_disk_record r;
    bool there;

    tl_ok(colo_disk_record_path(t->state, t->path, "state", target, path, &t->err), &t->err);
    tl_ok(colo_disk_record_load(path, &r, &there, &t->err), &t->err);
    return there ? (int)r.state : -1;
}

uint64_t td_seed(void)
{
    const char *given = getenv("COLO_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)colo_now();

    printf("COLO_SEED=%" PRIu64 "\n", seed);
    fflush(stdout);
    return seed;
}

void td_live(void (*life)(void), int seconds)
{
    const char *given = getenv("COLO_DISK_SECONDS");
    colo_time end = colo_now() + (given ? atoi(given) : seconds) * 1000 * COLO_MS;

    while (colo_now() < end)
        life();
}
