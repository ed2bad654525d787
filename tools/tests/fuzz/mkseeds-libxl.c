/* SPDX-License-Identifier: GPL-2.0-only */
/* Seeds of the libxl layer's fuzz targets, by our own writers where there is one. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxl_colo_session.h"
#include "mkseeds.h"

static void must(int rc, const struct colo_err *err)
{
    if (rc < 0) {
        fprintf(stderr, "mkseeds: %s\n", err->msg);
        exit(1);
    }
}

/* DIR/TARGET/NAME: prefix, then what fd holds. */
static void save(const char *dir, const char *target, const char *name, int fd, const char *prefix,
                 size_t prefix_len)
{
    char path[512], buf[4096];
    ssize_t r;
    off_t at = 0;
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", dir, target);
    mkdir(path, 0777);
    snprintf(path, sizeof(path), "%s/%s/%s", dir, target, name);
    f = fopen(path, "w");
    if (!f) {
        perror(path);
        exit(1);
    }
    fwrite(prefix, 1, prefix_len, f);
    while (fd >= 0 && (r = pread(fd, buf, sizeof(buf), at)) > 0) {
        fwrite(buf, 1, (size_t)r, f);
        at += r;
    }
    if (fclose(f) != 0) {
        perror(path);
        exit(1);
    }
    if (fd >= 0)
        close(fd);
}

static void save_text(const char *dir, const char *target, const char *name, const char *text)
{
    save(dir, target, name, -1, text, strlen(text));
}

static int open_writer(struct xc_sr_channel *ch)
{
    struct colo_err err = {0};
    int fd = memfd_create("seed", MFD_CLOEXEC);

    must(xc_sr_channel_init(ch, -1, fd, -1, &err), &err);
    return fd;
}

static void libxl_stream(const char *dir, bool tags)
{
    static const char keys[] = "\2\0\0\0\0\0\0\0physmap/0/name\0vga.vram";
    struct xc_sr_channel ch;
    struct libxl_stream s = {.ch = &ch, .tags = tags};
    struct colo_err err = {0};
    char which = (char)(2 | tags);
    int fd = open_writer(&ch), i;

    must(libxl_stream_write_header(&s, &err), &err);
    must(libxl_stream_write_caps(&s, "{\"protocol\": 1}", &err), &err);
    must(libxl_stream_write_libxc_context(&s, &err), &err);
    for (i = 0; i < 2; i++) {
        must(xc_sr_write_simple(&ch, LIBXL_SR_REC_EMULATOR_XENSTORE, keys, sizeof(keys),
                                COLO_NO_DEADLINE, &err),
             &err);
        must(libxl_stream_write_emulator(&s, "QEVM\0\0\0\3 and so on", 18, &err), &err);
        must(xc_sr_write_simple(&ch, LIBXL_SR_REC_COLO_DIGEST, "digest", 6, COLO_NO_DEADLINE, &err),
             &err);
        must(libxl_stream_write_checkpoint_end(&s, &err), &err);
        must(libxl_stream_write_state(&s, LIBXL_SR_STATE_NEW, &err), &err);
        must(xc_sr_write_simple(&ch, LIBXL_SR_REC_COLO_TIMES, keys, 16, COLO_NO_DEADLINE, &err),
             &err);
        must(libxl_stream_write_state(&s, LIBXL_SR_STATE_SVM_RESUMED, &err), &err);
    }
    must(libxl_stream_write_stop(&s, "refused:not-hvm", "it is a PV guest", &err), &err);
    xc_sr_channel_fini(&ch);
    save(dir, "fuzz-libxl-record", tags ? "tags" : "base", fd, &which, 1);
}

static void xl_header(const char *dir)
{
    struct xc_sr_channel ch;
    struct colo_err err = {0};
    int fd = open_writer(&ch);

    must(libxl_xl_header_write(&ch, "{\"c_info\": {\"name\": \"g\"}}", COLO_NO_DEADLINE, &err),
         &err);
    xc_sr_channel_fini(&ch);
    save(dir, "fuzz-xl-header", "header", fd, "", 0);
}

/* The first byte: from the primary? */
static void save_caps(const char *dir, const char *name, const struct colo_caps *c, char from)
{
    char *json = colo_caps_to_json(c), text[1000];

    snprintf(text, sizeof(text), "%c%s", from, json);
    save_text(dir, "fuzz-caps", name, text);
    free(json);
}

static void caps(const char *dir)
{
    struct colo_caps c = {
        .protocol = 1,
        .xen = "4.17.7",
        .qemu = "7.2",
        .host = "one",
        .zero_pages = true,
    };
    struct colo_caps_disk disk = {.vdev = "hda"};

    save_caps(dir, "secondary", &c, '0');
    c.disk[c.disks++] = disk;
    c.disk[0].port = 10809;
    snprintf(c.disk_address, sizeof(c.disk_address), "192.0.2.7");
    save_caps(dir, "secondary-disks", &c, '0');

    c.disks = 0;
    c.disk_address[0] = '\0';
    snprintf(c.session, sizeof(c.session), "b5a94c5e-6f5b-4f6b-9c1a-0d6f6e3f1a11");
    c.generation = 2;
    c.heartbeat_ms = 100;
    c.heartbeat_misses = 5;
    c.interval_max_ms = 5000;
    save_caps(dir, "primary", &c, '1');
    c.disk[0] = disk;
    c.disk[0].size = 1 << 20;
    c.disks = 1;
    memset(c.disk_key, 'a', sizeof(c.disk_key) - 1);
    snprintf(c.device_model, sizeof(c.device_model), "/usr/libexec/qemu");
    save_caps(dir, "primary-disks", &c, '1');
}

void mkseeds_libxl(const char *dir)
{
    static const char greeting[] =
        "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, "
        "\"package\": \"Debian\"}, \"capabilities\": [\"oob\"]}}\r\n"
        "{\"return\": {}, \"id\": 1}\r\n"
        "{\"timestamp\": {\"seconds\": 1}, \"event\": \"STOP\"}\r\n"
        "{\"return\": [{\"id\": \"colo-load0\", \"status\": \"concluded\"}], \"id\": 2}\r\n"
        "{\"id\": 3, \"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\r\n"
        "{\"return\": {}, \"id\": 4}\r\n"
        "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"x\", \"id\": \"y\"}}\r\n";

    libxl_stream(dir, false);
    libxl_stream(dir, true);
    xl_header(dir);
    caps(dir);
    save_text(dir, "fuzz-control", "requests",
              "\7{\"command\":\"status\"}\n{\"command\":\"no\"}\n{\"command\":\"long\"}\n"
              "{\"command\":\"long\"}\n{\"command\":7}\n{\"command\":\"stop\"}\n");
    save_text(dir, "fuzz-qmp-reply", "session", greeting);
    save_text(dir, "fuzz-json", "kinds",
              "{\"a\": [1, -2.5e3, true, null, \"\\u20ac\\n\"], \"data\": {\"id\": 7}}");
    save_text(dir, "fuzz-json", "list",
              "[{\"return\": {}}, [\"event\", [[]]], {\"error\": \"e\"}]");
}
