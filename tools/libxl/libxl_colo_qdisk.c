/* SPDX-License-Identifier: LGPL-2.1-only */
#include "libxl_colo_qdisk.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "colo-disk-" /* and the vdev: the node on the other host's disk, and the job */
#define FILTER "colo-copy-" /* and the vdev: the node that the job puts between guest and disk */

#define T_QMP    (30 * 1000 * COLO_MS)
#define T_URGENT (1000 * COLO_MS)

bool colo_disk_is_replicated(const libxl_device_disk *disk)
{
    return disk->readwrite && !disk->is_cdrom;
}

/* ---- prepare ---- */

int colo_qdisk_device(const char *vdev, libxl_hdtype type, char *device, size_t len,
                      struct colo_err *err)
{
    static const char *const kinds[] = {"xvd", "hd", "sd"};

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        size_t at = strlen(kinds[i]);
        int index = 0;

        if (strncmp(vdev, kinds[i], at) != 0 || vdev[at] < 'a' || vdev[at] > 'z' || vdev[at + 1])
            continue;
        index = vdev[at] - 'a';
        if (kinds[i][0] == 's')
            snprintf(device, len, "scsi0-hd%d", index);
        else if (index < 6 && type == LIBXL_HDTYPE_AHCI)
            snprintf(device, len, "ahcidisk-%d", index);
        else if (index < 4)
            snprintf(device, len, "ide%d-hd%d", index / 2, index % 2);
        else
            break;
        return 0;
    }
    return colo_fail(err, COLO_ERR_REFUSED, "disk-vdev",
                     "disk %s is one that a guest without PV drivers does not see: name it hda to "
                     "hdd, or sda to sdz",
                     vdev);
}

static const struct colo_json *find_drive(const struct colo_json *list, const char *device)
{
    for (size_t i = 0; i < colo_json_len(list); i++) {
        const struct colo_json *drive = colo_json_at(list, i);
        const char *name = colo_json_get_str(drive, "device");

        if (name && !strcmp(name, device))
            return drive;
    }
    return NULL;
}

static int take_disk(struct colo_qdisks *d, const libxl_device_disk *disk, libxl_hdtype type,
                     const struct colo_json *list, struct colo_err *err)
{
    struct colo_qdisk *q = &d->disk[d->n];
    const struct colo_json *drive;

    snprintf(q->vdev, sizeof(q->vdev), "%s", disk->vdev ? disk->vdev : "");
    if (colo_qdisk_device(q->vdev, type, q->device, sizeof(q->device), err))
        return -1;
    q->host = disk->colo_host;
    q->export = disk->colo_export;
    drive = find_drive(list, q->device);
    q->size = (uint64_t)colo_json_get_int(colo_json_get(colo_json_get(drive, "inserted"), "image"),
                                          "virtual-size", 0);
    if (!q->size)
        return colo_fail(err, COLO_ERR_REFUSED, "disk-vdev",
                         "the device model has no drive %s for disk %s", q->device, q->vdev);
    d->n++;
    return 0;
}

int colo_qdisks_prepare(struct colo_qdisks *d, struct colo_qmp *q, const libxl_domain_config *cfg,
                        struct colo_err *err)
{
    struct colo_json *list = NULL;
    int rc = 0;

    memset(d, 0, sizeof(*d));
    d->qmp = q;
    for (int i = 0; i < cfg->num_disks && !rc; i++) {
        if (!colo_disk_is_replicated(&cfg->disks[i]))
            continue;
        if (d->n == COLO_MAX_DISKS)
            rc = colo_fail(err, COLO_ERR_REFUSED, "too-many-disks",
                           "the guest has more than %d writable disks", COLO_MAX_DISKS);
        else if (list ||
                 !(rc = colo_qmp_cmd(q, "query-block", NULL, colo_now() + T_QMP, &list, err)))
            rc = take_disk(d, &cfg->disks[i], cfg->b_info.u.hvm.hdtype, list, err);
    }
    colo_json_free(list);
    if (!rc && d->n && !colo_qmp_has_urgent(q))
        rc = colo_fail(
            err, COLO_ERR_REFUSED, "qmp-no-oob",
            "this device model (QEMU %s) takes no commands out of band: a disk whose other "
            "half does not answer would hold up the guest",
            colo_qmp_version(q));
    return rc;
}

/* ---- start ---- */

static struct colo_json_gen *arguments(void)
{
    struct colo_json_gen *g = colo_json_gen_new(false);

    colo_json_open(g, NULL);
    return g;
}

static int run(struct colo_qmp *q, const char *command, struct colo_json_gen *g, colo_time deadline,
               struct colo_err *err)
{
    char *text;
    int rc;

    colo_json_close(g);
    text = colo_json_gen_finish(g);
    if (!text)
        return colo_fail_errno(err, ENOMEM, "QMP %s", command);
    rc = colo_qmp_cmd(q, command, text, deadline, NULL, err);
    free(text);
    return rc;
}

/* With one argument, a name. */
static int run_on(struct colo_qmp *q, const char *command, const char *key, const char *name,
                  colo_time deadline, struct colo_err *err)
{
    struct colo_json_gen *g = arguments();

    colo_json_put_str(g, key, name);
    return run(q, command, g, deadline, err);
}

static int add_node(struct colo_qdisks *d, const char *name, const char *socket,
                    struct colo_err *err)
{
    struct colo_json_gen *g = arguments();

    colo_json_put_str(g, "node-name", name);
    colo_json_put_str(g, "driver", "nbd");
    colo_json_open(g, "server");
    colo_json_put_str(g, "type", "unix");
    colo_json_put_str(g, "path", socket);
    colo_json_close(g);
    return run(d->qmp, "blockdev-add", g, colo_now() + T_QMP, err);
}

static int start_mirror(struct colo_qdisks *d, const struct colo_qdisk *disk, const char *name,
                        struct colo_err *err)
{
    struct colo_json_gen *g = arguments();
    char filter[sizeof(FILTER) + COLO_VDEV];

    snprintf(filter, sizeof(filter), FILTER "%s", disk->vdev);
    colo_json_put_str(g, "job-id", name);
    colo_json_put_str(g, "filter-node-name", filter);
    colo_json_put_str(g, "device", disk->device);
    colo_json_put_str(g, "target", name);
    colo_json_put_str(g, "sync", "full");
    colo_json_put_str(g, "copy-mode", "write-blocking");
    /* The job does not end by itself, see stop_copying. */
    colo_json_put_str(g, "on-source-error", "stop");
    colo_json_put_str(g, "on-target-error", "stop");
    return run(d->qmp, "blockdev-mirror", g, colo_now() + T_QMP, err);
}

int colo_qdisks_start(struct colo_qdisks *d, const char *const sockets[], struct colo_err *err)
{
    char name[sizeof(PREFIX) + COLO_VDEV];

    for (uint32_t i = 0; i < d->n; i++) {
        snprintf(name, sizeof(name), PREFIX "%s", d->disk[i].vdev);
        if (add_node(d, name, sockets[i], err) || start_mirror(d, &d->disk[i], name, err))
            return colo_err_prefix(err, "disk %s", d->disk[i].vdev);
        d->disk[i].total = d->disk[i].size;
    }
    return 0;
}

/* ---- while it goes on ---- */

static struct colo_qdisk *of_job(struct colo_qdisks *d, const struct colo_json *j)
{
    const char *job = colo_json_get_str(j, "device");

    for (uint32_t i = 0; job && i < d->n; i++)
        if (!strncmp(job, PREFIX, strlen(PREFIX)) && !strcmp(job + strlen(PREFIX), d->disk[i].vdev))
            return &d->disk[i];
    return NULL;
}

int colo_qdisks_progress(struct colo_qdisks *d, struct colo_err *err)
{
    struct colo_json *list;
    int all = 1;

    if (colo_qdisks_check(d, err) ||
        colo_qmp_cmd(d->qmp, "query-block-jobs", NULL, colo_now() + T_QMP, &list, err))
        return -1;
    for (size_t i = 0; i < colo_json_len(list); i++) {
        const struct colo_json *job = colo_json_at(list, i);
        struct colo_qdisk *disk = of_job(d, job);

        if (!disk)
            continue;
        disk->done = (uint64_t)colo_json_get_int(job, "offset", 0);
        disk->total = (uint64_t)colo_json_get_int(job, "len", 0);
        disk->ready = colo_json_get_bool(job, "ready", false);
    }
    colo_json_free(list);
    for (uint32_t i = 0; i < d->n; i++)
        all &= d->disk[i].ready;
    return all;
}

int colo_qdisks_check(struct colo_qdisks *d, struct colo_err *err)
{
    static const char *const ends[] = {"BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED",
                                       "BLOCK_JOB_ERROR", NULL};
    struct colo_json *data;
    int rc;

    while ((rc = colo_qmp_next_event(d->qmp, ends, &data, err)) > 0) {
        const struct colo_qdisk *disk = of_job(d, data);
        const char *why = colo_json_get_str(data, "error");
        const char *what = colo_json_get_str(data, "operation");

        if (!why && what)
            why = strcmp(what, "read") == 0 ? "it could not be read here"
                                            : "it could not be written there";
        if (disk)
            rc = colo_fail(err, COLO_ERR_LOCAL, "disk-mirror",
                           "disk %s is not copied to the other host any more: %s", disk->vdev,
                           why ? why : "the copy was ended");
        colo_json_free(data);
        if (rc < 0)
            return -1;
    }
    return rc;
}

/* ---- stop ---- */

static void yank(struct colo_qmp *q, const char *node)
{
    char args[160];

    snprintf(args, sizeof(args),
             "{\"instances\":[{\"type\":\"block-node\",\"node-name\":\"%.64s\"}]}", node);
    colo_qmp_urgent(q, "yank", args, colo_now() + T_URGENT, NULL);
}

void colo_qdisks_cut(struct colo_qdisks *d)
{
    char name[sizeof(PREFIX) + COLO_VDEV];

    for (uint32_t i = 0; i < d->n; i++) {
        snprintf(name, sizeof(name), PREFIX "%s", d->disk[i].vdev);
        yank(d->qmp, name);
    }
}

static bool is_ours(const char *name, const char *prefix)
{
    return name && !strncmp(name, prefix, strlen(prefix)) && !strpbrk(name, "\"\\");
}

/* Do something about each of ours in a list of QEMU's; how many there were, or -1. */
static int each(struct colo_qmp *q, const char *query, const char *args, const char *key,
                const char *prefix, colo_time deadline,
                void (*act)(struct colo_qmp *q, const char *name, colo_time until),
                struct colo_err *err)
{
    struct colo_json *list;
    int n = 0;

    if (colo_qmp_cmd(q, query, args, deadline, &list, err))
        return -1;
    for (size_t i = 0; i < colo_json_len(list); i++) {
        const char *name = colo_json_get_str(colo_json_at(list, i), key);

        if (is_ours(name, prefix)) {
            if (act)
                act(q, name, deadline);
            n++;
        }
    }
    colo_json_free(list);
    return n;
}

static void cancel_job(struct colo_qmp *q, const char *job, colo_time deadline)
{
    struct colo_json_gen *g = arguments();

    colo_json_put_str(g, "device", job);
    colo_json_put_bool(g, "force", true);
    (void)run(q, "block-job-cancel", g, deadline, NULL);
}

static void cut_node(struct colo_qmp *q, const char *node, colo_time deadline)
{
    (void)deadline;
    yank(q, node);
}

static void delete_node(struct colo_qmp *q, const char *node, colo_time deadline)
{
    (void)run_on(q, "blockdev-del", "node-name", node, deadline, NULL);
}

static int cancel_jobs(struct colo_qmp *q, colo_time deadline, struct colo_err *err)
{
    static const char *const ends[] = {"BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED", NULL};
    struct pollfd pfd = {.fd = colo_qmp_fd(q), .events = POLLIN};
    struct colo_json *data;
    int n;

    while ((n = each(q, "query-block-jobs", NULL, "device", PREFIX, deadline, cancel_job, err)) >
           0) {
        if (colo_now() >= deadline)
            return colo_fail(err, COLO_ERR_TIMEOUT, "disk-mirror",
                             "the device model does not end the copying of %d disks", n);
        poll(&pfd, 1, 100); /* one of the events, or something else: look again */
        while (colo_qmp_next_event(q, ends, &data, NULL) > 0)
            colo_json_free(data);
    }
    return n;
}

static int each_node(struct colo_qmp *q, const char *prefix, colo_time deadline,
                     void (*act)(struct colo_qmp *q, const char *name, colo_time until),
                     struct colo_err *err)
{
    return each(q, "query-named-block-nodes", "{\"flat\":true}", "node-name", prefix, deadline, act,
                err);
}

/* A job may be gone from the list before what it had put in front of the disk is; until then the
 * disk cannot be copied again. */
static int wait_filters(struct colo_qmp *q, colo_time deadline, struct colo_err *err)
{
    int n;

    while ((n = each_node(q, FILTER, deadline, NULL, err)) > 0) {
        if (colo_now() >= deadline)
            return colo_fail(err, COLO_ERR_TIMEOUT, "disk-mirror",
                             "the device model still holds what copied %d disks", n);
        poll(NULL, 0, 50); /* there is no event for it */
    }
    return n;
}

static int is_running(struct colo_qmp *q, colo_time deadline, bool *running, struct colo_err *err)
{
    struct colo_json *status;

    if (colo_qmp_cmd(q, "query-status", NULL, deadline, &status, err))
        return -1;
    *running = colo_json_get_bool(status, "running", false);
    colo_json_free(status);
    return 0;
}

/*
 * QEMU (7.2) frees a job's bitmap of what is in flight when the job ends, and a write of the guest's
 * that is under way then clears its bits in it all the same: seen as a crash of the device model, in
 * its heap.  So a job must end while no write is: QEMU stops, which waits for all of them.  (A session
 * that is killed here has its QEMU set going again by the monitor.)
 */
static int stop_copying(struct colo_qmp *q, colo_time deadline, struct colo_err *err)
{
    bool running;
    int rc;

    if (is_running(q, deadline, &running, err) ||
        (running && colo_qmp_cmd(q, "stop", NULL, deadline, NULL, err)))
        return -1;
    rc = cancel_jobs(q, deadline, err) || wait_filters(q, deadline, err) ? -1 : 0;
    if (running && colo_qmp_cmd(q, "cont", NULL, colo_now() + T_QMP, NULL, rc ? NULL : err))
        rc = -1;
    return rc;
}

int colo_qdisks_stop(struct colo_qmp *q, colo_time deadline, struct colo_err *err)
{
    int jobs = each(q, "query-block-jobs", NULL, "device", PREFIX, deadline, NULL, err);
    int filters = each_node(q, FILTER, deadline, NULL, err);

    if (jobs < 0 || filters < 0 || each_node(q, PREFIX, deadline, cut_node, err) < 0 ||
        (jobs + filters > 0 && stop_copying(q, deadline, err)) ||
        each_node(q, PREFIX, deadline, delete_node, err) < 0)
        return -1;
    return 0;
}
