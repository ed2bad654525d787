/* SPDX-License-Identifier: LGPL-2.1-only */
#include "libxl_colo.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "libxl_colo_control.h"

void colo_testpoint(const char *name)
{
    static unsigned long reached;
    const char *want = getenv("XEN_COLO_TESTPOINT");
    size_t len = strlen(name);
    unsigned long nth = 1;
    char path[128];
    int fd;

    if (!want || strncmp(want, name, len) != 0 || (want[len] && want[len] != ':'))
        return;
    if (want[len] == ':')
        nth = strtoul(want + len + 1, NULL, 10);
    if (++reached != nth)
        return;
    snprintf(path, sizeof(path), COLO_RUN_DIR "/testpoint.%s", name);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    /* Only tests come here: looking now and then is good enough. */
    while (!access(path, F_OK))
        nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
}
