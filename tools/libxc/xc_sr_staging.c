/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Staging.  An index with one word a pfn says what is staged; page data lie in slots, the first ones
 * in memory, the others in a file that is mapped.  Slots that a pfn gives up are used again, so
 * there are never more of them than pfns.
 */
#include "xc_sr_staging.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "xc_sr_bitmap.h"
#include "xc_sr_domain.h"

/* Words of the index: what is not a mark is a slot's number + FIRST_SLOT. */
#define NOTHING    0u
#define ZEROES     1u
#define HOLE       2u
#define FIRST_SLOT 3u
#define NO_SLOT    UINT32_MAX

#define MAX_PFNS    (UINT64_C(1) << 31) /* 8 TiB of guest; keeps slot numbers in 32 bits */
#define SPILL_CHUNK ((size_t)4 << 20)   /* by which the file grows */

struct xc_sr_staging {
    uint64_t max_pfns;
    uint32_t *index; /* one word a pfn; untouched parts cost nothing */
    struct xc_sr_bitmap staged;
    uint64_t *order; /* the staged pfns as they came, for reset */
    size_t count, order_room;

    uint32_t mem_slots; /* slots below this are in mem */
    unsigned char *mem;
    uint32_t next_slot; /* never used since the last reset, as are all above it */
    uint32_t free_slot; /* given up: a list through the slots' first bytes */
    size_t used, peak;  /* slots */

    char *spill_dir;
    int spill_fd;
    unsigned char *spill;           /* address space for all the other slots */
    size_t spill_space, spill_size; /* reserved; behind which there is file */
};

/* Address space; memory comes with use.  NULL on failure. */
static void *map_space(size_t bytes, int prot, struct colo_err *err)
{
    void *p = mmap(NULL, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p != MAP_FAILED)
        return p;
    colo_fail_errno(err, errno, "%zu bytes of address space for staging", bytes);
    return NULL;
}

/* Nameless from the beginning, or where the file system cannot do that, a moment later. */
static int open_spill_file(const char *dir, struct colo_err *err)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char *path;

    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR) &&
        asprintf(&path, "%s/xen-colo.XXXXXX", dir) >= 0) {
        fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0)
            unlink(path);
        free(path);
    }
    return fd < 0 ? colo_fail_errno(err, errno, "a file for staging in %s", dir) : fd;
}

int xc_sr_staging_new(uint64_t max_gfns, size_t mem_cap, const char *spill_dir,
                      struct xc_sr_staging **out, struct colo_err *err)
{
    struct xc_sr_staging *s;

    if (max_gfns == 0 || max_gfns > MAX_PFNS)
        return colo_fail_errno(err, EINVAL, "staging for %llu pages", (unsigned long long)max_gfns);
    s = calloc(1, sizeof(*s));
    if (!s)
        return colo_fail_errno(err, ENOMEM, "staging");
    s->max_pfns = max_gfns;
    s->spill_fd = -1;
    s->free_slot = NO_SLOT;
    s->mem_slots =
        (uint32_t)(mem_cap / XC_PAGE_BYTES < max_gfns ? mem_cap / XC_PAGE_BYTES : max_gfns);
    s->index = map_space(max_gfns * sizeof(*s->index), PROT_READ | PROT_WRITE, err);
    if (!s->index)
        goto fail;
    if (s->mem_slots) {
        s->mem = map_space(s->mem_slots * XC_PAGE_BYTES, PROT_READ | PROT_WRITE, err);
        if (!s->mem)
            goto fail;
    }
    if (xc_sr_bitmap_init(&s->staged, max_gfns, err))
        goto fail;
    if (spill_dir) {
        s->spill_dir = strdup(spill_dir);
        if (!s->spill_dir) {
            colo_fail_errno(err, ENOMEM, "staging");
            goto fail;
        }
        /* Now, and not when the first large checkpoint needs it, it is to fail. */
        s->spill_fd = open_spill_file(spill_dir, err);
        if (s->spill_fd < 0)
            goto fail;
    }
    *out = s;
    return 0;

fail:
    xc_sr_staging_free(s);
    return -1;
}

void xc_sr_staging_free(struct xc_sr_staging *s)
{
    if (!s)
        return;
    if (s->index)
        munmap(s->index, s->max_pfns * sizeof(*s->index));
    if (s->mem)
        munmap(s->mem, s->mem_slots * XC_PAGE_BYTES);
    if (s->spill)
        munmap(s->spill, s->spill_space);
    if (s->spill_fd >= 0)
        close(s->spill_fd);
    xc_sr_bitmap_fini(&s->staged);
    free(s->order);
    free(s->spill_dir);
    free(s);
}

/* ---- slots ---- */

static unsigned char *slot_page(const struct xc_sr_staging *s, uint32_t slot)
{
    if (slot < s->mem_slots)
        return s->mem + slot * XC_PAGE_BYTES;
    return s->spill + (slot - s->mem_slots) * XC_PAGE_BYTES;
}

static int open_spill(struct xc_sr_staging *s, struct colo_err *err)
{
    size_t space = (s->max_pfns - s->mem_slots) * XC_PAGE_BYTES;

    if (!s->spill_dir)
        return colo_fail(err, COLO_ERR_LOCAL, "staging-full",
                         "the checkpoint needs more than the %zu MiB that may be staged in memory",
                         s->mem_slots * XC_PAGE_BYTES >> 20);
    if (!s->spill) {
        space = (space + SPILL_CHUNK - 1) / SPILL_CHUNK * SPILL_CHUNK;
        s->spill = map_space(space, PROT_NONE, err);
        if (!s->spill)
            return -1;
        s->spill_space = space;
    }
    return 0;
}

/* The blocks are allocated before the file is mapped: a full disk is an error, not a SIGBUS. */
static int grow_spill(struct xc_sr_staging *s, struct colo_err *err)
{
    int r;

    if (open_spill(s, err))
        return -1;
    r = posix_fallocate(s->spill_fd, (off_t)s->spill_size, (off_t)SPILL_CHUNK);
    if (r)
        return colo_fail_errno(err, r, "%zu MiB of staging in %s",
                               (s->spill_size + SPILL_CHUNK) >> 20, s->spill_dir);
    if (mmap(s->spill + s->spill_size, SPILL_CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
             s->spill_fd, (off_t)s->spill_size) == MAP_FAILED)
        return colo_fail_errno(err, errno, "mapping the staging file");
    s->spill_size += SPILL_CHUNK;
    return 0;
}

static int take_slot(struct xc_sr_staging *s, uint32_t *slot, struct colo_err *err)
{
    if (s->free_slot != NO_SLOT) {
        *slot = s->free_slot;
        memcpy(&s->free_slot, slot_page(s, *slot), sizeof(s->free_slot));
    } else {
        if (s->next_slot >= s->mem_slots &&
            (s->next_slot - s->mem_slots) * XC_PAGE_BYTES >= s->spill_size && grow_spill(s, err))
            return -1;
        *slot = s->next_slot++;
    }
    if (++s->used > s->peak)
        s->peak = s->used;
    return 0;
}

static void give_slot(struct xc_sr_staging *s, uint32_t slot)
{
    memcpy(slot_page(s, slot), &s->free_slot, sizeof(s->free_slot));
    s->free_slot = slot;
    s->used--;
}

/* ---- pages ---- */

/* Make pfn one of the staged ones, with room for it in the list of them. */
static int admit(struct xc_sr_staging *s, uint64_t pfn, struct colo_err *err)
{
    uint64_t *order;
    size_t room;

    if (pfn >= s->max_pfns)
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL,
                         "pfn %#llx is beyond the guest's last, %#llx", (unsigned long long)pfn,
                         (unsigned long long)(s->max_pfns - 1));
    if (s->index[pfn] != NOTHING)
        return 0;
    if (s->count == s->order_room) {
        room = s->order_room ? 2 * s->order_room : 1024;
        order = realloc(s->order, room * sizeof(*order));
        if (!order)
            return colo_fail_errno(err, ENOMEM, "staging %zu pages", room);
        s->order = order;
        s->order_room = room;
    }
    return 0;
}

static void put(struct xc_sr_staging *s, uint64_t pfn, uint32_t word)
{
    if (s->index[pfn] == NOTHING) {
        s->order[s->count++] = pfn;
        xc_sr_bitmap_set(&s->staged, pfn);
    }
    s->index[pfn] = word;
}

int xc_sr_staging_page(struct xc_sr_staging *s, uint64_t pfn, void **page, struct colo_err *err)
{
    uint32_t slot;

    if (admit(s, pfn, err))
        return -1;
    if (s->index[pfn] < FIRST_SLOT) {
        if (take_slot(s, &slot, err))
            return -1;
        put(s, pfn, slot + FIRST_SLOT);
    }
    *page = slot_page(s, s->index[pfn] - FIRST_SLOT);
    return 0;
}

int xc_sr_staging_mark(struct xc_sr_staging *s, uint64_t pfn, enum xc_sr_staged_kind kind,
                       struct colo_err *err)
{
    if (kind != XC_SR_STAGED_ZERO && kind != XC_SR_STAGED_HOLE)
        return colo_fail_errno(err, EINVAL, "marking a staged page");
    if (admit(s, pfn, err))
        return -1;
    if (s->index[pfn] >= FIRST_SLOT)
        give_slot(s, s->index[pfn] - FIRST_SLOT);
    put(s, pfn, kind == XC_SR_STAGED_ZERO ? ZEROES : HOLE);
    return 0;
}

enum xc_sr_staged_kind xc_sr_staging_get(struct xc_sr_staging *s, uint64_t pfn, const void **page)
{
    uint32_t word = pfn < s->max_pfns ? s->index[pfn] : NOTHING;

    *page = NULL;
    if (word == NOTHING)
        return XC_SR_STAGED_NONE;
    if (word == ZEROES)
        return XC_SR_STAGED_ZERO;
    if (word == HOLE)
        return XC_SR_STAGED_HOLE;
    *page = slot_page(s, word - FIRST_SLOT);
    return XC_SR_STAGED_DATA;
}

int xc_sr_staging_next(struct xc_sr_staging *s, uint64_t from, uint64_t *pfn)
{
    return xc_sr_bitmap_next(&s->staged, from, pfn) ? 0 : 1;
}

size_t xc_sr_staging_peak_bytes(const struct xc_sr_staging *s)
{
    return s->peak * XC_PAGE_BYTES;
}

void xc_sr_staging_reset(struct xc_sr_staging *s)
{
    for (size_t i = 0; i < s->count; i++) {
        s->index[s->order[i]] = NOTHING;
        xc_sr_bitmap_clear(&s->staged, s->order[i]);
    }
    s->count = 0;
    s->used = 0;
    s->next_slot = 0;
    s->free_slot = NO_SLOT;
}
