/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The secondary's disks as the toolstack has them: real servers, started as programs, and the relay
 * of the primary's side.
 */
#include "testlib.h"

#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libxl_colo_client.h"
#include "libxl_colo_disk.h"
#include "libxl_colo_recover.h"
#include "libxl_colo_relay.h"

#define SIZE   (1 << 20)
#define WAITED (20 * 1000 * COLO_MS)

static const struct colo_client_name name = {"the test's disk", "disk-gone"};
static const char *const vdevs[] = {"hda", "sdb"};

static struct fixture {
    char path[2][96], key[96], relayed[96];
    libxl_domain_config cfg;
    struct colo_caps theirs;
    struct colo_caps_disk mine[COLO_MAX_DISKS];
    struct colo_disks d;
    struct colo_disk_undo undo;
    struct colo_relay relay;
} x;

static char folder[64];
static struct colo_err err;
static unsigned int tests; /* that were begun: each is a session of its own */

static int begin(void **state)
{
    char session[40];

    (void)state;
    memset(&x, 0, sizeof(x));
    snprintf(folder, sizeof(folder), "/tmp/colo-disk-servers-XXXXXX");
    assert_non_null(mkdtemp(folder));
    libxl_domain_config_init(&x.cfg);
    x.cfg.disks = calloc(3, sizeof(*x.cfg.disks));
    assert_non_null(x.cfg.disks);
    x.cfg.num_disks = 3;
    for (int i = 0; i < 3; i++)
        libxl_device_disk_init(&x.cfg.disks[i]);
    x.cfg.disks[1].vdev = strdup("hdc"); /* between them one that is not replicated */
    x.cfg.disks[1].is_cdrom = 1;
    for (int i = 0; i < 2; i++) {
        libxl_device_disk *disk = &x.cfg.disks[2 * i];
        int fd;

        snprintf(x.path[i], sizeof(x.path[i]), "%s/%s.img", folder, vdevs[i]);
        fd = open(x.path[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0 && ftruncate(fd, SIZE) == 0);
        close(fd);
        disk->vdev = strdup(vdevs[i]);
        disk->pdev_path = strdup(x.path[i]);
        disk->readwrite = 1;
        snprintf(x.theirs.disk[i].vdev, COLO_VDEV, "%s", vdevs[i]);
        x.theirs.disk[i].size = SIZE;
    }
    x.theirs.disks = 2;
    snprintf(session, sizeof(session), "%08x-0000-4000-8000-%012x", (unsigned)getpid(), tests++);
    memcpy(x.theirs.session, session, sizeof(x.theirs.session));
    for (int i = 0; i < 64; i++)
        x.theirs.disk_key[i] = "0123456789abcdef"[i % 16];
    snprintf(x.key, sizeof(x.key), "%s/key", folder);
    snprintf(x.relayed, sizeof(x.relayed), "%s/relay.nbd", folder);
    return 0;
}

static int end(void **state)
{
    char command[128];

    (void)state;
    colo_relay_stop(&x.relay);
    colo_disks_undo(&x.d, &x.undo);
    libxl_domain_config_dispose(&x.cfg);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

static void start(void)
{
    tl_ok(colo_disks_start(&x.d, &x.undo, &x.cfg, &x.theirs, "127.0.0.1", x.mine, &err), &err);
}

/* To the first disk's server. */
static int relay(const char *export, struct colo_err *why)
{
    const struct colo_relay_way way = {
        .host = "127.0.0.1", .port = x.mine[0].port, .export = export, .keyfile = x.key};

    return colo_relay_start(&x.relay, x.relayed, &way, "/dev/null", why);
}

/* The state of a server, by its socket alone; "" when there is none. */
static void state_of(int i, char *buf, size_t len)
{
    struct colo_json *st = NULL;
    struct colo_client *c;

    buf[0] = '\0';
    if (colo_client_open(x.undo.control[i], &name, &c, NULL))
        return;
    if (!colo_client_ask(c, colo_client_request("status"), NULL, NULL, &st, NULL))
        snprintf(buf, len, "%s", colo_json_get_str(st, "state"));
    colo_json_free(st);
    colo_client_close(c);
}

static void assert_state(const char *want)
{
    colo_time deadline = colo_now() + WAITED;
    char is[32] = "";

    for (int i = 0; i < 2; i++) {
        while (state_of(i, is, sizeof(is)), strcmp(is, want) != 0 && colo_now() < deadline)
            poll(NULL, 0, 10);
        assert_string_equal(is, want);
    }
}

static void assert_nothing_left(const struct colo_disk_undo *was)
{
    colo_time deadline = colo_now() + WAITED;

    for (uint32_t i = 0; i < was->n; i++) {
        while ((!access(was->control[i], F_OK) || !access(was->guest[i], F_OK)) &&
               colo_now() < deadline)
            poll(NULL, 0, 10);
        assert_int_equal(access(was->control[i], F_OK), -1);
        assert_int_equal(access(was->guest[i], F_OK), -1);
    }
}

static void write_to(struct nbd_handle *nbd, char c)
{
    char block[4096];

    memset(block, c, sizeof(block));
    assert_int_equal(nbd_pwrite(nbd, block, sizeof(block), 0, 0), 0);
}

static char read_from(struct nbd_handle *nbd)
{
    char block[4096];

    assert_int_equal(nbd_pread(nbd, block, sizeof(block), 0, 0), 0);
    return block[0];
}

static struct nbd_handle *client(const char *socket, const char *export)
{
    struct nbd_handle *nbd = nbd_create();

    assert_non_null(nbd);
    assert_int_equal(nbd_set_export_name(nbd, export), 0);
    if (nbd_connect_unix(nbd, socket))
        fail_msg("%s", nbd_get_error());
    return nbd;
}

/* ---- ---- */

static void test_a_session(void **state)
{
    struct colo_disk_undo was;
    struct nbd_handle *p, *s, *other;

    (void)state;
    start();
    assert_int_equal(x.d.n, 2);
    assert_string_equal(x.mine[1].vdev, "sdb");
    assert_true(x.mine[0].port && x.mine[1].port && x.mine[0].port != x.mine[1].port);
    assert_state("syncing");

    tl_ok(colo_relay_put_key(x.key, x.theirs.disk_key, &err), &err);
    tl_ok(relay(NULL, &err), &err);
    p = client(x.relayed, ""); /* through TLS */
    unlink(x.key);
    s = client(x.undo.guest[0], "secondary");
    other = client(x.undo.guest[1], "secondary");
    write_to(p, 'a');
    tl_ok(colo_disks_hold(&x.d, 1, &err), &err);
    tl_ok(colo_disks_commit(&x.d, 1, &err), &err);
    assert_state("lockstep");
    write_to(p, 'b');
    assert_int_equal(read_from(s), 'a');
    tl_ok(colo_disks_hold(&x.d, 2, &err), &err);
    tl_ok(colo_disks_commit(&x.d, 2, &err), &err);
    assert_int_equal(read_from(s), 'b');
    write_to(s, 's');
    write_to(p, 'c');
    /* the primary dies in the middle of a checkpoint */
    tl_ok(colo_disks_hold(&x.d, 3, &err), &err);
    tl_ok(colo_disks_takeover(&x.d, &err), &err);
    assert_int_equal(read_from(s), 's');
    assert_state("standalone");
    was = x.undo;
    colo_disks_close(&x.d);
    nbd_close(p);
    nbd_close(s); /* with its guest the server ends */
    nbd_close(other);
    assert_nothing_left(&was);
    {
        char block[1];
        int fd = open(x.path[0], O_RDONLY | O_CLOEXEC);

        assert_int_equal(pread(fd, block, 1, 0), 1);
        close(fd);
        assert_int_equal(block[0], 's');
    }
}

static uint16_t free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof(at);

    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&at, len) == 0 &&
                getsockname(fd, (struct sockaddr *)&at, &len) == 0);
    close(fd);
    return ntohs(at.sin_port);
}

static void test_where_the_configuration_says(void **state)
{
    libxl_device_disk *disk = &x.cfg.disks[0];
    struct nbd_handle *p;

    (void)state;
    disk->colo_host = strdup("localhost");
    disk->colo_port = free_port();
    disk->colo_export = strdup("hers");
    start();
    assert_int_equal(x.mine[0].port, disk->colo_port);
    tl_ok(colo_relay_put_key(x.key, x.theirs.disk_key, &err), &err);
    tl_ok(relay("hers", &err), &err);
    p = client(x.relayed, "");
    write_to(p, 'a');
    nbd_close(p);
    colo_relay_stop(&x.relay);

    tl_ok(relay(NULL, &err), &err);
    p = nbd_create();
    assert_non_null(p);
    assert_int_equal(nbd_connect_unix(p, x.relayed), -1);
    nbd_close(p);
}

static void test_giving_up_leaves_nothing(void **state)
{
    struct colo_disk_undo was;

    (void)state;
    start();
    was = x.undo;
    assert_int_equal(colo_disks_wait_free(&x.cfg, colo_now() + 100 * COLO_MS, &err), -1);
    assert_string_equal(err.reason, "disk-in-use");
    colo_disks_undo(&x.d, &x.undo);
    assert_int_equal(x.undo.n, 0);
    assert_nothing_left(&was);
    tl_ok(colo_disks_wait_free(&x.cfg, colo_now() + WAITED, &err), &err);
}

/* Before there is a domain: while the disks are copied. */
static void test_a_receiver_that_was_killed_leaves_nothing(void **state)
{
    struct colo_shared *sh = colo_shared_new(&err);
    struct colo_disk_undo was;
    bool here;

    (void)state;
    assert_non_null(sh);
    start();
    was = sh->recovery.disks = x.undo;
    assert_int_equal(access(was.key, F_OK), 0);
    colo_disks_close(&x.d);
    tl_ok(colo_recover(NULL, sh, COLO_SECONDARY, &here, &err), &err);
    assert_false(here);
    assert_nothing_left(&was);
    assert_int_equal(access(was.key, F_OK), -1);
    colo_shared_free(sh);
}

/* A primary's session that was killed when the other host said nothing any more. */
static void test_a_relay_that_waits_is_not_left(void **state)
{
    struct colo_shared *sh = colo_shared_new(&err);
    char block[4096] = "", byte;
    int fds[2], gone[2];
    struct pollfd pfd;
    struct nbd_handle *p;
    bool here;
    pid_t pid;

    (void)state;
    assert_non_null(sh);
    start();
    tl_ok(colo_relay_put_key(x.key, x.theirs.disk_key, &err), &err);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(pipe(gone), 0); /* its writing end is open as long as one of the two lives */
    pid = fork();
    if (pid == 0) {
        if (relay(NULL, NULL) || write(fds[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(gone[1]);
    assert_int_equal(read(fds[0], &byte, 1), 1);
    p = client(x.relayed, "");
    tl_ok(colo_disks_hold(&x.d, 1, &err), &err); /* from here on nothing is answered */
    assert_true(nbd_aio_pwrite(p, block, sizeof(block), 0, NBD_NULL_COMPLETION, 0) > 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);

    sh->recovery.mirrors = true;
    sh->recovery.disks.n = 1;
    memcpy(sh->recovery.disks.guest[0], x.relayed, sizeof(x.relayed));
    memcpy(sh->recovery.disks.key, x.key, sizeof(x.key));
    tl_ok(colo_recover(NULL, sh, COLO_PRIMARY, &here, &err), &err);
    pfd = (struct pollfd){.fd = gone[0], .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, (int)(WAITED / COLO_MS)), 1);
    assert_int_equal(access(x.relayed, F_OK), -1);
    assert_int_equal(access(x.key, F_OK), -1);
    nbd_close(p);
    close(gone[0]);
    close(fds[0]);
    close(fds[1]);
    colo_shared_free(sh);
}

static void test_a_takeover_by_the_sockets_alone(void **state)
{
    (void)state;
    start();
    tl_ok(colo_disks_hold(&x.d, 1, &err), &err);
    tl_ok(colo_disks_commit(&x.d, 1, &err), &err);
    tl_ok(colo_disks_hold(&x.d, 2, &err), &err); /* as far as the session came */
    colo_disks_close(&x.d);
    tl_ok(colo_disks_undo_takeover(&x.undo, &err), &err);
    assert_state("standalone");
}

static void test_a_server_that_died(void **state)
{
    struct colo_disk_undo was;
    struct colo_json *st;

    (void)state;
    start();
    tl_ok(colo_client_ask(x.d.server[1], colo_client_request("status"), NULL, NULL, &st, &err),
          &err);
    assert_int_equal(kill((pid_t)colo_json_get_int(st, "pid", 0), SIGKILL), 0);
    was = x.undo;
    colo_json_free(st);
    assert_int_equal(colo_disks_hold(&x.d, 1, &err), -1);
    assert_string_equal(err.reason, "disk-gone");
    colo_disks_close(&x.d);
    assert_int_equal(colo_disks_undo_takeover(&x.undo, &err), -1);
    assert_string_equal(err.reason, "disk-gone");
    colo_disks_undo(NULL, &x.undo); /* its sockets are still there */
    assert_nothing_left(&was);
}

static void test_what_does_not_fit(void **state)
{
    static const struct {
        const char *reason, *says;
    } want[] = {{"disk-size", "1048576"}, {"file-missing", "1048576 bytes"}, {"disk-kind", "hda"}};

    (void)state;
    assert_int_equal(truncate(x.path[0], SIZE + 512), 0);
    for (size_t i = 0; i < 3; i++) {
        char *path = x.cfg.disks[0].pdev_path;

        if (i == 1)
            assert_int_equal(unlink(path), 0);
        if (i == 2)
            memcpy(path, "/dev/null", 10);
        assert_int_equal(
            colo_disks_start(&x.d, &x.undo, &x.cfg, &x.theirs, "127.0.0.1", x.mine, &err), -1);
        assert_string_equal(err.reason, want[i].reason);
        assert_non_null(strstr(err.msg, want[i].says));
        assert_int_equal(x.undo.n, 0);
    }
}

static void test_a_list_that_is_another(void **state)
{
    (void)state;
    memcpy(x.theirs.disk[0].vdev, "hdd", 4);
    assert_int_equal(colo_disks_start(&x.d, &x.undo, &x.cfg, &x.theirs, "127.0.0.1", x.mine, &err),
                     -1);
    assert_string_equal(err.reason, "bad-config");
    memcpy(x.theirs.disk[0].vdev, "hda", 4);
    for (uint32_t n = 0; n < 4; n++) {
        if (n == 2)
            continue;
        x.theirs.disks = n;
        assert_int_equal(
            colo_disks_start(&x.d, &x.undo, &x.cfg, &x.theirs, "127.0.0.1", x.mine, &err), -1);
        assert_string_equal(err.reason, "bad-config");
        assert_int_equal(x.undo.n, 0);
    }
    x.theirs.disks = 0;
    memset(x.theirs.disk_key, 0, sizeof(x.theirs.disk_key));
    assert_int_equal(colo_disks_start(&x.d, &x.undo, &x.cfg, &x.theirs, "127.0.0.1", x.mine, &err),
                     -1);
}

static void test_nobody_at_the_other_end(void **state)
{
    (void)state;
    start();
    tl_ok(colo_relay_put_key(x.key, x.theirs.disk_key, &err), &err);
    colo_disks_undo(&x.d, &x.undo);
    for (colo_time until = colo_now() + WAITED; colo_now() < until;) {
        if (relay(NULL, &err))
            break;
        colo_relay_stop(&x.relay);
        poll(NULL, 0, 10);
    }
    assert_string_equal(err.reason, "disk-link");
    assert_int_equal(access(x.relayed, F_OK), -1);
}

static void test_what_the_device_model_is_told(void **state)
{
    char want[512];

    (void)state;
    start();
    x.cfg.b_info.device_model = strdup("/opt/qemu");
    tl_ok(colo_disks_wrap(&x.d, &x.cfg, "/usr/libexec/qemu", &err), &err);
    snprintf(want, sizeof(want), "%s\t%s\n%s\t%s\n", x.path[0], x.undo.guest[0], x.path[1],
             x.undo.guest[1]);
    assert_string_equal(getenv("XEN_COLO_DISKS"), want);
    assert_string_equal(getenv("XEN_COLO_DM"), "/usr/libexec/qemu");
    assert_non_null(strstr(x.cfg.b_info.device_model, "colo-dm"));
}

static int enter(void **state)
{
    char program[PATH_MAX];

    (void)state;
    assert_non_null(realpath("build/colo-disk", program)); /* built before the tests are */
    setenv("XEN_COLO_DISK", program, 1);
    return 0;
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test_setup_teardown(test_a_session, begin, end),
        cmocka_unit_test_setup_teardown(test_where_the_configuration_says, begin, end),
        cmocka_unit_test_setup_teardown(test_giving_up_leaves_nothing, begin, end),
        cmocka_unit_test_setup_teardown(test_a_receiver_that_was_killed_leaves_nothing, begin, end),
        cmocka_unit_test_setup_teardown(test_a_relay_that_waits_is_not_left, begin, end),
        cmocka_unit_test_setup_teardown(test_a_takeover_by_the_sockets_alone, begin, end),
        cmocka_unit_test_setup_teardown(test_a_server_that_died, begin, end),
        cmocka_unit_test_setup_teardown(test_what_does_not_fit, begin, end),
        cmocka_unit_test_setup_teardown(test_a_list_that_is_another, begin, end),
        cmocka_unit_test_setup_teardown(test_nobody_at_the_other_end, begin, end),
        cmocka_unit_test_setup_teardown(test_what_the_device_model_is_told, begin, end),
    };

    return cmocka_run_group_tests(all, enter, NULL);
}
