/* SPDX-License-Identifier: GPL-2.0-only */
/* Preflight: a guest that is refused as it runs, and hosts that have no place for it. */
#include "preflightlib.h"

#include <stdlib.h>
#include <string.h>

/* ---- the primary's guest as it runs ---- */

static void test_the_guest_must_run_by_itself(void **state)
{
    struct colo_err e = {0};
    libxl_domain_config c;

    (void)state;
    pf_good(&c);
    pf_host.stubdom = 6;
    pf_assert_refused(pf_primary, &c, "stubdom", "stub domain");
    tl_ok(pf_secondary(&c, &e), &e); /* which has no such domain yet */
    pf_host.stubdom = 0;

    pf_host.info = (struct xc_sr_domain_info){.shutdown = true, .shutdown_reason = 3};
    pf_assert_refused(pf_primary, &c, "guest-shut-down", "reason 3");
    pf_host.info = (struct xc_sr_domain_info){.paused = true};
    pf_assert_refused(pf_primary, &c, "guest-paused", "xl unpause " PF_GUEST);
    pf_host.info.paused = false;
    pf_host.callback = UINT64_C(2) << 56 | 0xf3;
    pf_assert_refused(pf_primary, &c, "guest-pv-drivers-active", "xen_nopv");
    pf_host.callback = 0;

    free(c.c_info.name);
    c.c_info.name = strdup(PF_GUEST "--incoming");
    pf_assert_refused(pf_primary, &c, "guest-incoming", PF_GUEST "--incoming");
    free(c.c_info.name);
    c.c_info.name = strdup("--incoming"); /* a name like any other */
    tl_ok(pf_primary(&c, &e), &e);
    libxl_domain_config_dispose(&c);
}

/* ---- the second host ---- */

static void test_names_that_are_taken(void **state)
{
    libxl_domain_config c;

    (void)state;
    pf_good(&c);
    pf_host.names[0] = "another";
    pf_host.names[1] = PF_GUEST;
    pf_assert_refused(pf_secondary, &c, "name-in-use", "named " PF_GUEST);
    pf_host.names[1] = PF_GUEST "--incoming";
    pf_assert_refused(pf_secondary, &c, "incoming-exists", "xl destroy " PF_GUEST "--incoming");
    pf_host.names[1] = NULL;
    *c.c_info.name = '\0';
    pf_assert_refused(pf_secondary, &c, "bad-config", "no name");
    free(c.c_info.name);
    c.c_info.name = NULL;
    pf_assert_refused(pf_secondary, &c, "bad-config", "no name");
    libxl_domain_config_dispose(&c);
}

static void test_memory(void **state)
{
    struct colo_err e = {0};
    libxl_domain_config c;

    (void)state;
    pf_good(&c);
    pf_host.free_memkb = pf_host.need_memkb - 1;
    pf_assert_refused(pf_secondary, &c, "no-memory", "needs 256 MiB, 255 MiB are free");
    pf_host.no_memory_info = true;
    tl_fails(pf_secondary(&c, &e), &e, COLO_ERR_LOCAL);
    libxl_domain_config_dispose(&c);
}

static void missing(libxl_domain_config *c, char **path)
{
    char *was = *path;

    *path = strdup("/nonexistent/file");
    pf_assert_refused(pf_secondary, c, "file-missing", "/nonexistent/file");
    free(*path);
    *path = was;
}

static void test_files_that_are_missing(void **state)
{
    struct colo_err e = {0};
    libxl_domain_config c;

    (void)state;
    pf_good(&c);
    missing(&c, &c.b_info.kernel);
    missing(&c, &c.b_info.ramdisk);
    missing(&c, &c.b_info.device_model);
    missing(&c, &c.disks[0].pdev_path);
    missing(&c, &c.disks[1].pdev_path);
    *c.disks[1].pdev_path = '\0'; /* an empty drive */
    tl_ok(pf_secondary(&c, &e), &e);
    libxl_domain_config_dispose(&c);
}

static void test_bridges_that_are_missing(void **state)
{
    static const char *const names[] = {"nosuchbridge0", ".", "..", "../net/lo", "lo/", "lo "};
    char longer[100];
    libxl_domain_config c;

    (void)state;
    pf_good(&c);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        c.nics[1].bridge = strdup(names[i]);
        pf_assert_refused(pf_secondary, &c, "bridge-missing", names[i]);
        free(c.nics[1].bridge);
    }
    memset(longer, 'b', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    c.nics[1].bridge = strdup(longer);
    pf_assert_refused(pf_secondary, &c, "bridge-missing", "bbbb");
    libxl_domain_config_dispose(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_guest_must_run_by_itself),
        cmocka_unit_test(test_names_that_are_taken),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_files_that_are_missing),
        cmocka_unit_test(test_bridges_that_are_missing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
