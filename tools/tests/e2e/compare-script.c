/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The compare engine by the line, for a test that asks another comparer the same.
 *
 * In:  "primary HEX", "secondary HEX": a frame; "wait MS": time passes; "checkpoint"
 * Out: "released HEX", "wanted WHY TEXT", as it happens
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "colo_compare.h"

static void release(void *ctx, const uint8_t *frame, uint32_t len)
{
    (void)ctx;
    printf("released ");
    for (uint32_t i = 0; i < len; i++)
        printf("%02x", frame[i]);
    printf("\n");
}

static uint32_t from_hex(const char *hex, uint8_t *out, uint32_t max)
{
    unsigned int byte;
    uint32_t n = 0;

    while (n < max && sscanf(hex + 2 * (size_t)n, "%2x", &byte) == 1)
        out[n++] = (uint8_t)byte;
    return n;
}

int main(void)
{
    const struct colo_compare_config cfg = {
        .mode = COLO_MODE_COMPARE, .release = release, .seed = {1, 2}};
    static char line[1 << 18];
    static uint8_t frame[1 << 16];
    struct colo_divergence why;
    struct colo_compare *c;
    colo_time now = COLO_MS;
    char *rest;

    if (colo_compare_new(&cfg, &c, NULL))
        return 1;
    while (fgets(line, sizeof(line), stdin)) {
        rest = strchr(line, ' ');
        if (!strncmp(line, "primary ", 8))
            colo_compare_primary(c, frame, from_hex(rest + 1, frame, sizeof(frame)), now);
        else if (!strncmp(line, "secondary ", 10))
            colo_compare_secondary(c, frame, from_hex(rest + 1, frame, sizeof(frame)), now);
        else if (!strncmp(line, "wait ", 5))
            now += atoi(rest + 1) * COLO_MS;
        else if (!strcmp(line, "checkpoint\n"))
            colo_compare_checkpoint(c, now);
        else
            return 2;
        colo_compare_advance(c, now);
        if (colo_compare_take_request(c, &why))
            printf("wanted %s %s\n", colo_why_name(why.why), why.text);
        fflush(stdout);
    }
    colo_compare_free(c);
    return 0;
}
