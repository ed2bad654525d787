/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The journal of a fold: every block that is not on the disk yet (docs/specs/disk-journal.md).
 * Brought to the disk again from its beginning, it never puts old content over new.
 */
#ifndef COLO_DISK_JOURNAL_H
#define COLO_DISK_JOURNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "colo_overlay.h"
#include "colo_target.h"

struct colo_journal {
    int fd;       /* -1 = there is none */
    uint64_t id;  /* other than that of any journal before */
    uint64_t len; /* bytes */
    bool broken;  /* an append has failed: nothing follows */
    pthread_mutex_t lock;
};

void colo_journal_init(struct colo_journal *j);
void colo_journal_fini(struct colo_journal *j); /* the file stays */

/* A new file for a disk of `size` bytes, in place of one that may be there. */
int colo_journal_create(struct colo_journal *j, const char *path, uint64_t size,
                        struct colo_err *err);

/* nr (1 .. 64) blocks from `block` on; data NULL: zeroes.  From any thread; the order of two appends
 * is the order of the calls.  0 or a positive errno; after a failure the journal is broken, and
 * each further append fails. */
int colo_journal_append(struct colo_journal *j, uint64_t block, uint32_t nr, const void *data);
bool colo_journal_broken(struct colo_journal *j);

/* Break it, and give its space back. */
void colo_journal_drop(struct colo_journal *j);

/* What was appended before is durable. */
int colo_journal_flush(struct colo_journal *j);

/* What a reader found. */
struct colo_journal_found {
    uint64_t id, size;
    uint64_t len; /* of the whole records; behind that is nothing, or a torn one */
    uint64_t blocks;
};

/*
 * Read the file and hand each whole record to `each`, in order, data NULL for zeroes; a positive errno
 * of its ends the reading.  COLO_ERR_PROTOCOL "disk-journal": the header is not that of a journal
 * (with this id, where it is not 0), or less than `least` bytes of it are whole.
 */
typedef int colo_journal_each(void *priv, uint64_t block, uint32_t nr, const void *data);
int colo_journal_read(int fd, uint64_t id, uint64_t least, colo_journal_each *each, void *priv,
                      struct colo_journal_found *found, struct colo_err *err);

#endif
