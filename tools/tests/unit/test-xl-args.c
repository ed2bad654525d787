/* SPDX-License-Identifier: GPL-2.0-only */
/* The command line of xl remus --colo and xl migrate-receive --colo, and xl.conf. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../xl/xl_colo_conf.c"
#include "../../xl/xl_remus_args.c"

static struct colo_config conf;
static struct xl_remus_args args;
static struct colo_err error;

static int parse(const char *line)
{
    static char copy[512];
    static char *argv[32], empty[] = "";
    int argc = 0;
    char *word;

    snprintf(copy, sizeof(copy), "%s", line);
    for (word = strtok(copy, " "); word; word = strtok(NULL, " "))
        argv[argc++] = strcmp(word, "''") ? word : empty;
    argv[argc] = NULL;
    memset(&conf, 0, sizeof(conf));
    conf.interval_max_ms = 5000;
    conf.interval_min_ms = 100;
    conf.heartbeat_ms = 100;
    conf.heartbeat_misses = 5;
    conf.takeover_on_silence = true;
    colo_err_clear(&error);
    return xl_remus_parse(argc, argv, &conf, &args, &error);
}

static void refused(const char *line, const char *why)
{
    assert_int_equal(parse(line), -1);
    assert_int_equal(error.cls, COLO_ERR_REFUSED);
    if (!strstr(error.msg, why))
        fail_msg("%s: \"%s\" does not say \"%s\"", line, error.msg, why);
}

static bool ours(bool (*is)(int, char *const *), const char *line)
{
    char copy[256], *argv[16], *before[16], *word;
    int argc = 0;
    bool is_ours;

    snprintf(copy, sizeof(copy), "%s", line);
    for (word = strtok(copy, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    memcpy(before, argv, sizeof(argv));
    is_ours = is(argc, argv);
    assert_memory_equal(before, argv, (size_t)argc * sizeof(argv[0])); /* stock gets it untouched */
    return is_ours;
}

static void test_whose_command_it_is(void **state)
{
    (void)state;
    assert_true(ours(xl_remus_is_colo, "remus --colo web beta"));
    assert_true(ours(xl_remus_is_colo, "remus web beta -Fc"));
    assert_true(ours(xl_remus_is_colo, "remus -h"));
    assert_false(ours(xl_remus_is_colo, "remus -i 200 web beta -b"));
    assert_false(ours(xl_remus_is_colo, "remus -s -c web beta")); /* -c is the ssh command */
    assert_false(ours(xl_remus_is_colo, "remus web beta -- -c"));
    assert_true(ours(xl_receive_is_colo, "migrate-receive --colo -e"));
    assert_true(ours(xl_receive_is_colo, "migrate-receive --coloft-script /x --colo"));
    assert_false(ours(xl_receive_is_colo, "migrate-receive -r --coloft-script --colo"));
    assert_false(ours(xl_receive_is_colo, "migrate-receive -ed"));
}

static void test_defaults(void **state)
{
    (void)state;
    assert_int_equal(parse("remus --colo web beta"), 0);
    assert_string_equal(args.guest, "web");
    assert_string_equal(args.host, "beta");
    assert_string_equal(args.ssh, "ssh");
    assert_string_equal(args.receiver, "");
    assert_false(args.foreground || args.reprotect || args.dry_run || args.verbose || args.help);
    assert_int_equal(conf.interval_max_ms, 5000);
}

static void test_all_options(void **state)
{
    (void)state;
    assert_int_equal(
        parse("remus -c -F -e -v -i 1000 --interval-min 20 --output-wait 700 --heartbeat 50 "
              "--heartbeat-misses 8 --staging-cap 64 --verify=7 --reprotect "
              "--on-silence stop -s /bin/rsh web beta"),
        0);
    assert_true(conf.force && conf.verify_every == 7 && args.foreground && args.verbose &&
                args.reprotect);
    assert_int_equal(conf.interval_max_ms, 1000);
    assert_int_equal(conf.interval_min_ms, 20);
    assert_int_equal(conf.output_wait_ms, 700);
    assert_int_equal(conf.heartbeat_ms, 50);
    assert_int_equal(conf.heartbeat_misses, 8);
    assert_int_equal(conf.staging_cap, 64 << 20);
    assert_false(conf.takeover_on_silence);
    assert_string_equal(args.ssh, "/bin/rsh");
    assert_string_equal(args.receiver, " -e --staging-cap 64 --on-silence stop");
    assert_int_equal(parse("remus -c --coloft-script '' web beta"), 0);
    assert_string_equal(args.receiver, ""); /* without one here, the receiver uses none either */
    assert_string_equal(conf.proxyscript, "");
}

static void test_a_command_instead_of_ssh_and_a_dry_run(void **state)
{
    (void)state;
    assert_int_equal(parse("remus -c -s '' web command"), 0);
    assert_string_equal(args.ssh, "");
    assert_int_equal(parse("remus -c --dry-run web"), 0);
    assert_int_equal(parse("remus -c --dry-run web beta"), 0);
    assert_int_equal(parse("remus --help"), 0);
    assert_true(args.help);
}

static void test_stock_options_that_make_no_sense(void **state)
{
    (void)state;
    refused("remus -c -b web beta", "-b (checkpoints to nowhere)");
    refused("remus -c -n web beta", "-n (no network buffer)");
    refused("remus -c -d web beta", "-d (no disk buffer)");
    refused("remus -c -u web beta", "-u (no compression)");
    refused("remus -c -N script web beta", "-N (script");
    refused("remus -c -p web beta", "the proxy is built in");
}

static void test_mistakes_are_named(void **state)
{
    (void)state;
    refused("remus -c web", "GUEST and HOST are needed");
    refused("remus -c web beta gamma", "GUEST and HOST are needed");
    refused("remus -c -x web beta", "-x is not an option");
    refused("remus -c --colour web beta", "--colour is not an option");
    refused("remus -c web beta -i", "-i needs a value");
    refused("remus -c web beta --heartbeat", "--heartbeat needs a value");
    refused("remus -c -i 9 web beta", "-i is \"9\"; it must be a number from 10 to 3600000");
    refused("remus -c -i -5 web beta", "-i is \"-5\"");
    refused("remus -c -i 99999999999999999999 web beta", "-i is \"99999999999999999999\"");
    refused("remus -c --heartbeat 5x web beta", "--heartbeat is \"5x\"");
    refused("remus -c --on-silence maybe web beta", "--on-silence is \"maybe\"");
}

static void test_intervals_agree(void **state)
{
    (void)state;
    assert_int_equal(parse("remus -c -i 50 web beta"), 0);
    assert_int_equal(conf.interval_min_ms, 50); /* the default minimum gives way */
    refused("remus -c -i 50 --interval-min 60 web beta", "above the maximum (50 ms)");
}

static int conf_of(const char *text)
{
    char path[] = "/tmp/test-xl-args.XXXXXX";
    int fd = mkstemp(path), rc;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    parse("remus -c web beta");
    rc = xl_colo_conf_read(path, &conf, &error);
    unlink(path);
    return rc;
}

static void conf_refused(const char *text, const char *why)
{
    assert_int_equal(conf_of(text), -1);
    if (!strstr(error.msg, why))
        fail_msg("%s: \"%s\" does not say \"%s\"", text, error.msg, why);
    assert_null(strchr(error.msg, '\n'));
}

static void test_conf(void **state)
{
    (void)state;
    assert_int_equal(
        conf_of("autoballoon=\"off\"\n# a comment\ncolo.heartbeat_ms=250\n"
                "colo.heartbeat_misses = \"4\"\ncolo.interval_max_ms=2000\n"
                "colo.interval_min_ms=0\ncolo.output_wait_ms=900\ncolo.staging_cap_mb=16\n"
                "colo.on_silence=\"stop\"\ncolo.default.proxyscript=\"/x\"\n"),
        0);
    assert_int_equal(conf.heartbeat_ms, 250);
    assert_int_equal(conf.heartbeat_misses, 4);
    assert_int_equal(conf.interval_max_ms, 2000);
    assert_int_equal(conf.interval_min_ms, 0);
    assert_int_equal(conf.output_wait_ms, 900);
    assert_int_equal(conf.staging_cap, 16 << 20);
    assert_false(conf.takeover_on_silence);
    assert_int_equal(conf_of(""), 0);
    assert_int_equal(xl_colo_conf_read("/nonexistent/xl.conf", &conf, &error), 0);
}

static void test_conf_mistakes_are_named(void **state)
{
    (void)state;
    conf_refused("colo.heartbeat_ms=3\n", "colo.heartbeat_ms in /tmp/");
    conf_refused("colo.heartbeat_ms=3\n", "is \"3\"");
    conf_refused("colo.heartbeat_ms=[1, 2]\n", "is not a single value");
    conf_refused("colo.on_silence=\"panic\"\n", "\"panic\"; it must be takeover or stop");
    conf_refused("colo.heartbeat_ms= = \n", "syntax error");
    assert_int_equal(xl_colo_conf_read("/", &conf, &error), -1);
    assert_string_equal(error.msg, "/ is not a file");
}

static void test_receiver(void **state)
{
    struct xl_receive_args r;
    char *stock[] = {"migrate-receive",
                     "--colo",
                     "--coloft-script",
                     "/x/y",
                     "--userspace-colo-proxy",
                     "-e",
                     NULL};
    char *mine[] = {
        "migrate-receive", "--colo", "--staging-cap", "64", "--on-silence", "stop", NULL};
    char *paused[] = {"migrate-receive", "--colo", "-p", NULL};
    char *extra[] = {"migrate-receive", "--colo", "what", NULL};

    (void)state;
    parse("remus -c web beta");
    assert_int_equal(xl_receive_parse(6, stock, &conf, &r, &error), 0);
    assert_true(r.foreground);
    assert_string_equal(conf.proxyscript, "/x/y");
    assert_int_equal(xl_receive_parse(6, mine, &conf, &r, &error), 0);
    assert_int_equal(conf.staging_cap, 64 << 20);
    assert_false(conf.takeover_on_silence);
    assert_int_equal(xl_receive_parse(3, paused, &conf, &r, &error), -1);
    assert_int_equal(xl_receive_parse(3, extra, &conf, &r, &error), -1);
    assert_non_null(strstr(error.msg, "\"what\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whose_command_it_is),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_all_options),
        cmocka_unit_test(test_a_command_instead_of_ssh_and_a_dry_run),
        cmocka_unit_test(test_stock_options_that_make_no_sense),
        cmocka_unit_test(test_mistakes_are_named),
        cmocka_unit_test(test_intervals_agree),
        cmocka_unit_test(test_conf),
        cmocka_unit_test(test_conf_mistakes_are_named),
        cmocka_unit_test(test_receiver),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
