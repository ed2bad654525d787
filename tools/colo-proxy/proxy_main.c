/* SPDX-License-Identifier: GPL-2.0-only */
/* colo-proxy(8) */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proxy_daemon.h"
#include "proxy_links.h"

static int usage(FILE *f)
{
    fputs(
        "usage: colo-proxy run [-f] CONTROL-SOCKET [LOG-FILE]\n"
        "       colo-proxy setup primary VIF\n"
        "       colo-proxy setup secondary VIF BRIDGE\n"
        "       colo-proxy teardown VIF [--off-bridge]\n"
        "\n"
        "run       be the proxy of one guest, in the background unless -f is given; told what to do\n"
        "          over CONTROL-SOCKET\n"
        "setup     wire VIF's tap to the proxy's taps; a primary's leaves its bridge to them\n"
        "teardown  undo that, and put the tap back on its bridge\n",
        f);
    return f == stderr ? 2 : 0;
}

static int complain(const struct colo_err *err)
{
    fprintf(stderr, "colo-proxy: %s\n", err->msg);
    return 1;
}

static int setup(int argc, char **argv)
{
    bool secondary = argc == 5 && !strcmp(argv[2], "secondary");
    struct proxy_links l;
    struct colo_err err;

    if (!secondary && (argc != 4 || strcmp(argv[2], "primary") != 0))
        return usage(stderr);
    if (proxy_links_name(argv[3], &l, &err) ||
        proxy_links_setup(&l, secondary ? argv[4] : NULL, &err))
        return complain(&err);
    return 0;
}

static int teardown(int argc, char **argv)
{
    bool rejoin = argc == 3;
    struct proxy_links l;
    struct colo_err err;
    int rc;

    if (argc != 3 && (argc != 4 || strcmp(argv[3], "--off-bridge") != 0))
        return usage(stderr);
    if (proxy_links_name(argv[2], &l, &err))
        return complain(&err);
    rc = proxy_links_aside(&l, rejoin, &err);
    if (proxy_links_remove(&l, rc ? NULL : &err))
        rc = -1;
    return rc ? complain(&err) : 0;
}

static int be_a_proxy(int argc, char **argv)
{
    bool foreground = argc > 2 && !strcmp(argv[2], "-f");
    char **arg = argv + 2 + foreground;
    int args = argc - 2 - foreground;
    struct proxy_run run = {0};
    struct colo_err err;

    if (args < 1 || args > 2 - foreground)
        return usage(stderr);
    /* what a caller had open: a peer that waits for the end of a connection must not wait for us */
    if (close_range(STDERR_FILENO + 1, ~0u, 0) && errno != ENOSYS) {
        perror("colo-proxy");
        return 1;
    }
    if (proxy_drop_privileges(&err))
        return complain(&err);
    run.control_path = arg[0];
    run.log = args > 1 ? arg[1] : NULL;
    run.background = !foreground;
    return proxy_daemon_run(&run, &err) ? complain(&err) : 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "run"))
        return be_a_proxy(argc, argv);
    if (argc > 1 && !strcmp(argv[1], "setup"))
        return setup(argc, argv);
    if (argc > 1 && !strcmp(argv[1], "teardown"))
        return teardown(argc, argv);
    return usage(argc > 1 && !strcmp(argv[1], "--help") ? stdout : stderr);
}
