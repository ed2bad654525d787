/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The records of an image, one by one: which may come when, and how long each may be.
 */
#include "xc_sr_restore_records.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define PARAM_PAE 4u /* obsolete; old streams have it */

static int out_of_place(const struct xc_sr_rhdr *hdr, const char *why, struct colo_err *err)
{
    return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "%s out of place: %s",
                     xc_sr_record_name(hdr->type), why);
}

/* Read the body of a record that is kept.  rec is empty. */
static int keep(struct xc_sr_restore *r, const struct xc_sr_rhdr *hdr, uint32_t max,
                struct xc_sr_record *rec, struct colo_err *err)
{
    if (hdr->length > max)
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "%s of %u bytes (at most %u are possible)",
                         xc_sr_record_name(hdr->type), hdr->length, max);
    if (rec->type == hdr->type)
        return out_of_place(hdr, "it has been there before", err);
    xc_sr_record_free(rec);
    if (hdr->length) {
        rec->data = malloc(hdr->length);
        if (!rec->data)
            return colo_fail_errno(err, ENOMEM, "cannot read %s", xc_sr_record_name(hdr->type));
        if (xc_sr_channel_read(r->ch, rec->data, hdr->length, xc_sr_restore_deadline(r), err) < 0 ||
            xc_sr_read_padding(r->ch, hdr->length, xc_sr_restore_deadline(r), err) < 0)
            return -1;
    }
    rec->type = hdr->type;
    rec->length = hdr->length;
    return 0;
}

static int skip(struct xc_sr_restore *r, const struct xc_sr_rhdr *hdr, struct colo_err *err)
{
    unsigned char *scratch = r->batch->scratch;
    uint32_t n;

    for (uint32_t left = hdr->length; left; left -= n) {
        n = left < XC_PAGE_BYTES ? left : (uint32_t)XC_PAGE_BYTES;
        if (xc_sr_channel_read(r->ch, scratch, n, xc_sr_restore_deadline(r), err) < 0)
            return -1;
    }
    return xc_sr_read_padding(r->ch, hdr->length, xc_sr_restore_deadline(r), err);
}

static int no_body(const struct xc_sr_rhdr *hdr, struct colo_err *err)
{
    if (hdr->length)
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "%s with a body of %u bytes",
                         xc_sr_record_name(hdr->type), hdr->length);
    return 0;
}

static int take_policy(struct xc_sr_restore *r, const struct xc_sr_rhdr *hdr, uint32_t entry,
                       struct xc_sr_record *rec, struct colo_err *err)
{
    if (r->static_done)
        return out_of_place(hdr, "the static data is over", err);
    if (hdr->length % entry)
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "%s of %u bytes",
                         xc_sr_record_name(hdr->type), hdr->length);
    return keep(r, hdr, XC_SR_POLICY_MAX, rec, err);
}

static int static_data_end(struct xc_sr_restore *r, const struct xc_sr_rhdr *hdr,
                           struct colo_err *err)
{
    struct xc_sr_policy policy = {
        .cpuid_leaves = r->cpuid.data,
        .cpuid_bytes = r->cpuid.length,
        .msrs = r->msrs.data,
        .msr_bytes = r->msrs.length,
    };

    if (r->static_done)
        return out_of_place(hdr, "the static data is over", err);
    if (no_body(hdr, err) < 0)
        return -1;
    if ((policy.cpuid_bytes || policy.msr_bytes) &&
        r->dom->ops->set_policy(r->dom, &policy, err) < 0) {
        if (err) {
            err->cls = COLO_ERR_REFUSED;
            snprintf(err->reason, sizeof(err->reason), "cpu-policy-incompatible");
        }
        return -1;
    }
    xc_sr_record_free(&r->cpuid);
    xc_sr_record_free(&r->msrs);
    r->static_done = true;
    return 0;
}

static int take_tsc(struct xc_sr_restore *r, const struct xc_sr_rhdr *hdr, struct colo_err *err)
{
    if (hdr->length != sizeof(struct xc_sr_rec_tsc_info))
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "X86_TSC_INFO of %u bytes", hdr->length);
    return keep(r, hdr, sizeof(struct xc_sr_rec_tsc_info), &r->tsc, err);
}

static bool known_param(uint64_t index)
{
    for (size_t i = 0; i < xc_sr_nr_hvm_params; i++)
        if (xc_sr_hvm_params[i] == index)
            return true;
    return index == PARAM_PAE;
}

static int take_params(struct xc_sr_restore *r, const struct xc_sr_rhdr *hdr, struct colo_err *err)
{
    const struct xc_sr_rec_hvm_params *p;
    const struct xc_sr_rec_hvm_params_entry *e;

    if (hdr->length < sizeof(*p))
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "HVM_PARAMS of %u bytes", hdr->length);
    if (keep(r, hdr, sizeof(*p) + XC_SR_PARAMS_MAX * sizeof(*e), &r->params, err) < 0)
        return -1;
    p = r->params.data;
    if (p->count > XC_SR_PARAMS_MAX || hdr->length != sizeof(*p) + p->count * sizeof(*e))
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "HVM_PARAMS: %u params in %u bytes",
                         p->count, hdr->length);
    e = (const struct xc_sr_rec_hvm_params_entry *)(p + 1);
    /* What we would not know how to set, we want to hear of before anything is changed. */
    for (uint32_t i = 0; i < p->count; i++)
        if (!known_param(e[i].index))
            return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "unknown HVM param %llu",
                             (unsigned long long)e[i].index);
    return 0;
}

static int unexpected(const struct xc_sr_rhdr *hdr, struct colo_err *err)
{
    switch (hdr->type) {
    case XC_SR_REC_VERIFY:
        return colo_fail(err, COLO_ERR_REFUSED, "verify-stream",
                         "the stream asks for a comparison "
                         "of memory (a debug migration), which is not supported");
    case XC_SR_REC_TOOLSTACK:
        return colo_fail(err, COLO_ERR_REFUSED, "old-stream",
                         "the stream has a TOOLSTACK record: "
                         "it was written by a Xen that is too old");
    case XC_SR_REC_DIRTY_PFN_LIST:
        return out_of_place(hdr, "only the secondary sends it", err);
    default:
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "unknown record: %s of %u bytes",
                         xc_sr_record_name(hdr->type), hdr->length);
    }
}

/* A record that belongs between the static data and the end of the image. */
static int take_dynamic(struct xc_sr_restore *r, const struct xc_sr_rhdr *hdr, bool stage,
                        struct colo_err *err)
{
    bool pages = hdr->type == XC_SR_REC_PAGE_DATA || hdr->type == XC_SR_REC_COLO_ZERO_PAGES;

    if (!r->static_done)
        return out_of_place(hdr, "the static data is not over", err);
    if (pages && r->tail)
        return out_of_place(hdr, "the vCPU state has begun", err);
    switch (hdr->type) {
    case XC_SR_REC_PAGE_DATA:
        if (xc_sr_restore_page_data(r, hdr->length, stage, err) < 0)
            return -1;
        break;
    case XC_SR_REC_COLO_ZERO_PAGES:
        if (xc_sr_restore_zero_pages(r, hdr->length, stage, err) < 0)
            return -1;
        break;
    case XC_SR_REC_X86_TSC_INFO:
        r->tail |= XC_SR_TAIL_TSC;
        return take_tsc(r, hdr, err);
    case XC_SR_REC_HVM_CONTEXT:
        r->tail |= XC_SR_TAIL_CONTEXT;
        return keep(r, hdr, XC_SR_CONTEXT_MAX, &r->context, err);
    case XC_SR_REC_HVM_PARAMS:
        r->tail |= XC_SR_TAIL_PARAMS;
        return take_params(r, hdr, err);
    }
    if (r->progress && !stage)
        r->progress(r->progress_priv, r->stats.pages + r->stats.zero);
    return 0;
}

static int image_end(struct xc_sr_restore *r, const struct xc_sr_rhdr *hdr, bool stage,
                     struct colo_err *err)
{
    if (no_body(hdr, err) < 0)
        return -1;
    if (r->tail != XC_SR_TAIL_ALL)
        return out_of_place(hdr,
                            r->tail & XC_SR_TAIL_CONTEXT ? "TSC or HVM params are missing"
                                                         : "there was no vCPU state",
                            err);
    if (stage && hdr->type == XC_SR_REC_END)
        return out_of_place(hdr, "a checkpoint ends with CHECKPOINT", err);
    return 0;
}

int xc_sr_restore_image(struct xc_sr_restore *r, bool stage, uint32_t *last, struct colo_err *err)
{
    struct xc_sr_rhdr hdr;
    int rc;

    xc_sr_restore_forget_image(r);
    for (;;) {
        if (xc_sr_read_header(r->ch, XC_SR_RECORD_MAX, xc_sr_restore_deadline(r), &hdr, err) < 0)
            return -1;
        switch (hdr.type) {
        case XC_SR_REC_X86_CPUID_POLICY:
            rc = take_policy(r, &hdr, 24, &r->cpuid, err);
            break;
        case XC_SR_REC_X86_MSR_POLICY:
            rc = take_policy(r, &hdr, 16, &r->msrs, err);
            break;
        case XC_SR_REC_STATIC_DATA_END:
            rc = static_data_end(r, &hdr, err);
            break;
        case XC_SR_REC_PAGE_DATA:
        case XC_SR_REC_COLO_ZERO_PAGES:
        case XC_SR_REC_X86_TSC_INFO:
        case XC_SR_REC_HVM_CONTEXT:
        case XC_SR_REC_HVM_PARAMS:
            rc = take_dynamic(r, &hdr, stage, err);
            break;
        case XC_SR_REC_CHECKPOINT:
        case XC_SR_REC_END:
            if (image_end(r, &hdr, stage, err) < 0)
                return -1;
            *last = hdr.type;
            return 0;
        default:
            rc = hdr.type & XC_SR_REC_OPTIONAL ? skip(r, &hdr, err) : unexpected(&hdr, err);
        }
        if (rc < 0)
            return -1;
    }
}

void xc_sr_restore_forget_image(struct xc_sr_restore *r)
{
    struct xc_sr_record *recs[] = {&r->context, &r->params, &r->tsc};

    for (size_t i = 0; i < sizeof(recs) / sizeof(recs[0]); i++) {
        xc_sr_record_free(recs[i]);
        recs[i]->type = 0;
        recs[i]->length = 0;
    }
    r->tail = 0;
    r->entries = 0;
}
