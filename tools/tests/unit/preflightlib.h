/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of preflight share: a guest that can be protected, and the host around it.  What
 * preflight asks of Xen is answered here: the functions of libxl and libxc of these names are ours,
 * so this is linked into no other test (UNIT_FAKE in the Makefile).
 */
#ifndef PREFLIGHTLIB_H
#define PREFLIGHTLIB_H

#include <stdbool.h>

#include "libxl_colo_guest.h"
#include "testlib.h"

#define PF_GUEST     "guest"
#define PF_THIS_FILE "/proc/self/exe" /* one that is there */

/* What Xen answers; opened and closed count the handles of the domain. */
extern struct pf_host {
    int stubdom;
    const char *names[2]; /* domains that are there */
    uint64_t need_memkb, free_memkb;
    bool no_memory_info;
    struct xc_sr_domain_info info;
    uint64_t callback;
    unsigned int opened, closed;
} pf_host;

/* Zeroed memory that libxl_domain_config_dispose may free. */
void *pf_array(size_t n, size_t size);

/* A guest that both sides take, to be disposed of by the caller, and a new pf_host that has room for
 * it. */
void pf_good(libxl_domain_config *c);

/* Preflight, as either side does it. */
typedef int pf_check(libxl_domain_config *c, struct colo_err *e);
pf_check pf_primary, pf_secondary;

/* This side refuses c for this reason, with a message that has `says` in it, and keeps nothing. */
void pf_assert_refused(pf_check *side, libxl_domain_config *c, const char *reason,
                       const char *says);

#endif
