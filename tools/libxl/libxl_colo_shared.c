/* SPDX-License-Identifier: LGPL-2.1-only */
#include "libxl_colo_shared.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* A writer is done within microseconds unless it was scheduled away, or killed, half way. */
#define READ_PATIENCE (100 * COLO_MS)

/* Threads of one process take turns; a process has its own copy of both, even after fork.  The
 * mutex counts its owner's calls so that colo_state_set works between begin and end, too. */
static pthread_mutex_t writer = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static unsigned int depth;

struct colo_shared *colo_shared_new(struct colo_err *err)
{
    struct colo_shared *sh =
        mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (sh == MAP_FAILED) {
        colo_fail_errno(err, errno, "cannot map the memory shared with the monitor");
        return NULL;
    }
    snprintf(sh->status.network, sizeof(sh->status.network), "pass");
    snprintf(sh->status.disks, sizeof(sh->status.disks), "none");
    sh->status.started_wall = time(NULL);
    return sh;
}

void colo_shared_free(struct colo_shared *sh)
{
    if (sh)
        munmap(sh, sizeof(*sh));
}

struct colo_status *colo_status_begin(struct colo_shared *sh)
{
    unsigned int seq;

    pthread_mutex_lock(&writer);
    if (depth++ == 0) {
        /* Already odd when the writer before us was killed half way: then it stays odd. */
        seq = atomic_load_explicit(&sh->seq, memory_order_relaxed);
        atomic_store_explicit(&sh->seq, seq | 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_release);
    }
    return &sh->status;
}

void colo_status_end(struct colo_shared *sh)
{
    unsigned int seq;

    if (--depth == 0) {
        seq = atomic_load_explicit(&sh->seq, memory_order_relaxed);
        atomic_store_explicit(&sh->seq, seq + 1, memory_order_release);
    }
    pthread_mutex_unlock(&writer);
}

void colo_status_disks(struct colo_shared *sh, const char *text)
{
    struct colo_status *st = colo_status_begin(sh);

    snprintf(st->disks, sizeof(st->disks), "%s", text);
    colo_status_end(sh);
}

void colo_status_read(struct colo_shared *sh, struct colo_status *out)
{
    colo_time deadline = colo_now() + READ_PATIENCE;
    unsigned int before, after;

    do {
        before = atomic_load_explicit(&sh->seq, memory_order_acquire);
        memcpy(out, &sh->status, sizeof(*out));
        atomic_thread_fence(memory_order_acquire);
        after = atomic_load_explicit(&sh->seq, memory_order_relaxed);
        if (before == after && !(before & 1))
            break;
        sched_yield();
    } while (colo_now() < deadline);
}

void colo_state_set(struct colo_shared *sh, enum colo_state to)
{
    struct colo_status *st = colo_status_begin(sh);

    if (st->state != to) {
        if (!colo_state_legal(st->role, st->state, to)) {
            fprintf(stderr, "xen-colo: bug: the %s went from %s to %s\n", colo_role_name(st->role),
                    colo_state_name(st->state), colo_state_name(to));
            abort();
        }
        /* Stock xl's monitor of a guest exits when the guest is first suspended. */
        if (to == COLO_STATE_CHECKPOINT_SUSPEND || to == COLO_STATE_TAKEOVER)
            sh->recovery.needs_monitor = true;
        st->state = to;
    }
    colo_status_end(sh);
}

void colo_status_error(struct colo_shared *sh, const struct colo_err *err)
{
    struct colo_status *st = colo_status_begin(sh);

    snprintf(st->last_reason, sizeof(st->last_reason), "%s", err->reason);
    snprintf(st->last_error, sizeof(st->last_error), "%s", err->msg);
    colo_status_end(sh);
}

void colo_status_pause(struct colo_shared *sh, const struct colo_pause_steps *steps)
{
    struct colo_status *st = colo_status_begin(sh);

    st->last_steps = *steps;
    st->pause_ns[st->pauses % COLO_PAUSE_SAMPLES] = steps->total;
    st->pauses++;
    colo_status_end(sh);
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

void colo_status_pauses(const struct colo_status *st, int64_t *last, int64_t *median, int64_t *p99)
{
    int64_t sorted[COLO_PAUSE_SAMPLES];
    size_t n = st->pauses < COLO_PAUSE_SAMPLES ? (size_t)st->pauses : COLO_PAUSE_SAMPLES;

    *last = *median = *p99 = 0;
    if (!n)
        return;
    memcpy(sorted, st->pause_ns, n * sizeof(sorted[0]));
    qsort(sorted, n, sizeof(sorted[0]), compare);
    *last = st->pause_ns[(st->pauses - 1) % COLO_PAUSE_SAMPLES];
    /* Nearest rank: the smallest sample that at least half, or 99 %, do not exceed. */
    *median = sorted[(n + 1) / 2 - 1];
    *p99 = sorted[(n * 99 + 99) / 100 - 1];
}
