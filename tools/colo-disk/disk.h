/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The process around a disk: its control socket (docs/specs/disk-control.md), and when it ends.  What
 * serves the exports is elsewhere, and tells who is connected.
 */
#ifndef DISK_H
#define DISK_H

#include <pthread.h>

#include "colo_disk.h"
#include "libxl_colo_lines.h"

#define DISK_CLIENTS 8
#define DISK_ALONE   (30 * 1000 * COLO_MS)
#define DISK_HOLD    (10 * 1000 * COLO_MS) /* between prepare and commit */
#define DISK_WAIT    (5 * 1000 * COLO_MS)  /* for requests that are under way */

struct disk_client {
    struct colo_lines lines; /* .fd -1 = free */
    bool watches;
};

struct disk_server {
    struct colo_disk *disk;
    char *control_path;
    uint16_t port;          /* of the primary's export; 0: there is none */
    const char *guest_path; /* of the secondary's export; the caller's */
    void (*end)(void);      /* ends the process, once nobody is connected any more */

    int listen_fd, wake_fd; /* wake_fd: an eventfd, for other threads */
    struct disk_client client[DISK_CLIENTS];
    struct disk_client *holder; /* who prepared a checkpoint; NULL: nobody */
    colo_time hold_until, alone_limit, alone_at;
    enum colo_disk_state told; /* the last one that watchers were told of */
    bool told_error, primary_cut, quit, ended;
    bool asked;                   /* to end, by a signal */
    uint32_t guests, guests_ever; /* connections of the secondary's export; atomic */
    bool runs;
    pthread_t thread;
};

/* disk is the caller's, and stays open until after disk_server_fini.  alone 0: DISK_ALONE. */
int disk_server_init(struct disk_server *s, struct colo_disk *disk, colo_time alone,
                     struct colo_err *err);
/* A socket for root alone at this path, in place of one that nobody listens at.  COLO_ERR_REFUSED
 * "disk-in-use": somebody does. */
int disk_server_listen(struct disk_server *s, const char *path, struct colo_err *err);
/* A thread that answers; it calls s->end when this process is of no use any more. */
int disk_server_start(struct disk_server *s, struct colo_err *err);
/* Ends the thread, closes all and removes the socket. */
void disk_server_fini(struct disk_server *s);

/* From any thread: look again at the disk and at who is connected. */
void disk_server_wake(struct disk_server *s);
/* From any thread: one more (+1) or less (-1) connection of the secondary's export. */
void disk_server_guest(struct disk_server *s, int change);

/* A unix socket that listens at path, for its owner alone; see disk_server_listen. */
int disk_listen_unix(const char *path, int *out, struct colo_err *err);

/* From a signal handler: end. */
void disk_server_ask_end(struct disk_server *s);

/* ---- disk_cut.c: what serves the exports waits for its clients ---- */
/* Shut down every connection that this process has accepted at this port (0: none), or at this unix
 * socket (NULL: none).  A power cut's other end would never do it. */
void disk_cut(uint16_t port, const char *path);

/* ---- disk_requests.c ---- */
/* A colo_lines_answer for a client's request; NULL: out of memory. */
struct disk_asking {
    struct disk_server *s;
    struct disk_client *c;
};
char *disk_answer(void *asking, const char *line, size_t len);
/* A line for those that watch. */
char *disk_event(struct disk_server *s, const struct colo_disk_status *st);

#endif
