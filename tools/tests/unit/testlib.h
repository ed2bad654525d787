/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the unit tests share: asserts that print both values, a PRNG that repeats itself, and a link
 * that misbehaves at a given byte.  Includes cmocka and what cmocka needs.
 */
#ifndef TESTLIB_H
#define TESTLIB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "colo_err.h"

/* ---- asserts ---- */

#define tl_eq(a, b)          tl_eq_at((uint64_t)(a), (uint64_t)(b), #a, #b, __FILE__, __LINE__)
#define tl_str_eq(a, b)      assert_string_equal(a, b)
/* The message has this text in it. */
#define tl_has(text, needle) tl_has_at(text, needle, __FILE__, __LINE__)
/* rc is 0; otherwise the error's message is printed. */
#define tl_ok(rc, e)         tl_ok_at(rc, e, #rc, __FILE__, __LINE__)
/* rc is -1 with an error of this class, a reason and a message; the error is cleared. */
#define tl_fails(rc, e, cls) tl_fails_at(rc, e, cls, #rc, __FILE__, __LINE__)

void tl_eq_at(uint64_t a, uint64_t b, const char *sa, const char *sb, const char *file, int line);
void tl_has_at(const char *text, const char *needle, const char *file, int line);
void tl_ok_at(int rc, const struct colo_err *e, const char *what, const char *file, int line);
void tl_fails_at(int rc, struct colo_err *e, enum colo_err_class cls, const char *what,
                 const char *file, int line);

/* A deadline so far away that only a hung test meets it. */
colo_time tl_soon(void);

/* ---- numbers that look random ---- */

uint64_t tl_rand(uint64_t *state); /* any start value will do */
uint64_t tl_below(uint64_t *state, uint64_t limit);
void tl_fill(uint64_t *state, void *buf, size_t len);

/* ---- a link between two sockets ---- */

#define TL_NEVER UINT64_MAX

/* What happens to the bytes of one direction; TL_PERFECT does nothing to them. */
struct tl_rule {
    uint64_t cut_at;  /* deliver this many bytes, then close both directions */
    uint64_t hole_at; /* deliver this many bytes, then swallow: silence without an end */
    uint64_t hold_at; /* deliver this many bytes, then keep the rest until tl_link_release */
    uint64_t flip_at; /* this byte is xored with flip */
    uint8_t flip;
    size_t chunk; /* deliver so many bytes at a time; 0 = as they come */
};
#define TL_PERFECT                                                                        \
    {                                                                                     \
        .cut_at = TL_NEVER, .hole_at = TL_NEVER, .hold_at = TL_NEVER, .flip_at = TL_NEVER \
    }

struct tl_link;

/* Two connected stream sockets, ends 0 and 1, with a relay between them: rule[0] is for what end 0
 * sends.  NULL rules are perfect. The ends are closed by
 * tl_link_close; to end its stream a test shuts an end down. */
struct tl_link *tl_link_open(const struct tl_rule *rule0, const struct tl_rule *rule1);
int tl_link_fd(struct tl_link *l, int end);
void tl_link_release(struct tl_link *l); /* what was held goes on */
void tl_link_cut(struct tl_link *l);     /* both directions, now */
/* Bytes that end 0 or 1 sent and that were delivered (or swallowed) so far. */
uint64_t tl_link_count(struct tl_link *l, int end);
/* Wait until that count has reached n. */
void tl_link_wait(struct tl_link *l, int end, uint64_t n);
void tl_link_close(struct tl_link *l);

/* Two connected stream sockets with no relay between them, with small buffers if `small`. */
void tl_socketpair(int fds[2], int small);

#endif
