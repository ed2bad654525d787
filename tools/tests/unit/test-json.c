/* SPDX-License-Identifier: GPL-2.0-only */
/* JSON: what is read, what is refused, what is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libxl_json.h"

static struct colo_json *parse(const char *text)
{
    struct colo_json *j;
    struct colo_err err = {0};

    if (colo_json_parse(text, strlen(text), &j, &err) < 0)
        fail_msg("%s: %s", text, err.msg);
    return j;
}

static void refused(const char *text, size_t len, const char *why)
{
    struct colo_json *j;
    struct colo_err err = {0};

    assert_int_equal(colo_json_parse(text, len, &j, &err), -1);
    assert_null(j);
    assert_int_equal(err.cls, COLO_ERR_PROTOCOL);
    assert_string_equal(err.reason, "bad-json");
    if (why && !strstr(err.msg, why))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, why);
    assert_null(strchr(err.msg, '\n'));
}

static void test_reads_every_kind(void **state)
{
    struct colo_json *j = parse(" {\"s\": \"a\\u00e4\\n\", \"i\": -42, \"t\": true, \"n\": null,"
                                " \"r\": 1.5, \"a\": [1, [2], {\"k\": 3}], \"e\": {}}\r\n");
    const struct colo_json *a = colo_json_get(j, "a");
    int64_t i;
    bool b = false;

    (void)state;
    assert_string_equal(colo_json_get_str(j, "s"), "a\xc3\xa4\n");
    assert_int_equal(colo_json_get_int(j, "i", 7), -42);
    assert_true(colo_json_get_bool(j, "t", false));
    assert_true(colo_json_bool(colo_json_get(j, "t"), &b) && b);
    assert_false(colo_json_int(colo_json_get(j, "r"), &i));
    assert_non_null(colo_json_get(j, "n"));
    assert_int_equal(colo_json_len(a), 3);
    assert_true(colo_json_int(colo_json_at(a, 0), &i));
    assert_int_equal(i, 1);
    assert_true(colo_json_int(colo_json_at(colo_json_at(a, 1), 0), &i));
    assert_int_equal(i, 2);
    assert_int_equal(colo_json_get_int(colo_json_at(a, 2), "k", 0), 3);
    assert_null(colo_json_at(a, 3));
    colo_json_free(j);
}

static void test_accessors_take_null_and_wrong_kinds(void **state)
{
    struct colo_json *j = parse("{\"s\": \"x\", \"i\": 1, \"a\": [2]}");
    const struct colo_json *s = colo_json_get(j, "s");
    int64_t i;
    bool b;

    (void)state;
    assert_null(colo_json_get(NULL, "k"));
    assert_null(colo_json_get(s, "k"));
    assert_null(colo_json_get(j, "k"));
    assert_null(colo_json_get(colo_json_get(j, "a"), "k"));
    assert_null(colo_json_at(NULL, 0));
    assert_null(colo_json_at(j, 0));
    assert_int_equal(colo_json_len(j), 0);
    assert_null(colo_json_str(j));
    assert_null(colo_json_str(NULL));
    assert_false(colo_json_int(s, &i));
    assert_false(colo_json_bool(s, &b));
    assert_int_equal(colo_json_get_int(j, "s", 5), 5);
    assert_true(colo_json_get_bool(j, "i", true));
    assert_null(colo_json_get_str(j, "i"));
    assert_null(colo_json_take(j, "k"));
    colo_json_free(j);
    colo_json_free(NULL);
}

static void test_take_outlives_its_object(void **state)
{
    struct colo_json *j = parse("{\"a\": [\"one\"]}"), *a = colo_json_take(j, "a");

    (void)state;
    assert_non_null(colo_json_get(j, "a"));
    assert_int_equal(colo_json_len(colo_json_get(j, "a")), 0);
    colo_json_free(j);
    assert_string_equal(colo_json_str(colo_json_at(a, 0)), "one");
    colo_json_free(a);
}

static void test_numbers_outside_int64_are_no_ints(void **state)
{
    struct colo_json *j = parse("[9223372036854775807, -9223372036854775808, 9223372036854775808,"
                                " 1e3, 123456789012345678901234567890123456789012345678901]");
    int64_t i;

    (void)state;
    assert_true(colo_json_int(colo_json_at(j, 0), &i) && i == INT64_MAX);
    assert_true(colo_json_int(colo_json_at(j, 1), &i) && i == INT64_MIN);
    assert_false(colo_json_int(colo_json_at(j, 2), &i));
    assert_false(colo_json_int(colo_json_at(j, 3), &i));
    assert_false(colo_json_int(colo_json_at(j, 4), &i));
    assert_int_equal(colo_json_len(j), 5);
    colo_json_free(j);
}

static void test_refuses_what_is_not_one_value(void **state)
{
    static const char *const bad[] = {
        "",    " ",     "{", "[1,",    "\"abc", "{\"a\":",  "{\"a\"",    "tru",     "[1]x",
        "1 2", "{} {}", "]", "{1: 2}", "\x01",  "\"\xff\"", "\"\\u12\"", "\"\\q\"", "nul"};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        refused(bad[i], strlen(bad[i]), NULL);
    refused("\"a\0b\"", 5, NULL);
    refused("\"a\\u0000b\"", 10, "NUL");
    refused("{\"\\u0000\": 1}", 13, "NUL");
}

static void test_refuses_every_prefix(void **state)
{
    static const char text[] = "{\"a\": [1, \"\\u20ac\", {\"b\": null}], \"c\": -1.5e3}";
    size_t len;

    (void)state;
    for (len = 0; len < sizeof(text) - 1; len++)
        refused(text, len, NULL);
    colo_json_free(parse(text));
}

static void test_bounds_depth_size_and_count(void **state)
{
    size_t i, n = ((size_t)16 << 20) + 1;
    char *text = malloc(n);
    struct colo_json *j;

    (void)state;
    assert_non_null(text);
    for (i = 0; i < 64; i++) {
        text[i] = '[';
        text[127 - i] = ']';
    }
    assert_int_equal(colo_json_parse(text, 128, &j, NULL), 0);
    colo_json_free(j);
    memset(text, '[', 65);
    memset(text + 65, ']', 65);
    refused(text, 130, "deep");

    memset(text, ' ', n);
    text[0] = '1';
    assert_int_equal(colo_json_parse(text, n - 1, &j, NULL), 0);
    colo_json_free(j);
    refused(text, n, "bytes");

    for (i = 0; i + 1 < n; i += 2)
        memcpy(text + i, i ? ",1" : "[1", 2);
    text[n - 2] = ']';
    refused(text, n - 1, "many");
    free(text);
}

static char *written(bool pretty)
{
    struct colo_json_gen *g = colo_json_gen_new(pretty);

    colo_json_open(g, NULL);
    colo_json_put_str(g, "name", "a\"b\n");
    colo_json_put_str(g, "none", NULL);
    colo_json_put_int(g, "big", INT64_MIN);
    colo_json_put_bool(g, "yes", true);
    colo_json_open_array(g, "list");
    colo_json_put_int(g, NULL, 1);
    colo_json_open(g, NULL);
    colo_json_close(g);
    colo_json_close_array(g);
    colo_json_close(g);
    return colo_json_gen_finish(g);
}

static void test_writes(void **state)
{
    char *text = written(false);
    struct colo_json *j;

    (void)state;
    assert_string_equal(text, "{\"name\":\"a\\\"b\\n\",\"none\":null,\"big\":-9223372036854775808,"
                              "\"yes\":true,\"list\":[1,{}]}");
    free(text);
    text = written(true);
    assert_non_null(strstr(text, "\n  \"name\": "));
    j = parse(text);
    assert_string_equal(colo_json_get_str(j, "name"), "a\"b\n");
    colo_json_free(j);
    free(text);
}

static void test_writes_valid_utf8_whatever_it_gets(void **state)
{
    static const struct {
        const char *in, *out;
    } t[] = {
        {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
        {"\xe2\x82\xac", "\xe2\x82\xac"},
        {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
        {"\xff\xfe", "??"},
        {"\xc3", "?"},
        {"\xc3(", "?("},
        {"\xe2\x82", "??"},
        {"\xc0\xaf", "??"},
        {"\xed\xa0\x80", "???"},
        {"\xf5\x80\x80\x80", "????"},
    };
    struct colo_json_gen *g;
    struct colo_json *j;
    char *text;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        g = colo_json_gen_new(false);
        colo_json_put_str(g, NULL, t[i].in);
        text = colo_json_gen_finish(g);
        j = parse(text);
        assert_string_equal(colo_json_str(j), t[i].out);
        colo_json_free(j);
        free(text);
    }
}

static void test_finish_returns_no_torn_text(void **state)
{
    struct colo_json_gen *g = colo_json_gen_new(false);

    (void)state;
    colo_json_open(g, NULL);
    assert_null(colo_json_gen_finish(g)); /* not closed */
    g = colo_json_gen_new(false);
    assert_null(colo_json_gen_finish(g)); /* nothing */
    g = colo_json_gen_new(false);
    colo_json_open(g, NULL);
    colo_json_put_int(g, NULL, 1); /* a member without a name */
    colo_json_close(g);
    assert_null(colo_json_gen_finish(g));
    colo_json_put_int(NULL, NULL, 1);
    assert_null(colo_json_gen_finish(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_every_kind),
        cmocka_unit_test(test_accessors_take_null_and_wrong_kinds),
        cmocka_unit_test(test_take_outlives_its_object),
        cmocka_unit_test(test_numbers_outside_int64_are_no_ints),
        cmocka_unit_test(test_refuses_what_is_not_one_value),
        cmocka_unit_test(test_refuses_every_prefix),
        cmocka_unit_test(test_bounds_depth_size_and_count),
        cmocka_unit_test(test_writes),
        cmocka_unit_test(test_writes_valid_utf8_whatever_it_gets),
        cmocka_unit_test(test_finish_returns_no_torn_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
