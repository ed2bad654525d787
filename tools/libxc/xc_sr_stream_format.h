/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The libxc migration stream v3, x86 HVM: sizes and numbers as on the wire.
 * Source: docs/specs/libxc-migration-stream.md (ours, describing the stock format and our
 * optional records).  All fields are little-endian but for the image header, which is big-endian.
 */
#ifndef XC_SR_STREAM_FORMAT_H
#define XC_SR_STREAM_FORMAT_H

#include <stdint.h>

struct xc_sr_ihdr { /* image header, big-endian */
    uint64_t marker;
    uint32_t id;
    uint32_t version;
    uint16_t options;
    uint16_t reserved1;
    uint32_t reserved2;
};
#define XC_SR_IHDR_MARKER      UINT64_MAX
#define XC_SR_IHDR_ID          UINT32_C(0x58454e46) /* "XENF" */
#define XC_SR_IHDR_VERSION_MIN 2u
#define XC_SR_IHDR_VERSION     3u
#define XC_SR_IHDR_OPT_BIG     0x0001u

struct xc_sr_dhdr { /* domain header */
    uint32_t type;
    uint16_t page_shift;
    uint16_t reserved;
    uint32_t xen_major;
    uint32_t xen_minor;
};
#define XC_SR_DHDR_TYPE_X86_PV  1u
#define XC_SR_DHDR_TYPE_X86_HVM 2u

struct xc_sr_rhdr { /* record header; the body is padded to a multiple of 8 with zeroes */
    uint32_t type;
    uint32_t length;
};
#define XC_SR_RECORD_ALIGN 8u
#define XC_SR_RECORD_MAX   (UINT32_C(128) << 20) /* stock limit of a body */
#define XC_SR_REC_OPTIONAL UINT32_C(0x80000000)

#define XC_SR_REC_END              0x00u
#define XC_SR_REC_PAGE_DATA        0x01u
#define XC_SR_REC_X86_TSC_INFO     0x08u
#define XC_SR_REC_HVM_CONTEXT      0x09u
#define XC_SR_REC_HVM_PARAMS       0x0au
#define XC_SR_REC_TOOLSTACK        0x0bu
#define XC_SR_REC_VERIFY           0x0du
#define XC_SR_REC_CHECKPOINT       0x0eu
#define XC_SR_REC_DIRTY_PFN_LIST   0x0fu
#define XC_SR_REC_STATIC_DATA_END  0x10u
#define XC_SR_REC_X86_CPUID_POLICY 0x11u
#define XC_SR_REC_X86_MSR_POLICY   0x12u

/*
 * Ours, optional records (bit 31), only sent to a peer whose capabilities name them, in both
 * layers' streams.
 */
#define XC_SR_REC_COLO_HEARTBEAT  UINT32_C(0x80c00001) /* struct xc_sr_rec_tag; between records */
#define XC_SR_REC_COLO_ZERO_PAGES UINT32_C(0x80c00002) /* n x struct xc_sr_rec_pfn_run */
#define XC_SR_REC_COLO_TAG        UINT32_C(0x80c00003) /* struct xc_sr_rec_tag; before a message */
#define XC_SR_REC_COLO_STOP       UINT32_C(0x80c01002) /* between records: the sender leaves */
#define XC_SR_STOP_MAX            ((uint32_t)1 << 20)  /* bytes of its body (libxl's, JSON) */

struct xc_sr_rec_tag { /* which session, which incarnation of it, which checkpoint */
    uint8_t session[16];
    uint64_t generation;
    uint64_t checkpoint;
};
struct xc_sr_rec_pfn_run {
    uint64_t first_pfn;
    uint64_t count;
};

struct xc_sr_rec_page_data { /* then count x u64 entry, then the pages */
    uint32_t count;
    uint32_t reserved;
};
#define XC_SR_PFN_MASK          ((UINT64_C(1) << 52) - 1)
#define XC_SR_PFN_RESERVED_MASK (UINT64_C(0xff) << 52)
#define XC_SR_PFN_TYPE_SHIFT    60
#define XC_SR_PFN_NOTAB         0x0u
#define XC_SR_PFN_BROKEN        0xdu
#define XC_SR_PFN_XALLOC        0xeu
#define XC_SR_PFN_XTAB          0xfu
#define XC_SR_BATCH             1024u /* entries of a PAGE_DATA record that we write */

struct xc_sr_rec_tsc_info {
    uint32_t mode;
    uint32_t khz;
    uint64_t nsec;
    uint32_t incarnation;
    uint32_t reserved;
};

struct xc_sr_rec_hvm_params { /* then count x entry */
    uint32_t count;
    uint32_t reserved;
};
struct xc_sr_rec_hvm_params_entry {
    uint64_t index;
    uint64_t value;
};

_Static_assert(sizeof(struct xc_sr_ihdr) == 24, "image header");
_Static_assert(sizeof(struct xc_sr_dhdr) == 16, "domain header");
_Static_assert(sizeof(struct xc_sr_rhdr) == 8, "record header");
_Static_assert(sizeof(struct xc_sr_rec_tag) == 32, "tag");
_Static_assert(sizeof(struct xc_sr_rec_tsc_info) == 24, "tsc info");

#endif
