/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What saving and restoring refuse: every refusal of the stream's reader and of the list's reader,
 * and a host that fails.
 */
#include <stdlib.h>
#include <string.h>

#include "srlib.h"

#define HEADERS (sizeof(struct xc_sr_ihdr) + sizeof(struct xc_sr_dhdr))

/* ---- refusals of the restorer ---- */

struct patch { /* a plain stream, changed */
    const char *name;
    uint32_t
        type; /* offset at counts from the first such record; 0 with at < HEADERS: from start */
    size_t at;
    uint32_t value; /* of four bytes there */
    enum colo_err_class cls;
    const char *says;
};

static const struct patch patches[] = {
    {"marker", 0, 0, 0, COLO_ERR_PROTOCOL, "not a libxc stream"},
    {"id", 0, 8, 0, COLO_ERR_PROTOCOL, "not a libxc stream"},
    {"version 1", 0, 12, 0x01000000, COLO_ERR_REFUSED, "version 1"},
    {"version 4", 0, 12, 0x04000000, COLO_ERR_REFUSED, "version 4"},
    {"big-endian", 0, 16, 0x0100, COLO_ERR_REFUSED, "big-endian"},
    {"options", 0, 16, 0x8000, COLO_ERR_PROTOCOL, "options"},
    {"PV", 0, 24, 1, COLO_ERR_REFUSED, "type 1"},
    {"page shift", 0, 28, 13, COLO_ERR_PROTOCOL, "2^13"},
    {"no pages", XC_SR_REC_PAGE_DATA, 8, 0, COLO_ERR_PROTOCOL, "of 0 pages"},
    {"too many pages", XC_SR_REC_PAGE_DATA, 8, 0xffffffff, COLO_ERR_PROTOCOL, "4294967295 pages"},
    {"one page too many", XC_SR_REC_PAGE_DATA, 8, 11, COLO_ERR_PROTOCOL, NULL},
    {"one page too few", XC_SR_REC_PAGE_DATA, 8, 9, COLO_ERR_PROTOCOL, "should have"},
    {"pfn", XC_SR_REC_PAGE_DATA, 16, SR_GFNS, COLO_ERR_PROTOCOL, "page 0x10"},
    {"high pfn", XC_SR_REC_PAGE_DATA, 20, 0x80, COLO_ERR_PROTOCOL, "page 0x8000000000"},
    {"reserved", XC_SR_REC_PAGE_DATA, 20, 0x00100000, COLO_ERR_PROTOCOL, "reserved"},
    {"type 6", XC_SR_REC_PAGE_DATA, 20, 0x60000000, COLO_ERR_PROTOCOL, "invalid type"},
    {"hole with data", XC_SR_REC_PAGE_DATA, 20, 0xf0000000, COLO_ERR_PROTOCOL, "should have"},
    {"PAGE_DATA of 4", XC_SR_REC_PAGE_DATA, 4, 4, COLO_ERR_PROTOCOL, "of 4 bytes"},
    {"VERIFY", XC_SR_REC_X86_TSC_INFO, 0, XC_SR_REC_VERIFY, COLO_ERR_REFUSED, "comparison"},
    {"TOOLSTACK", XC_SR_REC_X86_TSC_INFO, 0, XC_SR_REC_TOOLSTACK, COLO_ERR_REFUSED, "too old"},
    {"list", XC_SR_REC_X86_TSC_INFO, 0, XC_SR_REC_DIRTY_PFN_LIST, COLO_ERR_PROTOCOL, "secondary"},
    {"unknown", XC_SR_REC_X86_TSC_INFO, 0, 0x77, COLO_ERR_PROTOCOL, "unknown record"},
    {"PV record", XC_SR_REC_X86_TSC_INFO, 0, 2, COLO_ERR_PROTOCOL, "unknown record"},
    {"no TSC", XC_SR_REC_X86_TSC_INFO, 0, 0x80000077, COLO_ERR_PROTOCOL, "missing"},
    {"no context", XC_SR_REC_HVM_CONTEXT, 0, 0x80000077, COLO_ERR_PROTOCOL, "no vCPU state"},
    {"long TSC", XC_SR_REC_X86_TSC_INFO, 4, 32, COLO_ERR_PROTOCOL, "of 32 bytes"},
    {"long context", XC_SR_REC_HVM_CONTEXT, 4, 5 << 20, COLO_ERR_PROTOCOL, "at most"},
    {"short params", XC_SR_REC_HVM_PARAMS, 4, 4, COLO_ERR_PROTOCOL, "of 4 bytes"},
    {"params", XC_SR_REC_HVM_PARAMS, 8, 0x10000001, COLO_ERR_PROTOCOL, "params in"},
    {"unknown param", XC_SR_REC_HVM_PARAMS, 16, 3, COLO_ERR_PROTOCOL, "unknown HVM param 3"},
    {"END with body", XC_SR_REC_END, 4, 8, COLO_ERR_PROTOCOL, "with a body"},
    {"static data twice", XC_SR_REC_X86_TSC_INFO, 0, XC_SR_REC_STATIC_DATA_END, COLO_ERR_PROTOCOL,
     "out of place"},
    {"late policy", XC_SR_REC_X86_TSC_INFO, 0, XC_SR_REC_X86_CPUID_POLICY, COLO_ERR_PROTOCOL,
     "out of place"},
    {"no static data", XC_SR_REC_STATIC_DATA_END, 0, 0x80000077, COLO_ERR_PROTOCOL, "out of place"},
};

static void what_the_format_forbids_is_refused(void **state)
{
    struct sr_pair t;
    struct sr_bytes whole, b;
    long at;

    (void)state;
    sr_pair_open(&t, false);
    whole = sr_plain(&t);
    for (size_t i = 0; i < sizeof(patches) / sizeof(patches[0]); i++) {
        const struct patch *p = &patches[i];

        at = 0;
        if (p->type || i > 7) {
            at = sr_find(&whole, true, p->type, 0);
            assert_true(at > 0);
        }
        b = sr_bytes_copy(&whole);
        memcpy(b.p + at + p->at, &p->value, sizeof(p->value));
        xc_sr_restore_fini(&t.restore);
        sr_restore_open(&t);
        if (sr_load(&t, &b) == 0)
            fail_msg("%s was taken", p->name);
        if (t.e.cls != p->cls)
            fail_msg("%s: class %s: %s", p->name, colo_err_class_name(t.e.cls), t.e.msg);
        if (p->says)
            tl_has(t.e.msg, p->says);
        colo_err_clear(&t.e);
        sr_bytes_free(&b);
    }
    sr_bytes_free(&whole);
    sr_pair_close(&t);
}

static void unknown_optional_records_are_passed_over(void **state)
{
    const struct xc_sr_rhdr odd = {.type = 0x80000042, .length = 5001};
    struct sr_pair t;
    struct sr_bytes b;
    unsigned char *rec;
    long at;

    (void)state;
    sr_pair_open(&t, false);
    b = sr_plain(&t);
    rec = calloc(1, sizeof(odd) + 5008);
    assert_non_null(rec);
    memcpy(rec, &odd, sizeof(odd));
    at = sr_find(&b, true, XC_SR_REC_PAGE_DATA, 0);
    assert_true(at > 0);
    sr_bytes_insert(&b, (size_t)at, rec, sizeof(odd) + 5008);
    sr_bytes_insert(&b, HEADERS, rec, sizeof(odd) + 5008);
    free(rec);
    tl_ok(sr_load(&t, &b), &t.e);
    sr_assert_same_but_devices(&t);
    sr_bytes_free(&b);
    sr_pair_close(&t);
}

static void an_endless_image_is_refused(void **state)
{
    struct {
        struct xc_sr_rhdr h;
        struct xc_sr_rec_pfn_run run;
    } rec = {{XC_SR_REC_COLO_ZERO_PAGES, 16}, {0, SR_GFNS}};
    struct sr_pair t;
    struct sr_bytes b;

    (void)state;
    sr_pair_open(&t, false);
    b = sr_plain(&t);
    for (int i = 0; i < 8; i++)
        sr_bytes_insert(&b, (size_t)sr_find(&b, true, XC_SR_REC_PAGE_DATA, 0), &rec, sizeof(rec));
    tl_fails(sr_load(&t, &b), &t.e, COLO_ERR_PROTOCOL);
    sr_bytes_free(&b);
    sr_pair_close(&t);
}

static void zero_runs_are_bounded(void **state)
{
    struct {
        struct xc_sr_rhdr h;
        struct xc_sr_rec_pfn_run run;
    } rec = {{XC_SR_REC_COLO_ZERO_PAGES, 16}, {0, 0}};
    const struct xc_sr_rec_pfn_run bad[] = {
        {0, 0}, {SR_GFNS, 1}, {0, SR_GFNS + 1}, {1, UINT64_MAX}, {UINT64_MAX, 1},
    };
    struct sr_pair t;
    struct sr_bytes whole, b;

    (void)state;
    sr_pair_open(&t, false);
    whole = sr_plain(&t);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        rec.run = bad[i];
        b = sr_bytes_copy(&whole);
        sr_bytes_insert(&b, (size_t)sr_find(&b, true, XC_SR_REC_PAGE_DATA, 0), &rec, sizeof(rec));
        xc_sr_restore_fini(&t.restore);
        sr_restore_open(&t);
        tl_fails(sr_load(&t, &b), &t.e, COLO_ERR_PROTOCOL);
        sr_bytes_free(&b);
    }
    sr_bytes_free(&whole);
    sr_pair_close(&t);
}

static void a_policy_that_this_host_cannot_be_is_refused(void **state)
{
    struct {
        struct xc_sr_rhdr h;
        uint32_t leaf[6];
    } rec = {{XC_SR_REC_X86_CPUID_POLICY, 24}, {0}};
    struct sr_pair t;
    struct sr_bytes b;

    (void)state;
    sr_pair_open(&t, false);
    b = sr_plain(&t);
    if (sr_find(&b, true, XC_SR_REC_X86_CPUID_POLICY, 0) < 0)
        sr_bytes_insert(&b, HEADERS, &rec, sizeof(rec));
    xc_sr_mem_fail_op(t.s, "set_policy", 1);
    assert_int_equal(sr_load(&t, &b), -1);
    tl_str_eq(t.e.reason, "cpu-policy-incompatible");
    tl_fails(-1, &t.e, COLO_ERR_REFUSED);
    sr_bytes_free(&b);
    sr_pair_close(&t);
}

/* ---- refusals of the saver ---- */

static int merge(struct sr_pair *t, const struct sr_bytes *b)
{
    struct sr_source source;
    int rc;

    sr_source_open(&source, b);
    t->save.ch = &source.ch;
    rc = xc_sr_save_merge_list(&t->save, &t->e);
    sr_source_close(&source);
    return rc;
}

static void the_list_is_bounded(void **state)
{
    struct {
        struct xc_sr_rhdr h;
        uint64_t pfn[3];
    } rec = {{XC_SR_REC_DIRTY_PFN_LIST, 24}, {3, 1, 12}};
    struct sr_bytes b = {.p = (unsigned char *)&rec, .n = sizeof(rec)};
    struct sr_pair t;

    (void)state;
    sr_pair_open(&t, false);
    t.save.max_gfns = 0;
    tl_ok(merge(&t, &b), &t.e);
    tl_eq(t.save.stats.s_dirty, 3);
    tl_eq(xc_sr_bitmap_count(&t.save.dirty), 3);
    rec.pfn[2] = 13;
    tl_fails(merge(&t, &b), &t.e, COLO_ERR_PROTOCOL);
    t.save.max_gfns = 14; /* the secondary may be larger */
    tl_ok(merge(&t, &b), &t.e);
    rec.pfn[2] = 14;
    tl_fails(merge(&t, &b), &t.e, COLO_ERR_PROTOCOL);
    rec.pfn[2] = UINT64_MAX;
    tl_fails(merge(&t, &b), &t.e, COLO_ERR_PROTOCOL);
    rec.pfn[2] = 2;
    rec.h.length = 20;
    tl_fails(merge(&t, &b), &t.e, COLO_ERR_PROTOCOL);
    rec.h.length = 0x7ffffff8;
    tl_fails(merge(&t, &b), &t.e, COLO_ERR_PROTOCOL);
    rec.h.length = 24;
    rec.h.type = XC_SR_REC_PAGE_DATA;
    tl_fails(merge(&t, &b), &t.e, COLO_ERR_PROTOCOL);
    rec.h.type = XC_SR_REC_DIRTY_PFN_LIST;
    b.n = 20;
    tl_fails(merge(&t, &b), &t.e, COLO_ERR_PEER_EOF);
    sr_pair_close(&t);
}

static void a_failing_host_is_told_and_leaks_nothing(void **state)
{
    const char *const ops[] = {"info",    "present",         "map",           "get_policy",
                               "get_tsc", "get_hvm_context", "get_hvm_param", "logdirty_enable"};
    struct sr_sink sink;
    struct sr_bytes b;
    struct sr_pair t;
    int rc;

    (void)state;
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        sr_pair_open(&t, true);
        sr_sink_open(&sink);
        t.save.ch = &sink.ch;
        xc_sr_mem_fail_op(t.p, ops[i], 1);
        rc = xc_sr_save_begin(&t.save, &t.e);
        if (rc == 0)
            rc = xc_sr_save_precopy(&t.save, NULL, NULL, &t.e);
        if (rc == 0)
            rc = xc_sr_save_tail(&t.save, XC_SR_REC_END, &t.e);
        tl_fails(rc, &t.e, COLO_ERR_LOCAL);
        b = sr_sink_close(&sink);
        sr_bytes_free(&b);
        sr_pair_close(&t);
    }
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_format_forbids_is_refused),
        cmocka_unit_test(unknown_optional_records_are_passed_over),
        cmocka_unit_test(an_endless_image_is_refused),
        cmocka_unit_test(zero_runs_are_bounded),
        cmocka_unit_test(a_policy_that_this_host_cannot_be_is_refused),
        cmocka_unit_test(the_list_is_bounded),
        cmocka_unit_test(a_failing_host_is_told_and_leaks_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
