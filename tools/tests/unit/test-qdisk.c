/* SPDX-License-Identifier: GPL-2.0-only */
/* The primary's disks, on a device model that keeps nodes and jobs and nothing else. */
#include "testlib.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fakeqmp.h"
#include "libxl_colo_qdisk.h"

#define NODES 8

/* What QEMU has.  The server's thread changes it while a command runs, the test between commands. */
static struct model {
    char node[NODES][64], job[NODES][64]; /* "" = free */
    bool ready[NODES], yanked[NODES];
    const char *fail; /* this command fails */
    int keep;         /* so many cancellations do not end a job */
    bool order;       /* a node was deleted that a job still wrote to */
    bool stopped;     /* QEMU */
    bool in_flight;   /* a job ended while the guest could write */
    int filter;       /* so often a copy's filter is still there */
    char mirror[512]; /* the arguments of the last mirror, in parts */
} m;

static int find(char list[NODES][64], const char *name)
{
    for (int i = 0; i < NODES; i++)
        if (!strcmp(list[i], name ? name : "?"))
            return i;
    return -1;
}

static void put(char list[NODES][64], const char *name)
{
    int i = find(list, "");

    assert_true(i >= 0);
    snprintf(list[i], sizeof(list[i]), "%s", name);
}

static bool query_block(struct fakeqmp *f)
{
    return fakeqmp_return(
        f, "[{\"device\":\"ide0-hd0\",\"inserted\":{\"image\":{\"virtual-size\":1073741824}}},"
           "{\"device\":\"\",\"inserted\":{\"image\":{\"virtual-size\":7}}},"
           "{\"device\":\"ide1-cd0\"},"
           "{\"device\":\"scsi0-hd2\",\"inserted\":{\"image\":{\"virtual-size\":4096}}}]");
}

static bool query_list(struct fakeqmp *f, char list[NODES][64], const char *key)
{
    char text[2048] = "[{\"x\":1}";
    size_t n = strlen(text);

    for (int i = 0; i < NODES; i++)
        if (list[i][0])
            n += (size_t)snprintf(text + n, sizeof(text) - n,
                                  ",{\"%s\":\"%s\",\"offset\":%d,\"len\":100,\"ready\":%s}", key,
                                  list[i], m.ready[i] ? 100 : 40, m.ready[i] ? "true" : "false");
    if (list == m.node && m.filter > 0 && m.filter--)
        n += (size_t)snprintf(text + n, sizeof(text) - n, ",{\"%s\":\"colo-copy-hda\"}", key);
    snprintf(text + n, sizeof(text) - n, "]");
    return fakeqmp_return(f, text);
}

static bool end_job(struct fakeqmp *f, const char *job, const char *event)
{
    int i = find(m.job, job);
    char text[128];

    if (i < 0)
        return fakeqmp_error(f, "no such job");
    if (m.keep-- > 0)
        return fakeqmp_return(f, "{}");
    m.job[i][0] = '\0';
    snprintf(text, sizeof(text), "{\"device\":\"%s\",\"type\":\"mirror\"}", job);
    return fakeqmp_event(f, event, text) && fakeqmp_return(f, "{}");
}

static bool serve(struct fakeqmp *f, const char *command, const struct colo_json *a, void *priv)
{
    int i;

    (void)priv;
    if (m.fail && !strcmp(command, m.fail))
        return fakeqmp_error(f, "told to fail");
    if (!strcmp(command, "query-status"))
        return fakeqmp_return(f, m.stopped ? "{\"running\":false}" : "{\"running\":true}");
    if (!strcmp(command, "stop") || !strcmp(command, "cont")) {
        m.stopped = !strcmp(command, "stop");
        return fakeqmp_return(f, "{}");
    }
    if (!strcmp(command, "query-block"))
        return query_block(f);
    if (!strcmp(command, "query-named-block-nodes"))
        return query_list(f, m.node, "node-name");
    if (!strcmp(command, "query-block-jobs"))
        return query_list(f, m.job, "device");
    if (!strcmp(command, "blockdev-add")) {
        put(m.node, colo_json_get_str(a, "node-name"));
        return fakeqmp_return(f, "{}");
    }
    if (!strcmp(command, "blockdev-mirror")) {
        put(m.job, colo_json_get_str(a, "job-id"));
        snprintf(m.mirror, sizeof(m.mirror), "%s %s %s %s", colo_json_get_str(a, "device"),
                 colo_json_get_str(a, "target"), colo_json_get_str(a, "sync"),
                 colo_json_get_str(a, "copy-mode"));
        return fakeqmp_return(f, "{}");
    }
    if (!strcmp(command, "blockdev-del")) {
        i = find(m.node, colo_json_get_str(a, "node-name"));
        m.order |= i >= 0 && find(m.job, m.node[i]) >= 0;
        if (i >= 0)
            m.node[i][0] = '\0';
        return i < 0 ? fakeqmp_error(f, "no such node") : fakeqmp_return(f, "{}");
    }
    if (!strcmp(command, "block-job-cancel")) {
        if (!colo_json_get_bool(a, "force", false))
            return fakeqmp_error(f, "it would wait for the target");
        m.in_flight |= !m.stopped;
        return end_job(f, colo_json_get_str(a, "device"), "BLOCK_JOB_CANCELLED");
    }
    if (!strcmp(command, "yank")) {
        i = find(m.node,
                 colo_json_get_str(colo_json_at(colo_json_get(a, "instances"), 0), "node-name"));
        if (i >= 0)
            m.yanked[i] = true;
        return fakeqmp_return(f, "{}");
    }
    if (!strcmp(command, "break")) /* of the test: a copy fails */
        return end_job(f, "colo-disk-sdc", "BLOCK_JOB_COMPLETED");
    if (!strcmp(command, "other")) /* a job that is none of ours ends */
        return fakeqmp_return(f, "{}") &&
               fakeqmp_event(f, "BLOCK_JOB_COMPLETED", "{\"device\":\"backup0\"}");
    return fakeqmp_error(f, "unknown");
}

static colo_time soon(void)
{
    return colo_now() + 10000 * COLO_MS;
}

struct fixture {
    struct fakeqmp *f;
    struct colo_qmp *q;
    libxl_domain_config cfg;
    struct colo_qdisks d;
};

static void add_disk(libxl_domain_config *cfg, const char *vdev, bool write, bool cdrom)
{
    libxl_device_disk *disk;

    cfg->disks = realloc(cfg->disks, (size_t)(cfg->num_disks + 1) * sizeof(*cfg->disks));
    assert_non_null(cfg->disks);
    disk = &cfg->disks[cfg->num_disks++];
    libxl_device_disk_init(disk);
    disk->vdev = strdup(vdev);
    disk->readwrite = write;
    disk->is_cdrom = cdrom;
}

static void start(struct fixture *x)
{
    struct colo_err err = {0};
    int fd;

    memset(&m, 0, sizeof(m));
    memset(x, 0, sizeof(*x));
    x->f = fakeqmp_start(serve, NULL, NULL, &fd);
    tl_ok(colo_qmp_open_fd(fd, -1, soon(), &x->q, &err), &err);
    libxl_domain_config_init(&x->cfg);
    libxl_domain_build_info_init_type(&x->cfg.b_info, LIBXL_DOMAIN_TYPE_HVM);
    add_disk(&x->cfg, "hda", true, false);
    add_disk(&x->cfg, "hdb", false, false);
    add_disk(&x->cfg, "hdc", true, true);
    add_disk(&x->cfg, "sdc", true, false);
}

static void stop(struct fixture *x)
{
    assert_false(m.order || m.in_flight || m.stopped);
    libxl_domain_config_dispose(&x->cfg);
    colo_qmp_close(x->q);
    fakeqmp_stop(x->f);
}

static const char *const sockets[] = {"/run/a.nbd", "/run/b.nbd"};

static void started(struct fixture *x)
{
    struct colo_err err = {0};

    start(x);
    tl_ok(colo_qdisks_prepare(&x->d, x->q, &x->cfg, &err), &err);
    tl_ok(colo_qdisks_start(&x->d, sockets, &err), &err);
}

static void test_names_of_drives(void **state)
{
    static const struct {
        const char *vdev, *device;
        libxl_hdtype type;
    } good[] = {
        {"hda", "ide0-hd0", LIBXL_HDTYPE_IDE},     {"hdb", "ide0-hd1", LIBXL_HDTYPE_IDE},
        {"hdd", "ide1-hd1", LIBXL_HDTYPE_IDE},     {"xvda", "ide0-hd0", LIBXL_HDTYPE_IDE},
        {"xvdc", "ide1-hd0", LIBXL_HDTYPE_IDE},    {"sda", "scsi0-hd0", LIBXL_HDTYPE_IDE},
        {"sdz", "scsi0-hd25", LIBXL_HDTYPE_AHCI},  {"hda", "ahcidisk-0", LIBXL_HDTYPE_AHCI},
        {"xvdf", "ahcidisk-5", LIBXL_HDTYPE_AHCI},
    };
    static const char *const odd[] = {"", "hd", "hde", "xvde", "hda1", "hdA", "vda", "d0"};
    char device[32];
    struct colo_err err;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        tl_ok(colo_qdisk_device(good[i].vdev, good[i].type, device, sizeof(device), &err), &err);
        assert_string_equal(device, good[i].device);
    }
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        assert_int_equal(colo_qdisk_device(odd[i], LIBXL_HDTYPE_IDE, device, sizeof(device), &err),
                         -1);
        assert_string_equal(err.reason, "disk-vdev");
    }
}

static void test_which_disks(void **state)
{
    struct colo_err err = {0};
    struct fixture x;

    (void)state;
    start(&x);
    tl_ok(colo_qdisks_prepare(&x.d, x.q, &x.cfg, &err), &err);
    assert_int_equal(x.d.n, 2); /* neither the read-only one nor the CD-ROM */
    assert_string_equal(x.d.disk[0].vdev, "hda");
    assert_string_equal(x.d.disk[0].device, "ide0-hd0");
    assert_int_equal(x.d.disk[0].size, 1073741824);
    assert_string_equal(x.d.disk[1].device, "scsi0-hd2");
    add_disk(&x.cfg, "hdd", true, false); /* of which QEMU does not know */
    assert_int_equal(colo_qdisks_prepare(&x.d, x.q, &x.cfg, &err), -1);
    assert_string_equal(err.reason, "disk-vdev");
    stop(&x);
}

static void test_a_copy_from_its_start_to_its_end(void **state)
{
    struct colo_err err = {0};
    struct fixture x;

    (void)state;
    started(&x);
    assert_string_equal(m.mirror, "scsi0-hd2 colo-disk-sdc full write-blocking");
    assert_int_equal(colo_qdisks_progress(&x.d, &err), 0);
    assert_int_equal(x.d.disk[0].done, 40);
    assert_int_equal(x.d.disk[0].total, 100);
    m.ready[0] = true;
    assert_int_equal(colo_qdisks_progress(&x.d, &err), 0);
    m.ready[1] = true;
    assert_int_equal(colo_qdisks_progress(&x.d, &err), 1);
    tl_ok(colo_qmp_cmd(x.q, "other", NULL, soon(), NULL, &err), &err);
    tl_ok(colo_qdisks_check(&x.d, &err), &err); /* not our job */
    m.keep = 3;                                 /* ending takes a while */
    tl_ok(colo_qdisks_stop(x.q, soon(), &err), &err);
    for (int i = 0; i < NODES; i++)
        assert_true(!m.node[i][0] && !m.job[i][0]);
    tl_ok(colo_qdisks_stop(x.q, soon(), &err), &err); /* again */
    stop(&x);
}

static void test_what_a_killed_session_left_goes_first(void **state)
{
    struct colo_err err = {0};
    struct fixture x;

    (void)state;
    start(&x);
    put(m.node, "colo-disk-hda");
    put(m.job, "colo-disk-hda");
    put(m.node, "drive-of-somebody");
    tl_ok(colo_qdisks_prepare(&x.d, x.q, &x.cfg, &err), &err);
    tl_ok(colo_qdisks_stop(x.q, soon(), &err), &err);
    tl_ok(colo_qdisks_start(&x.d, sockets, &err), &err);
    tl_ok(colo_qdisks_stop(x.q, soon(), &err), &err);
    assert_true(find(m.node, "drive-of-somebody") >= 0);
    stop(&x);
}

static void test_a_copy_that_fails_is_noticed_once_and_for_all(void **state)
{
    struct colo_err err = {0};
    struct fixture x;

    (void)state;
    started(&x);
    tl_ok(colo_qdisks_check(&x.d, &err), &err);
    tl_ok(colo_qmp_cmd(x.q, "break", NULL, soon(), NULL, &err), &err);
    assert_int_equal(colo_qdisks_check(&x.d, &err), -1);
    assert_string_equal(err.reason, "disk-mirror");
    assert_non_null(strstr(err.msg, "disk sdc"));
    tl_ok(colo_qdisks_stop(x.q, soon(), &err), &err);
    stop(&x);
}

static void test_a_start_that_fails_leaves_nothing(void **state)
{
    static const char *const commands[] = {"blockdev-add", "blockdev-mirror"};
    struct colo_err err = {0};
    struct fixture x;

    (void)state;
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        start(&x);
        tl_ok(colo_qdisks_prepare(&x.d, x.q, &x.cfg, &err), &err);
        m.fail = commands[i];
        assert_int_equal(colo_qdisks_start(&x.d, sockets, &err), -1);
        assert_non_null(strstr(err.msg, "disk hda"));
        m.fail = NULL;
        tl_ok(colo_qdisks_stop(x.q, soon(), &err), &err);
        assert_int_equal(find(m.node, "colo-disk-hda"), -1);
        stop(&x);
    }
}

static void test_a_job_that_does_not_end(void **state)
{
    struct colo_err err = {0};
    struct fixture x;

    (void)state;
    started(&x);
    m.keep = 1 << 20;
    assert_int_equal(colo_qdisks_stop(x.q, colo_now() + 250 * COLO_MS, &err), -1);
    assert_int_equal(err.cls, COLO_ERR_TIMEOUT);
    m.keep = 0;
    tl_ok(colo_qdisks_stop(x.q, soon(), &err), &err);
    stop(&x);
}

static void test_a_copy_that_is_cleared_away_late(void **state)
{
    struct colo_err err = {0};
    struct fixture x;

    (void)state;
    started(&x);
    m.filter = 1 << 20;
    assert_int_equal(colo_qdisks_stop(x.q, colo_now() + 250 * COLO_MS, &err), -1);
    assert_int_equal(err.cls, COLO_ERR_TIMEOUT);
    m.filter = 4;
    tl_ok(colo_qdisks_stop(x.q, soon(), &err), &err);
    assert_int_equal(m.filter, 0);
    stop(&x);
}

static void test_connections_are_cut_without_being_asked_for_it(void **state)
{
    struct colo_err err = {0};
    struct fixture x;

    (void)state;
    started(&x);
    colo_qdisks_cut(&x.d);
    tl_ok(colo_qmp_cmd(x.q, "query-block", NULL, soon(), NULL, &err), &err); /* it has been heard */
    assert_true(m.yanked[0] && m.yanked[1]);
    tl_ok(colo_qdisks_stop(x.q, soon(), &err), &err);
    stop(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_of_drives),
        cmocka_unit_test(test_which_disks),
        cmocka_unit_test(test_a_copy_from_its_start_to_its_end),
        cmocka_unit_test(test_what_a_killed_session_left_goes_first),
        cmocka_unit_test(test_a_copy_that_fails_is_noticed_once_and_for_all),
        cmocka_unit_test(test_a_start_that_fails_leaves_nothing),
        cmocka_unit_test(test_a_job_that_does_not_end),
        cmocka_unit_test(test_a_copy_that_is_cleared_away_late),
        cmocka_unit_test(test_connections_are_cut_without_being_asked_for_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
