/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * JSON, behind one small file so that the library under it (yajl) can be exchanged.
 */
#ifndef LIBXL_JSON_H
#define LIBXL_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "colo_err.h"

struct colo_json; /* an immutable value */

/* Parse one value of len bytes (no NUL needed).  Text above 16 MiB or nested deeper than 64 is
 * COLO_ERR_PROTOCOL, as is text with anything but white space behind the value. */
int colo_json_parse(const char *text, size_t len, struct colo_json **out, struct colo_err *err);
void colo_json_free(struct colo_json *j); /* only for what parse returned; NULL is fine */

/* All take NULL and a wrong kind, and then return NULL / false / 0. Results live as long as j. */
const struct colo_json *colo_json_get(const struct colo_json *j, const char *key);
const struct colo_json *colo_json_at(const struct colo_json *j, size_t index);
size_t colo_json_len(const struct colo_json *j); /* of an array */
const char *colo_json_str(const struct colo_json *j);
bool colo_json_int(const struct colo_json *j, int64_t *out);
bool colo_json_bool(const struct colo_json *j, bool *out);
/* Take an object's member out of a value that parse returned: it is then the caller's to free, and
 * j has null there.  NULL when there is none. */
struct colo_json *colo_json_take(struct colo_json *j, const char *key);
/* Shorthands on an object's member. */
const char *colo_json_get_str(const struct colo_json *j, const char *key); /* NULL when absent */
int64_t colo_json_get_int(const struct colo_json *j, const char *key, int64_t dflt);
bool colo_json_get_bool(const struct colo_json *j, const char *key, bool dflt);

/* Writing.  key is NULL inside an array and for the outermost value.  Out of memory is remembered
 * and reported by finish, which returns the malloc'ed NUL-terminated text (or NULL) and frees g. */
struct colo_json_gen;
struct colo_json_gen *colo_json_gen_new(bool pretty);
void colo_json_open(struct colo_json_gen *g, const char *key); /* { */
void colo_json_close(struct colo_json_gen *g);                 /* } */
void colo_json_open_array(struct colo_json_gen *g, const char *key);
void colo_json_close_array(struct colo_json_gen *g);
void colo_json_put_str(struct colo_json_gen *g, const char *key,
                       const char *value); /* NULL: null */
void colo_json_put_int(struct colo_json_gen *g, const char *key, int64_t value);
void colo_json_put_bool(struct colo_json_gen *g, const char *key, bool value);
/* A value that parse returned, with all that is in it; a number that is no integer becomes null. */
void colo_json_put(struct colo_json_gen *g, const char *key, const struct colo_json *value);
char *colo_json_gen_finish(struct colo_json_gen *g);

#endif
