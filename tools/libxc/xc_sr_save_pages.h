/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * What the files of the saver share; nobody else includes this.
 */
#ifndef XC_SR_SAVE_PAGES_H
#define XC_SR_SAVE_PAGES_H

#include "xc_sr_save.h"

struct xc_sr_save_batch {
    uint64_t local[16]; /* gfns that are never sent */
    size_t nlocal;

    size_t n;
    uint64_t gfns[XC_SR_BATCH]; /* what goes into the next record */
    int errs[XC_SR_BATCH];
    uint64_t entries[XC_SR_BATCH];
    size_t nruns;
    struct xc_sr_rec_pfn_run runs[XC_SR_BATCH];
    struct iovec iov[2 + XC_SR_BATCH]; /* neighbours share one, so at most half is used */
};

/* The pre-copy callback and what it was last told. */
struct xc_sr_save_watch {
    xc_sr_precopy_cb *cb; /* may be NULL */
    void *priv;
    struct xc_sr_precopy_progress progress;
    unsigned int batches;
    bool stop; /* after this iteration */
};

/* One record on the channel, with the saver's deadline and its count of bytes. */
int xc_sr_save_record(struct xc_sr_save *s, uint32_t type, const struct iovec *iov, int cnt,
                      struct colo_err *err);
int xc_sr_save_simple(struct xc_sr_save *s, uint32_t type, const void *body, size_t length,
                      struct colo_err *err);
colo_time xc_sr_save_deadline(const struct xc_sr_save *s);

/* Read the domain's size again and make room for it in the dirty sets. *pages (may be NULL): how
 * many it has. */
int xc_sr_save_resize(struct xc_sr_save *s, uint64_t *pages, struct colo_err *err);

/*
 * Look again which gfns have a page if the domain has another number of them than when we last
 * looked, or if some have moved: the dirty log need not tell of pages that came and went.
 */
int xc_sr_save_rescan(struct xc_sr_save *s, struct colo_err *err);

/* Every page that the domain has; those that vanish meanwhile stay in the dirty set. */
int xc_sr_save_walk(struct xc_sr_save *s, struct xc_sr_save_watch *w, struct colo_err *err);

/*
 * The dirty set, emptied on the way.  live: the guest runs, and a page that is not there now may be
 * back in a moment; it stays in the set.  Otherwise it is sent as a hole.
 */
int xc_sr_save_send_set(struct xc_sr_save *s, bool live, struct xc_sr_save_watch *w,
                        struct colo_err *err);

#endif
