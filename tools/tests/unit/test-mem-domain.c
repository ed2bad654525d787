/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The mem domain keeps the contract of the domain's ops.
 */
#include "testlib.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "xc_sr_domain.h"

#define O(d) ((d)->ops)

static struct colo_err err;

static struct xc_sr_domain *new_domain(uint64_t nr_gfns, uint64_t populated, uint64_t max_pages)
{
    struct xc_sr_mem_config cfg = {nr_gfns, populated, max_pages};
    struct xc_sr_domain *d = NULL;

    tl_ok(xc_sr_domain_mem_open(&cfg, &d, &err), &err);
    return d;
}

static struct xc_sr_domain_info info_of(struct xc_sr_domain *d)
{
    struct xc_sr_domain_info i;

    tl_ok(O(d)->info(d, &i, &err), &err);
    return i;
}

/* Does this access kill?  Tried in a child. */
static bool kills(volatile unsigned char *p, bool write)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        if (write)
            *p = 1;
        else
            (void)*p;
        _exit(0);
    }
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status);
}

static void test_map_puts_scattered_pages_side_by_side(void **state)
{
    const uint64_t gfns[] = {5, 6, 7, 2, 9, 60, 1000000, 0};
    struct xc_sr_domain *d = new_domain(64, 10, 0);
    unsigned char *w;
    void *addr;
    int errs[8];

    (void)state;
    for (uint64_t g = 0; g < 10; g++)
        memset(xc_sr_mem_page(d, g), (int)g + 1, XC_PAGE_BYTES);
    tl_ok(O(d)->map(d, gfns, errs, 8, true, &addr, &err), &err);
    w = addr;
    for (size_t i = 0; i < 8; i++) {
        if (gfns[i] < 10) {
            tl_eq(errs[i], 0);
            tl_eq(w[i * XC_PAGE_BYTES + 77], gfns[i] + 1);
        } else {
            assert_true(errs[i] > 0);
            assert_true(kills(w + i * XC_PAGE_BYTES, false));
        }
    }
    w[3 * XC_PAGE_BYTES] = 0xee;
    tl_eq(*(unsigned char *)xc_sr_mem_page(d, 2), 0xee);
    tl_ok(O(d)->unmap(d, addr, 8, &err), &err);

    tl_ok(O(d)->map(d, gfns, errs, 1, false, &addr, &err), &err);
    assert_true(kills(addr, true));
    assert_false(kills(addr, false));
    tl_ok(O(d)->unmap(d, addr, 1, &err), &err);
    O(d)->close(d);
}

static void test_populate_and_release(void **state)
{
    struct xc_sr_domain *d = new_domain(128, 4, 6);
    const uint64_t two[] = {100, 7}, more[] = {8, 9}, again[] = {20, 3}, twice[] = {30, 30};
    const uint64_t gone[] = {0, 50, 100}, far[] = {128};
    uint8_t present[128];
    uint64_t *p;

    (void)state;
    tl_eq(info_of(d).nr_gpfns, 4);
    tl_fails(O(d)->populate(d, again, 2, &err), &err, COLO_ERR_LOCAL);
    assert_null(xc_sr_mem_page(d, 20)); /* all or nothing */
    tl_fails(O(d)->populate(d, twice, 2, &err), &err, COLO_ERR_LOCAL);
    assert_null(xc_sr_mem_page(d, 30));
    tl_fails(O(d)->populate(d, far, 1, &err), &err, COLO_ERR_LOCAL);
    tl_ok(O(d)->populate(d, two, 2, &err), &err);
    tl_eq(info_of(d).nr_gpfns, 101);
    tl_eq(info_of(d).tot_pages, 6);
    p = xc_sr_mem_page(d, 100);
    for (size_t i = 0; i < 512; i++)
        assert_true(p[i] != 0);
    assert_memory_not_equal(p, xc_sr_mem_page(d, 7), XC_PAGE_BYTES);
    tl_fails(O(d)->populate(d, more, 2, &err), &err, COLO_ERR_LOCAL); /* over max_pages */
    tl_eq(info_of(d).tot_pages, 6);

    tl_ok(O(d)->release(d, gone, 3, &err), &err);
    tl_eq(info_of(d).tot_pages, 4);
    tl_ok(O(d)->present(d, 0, 128, present, &err), &err);
    for (uint64_t g = 0; g < 128; g++)
        tl_eq(present[g], g == 1 || g == 2 || g == 3 || g == 7);
    tl_ok(O(d)->populate(d, more, 2, &err), &err);
    O(d)->close(d);
}

static void test_dirty_log(void **state)
{
    struct xc_sr_domain *d = new_domain(200, 150, 0);
    const uint64_t fresh[] = {170};
    uint64_t bits[5];
    void *addr;
    int e;

    (void)state;
    tl_fails(O(d)->logdirty_clean(d, bits, 64, false, &err), &err, COLO_ERR_LOCAL);
    assert_true(xc_sr_mem_guest_write(d, 3, 0, "x", 1)); /* before the log is on */
    tl_ok(O(d)->logdirty_enable(d, &err), &err);
    assert_true(xc_sr_mem_guest_write(d, 1, 4095, "x", 1));
    assert_true(xc_sr_mem_guest_write(d, 140, 0, "x", 1));
    tl_ok(O(d)->map(d, (const uint64_t[]){5}, &e, 1, true, &addr, &err), &err);
    *(char *)addr = 1; /* not the guest's doing */
    tl_ok(O(d)->unmap(d, addr, 1, &err), &err);
    memset(bits, 0xff, sizeof(bits));
    tl_ok(O(d)->logdirty_clean(d, bits, 320, false, &err), &err);
    tl_eq(bits[0], 2);
    tl_eq(bits[1], 0);
    tl_eq(bits[2], 1 << 12);
    tl_eq(bits[3] | bits[4], 0);

    /* a fresh page is watched from the next clean on */
    tl_ok(O(d)->populate(d, fresh, 1, &err), &err);
    assert_true(xc_sr_mem_guest_write(d, 170, 0, "x", 1));
    tl_ok(O(d)->logdirty_clean(d, bits, 192, false, &err), &err);
    tl_eq(bits[0] | bits[1] | bits[2], 0);
    assert_true(xc_sr_mem_guest_write(d, 170, 0, "x", 1));
    tl_fails(O(d)->logdirty_clean(d, bits, 192, true, &err), &err, COLO_ERR_LOCAL);
    tl_ok(O(d)->suspend(d, tl_soon(), &err), &err);
    tl_ok(O(d)->logdirty_clean(d, bits, 192, true, &err), &err);
    tl_eq(bits[2], UINT64_C(1) << 42);
    tl_ok(O(d)->resume(d, &err), &err);

    assert_false(xc_sr_mem_guest_write(d, 180, 0, "x", 1)); /* a hole */
    tl_ok(O(d)->logdirty_disable(d, &err), &err);
    assert_true(xc_sr_mem_guest_write(d, 3, 0, "x", 1));
    tl_ok(O(d)->logdirty_enable(d, &err), &err);
    tl_ok(O(d)->logdirty_clean(d, bits, 64, false, &err), &err);
    tl_eq(bits[0], 0);
    O(d)->close(d);
}

static void test_state_is_kept_and_copied(void **state)
{
    struct xc_sr_domain *d = new_domain(8, 8, 0);
    struct xc_sr_tsc_info tsc = {1, 2, 3, 4}, got;
    struct xc_sr_policy pol;
    uint64_t v;
    void *buf;
    size_t len;

    (void)state;
    xc_sr_mem_set_context(d, "abc", 3);
    tl_ok(O(d)->get_hvm_context(d, &buf, &len, &err), &err);
    tl_eq(len, 3);
    assert_memory_equal(buf, "abc", 3);
    tl_ok(O(d)->set_hvm_context(d, "defg", 4, &err), &err);
    free(buf);
    tl_ok(O(d)->get_hvm_context(d, &buf, &len, &err), &err);
    assert_memory_equal(buf, "defg", 4);
    free(buf);
    tl_ok(O(d)->set_hvm_param(d, 37, 5, &err), &err);
    tl_ok(O(d)->get_hvm_param(d, 37, &v, &err), &err);
    tl_eq(v, 5);
    tl_fails(O(d)->get_hvm_param(d, 64, &v, &err), &err, COLO_ERR_LOCAL);
    tl_fails(O(d)->set_hvm_param(d, UINT32_MAX, 1, &err), &err, COLO_ERR_LOCAL);
    tl_ok(O(d)->set_tsc(d, &tsc, &err), &err);
    tl_ok(O(d)->get_tsc(d, &got, &err), &err);
    tl_eq(got.nsec, 3);
    tl_ok(O(d)->get_policy(d, &pol, &err), &err);
    tl_eq(pol.cpuid_bytes % 24, 0);
    tl_eq(pol.msr_bytes % 16, 0);
    assert_true(pol.cpuid_bytes && pol.msr_bytes);
    tl_ok(O(d)->set_policy(d, &pol, &err), &err);
    xc_sr_mem_guest_write(d, 0, 0, "x", 1);
    tl_fails(O(d)->set_policy(d, &pol, &err), &err, COLO_ERR_LOCAL);
    free(pol.cpuid_leaves);
    free(pol.msrs);

    tl_fails(O(d)->devices_save(d, &buf, &len, &err), &err, COLO_ERR_LOCAL);
    tl_fails(O(d)->devices_load(d, "d", 1, &err), &err, COLO_ERR_LOCAL);
    tl_ok(O(d)->suspend(d, tl_soon(), &err), &err);
    tl_ok(O(d)->devices_save(d, &buf, &len, &err), &err);
    tl_eq(len, 0);
    free(buf);
    tl_ok(O(d)->devices_load(d, "dev", 3, &err), &err);
    tl_ok(O(d)->devices_save_begin(d, &err), &err);
    tl_ok(O(d)->devices_save(d, &buf, &len, &err), &err);
    assert_memory_equal(buf, "dev", 3);
    free(buf);
    O(d)->close(d);
}

static void test_suspend_and_shutdown(void **state)
{
    struct xc_sr_domain *d = new_domain(8, 8, 0);

    (void)state;
    assert_false(info_of(d).shutdown);
    tl_ok(O(d)->resume(d, &err), &err);
    tl_ok(O(d)->suspend(d, tl_soon(), &err), &err);
    tl_ok(O(d)->suspend(d, tl_soon(), &err), &err);
    assert_true(xc_sr_mem_is_suspended(d));
    tl_eq(info_of(d).shutdown_reason, 2);
    assert_false(xc_sr_mem_guest_write(d, 0, 0, "x", 1));
    xc_sr_mem_guest_shutdown(d, 1); /* it is not running: it cannot */
    tl_ok(O(d)->resume(d, &err), &err);
    assert_false(xc_sr_mem_is_suspended(d));
    xc_sr_mem_guest_shutdown(d, 1);
    tl_fails(O(d)->suspend(d, tl_soon(), &err), &err, COLO_ERR_GUEST_DOWN);
    tl_eq(info_of(d).shutdown_reason, 1);
    assert_false(xc_sr_mem_guest_write(d, 0, 0, "x", 1));
    tl_ok(O(d)->devices_load(d, "d", 1, &err), &err);
    tl_ok(O(d)->resume(d, &err), &err);
    assert_true(xc_sr_mem_guest_write(d, 0, 0, "x", 1));
    O(d)->close(d);
}

static void test_injected_failures(void **state)
{
    struct xc_sr_domain *d = new_domain(8, 8, 0);
    uint64_t v;

    (void)state;
    xc_sr_mem_fail_op(d, "get_hvm_param", 3);
    tl_ok(O(d)->get_hvm_param(d, 1, &v, &err), &err);
    tl_ok(O(d)->suspend(d, tl_soon(), &err), &err);
    tl_ok(O(d)->get_hvm_param(d, 1, &v, &err), &err);
    tl_eq(O(d)->get_hvm_param(d, 1, &v, &err), -1);
    tl_str_eq(err.reason, "injected");
    tl_ok(O(d)->get_hvm_param(d, 1, &v, &err), &err);
    xc_sr_mem_fail_op(d, "*", 2);
    tl_ok(O(d)->get_hvm_param(d, 1, &v, &err), &err);
    tl_fails(O(d)->resume(d, &err), &err, COLO_ERR_LOCAL);
    assert_true(xc_sr_mem_is_suspended(d));
    xc_sr_mem_fail_op(d, "resume", 1);
    xc_sr_mem_fail_op(d, "resume", 0);
    tl_ok(O(d)->resume(d, &err), &err);
    O(d)->close(d);
}

static void differ(struct xc_sr_domain *a, struct xc_sr_domain *b, const char *what)
{
    char why[100];

    assert_false(xc_sr_mem_equal(a, b, why, sizeof(why)));
    tl_has(why, what);
}

static void test_equal_sees_every_difference(void **state)
{
    struct xc_sr_domain *a = new_domain(32, 16, 0), *b = new_domain(32, 16, 0);
    struct xc_sr_tsc_info tsc = {0, 0, 1, 0};
    const uint64_t last[] = {31};
    char why[100];

    (void)state;
    assert_true(xc_sr_mem_equal(a, b, why, sizeof(why)));
    *(char *)xc_sr_mem_page(b, 15) = 1;
    differ(a, b, "gfn 0xf differs");
    tl_ok(O(b)->set_hvm_param(b, 17, 15, &err), &err); /* it is b's console */
    assert_true(xc_sr_mem_equal(a, b, why, sizeof(why)));
    tl_ok(O(b)->populate(b, last, 1, &err), &err);
    differ(a, b, "hole in the first");
    differ(b, a, "hole in the second");
    tl_ok(O(b)->release(b, last, 1, &err), &err);
    tl_ok(O(a)->set_hvm_param(a, 37, 1, &err), &err);
    differ(a, b, "param 37");
    tl_ok(O(b)->set_hvm_param(b, 37, 1, &err), &err);
    xc_sr_mem_set_context(a, "x", 1);
    differ(a, b, "context");
    xc_sr_mem_set_context(b, "x", 1);
    xc_sr_mem_set_devices(a, "x", 1);
    xc_sr_mem_set_devices(b, "y", 1);
    differ(a, b, "device");
    xc_sr_mem_set_devices(b, "x", 1);
    tl_ok(O(b)->set_tsc(b, &tsc, &err), &err);
    differ(a, b, "TSC");
    O(a)->close(a);
    O(b)->close(b);
}

static void test_local_gfns(void **state)
{
    struct xc_sr_domain *d = new_domain(64, 64, 0);
    uint64_t gfns[16];
    size_t n;

    (void)state;
    tl_ok(xc_sr_local_gfns(d, gfns, 16, &n, &err), &err);
    tl_eq(n, 0);
    tl_ok(O(d)->set_hvm_param(d, 1, 40, &err), &err);
    tl_ok(O(d)->set_hvm_param(d, 17, 41, &err), &err);
    tl_ok(O(d)->set_hvm_param(d, 5, 40, &err), &err); /* the same page: once */
    tl_ok(O(d)->set_hvm_param(d, 6, UINT64_MAX, &err), &err);
    tl_ok(O(d)->set_hvm_param(d, 32, 50, &err), &err);
    tl_ok(O(d)->set_hvm_param(d, 33, 3, &err), &err);
    tl_ok(xc_sr_local_gfns(d, gfns, 16, &n, &err), &err);
    tl_eq(n, 5);
    tl_eq(gfns[0], 40);
    tl_eq(gfns[4], 52);
    tl_fails(xc_sr_local_gfns(d, gfns, 4, &n, &err), &err, COLO_ERR_LOCAL);
    tl_ok(O(d)->set_hvm_param(d, 33, UINT64_MAX, &err), &err);
    tl_fails(xc_sr_local_gfns(d, gfns, 16, &n, &err), &err, COLO_ERR_LOCAL);
    assert_true(xc_sr_hvm_param_is_local(2));
    assert_false(xc_sr_hvm_param_is_local(37));
    O(d)->close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map_puts_scattered_pages_side_by_side),
        cmocka_unit_test(test_populate_and_release),
        cmocka_unit_test(test_dirty_log),
        cmocka_unit_test(test_state_is_kept_and_copied),
        cmocka_unit_test(test_suspend_and_shutdown),
        cmocka_unit_test(test_injected_failures),
        cmocka_unit_test(test_equal_sees_every_difference),
        cmocka_unit_test(test_local_gfns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
