/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The order that makes this right without a lock around reads of the disk: the primary changes a block
 * of the disk only after it is covered.  So what was read from the disk is the view's, unless the
 * block has become covered by the time that one looks afterwards.
 */
#include "colo_view.h"

#include <string.h>

/* How many blocks are saved at a time; they are on the stack meanwhile. */
#define SAVE_BLOCKS 16u

/* The part of [offset, offset + len) that is in offset's chunk. */
struct piece {
    uint64_t chunk, base; /* base: where the chunk begins on the disk */
    uint32_t from, len;
};

static struct piece piece_at(uint64_t offset, uint64_t len)
{
    struct piece p = {.chunk = offset / COLO_CHUNK, .from = (uint32_t)(offset % COLO_CHUNK)};

    p.base = p.chunk * COLO_CHUNK;
    p.len = len < COLO_CHUNK - p.from ? (uint32_t)len : COLO_CHUNK - p.from;
    return p;
}

colo_blocks colo_view_blocks(uint32_t from, uint32_t len)
{
    uint32_t first = from / COLO_BLOCK, last = (from + len - 1) / COLO_BLOCK;

    return colo_blocks_range(first, last - first + 1);
}

/* ---- reading ---- */

static int read_gaps(const struct colo_view *v, const struct piece *p, colo_blocks gaps,
                     uint8_t *out)
{
    uint32_t b = 0, nr, begin, end;
    int r;

    for (; colo_blocks_run(gaps, b, &b, &nr); b += nr) {
        begin = b * COLO_BLOCK;
        end = begin + nr * COLO_BLOCK;
        if (begin < p->from)
            begin = p->from;
        if (end > p->from + p->len)
            end = p->from + p->len;
        r = colo_target_read(v->target, out + (begin - p->from), end - begin, p->base + begin);
        if (r)
            return r;
    }
    return 0;
}

static int read_piece(const struct colo_view *v, const struct piece *p, uint8_t *out)
{
    colo_blocks want = colo_view_blocks(p->from, p->len), gaps = want;
    const struct colo_node *n;
    uint64_t change;
    int r = 0;

    colo_overlay_lock(v->overlay, p->chunk, false);
    n = colo_overlay_look(v->overlay, p->chunk);
    if (n) {
        gaps &= ~n->covered;
        r = colo_overlay_get(v->overlay, n, want, p->from, p->len, out);
    }
    change = colo_overlay_change(v->overlay, p->chunk);
    colo_overlay_unlock(v->overlay, p->chunk);
    if (r || !gaps)
        return r;
    r = read_gaps(v, p, gaps, out);
    if (r)
        return r;
    colo_overlay_lock(v->overlay, p->chunk, false);
    n = colo_overlay_look(v->overlay, p->chunk);
    if (n && colo_overlay_change(v->overlay, p->chunk) != change)
        r = colo_overlay_get(v->overlay, n, gaps, p->from, p->len, out);
    colo_overlay_unlock(v->overlay, p->chunk);
    return r;
}

int colo_view_read(const struct colo_view *v, void *buf, uint64_t len, uint64_t offset)
{
    uint8_t *out = buf;
    int r = 0;

    while (len > 0 && r == 0) {
        struct piece p = piece_at(offset, len);

        r = read_piece(v, &p, out);
        out += p.len;
        offset += p.len;
        len -= p.len;
    }
    return r;
}

/* ---- writing ---- */

static const uint8_t zeroes[COLO_BLOCK];

/* Part of one block; what else it holds stays as it is. */
static int put_part(const struct colo_view *v, uint64_t chunk, uint32_t at, uint32_t len,
                    const uint8_t *data, bool only_covered)
{
    uint32_t b = at / COLO_BLOCK, from = at % COLO_BLOCK;
    const struct colo_node *n = colo_overlay_look(v->overlay, chunk);
    uint8_t whole[COLO_BLOCK];
    int r;

    if (!data)
        data = zeroes;
    if (n && n->covered >> b & 1)
        return colo_overlay_patch(v->overlay, chunk, b, from, data, len);
    if (only_covered)
        return 0;
    r = colo_target_read(v->target, whole, sizeof(whole),
                         chunk * COLO_CHUNK + (uint64_t)b * COLO_BLOCK);
    if (r)
        return r;
    memcpy(whole + from, data, len);
    return colo_overlay_put(v->overlay, chunk, b, 1, whole, true);
}

static int put_whole(const struct colo_view *v, uint64_t chunk, uint32_t first, uint32_t nr,
                     const uint8_t *data, bool only_covered)
{
    const struct colo_node *n;
    colo_blocks blocks = colo_blocks_range(first, nr);
    uint32_t b = 0;
    int r = 0;

    if (only_covered) {
        n = colo_overlay_look(v->overlay, chunk);
        blocks &= n ? n->covered : 0;
    }
    for (; r == 0 && colo_blocks_run(blocks, b, &b, &nr); b += nr)
        r = colo_overlay_put(v->overlay, chunk, b, nr,
                             data ? data + (size_t)(b - first) * COLO_BLOCK : NULL, true);
    return r;
}

int colo_view_put(const struct colo_view *v, uint64_t chunk, uint32_t from, uint32_t len,
                  const void *data, bool only_covered)
{
    const uint8_t *d = data;
    uint32_t n;
    int r = 0;

    while (len > 0 && r == 0) {
        if (from % COLO_BLOCK || len < COLO_BLOCK) {
            n = COLO_BLOCK - from % COLO_BLOCK;
            n = n < len ? n : len;
            r = put_part(v, chunk, from, n, d, only_covered);
        } else {
            n = len - len % COLO_BLOCK;
            r = put_whole(v, chunk, from / COLO_BLOCK, n / COLO_BLOCK, d, only_covered);
        }
        d = d ? d + n : NULL;
        from += n;
        len -= n;
    }
    return r;
}

int colo_view_write(const struct colo_view *v, const void *buf, uint64_t len, uint64_t offset)
{
    const uint8_t *in = buf;
    int r = 0;

    while (len > 0 && r == 0) {
        struct piece p = piece_at(offset, len);

        colo_overlay_lock(v->overlay, p.chunk, true);
        r = colo_view_put(v, p.chunk, p.from, p.len, in, false);
        colo_overlay_unlock(v->overlay, p.chunk);
        in += p.len;
        offset += p.len;
        len -= p.len;
    }
    return r;
}

/* ---- what the primary is about to overwrite ---- */

static int save_piece(const struct colo_view *v, const struct piece *p)
{
    uint8_t buf[SAVE_BLOCKS * COLO_BLOCK];
    colo_blocks gaps = colo_view_blocks(p->from, p->len);
    const struct colo_node *n = colo_overlay_look(v->overlay, p->chunk);
    uint32_t b = 0, nr;
    int r = 0;

    if (n)
        gaps &= ~n->covered;
    for (; r == 0 && colo_blocks_run(gaps, b, &b, &nr); b += nr) {
        nr = nr < SAVE_BLOCKS ? nr : SAVE_BLOCKS;
        r = colo_target_read(v->target, buf, nr * (size_t)COLO_BLOCK,
                             p->base + (uint64_t)b * COLO_BLOCK);
        if (r == 0)
            r = colo_overlay_put(v->overlay, p->chunk, b, nr, buf, false);
    }
    return r;
}

static int save_range(const struct colo_view *v, uint64_t offset, uint64_t len)
{
    int r = 0;

    while (len > 0 && r == 0) {
        struct piece p = piece_at(offset, len);

        colo_overlay_lock(v->overlay, p.chunk, true);
        r = save_piece(v, &p);
        colo_overlay_unlock(v->overlay, p.chunk);
        offset += p.len;
        len -= p.len;
    }
    return r;
}

int colo_view_save(const struct colo_view *v, uint64_t offset, uint64_t len, bool zero)
{
    uint64_t end = offset + len, until = end;
    bool data = true;
    int r = 0;

    while (offset < end && r == 0) {
        until = end;
        if (zero)
            r = colo_target_extent(v->target, offset, end, &data, &until);
        if (r == 0 && data)
            r = save_range(v, offset, until - offset);
        offset = until;
    }
    return r;
}

/* ---- zeroes and holes ---- */

/* An extent of the disk, looked up before the overlay is (see the top). */
struct extent {
    uint64_t begin, end;
    bool data;
};

static int extent_at(const struct colo_view *v, uint64_t offset, uint64_t limit, struct extent *e)
{
    if (offset >= e->begin && offset < e->end)
        return 0;
    e->begin = offset;
    return colo_target_extent(v->target, offset, limit, &e->data, &e->end);
}

static int zero_piece(const struct colo_view *v, const struct piece *p, const struct extent *e)
{
    uint64_t at = p->base + p->from;
    bool hole = !e->data && e->begin <= at && e->end >= at + p->len;

    return colo_view_put(v, p->chunk, p->from, p->len, NULL, hole);
}

int colo_view_zero(const struct colo_view *v, uint64_t offset, uint64_t len)
{
    uint64_t end = offset + len;
    struct extent e = {0};
    int r = 0;

    while (len > 0 && r == 0) {
        struct piece p = piece_at(offset, len);

        r = extent_at(v, offset, end, &e);
        if (r)
            break;
        colo_overlay_lock(v->overlay, p.chunk, true);
        r = zero_piece(v, &p, &e);
        colo_overlay_unlock(v->overlay, p.chunk);
        offset += p.len;
        len -= p.len;
    }
    return r;
}

/* The runs of one piece, by what the disk and the overlay have there. */
static int extents_of_piece(const struct colo_view *v, const struct piece *p, uint64_t limit,
                            struct extent *e, colo_view_each *each, void *priv)
{
    uint64_t at = p->base + p->from, end = at + p->len, stop;
    colo_blocks covered, zero;
    const struct colo_node *n;
    bool data;
    int r;

    while (at < end) {
        uint32_t b = (uint32_t)((at - p->base) / COLO_BLOCK);

        r = extent_at(v, at, limit, e);
        if (r)
            return r;
        colo_overlay_lock(v->overlay, p->chunk, false);
        n = colo_overlay_look(v->overlay, p->chunk);
        covered = n ? n->covered : 0;
        zero = n ? n->zero : 0;
        colo_overlay_unlock(v->overlay, p->chunk);
        stop = p->base + (uint64_t)(b + 1) * COLO_BLOCK;
        data = covered >> b & 1 ? !(zero >> b & 1) : e->data;
        if (!covered) /* as far as the disk says the same */
            stop = e->end;
        else if (!(covered >> b & 1) && stop > e->end)
            stop = e->end;
        if (stop > end)
            stop = end;
        r = each(priv, at, stop - at, data);
        if (r)
            return r;
        at = stop;
    }
    return 0;
}

int colo_view_extents(const struct colo_view *v, uint64_t offset, uint64_t len,
                      colo_view_each *each, void *priv)
{
    uint64_t limit = offset + len;
    struct extent e = {0};
    int r = 0;

    while (len > 0 && r == 0) {
        struct piece p = piece_at(offset, len);

        r = extents_of_piece(v, &p, limit, &e, each, priv);
        offset += p.len;
        len -= p.len;
    }
    return r;
}
