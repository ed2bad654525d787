/* SPDX-License-Identifier: GPL-2.0-only */
/* What a client of a disk's control socket may ask for, in any order: a line of the input each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "disk.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "/dev/shm/fuzz-disk-XXXXXX", path[64], state[64];

static void clean(void)
{
    char command[96];

    snprintf(command, sizeof(command), "rm -rf %s", folder);
    if (system(command))
        _exit(1);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    if (!mkdtemp(folder))
        abort();
    atexit(clean);
    snprintf(path, sizeof(path), "%s/disk", folder);
    snprintf(state, sizeof(state), "%s/state", folder);
    fclose(fopen(path, "w"));
    return truncate(path, 1 << 20);
}

static void one_line(struct disk_server *s, const char *text, size_t len)
{
    struct disk_asking asking = {.s = s, .c = &s->client[0]};
    char *reply = disk_answer(&asking, text, len);
    struct colo_json *j;

    if (!reply || colo_json_parse(reply, strlen(reply), &j, NULL))
        abort();
    if (!colo_json_get(j, "error") == !colo_json_get_bool(j, "ok", false))
        abort();
    colo_json_free(j);
    free(reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct colo_disk_config cfg = {
        .target = path, .raw = true, .state_dir = state, .session = "", .memory = 1 << 20};
    const char *text = (const char *)data, *end;
    struct disk_server s;
    struct colo_disk *d;
    size_t len;

    if (size > 4096 || colo_disk_open(&cfg, &d, NULL))
        return 0;
    if (disk_server_init(&s, d, 0, NULL))
        abort();
    for (int i = 0; size && i < 20 && !s.quit; i++) {
        end = memchr(text, '\n', size);
        len = end ? (size_t)(end - text) : size;
        one_line(&s, text, len);
        if (s.holder == NULL) /* else a request would wait for it to let go */
            colo_disk_write(d, i & 1 ? COLO_DISK_PRIMARY : COLO_DISK_SECONDARY, text, len, 100, 0);
        len += end ? 1 : 0;
        text += len;
        size -= len;
    }
    disk_server_fini(&s);
    colo_disk_close(d);
    return 0;
}
