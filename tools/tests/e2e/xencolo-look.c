/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is there on a host, a thing a line, for support/leftovers.py: runs in dom0.  One program, because
 * the shell and the six that this takes otherwise cost seconds on an emulated host.
 *
 *   domain NAME ID        process COMM ARGS...   process zombie COMM
 *   netdev NAME           port PATH              file PATH              xenstore PATH
 */
#include <ctype.h>
#include <dirent.h>
#include <err.h>
#include <ftw.h>
#include <glob.h>
#include <libxl_utils.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>

static void domains(void)
{
    xentoollog_logger *lg = (xentoollog_logger *)xtl_createlogger_stdiostream(stderr, XTL_ERROR, 0);
    libxl_ctx *ctx;
    libxl_dominfo *all;
    int n;

    if (libxl_ctx_alloc(&ctx, LIBXL_VERSION, 0, lg))
        errx(1, "no libxl");
    all = libxl_list_domain(ctx, &n);
    if (!all)
        errx(1, "cannot list the domains");
    for (int i = 0; i < n; i++) {
        char *name = libxl_domid_to_name(ctx, all[i].domid);

        printf("domain %s %u\n", name ? name : "(null)", all[i].domid);
        free(name);
    }
    libxl_dominfo_list_free(all, n);
    libxl_ctx_free(ctx);
    xtl_logger_destroy(lg);
}

/* A file of /proc, whole; what ends a process meanwhile is no error. */
static size_t whole(const char *pid, const char *name, char *text, size_t room)
{
    char path[300];
    size_t n = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%s/%s", pid, name);
    f = fopen(path, "r");
    if (f) {
        n = fread(text, 1, room - 1, f);
        fclose(f);
    }
    text[n] = 0;
    return n;
}

static void process(const char *pid)
{
    char comm[64], stat[512], args[8192], *state;
    size_t n;

    whole(pid, "comm", comm, sizeof(comm));
    comm[strcspn(comm, "\n")] = 0;
    whole(pid, "stat", stat, sizeof(stat));
    state = strrchr(stat, ')');
    n = whole(pid, "cmdline", args, sizeof(args));
    if (n > 0) {
        for (size_t i = 0; i + 1 < n; i++)
            if (!args[i] || args[i] == '\n')
                args[i] = ' ';
        printf("process %s %s\n", comm, args);
    } else if (state && state[2] == 'Z') {
        printf("process zombie %s\n", comm);
    }
}

static void processes(void)
{
    DIR *proc = opendir("/proc");
    struct dirent *e;

    if (!proc)
        err(1, "/proc");
    while ((e = readdir(proc)))
        if (isdigit((unsigned char)e->d_name[0]))
            process(e->d_name);
    closedir(proc);
}

static void paths(const char *kind, const char *pattern)
{
    glob_t found;

    if (glob(pattern, GLOB_PERIOD, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            const char *path = found.gl_pathv[i], *name = strrchr(path, '/') + 1;

            if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
                printf("%s %s\n", kind, strcmp(kind, "netdev") == 0 ? name : path);
        }
        globfree(&found);
    }
}

static int file(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    if (at->level > 0)
        printf("file %s\n", path);
    return 0;
}

static void nodes(struct xs_handle *xs, const char *below)
{
    unsigned int n;
    char **names = xs_directory(xs, XBT_NULL, below, &n);

    for (unsigned int i = 0; names && i < n; i++)
        printf("xenstore %s/%s\n", below, names[i]);
    free(names);
}

static void xenstore(void)
{
    static const char *const roots[] = {"/local/domain", "/vm", "/libxl",
                                        "/local/domain/0/device-model"};
    struct xs_handle *xs = xs_open(XS_UNWATCH_FILTER);
    char path[300], **kinds;
    unsigned int n;

    if (!xs)
        err(1, "xenstore");
    for (size_t i = 0; i < sizeof(roots) / sizeof(*roots); i++)
        nodes(xs, roots[i]);
    kinds = xs_directory(xs, XBT_NULL, "/local/domain/0/backend", &n);
    for (unsigned int i = 0; kinds && i < n; i++) {
        snprintf(path, sizeof(path), "/local/domain/0/backend/%s", kinds[i]);
        nodes(xs, path);
    }
    free(kinds);
    xs_close(xs);
}

int main(void)
{
    static const char *const folders[] = {"/run/xen-colo", "/run/xen", "/var/lib/xen",
                                          "/dev/shm",      "/var/tmp", "/tmp"};

    domains();
    processes();
    paths("netdev", "/sys/class/net/*");
    paths("port", "/sys/class/net/xenbr*/brif/*");
    for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++)
        nftw(folders[i], file, 8, FTW_PHYS);
    xenstore();
    return 0;
}
