/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a client of the proxy's control socket may ask for, in any order: a line of the input each.
 * In a network namespace of its own, where the taps that it makes harm nobody.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "libxl_json.h"
#include "proxy_daemon.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    if (unshare(CLONE_NEWNET))
        abort();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct proxy_daemon d; /* large */
    const char *text = (const char *)data, *end;
    struct proxy_asking asking = {.d = &d, .c = &d.client[0]};
    const struct proxy_run run = {.control_path = ""};
    struct colo_json *j;
    char *reply;
    size_t len;

    if (size > 4096 || proxy_daemon_init(&d, &run, NULL))
        return 0;
    for (int i = 0; size && i < 20 && !d.quit; i++) {
        end = memchr(text, '\n', size);
        len = end ? (size_t)(end - text) : size;
        reply = proxy_answer(&asking, text, len);
        if (!reply || colo_json_parse(reply, strlen(reply), &j, NULL))
            abort();
        if (!colo_json_get(j, "error") == !colo_json_get_bool(j, "ok", false))
            abort();
        colo_json_free(j);
        free(reply);
        len += end ? 1 : 0;
        text += len;
        size -= len;
    }
    proxy_daemon_fini(&d);
    return 0;
}
