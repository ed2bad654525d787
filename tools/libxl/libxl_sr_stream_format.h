/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The libxl migration stream v2: sizes and numbers as on the wire (docs/specs/libxl-migration-stream.md).
 * The header is big-endian, records are little-endian and framed like libxc's.
 */
#ifndef LIBXL_SR_STREAM_FORMAT_H
#define LIBXL_SR_STREAM_FORMAT_H

#include "xc_sr_stream_format.h"

struct libxl_sr_hdr {
    uint64_t ident;
    uint32_t version;
    uint32_t options;
};
#define LIBXL_SR_IDENT      UINT64_C(0x4c6962786c466d74) /* "LibxlFmt" */
#define LIBXL_SR_VERSION    2u
#define LIBXL_SR_OPT_BIG    0x1u
#define LIBXL_SR_OPT_LEGACY 0x2u

#define LIBXL_SR_REC_END               0u
#define LIBXL_SR_REC_LIBXC_CONTEXT     1u
#define LIBXL_SR_REC_EMULATOR_XENSTORE 2u
#define LIBXL_SR_REC_EMULATOR_CONTEXT  3u
#define LIBXL_SR_REC_CHECKPOINT_END    4u
#define LIBXL_SR_REC_CHECKPOINT_STATE  5u
/* ours, optional, negotiated */
#define LIBXL_SR_REC_COLO_CAPS         UINT32_C(0x80c01001) /* JSON, see libxl_colo_caps.h */
#define LIBXL_SR_REC_COLO_STOP         XC_SR_REC_COLO_STOP  /* JSON {reason, message} */
#define LIBXL_SR_REC_COLO_DIGEST       UINT32_C(0x80c01003) /* xc_sr_digest_pack */
#define LIBXL_SR_REC_COLO_TIMES        UINT32_C(0x80c01004) /* n x u64 ns, see libxl_stream.h */

struct libxl_sr_emulator {
    uint32_t id;
    uint32_t index;
};
#define LIBXL_SR_EMULATOR_QEMU_UPSTREAM 2u

#define LIBXL_SR_STATE_NEW           0u
#define LIBXL_SR_STATE_SVM_SUSPENDED 1u
#define LIBXL_SR_STATE_SVM_READY     2u
#define LIBXL_SR_STATE_SVM_RESUMED   3u

_Static_assert(sizeof(struct libxl_sr_hdr) == 16, "libxl header");

#endif
