/* SPDX-License-Identifier: GPL-2.0-only */
/* colo-disk(8) */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#include "colo_disk_recover.h"
#include "disk_serve.h"

static int usage(FILE *f)
{
    fputs("usage: colo-disk serve [OPTION]... --control=SOCKET --secondary=SOCKET TARGET\n"
          "       colo-disk status [--state-dir=DIR] TARGET\n"
          "       colo-disk recover [--state-dir=DIR] TARGET\n"
          "       colo-disk forget [--state-dir=DIR] TARGET\n"
          "\n"
          "serve     the disk TARGET of a secondary host, in the background unless -f is given\n"
          "  --session=UUID     of the guest's session        --listen=ADDRESS  for the primary\n"
          "  --tls-psk=FILE     the session's key             --port=N          [any]\n"
          "  --export=NAME      the primary's [primary]       --alone=SECONDS   [30]\n"
          "  --memory=SIZE      for overlays [256M]\n"
          "  --active=FILE, --hidden=FILE  for what does not fit there\n"
          "  --log=FILE         --state-dir=DIR               --raw             -f\n"
          "  --standalone       no primary: the disk of a guest that took over\n"
          "status    what is known of TARGET: exit status 0 = usable, 3 = not, 4 = after recover,\n"
          "          5 = it is served now\n"
          "recover   finish what a crash during a takeover has left undone\n"
          "forget    drop what is known of TARGET, and what is not on it yet\n",
          f);
    return f == stderr ? 2 : 0;
}

static int complain(const struct colo_err *err)
{
    fprintf(stderr, "colo-disk: %s: %s\n", err->reason, err->msg);
    return 1;
}

/* ---- serve ---- */

enum option_key {
    KEY_SESSION = 256,
    KEY_CONTROL,
    KEY_SECONDARY,
    KEY_LISTEN,
    KEY_PORT,
    KEY_EXPORT,
    KEY_PSK,
    KEY_MEMORY,
    KEY_ACTIVE,
    KEY_HIDDEN,
    KEY_STATE_DIR,
    KEY_ALONE,
    KEY_LOG,
    KEY_RAW,
    KEY_STANDALONE,
};

static const struct option serve_options[] = {
    {"session", required_argument, NULL, KEY_SESSION},
    {"control", required_argument, NULL, KEY_CONTROL},
    {"secondary", required_argument, NULL, KEY_SECONDARY},
    {"listen", required_argument, NULL, KEY_LISTEN},
    {"port", required_argument, NULL, KEY_PORT},
    {"export", required_argument, NULL, KEY_EXPORT},
    {"tls-psk", required_argument, NULL, KEY_PSK},
    {"memory", required_argument, NULL, KEY_MEMORY},
    {"active", required_argument, NULL, KEY_ACTIVE},
    {"hidden", required_argument, NULL, KEY_HIDDEN},
    {"state-dir", required_argument, NULL, KEY_STATE_DIR},
    {"alone", required_argument, NULL, KEY_ALONE},
    {"log", required_argument, NULL, KEY_LOG},
    {"raw", no_argument, NULL, KEY_RAW},
    {"standalone", no_argument, NULL, KEY_STANDALONE},
    {NULL, 0, NULL, 0},
};

static int read_port(const char *text, uint16_t *port)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    *port = (uint16_t)n;
    return *text < '0' || *text > '9' || *end || n > UINT16_MAX ? -1 : 0;
}

static int set_option(struct disk_serve *cfg, int key)
{
    switch (key) {
    case KEY_SESSION:
        cfg->session = optarg;
        break;
    case KEY_CONTROL:
        cfg->control = optarg;
        break;
    case KEY_SECONDARY:
        cfg->secondary = optarg;
        break;
    case KEY_LISTEN:
        cfg->listen = optarg;
        break;
    case KEY_PORT:
        return read_port(optarg, &cfg->port);
    case KEY_EXPORT:
        cfg->export = optarg;
        break;
    case KEY_PSK:
        cfg->psk = optarg;
        break;
    case KEY_MEMORY:
        cfg->memory = optarg;
        break;
    case KEY_ACTIVE:
        cfg->active = optarg;
        break;
    case KEY_HIDDEN:
        cfg->hidden = optarg;
        break;
    case KEY_STATE_DIR:
        cfg->state_dir = optarg;
        break;
    case KEY_ALONE:
        cfg->alone = optarg;
        break;
    case KEY_LOG:
        cfg->log = optarg;
        break;
    case KEY_RAW:
        cfg->raw = true;
        break;
    case KEY_STANDALONE:
        cfg->standalone = true;
        break;
    case 'f':
        cfg->foreground = true;
        break;
    default:
        return -1;
    }
    return 0;
}

/* The server has another folder to work in. */
static bool absolute(const char *path)
{
    return !path || path[0] == '/';
}

static int serve(int argc, char **argv)
{
    struct disk_serve cfg = {0};
    struct colo_err err = {0};
    uint16_t port;
    uuid_t uuid;
    int c;

    while ((c = getopt_long(argc, argv, "f", serve_options, NULL)) >= 0)
        if (set_option(&cfg, c))
            return usage(stderr);
    if (optind != argc - 1 || !cfg.control || !cfg.secondary ||
        (!cfg.standalone && (!cfg.listen || !cfg.psk || !cfg.session)) ||
        (cfg.session && uuid_parse(cfg.session, uuid)))
        return usage(stderr);
    cfg.target = argv[optind];
    if (!absolute(cfg.target) || !absolute(cfg.control) || !absolute(cfg.secondary) ||
        !absolute(cfg.psk) || !absolute(cfg.active) || !absolute(cfg.hidden) ||
        !absolute(cfg.state_dir) || !absolute(cfg.log)) {
        fputs("colo-disk: paths have to be absolute\n", stderr);
        return 2;
    }
    if (disk_serve(&cfg, &port, &err))
        return complain(&err);
    if (port)
        printf("port %u\n", port);
    return 0;
}

/* ---- a disk without a server ---- */

static int status(const char *dir, const char *target)
{
    static const int exits[] = {[COLO_DISK_USABLE] = 0,
                                [COLO_DISK_UNUSABLE] = 3,
                                [COLO_DISK_RECOVER] = 4,
                                [COLO_DISK_SERVED] = 5};
    struct colo_disk_report rep;
    struct colo_err err = {0};

    if (colo_disk_inspect(dir, target, &rep, &err))
        return complain(&err);
    printf("%s: %s\n", target, rep.text);
    if (rep.marked)
        printf("session %s, checkpoint %" PRIu64 ", record %s\n", rep.record.session,
               rep.record.checkpoint, rep.record_path);
    return exits[rep.use];
}

static int recover(const char *dir, const char *target)
{
    struct colo_journal_found found;
    struct colo_err err = {0};

    if (colo_disk_recover(dir, target, &found, &err))
        return complain(&err);
    if (found.blocks)
        printf("%s: %" PRIu64 " blocks of 4 KiB were brought to the disk: usable\n", target,
               found.blocks);
    else
        printf("%s: nothing had to be done: usable\n", target);
    return 0;
}

static int forget(const char *dir, const char *target)
{
    struct colo_err err = {0};

    return colo_disk_forget(dir, target, &err) ? complain(&err) : 0;
}

static int one_disk(int argc, char **argv, int (*run)(const char *dir, const char *target))
{
    static const struct option options[] = {{"state-dir", required_argument, NULL, KEY_STATE_DIR},
                                            {NULL, 0, NULL, 0}};
    const char *dir = NULL;
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        if (c != KEY_STATE_DIR)
            return usage(stderr);
        dir = optarg;
    }
    return optind == argc - 1 ? run(dir, argv[optind]) : usage(stderr);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (!strcmp(what, "serve"))
        return serve(argc - 1, argv + 1);
    if (!strcmp(what, "status"))
        return one_disk(argc - 1, argv + 1, status);
    if (!strcmp(what, "recover"))
        return one_disk(argc - 1, argv + 1, recover);
    if (!strcmp(what, "forget"))
        return one_disk(argc - 1, argv + 1, forget);
    return usage(!strcmp(what, "--help") ? stdout : stderr);
}
