/* SPDX-License-Identifier: GPL-2.0-only */
#include "colo_disk_record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "libxl_json.h"

#define MAGIC      "xen-colo-disk 1 "
#define SUM_DIGITS 16
#define RECORD_MAX (16u << 10)

static const char *const names[COLO_DISK_STATES] = {
    [COLO_DISK_SYNCING] = "syncing",       [COLO_DISK_LOCKSTEP] = "lockstep",
    [COLO_DISK_TAKEOVER] = "takeover",     [COLO_DISK_FOLDING] = "folding",
    [COLO_DISK_STANDALONE] = "standalone", [COLO_DISK_FAILED] = "failed",
    [COLO_DISK_ABORTED] = "aborted",
};

const char *colo_disk_state_name(enum colo_disk_state state)
{
    return (unsigned int)state < COLO_DISK_STATES ? names[state] : "?";
}

/* ---- where ---- */

/* A device is known by the name that the user gave it: what that links to changes between boots. */
static int full_name(const char *name, char *target, struct colo_err *err)
{
    char cwd[PATH_MAX];
    struct stat st;
    int n;

    if (stat(name, &st) == 0 && !S_ISBLK(st.st_mode)) {
        if (!realpath(name, target))
            return colo_fail_errno(err, errno, "%s", name);
        return 0;
    }
    if (name[0] != '/' && !getcwd(cwd, sizeof(cwd)))
        return colo_fail_errno(err, errno, "the current folder");
    n = snprintf(target, PATH_MAX, "%s%s%s", name[0] == '/' ? "" : cwd, name[0] == '/' ? "" : "/",
                 name);
    if (n >= PATH_MAX)
        return colo_fail_errno(err, ENAMETOOLONG, "%s", name);
    return 0;
}

int colo_disk_record_path(const char *dir, const char *name, const char *what, char *target,
                          char *path, struct colo_err *err)
{
    const char *base;
    int n;

    if (full_name(name, target, err))
        return -1;
    base = strrchr(target, '/') + 1;
    n = snprintf(path, PATH_MAX, "%s/%.100s-%016" PRIx64 ".%s", dir, base,
                 (uint64_t)XXH3_64bits(target, strlen(target)), what);
    if (n >= PATH_MAX)
        return colo_fail_errno(err, ENAMETOOLONG, "%s", dir);
    return 0;
}

/* ---- the text ---- */

char *colo_disk_record_text(const struct colo_disk_record *r)
{
    struct colo_json_gen *g = colo_json_gen_new(false);
    char *json, *text = NULL;
    int n;

    if (!g)
        return NULL;
    colo_json_open(g, NULL);
    colo_json_put_str(g, "target", r->target);
    colo_json_put_int(g, "size", (int64_t)r->size);
    colo_json_put_str(g, "session", r->session);
    colo_json_put_str(g, "state", colo_disk_state_name(r->state));
    colo_json_put_int(g, "checkpoint", (int64_t)r->checkpoint);
    /* as signed ones, since JSON's reader has no others */
    colo_json_put_int(g, "journal_id", (int64_t)r->journal_id);
    colo_json_put_int(g, "journal_len", (int64_t)r->journal_len);
    colo_json_close(g);
    json = colo_json_gen_finish(g);
    if (json) {
        n = asprintf(&text, MAGIC "%016" PRIx64 "\n%s\n", (uint64_t)XXH3_64bits(json, strlen(json)),
                     json);
        if (n < 0)
            text = NULL;
    }
    free(json);
    return text;
}

static int bad(struct colo_err *err, const char *what)
{
    return colo_fail(err, COLO_ERR_PROTOCOL, "disk-record", "the record of a disk: %s", what);
}

static int read_members(const struct colo_json *j, struct colo_disk_record *r, struct colo_err *err)
{
    const char *target = colo_json_get_str(j, "target"), *state = colo_json_get_str(j, "state");
    const char *session = colo_json_get_str(j, "session");
    int64_t size = colo_json_get_int(j, "size", -1), n = colo_json_get_int(j, "checkpoint", -1);
    int64_t len = colo_json_get_int(j, "journal_len", -1);

    if (!target || target[0] != '/' || strlen(target) >= sizeof(r->target) || !session ||
        strlen(session) >= sizeof(r->session) || !state || size <= 0 || n < 0 || len < 0)
        return bad(err, "a member is missing or wrong");
    while (r->state < COLO_DISK_STATES && strcmp(state, names[r->state]) != 0)
        r->state++;
    if (r->state == COLO_DISK_STATES)
        return bad(err, "no such state");
    memcpy(r->target, target, strlen(target));
    memcpy(r->session, session, strlen(session));
    r->size = (uint64_t)size;
    r->checkpoint = (uint64_t)n;
    r->journal_id = (uint64_t)colo_json_get_int(j, "journal_id", 0);
    r->journal_len = (uint64_t)len;
    return 0;
}

int colo_disk_record_parse(const char *text, size_t len, struct colo_disk_record *r,
                           struct colo_err *err)
{
    const size_t head = strlen(MAGIC) + SUM_DIGITS + 1;
    char sum[SUM_DIGITS + 1];
    struct colo_json *j;
    int rc;

    memset(r, 0, sizeof(*r));
    if (len < head + 1 || memcmp(text, MAGIC, strlen(MAGIC)) != 0 || text[head - 1] != '\n' ||
        text[len - 1] != '\n')
        return bad(err, "not one of ours, or of another version");
    snprintf(sum, sizeof(sum), "%016" PRIx64, (uint64_t)XXH3_64bits(text + head, len - head - 1));
    if (memcmp(sum, text + strlen(MAGIC), SUM_DIGITS) != 0)
        return bad(err, "its checksum is wrong");
    if (colo_json_parse(text + head, len - head - 1, &j, err))
        return -1;
    rc = read_members(j, r, err);
    colo_json_free(j);
    return rc;
}

/* ---- the file ---- */

static int sync_folder_of(const char *path, struct colo_err *err)
{
    const char *slash = strrchr(path, '/');
    char dir[PATH_MAX];
    int fd, r;

    snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    fd = open(dir[0] ? dir : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return colo_fail_errno(err, errno, "%s", dir);
    r = fsync(fd);
    if (r)
        colo_fail_errno(err, errno, "%s", dir);
    close(fd);
    return r ? -1 : 0;
}

static int write_all(int fd, const char *text)
{
    size_t len = strlen(text);
    ssize_t n = write(fd, text, len);

    if (n >= 0 && (size_t)n != len)
        errno = ENOSPC;
    return n == (ssize_t)len ? fsync(fd) : -1;
}

int colo_disk_record_save(const char *path, const struct colo_disk_record *r, struct colo_err *err)
{
    char *text = colo_disk_record_text(r);
    char draft[PATH_MAX + 8];
    int fd, rc = -1;

    if (!text)
        return colo_fail_errno(err, ENOMEM, "the record of a disk");
    snprintf(draft, sizeof(draft), "%s.new", path);
    fd = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        colo_fail_errno(err, errno, "the record %s", draft);
    } else if (write_all(fd, text) || rename(draft, path)) {
        colo_fail_errno(err, errno, "the record %s", path);
        unlink(draft);
    } else {
        rc = sync_folder_of(path, err);
    }
    if (fd >= 0)
        close(fd);
    free(text);
    return rc;
}

int colo_disk_record_load(const char *path, struct colo_disk_record *r, bool *there,
                          struct colo_err *err)
{
    char text[RECORD_MAX];
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    *there = fd >= 0;
    if (fd < 0)
        return errno == ENOENT ? 0 : colo_fail_errno(err, errno, "the record %s", path);
    n = read(fd, text, sizeof(text));
    close(fd);
    if (n < 0)
        return colo_fail_errno(err, errno, "the record %s", path);
    return colo_disk_record_parse(text, (size_t)n, r, err) ? colo_err_prefix(err, "%s", path) : 0;
}

int colo_disk_record_remove(const char *path, struct colo_err *err)
{
    if (unlink(path))
        return errno == ENOENT ? 0 : colo_fail_errno(err, errno, "the record %s", path);
    return sync_folder_of(path, err);
}
