/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Digests: equal copies are equal, every difference is found and named, the wire form is bounded.
 */
#include "testlib.h"

#include <stdlib.h>
#include <string.h>

#include <xen/xen.h>
#include <xen/hvm/save.h>

#include "xc_sr_verify.h"

#define O(d) ((d)->ops)

static struct colo_err err;

/* A context as Xen makes it: HEADER, CPU, PMTIMER, END. */
struct __attribute__((packed)) context {
    struct hvm_save_descriptor hd;
    struct hvm_save_header header;
    struct hvm_save_descriptor cd;
    struct hvm_hw_cpu cpu;
    struct hvm_save_descriptor pd;
    struct hvm_hw_pmtimer pm;
    struct hvm_save_descriptor ed;
};

static struct context ctx;

static void init_context(void)
{
    memset(&ctx, 0, sizeof(ctx));
    ctx.hd = (struct hvm_save_descriptor){1, 0, sizeof(ctx.header)};
    ctx.cd = (struct hvm_save_descriptor){2, 3, sizeof(ctx.cpu)};
    ctx.pd = (struct hvm_save_descriptor){13, 0, sizeof(ctx.pm)};
}

static struct xc_sr_domain *new_domain(void)
{
    struct xc_sr_mem_config cfg = {3000, 100, 0};
    struct xc_sr_domain *d = NULL;
    const uint64_t high[] = {2500};

    tl_ok(xc_sr_domain_mem_open(&cfg, &d, &err), &err);
    tl_ok(O(d)->populate(d, high, 1, &err), &err);
    for (uint64_t g = 1; g < 100; g++)
        memset(xc_sr_mem_page(d, g), (int)(g * 3), 4096);
    tl_ok(O(d)->suspend(d, tl_soon(), &err), &err);
    xc_sr_mem_set_context(d, &ctx, sizeof(ctx));
    xc_sr_mem_set_devices(d, "devices", 7);
    return d;
}

/* Digests of both, one of them over the wire, compared. */
static uint64_t diff(struct xc_sr_domain *a, struct xc_sr_domain *b, char *text, size_t len)
{
    struct xc_sr_digest da, db, wired;
    uint64_t n;
    void *buf;
    size_t size;

    tl_ok(xc_sr_digest_make(a, &da, &err), &err);
    tl_ok(xc_sr_digest_make(b, &db, &err), &err);
    tl_ok(xc_sr_digest_pack(&da, &buf, &size, &err), &err);
    tl_ok(xc_sr_digest_unpack(buf, size, &wired, &err), &err);
    tl_eq(xc_sr_digest_diff(&da, &wired, text, len), 0);
    tl_str_eq(text, "");
    n = xc_sr_digest_diff(&wired, &db, text, len);
    free(buf);
    xc_sr_digest_free(&da);
    xc_sr_digest_free(&db);
    xc_sr_digest_free(&wired);
    return n;
}

static void test_differences_are_found_and_named(void **state)
{
    struct xc_sr_domain *a, *b;
    const uint64_t low[] = {5};
    char text[300];

    (void)state;
    init_context();
    a = new_domain();
    b = new_domain();
    tl_eq(diff(a, b, text, sizeof(text)), 0);

    ((char *)xc_sr_mem_page(b, 2500))[4095] ^= 1;
    tl_eq(diff(a, b, text, sizeof(text)), 1);
    tl_str_eq(text, "gfns 0x9c4 (1 pages)");
    ((char *)xc_sr_mem_page(b, 2500))[4095] ^= 1;
    tl_ok(O(b)->release(b, low, 1, &err), &err);
    tl_eq(diff(a, b, text, sizeof(text)), 1);
    tl_has(text, "0x5 (only in the first)");
    tl_eq(diff(b, a, text, sizeof(text)), 1);
    tl_has(text, "0x5 (only in the second)");
    O(b)->close(b);

    b = new_domain();
    for (uint64_t g = 20; g < 40; g++)
        memset(xc_sr_mem_page(b, g), 0xff, 4096);
    tl_eq(diff(a, b, text, sizeof(text)), 20);
    tl_has(text, "0x14");
    tl_has(text, "(20 pages)");
    tl_eq(diff(a, b, text, 10), 20); /* a short text is cut */
    tl_eq(strlen(text), 9);
    tl_ok(O(b)->set_hvm_param(b, 17, 20, &err),
          &err); /* a's page 20 and b's hole are a difference */
    tl_eq(diff(a, b, text, sizeof(text)), 20);
    tl_ok(O(a)->set_hvm_param(a, 17, 20, &err), &err); /* a ring on both sides is none */
    tl_eq(diff(a, b, text, sizeof(text)), 19);
    O(b)->close(b);

    b = new_domain();
    tl_ok(O(a)->set_hvm_param(a, 17, 0, &err), &err);
    xc_sr_mem_set_devices(b, "Devices", 7);
    tl_eq(diff(a, b, text, sizeof(text)), 1);
    tl_str_eq(text, "device state");
    O(a)->close(a);
    O(b)->close(b);
}

static void test_the_context_part_by_part(void **state)
{
    struct xc_sr_domain *a, *b;
    char text[300];

    (void)state;
    init_context();
    a = new_domain();
    b = new_domain();
    ctx.cpu.tsc = 12345; /* moves by itself */
    ctx.pm.tmr_val = 77;
    xc_sr_mem_set_context(b, &ctx, sizeof(ctx));
    tl_eq(diff(a, b, text, sizeof(text)), 0);
    ctx.cpu.rip = 5;
    xc_sr_mem_set_context(b, &ctx, sizeof(ctx));
    tl_eq(diff(a, b, text, sizeof(text)), 1);
    tl_str_eq(text, "context 1: CPU 2.3");
    ctx.cpu.rip = 0;
    ctx.cd.instance = 4;
    xc_sr_mem_set_context(b, &ctx, sizeof(ctx));
    tl_eq(diff(a, b, text, sizeof(text)), 1);

    /* what is not made of save records is compared as a whole, and never read beyond its end */
    ctx.cd.instance = 3;
    for (size_t len = 0; len < sizeof(ctx); len++) {
        xc_sr_mem_set_context(b, &ctx, len);
        tl_eq(diff(a, b, text, sizeof(text)), 1);
        tl_has(text, "context");
    }
    ctx.pd.length = UINT32_MAX;
    xc_sr_mem_set_context(b, &ctx, sizeof(ctx));
    xc_sr_mem_set_context(a, &ctx, sizeof(ctx));
    tl_eq(diff(a, b, text, sizeof(text)), 0);
    ctx.cpu.rip = 1;
    xc_sr_mem_set_context(b, &ctx, sizeof(ctx));
    tl_eq(diff(a, b, text, sizeof(text)), 1);
    O(a)->close(a);
    O(b)->close(b);
}

static void test_the_wire_form_is_not_believed(void **state)
{
    struct xc_sr_digest d, out;
    struct xc_sr_domain *dom;
    unsigned char *buf, *part;
    uint64_t seed = 4, v;
    void *p;
    size_t len;

    (void)state;
    init_context();
    dom = new_domain();
    tl_ok(xc_sr_digest_make(dom, &d, &err), &err);
    tl_ok(xc_sr_digest_pack(&d, &p, &len, &err), &err);
    buf = p;
    for (size_t n = 0; n < len; n++) { /* its own allocation each, so that overreads are seen */
        part = malloc(n + 1);
        memcpy(part, buf, n);
        tl_fails(xc_sr_digest_unpack(part, n, &out, &err), &err, COLO_ERR_PROTOCOL);
        assert_null(out.pages);
        free(part);
    }
    part = calloc(1, len + 8);
    memcpy(part, buf, len);
    tl_fails(xc_sr_digest_unpack(part, len + 8, &out, &err), &err, COLO_ERR_PROTOCOL);
    for (size_t off = 8; off < 24; off += 8) { /* nr_gfns, nr_parts */
        for (int i = 0; i < 64; i++) {
            memcpy(part, buf, len);
            v = UINT64_MAX >> i;
            memcpy(part + off, &v, 8);
            tl_fails(xc_sr_digest_unpack(part, len, &out, &err), &err, COLO_ERR_PROTOCOL);
        }
    }
    for (int i = 0; i < 3000; i++) { /* anything, but no crash and no leak */
        memcpy(part, buf, len);
        part[tl_below(&seed, len)] ^= (unsigned char)tl_rand(&seed);
        if (xc_sr_digest_unpack(part, len, &out, &err) == 0)
            xc_sr_digest_free(&out);
    }
    free(part);
    free(buf);
    xc_sr_digest_free(&d);
    xc_sr_digest_free(&d);
    O(dom)->close(dom);
}

static void test_failures_of_the_domain_leave_nothing(void **state)
{
    static const char *const ops[] = {"info",          "present",         "map",
                                      "get_hvm_param", "get_hvm_context", "devices_save"};
    struct xc_sr_domain *dom;
    struct xc_sr_digest d;

    (void)state;
    init_context();
    dom = new_domain();
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        xc_sr_mem_fail_op(dom, ops[i], 1);
        tl_fails(xc_sr_digest_make(dom, &d, &err), &err, COLO_ERR_LOCAL);
        assert_null(d.pages);
    }
    O(dom)->close(dom);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_differences_are_found_and_named),
        cmocka_unit_test(test_the_context_part_by_part),
        cmocka_unit_test(test_the_wire_form_is_not_believed),
        cmocka_unit_test(test_failures_of_the_domain_leave_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
