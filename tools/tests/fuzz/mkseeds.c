/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Seeds for the fuzz targets, made with our own writers.  usage: mkseeds DIR: makes DIR/TARGET/NAME.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mkseeds.h"
#include "xc_sr_restore.h"
#include "xc_sr_save.h"
#include "xc_sr_verify.h"

#define GFNS 16u

static const char *out_dir;

static void die(const char *what, const struct colo_err *e)
{
    fprintf(stderr, "mkseeds: %s: %s\n", what, e && e->msg[0] ? e->msg : strerror(errno));
    exit(1);
}

/* DIR/TARGET/NAME, empty, for reading and writing. */
static int create(const char *target, const char *name)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", out_dir, target);
    if (mkdir(path, 0777) < 0 && errno != EEXIST)
        die(path, NULL);
    snprintf(path, sizeof(path), "%s/%s/%s", out_dir, target, name);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        die(path, NULL);
    return fd;
}

/* ---- fuzz-libxc-record ---- */

static struct xc_sr_domain *open_guest(void)
{
    const struct xc_sr_mem_config cfg = {.nr_gfns = GFNS, .populated = 4};
    const uint64_t born = 12;
    struct colo_err e = {0};
    struct xc_sr_domain *d;

    if (xc_sr_domain_mem_open(&cfg, &d, &e) < 0 || d->ops->populate(d, &born, 1, &e) < 0 ||
        d->ops->set_hvm_param(d, xc_sr_hvm_params[3], 5, &e) < 0)
        die("guest", &e);
    xc_sr_mem_guest_write(d, 1, 0, "one", 3);
    xc_sr_mem_set_context(d, "context", 7);
    xc_sr_mem_set_devices(d, "devices", 7);
    return d;
}

static void send_image(struct xc_sr_save *s, uint32_t last)
{
    struct colo_err e = {0};

    if (s->dom->ops->suspend(s->dom, COLO_NO_DEADLINE, &e) < 0 ||
        xc_sr_save_read_dirty(s, true, &e) < 0 || xc_sr_save_send_dirty(s, NULL, NULL, &e) < 0 ||
        xc_sr_save_tail(s, last, &e) < 0)
        die("image", &e);
}

/* Returns the file. */
static int libxc_stream(const char *name, bool zero_pages, unsigned int checkpoints)
{
    struct xc_sr_domain *d = open_guest();
    struct xc_sr_channel ch;
    struct xc_sr_save s = {.dom = d, .ch = &ch, .zero_pages = zero_pages};
    int fd = create("fuzz-libxc-record", name);
    struct colo_err e = {0};
    const uint64_t gone = 2;

    s.xen_major = 4;
    s.xen_minor = 17;
    if (xc_sr_channel_init(&ch, -1, fd, -1, &e) < 0 || xc_sr_save_init(&s, &e) < 0 ||
        xc_sr_save_begin(&s, &e) < 0)
        die("stream", &e);
    if (!checkpoints) {
        if (xc_sr_save_mark_all(&s, &e) < 0)
            die("stream", &e);
        send_image(&s, XC_SR_REC_END);
    } else if (xc_sr_save_precopy(&s, NULL, NULL, &e) < 0) {
        die("stream", &e);
    }
    for (unsigned int i = 0; i < checkpoints; i++) {
        send_image(&s, XC_SR_REC_CHECKPOINT);
        d->ops->resume(d, NULL);
        xc_sr_mem_guest_write(d, i % 4, i, "changed", 7);
        d->ops->release(d, &gone, 1, NULL);
    }
    xc_sr_save_fini(&s);
    xc_sr_channel_fini(&ch);
    d->ops->close(d);
    return fd;
}

static void seed_libxc_record(void)
{
    close(libxc_stream("plain", false, 0));
    close(libxc_stream("plain-zero", true, 0));
    close(libxc_stream("colo", false, 2));
    close(libxc_stream("colo-zero", true, 3));
}

/* ---- fuzz-dirty-list ---- */

/* A secondary that has the first image of the stream at fd. */
static void load_image(struct xc_sr_restore *r, int fd)
{
    struct xc_sr_channel ch;
    struct colo_err e = {0};
    uint32_t last;

    r->ch = &ch;
    if (lseek(fd, 0, SEEK_SET) != 0 || xc_sr_channel_init(&ch, fd, -1, -1, &e) < 0 ||
        r->dom->ops->suspend(r->dom, COLO_NO_DEADLINE, &e) < 0 || xc_sr_restore_init(r, &e) < 0 ||
        xc_sr_restore_headers(r, &e) < 0 || xc_sr_restore_load(r, &last, &e) < 0 ||
        xc_sr_restore_finish(r, true, &e) < 0)
        die("image", &e);
    xc_sr_channel_fini(&ch);
}

/* The lists of a secondary whose guest has written to no page, to one and to three. */
static void seed_dirty_list(void)
{
    static const uint64_t gfns[] = {0, 12, 3};
    const struct xc_sr_mem_config cfg = {.nr_gfns = GFNS, .populated = 4};
    struct xc_sr_restore r = {.max_gfns = GFNS};
    int image = libxc_stream("colo", false, 2), fd = create("fuzz-dirty-list", "lists");
    struct xc_sr_channel ch;
    struct colo_err e = {0};

    if (xc_sr_domain_mem_open(&cfg, &r.dom, &e) < 0 || xc_sr_channel_init(&ch, -1, fd, -1, &e) < 0)
        die("list", &e);
    load_image(&r, image);
    close(image);
    r.ch = &ch;
    for (unsigned int n = 0; n < 4; n += n + 1) {
        r.dom->ops->resume(r.dom, NULL);
        for (unsigned int i = 0; i < n; i++)
            xc_sr_mem_guest_write(r.dom, gfns[i], i, "own", 3);
        if (r.dom->ops->suspend(r.dom, COLO_NO_DEADLINE, &e) < 0 ||
            xc_sr_restore_own_dirty(&r, &e) < 0 || xc_sr_restore_send_list(&r, &e) < 0)
            die("list", &e);
        xc_sr_bitmap_zero(&r.own); /* as an applied checkpoint does */
    }
    xc_sr_restore_fini(&r);
    xc_sr_channel_fini(&ch);
    close(fd);
    r.dom->ops->close(r.dom);
}

/* ---- fuzz-digest ---- */

static void seed_digest(void)
{
    /* two save records: typecode, instance, length; the last one is of type 0 */
    static const char context[] = "\2\0\1\0\4\0\0\0data\0\0\0\0\0\0\0";
    struct xc_sr_domain *d = open_guest();
    struct xc_sr_digest digest;
    struct colo_err e = {0};
    int fd = create("fuzz-digest", "guest");
    size_t len;
    void *buf;

    xc_sr_mem_set_context(d, context, sizeof(context));
    if (d->ops->suspend(d, COLO_NO_DEADLINE, &e) < 0 || xc_sr_digest_make(d, &digest, &e) < 0 ||
        xc_sr_digest_pack(&digest, &buf, &len, &e) < 0)
        die("digest", &e);
    if (write(fd, buf, len) != (ssize_t)len)
        die("digest", NULL);
    free(buf);
    xc_sr_digest_free(&digest);
    close(fd);
    d->ops->close(d);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: mkseeds DIR\n");
        return 2;
    }
    out_dir = argv[1];
    if (mkdir(out_dir, 0777) < 0 && errno != EEXIST)
        die(out_dir, NULL);
    seed_libxc_record();
    seed_dirty_list();
    seed_digest();
    mkseeds_libxl(out_dir);
    mkseeds_proxy(out_dir);
    mkseeds_disk(out_dir);
    return 0;
}
