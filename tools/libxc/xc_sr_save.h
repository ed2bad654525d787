/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Saving: a domain's memory, platform and vCPU state as a libxc v3 stream.
 *
 * A plain stream is: begin, precopy (or mark_all), [suspend], read_dirty(final), send_dirty, tail(END).
 * A COLO stream: begin, precopy, then for each checkpoint: [suspend], read_dirty(final),
 * [merge_list from the second on], send_dirty, tail(CHECKPOINT).
 * The bracketed steps are the caller's.
 */
#ifndef XC_SR_SAVE_H
#define XC_SR_SAVE_H

#include "xc_sr_bitmap.h"
#include "xc_sr_domain.h"
#include "xc_sr_record.h"
#include "xc_sr_runs.h"

struct
    xc_sr_save_stats { /* of the current checkpoint (or the whole pre-copy); reset by the caller */
    uint64_t p_dirty, s_dirty, union_dirty;          /* pages */
    uint64_t sent, zero, holes;                      /* pages */
    uint64_t bytes;                                  /* written to the channel */
    colo_time t_dirtylog, t_map, t_write, t_context; /* nanoseconds spent */
};

struct xc_sr_precopy_progress {
    unsigned int iteration; /* 0 = all of memory */
    uint64_t iter_pages, iter_done;
    uint64_t total_sent;
    uint64_t bytes;
};
/* Called every few batches; return 1 to stop pre-copy after this iteration, -1 to give it up at
 * once (COLO_ERR_CANCELLED). */
typedef int xc_sr_precopy_cb(void *priv, const struct xc_sr_precopy_progress *p);

struct xc_sr_save {
    /* filled by the caller before xc_sr_save_init */
    struct xc_sr_domain *dom;
    struct xc_sr_channel *ch;
    bool zero_pages;    /* the peer takes COLO_ZERO_PAGES */
    bool explicit_pfns; /* pages of the local gfns are sent too: a plain stream for a new domain */
    uint64_t max_gfns;  /* highest gfn + 1 that the guest's config can have, on either side: bounds
                        * what the secondary may ask for; 0 = the domain's own size */
    colo_time io_timeout; /* for a single write or read of the channel; 0 = none */
    colo_time limit;      /* when all of them must be over (the guest is paused); 0 = none */
    uint32_t xen_major, xen_minor;

    struct xc_sr_save_stats stats;

    /* private */
    struct xc_sr_bitmap dirty; /* what is to be sent */
    struct xc_sr_bitmap log;   /* scratch for the dirty log */
    struct xc_sr_bitmap known; /* gfns that had a page when we last looked, ... */
    struct xc_sr_runs runs;    /* ... and where their runs begin */
    uint64_t nr_gfns, tot_pages;
    bool logdirty;
    struct xc_sr_save_batch *batch;
};

int xc_sr_save_init(struct xc_sr_save *s, struct colo_err *err);
void xc_sr_save_fini(struct xc_sr_save *s); /* turns the dirty log off when it is still on */

/* Image and domain header, policies, STATIC_DATA_END. */
int xc_sr_save_begin(struct xc_sr_save *s, struct colo_err *err);

/* Dirty log on; all pages, then rounds of what was written meanwhile, until a round finds fewer
 * than 50 pages or 5 rounds are over or the callback says stop.  The guest runs. */
int xc_sr_save_precopy(struct xc_sr_save *s, xc_sr_precopy_cb *cb, void *priv,
                       struct colo_err *err);

/* Instead of precopy for a suspended domain: everything is to be sent. */
int xc_sr_save_mark_all(struct xc_sr_save *s, struct colo_err *err);

/* Take the domain's dirty log into the set to be sent.  The set survives a failure. */
int xc_sr_save_read_dirty(struct xc_sr_save *s, bool final, struct colo_err *err);

/* Read the secondary's DIRTY_PFN_LIST from the channel into the set.  A pfn at or above both
 * sides' size is COLO_ERR_PROTOCOL. */
int xc_sr_save_merge_list(struct xc_sr_save *s, struct colo_err *err);

/* Send the set as PAGE_DATA (and COLO_ZERO_PAGES); it is empty afterwards. */
int xc_sr_save_send_dirty(struct xc_sr_save *s, xc_sr_precopy_cb *cb, void *priv,
                          struct colo_err *err);

/* TSC_INFO, HVM_CONTEXT, HVM_PARAMS, and then `last`: XC_SR_REC_CHECKPOINT or XC_SR_REC_END. */
int xc_sr_save_tail(struct xc_sr_save *s, uint32_t last, struct colo_err *err);

#endif
