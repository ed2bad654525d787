/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory work that tests ask for: steady dirtying, a verified pattern, a marker page. */
#define _GNU_SOURCE
#include "guest.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SLICE_MS 10

uint64_t splitmix(uint64_t seed, uint64_t index)
{
    uint64_t z = seed + index * 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void *pages_new(uint64_t pages)
{
    void *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    madvise(p, pages * PAGE, MADV_NOHUGEPAGE);
    return p;
}

static bool fits(uint64_t pages)
{
    return pages <= (uint64_t)sysconf(_SC_AVPHYS_PAGES) * 9 / 10;
}

/* Dirtying: a thread of its own, so that it has a vCPU of its own when there is one. */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wanted = PTHREAD_COND_INITIALIZER; /* set_rate is not 0 */
static uint8_t *set;
static uint64_t set_pages, set_rate;
static atomic_uint_fast64_t dirtied;

static void *dirtier(void *unused)
{
    const struct timespec slice = {.tv_nsec = SLICE_MS * 1000000L};
    uint64_t next = 0, owed = 0;
    double last = uptime();

    (void)unused;
    for (;;) {
        double now;

        pthread_mutex_lock(&lock);
        while (!set_rate) { /* an idle guest stays idle: on the lab each wake-up costs */
            pthread_cond_wait(&wanted, &lock);
            last = uptime();
            owed = 0;
        }
        now = uptime();
        owed += (uint64_t)((now - last) * 1e6) * set_rate;
        for (; owed >= 1000000; owed -= 1000000) {
            uint64_t *word = (uint64_t *)(set + next % set_pages * PAGE);

            *word = ++dirtied;
            next++;
            if (dirtied % 1024 == 0 && uptime() - now > 0.2) {
                owed = 0; /* slower than asked for: do not run after it */
                break;
            }
        }
        pthread_mutex_unlock(&lock);
        last = now;
        nanosleep(&slice, NULL);
    }
    return NULL;
}

bool memory_dirty(uint64_t rate, uint64_t pages)
{
    bool ok = true;

    pthread_mutex_lock(&lock);
    if (rate && pages != set_pages) {
        if (set)
            munmap(set, set_pages * PAGE);
        set = pages && fits(pages) ? pages_new(pages) : NULL;
        set_pages = set ? pages : 0;
        ok = set != NULL;
    }
    set_rate = ok ? rate : 0;
    pthread_cond_signal(&wanted);
    pthread_mutex_unlock(&lock);
    return ok;
}

void memory_dirty_status(uint64_t *rate, uint64_t *pages, uint64_t *done)
{
    pthread_mutex_lock(&lock);
    *rate = set_rate;
    *pages = set_pages;
    *done = dirtied;
    pthread_mutex_unlock(&lock);
}

/* The pattern: word i of it is splitmix(seed, i). */

static uint64_t *pattern;
static uint64_t pattern_pages, pattern_seed;

bool memory_fill(uint64_t pages, uint64_t seed, uint64_t *sum)
{
    if (pattern)
        munmap(pattern, pattern_pages * PAGE);
    pattern = pages && fits(pages) ? pages_new(pages) : NULL;
    pattern_pages = pattern ? pages : 0;
    pattern_seed = seed;
    *sum = 0;
    if (!pattern)
        return pages == 0;
    for (uint64_t i = 0; i < pages * (PAGE / 8); i++) {
        pattern[i] = splitmix(seed, i);
        *sum += pattern[i];
        if (i % (256 * PAGE / 8) == 0)
            breathe();
    }
    return true;
}

bool memory_check(uint64_t *pages, uint64_t *sum, uint64_t *bad)
{
    *pages = pattern_pages;
    *sum = 0;
    *bad = 0;
    for (uint64_t i = 0; i < pattern_pages * (PAGE / 8); i++) {
        *sum += pattern[i];
        if (pattern[i] != splitmix(pattern_seed, i))
            ++*bad;
        if (i % (256 * PAGE / 8) == 0)
            breathe();
    }
    return *bad == 0;
}

/* The marker page: its whole content is one repeated value. */

static uint64_t *marker;

void memory_init(void)
{
    pthread_t thread;

    marker = pages_new(1);
    if (marker) {
        marker[0] = 0;
        mlock(marker, PAGE);
    }
    pthread_create(&thread, NULL, dirtier, NULL);
}

uint64_t memory_mark_gfn(void)
{
    uint64_t entry = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    if (pread(fd, &entry, 8, (off_t)((uintptr_t)marker / PAGE * 8)) != 8 || !(entry >> 63))
        entry = 0;
    close(fd);
    return entry & ((1ull << 55) - 1);
}

uint64_t memory_mark(uint64_t value)
{
    for (size_t i = 0; i < PAGE / 8; i++)
        marker[i] = value;
    return memory_mark_gfn();
}

bool memory_peek(uint64_t *value)
{
    *value = marker[0];
    for (size_t i = 1; i < PAGE / 8; i++)
        if (marker[i] != marker[0])
            return false;
    return true;
}
