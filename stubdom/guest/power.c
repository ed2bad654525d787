/* SPDX-License-Identifier: GPL-2.0-only */
/* The ACPI power button (`xl shutdown -F`, `xl trigger GUEST power`) powers the guest off. */
#define _GNU_SOURCE
#include "guest.h"

#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <unistd.h>

#define DEVICES 8

/* The first input device that calls itself a power button, or -1. */
int power_open(void)
{
    char path[32], name[64];

    for (int i = 0; i < DEVICES; i++) {
        int fd;

        snprintf(path, sizeof(path), "/dev/input/event%d", i);
        fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
            continue;
        memset(name, 0, sizeof(name));
        if (ioctl(fd, EVIOCGNAME(sizeof(name) - 1), name) > 0 && !strcmp(name, "Power Button"))
            return fd;
        close(fd);
    }
    say("there is no power button");
    return -1;
}

void power_input(int fd)
{
    struct input_event event;

    while (read(fd, &event, sizeof(event)) == sizeof(event))
        if (event.type == EV_KEY && event.code == KEY_POWER && event.value) {
            say("power button");
            reboot(RB_POWER_OFF);
        }
}
