/* SPDX-License-Identifier: GPL-2.0-only */
/* Linux names disks as it finds them; by their place on the bus they have an order. */
#include "guest.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct disk {
    char place[32], name[32]; /* "0:0:1:0", "sdb" */
};

static int by_place(const void *a, const void *b)
{
    return strcmp(((const struct disk *)a)->place, ((const struct disk *)b)->place);
}

bool disk_device(uint64_t number, char *path, size_t size)
{
    struct disk disk[16];
    size_t n = 0;
    DIR *d = opendir("/sys/block");
    struct dirent *e;

    while (d && (e = readdir(d)) && n < sizeof(disk) / sizeof(*disk)) {
        char link[300], target[PATH_MAX];
        ssize_t len;

        snprintf(link, sizeof(link), "/sys/block/%s/device", e->d_name);
        len = strncmp(e->d_name, "sd", 2) ? -1 : readlink(link, target, sizeof(target) - 1);
        if (len <= 0)
            continue;
        target[len] = 0;
        snprintf(disk[n].place, sizeof(disk[n].place), "%.31s", strrchr(target, '/') + 1);
        snprintf(disk[n++].name, sizeof(disk[0].name), "%.31s", e->d_name);
    }
    if (d)
        closedir(d);
    qsort(disk, n, sizeof(*disk), by_place);
    if (number < n)
        snprintf(path, size, "/dev/%s", disk[number].name);
    return number < n;
}
