/* SPDX-License-Identifier: GPL-2.0-only */
#include "colo_ranges.h"

#include <string.h>

bool colo_ranges_add(struct colo_ranges *s, int64_t from, int64_t to)
{
    uint32_t i, j;

    if (from >= to)
        return true;
    /* What nearly always happens: the last range grows. */
    if (s->n && from == s->r[s->n - 1].to) {
        s->r[s->n - 1].to = to;
        return true;
    }
    for (i = 0; i < s->n && s->r[i].to < from; i++)
        ;
    for (j = i; j < s->n && s->r[j].from <= to; j++)
        ;
    /* [i, j) touch the new one and become one with it. */
    if (i == j) {
        if (s->n == COLO_RANGES_MAX)
            return false;
        memmove(s->r + i + 1, s->r + i, (s->n - i) * sizeof(s->r[0]));
        s->n++;
        s->r[i] = (struct colo_range){from, to};
        return true;
    }
    if (s->r[i].from < from)
        from = s->r[i].from;
    if (s->r[j - 1].to > to)
        to = s->r[j - 1].to;
    s->r[i] = (struct colo_range){from, to};
    memmove(s->r + i + 1, s->r + j, (s->n - j) * sizeof(s->r[0]));
    s->n -= j - i - 1;
    return true;
}

int64_t colo_ranges_end(const struct colo_ranges *s, int64_t pos)
{
    for (uint32_t i = 0; i < s->n; i++) {
        if (pos < s->r[i].to)
            return pos >= s->r[i].from ? s->r[i].to : pos;
    }
    return pos;
}

int64_t colo_ranges_next(const struct colo_ranges *s, int64_t pos, int64_t limit)
{
    for (uint32_t i = 0; i < s->n; i++) {
        if (pos < s->r[i].to) {
            pos = pos > s->r[i].from ? pos : s->r[i].from;
            return pos < limit ? pos : limit;
        }
    }
    return limit;
}

void colo_ranges_trim(struct colo_ranges *s, int64_t pos)
{
    uint32_t gone = 0;

    while (gone < s->n && s->r[gone].to <= pos)
        gone++;
    if (gone) {
        s->n -= gone;
        memmove(s->r, s->r + gone, s->n * sizeof(s->r[0]));
    }
    if (s->n && s->r[0].from < pos)
        s->r[0].from = pos;
}
