/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What libxl starts as the device model of a second copy: it has the disks' real paths in the copy's
 * configuration, and QEMU is to have what colo-disk shows of them instead.
 *
 *   XEN_COLO_DM     the device model
 *   XEN_COLO_DISKS  for each such disk a line: its path, a tab, the Unix socket of its NBD server
 *
 * The configuration stays true for the guest's next boot, when nobody sets these variables: without
 * XEN_COLO_DISKS the arguments are passed on as they are.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT "secondary"

static void die(const char *what)
{
    fprintf(stderr, "colo-dm: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* The length of an option's value up to its end or an unescaped comma; QEMU writes one as two. */
static size_t value_len(const char *at)
{
    size_t n = 0;

    while (at[n] && (at[n] != ',' || at[n + 1] == ','))
        n += at[n] == ',' ? 2 : 1;
    return n;
}

static bool is_value(const char *at, const char *path)
{
    const char *end = at + value_len(at);

    for (; at < end && *path; path++) {
        if (*at != *path)
            return false;
        at += *at == ',' ? 2 : 1;
    }
    return at == end && !*path;
}

/* The socket of that disk; NULL: it is none of ours. */
static const char *socket_of(char *const *lines, const char *value)
{
    for (; *lines; lines += 2)
        if (is_value(value, lines[0]))
            return lines[1];
    return NULL;
}

static void put_escaped(FILE *f, const char *text)
{
    for (; *text; text++)
        fprintf(f, *text == ',' ? ",," : "%c", *text);
}

/* A -drive's value, "file=/dev/vg/disk,if=ide,index=0,media=disk,format=raw,cache=writeback", with
 * another file behind it; NULL when it is of no disk of ours.  What QEMU opens is a server's socket,
 * whose content is raw whatever the format was. */
static char *replaced(char *const *lines, const char *drive)
{
    const char *socket = NULL, *at;
    char *text = NULL;
    size_t len;
    FILE *f;

    for (at = drive; *at && !socket; at += value_len(at), at += *at == ',')
        if (!strncmp(at, "file=", 5))
            socket = socket_of(lines, at + 5);
    if (!socket)
        return NULL;
    f = open_memstream(&text, &len);
    if (!f)
        die("memory");
    fprintf(f, "driver=raw,file.driver=nbd,file.export=" EXPORT ",file.server.type=unix,"
               "file.server.path=");
    put_escaped(f, socket);
    for (at = drive; *at; at += value_len(at), at += *at == ',')
        if (strncmp(at, "file=", 5) != 0 && strncmp(at, "format=", 7) != 0)
            fprintf(f, ",%.*s", (int)value_len(at), at);
    if (fclose(f))
        die("memory");
    return text;
}

/* "path\tsocket\n..." as pairs, with NULL at the end; cut to pieces in place. */
static char **split(char *text)
{
    size_t n = 0, room = 1;
    char **lines;

    for (const char *c = text; *c; c++)
        room += 2 * (*c == '\t');
    lines = calloc(room, sizeof(*lines));
    if (!lines)
        die("memory");
    for (char *path = strtok(text, "\t"), *socket; path && n + 2 < room;
         path = strtok(NULL, "\t")) {
        socket = strtok(NULL, "\n");
        lines[n++] = path;
        lines[n++] = socket ? socket : path;
    }
    return lines;
}

int main(int argc, char **argv)
{
    const char *dm = getenv("XEN_COLO_DM");
    char *disks = getenv("XEN_COLO_DISKS"), **lines, *drive;

    if (!dm || !*dm) {
        fprintf(stderr, "colo-dm: XEN_COLO_DM names no device model; this program is for xl\n");
        return 1;
    }
    if (disks) {
        lines = split(disks);
        for (int i = 1; i + 1 < argc; i++)
            if (!strcmp(argv[i], "-drive") && (drive = replaced(lines, argv[i + 1])))
                argv[i + 1] = drive;
        unsetenv("XEN_COLO_DISKS");
    }
    unsetenv("XEN_COLO_DM");
    argv[0] = (char *)dm;
    execv(dm, argv);
    die(dm);
}
