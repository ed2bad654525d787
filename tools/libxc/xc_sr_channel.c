/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The channel: waiting, listening while speaking, and noticing that nobody speaks any more.
 */
#include "xc_sr_channel.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "xc_sr_channel_io.h"

#define STALL_SHARE     5 /* of the limit of silence: a wake-up so much late is a stall of ours */
#define STALLS_FORGIVEN 3

/* The address of a thread's own copy tells threads apart, and can be compared atomically. */
static __thread char this_thread;

static void become_reader(struct xc_sr_channel *ch)
{
    __atomic_store_n(&ch->reader, (const void *)&this_thread, __ATOMIC_RELAXED);
}

bool xc_sr_channel_is_reader(const struct xc_sr_channel *ch)
{
    return __atomic_load_n(&ch->reader, __ATOMIC_RELAXED) == (const void *)&this_thread;
}

void xc_sr_channel_bytes(const struct xc_sr_channel *ch, uint64_t *in, uint64_t *out)
{
    *in = __atomic_load_n(&ch->bytes_in, __ATOMIC_RELAXED);
    *out = __atomic_load_n(&ch->bytes_out, __ATOMIC_RELAXED);
}

/* ---- waiting ---- */

static size_t buffered(const struct xc_sr_channel *ch)
{
    return ch->tail - ch->head;
}

static bool can_listen(const struct xc_sr_channel *ch)
{
    return ch->rfd >= 0 && !ch->eof && buffered(ch) < XC_SR_CHANNEL_BUF;
}

/* Time since the end of the last wait was spent elsewhere: it does not count as silence. */
static void begin_waiting(struct xc_sr_channel *ch)
{
    colo_time now = colo_now();

    ch->heard += now - ch->active;
    ch->active = now;
}

/*
 * Whoever waits for the peer wakes when it has been silent for too long, neither sooner nor much
 * later.  Much later means that this host stood still meanwhile: the peer's life signs may wait in
 * its queues, or in the ssh that is to pass them on.  Then the peer gets a fifth of the limit more,
 * a few times only, for a host that always lags must still find a dead peer.
 */
static bool is_silent(struct xc_sr_channel *ch, colo_time now)
{
    colo_time late = now - ch->heard - ch->silence;

    if (ch->silence <= 0 || late < 0)
        return false;
    if (late < ch->silence / STALL_SHARE || ch->stalls >= STALLS_FORGIVEN)
        return true;
    ch->stalls++;
    ch->heard = now - ch->silence + ch->silence / STALL_SHARE;
    return false;
}

static int fail_silent(const struct xc_sr_channel *ch, struct colo_err *err)
{
    return colo_fail(err, COLO_ERR_PEER_SILENT, NULL, "nothing heard from the peer for %lld ms",
                     (long long)((colo_now() - ch->heard) / COLO_MS));
}

static int fail_eof(const struct xc_sr_channel *ch, size_t got, size_t len, struct colo_err *err)
{
    const char *what = ch->reset ? "the peer's connection was reset" : "the peer closed the stream";

    if (got == 0)
        return colo_fail(err, COLO_ERR_PEER_EOF, NULL, "%s", what);
    return colo_fail(err, COLO_ERR_PEER_EOF, NULL, "%s after %zu of %zu bytes", what, got, len);
}

/*
 * Wait for input (if `in`), for room for output (if `out`), or both, until the deadline.  With
 * neither ready it is an error.  The cancel fd comes before everything else, even when there is
 * plenty to read.  Input is only asked for by the reading thread.
 */
static int wait_ready(struct xc_sr_channel *ch, bool in, bool out, colo_time deadline,
                      bool *can_read, bool *can_write, struct colo_err *err)
{
    struct pollfd fds[3] = {
        /* another thread's life signs go on while the session ends in good order */
        {.fd = xc_sr_channel_is_reader(ch) ? ch->cancel_fd : -1, .events = POLLIN},
        {.fd = in ? ch->rfd : -1, .events = POLLIN},
        {.fd = out ? ch->wfd : -1, .events = POLLOUT},
    };

    *can_read = *can_write = false;
    if (in)
        begin_waiting(ch);
    for (;;) {
        colo_time until = deadline, now;
        int r;

        if (in && xc_sr_channel_silent_at(ch) < until)
            until = xc_sr_channel_silent_at(ch);
        r = poll(fds, 3, colo_poll_ms(until));
        if (r < 0 && errno != EINTR)
            return colo_fail_errno(err, errno, "waiting for the peer");
        now = colo_now();
        if (in)
            ch->active = now;
        if (r < 0)
            continue;
        if ((fds[0].revents | fds[1].revents | fds[2].revents) & POLLNVAL)
            return colo_fail_errno(err, EBADF, "waiting for the peer");
        if (fds[0].revents)
            return colo_fail(err, COLO_ERR_CANCELLED, NULL, "stopped on request");
        *can_read = fds[1].revents != 0;
        *can_write = fds[2].revents != 0;
        if (*can_read || *can_write)
            return 0;
        if (in && is_silent(ch, now))
            return fail_silent(ch, err);
        if (now >= deadline)
            return colo_fail(err, COLO_ERR_TIMEOUT, NULL, "the peer was too slow: %s",
                             out ? "it takes nothing more" : "the answer is overdue");
    }
}

/* ---- reading ---- */

/*
 * One readv into dst (len may be 0) and, behind it, into the buffer; 0 also when nothing is there.
 * *got = bytes that went to dst.
 */
static int take_in(struct xc_sr_channel *ch, void *dst, size_t len, size_t *got,
                   struct colo_err *err)
{
    struct iovec iov[2];
    ssize_t r;

    *got = 0;
    if (ch->head == ch->tail) {
        ch->head = ch->tail = 0;
    } else if (ch->head > 0) {
        memmove(ch->buf, ch->buf + ch->head, buffered(ch));
        ch->tail -= ch->head;
        ch->head = 0;
    }
    iov[0] = (struct iovec){.iov_base = dst, .iov_len = len};
    iov[1] =
        (struct iovec){.iov_base = ch->buf + ch->tail, .iov_len = XC_SR_CHANNEL_BUF - ch->tail};
    do {
        r = readv(ch->rfd, iov, 2);
    } while (r < 0 && errno == EINTR);
    if (r < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return 0;
    if (r < 0 && errno != ECONNRESET)
        return colo_fail_errno(err, errno, "reading from the peer");
    if (r <= 0) {
        ch->eof = true;
        ch->reset = r < 0;
        return 0;
    }
    ch->heard = ch->active = colo_now();
    ch->stalls = 0;
    __atomic_fetch_add(&ch->bytes_in, (uint64_t)r, __ATOMIC_RELAXED);
    *got = (size_t)r < len ? (size_t)r : len;
    ch->tail += (size_t)r - *got;
    return 0;
}

static size_t take_buffered(struct xc_sr_channel *ch, void *dst, size_t len)
{
    size_t n = buffered(ch) < len ? buffered(ch) : len;

    if (n)
        memcpy(dst, ch->buf + ch->head, n);
    ch->head += n;
    return n;
}

int xc_sr_channel_read(struct xc_sr_channel *ch, void *dst, size_t len, colo_time deadline,
                       struct colo_err *err)
{
    unsigned char *p = dst;
    bool can_read, can_write;
    size_t done, got;
    int rc = -1;

    become_reader(ch);
    if (ch->rspoilt)
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL,
                         "reading goes on in the middle of a record that was given up");
    done = take_buffered(ch, p, len);
    while (done < len) {
        if (ch->rfd < 0 || ch->eof) {
            fail_eof(ch, done, len, err);
            goto out;
        }
        if (wait_ready(ch, true, false, deadline, &can_read, &can_write, err))
            goto out;
        if (take_in(ch, p + done, len - done, &got, err))
            goto out;
        done += got;
        if (done < len && !ch->eof && colo_now() >= deadline) {
            colo_fail(err, COLO_ERR_TIMEOUT, NULL,
                      "the peer was too slow: %zu of %zu bytes came in time", done, len);
            goto out;
        }
    }
    rc = 0;

out:
    if (rc && done > 0)
        ch->rspoilt = true;
    return rc;
}

int xc_sr_channel_pump(struct xc_sr_channel *ch, size_t *avail, struct colo_err *err)
{
    struct pollfd cancel = {.fd = ch->cancel_fd, .events = POLLIN};
    size_t before, got;

    *avail = 0;
    become_reader(ch);
    if (poll(&cancel, 1, 0) > 0)
        return colo_fail(err, COLO_ERR_CANCELLED, NULL, "stopped on request");
    do {
        before = buffered(ch);
        if (can_listen(ch) && take_in(ch, NULL, 0, &got, err))
            return -1;
    } while (buffered(ch) > before);
    ch->active = colo_now();
    *avail = buffered(ch);
    if (*avail == XC_SR_CHANNEL_BUF)
        ch->heard = ch->active; /* it may well say more than we can take */
    if (*avail)
        return 0;
    if (ch->rfd < 0 || ch->eof)
        return fail_eof(ch, 0, 0, err);
    return is_silent(ch, ch->active) ? fail_silent(ch, err) : 0;
}

const void *xc_sr_channel_peek(const struct xc_sr_channel *ch, size_t len)
{
    return buffered(ch) >= len ? ch->buf + ch->head : NULL;
}

int xc_sr_channel_check_silence(struct xc_sr_channel *ch, struct colo_err *err)
{
    return is_silent(ch, colo_now()) ? fail_silent(ch, err) : 0;
}

void xc_sr_channel_listen(struct xc_sr_channel *ch)
{
    become_reader(ch);
    ch->heard = ch->active = colo_now();
    ch->stalls = 0;
}

colo_time xc_sr_channel_silent_at(const struct xc_sr_channel *ch)
{
    return ch->silence > 0 && can_listen(ch) ? ch->heard + ch->silence : COLO_NO_DEADLINE;
}

/* ---- writing ---- */

/* What the peer said before it went can still be read. */
static int fail_write(int e, struct colo_err *err)
{
    if (e != EPIPE && e != ECONNRESET)
        return colo_fail_errno(err, e, "writing to the peer");
    return colo_fail(err, COLO_ERR_PEER_EOF, NULL, "the peer closed the stream");
}

/* Drop the first n bytes of the vector, and whatever is empty then. */
static void consume(struct iovec **iov, int *cnt, size_t n)
{
    while (*cnt > 0 && n >= (*iov)->iov_len) {
        n -= (*iov)->iov_len;
        (*iov)++;
        (*cnt)--;
    }
    if (*cnt > 0) {
        (*iov)->iov_base = (unsigned char *)(*iov)->iov_base + n;
        (*iov)->iov_len -= n;
    }
}

/* Write what there is room for.  *written grows by it. */
static int put_out(struct xc_sr_channel *ch, struct iovec **iov, int *cnt, size_t *written,
                   struct colo_err *err)
{
    int batch = *cnt < IOV_MAX ? *cnt : IOV_MAX;
    ssize_t r;

    do {
        r = xc_sr_writev_nosignal(ch->wfd, ch->wsock, *iov, batch);
    } while (r < 0 && errno == EINTR);
    if (r < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
        return fail_write(errno, err);
    if (r > 0) {
        __atomic_fetch_add(&ch->bytes_out, (uint64_t)r, __ATOMIC_RELAXED);
        *written += (size_t)r;
        consume(iov, cnt, (size_t)r);
    }
    return 0;
}

int xc_sr_channel_writev_locked(struct xc_sr_channel *ch, struct iovec *iov, int cnt,
                                colo_time deadline, struct colo_err *err)
{
    bool reader = xc_sr_channel_is_reader(ch), can_read, can_write, late = false;
    size_t written = 0, before, got;
    int rc = -1;

    if (ch->wspoilt)
        return colo_fail(err, COLO_ERR_LOCAL, "stream-spoilt",
                         "writing goes on in the middle of a record that was given up");
    consume(&iov, &cnt, 0);
    while (cnt > 0) {
        if (ch->wfd < 0) {
            colo_fail_errno(err, EBADF, "writing to the peer");
            goto out;
        }
        if (late) {
            colo_fail(err, COLO_ERR_TIMEOUT, NULL,
                      "the peer was too slow: it took %zu bytes in time", written);
            goto out;
        }
        if (reader && ch->eof) {
            /* It will not answer: go on while it takes what we say, and do not wait for that. */
            before = written;
            if (put_out(ch, &iov, &cnt, &written, err))
                goto out;
            if (cnt > 0 && written == before) {
                fail_eof(ch, 0, 0, err);
                goto out;
            }
            continue;
        }
        if (wait_ready(ch, reader && can_listen(ch), true, deadline, &can_read, &can_write, err))
            goto out;
        if (can_read && take_in(ch, NULL, 0, &got, err))
            goto out;
        if (can_write && put_out(ch, &iov, &cnt, &written, err))
            goto out;
        late = colo_now() >= deadline;
    }
    rc = 0;

out:
    if (rc && written > 0)
        ch->wspoilt = true;
    return rc;
}

/*
 * Another thread waits for room before it takes the lock, so that the reading thread, which does
 * the bulk of the writing, never waits for a heartbeat that waits for room.
 */
static int lock_with_room(struct xc_sr_channel *ch, colo_time deadline, struct colo_err *err)
{
    bool can_read, can_write;

    for (;;) {
        struct pollfd pfd = {.fd = ch->wfd, .events = POLLOUT};

        if (wait_ready(ch, false, true, deadline, &can_read, &can_write, err))
            return -1;
        if (xc_sr_lock_until(&ch->wlock, deadline))
            return colo_fail(err, COLO_ERR_TIMEOUT, NULL, "the channel stayed busy with a record");
        if (poll(&pfd, 1, 0) != 0)
            return 0;
        pthread_mutex_unlock(&ch->wlock);
    }
}

/* The reading thread goes on listening while another thread's record is on its way. */
static int lock_and_listen(struct xc_sr_channel *ch, colo_time deadline, struct colo_err *err)
{
    colo_time slice;
    size_t avail;

    if (pthread_mutex_trylock(&ch->wlock) == 0)
        return 0;
    if (ch->rfd >= 0)
        begin_waiting(ch);
    for (;;) {
        slice = colo_now() + 20 * COLO_MS;
        if (slice > deadline)
            slice = deadline;
        if (xc_sr_lock_until(&ch->wlock, slice) == 0)
            return 0;
        if (ch->rfd >= 0 && xc_sr_channel_pump(ch, &avail, err))
            return -1;
        if (colo_now() >= deadline)
            return colo_fail(err, COLO_ERR_TIMEOUT, NULL, "the channel stayed busy with a record");
    }
}

int xc_sr_channel_writev(struct xc_sr_channel *ch, struct iovec *iov, int cnt, colo_time deadline,
                         struct colo_err *err)
{
    int rc;

    if (xc_sr_channel_is_reader(ch) ? lock_and_listen(ch, deadline, err)
                                    : lock_with_room(ch, deadline, err))
        return -1;
    rc = xc_sr_channel_writev_locked(ch, iov, cnt, deadline, err);
    pthread_mutex_unlock(&ch->wlock);
    return rc;
}

void xc_sr_channel_hang_up(struct xc_sr_channel *ch)
{
    int null;

    pthread_mutex_lock(&ch->wlock); /* a life sign may be on its way */
    ch->wspoilt = true;
    if (ch->wsock) {
        shutdown(ch->wfd, SHUT_WR);
    } else if (ch->wfd >= 0) {
        null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        if (null >= 0) {
            dup3(null, ch->wfd, O_CLOEXEC);
            close(null);
        }
    }
    pthread_mutex_unlock(&ch->wlock);
}

/* ---- life ---- */

static int set_flags(int fd, int flags)
{
    return fd < 0 ? 0 : fcntl(fd, F_SETFL, flags);
}

int xc_sr_channel_init(struct xc_sr_channel *ch, int rfd, int wfd, int cancel_fd,
                       struct colo_err *err)
{
    struct stat st;

    memset(ch, 0, sizeof(*ch));
    ch->rfd = rfd;
    ch->wfd = wfd;
    ch->cancel_fd = cancel_fd;

    /* Both are asked before either is changed: they may be one open file. */
    ch->rflags = rfd < 0 ? 0 : fcntl(rfd, F_GETFL);
    ch->wflags = wfd < 0 ? 0 : fcntl(wfd, F_GETFL);
    if (ch->rflags < 0 || ch->wflags < 0)
        return colo_fail_errno(err, errno, "looking at the stream's descriptors");
    if (wfd >= 0 && fstat(wfd, &st) == 0)
        ch->wsock = S_ISSOCK(st.st_mode);

    ch->buf = malloc(XC_SR_CHANNEL_BUF);
    if (!ch->buf)
        return colo_fail_errno(err, ENOMEM, "allocating the stream's buffer");
    if (set_flags(rfd, ch->rflags | O_NONBLOCK) || set_flags(wfd, ch->wflags | O_NONBLOCK)) {
        colo_fail_errno(err, errno, "making the stream's descriptors non-blocking");
        set_flags(rfd, ch->rflags);
        free(ch->buf);
        ch->buf = NULL;
        return -1;
    }
    pthread_mutex_init(&ch->wlock, NULL);
    xc_sr_channel_listen(ch);
    return 0;
}

void xc_sr_channel_fini(struct xc_sr_channel *ch)
{
    if (!ch->buf)
        return;
    set_flags(ch->wfd, ch->wflags);
    set_flags(ch->rfd, ch->rflags);
    pthread_mutex_destroy(&ch->wlock);
    free(ch->buf);
    ch->buf = NULL;
    free(ch->stop);
    ch->stop = NULL;
}
