/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Life signs.  A beat is skipped whenever other bytes are on their way to the peer: those are life
 * signs too, and the beat must never wait behind them.
 */
#include "libxl_colo_session.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void beat(struct colo_heartbeat *hb)
{
    struct xc_sr_rhdr hdr = {.type = htole32(XC_SR_REC_COLO_HEARTBEAT),
                             .length = htole32(sizeof(hb->tag))};
    struct iovec iov[] = {{&hdr, sizeof(hdr)}, {&hb->tag, sizeof(hb->tag)}};
    struct pollfd p = {.fd = hb->ch->wfd, .events = POLLOUT};

    if (pthread_mutex_trylock(&hb->ch->wlock))
        return;
    if (atomic_load(&hb->hold)) {
        pthread_mutex_unlock(&hb->ch->wlock);
        return;
    }
    /* 40 bytes fit whenever the fd is writable at all (PIPE_BUF), so this does not block. A
     * failure is the main thread's to notice: it reads from the same peer. */
    if (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT))
        xc_sr_channel_writev_locked(hb->ch, iov, 2, COLO_NO_DEADLINE, NULL);
    pthread_mutex_unlock(&hb->ch->wlock);
}

static void *heartbeat_main(void *arg)
{
    struct colo_heartbeat *hb = arg;
    struct sched_param prio = {.sched_priority = 1};
    struct pollfd stop = {.fd = hb->stop_fd, .events = POLLIN};

    /* A busy dom0 must not look dead; not being allowed to is no reason to stop. */
    pthread_setschedparam(pthread_self(), SCHED_RR, &prio);
    for (;;) {
        int r = poll(&stop, 1, (int)hb->interval_ms);

        if (r > 0)
            return NULL;
        if (r == 0)
            beat(hb);
    }
}

int colo_heartbeat_start(struct colo_heartbeat *hb, struct xc_sr_channel *ch,
                         const struct xc_sr_rec_tag *tag, uint32_t interval_ms,
                         struct colo_err *err)
{
    int r;

    hb->ch = ch;
    hb->tag = *tag;
    hb->tag.generation = htole64(tag->generation);
    hb->tag.checkpoint = htole64(tag->checkpoint);
    hb->interval_ms = interval_ms;
    atomic_store(&hb->hold, false);
    hb->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (hb->stop_fd < 0)
        return colo_fail_errno(err, errno, "cannot make an eventfd for the heartbeat");
    r = pthread_create(&hb->thread, NULL, heartbeat_main, hb);
    if (r) {
        close(hb->stop_fd);
        hb->stop_fd = -1;
        return colo_fail_errno(err, r, "cannot start the heartbeat thread");
    }
    return 0;
}

void colo_heartbeat_stop(struct colo_heartbeat *hb)
{
    uint64_t one = 1;

    if (hb->stop_fd < 0)
        return;
    while (write(hb->stop_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
    pthread_join(hb->thread, NULL);
    close(hb->stop_fd);
    hb->stop_fd = -1;
}
