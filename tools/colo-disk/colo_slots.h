/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Room for the blocks of an overlay: in memory up to a cap, then in one of two files, one for what
 * the secondary guest wrote (active), one for what the primary's writes would have taken from it
 * (hidden).
 */
#ifndef COLO_SLOTS_H
#define COLO_SLOTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "colo_err.h"

#define COLO_BLOCK 4096u

struct colo_slots_config {
    uint64_t memory;     /* bytes; rounded down to whole blocks */
    const char *active;  /* a file or block device that is overwritten; NULL: one without a name */
    const char *hidden;  /* the same */
    const char *scratch; /* the folder of those without a name */
};

enum colo_pool_kind { COLO_POOL_MEMORY, COLO_POOL_ACTIVE, COLO_POOL_HIDDEN, COLO_POOLS };

struct colo_pool {
    uint32_t next, limit; /* slots from next on have not been used since the last reset */
    uint32_t last;        /* what `next` was then */
    uint32_t *free;       /* given back before */
    uint32_t nr_free, room;
    int fd;         /* -1 for memory */
    bool file;      /* that is ours to cut, not a device */
    uint32_t dirty; /* slots below this may hold space */
};

struct colo_slots {
    pthread_mutex_t lock;
    struct colo_pool pool[COLO_POOLS];
    uint8_t *memory;
};

/* A slot's number says where it is. */
typedef uint32_t colo_slot;

int colo_slots_init(struct colo_slots *s, const struct colo_slots_config *cfg,
                    struct colo_err *err);
void colo_slots_fini(struct colo_slots *s);

/* *got (1 .. want) slots in a row from *first on.  ENOSPC: memory and the file are full. */
int colo_slots_take(struct colo_slots *s, bool active, uint32_t want, colo_slot *first,
                    uint32_t *got);
void colo_slots_give(struct colo_slots *s, colo_slot slot);

/* `len` bytes from byte `from` of a slot on, which may go on in those that follow in a row.
 * Return 0 or a positive errno. */
int colo_slots_read(struct colo_slots *s, colo_slot slot, uint32_t from, void *buf, uint32_t len);
int colo_slots_write(struct colo_slots *s, colo_slot slot, uint32_t from, const void *buf,
                     uint32_t len);

/* Nothing is in use any more. */
void colo_slots_reset(struct colo_slots *s);

/* Give back memory and space of what is not in use; but keep `keep` bytes of memory (0: none), and as
 * much as was in use before the last reset.  May be called while others take slots. */
void colo_slots_trim(struct colo_slots *s, uint64_t keep);

/* Bytes in use. */
uint64_t colo_slots_used(struct colo_slots *s, enum colo_pool_kind kind);

#endif
