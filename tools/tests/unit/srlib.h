/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of saving and restoring share: two small `mem` domains, a saver and a restorer, and
 * the bytes between them as buffers that a test can cut and change.
 */
#ifndef SRLIB_H
#define SRLIB_H

#include "libxl_stream.h"
#include "testlib.h"
#include "xc_sr_restore.h"
#include "xc_sr_save.h"

struct sr_bytes {
    unsigned char *p;
    size_t n;
};
void sr_bytes_free(struct sr_bytes *b);
struct sr_bytes sr_bytes_copy(const struct sr_bytes *b);
/* Put len bytes in at offset at. */
void sr_bytes_insert(struct sr_bytes *b, size_t at, const void *p, size_t len);
void sr_bytes_remove(struct sr_bytes *b, size_t at, size_t len);

/* A channel that reads these bytes and then finds the end of the stream; sr_source_limit shortens
 * them and starts over. */
struct sr_source {
    struct xc_sr_channel ch;
    int fd;
};
void sr_source_open(struct sr_source *s, const struct sr_bytes *b);
void sr_source_close(struct sr_source *s);

/* A channel whose output is collected. */
struct sr_sink {
    struct xc_sr_channel ch;
    int fd;
};
void sr_sink_open(struct sr_sink *s);
struct sr_bytes sr_sink_close(struct sr_sink *s);

#define SR_GFNS 16u

struct sr_pair {
    struct xc_sr_domain *p, *s;
    struct xc_sr_save save;
    struct xc_sr_restore restore;
    struct colo_err e;
};

/*
 * Two domains of SR_GFNS gfns: the primary with gfns 0..8 and 12 (random content, 2 and 7 zero), the
 * secondary with 0..9.  Both have a context, a TSC and device state of their own.
 */
void sr_pair_open(struct sr_pair *t, bool zero_pages);
void sr_pair_close(struct sr_pair *t);
void sr_restore_open(struct sr_pair *t);

/* A random page content at the primary or secondary, as if its guest had written it. */
void sr_touch(struct xc_sr_domain *d, uint64_t gfn, uint64_t seed);

/* A suspended primary as a plain stream. */
struct sr_bytes sr_plain(struct sr_pair *t);
/* The primary's first image up to CHECKPOINT_END; the primary is suspended after it. */
struct sr_bytes sr_first(struct sr_pair *t);
/* The next checkpoint: with the secondary's list when it runs, suspends both. */
struct sr_bytes sr_next(struct sr_pair *t);

/* The secondary reads: 0, or -1 with t->e.  sr_load applies; sr_stage does not. */
int sr_load(struct sr_pair *t, const struct sr_bytes *b);
int sr_stage(struct sr_pair *t, const struct sr_bytes *b, void **devices, size_t *len);
int sr_apply(struct sr_pair *t, const void *devices, size_t len);
int sr_stage_and_apply(struct sr_pair *t, const struct sr_bytes *b);
void sr_resume(struct sr_pair *t);
void sr_assert_equal(struct sr_pair *t);
/* The same after a plain stream, which carries no device state. */
void sr_assert_same_but_devices(struct sr_pair *t);

/* Everything of a domain that a stream can change. */
struct sr_snapshot;
struct sr_snapshot *sr_snapshot(struct xc_sr_domain *d);
void sr_snapshot_free(struct sr_snapshot *s);
/* Fails the test, naming what differs. */
void sr_assert_unchanged(struct xc_sr_domain *d, const struct sr_snapshot *s);

/* The nth record of that type in b, headers of both layers passed over: its offset, -1 if none. */
long sr_find(const struct sr_bytes *b, bool headers, uint32_t type, unsigned int nth);
/* Its length with header and padding. */
size_t sr_record_size(const struct sr_bytes *b, long at);

#endif
