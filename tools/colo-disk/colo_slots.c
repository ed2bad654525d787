/* SPDX-License-Identifier: GPL-2.0-only */
#include "colo_slots.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "colo_file.h"

#define POOL_SHIFT  30
#define POOL_LIMIT  (1u << POOL_SHIFT)
#define SLOT_OFFSET (POOL_LIMIT - 1)

static struct colo_pool *pool_of(struct colo_slots *s, colo_slot slot)
{
    return &s->pool[slot >> POOL_SHIFT];
}

/* ---- the files ---- */

static int open_scratch(const char *folder, struct colo_err *err)
{
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char path[512];

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
        return fd >= 0 ? fd : colo_fail_errno(err, errno, "a file for the overlays in %s", folder);
    snprintf(path, sizeof(path), "%s/.overlay-XXXXXX", folder);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return colo_fail_errno(err, errno, "a file for the overlays in %s", folder);
    unlink(path);
    return fd;
}

static int open_pool(struct colo_pool *p, const char *path, const char *folder,
                     struct colo_err *err)
{
    uint64_t size = 0;
    struct stat st;

    p->limit = POOL_LIMIT;
    p->fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600)
                 : open_scratch(folder, err);
    if (p->fd < 0)
        return path ? colo_fail_errno(err, errno, "the overlay file %s", path) : -1;
    if (fstat(p->fd, &st))
        return colo_fail_errno(err, errno, "the overlay file");
    if (flock(p->fd, LOCK_EX | LOCK_NB))
        return colo_fail(err, COLO_ERR_REFUSED, "disk-in-use", "the overlay file %s is in use",
                         path);
    p->file = S_ISREG(st.st_mode);
    if (p->file)
        return ftruncate(p->fd, 0) ? colo_fail_errno(err, errno, "the overlay file %s", path) : 0;
    if (!S_ISBLK(st.st_mode) || ioctl(p->fd, BLKGETSIZE64, &size))
        return colo_fail(err, COLO_ERR_REFUSED, "disk-kind",
                         "the overlay file %s is neither a file nor a block device", path);
    if (size / COLO_BLOCK < POOL_LIMIT)
        p->limit = (uint32_t)(size / COLO_BLOCK);
    return 0;
}

int colo_slots_init(struct colo_slots *s, const struct colo_slots_config *cfg, struct colo_err *err)
{
    struct colo_pool *m = &s->pool[COLO_POOL_MEMORY];
    uint64_t blocks = cfg->memory / COLO_BLOCK;
    void *at;

    memset(s, 0, sizeof(*s));
    pthread_mutex_init(&s->lock, NULL);
    for (int i = 0; i < COLO_POOLS; i++)
        s->pool[i].fd = -1;
    m->limit = blocks < POOL_LIMIT ? (uint32_t)blocks : POOL_LIMIT;
    if (m->limit > 0) {
        at = mmap(NULL, (size_t)m->limit * COLO_BLOCK, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED)
            return colo_fail_errno(err, errno, "memory for the overlays");
        s->memory = at;
        /* slots are used from the bottom up, so large pages are soon full */
        (void)madvise(at, (size_t)m->limit * COLO_BLOCK, MADV_HUGEPAGE);
    }
    if (open_pool(&s->pool[COLO_POOL_ACTIVE], cfg->active, cfg->scratch, err) ||
        open_pool(&s->pool[COLO_POOL_HIDDEN], cfg->hidden, cfg->scratch, err))
        return -1;
    return 0;
}

void colo_slots_fini(struct colo_slots *s)
{
    if (s->memory)
        munmap(s->memory, (size_t)s->pool[COLO_POOL_MEMORY].limit * COLO_BLOCK);
    s->memory = NULL;
    for (int i = 0; i < COLO_POOLS; i++) {
        struct colo_pool *p = &s->pool[i];

        if (p->fd >= 0) {
            if (p->file)
                (void)!ftruncate(p->fd, 0); /* what is left there means nothing */
            close(p->fd);
        }
        p->fd = -1;
        free(p->free);
        p->free = NULL;
        p->nr_free = p->room = 0;
    }
}

/* ---- taking and giving ---- */

static bool take_from(struct colo_pool *p, uint32_t want, uint32_t *first, uint32_t *got)
{
    uint32_t left = p->limit - p->next;

    if (p->nr_free > 0 && (want == 1 || left == 0)) {
        *first = p->free[--p->nr_free];
        *got = 1;
        return true;
    }
    if (left == 0)
        return false;
    *first = p->next;
    *got = want < left ? want : left;
    p->next += *got;
    if (p->next > p->dirty)
        p->dirty = p->next;
    return true;
}

int colo_slots_take(struct colo_slots *s, bool active, uint32_t want, colo_slot *first,
                    uint32_t *got)
{
    const enum colo_pool_kind order[] = {COLO_POOL_MEMORY,
                                         active ? COLO_POOL_ACTIVE : COLO_POOL_HIDDEN};
    int r = ENOSPC;

    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < 2 && r; i++) {
        if (take_from(&s->pool[order[i]], want, first, got)) {
            *first |= (uint32_t)order[i] << POOL_SHIFT;
            r = 0;
        }
    }
    pthread_mutex_unlock(&s->lock);
    return r;
}

void colo_slots_give(struct colo_slots *s, colo_slot slot)
{
    struct colo_pool *p = pool_of(s, slot);
    uint32_t room;
    void *larger;

    pthread_mutex_lock(&s->lock);
    if (p->nr_free == p->room) {
        room = p->room ? 2 * p->room : 64;
        larger = realloc(p->free, room * sizeof(*p->free));
        if (larger) {
            p->free = larger;
            p->room = room;
        }
    }
    if (p->nr_free < p->room) /* or it is lost until the next reset */
        p->free[p->nr_free++] = slot & SLOT_OFFSET;
    pthread_mutex_unlock(&s->lock);
}

void colo_slots_reset(struct colo_slots *s)
{
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < COLO_POOLS; i++) {
        s->pool[i].last = s->pool[i].next;
        s->pool[i].next = s->pool[i].nr_free = 0;
    }
    pthread_mutex_unlock(&s->lock);
}

void colo_slots_trim(struct colo_slots *s, uint64_t keep)
{
    struct colo_pool *m = &s->pool[COLO_POOL_MEMORY];
    uint64_t least = keep / COLO_BLOCK;

    pthread_mutex_lock(&s->lock); /* nobody takes what is just given back */
    if (least < m->next)
        least = m->next;
    if (keep && least < m->last)
        least = m->last;
    if (m->dirty > least) {
        madvise(s->memory + least * COLO_BLOCK, (m->dirty - least) * COLO_BLOCK, MADV_DONTNEED);
        m->dirty = (uint32_t)least;
    }
    for (int i = COLO_POOL_ACTIVE; i < COLO_POOLS; i++) {
        struct colo_pool *p = &s->pool[i];

        if (p->dirty > p->next && p->file && ftruncate(p->fd, (off_t)p->next * COLO_BLOCK) == 0)
            p->dirty = p->next;
    }
    pthread_mutex_unlock(&s->lock);
}

uint64_t colo_slots_used(struct colo_slots *s, enum colo_pool_kind kind)
{
    struct colo_pool *p = &s->pool[kind];
    uint64_t n;

    pthread_mutex_lock(&s->lock);
    n = p->next - p->nr_free;
    pthread_mutex_unlock(&s->lock);
    return n * COLO_BLOCK;
}

/* ---- content ---- */

int colo_slots_read(struct colo_slots *s, colo_slot slot, uint32_t from, void *buf, uint32_t len)
{
    uint64_t at = (uint64_t)(slot & SLOT_OFFSET) * COLO_BLOCK + from;
    ssize_t n;

    if (slot >> POOL_SHIFT == COLO_POOL_MEMORY) {
        memcpy(buf, s->memory + at, len);
        return 0;
    }
    n = colo_read_at(pool_of(s, slot)->fd, buf, len, at);
    if (n < 0)
        return errno;
    return n == (ssize_t)len ? 0 : EIO;
}

int colo_slots_write(struct colo_slots *s, colo_slot slot, uint32_t from, const void *buf,
                     uint32_t len)
{
    uint64_t at = (uint64_t)(slot & SLOT_OFFSET) * COLO_BLOCK + from;

    if (slot >> POOL_SHIFT == COLO_POOL_MEMORY) {
        memcpy(s->memory + at, buf, len);
        return 0;
    }
    return colo_write_at(pool_of(s, slot)->fd, buf, len, at);
}
