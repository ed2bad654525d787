/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Writing JSON.  Text that comes from elsewhere (guest names, messages of a peer) may be any bytes;
 * what we write is valid UTF-8 all the same.
 */
#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_gen.h>

#include "libxl_json.h"

struct colo_json_gen {
    yajl_gen y;
    unsigned int depth; /* what is open */
    bool failed;
};

struct colo_json_gen *colo_json_gen_new(bool pretty)
{
    struct colo_json_gen *g = calloc(1, sizeof(*g));

    if (!g) {
        return NULL;
    }
    g->y = yajl_gen_alloc(NULL);
    if (!g->y) {
        free(g);
        return NULL;
    }
    yajl_gen_config(g->y, yajl_gen_beautify, (int)pretty);
    if (pretty) {
        yajl_gen_config(g->y, yajl_gen_indent_string, "  ");
    }
    return g;
}

/* Once something failed nothing more is written, so that finish never returns a torn text. */
static bool dead(const struct colo_json_gen *g)
{
    return !g || g->failed;
}

static void note(struct colo_json_gen *g, yajl_gen_status status)
{
    if (status != yajl_gen_status_ok) {
        g->failed = true;
    }
}

/* Length of the well-formed UTF-8 sequence at s, which is NUL-terminated; 0 when there is none. */
static size_t utf8_len(const unsigned char *s)
{
    size_t i, n;

    if (s[0] < 0x80) {
        return 1;
    }
    n = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
        : s[0] >= 0xe0 && s[0] <= 0xef ? 3
        : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                       : 0;
    for (i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || /* overlong, surrogate */
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) { /* overlong, too large */
        return 0;
    }
    return n;
}

static void gen_string(struct colo_json_gen *g, const char *value)
{
    unsigned char *s = (unsigned char *)strdup(value), *p;
    size_t n;

    if (!s) {
        g->failed = true;
        return;
    }
    for (p = s; *p; p += n) {
        n = utf8_len(p);
        if (!n) {
            *p = '?';
            n = 1;
        }
    }
    note(g, yajl_gen_string(g->y, s, strlen((char *)s)));
    free(s);
}

static bool begin(struct colo_json_gen *g, const char *key)
{
    if (dead(g)) {
        return false;
    }
    if (key) {
        gen_string(g, key);
    }
    return !g->failed;
}

void colo_json_open(struct colo_json_gen *g, const char *key)
{
    if (begin(g, key)) {
        note(g, yajl_gen_map_open(g->y));
        g->depth++;
    }
}

void colo_json_close(struct colo_json_gen *g)
{
    if (!dead(g)) {
        note(g, yajl_gen_map_close(g->y));
        g->depth--;
    }
}

void colo_json_open_array(struct colo_json_gen *g, const char *key)
{
    if (begin(g, key)) {
        note(g, yajl_gen_array_open(g->y));
        g->depth++;
    }
}

void colo_json_close_array(struct colo_json_gen *g)
{
    if (!dead(g)) {
        note(g, yajl_gen_array_close(g->y));
        g->depth--;
    }
}

void colo_json_put_str(struct colo_json_gen *g, const char *key, const char *value)
{
    if (!begin(g, key)) {
        return;
    }
    if (value) {
        gen_string(g, value);
    } else {
        note(g, yajl_gen_null(g->y));
    }
}

void colo_json_put_int(struct colo_json_gen *g, const char *key, int64_t value)
{
    if (begin(g, key)) {
        note(g, yajl_gen_integer(g->y, value));
    }
}

void colo_json_put_bool(struct colo_json_gen *g, const char *key, bool value)
{
    if (begin(g, key)) {
        note(g, yajl_gen_bool(g->y, value));
    }
}

char *colo_json_gen_finish(struct colo_json_gen *g)
{
    const unsigned char *text;
    size_t len;
    char *out = NULL;

    if (!g) {
        return NULL;
    }
    if (!g->failed && !g->depth && yajl_gen_get_buf(g->y, &text, &len) == yajl_gen_status_ok &&
        len > 0) {
        out = strndup((const char *)text, len);
    }
    yajl_gen_free(g->y);
    free(g);
    return out;
}
