/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The fold: after a takeover the overlays become part of the disk, while the guest runs on.
 *
 * From the takeover on no block becomes covered any more, and none ceases to be before the end.  What
 * is covered is first written to the journal; once that is durable and marked so, to the disk.  What
 * the guest writes meanwhile goes to the disk at once, and where a block is covered, to the overlay
 * and the journal, too: so a journal that is brought to the disk again ends with the newest content.
 *
 * A journal that cannot be written (its file system is full) does not stop the guest: the fold does
 * without, and nothing the guest has flushed is acknowledged before it is over.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "colo_disk_priv.h"

#define RETRY_SECONDS 1

/* ---- a chunk ---- */

typedef int each_run(struct colo_disk *d, uint64_t block, uint32_t nr, const void *data);

/* The runs of `blocks` that are covered, as zeroes (NULL) or data.  The lock is held. */
static int runs_of(struct colo_disk *d, uint64_t chunk, colo_blocks blocks, uint8_t *buf,
                   each_run *each)
{
    const struct colo_node *n = colo_overlay_look(&d->overlay, chunk);
    uint32_t b, nr;
    int r = 0;

    if (!n)
        return 0;
    for (int zero = 0; zero < 2; zero++) {
        colo_blocks set = blocks & n->covered & (zero ? n->zero : ~n->zero);

        for (b = 0; r == 0 && colo_blocks_run(set, b, &b, &nr); b += nr) {
            if (!zero)
                r = colo_overlay_get(&d->overlay, n, colo_blocks_range(b, nr), b * COLO_BLOCK,
                                     nr * COLO_BLOCK, buf);
            if (r == 0)
                r = each(d, chunk * COLO_CHUNK_BLOCKS + b, nr, zero ? NULL : buf);
        }
    }
    return r;
}

static int to_journal(struct colo_disk *d, uint64_t block, uint32_t nr, const void *data)
{
    return colo_journal_append(&d->journal, block, nr, data);
}

static int write_run(struct colo_target *t, uint64_t block, uint32_t nr, const void *data)
{
    uint64_t offset = block * COLO_BLOCK, len = (uint64_t)nr * COLO_BLOCK;

    return data ? colo_target_write(t, data, len, offset)
                : colo_target_zero(t, offset, len, COLO_ZERO_TRIM);
}

static int to_target(struct colo_disk *d, uint64_t block, uint32_t nr, const void *data)
{
    return write_run(&d->target, block, nr, data);
}

struct fold {
    uint64_t *chunk, nr;
    uint8_t *buf; /* COLO_CHUNK */
};

static int all_chunks(struct colo_disk *d, const struct fold *f, each_run *each)
{
    int r = 0;

    for (uint64_t i = 0; i < f->nr && r == 0; i++) {
        colo_overlay_lock(&d->overlay, f->chunk[i], false);
        r = runs_of(d, f->chunk[i], ~(colo_blocks)0, f->buf, each);
        colo_overlay_unlock(&d->overlay, f->chunk[i]);
        if (r == 0 && each == to_target)
            __atomic_store_n(&d->fold_done, i + 1, __ATOMIC_RELAXED);
    }
    return r;
}

/* ---- what the guest writes meanwhile ---- */

static int fold_piece(struct colo_disk *d, uint64_t offset, uint32_t len, const void *data,
                      uint8_t *buf)
{
    uint64_t chunk = offset / COLO_CHUNK;
    uint32_t from = (uint32_t)(offset % COLO_CHUNK);
    int r = colo_view_put(&d->v, chunk, from, len, data, true);

    if (r == ENOSPC)
        return EAGAIN; /* when the fold is over, no room is needed */
    if (r == 0)
        r = runs_of(d, chunk, colo_view_blocks(from, len), buf, to_journal);
    if (r && colo_journal_broken(&d->journal))
        r = colo_disk_state(d) == COLO_DISK_FOLDING ? EAGAIN : 0; /* not durable yet: go without */
    if (r)
        return r;
    return data ? colo_target_write(&d->target, data, len, offset)
                : colo_target_zero(&d->target, offset, len, COLO_ZERO_TRIM);
}

int colo_disk_fold_write(struct colo_disk *d, const void *data, uint64_t len, uint64_t offset)
{
    const uint8_t *in = data;
    uint8_t *buf = malloc(COLO_CHUNK);
    int r = buf ? 0 : ENOMEM;

    while (len > 0 && r == 0) {
        uint32_t room = COLO_CHUNK - (uint32_t)(offset % COLO_CHUNK);
        uint32_t n = len < room ? (uint32_t)len : room;

        colo_overlay_lock(&d->overlay, offset / COLO_CHUNK, true);
        r = fold_piece(d, offset, n, in, buf);
        colo_overlay_unlock(&d->overlay, offset / COLO_CHUNK);
        in = in ? in + n : NULL;
        offset += n;
        len -= n;
    }
    free(buf);
    return r == EAGAIN ? r : colo_disk_trouble(d, r, "disk-io", "the guest's write fails");
}

/* ---- the steps ---- */

static void without_journal(struct colo_disk *d)
{
    colo_journal_drop(&d->journal);
    unlink(d->journal_path); /* the record may need its room */
    pthread_mutex_lock(&d->lock);
    d->unjournaled = true;
    pthread_mutex_unlock(&d->lock);
}

/* What the primary wrote, and what the overlays hold, survives from here on. */
static void make_durable(struct colo_disk *d, const struct fold *f)
{
    struct colo_err err = {0};
    int r = all_chunks(d, f, to_journal);
    bool marked = false;

    d->record.journal_id = d->journal.id;
    pthread_mutex_lock(&d->journal.lock);
    d->record.journal_len = d->journal.len;
    pthread_mutex_unlock(&d->journal.lock);
    if (r == 0)
        r = colo_journal_flush(&d->journal);
    if (colo_disk_trouble(d, r, "disk-journal", "the fold goes on without its journal") == 0 &&
        colo_disk_lose(d, colo_target_flush(&d->target)) == 0) {
        /* nobody may find the journal broken, and go without it, while it is made the truth */
        colo_gate_close(&d->gate, COLO_NO_DEADLINE, NULL);
        if (!colo_journal_broken(&d->journal))
            marked = colo_disk_mark(d, COLO_DISK_FOLDING, &err) == 0 &&
                     colo_disk_move(d, COLO_DISK_FOLDING);
        colo_gate_open(&d->gate);
    }
    if (!marked)
        without_journal(d);
    if (err.cls != COLO_OK)
        colo_disk_trouble(d, EIO, "disk-record", err.msg);
}

/* All is on the disk, durably: there are no overlays any more. */
static int make_plain(struct colo_disk *d)
{
    struct colo_err err = {0};

    if (colo_disk_lose(d, colo_target_flush(&d->target)))
        return -1;
    if (colo_disk_mark(d, COLO_DISK_STANDALONE, &err)) {
        colo_disk_trouble(d, EIO, "disk-record", err.msg);
        return -1;
    }
    colo_gate_close(&d->gate, COLO_NO_DEADLINE, NULL);
    d->view = false;
    colo_disk_move(d, COLO_DISK_STANDALONE);
    colo_overlay_reset(&d->overlay);
    colo_gate_open(&d->gate);
    colo_journal_fini(&d->journal);
    unlink(d->journal_path);
    colo_slots_trim(&d->overlay.slots, 0);
    return 0;
}

/* Something does not work now; it may a second later.  False: the server ends. */
static bool pause_fold(struct colo_disk *d)
{
    struct timespec ts;
    bool closing;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    ts.tv_sec += RETRY_SECONDS;
    pthread_mutex_lock(&d->lock);
    while (!d->closing && pthread_cond_timedwait(&d->moved, &d->lock, &ts) == 0)
        ;
    closing = d->closing;
    pthread_mutex_unlock(&d->lock);
    return !closing;
}

static void *fold(void *arg)
{
    struct colo_disk *d = arg;
    struct fold f = {.buf = malloc(COLO_CHUNK)};

    pthread_mutex_lock(&d->lock);
    while (d->state != COLO_DISK_TAKEOVER && !d->closing)
        pthread_cond_wait(&d->moved, &d->lock);
    pthread_mutex_unlock(&d->lock);
    f.chunk = colo_overlay_chunks(&d->overlay, &f.nr);
    if (!f.buf || (!f.chunk && f.nr)) {
        colo_disk_trouble(d, ENOMEM, "disk-io", "the overlays are not brought to the disk");
        goto out;
    }
    __atomic_store_n(&d->fold_total, f.nr, __ATOMIC_RELAXED);
    if (!d->unjournaled)
        make_durable(d, &f);
    while (!colo_disk_lost(d)) {
        if (colo_disk_trouble(d, all_chunks(d, &f, to_target), "disk-io",
                              "the overlays are not brought to the disk") == 0 &&
            make_plain(d) == 0)
            break;
        if (!pause_fold(d))
            break;
    }
out:
    free(f.chunk);
    free(f.buf);
    return NULL;
}

int colo_disk_fold_start(struct colo_disk *d, struct colo_err *err)
{
    struct colo_err why = {0};
    int r;

    if (colo_journal_create(&d->journal, d->journal_path, d->target.size, &why)) {
        without_journal(d);
        colo_disk_trouble(d, EIO, "disk-journal", why.msg);
    }
    r = pthread_create(&d->folder, NULL, fold, d);
    if (r)
        return colo_fail_errno(err, r, "a thread for the fold");
    d->has_folder = true;
    colo_disk_move(d, COLO_DISK_TAKEOVER);
    return 0;
}

void colo_disk_fold_end(struct colo_disk *d)
{
    if (!d->has_folder)
        return;
    pthread_mutex_lock(&d->lock);
    d->closing = true;
    pthread_cond_broadcast(&d->moved);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->folder, NULL);
    d->has_folder = false;
}

/* ---- after a crash ---- */

static int replay_run(void *priv, uint64_t block, uint32_t nr, const void *data)
{
    return write_run(priv, block, nr, data);
}

int colo_disk_replay(struct colo_target *t, const char *path, uint64_t id, uint64_t least,
                     struct colo_journal_found *found, struct colo_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), rc, r;

    if (fd < 0)
        return colo_fail_errno(err, errno, "the journal %s", path);
    /* first without the disk: a journal that is damaged changes nothing */
    rc = colo_journal_read(fd, id, least, NULL, NULL, found, err);
    if (rc == 0 && found->size != t->size)
        rc = colo_fail(err, COLO_ERR_PROTOCOL, "disk-journal", "the journal %s is another disk's",
                       path);
    if (rc == 0)
        rc = colo_journal_read(fd, id, least, replay_run, t, found, err);
    close(fd);
    if (rc)
        return -1;
    r = colo_target_flush(t);
    return r ? colo_fail_errno(err, r, "the disk") : 0;
}
