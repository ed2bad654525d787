/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The heartbeat: it beats by itself, and not where no record may stand.
 */
#include "testlib.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxl_colo_session.h"

#define INTERVAL_MS 5
#define PATIENCE_MS 10000

static bool readable(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, ms) == 1;
}

static void read_beat(int fd, const struct xc_sr_rec_tag *tag)
{
    struct {
        struct xc_sr_rhdr hdr;
        struct xc_sr_rec_tag tag;
    } beat;

    assert_true(readable(fd, PATIENCE_MS));
    assert_int_equal(recv(fd, &beat, sizeof(beat), MSG_WAITALL), sizeof(beat));
    assert_int_equal(beat.hdr.type, XC_SR_REC_COLO_HEARTBEAT);
    assert_memory_equal(&beat.tag, tag, sizeof(*tag));
}

static void test_beats_and_holds(void **state)
{
    const struct xc_sr_rec_tag tag = {.generation = 7};
    struct xc_sr_channel ch;
    struct colo_heartbeat hb = {.stop_fd = -1};
    struct colo_err err = {0};
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(xc_sr_channel_init(&ch, fds[0], fds[0], -1, &err), 0);
    assert_int_equal(colo_heartbeat_start(&hb, &ch, &tag, INTERVAL_MS, &err), 0);
    read_beat(fds[1], &tag);
    read_beat(fds[1], &tag);

    atomic_store(&hb.hold, true);
    pthread_mutex_lock(&ch.wlock); /* whoever beats now has finished after this */
    pthread_mutex_unlock(&ch.wlock);
    while (readable(fds[1], 0))
        read_beat(fds[1], &tag);
    assert_false(readable(fds[1], 20 * INTERVAL_MS));

    atomic_store(&hb.hold, false);
    read_beat(fds[1], &tag);
    colo_heartbeat_stop(&hb);
    colo_heartbeat_stop(&hb);
    xc_sr_channel_fini(&ch);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beats_and_holds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
