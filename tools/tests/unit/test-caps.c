/* SPDX-License-Identifier: GPL-2.0-only */
/* COLO_CAPS: what the two sides tell each other first, and which of them cannot work together. */
#include "testlib.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libxl_colo_session.h"

static const struct colo_caps primary = {
    .protocol = 1,
    .xen = "4.17.7",
    .qemu = "7.2.22Debian",
    .host = "one",
    .zero_pages = true,
    .session = "b5a94c5e-6f5b-4f6b-9c1a-0d6f6e3f1a11",
    .generation = 3,
    .heartbeat_ms = 100,
    .heartbeat_misses = 5,
    .interval_max_ms = 5000,
    .interval_min_ms = 100,
};

static void assert_same(const struct colo_caps *a, const struct colo_caps *b)
{
    tl_eq(a->protocol, b->protocol);
    tl_str_eq(a->xen, b->xen);
    tl_str_eq(a->qemu, b->qemu);
    tl_str_eq(a->host, b->host);
    tl_eq(a->zero_pages, b->zero_pages);
    tl_eq(a->tags, b->tags);
    tl_str_eq(a->session, b->session);
    tl_eq(a->generation, b->generation);
    tl_eq(a->heartbeat_ms, b->heartbeat_ms);
    tl_eq(a->heartbeat_misses, b->heartbeat_misses);
    tl_eq(a->interval_max_ms, b->interval_max_ms);
    tl_eq(a->interval_min_ms, b->interval_min_ms);
    tl_str_eq(a->disk_key, b->disk_key);
    tl_str_eq(a->device_model, b->device_model);
    tl_str_eq(a->disk_address, b->disk_address);
    tl_eq(a->disks, b->disks);
    for (uint32_t i = 0; i < a->disks; i++) {
        tl_str_eq(a->disk[i].vdev, b->disk[i].vdev);
        tl_eq(a->disk[i].size, b->disk[i].size);
        tl_eq(a->disk[i].port, b->disk[i].port);
    }
}

static void round_trip(const struct colo_caps *c, bool from_primary)
{
    char *json = colo_caps_to_json(c);
    struct colo_err e = {0};
    struct colo_caps got;

    assert_non_null(json);
    tl_ok(colo_caps_from_json(json, from_primary, &got, &e), &e);
    assert_same(&got, c);
    free(json);
}

static void test_what_is_written_reads_the_same(void **state)
{
    struct colo_caps c = primary;

    (void)state;
    round_trip(&c, true);
    c.generation = INT64_MAX;
    c.heartbeat_ms = 10;
    c.heartbeat_misses = 1000;
    c.interval_max_ms = 3600000;
    c.interval_min_ms = 0;
    c.zero_pages = false;
    c.tags = true;
    memset(c.host, 'h', sizeof(c.host) - 1);
    memset(c.xen, 'x', sizeof(c.xen) - 1);
    memset(c.qemu, 'q', sizeof(c.qemu) - 1);
    round_trip(&c, true);

    /* the secondary's answer has nothing of the session */
    c = (struct colo_caps){.protocol = 1, .xen = "4.17.7", .host = "two", .tags = true};
    round_trip(&c, false);
}

static void test_as_many_disks_as_are_possible(void **state)
{
    struct colo_caps p = primary, s = {.protocol = 1, .xen = "4.17.7", .host = "two"};

    (void)state;
    p.disks = s.disks = COLO_MAX_DISKS;
    for (uint32_t i = 0; i < COLO_MAX_DISKS; i++) {
        snprintf(p.disk[i].vdev, COLO_VDEV, "sd%c", (int)('a' + i));
        snprintf(s.disk[i].vdev, COLO_VDEV, "sd%c", (int)('a' + i));
        p.disk[i].size = i ? i : INT64_MAX;
        s.disk[i].port = (uint16_t)(UINT16_MAX - i);
    }
    memset(p.disk[1].vdev, 'v', COLO_VDEV - 1);
    memset(p.disk_key, 'a', sizeof(p.disk_key) - 1);
    memset(p.device_model, 'q', sizeof(p.device_model) - 1);
    p.device_model[0] = '/';
    round_trip(&p, true);
    round_trip(&s, false); /* its address is not known */
    snprintf(s.disk_address, sizeof(s.disk_address), "192.0.2.7");
    round_trip(&s, false);
    snprintf(s.disk_address, sizeof(s.disk_address), "2001:db8::7");
    round_trip(&s, false);
}

/* Members that a later version adds, and what only the primary may tell, are passed over. */
static void test_more_than_is_known_is_passed_over(void **state)
{
    struct colo_err e = {0};
    struct colo_caps c;

    (void)state;
    tl_ok(colo_caps_from_json("{\"protocol\": 7, \"new\": {\"a\": [1]}, \"generation\": -1, "
                              "\"session\": 5, \"heartbeat_ms\": 0, \"zero_pages\": \"yes\"}",
                              false, &c, &e),
          &e);
    tl_eq(c.protocol, 7);
    assert_same(&c, &(struct colo_caps){.protocol = 7});
}

static void bad(const char *json, bool from_primary, const char *why)
{
    struct colo_err e = {0};
    struct colo_caps c;
    int rc = colo_caps_from_json(json, from_primary, &c, &e);

    if (rc != -1)
        print_error("%s is taken\n", json);
    else
        tl_has(e.msg, why);
    tl_fails(rc, &e, COLO_ERR_PROTOCOL);
}

#define KEY "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* The primary's capabilities with one member replaced by this text; "" leaves it out. */
static void bad_member(const char *key, const char *value, const char *why)
{
    static const char *const members[][2] = {
        {"protocol", "1"},
        {"xen", "\"4.17.7\""},
        {"qemu", "\"7.2\""},
        {"host", "\"one\""},
        {"session", "\"b5a94c5e-6f5b-4f6b-9c1a-0d6f6e3f1a11\""},
        {"generation", "1"},
        {"heartbeat_ms", "100"},
        {"heartbeat_misses", "5"},
        {"interval_max_ms", "5000"},
        {"interval_min_ms", "100"},
        {"disk_key", "\"" KEY "\""},
        {"device_model", "\"/usr/libexec/qemu\""},
        {"disks", "[{\"vdev\": \"hda\", \"size\": 512}]"},
    };
    char json[2000] = "{";
    size_t n = 1;

    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        const char *v = strcmp(members[i][0], key) ? members[i][1] : value;

        if (*v)
            n += (size_t)snprintf(json + n, sizeof(json) - n, "%s\"%s\": %s", n > 1 ? ", " : "",
                                  members[i][0], v);
    }
    snprintf(json + n, sizeof(json) - n, "}");
    if (why) {
        bad(json, true, why);
    } else {
        struct colo_err e = {0};
        struct colo_caps c;

        tl_ok(colo_caps_from_json(json, true, &c, &e), &e);
    }
}

static void test_numbers_out_of_range_are_refused_and_quoted(void **state)
{
    (void)state;
    bad_member("nothing", "", NULL);
    bad_member("protocol", "", "lack the number \"protocol\"");
    bad_member("protocol", "\"1\"", "lack the number \"protocol\"");
    bad_member("protocol", "1.5", "lack the number \"protocol\"");
    bad_member("protocol", "0", "\"protocol\" is 0");
    bad_member("protocol", "-1", "\"protocol\" is -1");
    bad_member("protocol", "4294967296", "\"protocol\" is 4294967296");
    bad_member("protocol", "4294967295", NULL);
    bad_member("heartbeat_ms", "9", "\"heartbeat_ms\" is 9");
    bad_member("heartbeat_ms", "10001", "\"heartbeat_ms\" is 10001");
    bad_member("heartbeat_ms", "6000", NULL);
    bad_member("heartbeat_ms", "6001", "make up more than 30000 ms");
    bad_member("heartbeat_ms", "", "\"heartbeat_ms\"");
    bad_member("heartbeat_misses", "1", "\"heartbeat_misses\" is 1");
    bad_member("heartbeat_misses", "1001", "\"heartbeat_misses\" is 1001");
    bad_member("interval_max_ms", "9", "\"interval_max_ms\" is 9");
    bad_member("interval_max_ms", "3600001", "\"interval_max_ms\" is 3600001");
    bad_member("interval_min_ms", "-1", "\"interval_min_ms\" is -1");
    bad_member("interval_min_ms", "60001", "\"interval_min_ms\" is 60001");
    bad_member("generation", "", "generation is 0");
    bad_member("generation", "0", "generation is 0");
    bad_member("generation", "-5", "generation is -5");
    bad_member("generation", "\"1\"", "generation is 0");
}

static void test_strings_that_do_not_fit_are_refused(void **state)
{
    char longer[140];

    (void)state;
    memset(longer, 'a', sizeof(longer));
    longer[0] = '"';
    longer[65] = '"';
    longer[66] = '\0';
    bad_member("xen", longer, "\"xen\" has 64 characters, at most 63");
    longer[65] = 'a';
    longer[66] = 'a';
    longer[97] = '"';
    longer[98] = '\0';
    bad_member("qemu", longer, "\"qemu\" has 96 characters, at most 95");
    longer[97] = 'a';
    longer[98] = 'a';
    longer[129] = '"';
    longer[130] = '\0';
    bad_member("host", longer, "\"host\" has 128 characters, at most 127");
    bad_member("host", "\"a\\u001bb\"", "\"host\" holds a control character");
    bad_member("xen", "\"4.17\\n\"", "\"xen\" holds a control character");
}

static void test_disks_of_the_primary(void **state)
{
    static const char one[] = "{\"vdev\": \"hda\", \"size\": 512}";
    char many[20 * sizeof(one)] = "[", longer[300];
    size_t n = 1;

    (void)state;
    for (int i = 0; i <= COLO_MAX_DISKS; i++)
        n += (size_t)snprintf(many + n, sizeof(many) - n, "%s%s", i ? "," : "", one);
    snprintf(many + n, sizeof(many) - n, "]");
    bad_member("disks", many, "17 disks, at most 16");
    bad_member("disks", "", NULL); /* without, the others mean nothing */
    bad_member("disks", "[]", NULL);
    bad_member("disks", "[{\"vdev\": \"hda\"}]", "disk \"hda\" lacks its size");
    bad_member("disks", "[{\"vdev\": \"hda\", \"size\": 0}]", "lacks its size");
    bad_member("disks", "[{\"vdev\": \"hda\", \"size\": -512}]", "lacks its size");
    bad_member("disks", "[{\"vdev\": \"hda\", \"size\": \"512\"}]", "lacks its size");
    bad_member("disks", "[{\"vdev\": \"hda\", \"size\": 9223372036854775808}]", "lacks its size");
    bad_member("disks", "[7]", "lacks its size");
    bad_member("disks", "[{\"vdev\": \"abcdefghijklmnop\", \"size\": 512}]",
               "\"vdev\" has 16 characters, at most 15");
    bad_member("disks", "[{\"vdev\": \"hd\\n\", \"size\": 512}]", "holds a control character");

    bad_member("disk_key", "", "lacks \"disk_key\"");
    bad_member("disk_key", "\"\"", "lacks \"disk_key\"");
    bad_member("disk_key", "\"0123\"", "\"disk_key\" is no key");
    bad_member("disk_key", "\"" KEY "0\"", "\"disk_key\" has 65 characters");
    snprintf(longer, sizeof(longer), "\"%.63sg\"", KEY);
    bad_member("disk_key", longer, "\"disk_key\" is no key");

    bad_member("device_model", "", "lacks \"device_model\"");
    bad_member("device_model", "\"qemu\"", "lacks \"device_model\"");
    memset(longer, '/', sizeof(longer));
    snprintf(longer + 257, sizeof(longer) - 257, "\"");
    longer[0] = '"';
    bad_member("device_model", longer, "\"device_model\" has 256 characters");
}

static void test_disks_of_the_secondary(void **state)
{
    static const struct {
        const char *disks, *address, *why;
    } cases[] = {
        {"{\"vdev\": \"hda\"}", "192.0.2.7", "disk \"hda\" lacks its port"},
        {"{\"vdev\": \"hda\", \"port\": 0}", "192.0.2.7", "lacks its port"},
        {"{\"vdev\": \"hda\", \"port\": -1}", "192.0.2.7", "lacks its port"},
        {"{\"vdev\": \"hda\", \"port\": 65536}", "192.0.2.7", "lacks its port"},
        {"{\"vdev\": \"hda\", \"port\": 65535}", "two.example", "\"disk_address\" is no address"},
        {"{\"vdev\": \"hda\", \"port\": 65535}", "192.0.2.7:1", "\"disk_address\" is no address"},
        {"{\"vdev\": \"hda\", \"port\": 65535}", "fe80::1%eth0", "is no address"},
    };
    char json[300];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(json, sizeof(json), "{\"protocol\": 1, \"disks\": [%s], \"disk_address\": \"%s\"}",
                 cases[i].disks, cases[i].address);
        bad(json, false, cases[i].why);
    }
}

static void test_a_session_is_a_uuid(void **state)
{
    (void)state;
    bad_member("session", "", "\"session\" is no UUID");
    bad_member("session", "\"\"", "\"session\" is no UUID");
    bad_member("session", "7", "\"session\" is no UUID");
    bad_member("session", "\"b5a94c5e-6f5b-4f6b-9c1a\"", "\"session\" is no UUID");
    bad_member("session", "\"b5a94c5e-6f5b-4f6b-9c1a-0d6f6e3f1a110000\"", "\"session\" has 40");
}

static void test_what_is_no_object_is_refused(void **state)
{
    (void)state;
    bad("", false, "capabilities");
    bad("{", false, "capabilities");
    bad("{\"protocol\": 1", false, "capabilities");
    bad("{\"protocol\": 1}}", false, "capabilities");
    bad("[1]", false, "lack the number \"protocol\"");
    bad("null", false, "lack the number \"protocol\"");
    bad("{}", false, "lack the number \"protocol\"");
    bad("\xff", false, "capabilities");
}

/* Refused, with both hosts and both versions in the message. */
static void refused(const struct colo_caps *mine, const struct colo_caps *peer, const char *reason,
                    const char *my_version, const char *its_version)
{
    struct colo_err e = {0};
    int rc = colo_caps_match(mine, peer, &e);

    tl_str_eq(e.reason, reason);
    tl_has(e.msg, my_version);
    tl_has(e.msg, its_version);
    tl_has(e.msg, mine->host);
    tl_has(e.msg, peer->host);
    tl_fails(rc, &e, COLO_ERR_REFUSED);
}

static void test_two_that_differ_are_refused_with_both_versions(void **state)
{
    struct colo_caps peer = primary;

    (void)state;
    snprintf(peer.host, sizeof(peer.host), "two");
    peer.protocol = 42;
    refused(&primary, &peer, "protocol-mismatch", "protocol 1,", "42");
    refused(&peer, &primary, "protocol-mismatch", "protocol 42,", "1:");
    peer.protocol = primary.protocol;

    snprintf(peer.xen, sizeof(peer.xen), "4.17.7-pre");
    refused(&primary, &peer, "xen-version-mismatch", "Xen 4.17.7,", "Xen 4.17.7-pre:");
    peer.xen[0] = '\0'; /* one that does not say */
    refused(&primary, &peer, "xen-version-mismatch", "Xen 4.17.7,", "Xen :");
    memcpy(peer.xen, primary.xen, sizeof(peer.xen));

    snprintf(peer.qemu, sizeof(peer.qemu), "8.0.0");
    refused(&primary, &peer, "qemu-mismatch", "QEMU 7.2.22Debian,", "QEMU 8.0.0:");
}

static void test_two_that_agree_match(void **state)
{
    struct colo_caps peer = primary;
    struct colo_err e = {0};

    (void)state;
    snprintf(peer.host, sizeof(peer.host), "two");
    peer.tags = true;
    peer.zero_pages = false; /* features are used when both have them */
    peer.generation = 9;
    tl_ok(colo_caps_match(&primary, &peer, &e), &e);
    peer.qemu[0] = '\0'; /* before the secondary has built its domain */
    tl_ok(colo_caps_match(&primary, &peer, &e), &e);
    tl_ok(colo_caps_match(&peer, &primary, &e), &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_reads_the_same),
        cmocka_unit_test(test_as_many_disks_as_are_possible),
        cmocka_unit_test(test_more_than_is_known_is_passed_over),
        cmocka_unit_test(test_numbers_out_of_range_are_refused_and_quoted),
        cmocka_unit_test(test_strings_that_do_not_fit_are_refused),
        cmocka_unit_test(test_disks_of_the_primary),
        cmocka_unit_test(test_disks_of_the_secondary),
        cmocka_unit_test(test_a_session_is_a_uuid),
        cmocka_unit_test(test_what_is_no_object_is_refused),
        cmocka_unit_test(test_two_that_differ_are_refused_with_both_versions),
        cmocka_unit_test(test_two_that_agree_match),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
