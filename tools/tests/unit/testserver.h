/* SPDX-License-Identifier: GPL-2.0-only */
/* `colo-disk serve` as a process, its control socket, and clients of its exports. */
#ifndef TESTSERVER_H
#define TESTSERVER_H

#include "testdisk.h"

#include <libnbd.h>

#include "libxl_json.h"

struct ts {
    struct td td; /* its folder and disk; td.d stays NULL */
    char control[96], secondary[96], key[96], log[96];
    int port, pid;
    int fd; /* of the control socket, -1 = not connected */
    char in[8192];
    size_t in_len;
};

void ts_init(struct ts *s, uint64_t size);
void ts_fini(struct ts *s);

/* Start it, `more` (NULL, or words with a blank between) behind our own options, and connect to its
 * control socket.  The exit status of colo-disk. */
int ts_try(struct ts *s, const char *more);
void ts_start(struct ts *s, const char *more);
void ts_connect(struct ts *s);
void ts_hang_up(struct ts *s);

/* The next line of the control socket; the caller frees. */
struct colo_json *ts_line(struct ts *s);
/* Ask, and NULL, or the reason of a refusal; valid until the next call. */
const char *ts_ask(struct ts *s, const char *request);
/* Ask for the status, and return this member of it. */
int64_t ts_number(struct ts *s, const char *key);
const char *ts_state(struct ts *s);
void ts_wait_state(struct ts *s, const char *state);
void ts_checkpoint(struct ts *s, uint64_t n);

/* Wait until the process is gone, and leave nothing of it but the disk and its record. */
void ts_gone(struct ts *s);
void ts_kill(struct ts *s); /* -9 */

/* Connected, or NULL. */
struct nbd_handle *ts_primary(struct ts *s);
struct nbd_handle *ts_secondary(struct ts *s);
struct nbd_handle *ts_tcp(struct ts *s, const char *export, const char *key);
struct nbd_handle *ts_unix(struct ts *s, const char *export);

/* `colo-disk COMMAND --state-dir=... DISK`; its exit status. */
int ts_command(struct ts *s, const char *command);

#endif
