/* SPDX-License-Identifier: GPL-2.0-only */
/* Seeds of fuzz-disk and fuzz-disk-requests. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "colo_disk_journal.h"
#include "colo_disk_record.h"
#include "mkseeds.h"

/* DIR/TARGET/NAME, its first byte `first` unless that is -1. */
static FILE *seed(const char *dir, const char *target, const char *name, int first)
{
    char path[512];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", dir, target);
    mkdir(path, 0777);
    snprintf(path, sizeof(path), "%s/%s/%s", dir, target, name);
    f = fopen(path, "w");
    if (!f || (first >= 0 && fputc(first, f) == EOF)) {
        perror(path);
        exit(1);
    }
    return f;
}

static void finish(FILE *f)
{
    if (fclose(f)) {
        perror("a seed");
        exit(1);
    }
}

static void record(const char *dir)
{
    struct colo_disk_record r = {.target = "/srv/disk",
                                 .session = "01234567-89ab-cdef-0123-456789abcdef",
                                 .size = 1 << 20,
                                 .state = COLO_DISK_FOLDING,
                                 .checkpoint = 3,
                                 .journal_id = 77,
                                 .journal_len = 4168};
    char *text = colo_disk_record_text(&r);
    FILE *f = seed(dir, "fuzz-disk", "record", 0);

    if (text)
        fputs(text, f);
    free(text);
    finish(f);
}

static void journal(const char *dir)
{
    char path[512], data[COLO_BLOCK] = "data";
    struct colo_journal j;
    FILE *f = seed(dir, "fuzz-disk", "journal", 1), *made;
    int c;

    snprintf(path, sizeof(path), "%s/fuzz-disk/.made", dir);
    colo_journal_init(&j);
    if (colo_journal_create(&j, path, 1 << 20, NULL) || colo_journal_append(&j, 3, 1, data) ||
        colo_journal_append(&j, 9, 64, NULL))
        exit(1);
    colo_journal_fini(&j);
    made = fopen(path, "r");
    while (made && (c = fgetc(made)) != EOF)
        fputc(c, f);
    if (made)
        fclose(made);
    remove(path);
    finish(f);
}

static void requests(const char *dir)
{
    FILE *f = seed(dir, "fuzz-disk-requests", "life", -1);

    fputs(
        "{\"do\":\"status\"}\n{\"do\":\"watch\"}\n{\"do\":\"checkpoint\",\"checkpoint\":1}\n"
        "{\"do\":\"prepare\",\"checkpoint\":2,\"timeout_ms\":5,\"hold_ms\":5}\n{\"do\":\"cancel\"}\n"
        "{\"do\":\"prepare\",\"checkpoint\":2}\n{\"do\":\"commit\",\"checkpoint\":2}\n"
        "{\"do\":\"stats\"}\n{\"do\":\"takeover\"}\n{\"do\":\"end\"}\n",
        f);
    finish(f);
    f = seed(dir, "fuzz-disk-requests", "abort", -1);
    fputs("{\"do\":\"checkpoint\",\"checkpoint\":1}\n{\"do\":\"abort\"}\n", f);
    finish(f);
}

void mkseeds_disk(const char *dir)
{
    record(dir);
    journal(dir);
    requests(dir);
}
