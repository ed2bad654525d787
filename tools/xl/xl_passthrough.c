/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The host's own xl, in front of which we stand.
 */
#include "xl.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define GUARD "XL_COLO_PASSED"

/* Executable, and not this very program under another name. */
static bool usable(const char *path)
{
    struct stat ours, theirs;

    if (access(path, X_OK) || stat(path, &theirs) || !S_ISREG(theirs.st_mode))
        return false;
    return stat("/proc/self/exe", &ours) || ours.st_dev != theirs.st_dev ||
           ours.st_ino != theirs.st_ino;
}

static unsigned int xen_version(const char *part)
{
    unsigned int n = 0;
    char path[64];
    FILE *f;

    snprintf(path, sizeof(path), "/sys/hypervisor/version/%s", part);
    f = fopen(path, "re");
    if (f) {
        if (fscanf(f, "%u", &n) != 1)
            n = 0;
        fclose(f);
    }
    return n;
}

char *xl_stock_path(struct colo_err *err)
{
    const char *env = getenv("XL_COLO_STOCK_XL");
    char running[64], *found = NULL;
    glob_t g;
    size_t i;

    if (env && *env) {
        if (usable(env))
            return strdup(env);
        colo_fail(err, COLO_ERR_LOCAL, "no-stock-xl",
                  "XL_COLO_STOCK_XL is \"%s\", which is not an executable other than this one",
                  env);
        return NULL;
    }
    snprintf(running, sizeof(running), "/usr/lib/xen-%u.%u/bin/xl", xen_version("major"),
             xen_version("minor"));
    if (usable("/usr/sbin/xl"))
        return strdup("/usr/sbin/xl");
    if (usable(running))
        return strdup(running);
    if (!glob("/usr/lib/xen-*/bin/xl", 0, NULL, &g)) {
        for (i = g.gl_pathc; i > 0 && !found; i--) {
            if (usable(g.gl_pathv[i - 1]))
                found = strdup(g.gl_pathv[i - 1]);
        }
        globfree(&g);
    }
    if (!found)
        colo_fail(err, COLO_ERR_LOCAL, "no-stock-xl",
                  "the host's own xl was not found, neither as /usr/sbin/xl nor below "
                  "/usr/lib/xen-*; install it (Debian: xen-utils) or set XL_COLO_STOCK_XL");
    return found;
}

/* A "stock xl" that is another copy of us would execute itself for ever.  An exec keeps the
 * process, so the guard holds our number; a child of the stock xl has another one. */
static int check_guard(struct colo_err *err)
{
    const char *guard = getenv(GUARD);
    char pid[16];

    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    if (guard && !strcmp(guard, pid))
        return colo_fail(err, COLO_ERR_LOCAL, "no-stock-xl",
                         "what was found as the host's own xl is a copy of this one; set "
                         "XL_COLO_STOCK_XL");
    setenv(GUARD, pid, 1);
    return 0;
}

int xl_passthrough(char **argv)
{
    struct colo_err err = {0};
    char *path = NULL;

    if (!check_guard(&err))
        path = xl_stock_path(&err);
    if (!path) {
        fprintf(stderr, "xl: %s\n", err.msg);
        return 127;
    }
    execv(path, argv);
    fprintf(stderr, "xl: cannot execute %s: %s\n", path, strerror(errno));
    free(path);
    return 126;
}

int xl_stock_run(char **argv)
{
    pid_t pid = fork();
    int status;

    if (pid < 0) {
        fprintf(stderr, "xl: cannot fork: %s\n", strerror(errno));
        return 126;
    }
    if (!pid)
        _exit(xl_passthrough(argv));
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return 126;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
