/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A small set of positions, as sorted ranges that do not touch.  A TCP stream rarely has more than
 * one: each more is a hole that a lost segment left.
 */
#ifndef COLO_RANGES_H
#define COLO_RANGES_H

#include <stdbool.h>
#include <stdint.h>

#define COLO_RANGES_MAX 8

struct colo_range {
    int64_t from, to; /* [from, to), never empty */
};

struct colo_ranges {
    uint32_t n;
    struct colo_range r[COLO_RANGES_MAX];
};

/* Add [from, to). False, and nothing added, when that needs more ranges than there is room for. */
bool colo_ranges_add(struct colo_ranges *s, int64_t from, int64_t to);

/* Where the range that holds pos ends; pos itself when none does. */
int64_t colo_ranges_end(const struct colo_ranges *s, int64_t pos);

/* Where the first range at or above pos begins; limit when there is none below limit. */
int64_t colo_ranges_next(const struct colo_ranges *s, int64_t pos, int64_t limit);

/* Forget what is below pos. */
void colo_ranges_trim(struct colo_ranges *s, int64_t pos);

/* Behind the last position of all; none when empty. */
static inline int64_t colo_ranges_top(const struct colo_ranges *s, int64_t none)
{
    return s->n ? s->r[s->n - 1].to : none;
}

#endif
