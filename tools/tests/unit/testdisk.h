/* SPDX-License-Identifier: GPL-2.0-only */
/* What the tests of the secondary's disk share: a folder of their own, with a disk in it. */
#ifndef TESTDISK_H
#define TESTDISK_H

#include "testlib.h"

#include "colo_disk_priv.h"

struct td {
    char folder[64], path[96], state[96];
    struct colo_disk_config cfg;
    struct colo_disk *d;
    struct colo_err err;
};

/* A folder, and in it a file `disk` of so many bytes, all holes.  Nothing is opened yet. */
void td_init(struct td *t, uint64_t size);
void td_open(struct td *t);
void td_close(struct td *t);
/* As if the process had been killed: nothing is done for the disk. */
void td_kill(struct td *t);
void td_fini(struct td *t); /* closes, and removes the folder with all in it */

/* Bytes of the file itself. */
void td_file(const struct td *t, void *buf, uint64_t len, uint64_t offset);
/* All bytes are `byte` in what this export reads. */
void td_is(struct td *t, enum colo_disk_export e, uint64_t offset, uint64_t len, uint8_t byte);
void td_put(struct td *t, enum colo_disk_export e, uint64_t offset, uint64_t len, uint8_t byte);
void td_checkpoint(struct td *t, uint64_t n);
void td_takeover(struct td *t); /* and wait until all is on the disk */

/* The state that is on stable storage; -1: none. */
int td_marked(struct td *t);

/* For tests with random requests: COLO_SEED or, as a rule, another each time, which is printed. */
uint64_t td_seed(void);
/* One life of the disk after the other, for COLO_DISK_SECONDS or so many seconds. */
void td_live(void (*life)(void), int seconds);

#define P COLO_DISK_PRIMARY
#define S COLO_DISK_SECONDARY

#endif
