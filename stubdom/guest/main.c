/* SPDX-License-Identifier: GPL-2.0-only */
/* PID 1 of the lab's guest: mounts, modules, addresses; then ticks and serves for ever. */
#define _GNU_SOURCE
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

struct settings settings = {.tick_ms = 100};
uint64_t counter, boot_id;

static int serial = -1;
static double next_tick;

double uptime(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A line on the serial port.  When nobody reads it for a second, the rest is dropped. */
void say(const char *fmt, ...)
{
    char line[ANSWER_MAX + 2];
    size_t len, done = 0;
    va_list args;

    va_start(args, fmt);
    vsnprintf(line, sizeof(line) - 1, fmt, args);
    va_end(args);
    len = strlen(line);
    line[len++] = '\n';
    while (done < len) {
        struct pollfd ready = {.fd = serial, .events = POLLOUT};
        ssize_t n = write(serial, line + done, len - done);

        if (n > 0)
            done += (size_t)n;
        else if (n < 0 && errno != EAGAIN && errno != EINTR)
            return;
        else if (poll(&ready, 1, 1000) <= 0)
            return;
    }
}

/* Ticks that were missed (a paused guest, long work) are not made up for. */
static void tick(void)
{
    double now = uptime();

    if (now < next_tick)
        return;
    next_tick += settings.tick_ms / 1e3;
    if (next_tick < now)
        next_tick = now + settings.tick_ms / 1e3;
    counter++;
    http_tick();
    say("tick %" PRIu64 " uptime %.3f", counter, now);
}

void breathe(void)
{
    tick();
}

static void open_serial(void)
{
    struct termios raw;

    serial = open("/dev/ttyS0", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (serial < 0)
        return;
    if (tcgetattr(serial, &raw) == 0) {
        cfmakeraw(&raw);
        raw.c_oflag |= OPOST | ONLCR;
        raw.c_cflag |= CLOCAL;
        tcsetattr(serial, TCSANOW, &raw);
    }
}

static void mount_all(void)
{
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
}

static void load_modules(void)
{
    struct dirent **files;
    int n = scandir("/modules", &files, NULL, alphasort);

    for (int i = 0; i < n; i++) {
        char path[300];
        int fd;

        snprintf(path, sizeof(path), "/modules/%s", files[i]->d_name);
        if (files[i]->d_name[0] != '.') {
            fd = open(path, O_RDONLY | O_CLOEXEC);
            if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) != 0)
                say("cannot load %s", path);
            close(fd);
        }
        free(files[i]);
    }
    if (n >= 0)
        free(files);
}

static void read_settings(void)
{
    char line[4096], *save = NULL;
    int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);

    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return;
    line[n] = 0;
    for (char *word = strtok_r(line, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
        if (!strncmp(word, "guest.ip=", 9))
            snprintf(settings.ip, sizeof(settings.ip), "%s", word + 9);
        else if (!strncmp(word, "guest.ip6=", 10))
            snprintf(settings.ip6, sizeof(settings.ip6), "%s", word + 10);
        else if (!strncmp(word, "guest.tick=", 11) && atoi(word + 11) > 0)
            settings.tick_ms = (unsigned)atoi(word + 11);
    }
}

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    if (write(fd, text, strlen(text)) < 0)
        say("cannot set %s", path);
    close(fd);
}

/* The firmware leaves the PIT interrupting 18 times a second, and Linux, which has better timers, does
 * not stop it: an idle guest should be idle. */
static void stop_pit(void)
{
    if (ioperm(0x40, 4, 1))
        return;
    outb(0x30, 0x43); /* channel 0, mode 0: once */
    outb(0, 0x40);
    outb(0, 0x40);
}

int main(void)
{
    mount_all();
    open_serial();
    read_settings();
    load_modules();
    stop_pit();
    put("/proc/sys/kernel/sysrq", "1");
    put("/proc/sys/net/ipv6/conf/default/accept_ra", "0");
    put("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
    put("/proc/sys/net/ipv6/conf/eth0/accept_ra", "0");
    put("/proc/sys/net/ipv6/conf/eth0/accept_dad", "0");
    net_up(settings.ip, settings.ip6);
    while (getrandom(&boot_id, sizeof(boot_id), 0) != sizeof(boot_id))
        ;
    memory_init();
    server_init();
    say("guest ready: boot %016" PRIx64 " ip %s ip6 %s", boot_id, settings.ip, settings.ip6);
    next_tick = uptime();
    for (;;) {
        double wait;

        tick();
        wait = (next_tick - uptime()) * 1e3;
        server_run(serial, wait > 0 ? (int)wait + 1 : 0);
    }
}
