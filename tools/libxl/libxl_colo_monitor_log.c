/* SPDX-License-Identifier: LGPL-2.1-only */
#include "libxl_colo_monitor_log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

void colo_log_path(char path[COLO_LOG_PATH], const char *prefix, const char *guest)
{
    int n = snprintf(path, COLO_LOG_PATH, LOG_DIR "/%.32s", prefix);

    snprintf(path + n, COLO_LOG_PATH - (size_t)n, "%.128s.log", guest);
    for (char *p = path + sizeof(LOG_DIR); *p; p++) {
        if (*p == '/' || (unsigned char)*p < ' ')
            *p = '_';
    }
}

void colo_log_path_disk(char path[COLO_LOG_PATH], const char *vdev, const char *guest)
{
    char prefix[32];

    snprintf(prefix, sizeof(prefix), "xl-colo-disk-%.16s-", vdev);
    colo_log_path(path, prefix, guest);
}

void colo_monitor_log_open(const struct colo_monitor_child *c)
{
    static char now_open[COLO_LOG_PATH];
    const char *guest = c->sh->recovery.name;
    char path[COLO_LOG_PATH];
    int fd;

    if (c->opts.logfile)
        snprintf(path, sizeof(path), "%s", c->opts.logfile);
    else
        colo_log_path(path, guest[0] ? "xl-colo-" : "xl-colo", guest);
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
