/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the secondary guest sees instead of the disk's own blocks.
 *
 * There are two kinds of such blocks: *hidden* ones, kept as they were at the checkpoint because the
 * primary has overwritten them since, and *active* ones, which the secondary guest wrote.  A block
 * of the active kind is always whole and hides a hidden one, so one map holds both: a hidden block
 * that is written becomes an active one.
 *
 * Blocks of 4 KiB are kept in chunks of 64.  A chunk without any costs nothing, one with some costs
 * a node of about 300 bytes and the blocks that are not zero; a chunk of zeroes about 50 bytes.
 *
 * Locks: what takes a chunk's number wants the chunk's lock to be held, exclusively where it changes
 * anything.  Chunks share locks, so nobody may hold two.
 */
#ifndef COLO_OVERLAY_H
#define COLO_OVERLAY_H

#include "colo_slots.h"

#define COLO_CHUNK_BLOCKS 64u
#define COLO_CHUNK        (COLO_CHUNK_BLOCKS * COLO_BLOCK)
#define COLO_STRIPES      64u

/* Sets of a chunk's blocks; bit 0 is the first. */
typedef uint64_t colo_blocks;
/* nr (1 .. 64) blocks from `first` on. */
colo_blocks colo_blocks_range(uint32_t first, uint32_t nr);
/* The first run of set bits from `from` on; false: there is none. */
bool colo_blocks_run(colo_blocks set, uint32_t from, uint32_t *first, uint32_t *nr);

struct colo_node {
    colo_blocks covered; /* are here, and not on the disk */
    colo_blocks zero;    /* of those, the ones without a slot */
    colo_blocks active;
    colo_slot *slot; /* one for each block, or NULL while all are zero */
};

struct colo_overlay_stripe {
    pthread_rwlock_t lock;
    void *map;               /* JudyL: chunk -> struct colo_node * */
    uint64_t change;         /* counts blocks that became covered */
    uint64_t active, hidden; /* blocks */
    uint64_t nodes, bytes;   /* of memory for nodes */
} __attribute__((aligned(64)));

struct colo_overlay {
    struct colo_slots slots;
    struct colo_overlay_stripe stripe[COLO_STRIPES];
};

int colo_overlay_init(struct colo_overlay *o, const struct colo_slots_config *cfg,
                      struct colo_err *err);
void colo_overlay_fini(struct colo_overlay *o);

void colo_overlay_lock(struct colo_overlay *o, uint64_t chunk, bool exclusive);
void colo_overlay_unlock(struct colo_overlay *o, uint64_t chunk);

/* Grows when blocks of the chunk become covered (and at other times). */
uint64_t colo_overlay_change(struct colo_overlay *o, uint64_t chunk);

/* NULL: none of its blocks is covered.  Valid while the lock is held. */
const struct colo_node *colo_overlay_look(struct colo_overlay *o, uint64_t chunk);

/* Copy to buf what it has of bytes [from, from + len) of the chunk in those blocks; buf is for the
 * whole range, and the bytes of other blocks are left alone.  0 or a positive errno. */
int colo_overlay_get(struct colo_overlay *o, const struct colo_node *n, colo_blocks blocks,
                     uint32_t from, uint32_t len, void *buf);

/* nr whole blocks from `first` on are covered, by `data` (NULL: zeroes), as active or as hidden ones.
 * ENOSPC, ENOMEM, EIO: some of them may be, with the new data. */
int colo_overlay_put(struct colo_overlay *o, uint64_t chunk, uint32_t first, uint32_t nr,
                     const void *data, bool active);

/* Part of a block that is covered; it becomes an active one. */
int colo_overlay_patch(struct colo_overlay *o, uint64_t chunk, uint32_t block, uint32_t from,
                       const void *data, uint32_t len);

/* The chunks with covered blocks, in order; takes the locks itself.  The caller frees.  NULL with
 * *nr 0: none; NULL with another *nr: out of memory. */
uint64_t *colo_overlay_chunks(struct colo_overlay *o, uint64_t *nr);

/* Forget all; no lock may be held by anybody.  The time is that for the chunks that are there. */
void colo_overlay_reset(struct colo_overlay *o);

struct colo_overlay_stats {
    uint64_t active, hidden; /* blocks */
    uint64_t memory;         /* bytes of blocks in memory, */
    uint64_t index;          /* of nodes and maps, */
    uint64_t spilled;        /* and of blocks in files */
    uint64_t cap;            /* the most that `memory` can become */
};
void colo_overlay_stats(struct colo_overlay *o, struct colo_overlay_stats *st);

#endif
