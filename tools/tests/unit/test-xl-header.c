/* SPDX-License-Identifier: GPL-2.0-only */
/* The xl header: its bytes, and what is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libxl_stream.h"
#include "memchan.h"
#include "testlib.h"

#define CONFIG "{\"c_info\": {\"name\": \"g\"}}"

static size_t write_it(unsigned char **bytes)
{
    struct memchan m;
    struct colo_err e = {0};

    memchan_writer(&m);
    tl_ok(libxl_xl_header_write(&m.ch, CONFIG, tl_soon(), &e), &e);
    return memchan_taken(&m, bytes);
}

static int read_it(const unsigned char *bytes, size_t len, char **config, size_t *rest,
                   struct colo_err *e)
{
    struct memchan m;
    int rc;

    colo_err_clear(e);
    memchan_reader(&m, bytes, len);
    rc = libxl_xl_header_read(&m.ch, tl_soon(), config, e);
    *rest = memchan_rest(&m);
    return rc;
}

static void test_bytes_are_the_stock_ones(void **state)
{
    static const unsigned char want[] = "Xen saved domain, xl format\n \0 \r"
                                        "\x04\x03\x02\x01\x03\0\0\0\0\0\0\0\x1e\0\0\0"
                                        "\x1a\0\0\0" CONFIG;
    unsigned char *bytes;
    size_t len = write_it(&bytes);

    (void)state;
    tl_eq(len, sizeof(want)); /* the config's NUL included */
    assert_memory_equal(bytes, want, len);
    free(bytes);
}

static void test_reads_its_own_and_no_further(void **state)
{
    unsigned char *bytes;
    size_t len = write_it(&bytes), rest;
    struct colo_err e;
    char *config;

    (void)state;
    bytes = realloc(bytes, len + 5);
    memcpy(bytes + len, "after", 5);
    tl_ok(read_it(bytes, len + 5, &config, &rest, &e), &e);
    tl_str_eq(config, CONFIG);
    tl_eq(rest, 5);
    free(config);
    free(bytes);
}

static void test_passes_over_further_optional_data(void **state)
{
    unsigned char *bytes;
    size_t len = write_it(&bytes), rest, more = 10000;
    struct colo_err e;
    uint32_t n;
    char *config;

    (void)state;
    bytes = realloc(bytes, len + more + 3);
    memset(bytes + len, 0xee, more + 3);
    memcpy(&n, bytes + 44, 4);
    n += (uint32_t)more;
    memcpy(bytes + 44, &n, 4);
    tl_ok(read_it(bytes, len + more + 3, &config, &rest, &e), &e);
    tl_str_eq(config, CONFIG);
    tl_eq(rest, 3);
    free(config);
    free(bytes);
}

static void test_cut_at_every_byte(void **state)
{
    unsigned char *bytes;
    size_t len = write_it(&bytes), cut, rest;
    struct colo_err e;
    char *config;

    (void)state;
    for (cut = 0; cut < len; cut++) {
        tl_fails(read_it(bytes, cut, &config, &rest, &e), &e, COLO_ERR_PEER_EOF);
        assert_null(config);
    }
    free(bytes);
}

static void test_refuses(void **state)
{
    static const struct {
        size_t at;
        uint32_t value;
        const char *says;
    } t[] = {
        {0, 0x20206558, "no xl stream"},
        {32, 0x04030201, "byte order"},
        {36, 0x7, "flags 0x4"},
        {36, 0x80000003, "flags"},
        {36, 0x1, "4.6"},
        {36, 0x2, "4.6"},
        {44, 3, "optional data"},
        {44, 0xffffffff, "optional data"},
        {44, 2 * LIBXL_SR_CONFIG_MAX + 1, "optional"},
        {44, 29, "configuration"},
        {48, 0, "configuration"},
        {48, 0xffffffff, "configuration"},
        {48, 27, "configuration"},
        {48, LIBXL_SR_CONFIG_MAX + 1, "configuration"},
        {52, 0, "no text"},
        {60, 0x61006161, "no text"},
    };
    unsigned char *bytes, copy[200];
    size_t len = write_it(&bytes), i, rest;
    struct colo_err e;
    char *config;

    (void)state;
    for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        memcpy(copy, bytes, len);
        memcpy(copy + t[i].at, &t[i].value, 4);
        assert_int_equal(read_it(copy, len, &config, &rest, &e), -1);
        tl_has(e.msg, t[i].says);
        tl_fails(-1, &e, COLO_ERR_PROTOCOL);
        assert_null(config);
    }
    free(bytes);
}

static void test_does_not_write_what_it_would_not_read(void **state)
{
    struct memchan m;
    struct colo_err e = {0};
    unsigned char *bytes;
    char *big = malloc(LIBXL_SR_CONFIG_MAX + 1);

    (void)state;
    memset(big, 'x', LIBXL_SR_CONFIG_MAX);
    big[LIBXL_SR_CONFIG_MAX] = 0;
    memchan_writer(&m);
    tl_fails(libxl_xl_header_write(&m.ch, big, tl_soon(), &e), &e, COLO_ERR_LOCAL);
    tl_eq(memchan_taken(&m, &bytes), 0);
    free(bytes);
    free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_are_the_stock_ones),
        cmocka_unit_test(test_reads_its_own_and_no_further),
        cmocka_unit_test(test_passes_over_further_optional_data),
        cmocka_unit_test(test_cut_at_every_byte),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_does_not_write_what_it_would_not_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
