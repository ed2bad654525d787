/* SPDX-License-Identifier: GPL-2.0-only */
/* What operators and their scripts see of a session, to the letter: a change here is a change of
 * our interface. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libxl_colo_shared.h"
#include "libxl_colo_status_text.h"

#define MS INT64_C(1000000)

static struct colo_status primary(void)
{
    struct colo_status st = {
        .role = COLO_PRIMARY,
        .state = COLO_STATE_LOCKSTEP,
        .guest = "web",
        .uuid = "6f1c2a9e-0d1b-4c7e-9a53-1f7d3b0c8e11",
        .peer = "beta",
        .session = "0b9d7f52-52a3-4d0e-8f0a-6a2f6f1d9c01",
        .generation = 1,
        .domid = 3,
        .started_wall = 1700000000,
        .protected_since_wall = 1700000030,
        .checkpoints = 412,
        .triggers =
            {[COLO_TRIGGER_FIRST] = 1, [COLO_TRIGGER_PERIOD] = 409, [COLO_TRIGGER_REQUEST] = 2},
        .interval_max_ms = 5000,
        .interval_min_ms = 100,
        .heartbeat_ms = 100,
        .heartbeat_misses = 5,
        .pause_ns = {21 * MS, 40 * MS, 20 * MS},
        .pauses = 3,
        .last_steps = {.suspend = 2 * MS,
                       .peer_suspend = 1 * MS,
                       .dirty_log = 500000,
                       .pages_map = 700000,
                       .pages_write = 1300000,
                       .context = 250000,
                       .device_save = 3 * MS,
                       .peer_apply = 9 * MS,
                       .resume = 2250000,
                       .total = 20 * MS,
                       .svm_suspend = 2500000,
                       .svm_stage = 1 * MS,
                       .svm_device_load = 5 * MS,
                       .svm_memory = 2 * MS,
                       .svm_context = 750000,
                       .svm_dirty_log = 400000},
        .p_dirty = 275,
        .s_dirty = 281,
        .union_dirty = 334,
        .sent = 334,
        .total_sent = 170000,
        .bytes_out = UINT64_C(734003200),
        .bytes_in = 1536,
        .mem_pages = 32768,
        .sync_done = 32768,
        .sync_total = 32768,
        .sync_round = 3,
        .sync_ns = 2900 * MS,
        .network = "compare",
        .differences = {{"payload", 12}, {"secondary-silent", 1}},
        .last_difference = "payload: udp 10.0.0.1:53, byte 3",
        .disks = "none",
    };

    return st;
}

static struct colo_status secondary(void)
{
    struct colo_status st = {
        .role = COLO_SECONDARY,
        .state = COLO_STATE_UNPROTECTED,
        .guest = "a-guest-with-a-long-name",
        .peer = "alpha",
        .generation = 2,
        .domid = 12,
        .checkpoints = 7,
        .interval_max_ms = 1000,
        .interval_min_ms = 10,
        .heartbeat_ms = 200,
        .heartbeat_misses = 10,
        .last_steps = {.svm_suspend = 2 * MS, .svm_memory = 3 * MS},
        .staging_peak = 3 << 20,
        .verified = 7,
        .takeover_ns = 84 * MS,
        .network = "pass",
        .disks = "none",
        .policy = "took over: the primary is silent",
        .last_reason = "peer-silent",
        .last_error = "nothing heard from alpha for 2000 ms",
    };

    return st;
}

static struct colo_json *parsed(const struct colo_status *st)
{
    char *text = colo_status_json(st, false);
    struct colo_json *j;
    struct colo_err err = {0};

    assert_non_null(text);
    assert_null(strchr(text, '\n')); /* one line on the control socket */
    if (colo_json_parse(text, strlen(text), &j, &err))
        fail_msg("%s: %s", text, err.msg);
    free(text);
    return j;
}

static void same(char *got, const char *want)
{
    assert_non_null(got);
    if (strcmp(got, want) != 0) {
        fprintf(stderr, "---- got\n%s---- want\n%s----\n", got, want);
        fail();
    }
    free(got);
}

static const char primary_json[] =
    "{\n"
    "    \"guest\": \"web\",\n"
    "    \"domid\": 3,\n"
    "    \"uuid\": \"6f1c2a9e-0d1b-4c7e-9a53-1f7d3b0c8e11\",\n"
    "    \"role\": \"primary\",\n"
    "    \"state\": \"LOCKSTEP\",\n"
    "    \"protected\": true,\n"
    "    \"peer\": \"beta\",\n"
    "    \"session\": \"0b9d7f52-52a3-4d0e-8f0a-6a2f6f1d9c01\",\n"
    "    \"generation\": 1,\n"
    "    \"started\": 1700000000,\n"
    "    \"protected_since\": 1700000030,\n"
    "    \"checkpoints\": 412,\n"
    "    \"triggers\": {\n"
    "        \"first\": 1,\n"
    "        \"period\": 409,\n"
    "        \"request\": 2,\n"
    "        \"divergence\": 0\n"
    "    },\n"
    "    \"interval_max_ms\": 5000,\n"
    "    \"interval_min_ms\": 100,\n"
    "    \"heartbeat_ms\": 100,\n"
    "    \"heartbeat_misses\": 5,\n"
    "    \"pause\": {\n"
    "        \"samples\": 3,\n"
    "        \"last_ns\": 20000000,\n"
    "        \"median_ns\": 21000000,\n"
    "        \"p99_ns\": 40000000,\n"
    "        \"steps\": {\n"
    "            \"suspend_ns\": 2000000,\n"
    "            \"peer_suspend_ns\": 1000000,\n"
    "            \"dirty_log_ns\": 500000,\n"
    "            \"pages_map_ns\": 700000,\n"
    "            \"pages_write_ns\": 1300000,\n"
    "            \"context_ns\": 250000,\n"
    "            \"device_save_ns\": 3000000,\n"
    "            \"peer_apply_ns\": 9000000,\n"
    "            \"resume_ns\": 2250000,\n"
    "            \"total_ns\": 20000000,\n"
    "            \"svm_suspend_ns\": 2500000,\n"
    "            \"svm_dirty_log_ns\": 400000,\n"
    "            \"svm_stage_ns\": 1000000,\n"
    "            \"svm_device_load_ns\": 5000000,\n"
    "            \"svm_memory_ns\": 2000000,\n"
    "            \"svm_context_ns\": 750000\n"
    "        }\n"
    "    },\n"
    "    \"pages\": {\n"
    "        \"memory\": 32768,\n"
    "        \"p_dirty\": 275,\n"
    "        \"s_dirty\": 281,\n"
    "        \"union_dirty\": 334,\n"
    "        \"sent\": 334,\n"
    "        \"total_sent\": 170000\n"
    "    },\n"
    "    \"bytes_out\": 734003200,\n"
    "    \"bytes_in\": 1536,\n"
    "    \"staging_peak_bytes\": 0,\n"
    "    \"first_sync\": {\n"
    "        \"round\": 3,\n"
    "        \"pages_done\": 32768,\n"
    "        \"pages_total\": 32768,\n"
    "        \"duration_ns\": 2900000000\n"
    "    },\n"
    "    \"takeover_ns\": 0,\n"
    "    \"verified\": 0,\n"
    "    \"network\": \"compare\",\n"
    "    \"differences\": [\n"
    "        {\n"
    "            \"why\": \"payload\",\n"
    "            \"count\": 12\n"
    "        },\n"
    "        {\n"
    "            \"why\": \"secondary-silent\",\n"
    "            \"count\": 1\n"
    "        }\n"
    "    ],\n"
    "    \"last_difference\": \"payload: udp 10.0.0.1:53, byte 3\",\n"
    "    \"disks\": \"none\",\n"
    "    \"policy\": \"\",\n"
    "    \"last_reason\": \"\",\n"
    "    \"last_error\": \"\"\n"
    "}\n";

static const char primary_text[] =
    "guest         web (domain 3, 6f1c2a9e-0d1b-4c7e-9a53-1f7d3b0c8e11)\n"
    "state         LOCKSTEP, protected for 1d 1:01:01\n"
    "role          primary, peer beta\n"
    "session       0b9d7f52-52a3-4d0e-8f0a-6a2f6f1d9c01, generation 1\n"
    "checkpoints   412 (first 1, period 409, request 2)\n"
    "interval      at most 5000 ms, at least 100 ms; heartbeat 100 ms, lost after 5 missed\n"
    "pause         last 20.0 ms, median 21.0 ms, p99 40.0 ms (of 3)\n"
    "  last        suspend 2.0, peer suspend 1.0, dirty log 0.5, map 0.7, write 1.3, context 0.2, device save 3.0, peer apply 9.0, resume 2.2 ms\n"
    "  secondary   suspend 2.5, dirty log 0.4, stage 1.0, device load 5.0, memory 2.0, context 0.8 ms\n"
    "memory        128.0 MiB\n"
    "dirty pages   P 275, S 281, union 334, sent 334\n"
    "total         170000 pages; 700.0 MiB out, 1.5 KiB in\n"
    "first sync    2.9 s\n"
    "network       compare\n"
    "differences   payload 12, secondary-silent 1\n"
    "  last        payload: udp 10.0.0.1:53, byte 3\n"
    "disks         none\n";

static const char secondary_text[] =
    "guest         a-guest-with-a-long-name (domain 12, -)\n"
    "state         UNPROTECTED\n"
    "role          secondary, peer alpha\n"
    "session       -, generation 2\n"
    "checkpoints   7\n"
    "interval      at most 1000 ms, at least 10 ms; heartbeat 200 ms, lost after 10 missed\n"
    "  secondary   suspend 2.0, dirty log 0.0, stage 0.0, device load 0.0, memory 3.0, context 0.0 ms\n"
    "memory        0 B\n"
    "dirty pages   P 0, S 0, union 0, sent 0\n"
    "total         0 pages; 0 B out, 0 B in\n"
    "staging       peak 3.0 MiB\n"
    "verified      7 checkpoints proved equal\n"
    "network       pass\n"
    "disks         none\n"
    "policy        took over: the primary is silent\n"
    "takeover      84.0 ms\n"
    "last error    nothing heard from alpha for 2000 ms [peer-silent]\n";

static const char precopy_text[] =
    "guest         web (domain 3, -)\n"
    "state         PRECOPY\n"
    "role          primary, peer beta\n"
    "session       -, generation 0\n"
    "checkpoints   0\n"
    "interval      at most 0 ms, at least 0 ms; heartbeat 0 ms, lost after 0 missed\n"
    "memory        128.0 MiB\n"
    "dirty pages   P 0, S 0, union 0, sent 0\n"
    "total         0 pages; 0 B out, 0 B in\n"
    "first sync    round 0, 8192 of 32768 pages (25 %)\n"
    "network       -\n"
    "disks         -\n";

static const char table_text[] =
    "Guest                       ID Role      State              Peer  Checkpoints      Pause  Last error\n"
    "web                          3 primary   LOCKSTEP           beta          412    21.0 ms  -\n"
    "a-guest-with-a-long-name    12 secondary UNPROTECTED        alpha           7          -  peer-silent\n";

static const char table_heading[] =
    "Guest    ID Role      State              Peer Checkpoints      Pause  Last error\n";

static void test_json(void **state)
{
    struct colo_status st = primary();
    char *flat = colo_status_json(&st, false);

    (void)state;
    same(colo_json_indent(flat), primary_json);
    free(flat);
}

static void test_text_of_a_primary(void **state)
{
    struct colo_status st = primary();
    struct colo_json *j = parsed(&st);

    (void)state;
    same(colo_status_text(j, NULL, 1700000030 + 90061), primary_text);
    colo_json_free(j);
}

/* 90 packets within 64 us, 9 within 128 us, one within 2^21 us */
static const char proxy_stats[] =
    "{\"pid\":77,\"role\":\"primary\",\"phase\":\"running\",\"mode\":\"compare\",\"link\":\"up\","
    "\"nics\":[{\"tap\":\"vif3.0-cg\",\"from_guest\":120,\"from_guest_bytes\":3072,\"to_guest\":60,"
    "\"to_guest_bytes\":900,\"released_packets\":100,\"flows\":2,\"held_packets\":20,"
    "\"held_packets_peak\":31,\"latency_log2_us\":[0,0,0,0,0,0,90,9,0,0,0,0,0,0,0,0,0,0,0,0,0,1]},"
    "{\"tap\":\"vif3.1-cg\",\"rewriting\":3,\"flows\":3}]}";

static const char proxy_text[] =
    "proxy         process 77, running, link up\n"
    "  nic         vif3.0-cg: 120 packets, 3.0 KiB from the guest; 60, 900 B to it; 2 connections\n"
    "  held        20 packets now, 31 at most; half of them for less than 64 us, 99 % for less than 128 us\n"
    "  nic         vif3.1-cg: 0 packets, 0 B from the guest; 0, 0 B to it; 3 connections\n"
    "  rewritten   3 connections\n"
    "disks         none\n";

static void test_text_with_a_proxy(void **state)
{
    struct colo_status st = primary();
    struct colo_json *stats, *j;
    struct colo_err err = {0};
    char *flat = colo_status_json(&st, false), *with, *text;

    (void)state;
    assert_int_equal(colo_json_parse(proxy_stats, strlen(proxy_stats), &stats, &err), 0);
    with = colo_status_with_proxy(flat, stats);
    assert_non_null(with);
    assert_non_null(strstr(with, proxy_stats)); /* all of it, as it was */
    assert_int_equal(colo_json_parse(with, strlen(with), &j, &err), 0);
    text = colo_status_text(j, stats, 1700000000);
    assert_non_null(text);
    same(strdup(strstr(text, "proxy ")), proxy_text);
    free(text);
    colo_json_free(j);
    colo_json_free(stats);
    free(with);
    free(flat);
}

static void test_text_after_a_takeover(void **state)
{
    struct colo_status st = secondary();
    struct colo_json *j = parsed(&st);

    (void)state;
    same(colo_status_text(j, NULL, 1700000000), secondary_text);
    colo_json_free(j);
}

static void test_text_during_the_first_sync(void **state)
{
    struct colo_status st = {.guest = "web",
                             .domid = 3,
                             .state = COLO_STATE_PRECOPY,
                             .peer = "beta",
                             .sync_round = 0,
                             .sync_done = 8192,
                             .sync_total = 32768,
                             .mem_pages = 32768};
    struct colo_json *j = parsed(&st);

    (void)state;
    same(colo_status_text(j, NULL, 1700000000), precopy_text);
    colo_json_free(j);
}

static void test_table(void **state)
{
    struct colo_status p = primary(), s = secondary();
    struct colo_json *list[] = {parsed(&p), parsed(&s)};

    (void)state;
    same(colo_status_table((const struct colo_json *const *)list, 2), table_text);
    same(colo_status_table(NULL, 0), table_heading);
    colo_json_free(list[0]);
    colo_json_free(list[1]);
}

static void test_protected_only_while_a_second_copy_is_there(void **state)
{
    struct colo_status st = primary();
    int s;

    (void)state;
    for (s = 0; s < COLO_NR_STATES; s++) {
        struct colo_json *j;
        bool want = s >= COLO_STATE_LOCKSTEP && s <= COLO_STATE_CHECKPOINT_RESUME;

        st.state = (enum colo_state)s;
        st.protected_since_wall = 1700000030;
        j = parsed(&st);
        assert_int_equal(colo_json_get_bool(j, "protected", !want), want);
        colo_json_free(j);
        st.protected_since_wall = 0; /* still on its first checkpoint */
        j = parsed(&st);
        assert_false(colo_json_get_bool(j, "protected", true));
        colo_json_free(j);
    }
}

/* A peer's text, or a status caught half written: always JSON, one line on a terminal. */
static void test_no_text_can_break_the_output(void **state)
{
    struct colo_status st = primary();
    struct colo_json *j;

    (void)state;
    memset(st.guest, 'x', sizeof(st.guest)); /* not terminated */
    snprintf(st.peer, sizeof(st.peer), "%s",
             "a\nb\033[2J\x7f\"\\\xc3\xa4\xff\xc3(\xed\xa0\x80\xf0\x9f\x98\x80");
    st.role = (enum colo_role)9;
    st.state = (enum colo_state)99;
    memset(st.last_error, 0xc3, sizeof(st.last_error));
    j = parsed(&st);
    assert_int_equal(strlen(colo_json_get_str(j, "guest")), sizeof(st.guest));
    assert_string_equal(colo_json_get_str(j, "peer"), "a?b?[2J?\"\\\xc3\xa4?"
                                                      "?(???\xf0\x9f\x98\x80");
    assert_string_equal(colo_json_get_str(j, "role"), "?");
    assert_string_equal(colo_json_get_str(j, "state"), "?");
    assert_null(strchr(colo_json_get_str(j, "last_error"), 0xc3));
    colo_json_free(j);
}

static void test_indent(void **state)
{
    (void)state;
    same(colo_json_indent("{ }"), "{}\n");
    same(colo_json_indent("[]"), "[]\n");
    same(colo_json_indent("{\"a\" : [1,{\"b\\\"]{\":\"x, y\"}], \"c\":null}"),
         "{\n"
         "    \"a\": [\n"
         "        1,\n"
         "        {\n"
         "            \"b\\\"]{\": \"x, y\"\n"
         "        }\n"
         "    ],\n"
         "    \"c\": null\n"
         "}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_text_of_a_primary),
        cmocka_unit_test(test_text_with_a_proxy),
        cmocka_unit_test(test_text_after_a_takeover),
        cmocka_unit_test(test_text_during_the_first_sync),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_protected_only_while_a_second_copy_is_there),
        cmocka_unit_test(test_no_text_can_break_the_output),
        cmocka_unit_test(test_indent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
