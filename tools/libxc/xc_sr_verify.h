/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Proof that two suspended copies are equal: a digest of every page, of the HVM context and of the
 * device state.  A test mode; it reads all memory.
 */
#ifndef XC_SR_VERIFY_H
#define XC_SR_VERIFY_H

#include "xc_sr_domain.h"

struct xc_sr_digest {
    uint64_t nr_gfns;
    uint64_t *pages; /* one XXH3-64 a gfn; 0 = no page (a real hash of 0 is stored as 1); the local
                      * gfns count as no page */
    uint64_t context, devices; /* XXH3-64 of the blobs; context with the fields that move while a
                                * domain is suspended masked (see the .c) */
    uint64_t *context_parts;   /* one hash for each save record of the context, in order, ... */
    uint32_t *context_types;   /* ... and what it is: typecode << 16 | instance */
    size_t nr_context_parts;   /* 0 for a context that is not made of save records */
};
int xc_sr_digest_make(struct xc_sr_domain *d, struct xc_sr_digest *out, struct colo_err *err);
void xc_sr_digest_free(struct xc_sr_digest *d);

/* Wire form of a digest: malloc'ed *buf.  unpack bounds everything; *out is empty on failure.
 * make and unpack overwrite *out: free an earlier digest first. */
int xc_sr_digest_pack(const struct xc_sr_digest *d, void **buf, size_t *len, struct colo_err *err);
int xc_sr_digest_unpack(const void *buf, size_t len, struct xc_sr_digest *out,
                        struct colo_err *err);

/* Number of differences (0 = equal); text gets one line that says where (first gfns, parts). */
uint64_t xc_sr_digest_diff(const struct xc_sr_digest *a, const struct xc_sr_digest *b, char *text,
                           size_t len);

#endif
