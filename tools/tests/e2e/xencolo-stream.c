/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Our streams as files, to be held against stock's: runs in dom0.
 *
 *   xencolo-stream save DOMID FILE        a file as `xl save` writes it; the domain stays suspended
 *   xencolo-stream libxc-save DOMID FILE  the libxc stream only; the domain runs on
 *   xencolo-stream restore FILE NAME      a file of either origin becomes the running domain NAME
 */
#include <errno.h>
#include <fcntl.h>
#include <libxl_utils.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libxl_colo_guest.h"
#include "xc_sr_restore.h"
#include "xc_sr_save.h"

#define PATIENCE (120000 * COLO_MS) /* with any one step */

struct work {
    libxl_ctx *ctx;
    xentoollog_logger *lg;
    libxl_domain_config cfg;
    struct colo_guest guest;
    struct xc_sr_channel ch;
    struct libxl_stream ls;
    int fd;
    struct colo_err err;
};

static int open_file(struct work *w, const char *path, bool writing)
{
    int flags = writing ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY;

    w->fd = open(path, flags | O_CLOEXEC, 0600);
    if (w->fd < 0)
        return colo_fail_errno(&w->err, errno, "%s", path);
    w->ls.ch = &w->ch;
    w->ls.io_timeout = PATIENCE;
    return xc_sr_channel_init(&w->ch, writing ? -1 : w->fd, writing ? w->fd : -1, -1, &w->err);
}

/* ---- save ---- */

static int begin_file(struct work *w, uint32_t domid)
{
    char *json;
    int rc;

    if (libxl_retrieve_domain_configuration(w->ctx, domid, &w->cfg, NULL))
        return colo_fail(&w->err, COLO_ERR_LOCAL, NULL, "domain %u has no configuration", domid);
    json = libxl_domain_config_to_json(w->ctx, &w->cfg);
    if (!json)
        return colo_fail_errno(&w->err, ENOMEM, "the configuration of domain %u", domid);
    rc = libxl_xl_header_write(&w->ch, json, colo_now() + PATIENCE, &w->err);
    free(json);
    if (rc < 0 || libxl_stream_write_header(&w->ls, &w->err) < 0)
        return -1;
    return libxl_stream_write_libxc_context(&w->ls, &w->err);
}

static int save_libxc(struct work *w)
{
    struct xc_sr_save s = {
        .dom = w->guest.dom,
        .ch = &w->ch,
        .explicit_pfns = true,
        .xen_major = 4,
        .xen_minor = 17,
    };
    int rc = -1;

    if (xc_sr_save_init(&s, &w->err) < 0)
        return -1;
    if (xc_sr_save_begin(&s, &w->err) == 0 && xc_sr_save_mark_all(&s, &w->err) == 0 &&
        xc_sr_save_send_dirty(&s, NULL, NULL, &w->err) == 0)
        rc = xc_sr_save_tail(&s, XC_SR_REC_END, &w->err);
    if (rc == 0)
        printf("%llu pages, %llu bytes\n", (unsigned long long)s.stats.sent,
               (unsigned long long)s.stats.bytes);
    xc_sr_save_fini(&s);
    return rc;
}

static int end_file(struct work *w)
{
    struct xc_sr_domain *d = w->guest.dom;
    void *state = NULL;
    size_t len;
    int rc;

    if (d->ops->devices_save(d, &state, &len, &w->err) < 0)
        return -1;
    rc = libxl_stream_write_emulator(&w->ls, state, len, &w->err);
    free(state);
    return rc < 0 ? -1 : libxl_stream_write_end(&w->ls, &w->err);
}

static int save(struct work *w, uint32_t domid, const char *path, bool whole)
{
    struct xc_sr_domain *d;
    int rc = -1;

    if (open_file(w, path, true) < 0 || colo_guest_open(&w->guest, domid, false, &w->err) < 0 ||
        (whole && begin_file(w, domid) < 0))
        return -1;
    d = w->guest.dom;
    if (d->ops->suspend(d, colo_now() + PATIENCE, &w->err) == 0 && save_libxc(w) == 0)
        rc = whole ? end_file(w) : 0;
    if (!whole || rc < 0) /* a saved guest is at rest, any other runs on */
        if (d->ops->resume(d, rc < 0 ? NULL : &w->err) < 0)
            rc = -1;
    return rc;
}

/* ---- restore ---- */

static int create(struct work *w, const char *name, uint32_t *domid)
{
    char *json = NULL;
    int rc = -1;

    if (libxl_xl_header_read(&w->ch, colo_now() + PATIENCE, &json, &w->err) < 0 ||
        libxl_stream_read_header(&w->ls, &w->err) < 0 ||
        libxl_stream_read_libxc_context(&w->ls, &w->err) < 0)
        goto out;
    if (libxl_domain_config_from_json(w->ctx, &w->cfg, json)) {
        colo_fail(&w->err, COLO_ERR_PROTOCOL, NULL, "the file's configuration is no good");
        goto out;
    }
    free(w->cfg.c_info.name);
    w->cfg.c_info.name = strdup(name);
    if (libxl_domain_create_new(w->ctx, &w->cfg, domid, NULL, NULL)) {
        colo_fail(&w->err, COLO_ERR_LOCAL, NULL, "cannot create %s", name);
        goto out;
    }
    rc = 0;
out:
    free(json);
    return rc;
}

static int read_devices(struct work *w, void **state, size_t *len)
{
    uint32_t end;

    if (libxl_stream_read_emulators(&w->ls, state, len, &end, NULL, &w->err) < 0)
        return -1;
    if (end == LIBXL_SR_REC_END)
        return 0;
    free(*state);
    *state = NULL;
    return colo_fail(&w->err, COLO_ERR_PROTOCOL, NULL, "the file does not end with END");
}

static int overlay(struct work *w, uint32_t domid)
{
    struct xc_sr_restore r = {.ch = &w->ch};
    struct xc_sr_domain *d;
    void *state = NULL;
    uint32_t last;
    size_t len;
    int rc = -1;

    if (colo_guest_open(&w->guest, domid, true, &w->err) < 0 ||
        colo_qmp_cmd(w->guest.qmp, "stop", NULL, colo_now() + PATIENCE, NULL, &w->err) < 0 ||
        colo_guest_bound_gfns(&w->guest, w->cfg.b_info.max_memkb, &r.max_gfns, &w->err) < 0)
        return -1;
    r.dom = d = w->guest.dom;
    if (xc_sr_restore_init(&r, &w->err) < 0)
        return -1;
    if (xc_sr_restore_headers(&r, &w->err) < 0 || xc_sr_restore_load(&r, &last, &w->err) < 0 ||
        read_devices(w, &state, &len) < 0 || d->ops->devices_load(d, state, len, &w->err) < 0 ||
        xc_sr_restore_finish(&r, false, &w->err) < 0)
        goto out;
    printf("%llu pages, %llu added, %llu released\n", (unsigned long long)r.stats.pages,
           (unsigned long long)r.stats.populated, (unsigned long long)r.stats.released);
    if (colo_qmp_cmd(w->guest.qmp, "cont", NULL, colo_now() + PATIENCE, NULL, &w->err) < 0)
        goto out;
    if (libxl_domain_unpause(w->ctx, domid, NULL)) {
        colo_fail(&w->err, COLO_ERR_LOCAL, NULL, "cannot unpause domain %u", domid);
        goto out;
    }
    rc = 0;
out:
    free(state);
    xc_sr_restore_fini(&r);
    return rc;
}

static int restore(struct work *w, const char *path, const char *name)
{
    uint32_t domid = 0;
    int rc;

    if (open_file(w, path, false) < 0 || create(w, name, &domid) < 0)
        return -1;
    rc = overlay(w, domid);
    if (rc < 0) {
        colo_guest_close(&w->guest);
        libxl_domain_destroy(w->ctx, domid, NULL);
    }
    return rc;
}

static int usage(void)
{
    fprintf(stderr, "usage: xencolo-stream save|libxc-save DOMID FILE | restore FILE NAME\n");
    return 2;
}

int main(int argc, char **argv)
{
    struct work w = {.fd = -1};
    int rc;

    if (argc != 4)
        return usage();
    libxl_domain_config_init(&w.cfg);
    w.ctx = colo_ctx_new(&w.lg, &w.err);
    if (!w.ctx)
        rc = -1;
    else if (!strcmp(argv[1], "save") || !strcmp(argv[1], "libxc-save"))
        rc = save(&w, (uint32_t)strtoul(argv[2], NULL, 10), argv[3], argv[1][0] == 's');
    else if (!strcmp(argv[1], "restore"))
        rc = restore(&w, argv[2], argv[3]);
    else
        return usage();
    if (rc < 0)
        fprintf(stderr, "xencolo-stream: %s\n", w.err.msg);
    colo_guest_close(&w.guest);
    if (w.fd >= 0) {
        if (w.ls.ch)
            xc_sr_channel_fini(&w.ch);
        close(w.fd);
    }
    libxl_domain_config_dispose(&w.cfg);
    if (w.ctx)
        colo_ctx_free(w.ctx, w.lg);
    return rc < 0 ? 1 : 0;
}
