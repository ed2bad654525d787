/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * xl colo-checkpoint, colo-stop and colo-failover: one request to a session's monitor each.
 */
#include "xl.h"

#include <stdio.h>
#include <string.h>

#include "libxl_colo_control.h"

#define ANSWER_TIME (5 * 1000 * COLO_MS)

static const struct request {
    const char *name, *command, *help, *done;
} checkpoint =
    {"colo-checkpoint", "checkpoint",
     "Make a checkpoint of GUEST now. To be asked for on the host where it is primary.\n",
     "asked for a checkpoint"},
  stop = {"colo-stop", "stop",
          "End the protection of GUEST, on either host: it runs on at its primary.\n",
          "asked to end protection; the guest runs on at its primary"},
  failover = {"colo-failover", "failover",
              "Take GUEST over on this host, because the host of its primary is dead. Should that\n"
              "host live, the guest would run twice: make sure that it does not.\n",
              "asked to take the guest over"};

static int ask(const struct request *r, const char *guest, struct colo_err *err)
{
    const struct colo_json *error;
    struct colo_json *reply;
    const char *message, *reason;
    uint32_t domid;
    int rc = 0;

    if (xl_find_session(guest, &domid, NULL, err) ||
        colo_control_request(domid, r->command, colo_now() + ANSWER_TIME, &reply, err))
        return -1;
    error = colo_json_get(reply, "error");
    if (error || !colo_json_get_bool(reply, "ok", false)) {
        reason = colo_json_get_str(error, "reason");
        message = colo_json_get_str(error, "message");
        rc = colo_fail(err, COLO_ERR_REFUSED, reason ? reason : "control-reply", "%s",
                       message ? message : "the monitor did not say why");
    }
    colo_json_free(reply);
    return rc;
}

static int run(const struct request *r, int argc, char **argv)
{
    struct colo_err err = {0};
    struct xl_ui ui;

    xl_ui_init(&ui, r->name);
    if (argc == 2 && (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"))) {
        printf("Usage: xl %s GUEST\n\n%s", r->name, r->help);
        return 0;
    }
    if (argc != 2 || argv[1][0] == '-') {
        fprintf(stderr, "Usage: xl %s GUEST\n", r->name);
        return 2;
    }
    if (ask(r, argv[1], &err)) {
        xl_ui_error(&ui, "", &err);
        return 1;
    }
    printf("%s: %s\n", argv[1], r->done);
    return 0;
}

int xl_main_colo_checkpoint(int argc, char **argv)
{
    return run(&checkpoint, argc, argv);
}

int xl_main_colo_stop(int argc, char **argv)
{
    return run(&stop, argc, argv);
}

int xl_main_colo_failover(int argc, char **argv)
{
    return run(&failover, argc, argv);
}
