/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The wire form of a digest, little-endian: the header below, then the hashes of the context's
 * parts, their types, a bitmap of the gfns that have a page, padded to 8 bytes, and the hashes of
 * these pages in order.  Nothing may follow.
 */
#include "xc_sr_verify.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "xc_sr_stream_format.h"

#define MAX_GFNS  (UINT64_C(1) << 28) /* a guest of 1 TiB */
#define MAX_PARTS 65536u

struct wire {
    uint64_t magic;
    uint64_t nr_gfns;
    uint64_t nr_parts;
    uint64_t context, devices;
};
#define MAGIC UINT64_C(0x31747365676964) /* "digest1" */

static size_t bitmap_words(uint64_t nr_gfns)
{
    return (size_t)((nr_gfns + 63) / 64);
}

static size_t types_bytes(size_t n)
{
    return (n * 4 + 7) / 8 * 8;
}

int xc_sr_digest_pack(const struct xc_sr_digest *d, void **buf, size_t *len, struct colo_err *err)
{
    struct wire w = {
        .magic = htole64(MAGIC),
        .nr_gfns = htole64(d->nr_gfns),
        .nr_parts = htole64(d->nr_context_parts),
        .context = htole64(d->context),
        .devices = htole64(d->devices),
    };
    size_t bits = bitmap_words(d->nr_gfns), npages = 0, total;
    uint64_t *map, *p;
    uint32_t *types;

    if (d->nr_gfns > MAX_GFNS || d->nr_context_parts > MAX_PARTS)
        return colo_fail_errno(err, EFBIG, "a digest of %llu pages",
                               (unsigned long long)d->nr_gfns);
    for (uint64_t g = 0; g < d->nr_gfns; g++)
        npages += d->pages[g] != 0;
    total = sizeof(w) + d->nr_context_parts * 8 + types_bytes(d->nr_context_parts) +
            (bits + npages) * 8;
    if (total > XC_SR_RECORD_MAX)
        return colo_fail_errno(err, EFBIG, "a digest of %zu bytes", total);
    *buf = calloc(1, total);
    if (!*buf)
        return colo_fail_errno(err, ENOMEM, "a digest of %zu bytes", total);
    *len = total;

    memcpy(*buf, &w, sizeof(w));
    p = (uint64_t *)((unsigned char *)*buf + sizeof(w));
    for (size_t i = 0; i < d->nr_context_parts; i++)
        *p++ = htole64(d->context_parts[i]);
    types = (uint32_t *)p;
    for (size_t i = 0; i < d->nr_context_parts; i++)
        types[i] = htole32(d->context_types[i]);
    map = p + types_bytes(d->nr_context_parts) / 8;
    p = map + bits;
    for (uint64_t g = 0; g < d->nr_gfns; g++) {
        if (d->pages[g]) {
            map[g / 64] |= htole64(UINT64_C(1) << (g % 64));
            *p++ = htole64(d->pages[g]);
        }
    }
    return 0;
}

/* Take n bytes from the front. */
static const unsigned char *take(const unsigned char **p, size_t *left, size_t n)
{
    const unsigned char *at = *p;

    if (n > *left)
        return NULL;
    *p += n;
    *left -= n;
    return at;
}

static uint64_t get64(const unsigned char *p, size_t i)
{
    uint64_t v;

    memcpy(&v, p + i * 8, 8);
    return le64toh(v);
}

static int bad(struct colo_err *err, const char *what)
{
    return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "a digest with %s", what);
}

static int unpack_parts(struct xc_sr_digest *out, size_t n, const unsigned char *hashes,
                        const unsigned char *types, struct colo_err *err)
{
    uint32_t v;

    if (n == 0)
        return 0;
    out->context_parts = calloc(n, sizeof(*out->context_parts));
    out->context_types = calloc(n, sizeof(*out->context_types));
    if (!out->context_parts || !out->context_types)
        return colo_fail_errno(err, ENOMEM, "a digest");
    out->nr_context_parts = n;
    for (size_t i = 0; i < n; i++) {
        memcpy(&v, types + i * 4, 4);
        out->context_types[i] = le32toh(v);
        out->context_parts[i] = get64(hashes, i);
    }
    return 0;
}

/* The array is calloc'ed and only touched where there are pages: a map of holes costs little. */
static int unpack_pages(struct xc_sr_digest *out, uint64_t nr_gfns, const unsigned char *map,
                        const unsigned char *p, size_t left, struct colo_err *err)
{
    size_t used = 0;

    out->pages = calloc(nr_gfns ? nr_gfns : 1, sizeof(*out->pages));
    if (!out->pages)
        return colo_fail_errno(err, ENOMEM, "a digest of %llu pages", (unsigned long long)nr_gfns);
    out->nr_gfns = nr_gfns;
    for (size_t i = 0; i < bitmap_words(nr_gfns); i++) {
        uint64_t word = get64(map, i);

        for (; word; word &= word - 1) {
            uint64_t g = i * 64 + (uint64_t)__builtin_ctzll(word);

            if (g >= nr_gfns)
                return bad(err, "a page beyond its end");
            if (used == left / 8)
                return bad(err, "fewer pages than it says");
            out->pages[g] = get64(p, used++);
            if (!out->pages[g])
                return bad(err, "a page of hash 0");
        }
    }
    if (used * 8 != left)
        return bad(err, "more than belongs to it");
    return 0;
}

int xc_sr_digest_unpack(const void *buf, size_t len, struct xc_sr_digest *out, struct colo_err *err)
{
    const unsigned char *p = buf, *hashes, *types, *map;
    size_t left = len;
    struct wire w;
    int rc = -1;

    memset(out, 0, sizeof(*out));
    if (left < sizeof(w))
        return bad(err, "no header");
    memcpy(&w, p, sizeof(w));
    p += sizeof(w);
    left -= sizeof(w);
    w.nr_gfns = le64toh(w.nr_gfns);
    w.nr_parts = le64toh(w.nr_parts);
    if (le64toh(w.magic) != MAGIC)
        return bad(err, "another form");
    if (w.nr_gfns > MAX_GFNS || w.nr_parts > MAX_PARTS)
        return bad(err, "impossible sizes");
    hashes = take(&p, &left, (size_t)w.nr_parts * 8);
    types = hashes ? take(&p, &left, types_bytes((size_t)w.nr_parts)) : NULL;
    map = types ? take(&p, &left, bitmap_words(w.nr_gfns) * 8) : NULL;
    if (!map)
        return bad(err, "less than it says");

    out->context = le64toh(w.context);
    out->devices = le64toh(w.devices);
    if (unpack_parts(out, (size_t)w.nr_parts, hashes, types, err) ||
        unpack_pages(out, w.nr_gfns, map, p, left, err))
        goto out;
    rc = 0;

out:
    if (rc)
        xc_sr_digest_free(out);
    return rc;
}
