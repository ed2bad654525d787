/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Which HVM params a stream carries, and which of them belong to the host that the domain is on.
 */
#include "xc_sr_domain.h"

#include <xen/hvm/params.h>

/* Not in every release's public header. */
#ifndef HVM_PARAM_DM_DOMAIN
#define HVM_PARAM_DM_DOMAIN 13
#endif
#ifndef HVM_PARAM_BUFIOREQ_EVTCHN
#define HVM_PARAM_BUFIOREQ_EVTCHN 26
#endif

const uint32_t xc_sr_hvm_params[] = {
    HVM_PARAM_STORE_PFN,
    HVM_PARAM_IOREQ_PFN,
    HVM_PARAM_BUFIOREQ_PFN,
    HVM_PARAM_VIRIDIAN,
    HVM_PARAM_IDENT_PT,
    HVM_PARAM_CONSOLE_PFN,
    HVM_PARAM_ACPI_IOPORTS_LOCATION,
    HVM_PARAM_PAGING_RING_PFN,
    HVM_PARAM_MONITOR_RING_PFN,
    HVM_PARAM_SHARING_RING_PFN,
    HVM_PARAM_IOREQ_SERVER_PFN,
    HVM_PARAM_NR_IOREQ_SERVER_PAGES,
    HVM_PARAM_VM_GENERATION_ID_ADDR,
    HVM_PARAM_X87_FIP_WIDTH,
    HVM_PARAM_VM86_TSS_SIZED,
    HVM_PARAM_MCA_CAP,
};
const size_t xc_sr_nr_hvm_params = sizeof(xc_sr_hvm_params) / sizeof(xc_sr_hvm_params[0]);

/* Event channels are not in a stream of ours, but may be in one that we read. */
bool xc_sr_hvm_param_is_local(uint32_t index)
{
    switch (index) {
    case HVM_PARAM_STORE_PFN:
    case HVM_PARAM_STORE_EVTCHN:
    case HVM_PARAM_CONSOLE_PFN:
    case HVM_PARAM_CONSOLE_EVTCHN:
    case HVM_PARAM_IOREQ_PFN:
    case HVM_PARAM_BUFIOREQ_PFN:
    case HVM_PARAM_BUFIOREQ_EVTCHN:
    case HVM_PARAM_IOREQ_SERVER_PFN:
    case HVM_PARAM_NR_IOREQ_SERVER_PAGES:
    case HVM_PARAM_DM_DOMAIN:
        return true;
    default:
        return false;
    }
}

static int add_gfn(uint64_t gfn, uint64_t *gfns, size_t max, size_t *n, struct colo_err *err)
{
    for (size_t i = 0; i < *n; i++) {
        if (gfns[i] == gfn)
            return 0;
    }
    if (*n == max)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "the domain has more than %zu ring pages", max);
    gfns[(*n)++] = gfn;
    return 0;
}

int xc_sr_local_gfns(struct xc_sr_domain *d, uint64_t *gfns, size_t max, size_t *n,
                     struct colo_err *err)
{
    static const uint32_t single[] = {
        HVM_PARAM_STORE_PFN,
        HVM_PARAM_CONSOLE_PFN,
        HVM_PARAM_IOREQ_PFN,
        HVM_PARAM_BUFIOREQ_PFN,
    };
    uint64_t first, count;

    *n = 0;
    for (size_t i = 0; i < sizeof(single) / sizeof(single[0]); i++) {
        if (d->ops->get_hvm_param(d, single[i], &first, err))
            return -1;
        /* 0 and all ones stand for "none" */
        if (first && first < XC_SR_MAX_GFNS && add_gfn(first, gfns, max, n, err))
            return -1;
    }
    if (d->ops->get_hvm_param(d, HVM_PARAM_IOREQ_SERVER_PFN, &first, err) ||
        d->ops->get_hvm_param(d, HVM_PARAM_NR_IOREQ_SERVER_PAGES, &count, err))
        return -1;
    if (!first || first >= XC_SR_MAX_GFNS)
        return 0;
    for (uint64_t i = 0; i < count; i++) {
        if (add_gfn(first + i, gfns, max, n, err))
            return -1;
    }
    return 0;
}
