/* SPDX-License-Identifier: LGPL-2.1-only */
#include "libxl_colo_monitor_log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_DIR  "/var/log/xen"
#define FIRST_FD 3 /* after stdin, stdout and stderr */

/* For a kernel, or a valgrind, without close_range. */
static void close_listed(int from)
{
    DIR *d = opendir("/proc/self/fd");
    struct dirent *e;
    int fd;

    if (!d)
        return;
    while ((e = readdir(d))) {
        fd = atoi(e->d_name);
        if (fd >= from && fd != dirfd(d))
            close(fd);
    }
    closedir(d);
}

void colo_monitor_detach(struct colo_monitor_child *c)
{
    int *keep[] = {&c->fd, &c->pidfd};
    int next = FIRST_FD, null;

    /* First out of the way of each other, then one after the other from FIRST_FD on. */
    for (size_t i = 0; i < sizeof(keep) / sizeof(keep[0]); i++) {
        if (*keep[i] >= 0)
            *keep[i] = fcntl(*keep[i], F_DUPFD_CLOEXEC, FIRST_FD + 2);
    }
    for (size_t i = 0; i < sizeof(keep) / sizeof(keep[0]); i++) {
        if (*keep[i] >= 0 && dup3(*keep[i], next, O_CLOEXEC) == next)
            *keep[i] = next++;
    }
    if (close_range((unsigned int)next, ~0U, 0))
        close_listed(next);

    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        _exit(1);
    for (int fd = 0; fd < FIRST_FD; fd++)
        dup2(null, fd);
    close(null);
}

void colo_monitor_log_open(const struct colo_monitor_child *c)
{
    static char now_open[256];
    char path[256], name[128];
    int fd;

    snprintf(name, sizeof(name), "%s", c->sh->recovery.name);
    for (char *p = name; *p; p++) {
        if (*p == '/' || (unsigned char)*p < ' ')
            *p = '_';
    }
    if (c->opts.logfile)
        snprintf(path, sizeof(path), "%s", c->opts.logfile);
    else if (name[0])
        snprintf(path, sizeof(path), LOG_DIR "/xl-colo-%s.log", name);
    else
        snprintf(path, sizeof(path), LOG_DIR "/xl-colo.log");
    if (!strcmp(path, now_open))
        return;

    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return; /* it goes on as it was: to /dev/null at first */
    dup2(fd, 1);
    dup2(fd, 2);
    close(fd);
    snprintf(now_open, sizeof(now_open), "%s", path);
}

void colo_monitor_log(const char *fmt, ...)
{
    char stamp[32], text[640];
    struct timespec ts;
    struct tm tm;
    va_list ap;

    clock_gettime(CLOCK_REALTIME, &ts);
    localtime_r(&ts.tv_sec, &tm);
    strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &tm);
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    dprintf(STDERR_FILENO, "%s.%03ld [%d] %s\n", stamp, ts.tv_nsec / 1000000, (int)getpid(), text);
}
