/* SPDX-License-Identifier: GPL-2.0-only */
/* Where the proxies of the two hosts meet. */
#include "testlib.h"

#include <stdlib.h>
#include <string.h>

#include "libxl_colo_forward.h"

static struct colo_err err;

static void test_the_first_device_that_is_named(void **state)
{
    libxl_device_nic nics[3];
    libxl_domain_config cfg;

    (void)state;
    memset(&cfg, 0, sizeof(cfg));
    memset(nics, 0, sizeof(nics));
    assert_null(colo_forward_device(&cfg));
    cfg.nics = nics;
    cfg.num_nics = 3;
    assert_null(colo_forward_device(&cfg));
    nics[0].coloft_forwarddev = (char *)"";
    nics[1].coloft_forwarddev = (char *)"eth1";
    nics[2].coloft_forwarddev = (char *)"eth2";
    tl_str_eq(colo_forward_device(&cfg), "eth1");
}

static void test_where_to_listen(void **state)
{
    char address[COLO_ADDRESS];

    (void)state;
    tl_ok(colo_forward_listen("lo", address, &err), &err);
    tl_str_eq(address, "127.0.0.1"); /* rather than ::1 */
    tl_has((colo_forward_listen("nosuch0", address, &err), err.msg), "nosuch0");
    tl_str_eq(err.reason, "forwarddev");
    tl_fails(colo_forward_listen("nosuch0", address, &err), &err, COLO_ERR_REFUSED);
    setenv("SSH_CONNECTION", "10.0.0.1 50000 10.0.0.2 22", 1);
    tl_ok(colo_forward_listen(NULL, address, &err), &err);
    tl_str_eq(address, "10.0.0.2");
    unsetenv("SSH_CONNECTION");
    tl_ok(colo_forward_listen(NULL, address, &err), &err);
    tl_str_eq(address, "");
}

static void test_how_to_connect(void **state)
{
    char host[COLO_ADDRESS + IFNAMSIZ];

    (void)state;
    colo_forward_host("eth1", "fe80::1", host);
    tl_str_eq(host, "fe80::1%eth1");
    colo_forward_host(NULL, "fe80::1", host);
    tl_str_eq(host, "fe80::1");
    colo_forward_host("eth1", "fd00::1", host);
    tl_str_eq(host, "fd00::1");
    colo_forward_host("eth1", "10.0.0.2", host);
    tl_str_eq(host, "10.0.0.2");
    colo_forward_host("eth1", "", host);
    tl_str_eq(host, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_device_that_is_named),
        cmocka_unit_test(test_where_to_listen),
        cmocka_unit_test(test_how_to_connect),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
