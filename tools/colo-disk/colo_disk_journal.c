/* SPDX-License-Identifier: GPL-2.0-only */
#include "colo_disk_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "colo_file.h"

#define MAGIC  "XenColoJ"
#define RECORD 0x4c4a4358u /* "XCJL" */

/* Little-endian, as are the hosts. */
struct header {
    char magic[8];
    uint32_t version, block;
    uint64_t size;
    uint64_t id;
    uint64_t sum; /* of what is before it */
} __attribute__((packed));
_Static_assert(sizeof(struct header) == 40, "on disk");

struct record {
    uint32_t magic;
    uint16_t blocks; /* 1 .. 64 */
    uint16_t zero;   /* 1: no data follows */
    uint64_t block;  /* the first one */
    uint64_t data;   /* checksum of the data */
    uint64_t sum;    /* of what is before it, seeded with the journal's id and the offset */
} __attribute__((packed));
_Static_assert(sizeof(struct record) == 32, "on disk");

void colo_journal_init(struct colo_journal *j)
{
    memset(j, 0, sizeof(*j));
    j->fd = -1;
    pthread_mutex_init(&j->lock, NULL);
}

void colo_journal_fini(struct colo_journal *j)
{
    if (j->fd >= 0)
        close(j->fd);
    j->fd = -1;
}

/* ---- writing ---- */

int colo_journal_create(struct colo_journal *j, const char *path, uint64_t size,
                        struct colo_err *err)
{
    struct header h = {.version = 1, .block = COLO_BLOCK, .size = size};
    int r;

    memcpy(h.magic, MAGIC, sizeof(h.magic));
    if (getrandom(&h.id, sizeof(h.id), 0) != sizeof(h.id))
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "no random numbers");
    h.sum = XXH3_64bits(&h, offsetof(struct header, sum));
    colo_journal_fini(j);
    j->broken = false;
    unlink(path);
    j->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (j->fd < 0)
        return colo_fail_errno(err, errno, "the journal %s", path);
    r = colo_write_at(j->fd, &h, sizeof(h), 0);
    if (r)
        return colo_fail_errno(err, r, "the journal %s", path);
    j->id = h.id;
    j->len = sizeof(h);
    return 0;
}

int colo_journal_append(struct colo_journal *j, uint64_t block, uint32_t nr, const void *data)
{
    struct record rec = {
        .magic = RECORD, .blocks = (uint16_t)nr, .zero = data ? 0 : 1, .block = block};
    size_t len = data ? (size_t)nr * COLO_BLOCK : 0;
    int r;

    if (data)
        rec.data = XXH3_64bits(data, len);
    pthread_mutex_lock(&j->lock);
    rec.sum = XXH3_64bits_withSeed(&rec, offsetof(struct record, sum), j->id ^ j->len);
    r = j->broken || j->fd < 0 ? EIO : colo_write_at(j->fd, &rec, sizeof(rec), j->len);
    if (r == 0 && data)
        r = colo_write_at(j->fd, data, len, j->len + sizeof(rec));
    if (r)
        j->broken = true;
    else
        j->len += sizeof(rec) + len;
    pthread_mutex_unlock(&j->lock);
    return r;
}

bool colo_journal_broken(struct colo_journal *j)
{
    bool broken;

    pthread_mutex_lock(&j->lock);
    broken = j->broken;
    pthread_mutex_unlock(&j->lock);
    return broken;
}

void colo_journal_drop(struct colo_journal *j)
{
    pthread_mutex_lock(&j->lock);
    j->broken = true;
    if (j->fd >= 0)
        (void)!ftruncate(j->fd, 0);
    pthread_mutex_unlock(&j->lock);
}

int colo_journal_flush(struct colo_journal *j)
{
    int r;

    do
        r = fdatasync(j->fd);
    while (r && errno == EINTR);
    return r ? errno : 0;
}

/* ---- reading ---- */

static int bad(struct colo_err *err, const char *what)
{
    return colo_fail(err, COLO_ERR_PROTOCOL, "disk-journal", "the journal: %s", what);
}

static int read_header(int fd, uint64_t id, struct header *h, struct colo_err *err)
{
    ssize_t n = colo_read_at(fd, h, sizeof(*h), 0);

    if (n < 0)
        return colo_fail_errno(err, errno, "the journal");
    if (n != sizeof(*h) || memcmp(h->magic, MAGIC, sizeof(h->magic)) != 0 ||
        h->sum != XXH3_64bits(h, offsetof(struct header, sum)))
        return bad(err, "it has no header");
    if (h->version != 1 || h->block != COLO_BLOCK || h->size == 0)
        return bad(err, "it is of another version");
    if (id && h->id != id)
        return bad(err, "it is that of another takeover");
    return 0;
}

/* 1: a whole record, 0: none follows, -1: errno. */
static int next_record(int fd, const struct header *h, uint64_t at, struct record *rec, void *data)
{
    const uint64_t blocks = (h->size + COLO_BLOCK - 1) / COLO_BLOCK;
    ssize_t n = colo_read_at(fd, rec, sizeof(*rec), at), len;

    if (n < 0)
        return -1;
    if (n != sizeof(*rec) || rec->magic != RECORD || rec->zero > 1 || rec->blocks == 0 ||
        rec->blocks > COLO_CHUNK_BLOCKS || rec->block >= blocks ||
        rec->blocks > blocks - rec->block ||
        rec->sum != XXH3_64bits_withSeed(rec, offsetof(struct record, sum), h->id ^ at))
        return 0;
    if (rec->zero)
        return rec->data == 0;
    len = rec->blocks * (ssize_t)COLO_BLOCK;
    n = colo_read_at(fd, data, (size_t)len, at + sizeof(*rec));
    if (n < 0)
        return -1;
    return n == len && rec->data == XXH3_64bits(data, (size_t)len);
}

int colo_journal_read(int fd, uint64_t id, uint64_t least, colo_journal_each *each, void *priv,
                      struct colo_journal_found *found, struct colo_err *err)
{
    uint8_t *data = malloc(COLO_CHUNK);
    struct record rec;
    struct header h;
    int r, rc = -1;

    memset(found, 0, sizeof(*found));
    if (!data)
        return colo_fail_errno(err, ENOMEM, "the journal");
    if (read_header(fd, id, &h, err))
        goto out;
    found->id = h.id;
    found->size = h.size;
    found->len = sizeof(h);
    while ((r = next_record(fd, &h, found->len, &rec, data)) > 0) {
        r = each ? each(priv, rec.block, rec.blocks, rec.zero ? NULL : data) : 0;
        if (r) {
            colo_fail_errno(err, r, "what the journal holds cannot be brought to the disk");
            goto out;
        }
        found->len += sizeof(rec) + (rec.zero ? 0 : rec.blocks * COLO_BLOCK);
        found->blocks += rec.blocks;
    }
    if (r < 0)
        colo_fail_errno(err, errno, "the journal");
    else if (found->len < least)
        bad(err, "it is damaged");
    else
        rc = 0;
out:
    free(data);
    return rc;
}
