/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The peer's capabilities; the first byte says whether the peer is the primary.  What is taken must
 * be in bounds, and read the same after it was written again.
 */
#include <stdlib.h>
#include <string.h>

#include "libxl_colo_session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool ends(const char *s, size_t room)
{
    return memchr(s, '\0', room) != NULL;
}

static bool in_bounds(const struct colo_caps *c, bool from_primary)
{
    if (c->protocol < 1 || !ends(c->xen, sizeof(c->xen)) || !ends(c->qemu, sizeof(c->qemu)) ||
        !ends(c->host, sizeof(c->host)))
        return false;
    return !from_primary ||
           (strlen(c->session) == 36 && c->generation >= 1 && c->generation <= INT64_MAX &&
            c->heartbeat_ms >= 10 && c->heartbeat_misses >= 1 && c->interval_max_ms >= 10 &&
            (uint64_t)c->heartbeat_ms * c->heartbeat_misses <= 60000 * 1000);
}

static void check(const struct colo_caps *c, bool from_primary)
{
    char *json = colo_caps_to_json(c);
    struct colo_err e = {0};
    struct colo_caps again;

    if (!in_bounds(c, from_primary) || !json ||
        colo_caps_from_json(json, from_primary, &again, &e) < 0 ||
        /* every member, also one that is not written: both begin as zeros, padding included */
        /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison) */
        memcmp(c, &again, sizeof(again)) != 0 || colo_caps_match(c, &again, &e) < 0)
        abort();
    free(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool from_primary = size && data[0] & 1;
    struct colo_caps c, mine = {.protocol = 1, .xen = "4.17.7", .host = "two"};
    struct colo_err e = {0};
    char *json;

    if (size == 0)
        return 0;
    json = strndup((const char *)data + 1, size - 1);
    if (!json)
        abort();
    if (colo_caps_from_json(json, from_primary, &c, &e) == 0) {
        check(&c, from_primary);
        if (colo_caps_match(&mine, &c, &e) < 0 && e.cls != COLO_ERR_REFUSED)
            abort();
    } else if (e.cls != COLO_ERR_PROTOCOL || !e.reason[0] || !e.msg[0]) {
        abort();
    }
    free(json);
    return 0;
}
