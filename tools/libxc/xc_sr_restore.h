/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Restoring: a libxc v2/v3 stream laid over a domain that was built here and has not run.
 *
 * First image:  headers, load (pages go in as they arrive; what has no place yet is staged),
 *               [device state], finish.
 * Checkpoints:  own_dirty, send_list, stage, [whole? device state], apply, note_dirty.
 * The bracketed steps are the caller's.  Until apply is called, nothing of a checkpoint has touched
 * the domain; discard drops it.  Everything from the wire is bounded before use.
 */
#ifndef XC_SR_RESTORE_H
#define XC_SR_RESTORE_H

#include "xc_sr_bitmap.h"
#include "xc_sr_domain.h"
#include "xc_sr_record.h"
#include "xc_sr_runs.h"
#include "xc_sr_staging.h"

struct xc_sr_restore_stats {     /* reset by the caller */
    uint64_t pages, zero, holes; /* received */
    uint64_t populated, released;
    colo_time t_dirtylog, t_memory, t_context;
};

struct xc_sr_restore {
    /* filled by the caller before xc_sr_restore_init */
    struct xc_sr_domain *dom;
    struct xc_sr_channel *ch;
    size_t staging_cap;    /* bytes of page data held in memory; 0 = 64 MiB */
    const char *spill_dir; /* for what exceeds it; NULL = none */
    uint64_t max_gfns;     /* highest gfn + 1 that the guest's config can have; bounds every pfn */
    colo_time io_timeout;  /* for a single read or write of the channel; 0 = none */
    void (*progress)(void *priv, uint64_t pages); /* may be NULL; during load */
    void *progress_priv;

    struct xc_sr_restore_stats stats;
    uint32_t peer_xen_major, peer_xen_minor; /* from the domain header */

    /* private */
    struct xc_sr_staging *staging;
    struct xc_sr_runs runs;                   /* where the runs of `present` begin */
    struct xc_sr_bitmap present;              /* gfns that have a page here, ... */
    uint64_t tot_pages;                       /* ... and how many the domain then had in all */
    struct xc_sr_bitmap received;             /* pfns that the primary has */
    struct xc_sr_bitmap own;                  /* dirtied here since the last checkpoint */
    struct xc_sr_bitmap log;                  /* scratch for the dirty log */
    struct xc_sr_record context, params, tsc; /* tail records of the image being received */
    struct xc_sr_record cpuid, msrs;          /* policies, until they are applied */
    uint64_t entries;  /* pfns that the image being received has named so far */
    unsigned int tail; /* which of the tail records it has had */
    uint64_t local[16];
    size_t nlocal;
    uint32_t version; /* of the image */
    bool static_done;
    bool first_done;
    bool logdirty;
    struct xc_sr_restore_batch *batch;
};

int xc_sr_restore_init(struct xc_sr_restore *r, struct colo_err *err);
void xc_sr_restore_fini(struct xc_sr_restore *r);

/* Image header and domain header; refuses PV, big-endian, other page sizes, unknown versions. */
int xc_sr_restore_headers(struct xc_sr_restore *r, struct colo_err *err);

/* Records up to CHECKPOINT or END (*last says which). */
int xc_sr_restore_load(struct xc_sr_restore *r, uint32_t *last, struct colo_err *err);

/* After the device state: staged pages, release of pages that the primary lacks, params, TSC,
 * context; dirty log on when it is asked for. */
int xc_sr_restore_finish(struct xc_sr_restore *r, bool logdirty, struct colo_err *err);

/* The domain is suspended: read and clear its dirty log into own. */
int xc_sr_restore_own_dirty(struct xc_sr_restore *r, struct colo_err *err);
/* DIRTY_PFN_LIST of own, on the channel; own stays until apply. Lists above the record limit are
 * split into several records, the last one being the only one shorter than the limit. */
int xc_sr_restore_send_list(struct xc_sr_restore *r, struct colo_err *err);
/* Records up to CHECKPOINT, staged. */
int xc_sr_restore_stage(struct xc_sr_restore *r, struct colo_err *err);
void xc_sr_restore_discard(struct xc_sr_restore *r);
/* Decide forward: memory, params, TSC, context of the staged checkpoint.  Then own is empty. */
int xc_sr_restore_apply(struct xc_sr_restore *r, struct colo_err *err);
/* Read and clear the dirty log once more before the domain resumes: pages that loading touched
 * count as its own writes for the next list, and pages that were added are watched from now on. */
int xc_sr_restore_note_dirty(struct xc_sr_restore *r, struct colo_err *err);

#endif
