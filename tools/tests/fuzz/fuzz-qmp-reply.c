/* SPDX-License-Identifier: GPL-2.0-only */
/* What a device model may send, all of it at once and then the end: greeting, replies, events. */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxl_qmp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_job(const struct colo_json *data, void *priv)
{
    return colo_json_get_str(data, "id") && priv;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct colo_qmp *q;
    struct colo_json *ret;
    struct colo_err err = {0};
    colo_time deadline = colo_now() + 5000 * COLO_MS;
    int sv[2], i;

    if (size > 65536 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
        return 0;
    if (send(sv[0], data, size, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)size && size)
        abort();
    shutdown(sv[0], SHUT_WR);
    if (colo_qmp_open_fd(sv[1], -1, deadline, &q, &err) == 0) {
        for (i = 0; i < 3; i++) {
            if (colo_qmp_cmd(q, "query-jobs", NULL, deadline, &ret, &err) < 0 && !err.msg[0])
                abort();
            colo_json_free(ret);
        }
        colo_qmp_wait_event(q, "JOB_STATUS_CHANGE", is_job, &i, deadline, &err);
        colo_qmp_drop_events(q, "STOP");
        colo_qmp_close(q);
    }
    close(sv[0]);
    if (err.cls == COLO_ERR_TIMEOUT) /* the stream has ended: nothing to wait for */
        abort();
    return 0;
}
