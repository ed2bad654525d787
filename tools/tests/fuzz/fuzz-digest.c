/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A peer's digest.  What is taken must be equal to itself after it was packed again, and comparing
 * it with another one must tell so within the text's room.
 */
#include <stdlib.h>
#include <string.h>

#include "xc_sr_verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As many differences whatever the room for the text; returns them. */
static uint64_t diff(const struct xc_sr_digest *a, const struct xc_sr_digest *b)
{
    char text[4096];
    uint64_t n = xc_sr_digest_diff(a, b, text, sizeof(text));

    if ((n == 0) != (strlen(text) == 0))
        abort();
    for (size_t room = 0; room < 40; room += 13) {
        memset(text, 'x', sizeof(text));
        if (xc_sr_digest_diff(a, b, text, room) != n || (room && !memchr(text, '\0', room)))
            abort();
        for (size_t i = room; i < sizeof(text); i++)
            if (text[i] != 'x')
                abort();
    }
    return n;
}

static void check(const struct xc_sr_digest *d, size_t size)
{
    uint64_t pages[3] = {7, 0, 9}, parts[1] = {5};
    uint32_t types[1] = {2u << 16};
    const struct xc_sr_digest other = {
        .nr_gfns = 3,
        .pages = pages,
        .context_parts = parts,
        .context_types = types,
        .nr_context_parts = 1,
    };
    struct xc_sr_digest again;
    size_t len;
    void *buf;

    if (xc_sr_digest_pack(d, &buf, &len, NULL) < 0 || len != size ||
        xc_sr_digest_unpack(buf, len, &again, NULL) < 0)
        abort();
    if (diff(d, &again) != 0 || diff(d, &other) != diff(&other, d))
        abort();
    xc_sr_digest_free(&again);
    free(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct colo_err e = {0};
    struct xc_sr_digest d;

    if (xc_sr_digest_unpack(data, size, &d, &e) == 0)
        check(&d, size);
    else if (e.cls != COLO_ERR_PROTOCOL || !e.msg[0] || d.pages || d.context_parts || d.nr_gfns)
        abort();
    xc_sr_digest_free(&d);
    return 0;
}
