/* SPDX-License-Identifier: GPL-2.0-only */
#include "colo_overlay.h"

#include <Judy.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NO_SLOT UINT32_MAX

colo_blocks colo_blocks_range(uint32_t first, uint32_t nr)
{
    return (nr >= COLO_CHUNK_BLOCKS ? ~(colo_blocks)0 : ((colo_blocks)1 << nr) - 1) << first;
}

bool colo_blocks_run(colo_blocks set, uint32_t from, uint32_t *first, uint32_t *nr)
{
    colo_blocks rest = from < COLO_CHUNK_BLOCKS ? set >> from : 0;

    if (!rest)
        return false;
    *first = from + (uint32_t)__builtin_ctzll(rest);
    rest = ~(set >> *first);
    *nr = rest ? (uint32_t)__builtin_ctzll(rest) : COLO_CHUNK_BLOCKS;
    return true;
}

static struct colo_overlay_stripe *stripe_of(struct colo_overlay *o, uint64_t chunk)
{
    return &o->stripe[chunk % COLO_STRIPES];
}

int colo_overlay_init(struct colo_overlay *o, const struct colo_slots_config *cfg,
                      struct colo_err *err)
{
    pthread_rwlockattr_t attr;

    memset(o, 0, sizeof(*o));
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    for (uint32_t i = 0; i < COLO_STRIPES; i++)
        pthread_rwlock_init(&o->stripe[i].lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    return colo_slots_init(&o->slots, cfg, err);
}

void colo_overlay_fini(struct colo_overlay *o)
{
    colo_overlay_reset(o);
    for (uint32_t i = 0; i < COLO_STRIPES; i++)
        pthread_rwlock_destroy(&o->stripe[i].lock);
    colo_slots_fini(&o->slots);
    pthread_mutex_destroy(&o->slots.lock);
}

void colo_overlay_lock(struct colo_overlay *o, uint64_t chunk, bool exclusive)
{
    if (exclusive)
        pthread_rwlock_wrlock(&stripe_of(o, chunk)->lock);
    else
        pthread_rwlock_rdlock(&stripe_of(o, chunk)->lock);
}

void colo_overlay_unlock(struct colo_overlay *o, uint64_t chunk)
{
    pthread_rwlock_unlock(&stripe_of(o, chunk)->lock);
}

uint64_t colo_overlay_change(struct colo_overlay *o, uint64_t chunk)
{
    return stripe_of(o, chunk)->change;
}

static struct colo_node *find(struct colo_overlay *o, uint64_t chunk)
{
    void **value = JudyLGet(stripe_of(o, chunk)->map, chunk, PJE0);

    return value ? *value : NULL;
}

const struct colo_node *colo_overlay_look(struct colo_overlay *o, uint64_t chunk)
{
    return find(o, chunk);
}

static struct colo_node *find_or_add(struct colo_overlay *o, uint64_t chunk)
{
    struct colo_overlay_stripe *s = stripe_of(o, chunk);
    struct colo_node *n = find(o, chunk);
    void **value;

    if (n)
        return n;
    n = calloc(1, sizeof(*n));
    if (!n)
        return NULL;
    value = JudyLIns(&s->map, chunk, PJE0);
    if (value == PPJERR) {
        free(n);
        return NULL;
    }
    *value = n;
    s->nodes++;
    s->bytes += sizeof(*n);
    return n;
}

static int need_slots(struct colo_overlay_stripe *s, struct colo_node *n)
{
    if (n->slot)
        return 0;
    n->slot = malloc(COLO_CHUNK_BLOCKS * sizeof(*n->slot));
    if (!n->slot)
        return ENOMEM;
    s->bytes += COLO_CHUNK_BLOCKS * sizeof(*n->slot);
    for (uint32_t i = 0; i < COLO_CHUNK_BLOCKS; i++)
        n->slot[i] = NO_SLOT;
    return 0;
}

/* Account for blocks that are covered now. */
static void cover(struct colo_overlay_stripe *s, struct colo_node *n, colo_blocks blocks, bool zero,
                  bool active)
{
    colo_blocks fresh = blocks & ~n->covered;

    s->active -= (uint64_t)__builtin_popcountll(n->active);
    s->hidden -= (uint64_t)__builtin_popcountll(n->covered & ~n->active);
    n->covered |= blocks;
    n->zero = zero ? n->zero | blocks : n->zero & ~blocks;
    if (active)
        n->active |= blocks;
    s->active += (uint64_t)__builtin_popcountll(n->active);
    s->hidden += (uint64_t)__builtin_popcountll(n->covered & ~n->active);
    if (fresh)
        s->change++;
}

/* ---- reading ---- */

/* What of bytes [from, from + len) is in block b: [*at, *at + *n), *at from the chunk's start. */
static void part_of(uint32_t b, uint32_t from, uint32_t len, uint32_t *at, uint32_t *n)
{
    uint32_t begin = b * COLO_BLOCK, end = begin + COLO_BLOCK;

    *at = begin < from ? from : begin;
    *n = (end > from + len ? from + len : end) - *at;
}

int colo_overlay_get(struct colo_overlay *o, const struct colo_node *n, colo_blocks blocks,
                     uint32_t from, uint32_t len, void *buf)
{
    uint8_t *out = buf;
    uint32_t at, part, more, last;
    int r;

    blocks &= n->covered;
    for (uint32_t b = 0; blocks; b++) {
        b += (uint32_t)__builtin_ctzll(blocks >> b);
        part_of(b, from, len, &at, &part);
        if (n->zero >> b & 1) {
            memset(out + (at - from), 0, part);
            blocks &= ~((colo_blocks)1 << b);
        } else { /* with those whose slots follow in a row */
            last = b;
            while (last + 1 < COLO_CHUNK_BLOCKS && blocks >> (last + 1) & 1 &&
                   !(n->zero >> (last + 1) & 1) && n->slot[last + 1] == n->slot[last] + 1) {
                uint32_t next;

                last++;
                part_of(last, from, len, &next, &more);
                part += more;
            }
            r = colo_slots_read(&o->slots, n->slot[b], at - b * COLO_BLOCK, out + (at - from),
                                part);
            if (r)
                return r;
            blocks &= ~colo_blocks_range(b, last - b + 1);
            b = last;
        }
        if (b + 1 == COLO_CHUNK_BLOCKS)
            break;
    }
    return 0;
}

/* ---- writing ---- */

static bool is_zero(const uint8_t *b)
{
    return b[0] == 0 && !memcmp(b, b + 1, COLO_BLOCK - 1);
}

static void put_zeroes(struct colo_overlay *o, struct colo_overlay_stripe *s, struct colo_node *n,
                       colo_blocks blocks, bool active)
{
    colo_blocks given = blocks & n->covered & ~n->zero;

    for (; given; given &= given - 1) {
        uint32_t b = (uint32_t)__builtin_ctzll(given);

        colo_slots_give(&o->slots, n->slot[b]);
        n->slot[b] = NO_SLOT;
    }
    cover(s, n, blocks, true, active);
}

/* Blocks without slots, up to nr from b on, get some; *got tells how many did. */
static int put_new(struct colo_overlay *o, struct colo_overlay_stripe *s, struct colo_node *n,
                   uint32_t b, uint32_t nr, const uint8_t *data, bool active, uint32_t *got)
{
    colo_slot first;
    int r = colo_slots_take(&o->slots, active, nr, &first, got);

    if (r)
        return r;
    r = colo_slots_write(&o->slots, first, 0, data, *got * COLO_BLOCK);
    for (uint32_t i = 0; i < *got; i++) {
        if (r)
            colo_slots_give(&o->slots, first + i);
        else
            n->slot[b + i] = first + i;
    }
    if (r == 0)
        cover(s, n, colo_blocks_range(b, *got), false, active);
    return r;
}

/* Blocks with slots, up to nr from b on, as far as those are in a row. */
static int put_over(struct colo_overlay *o, struct colo_overlay_stripe *s, struct colo_node *n,
                    uint32_t b, uint32_t nr, const uint8_t *data, bool active, uint32_t *got)
{
    uint32_t i = 1;
    int r;

    while (i < nr && n->slot[b + i] == n->slot[b] + i)
        i++;
    *got = i;
    r = colo_slots_write(&o->slots, n->slot[b], 0, data, i * COLO_BLOCK);
    if (r == 0)
        cover(s, n, colo_blocks_range(b, i), false, active);
    return r;
}

/* Hidden blocks of zeroes need no slot; what a guest writes is not looked at. */
static colo_blocks find_zeroes(const uint8_t *data, uint32_t first, uint32_t nr)
{
    colo_blocks zero = 0;

    for (uint32_t i = 0; i < nr; i++)
        if (is_zero(data + (size_t)i * COLO_BLOCK))
            zero |= (colo_blocks)1 << (first + i);
    return zero;
}

int colo_overlay_put(struct colo_overlay *o, uint64_t chunk, uint32_t first, uint32_t nr,
                     const void *data, bool active)
{
    struct colo_overlay_stripe *s = stripe_of(o, chunk);
    struct colo_node *n = find_or_add(o, chunk);
    colo_blocks zero, here;
    uint32_t got = 0, run = 0;
    int r = 0;

    if (!n)
        return ENOMEM;
    zero = !data ? colo_blocks_range(first, nr) : active ? 0 : find_zeroes(data, first, nr);
    if (zero)
        put_zeroes(o, s, n, zero, active);
    if (zero == colo_blocks_range(first, nr))
        return 0;
    r = need_slots(s, n);
    for (uint32_t b = first, end = first + nr; b < end && r == 0; b += got) {
        const uint8_t *from = (const uint8_t *)data + (size_t)(b - first) * COLO_BLOCK;

        got = 1;
        if (zero >> b & 1)
            continue;
        here = n->covered & ~n->zero; /* have a slot */
        if (here >> b & 1) {
            colo_blocks_run(here & ~zero, b, &b, &run);
            r = put_over(o, s, n, b, run < end - b ? run : end - b, from, active, &got);
        } else {
            colo_blocks_run(~here & ~zero, b, &b, &run);
            r = put_new(o, s, n, b, run < end - b ? run : end - b, from, active, &got);
        }
    }
    return r;
}

int colo_overlay_patch(struct colo_overlay *o, uint64_t chunk, uint32_t block, uint32_t from,
                       const void *data, uint32_t len)
{
    struct colo_node *n = find(o, chunk);
    uint8_t whole[COLO_BLOCK] = {0};
    int r;

    if (n->zero >> block & 1) {
        memcpy(whole + from, data, len);
        return colo_overlay_put(o, chunk, block, 1, whole, true);
    }
    r = colo_slots_write(&o->slots, n->slot[block], from, data, len);
    if (r == 0)
        cover(stripe_of(o, chunk), n, (colo_blocks)1 << block, false, true);
    return r;
}

/* ---- all of it ---- */

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

uint64_t *colo_overlay_chunks(struct colo_overlay *o, uint64_t *nr)
{
    uint64_t *list = NULL, room = 0;
    void *larger;

    *nr = 0;
    for (uint32_t i = 0; i < COLO_STRIPES; i++) {
        struct colo_overlay_stripe *s = &o->stripe[i];
        Word_t chunk = 0;
        void **value;

        pthread_rwlock_rdlock(&s->lock);
        larger = s->nodes ? realloc(list, (room + s->nodes) * sizeof(*list)) : list;
        if (s->nodes && !larger) {
            pthread_rwlock_unlock(&s->lock);
            free(list);
            *nr = 1;
            return NULL;
        }
        list = larger;
        room += s->nodes;
        for (value = JudyLFirst(s->map, &chunk, PJE0); value && list;
             value = JudyLNext(s->map, &chunk, PJE0))
            list[(*nr)++] = chunk;
        pthread_rwlock_unlock(&s->lock);
    }
    if (list)
        qsort(list, *nr, sizeof(*list), by_number);
    return list;
}

void colo_overlay_reset(struct colo_overlay *o)
{
    for (uint32_t i = 0; i < COLO_STRIPES; i++) {
        struct colo_overlay_stripe *s = &o->stripe[i];
        Word_t chunk = 0;
        void **value;

        pthread_rwlock_wrlock(&s->lock);
        for (value = JudyLFirst(s->map, &chunk, PJE0); value;
             value = JudyLNext(s->map, &chunk, PJE0)) {
            struct colo_node *n = *value;

            free(n->slot);
            free(n);
        }
        JudyLFreeArray(&s->map, PJE0);
        s->active = s->hidden = s->nodes = s->bytes = 0;
        pthread_rwlock_unlock(&s->lock);
    }
    colo_slots_reset(&o->slots);
}

void colo_overlay_stats(struct colo_overlay *o, struct colo_overlay_stats *st)
{
    memset(st, 0, sizeof(*st));
    for (uint32_t i = 0; i < COLO_STRIPES; i++) {
        struct colo_overlay_stripe *s = &o->stripe[i];

        pthread_rwlock_rdlock(&s->lock);
        st->active += s->active;
        st->hidden += s->hidden;
        st->index += s->bytes + JudyLMemUsed(s->map);
        pthread_rwlock_unlock(&s->lock);
    }
    st->memory = colo_slots_used(&o->slots, COLO_POOL_MEMORY);
    st->cap = (uint64_t)o->slots.pool[COLO_POOL_MEMORY].limit * COLO_BLOCK;
    st->spilled =
        colo_slots_used(&o->slots, COLO_POOL_ACTIVE) + colo_slots_used(&o->slots, COLO_POOL_HIDDEN);
}
