/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * JSON on yajl: values become a tree of our own, so that yajl's types stay in this file.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_parse.h>

#include "libxl_json.h"

#define JSON_TEXT_MAX   ((size_t)16 << 20)
#define JSON_DEPTH_MAX  64
/* The smallest value is two bytes of text ("1,") and some fifty of memory, so a bound on the text
 * alone would let a peer make us hold half a gigabyte. */
#define JSON_VALUES_MAX ((size_t)1 << 20)

enum json_kind { JSON_NULL, JSON_BOOL, JSON_INT, JSON_REAL, JSON_STR, JSON_ARRAY, JSON_OBJECT };

struct colo_json {
    enum json_kind kind;
    char *key; /* the name under which the enclosing object holds this value */
    union {
        bool b;
        int64_t i;
        char *s;
        struct {
            struct colo_json **item;
            size_t n, room;
        } a; /* of arrays and objects */
    } u;
};

struct parser {
    struct colo_json *root;
    struct colo_json *open[JSON_DEPTH_MAX];
    size_t depth;
    size_t values;
    char *key;       /* of the next member */
    const char *why; /* our own refusal, when yajl says "cancelled" */
};

void colo_json_free(struct colo_json *j)
{
    size_t i;

    if (!j) {
        return;
    }
    if (j->kind == JSON_STR) {
        free(j->u.s);
    } else if (j->kind == JSON_ARRAY || j->kind == JSON_OBJECT) {
        for (i = 0; i < j->u.a.n; i++) {
            colo_json_free(j->u.a.item[i]);
        }
        free(j->u.a.item);
    }
    free(j->key);
    free(j);
}

/* yajl's callbacks return 1 to go on and 0 to stop. */
static int refuse(struct parser *p, const char *why)
{
    p->why = why;
    return 0;
}

static int append(struct colo_json *to, struct colo_json *value)
{
    struct colo_json **item;
    size_t room;

    if (to->u.a.n == to->u.a.room) {
        room = to->u.a.room ? to->u.a.room * 2 : 4;
        item = realloc(to->u.a.item, room * sizeof(*item));
        if (!item) {
            return -1;
        }
        to->u.a.item = item;
        to->u.a.room = room;
    }
    to->u.a.item[to->u.a.n++] = value;
    return 0;
}

/* Hang a new value where the text has it; NULL with p->why set when it may not be there. */
static struct colo_json *add(struct parser *p, enum json_kind kind)
{
    struct colo_json *j, *parent = p->depth ? p->open[p->depth - 1] : NULL;

    if (++p->values > JSON_VALUES_MAX) {
        refuse(p, "too many values");
        return NULL;
    }
    j = calloc(1, sizeof(*j));
    if (!j || (parent && append(parent, j) < 0)) {
        free(j);
        refuse(p, "out of memory");
        return NULL;
    }
    j->kind = kind;
    if (parent) {
        j->key = p->key;
        p->key = NULL;
    } else {
        p->root = j;
    }
    return j;
}

/* A NUL inside would make the C string differ from what the peer meant. */
static char *copy_string(struct parser *p, const unsigned char *text, size_t len)
{
    char *s;

    if (memchr(text, 0, len)) {
        refuse(p, "a string with a NUL in it");
        return NULL;
    }
    s = strndup((const char *)text, len);
    if (!s) {
        refuse(p, "out of memory");
    }
    return s;
}

static int on_null(void *priv)
{
    return add(priv, JSON_NULL) != NULL;
}

static int on_bool(void *priv, int value)
{
    struct colo_json *j = add(priv, JSON_BOOL);

    if (j) {
        j->u.b = value;
    }
    return j != NULL;
}

/* Numbers come as text, so that one outside int64_t is a number that is no int, not an error. */
static int on_number(void *priv, const char *text, size_t len)
{
    struct colo_json *j;
    char digits[32], *end;
    int64_t value = 0;
    bool whole = false;

    if (len < sizeof(digits)) {
        memcpy(digits, text, len);
        digits[len] = 0;
        errno = 0;
        value = strtoll(digits, &end, 10);
        whole = errno == 0 && *end == 0;
    }
    j = add(priv, whole ? JSON_INT : JSON_REAL);
    if (j && whole) {
        j->u.i = value;
    }
    return j != NULL;
}

static int on_string(void *priv, const unsigned char *text, size_t len)
{
    struct colo_json *j;
    char *s = copy_string(priv, text, len);

    if (!s) {
        return 0;
    }
    j = add(priv, JSON_STR);
    if (!j) {
        free(s);
        return 0;
    }
    j->u.s = s;
    return 1;
}

static int on_key(void *priv, const unsigned char *text, size_t len)
{
    struct parser *p = priv;

    p->key = copy_string(p, text, len);
    return p->key != NULL;
}

static int on_open(struct parser *p, enum json_kind kind)
{
    struct colo_json *j;

    if (p->depth == JSON_DEPTH_MAX) {
        return refuse(p, "nested too deep");
    }
    j = add(p, kind);
    if (j) {
        p->open[p->depth++] = j;
    }
    return j != NULL;
}

static int on_open_object(void *priv)
{
    return on_open(priv, JSON_OBJECT);
}

static int on_open_array(void *priv)
{
    return on_open(priv, JSON_ARRAY);
}

static int on_close(void *priv)
{
    struct parser *p = priv;

    p->depth--;
    return 1;
}

static const yajl_callbacks callbacks = {
    .yajl_null = on_null,
    .yajl_boolean = on_bool,
    .yajl_number = on_number,
    .yajl_string = on_string,
    .yajl_start_map = on_open_object,
    .yajl_map_key = on_key,
    .yajl_end_map = on_close,
    .yajl_start_array = on_open_array,
    .yajl_end_array = on_close,
};

/* yajl's message is "lexical error: ....\n", and never quotes the text when not asked to. */
static int parse_failed(struct parser *p, yajl_handle h, const char *text, size_t len,
                        struct colo_err *err)
{
    unsigned char *why;
    size_t at = yajl_get_bytes_consumed(h);

    if (p->why) {
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-json", "bad JSON: %s", p->why);
    }
    why = yajl_get_error(h, 0, (const unsigned char *)text, len);
    colo_fail(err, COLO_ERR_PROTOCOL, "bad-json", "bad JSON near byte %zu of %zu: %.*s", at, len,
              why ? (int)strcspn((char *)why, "\n") : 7, why ? (char *)why : "no more");
    if (why) {
        yajl_free_error(h, why);
    }
    return -1;
}

int colo_json_parse(const char *text, size_t len, struct colo_json **out, struct colo_err *err)
{
    struct parser p = {0};
    yajl_handle h;
    yajl_status status;
    int rc = -1;

    *out = NULL;
    if (len > JSON_TEXT_MAX) {
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-json", "%zu bytes of JSON, more than %zu",
                         len, JSON_TEXT_MAX);
    }
    h = yajl_alloc(&callbacks, NULL, &p);
    if (!h) {
        return colo_fail_errno(err, ENOMEM, "JSON parser");
    }
    status = yajl_parse(h, (const unsigned char *)text, len);
    if (status == yajl_status_ok) {
        status = yajl_complete_parse(h);
    }
    if (status != yajl_status_ok || p.why) {
        parse_failed(&p, h, text, len, err);
        goto out;
    }
    *out = p.root;
    p.root = NULL;
    rc = 0;

out:
    yajl_free(h);
    free(p.key);
    colo_json_free(p.root);
    return rc;
}

const struct colo_json *colo_json_get(const struct colo_json *j, const char *key)
{
    size_t i;

    if (!j || j->kind != JSON_OBJECT) {
        return NULL;
    }
    for (i = 0; i < j->u.a.n; i++) {
        if (!strcmp(j->u.a.item[i]->key, key)) {
            return j->u.a.item[i];
        }
    }
    return NULL;
}

struct colo_json *colo_json_take(struct colo_json *j, const char *key)
{
    struct colo_json *member = (struct colo_json *)colo_json_get(j, key), *copy;

    copy = member ? malloc(sizeof(*copy)) : NULL;
    if (!copy) {
        return NULL;
    }
    *copy = *member;
    copy->key = NULL;
    member->kind = JSON_NULL;
    return copy;
}

const struct colo_json *colo_json_at(const struct colo_json *j, size_t index)
{
    return index < colo_json_len(j) ? j->u.a.item[index] : NULL;
}

size_t colo_json_len(const struct colo_json *j)
{
    return j && j->kind == JSON_ARRAY ? j->u.a.n : 0;
}

const char *colo_json_str(const struct colo_json *j)
{
    return j && j->kind == JSON_STR ? j->u.s : NULL;
}

bool colo_json_int(const struct colo_json *j, int64_t *out)
{
    if (!j || j->kind != JSON_INT) {
        return false;
    }
    *out = j->u.i;
    return true;
}

bool colo_json_bool(const struct colo_json *j, bool *out)
{
    if (!j || j->kind != JSON_BOOL) {
        return false;
    }
    *out = j->u.b;
    return true;
}

const char *colo_json_get_str(const struct colo_json *j, const char *key)
{
    return colo_json_str(colo_json_get(j, key));
}

int64_t colo_json_get_int(const struct colo_json *j, const char *key, int64_t dflt)
{
    int64_t value = dflt;

    colo_json_int(colo_json_get(j, key), &value);
    return value;
}

bool colo_json_get_bool(const struct colo_json *j, const char *key, bool dflt)
{
    bool value = dflt;

    colo_json_bool(colo_json_get(j, key), &value);
    return value;
}

void colo_json_put(struct colo_json_gen *g, const char *key, const struct colo_json *value)
{
    bool object = value && value->kind == JSON_OBJECT;

    if (object || (value && value->kind == JSON_ARRAY)) {
        (object ? colo_json_open : colo_json_open_array)(g, key);
        for (size_t i = 0; i < value->u.a.n; i++) {
            colo_json_put(g, object ? value->u.a.item[i]->key : NULL, value->u.a.item[i]);
        }
        (object ? colo_json_close : colo_json_close_array)(g);
    } else if (value && value->kind == JSON_INT) {
        colo_json_put_int(g, key, value->u.i);
    } else if (value && value->kind == JSON_BOOL) {
        colo_json_put_bool(g, key, value->u.b);
    } else {
        colo_json_put_str(g, key, value && value->kind == JSON_STR ? value->u.s : NULL);
    }
}
