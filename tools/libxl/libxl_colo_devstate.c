/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Device-model state.  Saving is xen-save-devices-state on a file in tmpfs.  Loading is
 * snapshot-load from an image whose only snapshot holds the state: xen-load-devices-state trips an
 * assertion of QEMU's in every version that has snapshot-load, and works in those before.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "colo_file.h"
#include "libxl_colo_devstate.h"

#define AREA_MIN   ((size_t)4 << 20)
#define NODE_NAME  "colo-ckpt" /* and a number */
#define JOB_NAME   "colo-load"
#define QEVM_MAGIC "QEVM\0\0\0\3" /* a saved state begins so: magic, version, big-endian */

struct colo_devstate {
    struct colo_qmp *qmp; /* borrowed */
    bool can_save, by_snapshot;
    char *save_path, *image_path;
    int save_fd, image_fd;
    char node[32]; /* of the image in QEMU; empty = none */
    char job[32];
    uint64_t state_offset;
    size_t area, last_len;
    unsigned int images, jobs; /* numbers that make their names unique */
};

struct capabilities {
    bool save, load, snapshot_load;
};

static int probe(struct colo_qmp *q, colo_time deadline, struct capabilities *caps,
                 struct colo_err *err)
{
    struct colo_json *list;
    const char *name;
    size_t i;

    if (colo_qmp_cmd(q, "query-commands", NULL, deadline, &list, err) < 0)
        return -1;
    memset(caps, 0, sizeof(*caps));
    for (i = 0; i < colo_json_len(list); i++) {
        name = colo_json_get_str(colo_json_at(list, i), "name");
        if (!name)
            continue;
        caps->save |= !strcmp(name, "xen-save-devices-state");
        caps->load |= !strcmp(name, "xen-load-devices-state");
        caps->snapshot_load |= !strcmp(name, "snapshot-load");
    }
    colo_json_free(list);
    return 0;
}

/* {"key": "value"}; NULL when out of memory. */
static char *argument(const char *key, const char *value)
{
    struct colo_json_gen *g = colo_json_gen_new(false);

    colo_json_open(g, NULL);
    colo_json_put_str(g, key, value);
    colo_json_close(g);
    return colo_json_gen_finish(g);
}

/* Run a command with generated arguments, which are freed. */
static int run(struct colo_devstate *d, const char *command, char *args, colo_time deadline,
               struct colo_json **ret, struct colo_err *err)
{
    int rc;

    if (!args)
        return colo_fail_errno(err, ENOMEM, "QMP %s", command);
    rc = colo_qmp_cmd(d->qmp, command, args, deadline, ret, err);
    free(args);
    return rc;
}

/* A file of ours alone: what lies there from a session that was killed is replaced. */
static int make_file(const char *path, int *fd, struct colo_err *err)
{
    if (unlink(path) < 0 && errno != ENOENT)
        return colo_fail_errno(err, errno, "%s", path);
    *fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (*fd < 0)
        return colo_fail_errno(err, errno, "%s", path);
    return 0;
}

static void drop_node(struct colo_devstate *d, const char *node, colo_time deadline)
{
    (void)run(d, "blockdev-del", argument("node-name", node), deadline, NULL, NULL);
}

/* A session that was killed leaves its image in QEMU, which holds the file's memory. */
static int drop_stale_nodes(struct colo_devstate *d, colo_time deadline, struct colo_err *err)
{
    struct colo_json *list;
    const char *name;
    size_t i;

    if (colo_qmp_cmd(d->qmp, "query-named-block-nodes", "{\"flat\":true}", deadline, &list, err) <
        0)
        return -1;
    for (i = 0; i < colo_json_len(list); i++) {
        name = colo_json_get_str(colo_json_at(list, i), "node-name");
        if (name && !strncmp(name, NODE_NAME, strlen(NODE_NAME)))
            drop_node(d, name, deadline);
    }
    colo_json_free(list);
    return 0;
}

int colo_devstate_open(struct colo_qmp *q, const char *dir, const char *tag, bool for_load,
                       colo_time deadline, struct colo_devstate **out, struct colo_err *err)
{
    struct colo_devstate *d;
    struct capabilities caps;

    *out = NULL;
    if (probe(q, deadline, &caps, err) < 0)
        return -1;
    if (!for_load && !caps.save)
        return colo_fail(err, COLO_ERR_REFUSED, "qemu-no-device-save",
                         "this device model (QEMU %s) has no xen-save-devices-state",
                         colo_qmp_version(q));
    if (for_load && !caps.snapshot_load && !caps.load)
        return colo_fail(err, COLO_ERR_REFUSED, "qemu-no-device-load",
                         "this device model (QEMU %s) has neither snapshot-load nor "
                         "xen-load-devices-state",
                         colo_qmp_version(q));

    d = calloc(1, sizeof(*d));
    if (!d)
        return colo_fail_errno(err, ENOMEM, "device state");
    d->qmp = q;
    d->can_save = caps.save;
    d->by_snapshot = caps.snapshot_load;
    if (asprintf(&d->save_path, "%s/%s.devices", dir, tag) < 0)
        d->save_path = NULL;
    if (asprintf(&d->image_path, "%s/%s.ckpt", dir, tag) < 0)
        d->image_path = NULL;
    d->save_fd = d->image_fd = -1;
    if (!d->save_path || !d->image_path) {
        colo_fail_errno(err, ENOMEM, "device state");
        goto out;
    }
    if (make_file(d->save_path, &d->save_fd, err) < 0)
        goto out;
    if (for_load && d->by_snapshot && drop_stale_nodes(d, deadline, err) < 0)
        goto out;
    *out = d;
    return 0;

out:
    colo_devstate_close(d);
    return -1;
}

static void drop_file(char **path, int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        unlink(*path);
        *fd = -1;
    }
    free(*path);
    *path = NULL;
}

void colo_devstate_close(struct colo_devstate *d)
{
    if (!d)
        return;
    if (d->node[0])
        drop_node(d, d->node, colo_now() + 1000 * COLO_MS);
    drop_file(&d->save_path, &d->save_fd);
    drop_file(&d->image_path, &d->image_fd);
    free(d);
}

int colo_devstate_save_start(struct colo_devstate *d, colo_time deadline, struct colo_err *err)
{
    struct colo_json_gen *g;
    char *args;
    int rc;

    if (!d->can_save)
        return colo_fail(err, COLO_ERR_REFUSED, "qemu-no-device-save",
                         "this device model (QEMU %s) has no xen-save-devices-state",
                         colo_qmp_version(d->qmp));
    /* not every QEMU empties the file */
    if (ftruncate(d->save_fd, 0) < 0)
        return colo_fail_errno(err, errno, "%s", d->save_path);
    g = colo_json_gen_new(false);
    colo_json_open(g, NULL);
    colo_json_put_str(g, "filename", d->save_path);
    colo_json_put_bool(g, "live", false); /* live would take the disks away from QEMU */
    colo_json_close(g);
    args = colo_json_gen_finish(g);
    if (!args)
        return colo_fail_errno(err, ENOMEM, "saving device state");
    rc = colo_qmp_start(d->qmp, "xen-save-devices-state", args, deadline, err);
    free(args);
    return rc;
}

int colo_devstate_save_finish(struct colo_devstate *d, colo_time deadline, void **buf, size_t *len,
                              struct colo_err *err)
{
    struct stat st;
    ssize_t n;

    *buf = NULL;
    *len = 0;
    if (colo_qmp_finish(d->qmp, deadline, NULL, err) < 0)
        return -1;
    if (fstat(d->save_fd, &st) < 0)
        return colo_fail_errno(err, errno, "%s", d->save_path);
    if (st.st_size < (off_t)sizeof(QEVM_MAGIC) || (uint64_t)st.st_size > COLO_DEVSTATE_MAX)
        return colo_fail(err, COLO_ERR_LOCAL, "device-state-size",
                         "the device model saved %lld bytes of state", (long long)st.st_size);
    *buf = malloc((size_t)st.st_size);
    if (!*buf)
        return colo_fail_errno(err, ENOMEM, "%lld bytes of device state", (long long)st.st_size);
    n = colo_read_at(d->save_fd, *buf, (size_t)st.st_size, 0);
    if (n != st.st_size) {
        colo_fail_errno(err, n < 0 ? errno : EIO, "reading the saved device state");
        free(*buf);
        *buf = NULL;
        return -1;
    }
    *len = (size_t)st.st_size;
    return 0;
}

/* Give the image to QEMU.  Its host file needs no lock, which nobody else looks at, and no flush,
 * for it lies in memory. */
static int add_node(struct colo_devstate *d, const char *node, colo_time deadline,
                    struct colo_err *err)
{
    struct colo_json_gen *g = colo_json_gen_new(false);

    colo_json_open(g, NULL);
    colo_json_put_str(g, "node-name", node);
    colo_json_put_str(g, "driver", "qcow2");
    colo_json_open(g, "cache");
    colo_json_put_bool(g, "no-flush", true);
    colo_json_put_bool(g, "direct", false);
    colo_json_close(g);
    colo_json_open(g, "file");
    colo_json_put_str(g, "driver", "file");
    colo_json_put_str(g, "filename", d->image_path);
    colo_json_put_str(g, "locking", "off");
    colo_json_close(g);
    colo_json_close(g);
    return run(d, "blockdev-add", colo_json_gen_finish(g), deadline, NULL, err);
}

/* An image with room for len bytes and what states may grow by: QEMU has it open, so a larger one
 * is a new file and a new node. */
static int make_room(struct colo_devstate *d, size_t len, colo_time deadline, struct colo_err *err)
{
    size_t area = len > COLO_DEVSTATE_MAX / 2 ? COLO_DEVSTATE_MAX : 2 * len;
    uint64_t size;
    char node[32];

    if (d->node[0] && len <= d->area)
        return 0;
    if (area < AREA_MIN)
        area = AREA_MIN;
    if (d->node[0])
        drop_node(d, d->node, deadline);
    d->node[0] = 0;
    if (d->image_fd >= 0)
        close(d->image_fd);
    if (make_file(d->image_path, &d->image_fd, err) < 0 ||
        colo_ckpt_image_write(d->image_fd, area, &d->state_offset, &size, err) < 0)
        return -1;
    d->area = (size_t)(size - d->state_offset);
    d->last_len = 0;
    snprintf(node, sizeof(node), NODE_NAME "%u", d->images++);
    if (add_node(d, node, deadline, err) < 0)
        return -1;
    memcpy(d->node, node, sizeof(node));
    return 0;
}

/* The state, and zeroes over what is left of a longer one before it. */
static int put_state(struct colo_devstate *d, const void *buf, size_t len, struct colo_err *err)
{
    static const char zero[65536];
    size_t end = d->last_len, n;
    int r;

    d->last_len = len > end ? len : end; /* what may be there should a write fail */
    r = colo_write_at(d->image_fd, buf, len, d->state_offset);
    for (; !r && end > len; end -= n) {
        n = end - len < sizeof(zero) ? end - len : sizeof(zero);
        r = colo_write_at(d->image_fd, zero, n, d->state_offset + end - n);
    }
    if (r)
        return colo_fail_errno(err, r, "writing device state");
    d->last_len = len;
    return 0;
}

/* What the job's events told of it. */
struct job_watch {
    const char *id;
    bool succeeded; /* "waiting" and "pending" are on a successful job's way only, */
    bool aborted;   /* as "aborting" is on the other's */
};

static bool job_concluded(const struct colo_json *data, void *priv)
{
    const char *id = colo_json_get_str(data, "id"), *status = colo_json_get_str(data, "status");
    struct job_watch *w = priv;

    if (!id || !status || strcmp(id, w->id) != 0)
        return false;
    w->succeeded |= !strcmp(status, "waiting") || !strcmp(status, "pending");
    w->aborted |= !strcmp(status, "aborting");
    return !strcmp(status, "concluded");
}

static int start_job(struct colo_devstate *d, colo_time deadline, struct colo_err *err)
{
    struct colo_json_gen *g = colo_json_gen_new(false);

    snprintf(d->job, sizeof(d->job), JOB_NAME "%u", d->jobs++);
    colo_json_open(g, NULL);
    colo_json_put_str(g, "job-id", d->job);
    colo_json_put_str(g, "tag", COLO_CKPT_SNAPSHOT);
    colo_json_put_str(g, "vmstate", d->node);
    colo_json_open_array(g, "devices");
    colo_json_put_str(g, NULL, d->node);
    colo_json_close_array(g);
    colo_json_close(g);
    return run(d, "snapshot-load", colo_json_gen_finish(g), deadline, NULL, err);
}

/* The job is over, and not well by its events: what does QEMU say? */
static int job_result(struct colo_devstate *d, colo_time deadline, struct colo_err *err)
{
    const struct colo_json *job;
    struct colo_json *list;
    const char *id, *why;
    bool found = false;
    int rc = 0;
    size_t i;

    if (colo_qmp_cmd(d->qmp, "query-jobs", NULL, deadline, &list, err) < 0)
        return -1;
    for (i = 0; i < colo_json_len(list) && rc == 0; i++) {
        job = colo_json_at(list, i);
        id = colo_json_get_str(job, "id");
        if (!id || strcmp(id, d->job) != 0)
            continue;
        found = true;
        why = colo_json_get_str(job, "error");
        if (colo_json_get(job, "error"))
            rc = colo_fail(err, COLO_ERR_LOCAL, "device-state-load",
                           "the device model did not load the state: %s", why ? why : "no reason");
    }
    colo_json_free(list);
    if (!found)
        rc = colo_fail(err, COLO_ERR_LOCAL, "device-state-load",
                       "the device model does not know of its job %s", d->job);
    return rc;
}

static int load_by_snapshot(struct colo_devstate *d, const void *buf, size_t len,
                            colo_time deadline, struct colo_err *err)
{
    struct job_watch watch = {.id = d->job};
    char *id;
    int rc;

    if (make_room(d, len, deadline, err) < 0 || put_state(d, buf, len, err) < 0)
        return -1;
    colo_qmp_drop_events(d->qmp, "JOB_STATUS_CHANGE");
    if (start_job(d, deadline, err) < 0)
        return -1;
    rc = colo_qmp_wait_event(d->qmp, "JOB_STATUS_CHANGE", job_concluded, &watch, deadline, err);
    if (rc < 0)
        return colo_err_prefix(err, "loading device state");
    /* the guest waits for us: no question whose answer the events have given */
    if (!watch.succeeded || watch.aborted)
        rc = job_result(d, deadline, err);
    /* a job that is not dismissed stays in QEMU's list, nothing worse */
    id = argument("id", d->job);
    if (id)
        (void)colo_qmp_post(d->qmp, "job-dismiss", id, deadline, NULL);
    free(id);
    colo_qmp_drop_events(d->qmp, "JOB_STATUS_CHANGE");
    return rc;
}

static int load_directly(struct colo_devstate *d, const void *buf, size_t len, colo_time deadline,
                         struct colo_err *err)
{
    int r = ftruncate(d->save_fd, 0) ? errno : colo_write_at(d->save_fd, buf, len, 0);

    if (r)
        return colo_fail_errno(err, r, "%s", d->save_path);
    return run(d, "xen-load-devices-state", argument("filename", d->save_path), deadline, NULL,
               err);
}

int colo_devstate_load(struct colo_devstate *d, const void *buf, size_t len, colo_time deadline,
                       struct colo_err *err)
{
    if (len > COLO_DEVSTATE_MAX)
        return colo_fail(err, COLO_ERR_PROTOCOL, "device-state-size",
                         "%zu bytes of device state, more than %zu", len, COLO_DEVSTATE_MAX);
    if (len < sizeof(QEVM_MAGIC) || memcmp(buf, QEVM_MAGIC, sizeof(QEVM_MAGIC) - 1) != 0)
        return colo_fail(err, COLO_ERR_PROTOCOL, "device-state-format",
                         "what the peer sent as device state was not saved by a QEMU");
    if (d->by_snapshot)
        return load_by_snapshot(d, buf, len, deadline, err);
    return load_directly(d, buf, len, deadline, err);
}
