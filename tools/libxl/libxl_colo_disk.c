/* SPDX-License-Identifier: LGPL-2.1-only */
#include "libxl_colo_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxl_colo_client.h"
#include "libxl_colo_control.h"
#include "libxl_colo_monitor_log.h"
#include "libxl_colo_relay.h"

static const struct colo_client_name server = {"the disk's colo-disk", "disk-gone"};

/* ---- what is there ---- */

static int size_of(const char *path, uint64_t *size, bool *kind)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int rc = -1;

    if (fd < 0)
        return -1;
    if (!fstat(fd, &st)) {
        *kind = S_ISREG(st.st_mode) || S_ISBLK(st.st_mode);
        *size = (uint64_t)st.st_size;
        rc = S_ISBLK(st.st_mode) ? ioctl(fd, BLKGETSIZE64, size) : 0;
    }
    close(fd);
    return rc;
}

static int check_target(const char *path, uint64_t size, struct colo_err *err)
{
    uint64_t here = 0;
    bool kind = false;

    if (size_of(path, &here, &kind))
        return colo_fail(err, COLO_ERR_REFUSED, "file-missing",
                         "%s: %s; on this host, make it with %llu bytes", path, strerror(errno),
                         (unsigned long long)size);
    if (!kind)
        return colo_fail(err, COLO_ERR_REFUSED, "disk-kind",
                         "%s is neither a file nor a block device", path);
    if (here != size)
        return colo_fail(err, COLO_ERR_REFUSED, "disk-size",
                         "%s has %llu bytes on this host, the guest's disk has %llu", path,
                         (unsigned long long)here, (unsigned long long)size);
    return 0;
}

/* ---- starting ---- */

static int status_of(struct colo_client *c, struct colo_json **st, struct colo_err *err)
{
    return colo_client_ask(c, colo_client_request("status"), NULL, NULL, st, err);
}

#define ARGS 16

/* "--key=value" for each that has a value, "value" for those without a key; to be freed as one. */
static char *arguments(const char *argv[ARGS], const char *const words[][2], size_t n)
{
    char *text = NULL, *at;
    size_t len, i;
    FILE *f = open_memstream(&text, &len);

    if (!f)
        return NULL;
    for (i = 0; i < n; i++)
        if (words[i][1])
            fprintf(f, "%s%s%s%s%c", words[i][0] ? "--" : "", words[i][0] ? words[i][0] : "",
                    words[i][0] ? "=" : "", words[i][1], '\0');
    if (fclose(f))
        return NULL;
    for (i = 0, at = text; at < text + len && i < ARGS - 1; at += strlen(at) + 1)
        argv[i++] = at;
    argv[i] = NULL;
    return text;
}

static int run_server(const struct colo_disk_undo *undo, uint32_t i, const libxl_device_disk *disk,
                      const struct colo_caps *theirs, const char *address, const char *log,
                      struct colo_err *err)
{
    char port[16];
    const char *const words[][2] = {
        {NULL, colo_client_program("colo-disk", "XEN_COLO_DISK")},
        {NULL, "serve"},
        {"session", theirs->session},
        {"control", undo->control[i]},
        {"secondary", undo->guest[i]},
        {"listen", disk->colo_host ? "any" : address}, /* that may be a name, or another's */
        {"port", disk->colo_port ? port : NULL},
        {"export", disk->colo_export},
        {"tls-psk", undo->key},
        {"log", log},
        {"active", disk->active_disk},
        {"hidden", disk->hidden_disk},
        {NULL, disk->pdev_path},
    };
    const char *argv[ARGS];
    char *text;
    int rc;

    snprintf(port, sizeof(port), "%d", disk->colo_port);
    text = arguments(argv, words, sizeof(words) / sizeof(words[0]));
    rc = text ? colo_client_run((char *const *)argv, "disk-start", err)
              : colo_fail_errno(err, ENOMEM, "colo-disk");

    free(text);
    return rc;
}

static int start_server(struct colo_disks *d, const libxl_device_disk *disk,
                        const struct colo_caps *theirs, const char *address, const char *guest,
                        uint16_t *port, struct colo_err *err)
{
    char log[COLO_LOG_PATH];
    struct colo_disk_undo *undo = d->undo;
    struct colo_json *st;
    uint32_t i = d->n;

    colo_log_path_disk(log, disk->vdev, guest);
    snprintf(undo->control[i], COLO_DISK_PATH, COLO_RUN_DIR "/disk-%.36s-%.15s.sock",
             theirs->session, disk->vdev);
    snprintf(undo->guest[i], COLO_DISK_PATH, COLO_RUN_DIR "/disk-%.36s-%.15s.nbd", theirs->session,
             disk->vdev);
    undo->n = i + 1;
    if (run_server(undo, i, disk, theirs, address, log, err) ||
        colo_client_open(undo->control[i], &server, &d->server[i], err))
        return -1;
    d->n = i + 1;
    if (colo_client_ask(d->server[i], colo_client_request("watch"), NULL, NULL, NULL, err) ||
        status_of(d->server[i], &st, err))
        return -1;
    *port = (uint16_t)colo_json_get_int(st, "port", 0);
    colo_json_free(st);
    return 0;
}

int colo_disks_start(struct colo_disks *d, struct colo_disk_undo *undo,
                     const libxl_domain_config *cfg, const struct colo_caps *theirs,
                     const char *address, struct colo_caps_disk mine[COLO_MAX_DISKS],
                     struct colo_err *err)
{
    const char *guest = cfg->c_info.name;
    uint32_t n = 0, all = 0;
    int rc = 0;

    d->undo = undo;
    for (int i = 0; i < cfg->num_disks; i++)
        all += colo_disk_is_replicated(&cfg->disks[i]);
    /* one without a server would be opened by the second copy's device model itself */
    if (all != theirs->disks)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-config",
                         "the primary tells of %u disks, its configuration has %u", theirs->disks,
                         all);
    if (!all)
        return 0;
    snprintf(undo->key, sizeof(undo->key), COLO_RUN_DIR "/disk-%.36s.psk", theirs->session);
    if (colo_run_dir(err) || colo_relay_put_key(undo->key, theirs->disk_key, err))
        return -1;
    for (int i = 0; i < cfg->num_disks && !rc; i++) {
        const libxl_device_disk *disk = &cfg->disks[i];
        const struct colo_caps_disk *there = &theirs->disk[n];

        if (!colo_disk_is_replicated(disk))
            continue;
        if (!disk->vdev || strcmp(disk->vdev, there->vdev) != 0 || !disk->pdev_path)
            rc = colo_fail(err, COLO_ERR_PROTOCOL, "bad-config",
                           "the primary's list of disks is not that of its configuration");
        else if (!(rc = check_target(disk->pdev_path, there->size, err)))
            rc = start_server(d, disk, theirs, address, guest, &mine[n].port, err);
        if (!rc)
            snprintf(mine[n].vdev, sizeof(mine[n].vdev), "%s", disk->vdev);
        if (rc)
            colo_err_prefix(err, "disk %s", disk->vdev ? disk->vdev : "?");
        n++;
    }
    return rc;
}

/* Nobody has to connect any more: the servers read it for each connection. */
static void drop_key(struct colo_disk_undo *undo)
{
    if (undo->key[0])
        unlink(undo->key);
    undo->key[0] = '\0';
}

/* ---- the device model ---- */

int colo_disks_wrap(const struct colo_disks *d, libxl_domain_config *cfg, const char *device_model,
                    struct colo_err *err)
{
    char *text = NULL, *wrapper;
    uint32_t n = 0;
    size_t len;
    FILE *f;

    if (!d->n)
        return 0;
    f = open_memstream(&text, &len);
    if (!f)
        return colo_fail_errno(err, ENOMEM, "the device model's disks");
    for (int i = 0; i < cfg->num_disks; i++) {
        libxl_device_disk *disk = &cfg->disks[i];

        if (!colo_disk_is_replicated(disk) || n == d->n)
            continue;
        /* libxl would use a driver of QEMU's that it does not have */
        libxl_defbool_set(&disk->colo_enable, false);
        fprintf(f, "%s\t%s\n", disk->pdev_path, d->undo->guest[n++]);
    }
    wrapper = strdup(colo_client_program("colo-dm", "XEN_COLO_DM_WRAPPER"));
    if (fclose(f) || !wrapper || setenv("XEN_COLO_DISKS", text, 1) ||
        setenv("XEN_COLO_DM", device_model, 1)) {
        free(text);
        free(wrapper);
        return colo_fail_errno(err, ENOMEM, "the device model's disks");
    }
    free(text);
    free(cfg->b_info.device_model);
    cfg->b_info.device_model = wrapper;
    return 0;
}

int colo_disks_unwrap(libxl_ctx *ctx, uint32_t domid, const char *override, struct colo_err *err)
{
    libxl_domain_config cfg;
    uint8_t *data = NULL;
    char *json = NULL;
    int len = 0, rc;

    unsetenv("XEN_COLO_DISKS");
    unsetenv("XEN_COLO_DM");
    libxl_domain_config_init(&cfg);
    rc = libxl_userdata_retrieve(ctx, domid, "libxl-json", &data, &len);
    if (!rc && data)
        rc = libxl_domain_config_from_json(ctx, &cfg, (char *)data);
    if (!rc) {
        free(cfg.b_info.device_model);
        cfg.b_info.device_model = override ? strdup(override) : NULL;
        json = libxl_domain_config_to_json(ctx, &cfg);
    }
    rc = json ? libxl_userdata_store(ctx, domid, "libxl-json", (uint8_t *)json,
                                     (int)strlen(json) + 1)
         : rc ? rc
              : ERROR_FAIL;
    free(json);
    free(data);
    libxl_domain_config_dispose(&cfg);
    return rc ? colo_fail(err, COLO_ERR_LOCAL, "create-failed",
                          "the configuration that libxl keeps of domain %u could not be put right "
                          "(error %d)",
                          domid, rc)
              : 0;
}

/* ---- the lock-step ---- */

/* The same of all, at a time; the first error is told. */
static int ask_all(struct colo_disks *d, const char *what, uint64_t checkpoint,
                   struct colo_err *err)
{
    struct colo_err *first = err;
    bool asked[COLO_MAX_DISKS] = {false};
    int rc = 0;

    for (uint32_t i = 0; i < d->n; i++) {
        struct colo_json_gen *g = colo_client_request(what);

        if (checkpoint) {
            colo_json_put_int(g, "checkpoint", (int64_t)checkpoint);
            colo_json_put_int(g, "hold_ms",
                              COLO_T_BUILD / COLO_MS); /* all of memory, at the first */
        }
        asked[i] = !colo_client_send(d->server[i], g, first);
        if (!asked[i]) {
            rc = -1;
            first = NULL;
        }
    }
    for (uint32_t i = 0; i < d->n; i++)
        if (asked[i] && colo_client_reply(d->server[i], NULL, NULL, NULL, first)) {
            rc = -1;
            first = NULL;
        }
    return rc;
}

int colo_disks_hold(void *disks, uint64_t checkpoint, struct colo_err *err)
{
    struct colo_disks *d = disks;

    d->prepared = checkpoint;
    return ask_all(d, "prepare", checkpoint, err);
}

int colo_disks_commit(void *disks, uint64_t checkpoint, struct colo_err *err)
{
    struct colo_disks *d = disks;

    d->prepared = 0;
    drop_key(d->undo); /* the primary's mirrors are connected */
    return ask_all(d, "commit", checkpoint, err);
}

/* ---- the end ---- */

int colo_disks_takeover(void *disks, struct colo_err *err)
{
    struct colo_disks *d = disks;

    if (d->prepared)
        (void)ask_all(d, "cancel", 0, NULL);
    d->prepared = 0;
    drop_key(d->undo);
    return ask_all(d, "takeover", 0, err);
}

static bool is_served(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool served = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;

    if (fd >= 0)
        close(fd);
    return served;
}

int colo_disks_wait_free(const libxl_domain_config *cfg, colo_time deadline, struct colo_err *err)
{
    for (int i = 0; i < cfg->num_disks; i++) {
        const libxl_device_disk *disk = &cfg->disks[i];

        if (!colo_disk_is_replicated(disk) || !disk->pdev_path)
            continue;
        while (is_served(disk->pdev_path)) {
            if (colo_now() >= deadline)
                return colo_fail(err, COLO_ERR_TIMEOUT, "disk-in-use",
                                 "disk %s (%s) is still served by colo-disk", disk->vdev,
                                 disk->pdev_path);
            poll(NULL, 0, 50); /* nobody tells when a lock is let go of, but by giving it to us */
        }
    }
    return 0;
}

void colo_disks_close(struct colo_disks *d)
{
    for (uint32_t i = 0; i < d->n; i++)
        colo_client_close(d->server[i]);
    d->n = 0;
}

/* Connect to those that are still there. */
static void attach(struct colo_disks *d, struct colo_disk_undo *undo)
{
    memset(d, 0, sizeof(*d));
    d->undo = undo;
    for (uint32_t i = 0; i < undo->n && i < COLO_MAX_DISKS; i++)
        if (undo->control[i][0] &&
            !colo_client_open(undo->control[i], &server, &d->server[d->n], NULL))
            d->n++;
}

void colo_disks_undo(struct colo_disks *d, struct colo_disk_undo *undo)
{
    struct colo_disks all;

    if (d)
        colo_disks_close(d);
    attach(&all, undo);
    (void)ask_all(&all, "abort", 0, NULL);
    colo_disks_close(&all);
    for (uint32_t i = 0; i < undo->n && i < COLO_MAX_DISKS; i++) { /* of one that was killed */
        unlink(undo->control[i]);
        unlink(undo->guest[i]);
    }
    drop_key(undo);
    memset(undo, 0, sizeof(*undo));
}

int colo_disks_undo_takeover(struct colo_disk_undo *undo, struct colo_err *err)
{
    struct colo_disks all;
    int rc;

    attach(&all, undo);
    rc = all.n == undo->n ? 0
                          : colo_fail(err, COLO_ERR_LOCAL, "disk-gone",
                                      "%u of the guest's %u disks have no server any more",
                                      undo->n - all.n, undo->n);
    all.prepared = 1; /* maybe */
    if (colo_disks_takeover(&all, rc ? NULL : err))
        rc = -1;
    colo_disks_close(&all);
    return rc;
}
