/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A device model of the few commands that a session uses.  What a real one would refuse is noted in
 * `bad`, so that a test sees misuse that happens to work here.
 */
#include <endian.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fakeqmp.h"

static const char *const commands[] = {
    "query-commands",         "stop",         "cont",         "xen-set-global-dirty-log",
    "blockdev-add",           "blockdev-del", "query-jobs",   "query-named-block-nodes",
    "snapshot-load",          "job-dismiss",  "query-status", "xen-save-devices-state",
    "xen-load-devices-state",
};

static void __attribute__((format(printf, 2, 3))) bad(struct fakeqmp_model *m, const char *fmt, ...)
{
    va_list ap;

    if (m->bad[0])
        return;
    va_start(ap, fmt);
    vsnprintf(m->bad, sizeof(m->bad), fmt, ap);
    va_end(ap);
}

static bool query_commands(struct fakeqmp *f, struct fakeqmp_model *m)
{
    char text[1024] = "[";
    size_t i, n = 1;

    for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (!m->lacks || !strstr(m->lacks, commands[i]))
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%s{\"name\": \"%s\"}",
                                  n > 1 ? ", " : "", commands[i]);
    snprintf(text + n, sizeof(text) - n, "]");
    return fakeqmp_return(f, text);
}

static bool save(struct fakeqmp *f, struct fakeqmp_model *m, const struct colo_json *args)
{
    const char *name = colo_json_get_str(args, "filename");
    int fd = name ? open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;

    if (fd < 0)
        return fakeqmp_error(f, "no such file");
    if (colo_json_get_bool(args, "live", true))
        bad(m, "xen-save-devices-state with live");
    if (write(fd, m->state, m->state_len) != (ssize_t)m->state_len)
        bad(m, "short write of %s", name);
    close(fd);
    m->saves++;
    return fakeqmp_return(f, "{}");
}

static bool load_file(struct fakeqmp_model *m, const char *name, uint64_t off)
{
    struct stat st;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t r;

    if (fd < 0)
        return false;
    free(m->loaded);
    m->loaded = NULL;
    if (fstat(fd, &st) < 0 || (uint64_t)st.st_size <= off) {
        close(fd);
        return false;
    }
    m->loaded_len = (size_t)st.st_size - off;
    m->loaded = malloc(m->loaded_len);
    r = m->loaded ? pread(fd, m->loaded, m->loaded_len, (off_t)off) : -1;
    close(fd);
    return r == (ssize_t)m->loaded_len && ++m->loads;
}

/* As a block layer would find it: snapshot table, L1 entry 1, the first cluster of the L2. */
static uint64_t state_offset(const char *name)
{
    uint64_t off[1] = {0}, at;
    int fd = open(name, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    if (pread(fd, off, 8, 64) == 8 && (at = be64toh(off[0])) && pread(fd, off, 8, (off_t)at) == 8 &&
        (at = be64toh(off[0])) && pread(fd, off, 8, (off_t)at + 8) == 8 &&
        (at = be64toh(off[0]) & ~(UINT64_C(1) << 63)) && pread(fd, off, 8, (off_t)at) == 8)
        off[0] = be64toh(off[0]) & ~(UINT64_C(1) << 63);
    else
        off[0] = 0;
    close(fd);
    return off[0];
}

static bool blockdev_add(struct fakeqmp *f, struct fakeqmp_model *m, const struct colo_json *args)
{
    const struct colo_json *file = colo_json_get(args, "file"),
                           *cache = colo_json_get(args, "cache");
    const char *node = colo_json_get_str(args, "node-name"),
               *name = colo_json_get_str(file, "filename");

    if (!node || !name || strlen(node) > 31)
        return fakeqmp_error(f, "bad arguments");
    if (m->node[0])
        bad(m, "node %s while %s is there", node, m->node);
    if (!colo_json_get_bool(cache, "no-flush", false) ||
        colo_json_get_bool(cache, "direct", true) || !colo_json_get_str(file, "locking") ||
        strcmp(colo_json_get_str(file, "locking"), "off") != 0)
        bad(m, "node %s: cache or locking", node);
    snprintf(m->node, sizeof(m->node), "%s", node);
    snprintf(m->file, sizeof(m->file), "%s", name);
    m->nodes++;
    return fakeqmp_return(f, "{}");
}

static bool blockdev_del(struct fakeqmp *f, struct fakeqmp_model *m, const struct colo_json *args)
{
    const char *node = colo_json_get_str(args, "node-name");

    if (!node)
        return fakeqmp_error(f, "bad arguments");
    if (!strcmp(node, m->node))
        m->node[0] = 0;
    else if (!m->stale_node)
        return fakeqmp_error(f, "Failed to find node");
    m->deleted++;
    return fakeqmp_return(f, "{}");
}

static bool job_event(struct fakeqmp *f, const struct fakeqmp_model *m, const char *job,
                      const char *status)
{
    char text[200];

    if (m->other_jobs &&
        !fakeqmp_event(f, "JOB_STATUS_CHANGE", "{\"status\": \"concluded\", \"id\": \"mirror0\"}"))
        return false;
    if (m->no_event)
        return true;
    snprintf(text, sizeof(text), "{\"status\": \"%s\", \"id\": \"%s\"}", status, job);
    return fakeqmp_event(f, "JOB_STATUS_CHANGE", text);
}

static bool snapshot_load(struct fakeqmp *f, struct fakeqmp_model *m, const struct colo_json *args)
{
    static const char *const good[] = {"created", "running", "waiting", "pending", NULL};
    static const char *const failed[] = {"created", "running", "aborting", NULL};
    const char *const *before = m->job_error ? failed : good;
    const char *job = colo_json_get_str(args, "job-id"), *node = colo_json_get_str(args, "vmstate");
    const char *device = colo_json_str(colo_json_at(colo_json_get(args, "devices"), 0));
    const char *tag = colo_json_get_str(args, "tag");

    if (!job || !tag || !node || !device || strcmp(node, m->node) != 0 || strcmp(device, node) != 0)
        return fakeqmp_error(f, "no such node");
    if (strcmp(tag, "ckpt") != 0 || m->running)
        bad(m, "snapshot-load of %s%s", tag, m->running ? " while running" : "");
    if (!m->job_error && !load_file(m, m->file, state_offset(m->file)))
        bad(m, "no state in %s", m->file);
    if (!m->event_first && !fakeqmp_return(f, "{}"))
        return false;
    for (; *before && !m->few_events; before++)
        if (!job_event(f, m, job, *before))
            return false;
    if (!job_event(f, m, job, "concluded"))
        return false;
    snprintf(m->job, sizeof(m->job), "%s", job);
    return !m->event_first || fakeqmp_return(f, "{}");
}

static bool query_jobs(struct fakeqmp *f, const struct fakeqmp_model *m)
{
    char text[400];

    if (!m->job[0])
        return fakeqmp_return(f, "[]");
    snprintf(text, sizeof(text), "[%s{\"id\": \"%s\", \"status\": \"concluded\"%s%s%s}]",
             m->other_jobs ? "{\"id\": \"mirror0\", \"error\": \"not ours\"}, " : "", m->job,
             m->job_error ? ", \"error\": \"" : "", m->job_error ? m->job_error : "",
             m->job_error ? "\"" : "");
    return fakeqmp_return(f, text);
}

static bool job_dismiss(struct fakeqmp *f, struct fakeqmp_model *m, const struct colo_json *args)
{
    const char *id = colo_json_get_str(args, "id");

    if (!id || strcmp(id, m->job) != 0)
        return fakeqmp_error(f, "Job not found");
    m->job[0] = 0;
    m->dismissed++;
    return fakeqmp_return(f, "{}");
}

bool fakeqmp_model_handler(struct fakeqmp *f, const char *command, const struct colo_json *args,
                           void *priv)
{
    struct fakeqmp_model *m = priv;
    const char *name;

    if (m->die_cmd && !strcmp(command, m->die_cmd))
        return false;
    if (m->fail_cmd && !strcmp(command, m->fail_cmd))
        return fakeqmp_error(f, "made to fail");
    if (m->lacks && strstr(m->lacks, command))
        return fakeqmp_error(f, "The command has not been found");
    if (!strcmp(command, "query-commands"))
        return query_commands(f, m);
    if (!strcmp(command, "stop") || !strcmp(command, "cont")) {
        m->running = command[0] == 'c';
        m->conts += m->running;
        m->stops += !m->running;
        return fakeqmp_return(f, "{}");
    }
    if (!strcmp(command, "query-status"))
        return fakeqmp_return(f, m->running ? "{\"status\": \"running\", \"running\": true}"
                                            : "{\"status\": \"paused\", \"running\": false}");
    if (!strcmp(command, "xen-set-global-dirty-log")) {
        m->dirty_log = colo_json_get_bool(args, "enable", false);
        return fakeqmp_return(f, "{}");
    }
    if (!strcmp(command, "query-named-block-nodes"))
        return fakeqmp_return(f, m->stale_node ? "[{\"node-name\": \"#block123\"}, "
                                                 "{\"node-name\": \"colo-ckpt0\"}, {}]"
                                               : "[{\"node-name\": \"#block123\"}]");
    if (!strcmp(command, "xen-save-devices-state"))
        return save(f, m, args);
    if (!strcmp(command, "xen-load-devices-state")) {
        name = colo_json_get_str(args, "filename");
        if (!name || !load_file(m, name, 0))
            return fakeqmp_error(f, "no such file");
        return fakeqmp_return(f, "{}");
    }
    if (!strcmp(command, "blockdev-add"))
        return blockdev_add(f, m, args);
    if (!strcmp(command, "blockdev-del"))
        return blockdev_del(f, m, args);
    if (!strcmp(command, "snapshot-load"))
        return snapshot_load(f, m, args);
    if (!strcmp(command, "query-jobs"))
        return query_jobs(f, m);
    if (!strcmp(command, "job-dismiss"))
        return job_dismiss(f, m, args);
    return fakeqmp_error(f, "The command has not been found");
}

void fakeqmp_model_fini(struct fakeqmp_model *m)
{
    free(m->loaded);
    m->loaded = NULL;
}
