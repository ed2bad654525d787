/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which domain, and which session, the operator means; and that no two of us mean the same one.
 */
#include "xl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libxl.h>
#include <libxl_utils.h>
#include <xentoollog.h>

#include "libxl_colo_control.h"

#define ANSWER_TIME (5 * 1000 * COLO_MS)

int xl_find_guest(const char *guest, uint32_t *domid, char *name, struct colo_err *err)
{
    xentoollog_logger *lg =
        (xentoollog_logger *)xtl_createlogger_stdiostream(stderr, XTL_CRITICAL, 0);
    libxl_ctx *ctx = NULL;
    char *found = NULL;
    int rc = -1;

    if (!lg || libxl_ctx_alloc(&ctx, LIBXL_VERSION, 0, lg)) {
        colo_fail(err, COLO_ERR_LOCAL, "no-xen",
                  "Xen's toolstack cannot be reached: is this a Xen host, and are you root?");
        goto out;
    }
    if (!libxl_domain_qualifier_to_domid(ctx, guest, domid))
        found = libxl_domid_to_name(ctx, *domid);
    if (!found || *domid == 0) {
        colo_fail(err, COLO_ERR_REFUSED, "no-such-guest",
                  "there is no guest \"%.128s\" on this host", guest);
        goto out;
    }
    snprintf(name, 128, "%s", found);
    rc = 0;
out:
    free(found);
    if (ctx)
        libxl_ctx_free(ctx);
    if (lg)
        xtl_logger_destroy(lg);
    return rc;
}

int xl_session_status(uint32_t domid, char **status, struct colo_err *err)
{
    static const char head[] = "{\"status\":";
    size_t len;
    char *line;

    if (colo_control_request_text(domid, "status", colo_now() + ANSWER_TIME, &line, err))
        return -1;
    len = strlen(line);
    if (len < sizeof(head) || strncmp(line, head, sizeof(head) - 1) != 0 || line[len - 1] != '}') {
        free(line);
        return colo_fail(err, COLO_ERR_PROTOCOL, "control-reply",
                         "the monitor of domain %" PRIu32 " answers something else than a status",
                         domid);
    }
    line[len - 1] = '\0';
    memmove(line, line + sizeof(head) - 1, len - sizeof(head) + 1);
    *status = line;
    return 0;
}

static bool is_meant(const char *guest, uint32_t domid, const char *status)
{
    struct colo_json *j;
    const char *name;
    char number[16];
    bool meant;

    snprintf(number, sizeof(number), "%" PRIu32, domid);
    if (!strcmp(guest, number))
        return true;
    if (colo_json_parse(status, strlen(status), &j, NULL))
        return false;
    name = colo_json_get_str(j, "guest");
    meant = name && !strcmp(name, guest);
    colo_json_free(j);
    return meant;
}

int xl_find_session(const char *guest, uint32_t *domid, char **status, struct colo_err *err)
{
    char name[128], *text;
    uint32_t *domids, there;
    size_t n, i;
    bool found = false;

    if (colo_control_list(&domids, &n, err))
        return -1;
    for (i = 0; i < n && !found; i++) {
        if (xl_session_status(domids[i], &text, err))
            continue; /* it has just ended */
        found = is_meant(guest, domids[i], text);
        if (!found) {
            free(text);
            continue;
        }
        *domid = domids[i];
        if (status)
            *status = text;
        else
            free(text);
    }
    free(domids);
    if (found)
        return 0;
    if (!xl_find_guest(guest, &there, name, err) || err->cls != COLO_ERR_REFUSED)
        return colo_fail(err, COLO_ERR_REFUSED, "not-protected",
                         "%.128s is not protected; xl remus --colo %.128s HOST protects it", guest,
                         guest);
    return -1;
}

/* An fcntl lock: unlike flock's it is not kept up by the monitor that is forked later. */
int xl_lock_guest(uint32_t domid, struct xl_lock *lock, struct colo_err *err)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat st, now;
    char path[64];

    lock->fd = -1;
    lock->domid = domid;
    if (colo_run_dir(err))
        return -1;
    snprintf(path, sizeof(path), COLO_RUN_DIR "/%" PRIu32 ".lock", domid);
    for (;;) {
        lock->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (lock->fd < 0)
            return colo_fail_errno(err, errno, "cannot open %s", path);
        if (fcntl(lock->fd, F_SETLK, &fl)) {
            int e = errno;

            close(lock->fd);
            lock->fd = -1;
            if (e == EACCES || e == EAGAIN)
                return colo_fail(err, COLO_ERR_REFUSED, "already-protected",
                                 "another xl remus has domain %" PRIu32 "; see xl colo-status",
                                 domid);
            return colo_fail_errno(err, e, "cannot lock %s", path);
        }
        /* Its last holder may have removed it between our open and our lock. */
        if (!fstat(lock->fd, &st) && !stat(path, &now) && st.st_ino == now.st_ino &&
            st.st_dev == now.st_dev)
            return 0;
        close(lock->fd);
    }
}

void xl_unlock_guest(struct xl_lock *lock)
{
    char path[64];

    if (lock->fd < 0)
        return;
    snprintf(path, sizeof(path), COLO_RUN_DIR "/%" PRIu32 ".lock", lock->domid);
    unlink(path);
    close(lock->fd);
    lock->fd = -1;
}
