/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The arguments of `xl remus --colo` and `xl migrate-receive --colo`.
 */
#include "xl.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char xl_remus_usage[] =
    "Usage: xl remus --colo [OPTION]... GUEST HOST\n"
    "\n"
    "Keep a second copy of a running HVM guest on HOST, in lock-step with the first.\n"
    "\n"
    "  -c, --colo              this, rather than the host's own `xl remus`\n"
    "  -i MS                   a checkpoint at least this often (5000)\n"
    "      --interval-min MS   and never sooner than this after the last (100)\n"
    "      --output-wait MS    one copy's output waits for the other's (200), then a checkpoint\n"
    "      --heartbeat MS      a life sign this often (100)\n"
    "      --heartbeat-misses N  the peer is lost after so many missed (5)\n"
    "      --on-silence takeover|stop  what HOST does when this host falls silent\n"
    "      --staging-cap MIB   memory for one checkpoint on HOST\n"
    "      --coloft-script SCRIPT  wires the NICs to colo-proxy; \"\" = output is not compared\n"
    "      --reprotect         protect the guest again after it rebooted\n"
    "      --verify[=N]        prove both copies equal at every (Nth) checkpoint (slow)\n"
    "      --dry-run           only check whether the guest can be protected\n"
    "  -s SSHCMD               instead of ssh; \"\" = HOST is a shell command\n"
    "  -e                      leave no monitor in the background\n"
    "  -F                      accept hosts whose Xen or QEMU versions differ (unsafe)\n"
    "  -v                      put the time in front of each message\n"
    "  -h, --help              this text\n"
    "\n"
    "Exit status: 0 protection ended as asked, or the guest shut down; 1 it was lost, the guest\n"
    "runs here without it; 2 it never began. Without --colo: see xl(1) of the host.\n";

enum {
    OPT_COLO = 256,
    OPT_INTERVAL_MIN,
    OPT_OUTPUT_WAIT,
    OPT_HEARTBEAT,
    OPT_HEARTBEAT_MISSES,
    OPT_STAGING_CAP,
    OPT_VERIFY,
    OPT_REPROTECT,
    OPT_ON_SILENCE,
    OPT_DRY_RUN,
    OPT_SCRIPT,
    OPT_USERSPACE_PROXY,
};

static const char remus_short[] = ":Fs:ei:cbnduN:pvh";
static const struct option remus_long[] = {
    {"colo", no_argument, NULL, OPT_COLO},
    {"interval-min", required_argument, NULL, OPT_INTERVAL_MIN},
    {"output-wait", required_argument, NULL, OPT_OUTPUT_WAIT},
    {"heartbeat", required_argument, NULL, OPT_HEARTBEAT},
    {"heartbeat-misses", required_argument, NULL, OPT_HEARTBEAT_MISSES},
    {"staging-cap", required_argument, NULL, OPT_STAGING_CAP},
    {"verify", optional_argument, NULL, OPT_VERIFY},
    {"reprotect", no_argument, NULL, OPT_REPROTECT},
    {"on-silence", required_argument, NULL, OPT_ON_SILENCE},
    {"dry-run", no_argument, NULL, OPT_DRY_RUN},
    {"coloft-script", required_argument, NULL, OPT_SCRIPT},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static const char receive_short[] = ":Fedrp";
static const struct option receive_long[] = {
    {"colo", no_argument, NULL, OPT_COLO},
    {"coloft-script", required_argument, NULL, OPT_SCRIPT},
    {"userspace-colo-proxy", no_argument, NULL, OPT_USERSPACE_PROXY},
    {"staging-cap", required_argument, NULL, OPT_STAGING_CAP},
    {"on-silence", required_argument, NULL, OPT_ON_SILENCE},
    {NULL, 0, NULL, 0},
};

/* getopt moves the non-options of the array that it is given: of a copy, when we only look. */
static bool has_option(int argc, char *const *argv, const char *shorts, const struct option *longs,
                       const char *wanted)
{
    char **copy = calloc((size_t)argc + 1, sizeof(*copy));
    bool found = false;
    int opt;

    if (!copy)
        return false;
    memcpy(copy, argv, (size_t)argc * sizeof(*copy));
    opterr = 0;
    optind = 0;
    while (!found && (opt = getopt_long(argc, copy, shorts, longs, NULL)) != -1)
        found = opt == OPT_COLO || (opt < 256 && strchr(wanted, opt));
    free(copy);
    return found;
}

bool xl_remus_is_colo(int argc, char *const *argv)
{
    return has_option(argc, argv, remus_short, remus_long, "ch");
}

bool xl_receive_is_colo(int argc, char *const *argv)
{
    return has_option(argc, argv, receive_short, receive_long, "");
}

/* What getopt did not like: the argument that it had just looked at. */
static int bad_option(int opt, char *const *argv, const char *command, struct colo_err *err)
{
    char name[72];

    if (optopt > 0 && optopt < 256)
        snprintf(name, sizeof(name), "-%c", optopt);
    else
        snprintf(name, sizeof(name), "%.64s", argv[optind - 1]);
    return colo_fail(err, COLO_ERR_REFUSED, "usage",
                     opt == ':' ? "%s needs a value; see xl %s --help"
                                : "%s is not an option; see xl %s --help",
                     name, command);
}

/* Options of stock Remus that would be wrong here. */
static const char *senseless(int opt)
{
    switch (opt) {
    case 'b':
        return "-b (checkpoints to nowhere) makes no sense with --colo: the second copy runs";
    case 'n':
        return "-n (no network buffer) makes no sense with --colo; see --coloft-script";
    case 'd':
        return "-d (no disk buffer) makes no sense with --colo, which has no such buffer";
    case 'u':
        return "-u (no compression) makes no sense with --colo, which does not compress";
    case 'N':
        return "-N (script of the network buffer) makes no sense with --colo, which has none";
    case 'p':
        return "-p (proxy in userspace) is not an option here: the proxy is built in";
    default:
        return NULL;
    }
}

static void for_receiver(struct xl_remus_args *a, const char *option, const char *value)
{
    size_t len = strlen(a->receiver);

    snprintf(a->receiver + len, sizeof(a->receiver) - len, " %s%s%s", option, value ? " " : "",
             value ? value : "");
}

int xl_remus_parse(int argc, char **argv, struct colo_config *c, struct xl_remus_args *out,
                   struct colo_err *err)
{
    const char *receiver_only = NULL; /* an option that means nothing here */
    bool min_given = false;
    int opt, rc = 0;
    uint64_t n = 0;

    memset(out, 0, sizeof(*out));
    out->ssh = "ssh";
    opterr = 0;
    optind = 0;
    while (!rc && (opt = getopt_long(argc, argv, remus_short, remus_long, NULL)) != -1) {
        switch (opt) {
        case 'c':
        case OPT_COLO:
            break;
        case 'F':
            c->force = true;
            break;
        case 's':
            out->ssh = optarg;
            break;
        case 'e':
            out->foreground = true;
            for_receiver(out, "-e", NULL);
            break;
        case 'i':
            rc = xl_set_number(XL_INTERVAL_MAX_MS, "-i", optarg, c, err);
            break;
        case 'v':
            out->verbose = true;
            break;
        case 'h':
            out->help = true;
            return 0;
        case OPT_INTERVAL_MIN:
            rc = xl_set_number(XL_INTERVAL_MIN_MS, "--interval-min", optarg, c, err);
            min_given = true;
            break;
        case OPT_OUTPUT_WAIT:
            rc = xl_set_number(XL_OUTPUT_WAIT_MS, "--output-wait", optarg, c, err);
            break;
        case OPT_HEARTBEAT:
            rc = xl_set_number(XL_HEARTBEAT_MS, "--heartbeat", optarg, c, err);
            break;
        case OPT_HEARTBEAT_MISSES:
            rc = xl_set_number(XL_HEARTBEAT_MISSES, "--heartbeat-misses", optarg, c, err);
            break;
        case OPT_STAGING_CAP:
            rc = xl_set_number(XL_STAGING_CAP_MB, "--staging-cap", optarg, c, err);
            if (!rc)
                for_receiver(out, receiver_only = "--staging-cap", optarg);
            break;
        case OPT_ON_SILENCE:
            rc = xl_parse_on_silence("--on-silence", optarg, c, err);
            if (!rc)
                for_receiver(out, receiver_only = "--on-silence", optarg);
            break;
        case OPT_SCRIPT:
            rc = xl_set_proxyscript("--coloft-script", optarg, c, err);
            if (!rc && c->proxyscript[0]) /* without one here, the receiver uses none either */
                for_receiver(out, receiver_only = "--coloft-script", optarg);
            break;
        case OPT_VERIFY:
            if (!optarg)
                optarg = "1";
            rc = xl_parse_number("--verify", optarg, 1, UINT32_MAX, &n, err);
            c->verify_every = (uint32_t)n;
            break;
        case OPT_REPROTECT:
            out->reprotect = true;
            break;
        case OPT_DRY_RUN:
            out->dry_run = true;
            break;
        case ':':
        case '?':
            rc = bad_option(opt, argv, "remus", err);
            break;
        default:
            rc = colo_fail(err, COLO_ERR_REFUSED, "option", "%s", senseless(opt));
            break;
        }
    }
    if (rc)
        return rc;
    if (argc - optind != (out->dry_run ? 1 : 2) && argc - optind != 2)
        return colo_fail(err, COLO_ERR_REFUSED, "usage",
                         "GUEST and HOST are needed and nothing else; see xl remus --help");
    out->guest = argv[optind];
    out->host = argc - optind > 1 ? argv[optind + 1] : "";
    if (!*out->guest || (!*out->host && !out->dry_run))
        return colo_fail(err, COLO_ERR_REFUSED, "usage", "GUEST or HOST is empty");
    if (!*out->ssh && receiver_only)
        return colo_fail(err, COLO_ERR_REFUSED, "usage",
                         "%s is for the receiver: with -s \"\" put it into the command",
                         receiver_only);
    /* A short -i alone is clear enough. */
    if (!min_given && c->interval_min_ms > c->interval_max_ms)
        c->interval_min_ms = c->interval_max_ms;
    return xl_colo_conf_check(c, err);
}

int xl_receive_parse(int argc, char **argv, struct colo_config *c, struct xl_receive_args *out,
                     struct colo_err *err)
{
    int opt, rc = 0;

    memset(out, 0, sizeof(*out));
    opterr = 0;
    optind = 0;
    while (!rc && (opt = getopt_long(argc, argv, receive_short, receive_long, NULL)) != -1) {
        switch (opt) {
        case OPT_COLO:
        case OPT_USERSPACE_PROXY: /* stock's way of saying what we do anyway */
        case 'F':
        case 'd':
            break;
        case 'e':
            out->foreground = true;
            break;
        case OPT_SCRIPT:
            rc = xl_set_proxyscript("--coloft-script", optarg, c, err);
            break;
        case OPT_STAGING_CAP:
            rc = xl_set_number(XL_STAGING_CAP_MB, "--staging-cap", optarg, c, err);
            break;
        case OPT_ON_SILENCE:
            rc = xl_parse_on_silence("--on-silence", optarg, c, err);
            break;
        case 'r':
        case 'p':
            rc = colo_fail(err, COLO_ERR_REFUSED, "option", "-%c makes no sense with --colo", opt);
            break;
        default:
            rc = bad_option(opt, argv, "migrate-receive", err);
            break;
        }
    }
    if (!rc && optind != argc)
        rc = colo_fail(err, COLO_ERR_REFUSED, "usage", "\"%.64s\" is not expected", argv[optind]);
    return rc;
}
