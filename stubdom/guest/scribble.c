/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Writes blocks all over a disk, without a file system, and remembers in memory what it was told is
 * written: disk and memory of a copy must tell the same.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool running, busy, failed;
static int fd = -1;
static uint64_t blocks, gap_us, written, *last; /* of each block: the write that is there */

static void fill(uint64_t *page, uint64_t number, uint64_t block)
{
    for (uint64_t i = 0; i < PAGE / sizeof(*page); i++)
        page[i] = number ? splitmix(number << 20 ^ block, i) : 0;
}

static void *scribbler(void *page)
{
    pthread_mutex_lock(&lock);
    for (;;) {
        uint64_t number, block;
        bool good;

        while (!running)
            pthread_cond_wait(&changed, &lock);
        number = ++written;
        block = splitmix(7, number) % blocks;
        busy = true;
        pthread_mutex_unlock(&lock);
        fill(page, number, block);
        good = pwrite(fd, page, PAGE, (off_t)(block * PAGE)) == PAGE;
        pthread_mutex_lock(&lock);
        busy = false;
        if (good)
            last[block] = number;
        else
            running = false, failed = true;
        pthread_cond_broadcast(&changed);
        if (gap_us) {
            struct timespec gap = {.tv_sec = (time_t)(gap_us / 1000000),
                                   .tv_nsec = (long)(gap_us % 1000000) * 1000};

            pthread_mutex_unlock(&lock);
            nanosleep(&gap, NULL);
            pthread_mutex_lock(&lock);
        }
    }
    return NULL;
}

void scribble_start(const char *device, uint64_t nr_blocks, uint64_t gap, char *answer)
{
    pthread_t thread;
    void *page;

    if (fd < 0) {
        fd = open(device, O_RDWR | O_DIRECT | O_CLOEXEC);
        last = calloc(nr_blocks, sizeof(*last));
        if (fd < 0 || !last || posix_memalign(&page, PAGE, PAGE) ||
            pthread_create(&thread, NULL, scribbler, page)) {
            snprintf(answer, ANSWER_MAX, "error %s: %m", device);
            return;
        }
        blocks = nr_blocks;
    }
    pthread_mutex_lock(&lock);
    gap_us = gap;
    running = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    snprintf(answer, ANSWER_MAX, "ok");
}

void scribble_stop(char *answer)
{
    pthread_mutex_lock(&lock);
    running = false;
    while (busy)
        pthread_cond_wait(&changed, &lock);
    snprintf(answer, ANSWER_MAX, "%s %" PRIu64, failed ? "bad: a write failed," : "ok", written);
    pthread_mutex_unlock(&lock);
}

void scribble_check(char *answer)
{
    uint64_t *page, *want, wrong = 0, first = 0;

    scribble_stop(answer);
    if (posix_memalign((void **)&page, PAGE, 2 * PAGE)) {
        snprintf(answer, ANSWER_MAX, "error out of memory");
        return;
    }
    want = page + PAGE / sizeof(*page);
    for (uint64_t b = 0; b < blocks; b++) {
        fill(want, last[b], b);
        if (pread(fd, page, PAGE, (off_t)(b * PAGE)) == PAGE && !memcmp(page, want, PAGE))
            continue;
        if (!wrong++)
            first = b;
    }
    free(page);
    if (wrong)
        snprintf(answer, ANSWER_MAX, "bad %" PRIu64 " blocks, the first is %" PRIu64, wrong, first);
    else
        snprintf(answer, ANSWER_MAX, "%s %" PRIu64, failed ? "bad: a write failed," : "ok",
                 written);
}
