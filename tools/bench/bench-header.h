/* SPDX-License-Identifier: GPL-2.0-only */
/* What the frames of the benchmarks begin with. */
#ifndef BENCH_HEADER_H
#define BENCH_HEADER_H

#include <string.h>

#include "colo_packet.h"

/* Ethernet and IPv4, from 10.0.0.`host` to 10.0.0.2, in front of len bytes of a protocol; returns
 * where those go. */
static inline uint32_t bench_header(uint8_t *f, uint8_t host, uint8_t proto, uint32_t len)
{
    static const uint8_t macs[12] = {2, 0, 0, 0, 0, 9, 0x00, 0x16, 0x3e, 0, 0, 1};
    uint32_t sum = 0;

    memset(f, 0, 54);
    memcpy(f, macs, sizeof(macs));
    f[12] = 8;
    f[14] = 0x45;
    colo_put16(f + 16, (uint16_t)(20 + len));
    f[22] = 64;
    f[23] = proto;
    f[26] = f[30] = 10;
    f[29] = host;
    f[33] = 2;
    for (int i = 14; i < 34; i += 2)
        sum += colo_be16(f + i);
    sum = (sum & 0xffff) + (sum >> 16);
    colo_put16(f + 24, (uint16_t) ~(sum + (sum >> 16)));
    return 34;
}

#endif
