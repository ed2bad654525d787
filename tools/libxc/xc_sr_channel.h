/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The channel: bytes in, bytes out, with a deadline and a cancel fd.  The second of the two seams.
 *
 * A channel listens while it speaks: a write that blocks goes on reading into a bounded buffer, so
 * that life signs of the peer are noticed, and a peer that is silent for `silence` nanoseconds
 * while we wait for it (in either direction) is an error of its own class.  Time in which we do
 * not wait on the channel (busy with the guest) is not held against the peer: what adds up to
 * `silence` is the waiting since a byte last came in.  While the buffer is full we cannot listen,
 * and no silence is counted.
 *
 * Thread use: one thread reads, the one that last called init, listen, pump or read.  Any thread
 * may write; the write lock is held for a whole record (xc_sr_channel_writev takes it by itself).
 * Only the reading thread's writes listen and can find the peer silent; another thread's (the
 * heartbeat's) watch just their deadline and the cancel fd, and never hold the lock while they
 * wait for room unless part of their bytes is out already.
 *
 * A write that fails after part of its bytes went out, and a read that fails after it took some,
 * leave the stream in the middle of a record: all later ones in that direction fail too.
 * No SIGPIPE comes out of a write.
 */
#ifndef XC_SR_CHANNEL_H
#define XC_SR_CHANNEL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "colo_err.h"

#define XC_SR_CHANNEL_BUF ((size_t)256 << 10)

struct xc_sr_rec_tag;

struct xc_sr_channel {
    int rfd, wfd;      /* non-blocking; either may be -1 (a file that is only read or written) */
    int cancel_fd;     /* readable = give up with COLO_ERR_CANCELLED; -1 = none */
    colo_time silence; /* how long the peer may be silent while waited for; 0 = no limit */
    /* whose life signs count: those that bear this session and generation (host byte order;
     * borrowed); NULL = all, for the record layer only */
    const struct xc_sr_rec_tag *tag;
    /* the body of the peer's COLO_STOP, once the record layer has met it; freed by fini */
    void *stop;
    uint32_t stop_len;

    /* private */
    colo_time heard;  /* when a byte last came in, moved on by the time in which we did not wait */
    colo_time active; /* end of the reading thread's last wait */
    unsigned int stalls; /* of this host, since a byte last came in, that were forgiven the peer */
    const void *reader;  /* which thread reads */
    bool eof, reset;     /* the peer closed its end; by a reset */
    bool rspoilt, wspoilt;
    bool wsock;         /* wfd is a socket */
    unsigned char *buf; /* read ahead, [head, tail) */
    size_t head, tail;
    pthread_mutex_t wlock;
    uint64_t bytes_in, bytes_out; /* totals; read them with xc_sr_channel_bytes */
    int rflags, wflags;           /* the fds' flags before we changed them, restored by fini */
};

/* Totals of the channel's life; from any thread. */
void xc_sr_channel_bytes(const struct xc_sr_channel *ch, uint64_t *in, uint64_t *out);

/* Takes over rfd and wfd (may be the same fd, or -1): makes them non-blocking.  fini restores the
 * flags; closing the fds is the caller's. */
int xc_sr_channel_init(struct xc_sr_channel *ch, int rfd, int wfd, int cancel_fd,
                       struct colo_err *err);
void xc_sr_channel_fini(struct xc_sr_channel *ch);

/*
 * Read exactly len bytes.  EOF before the first byte and EOF inside are both COLO_ERR_PEER_EOF,
 * with messages that tell which.  deadline bounds the whole call (COLO_ERR_TIMEOUT).
 */
int xc_sr_channel_read(struct xc_sr_channel *ch, void *dst, size_t len, colo_time deadline,
                       struct colo_err *err);

/*
 * Write all of iov (which is consumed: its entries are changed), under the write lock.  A peer that
 * has closed its end is COLO_ERR_PEER_EOF; what it had sent before can still be read.
 */
int xc_sr_channel_writev(struct xc_sr_channel *ch, struct iovec *iov, int cnt, colo_time deadline,
                         struct colo_err *err);
/* Same for a writer that already holds ch->wlock, for records made of several writes. */
int xc_sr_channel_writev_locked(struct xc_sr_channel *ch, struct iovec *iov, int cnt,
                                colo_time deadline, struct colo_err *err);

/*
 * Take in what has arrived without waiting.  *avail = bytes that a read would get at once.
 * EOF, or silence past the limit, is reported as an error as soon as the buffer is empty.
 */
int xc_sr_channel_pump(struct xc_sr_channel *ch, size_t *avail, struct colo_err *err);

/* Look at the next len buffered bytes without taking them; NULL when fewer are buffered. */
const void *xc_sr_channel_peek(const struct xc_sr_channel *ch, size_t len);

/* The peer's silence runs from now, and this thread reads from now on: called when we begin to
 * wait with pump and a poll of our own after having been busy (read and writev see to it
 * themselves). */
void xc_sr_channel_listen(struct xc_sr_channel *ch);

/* Has the peer been silent for too long?  COLO_ERR_PEER_SILENT.  For a caller's own poll that was
 * to end at silent_at at the latest: one that ended much later tells that this host stood still,
 * with what the peer sent perhaps not yet passed on to us, and gives the peer a little longer. */
int xc_sr_channel_check_silence(struct xc_sr_channel *ch, struct colo_err *err);

/* Is the calling thread the one that reads? */
bool xc_sr_channel_is_reader(const struct xc_sr_channel *ch);

/* No more is written: the peer sees the end of the stream now, although wfd stays open.  For a
 * stream that was given up in the middle of a record. */
void xc_sr_channel_hang_up(struct xc_sr_channel *ch);

/* Deadline at which the peer counts as silent, for a caller's own poll; COLO_NO_DEADLINE if off. */
colo_time xc_sr_channel_silent_at(const struct xc_sr_channel *ch);

#endif
