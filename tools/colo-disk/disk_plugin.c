/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The nbdkit plugin: two exports of one disk.  `primary` is for the other host, over TLS with the
 * session's key alone; `secondary` for root's processes on this host, over a unix socket.
 */
#include <cap-ng.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config.h"
#include "disk.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#define PRIMARY   "primary" /* unless it is given another name */
#define SECONDARY "secondary"

static struct colo_disk_config cfg = {.memory = 256 << 20};
static char *control, *socket_path;
static const char *primary_export;
static unsigned int alone_seconds;
static int ready_fd = -1;
static uint16_t port;
static struct colo_disk *disk;
static struct disk_server server;
static bool serving;

/* ---- configuration: `colo-disk serve` is what gives it ---- */

static int keep(char **to, const char *value)
{
    free(*to);
    *to = strdup(value);
    return *to ? 0 : -1;
}

static int set_size(const char *value)
{
    int64_t n = nbdkit_parse_size(value);

    if (n < 0)
        return -1;
    cfg.memory = (uint64_t)n;
    return 0;
}

static int set_bool(bool *to, const char *value)
{
    int r = nbdkit_parse_bool(value);

    *to = r > 0;
    return r < 0 ? -1 : 0;
}

static int disk_config(const char *key, const char *value)
{
    static const struct {
        const char *key;
        const char **to;
    } texts[] = {
        {"target", &cfg.target}, {"session", &cfg.session}, {"state-dir", &cfg.state_dir},
        {"active", &cfg.active}, {"hidden", &cfg.hidden},   {"export", &primary_export},
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (!strcmp(key, texts[i].key))
            return keep((char **)texts[i].to, value);
    if (!strcmp(key, "control"))
        return keep(&control, value);
    if (!strcmp(key, "secondary"))
        return keep(&socket_path, value);
    if (!strcmp(key, "memory"))
        return set_size(value);
    if (!strcmp(key, "raw"))
        return set_bool(&cfg.raw, value);
    if (!strcmp(key, "standalone"))
        return set_bool(&cfg.standalone, value);
    if (!strcmp(key, "port"))
        return nbdkit_parse_uint16_t(key, value, &port);
    if (!strcmp(key, "alone"))
        return nbdkit_parse_unsigned(key, value, &alone_seconds);
    if (!strcmp(key, "ready-fd"))
        return nbdkit_parse_int(key, value, &ready_fd);
    nbdkit_error("unknown parameter '%s'", key);
    return -1;
}

static int disk_config_complete(void)
{
    if (!primary_export)
        primary_export = PRIMARY;
    if (!strcmp(primary_export, SECONDARY)) {
        nbdkit_error("the name " SECONDARY " is taken");
        return -1;
    }
    if (cfg.target && control && socket_path)
        return 0;
    nbdkit_error("target, control and secondary have to be given: see colo-disk(8)");
    return -1;
}

/* ---- the process ---- */

/* No connection is left, or there never was one. */
static void leave(void)
{
    if (serving)
        disk_server_fini(&server);
    serving = false;
    colo_disk_close(disk);
    disk = NULL;
    if (socket_path)
        unlink(socket_path);
}

/* The starter learns why, and so does the log. */
static int complain(const struct colo_err *err)
{
    nbdkit_error("%s", err->msg);
    if (ready_fd >= 0)
        dprintf(ready_fd, "%s: %s\n", err->reason, err->msg);
    leave();
    return -1;
}

static void disk_changed(void *priv)
{
    disk_server_wake(priv);
}

static void end_process(void)
{
    nbdkit_shutdown();
}

static void on_signal(int sig)
{
    (void)sig;
    disk_server_ask_end(&server);
}

/* nbdkit's own handlers would wait for connections that may never end. */
static void catch_signals(void)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP};
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaction(signals[i], &sa, NULL);
}

/* All files are open; to unlink and rename in root's own folders root needs no more. */
static int drop_privileges(struct colo_err *err)
{
    int r = 0;

    if (geteuid() == 0) {
        capng_clear(CAPNG_SELECT_BOTH);
        r = capng_apply(CAPNG_SELECT_BOTH);
    }
    if (r || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return colo_fail(err, COLO_ERR_LOCAL, "disk-privileges",
                         "privileges that are not needed cannot be given up (%d)", r);
    return 0;
}

static int disk_after_fork(void)
{
    struct colo_err err = {0};

    server.wake_fd = -1;
    cfg.changed = disk_changed;
    cfg.priv = &server;
    if (colo_disk_open(&cfg, &disk, &err) ||
        disk_server_init(&server, disk, alone_seconds * 1000 * COLO_MS, &err))
        return complain(&err);
    serving = true;
    server.port = port;
    server.end = end_process;
    server.guest_path = socket_path;
    catch_signals();
    if (disk_server_listen(&server, control, &err) || drop_privileges(&err) ||
        disk_server_start(&server, &err))
        return complain(&err);
    if (ready_fd >= 0) {
        /* nbdkit that is handed its sockets ends with its parent, which does not stay */
        prctl(PR_SET_PDEATHSIG, 0);
        dprintf(ready_fd, "ready\n");
        close(ready_fd);
        ready_fd = -1;
    }
    return 0;
}

static void disk_unload(void)
{
    leave();
    free(control);
    free(socket_path);
    socket_path = NULL;
    free((char *)cfg.target);
    free((char *)cfg.session);
    free((char *)cfg.state_dir);
    free((char *)cfg.active);
    free((char *)cfg.hidden);
}

/* ---- connections ---- */

static bool over_unix(void)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);

    return nbdkit_peer_name((struct sockaddr *)&peer, &len) == 0 && peer.ss_family == AF_UNIX;
}

static int disk_preconnect(int readonly)
{
    struct colo_disk_status st;

    (void)readonly;
    if (over_unix())
        return 0;
    colo_disk_get_status(disk, &st);
    if (st.state < COLO_DISK_TAKEOVER || st.state == COLO_DISK_FAILED)
        return 0;
    nbdkit_error("the other host's connections are not wanted any more: the disk is %s",
                 colo_disk_state_name(st.state));
    return -1;
}

static int disk_list_exports(int readonly, int is_tls, struct nbdkit_exports *exports)
{
    (void)readonly;
    return nbdkit_add_export(exports, is_tls ? primary_export : SECONDARY, NULL);
}

static int may_be_primary(void)
{
    if (cfg.standalone) {
        nbdkit_error("no host is primary to this disk");
        return -1;
    }
    if (nbdkit_is_tls() > 0)
        return 0;
    nbdkit_error("the export primary is for TLS connections alone");
    return -1;
}

static int may_be_secondary(void)
{
    int64_t uid;

    if (!over_unix()) {
        nbdkit_error("the export secondary is for this host alone");
        return -1;
    }
    uid = nbdkit_peer_uid();
    if (uid == 0 || uid == (int64_t)geteuid())
        return 0;
    nbdkit_error("the export secondary is not for uid %ld", (long)uid);
    return -1;
}

/* A handle is which export it is. */
static enum colo_disk_export handles[COLO_DISK_EXPORTS] = {COLO_DISK_PRIMARY, COLO_DISK_SECONDARY};

static void *disk_connect(int readonly)
{
    const char *name = nbdkit_export_name();

    (void)readonly;
    if (name && !strcmp(name, primary_export))
        return may_be_primary() ? NULL : &handles[COLO_DISK_PRIMARY];
    if (name && !strcmp(name, SECONDARY)) {
        if (may_be_secondary())
            return NULL;
        disk_server_guest(&server, 1);
        return &handles[COLO_DISK_SECONDARY];
    }
    nbdkit_error("no such export: there are %s and " SECONDARY, primary_export);
    return NULL;
}

static void disk_disconnect(void *handle)
{
    if (*(enum colo_disk_export *)handle == COLO_DISK_SECONDARY)
        disk_server_guest(&server, -1);
}

static int64_t disk_get_size(void *handle)
{
    (void)handle;
    return (int64_t)colo_disk_size(disk);
}

static int yes(void *handle)
{
    (void)handle;
    return 1;
}

static int no(void *handle)
{
    (void)handle;
    return 0;
}

static int native_fua(void *handle)
{
    (void)handle;
    return NBDKIT_FUA_NATIVE;
}

static int native_cache(void *handle)
{
    (void)handle;
    return NBDKIT_CACHE_NATIVE;
}

static int disk_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    (void)handle;
    *minimum = 1;
    *preferred = COLO_BLOCK;
    *maximum = 32 << 20;
    return 0;
}

/* ---- requests ---- */

static enum colo_disk_export of(void *handle)
{
    return *(enum colo_disk_export *)handle;
}

static int done(int r)
{
    errno = r;
    return r ? -1 : 0;
}

static int flags_of(uint32_t flags)
{
    return (flags & NBDKIT_FLAG_FUA ? COLO_DISK_FUA : 0) |
           (flags & NBDKIT_FLAG_MAY_TRIM ? COLO_DISK_TRIM : 0) |
           (flags & NBDKIT_FLAG_FAST_ZERO ? COLO_DISK_FAST : 0);
}

static int disk_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)flags;
    return done(colo_disk_read(disk, of(handle), buf, count, offset));
}

static int disk_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                       uint32_t flags)
{
    return done(colo_disk_write(disk, of(handle), buf, count, offset, flags_of(flags)));
}

static int disk_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    return done(colo_disk_zero(disk, of(handle), count, offset, flags_of(flags)));
}

static int disk_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    return done(colo_disk_trim(disk, of(handle), count, offset, flags_of(flags)));
}

static int disk_flush(void *handle, uint32_t flags)
{
    (void)flags;
    return done(colo_disk_flush(disk, of(handle)));
}

static int disk_cache(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)flags;
    return done(colo_disk_cache(disk, of(handle), count, offset));
}

static int add_extent(void *priv, uint64_t offset, uint64_t len, bool data)
{
    uint32_t type = data ? 0 : NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO;

    return nbdkit_add_extent(priv, offset, len, type) ? errno : 0;
}

static int disk_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                        struct nbdkit_extents *extents)
{
    (void)flags;
    return done(colo_disk_extents(disk, of(handle), count, offset, add_extent, extents));
}

static struct nbdkit_plugin plugin = {
    .name = "colo-disk",
    .version = COLO_VERSION,
    .longname = "the secondary's disk of a guest that xen-colo protects",
    .config = disk_config,
    .config_complete = disk_config_complete,
    .after_fork = disk_after_fork,
    .unload = disk_unload,
    .preconnect = disk_preconnect,
    .list_exports = disk_list_exports,
    .open = disk_connect,
    .close = disk_disconnect,
    .get_size = disk_get_size,
    .block_size = disk_block_size,
    .can_write = yes,
    .can_flush = yes,
    .can_trim = yes,
    .can_zero = yes,
    .can_fast_zero = yes,
    .can_extents = yes,
    .can_multi_conn = yes,
    .is_rotational = no,
    .can_fua = native_fua,
    .can_cache = native_cache,
    .pread = disk_pread,
    .pwrite = disk_pwrite,
    .zero = disk_zero,
    .trim = disk_trim,
    .flush = disk_flush,
    .cache = disk_cache,
    .extents = disk_extents,
    .errno_is_preserved = 1,
};

struct nbdkit_plugin *plugin_init(void);
NBDKIT_REGISTER_PLUGIN(plugin)
