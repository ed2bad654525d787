/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A QMP server in a thread, on one end of a socketpair, for tests: it can play a script, behave as
 * a small device model, and misbehave.
 */
#ifndef FAKEQMP_H
#define FAKEQMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libxl_json.h"

struct fakeqmp;

/* How it sends; all 0 is a good server. */
struct fakeqmp_manners {
    size_t chunk;     /* send in pieces of so many bytes */
    size_t cut_after; /* close the connection after so many bytes sent */
    bool silent;      /* do not greet */
};

/*
 * Called in the server's thread for each command.  A command that the handler does not answer stays
 * unanswered.  Return false to close the connection.
 */
typedef bool fakeqmp_handler(struct fakeqmp *f, const char *command,
                             const struct colo_json *arguments, void *priv);

#define FAKEQMP_GREETING                                                               \
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, " \
    "\"package\": \"Debian 1:7.2+dfsg-7\"}, \"capabilities\": [\"oob\"]}}\r\n"

/* *fd is the client's end, to be given to colo_qmp_open_fd.  Greets and handles qmp_capabilities
 * itself.  manners may be NULL. */
struct fakeqmp *fakeqmp_start(fakeqmp_handler *handler, void *priv,
                              const struct fakeqmp_manners *manners, int *fd);
/* Waits until the client closed its end (do that first), then for the thread. Frees. */
void fakeqmp_stop(struct fakeqmp *f);

/* For handlers: any bytes; {"return": json, "id": ...}; an error; an event. false = closed. */
bool fakeqmp_send(struct fakeqmp *f, const char *text, size_t len);
bool fakeqmp_return(struct fakeqmp *f, const char *json);
bool fakeqmp_error(struct fakeqmp *f, const char *desc);
bool fakeqmp_event(struct fakeqmp *f, const char *name, const char *data);
int64_t fakeqmp_id(const struct fakeqmp *f);  /* of the command being handled */
size_t fakeqmp_sent(const struct fakeqmp *f); /* bytes in all, so far */

/* ---- a device model of a few commands (fakeqmp_model.c) ---- */
struct fakeqmp_model {
    /* set by the test before the start */
    const void *state; /* what xen-save-devices-state writes */
    size_t state_len;
    const char *lacks;     /* commands (in one string) that are not there */
    const char *fail_cmd;  /* this command is answered with an error */
    const char *die_cmd;   /* at this command the connection is closed */
    const char *job_error; /* snapshot-load's job ends with this error */
    bool event_first;      /* the job's event comes before the reply to snapshot-load */
    bool no_event;         /* the job never ends */
    bool few_events;       /* only that it ended */
    bool other_jobs;       /* events and query-jobs entries of other jobs, too */
    bool stale_node;       /* the nodes of a session that was killed are still there */

    /* what happened; to be read when no command is running */
    void *loaded; /* what the last load read: the whole vmstate area */
    size_t loaded_len;
    unsigned int loads, saves, nodes, deleted, dismissed, stops, conts;
    bool running, dirty_log;
    char bad[160]; /* the first thing that a real device model would not have taken */

    /* private */
    char node[64], job[64], file[256];
};
fakeqmp_handler fakeqmp_model_handler; /* priv is a struct fakeqmp_model */
void fakeqmp_model_fini(struct fakeqmp_model *m);

#endif
