/* SPDX-License-Identifier: GPL-2.0-only */
/* An append-only log in memory.  Each entry's hash covers the one before it, so
 * that a lost, changed or reordered entry shows. */
#include "guest.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    uint8_t hash[32];
    size_t len;
    char *text;
};

static struct entry *entries;
static size_t length, room;

static void link_hash(size_t index, uint8_t out[32])
{
    static const uint8_t zero[32];
    struct sha256 s;

    sha256_init(&s);
    sha256_add(&s, index ? entries[index - 1].hash : zero, 32);
    sha256_add(&s, entries[index].text, entries[index].len);
    sha256_end(&s, out);
}

size_t chain_append(const char *text, size_t len, char hex[65])
{
    if (length == room) {
        struct entry *more = realloc(entries, (room * 2 + 64) * sizeof(*more));

        if (!more)
            return 0;
        entries = more;
        room = room * 2 + 64;
    }
    entries[length].text = malloc(len + 1);
    if (!entries[length].text)
        return 0;
    memcpy(entries[length].text, text, len);
    entries[length].len = len;
    link_hash(length, entries[length].hash);
    to_hex(entries[length].hash, 32, hex);
    return ++length;
}

size_t chain_length(void)
{
    return length;
}

void chain_head(char hex[65])
{
    static const uint8_t zero[32];

    to_hex(length ? entries[length - 1].hash : zero, 32, hex);
}

bool chain_verify(size_t *bad)
{
    for (size_t i = 0; i < length; i++) {
        uint8_t now[32];

        link_hash(i, now);
        if (memcmp(now, entries[i].hash, 32) != 0) {
            *bad = i + 1;
            return false;
        }
    }
    return true;
}

bool chain_get(size_t index, const char **text, size_t *len)
{
    if (index < 1 || index > length)
        return false;
    *text = entries[index - 1].text;
    *len = entries[index - 1].len;
    return true;
}
