/* SPDX-License-Identifier: GPL-2.0-only */
/* JSON from a peer: parsed, walked and written again, which must read as the same. */
#include <stdlib.h>
#include <string.h>

#include "libxl_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Enough of the tree to touch every accessor; keys are those of the protocol's own objects. */
static void walk(const struct colo_json *j, struct colo_json_gen *g, unsigned int depth)
{
    static const char *const keys[] = {"return", "event", "data", "id", "error", "version", "a"};
    const char *s;
    int64_t i;
    bool b;

    colo_json_open(g, NULL);
    for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
        s = colo_json_get_str(j, keys[k]);
        if (s)
            colo_json_put_str(g, keys[k], s);
        else if (colo_json_int(colo_json_get(j, keys[k]), &i))
            colo_json_put_int(g, keys[k], i);
        else if (colo_json_bool(colo_json_get(j, keys[k]), &b))
            colo_json_put_bool(g, keys[k], b);
    }
    colo_json_open_array(g, "list");
    for (size_t n = 0; depth < 20 && n < colo_json_len(j) && n < 20; n++)
        walk(colo_json_at(j, n), g, depth + 1);
    colo_json_close_array(g);
    colo_json_close(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct colo_json *j, *again, *taken;
    struct colo_json_gen *g;
    struct colo_err err = {0};
    char *text;

    if (colo_json_parse((const char *)data, size, &j, &err) < 0) {
        if (j || err.cls != COLO_ERR_PROTOCOL || !err.msg[0])
            abort();
        return 0;
    }
    g = colo_json_gen_new(size % 2);
    walk(j, g, 0);
    text = colo_json_gen_finish(g);
    if (!text || colo_json_parse(text, strlen(text), &again, &err) < 0)
        abort();
    colo_json_free(again);
    free(text);
    taken = colo_json_take(j, "data");
    colo_json_free(j);
    colo_json_free(taken);
    return 0;
}
