/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The `xen` domain's processors and platform: HVM context, HVM params, TSC, CPUID and MSR policy.
 */
#include "xc_sr_domain_xen.h"

#include <errno.h>
#include <stdlib.h>

int xc_sr_xen_get_hvm_context(struct xc_sr_domain *d, void **buf, size_t *len, struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);
    void *blob;
    int r;

    /* The size depends on the number of vCPUs only: asked for once. */
    if (!x->context_size) {
        r = xc_domain_hvm_getcontext(x->xch, x->domid, NULL, 0);
        if (r <= 0)
            return colo_fail_errno(err, r < 0 ? errno : EIO,
                                   "cannot get the size of the context of domain %u", x->domid);
        x->context_size = (size_t)r;
    }
    blob = malloc(x->context_size);
    if (!blob)
        return colo_fail_errno(err, ENOMEM, "cannot get the context of domain %u", x->domid);
    r = xc_domain_hvm_getcontext(x->xch, x->domid, blob, (uint32_t)x->context_size);
    if (r <= 0) {
        colo_fail_errno(err, r < 0 ? errno : EIO, "cannot get the context of domain %u", x->domid);
        free(blob);
        return -1;
    }
    *buf = blob;
    *len = (size_t)r;
    return 0;
}

int xc_sr_xen_set_hvm_context(struct xc_sr_domain *d, const void *buf, size_t len,
                              struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);

    /* The library takes the buffer without const and only reads it. */
    if (xc_domain_hvm_setcontext(x->xch, x->domid, (uint8_t *)(uintptr_t)buf, (uint32_t)len) < 0)
        return colo_fail_errno(err, errno, "Xen refuses the vCPU state for domain %u", x->domid);
    return 0;
}

int xc_sr_xen_get_hvm_param(struct xc_sr_domain *d, uint32_t index, uint64_t *value,
                            struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);

    if (xc_hvm_param_get(x->xch, x->domid, index, value) < 0)
        return colo_fail_errno(err, errno, "cannot get HVM param %u of domain %u", index, x->domid);
    return 0;
}

int xc_sr_xen_set_hvm_param(struct xc_sr_domain *d, uint32_t index, uint64_t value,
                            struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);

    if (xc_hvm_param_set(x->xch, x->domid, index, value) < 0)
        return colo_fail_errno(err, errno, "cannot set HVM param %u of domain %u to 0x%llx", index,
                               x->domid, (unsigned long long)value);
    return 0;
}

int xc_sr_xen_get_tsc(struct xc_sr_domain *d, struct xc_sr_tsc_info *out, struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);

    if (xc_domain_get_tsc_info(x->xch, x->domid, &out->mode, &out->nsec, &out->khz,
                               &out->incarnation) < 0)
        return colo_fail_errno(err, errno, "cannot get the TSC of domain %u", x->domid);
    return 0;
}

int xc_sr_xen_set_tsc(struct xc_sr_domain *d, const struct xc_sr_tsc_info *in, struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);

    if (xc_domain_set_tsc_info(x->xch, x->domid, in->mode, in->nsec, in->khz, in->incarnation) < 0)
        return colo_fail_errno(err, errno, "cannot set the TSC of domain %u", x->domid);
    return 0;
}

int xc_sr_xen_get_policy(struct xc_sr_domain *d, struct xc_sr_policy *out, struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);
    uint32_t nr_leaves = 0, nr_msrs = 0;
    xen_cpuid_leaf_t *leaves = NULL;
    xen_msr_entry_t *msrs = NULL;
    xc_cpu_policy_t *policy = NULL;
    int rc = -1;

    _Static_assert(sizeof(*leaves) == 24 && sizeof(*msrs) == 16, "wire layouts");
    if (xc_cpu_policy_get_size(x->xch, &nr_leaves, &nr_msrs) < 0) {
        colo_fail_errno(err, errno, "cannot get the size of a CPU policy");
        goto out;
    }
    leaves = calloc(nr_leaves + 1, sizeof(*leaves));
    msrs = calloc(nr_msrs + 1, sizeof(*msrs));
    policy = xc_cpu_policy_init();
    if (!leaves || !msrs || !policy) {
        colo_fail_errno(err, ENOMEM, "cannot get the CPU policy of domain %u", x->domid);
        goto out;
    }
    if (xc_cpu_policy_get_domain(x->xch, x->domid, policy) < 0 ||
        xc_cpu_policy_serialise(x->xch, policy, leaves, &nr_leaves, msrs, &nr_msrs) < 0) {
        colo_fail_errno(err, errno, "cannot get the CPU policy of domain %u", x->domid);
        goto out;
    }
    out->cpuid_leaves = leaves;
    out->cpuid_bytes = nr_leaves * sizeof(*leaves);
    out->msrs = msrs;
    out->msr_bytes = nr_msrs * sizeof(*msrs);
    leaves = NULL;
    msrs = NULL;
    rc = 0;
out:
    xc_cpu_policy_destroy(policy);
    free(leaves);
    free(msrs);
    return rc;
}

int xc_sr_xen_set_policy(struct xc_sr_domain *d, const struct xc_sr_policy *in,
                         struct colo_err *err)
{
    struct xc_sr_domain_xen *x = xc_sr_xen(d);
    uint32_t leaf = ~0u, subleaf = ~0u, msr = ~0u;

    if (xc_set_domain_cpu_policy(
            x->xch, x->domid, (uint32_t)(in->cpuid_bytes / sizeof(xen_cpuid_leaf_t)),
            in->cpuid_leaves, (uint32_t)(in->msr_bytes / sizeof(xen_msr_entry_t)), in->msrs, &leaf,
            &subleaf, &msr) == 0)
        return 0;
    if (leaf != ~0u)
        return colo_fail(err, COLO_ERR_REFUSED, "cpu-policy-incompatible",
                         "this host's processor cannot be what the guest knows: CPUID leaf 0x%x, "
                         "subleaf 0x%x",
                         leaf, subleaf);
    if (msr != ~0u)
        return colo_fail(err, COLO_ERR_REFUSED, "cpu-policy-incompatible",
                         "this host's processor cannot be what the guest knows: MSR 0x%x", msr);
    colo_fail_errno(err, errno, "Xen refuses the guest's CPU policy for domain %u", x->domid);
    return colo_err_prefix(err, "this host's processor cannot be what the guest knows");
}
