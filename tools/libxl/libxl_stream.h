/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The libxl layer of the stream: libxl_stream_write.c and libxl_stream_read.c.
 * Both channels use it: forward (primary to secondary) and back.
 */
#ifndef LIBXL_STREAM_H
#define LIBXL_STREAM_H

#include "libxl_sr_stream_format.h"
#include "xc_sr_record.h"

struct libxl_stream {
    struct xc_sr_channel *ch;
    struct xc_sr_rec_tag tag; /* session and generation; .checkpoint is kept by the caller */
    bool tags;                /* negotiated: a COLO_TAG goes before each CHECKPOINT_STATE and
                               * CHECKPOINT_END, and is demanded there from the peer */
    colo_time io_timeout;     /* for one record; 0 = none */
    colo_time limit;          /* when everything must be over (the guest is paused); 0 = none */
};

#define LIBXL_SR_CONFIG_MAX ((uint32_t)1 << 20) /* JSON bodies, xenstore data */

/* ---- writing ---- */
int libxl_stream_write_header(struct libxl_stream *s, struct colo_err *err);
int libxl_stream_write_libxc_context(struct libxl_stream *s, struct colo_err *err);
/* EMULATOR_CONTEXT of upstream QEMU.  Nothing is written for len 0. */
int libxl_stream_write_emulator(struct libxl_stream *s, const void *state, size_t len,
                                struct colo_err *err);
int libxl_stream_write_checkpoint_end(struct libxl_stream *s, struct colo_err *err);
int libxl_stream_write_end(struct libxl_stream *s, struct colo_err *err);
int libxl_stream_write_state(struct libxl_stream *s, uint32_t state, struct colo_err *err);
int libxl_stream_write_caps(struct libxl_stream *s, const char *json, struct colo_err *err);
/* Say goodbye with a reason; deadline-bound, best effort. */
int libxl_stream_write_stop(struct libxl_stream *s, const char *reason, const char *message,
                            struct colo_err *err);

/* ---- reading ---- */
/*
 * A COLO_STOP that comes where another record is due makes every read below fail with COLO_ERR_STOPPED,
 * or COLO_ERR_REFUSED when its reason begins with "refused:", and the peer's reason and message
 * (control characters replaced).
 */
int libxl_stream_read_header(struct libxl_stream *s, struct colo_err *err);
int libxl_stream_read_libxc_context(struct libxl_stream *s, struct colo_err *err);
/* Emulator records up to CHECKPOINT_END (or END, for a plain stream: *last says which).
 * *state is malloc'ed; NULL and 0 when there was none. Two contexts are a protocol error.  A
 * COLO_DIGEST on the way goes to *digest, or is passed over when digest is NULL. */
int libxl_stream_read_emulators(struct libxl_stream *s, void **state, size_t *len, uint32_t *last,
                                struct xc_sr_record *digest, struct colo_err *err);
/* CHECKPOINT_STATE that must be `expected`. */
int libxl_stream_read_state(struct libxl_stream *s, uint32_t expected, struct colo_err *err);
/* COLO_CAPS; *json is malloc'ed and NUL-terminated. */
int libxl_stream_read_caps(struct libxl_stream *s, char **json, struct colo_err *err);
/* A record of exactly this type (COLO_DIGEST, COLO_TIMES). */
int libxl_stream_read_expected(struct libxl_stream *s, uint32_t type, uint32_t limit,
                               struct xc_sr_record *rec, struct colo_err *err);
/* What the peer's COLO_STOP (ch->stop, which may have come inside the libxc stream) says, as above. */
int libxl_stream_explain_stop(const struct libxl_stream *s, struct colo_err *err);
const char *libxl_stream_state_name(uint32_t state);

/* COLO_TIMES, after SVM_READY: what the secondary spent, nanoseconds. */
struct libxl_sr_times {
    uint64_t suspend, stage, device_load, memory, context, dirtylog;
};

/* ---- xl save header: first on the forward channel, and of a save file ---- */
/*
 * write: header and JSON config (NUL-terminated text).  read: *config is malloc'ed, NUL-terminated;
 * unknown mandatory flags, wrong byte order, a length above LIBXL_SR_CONFIG_MAX are errors; further
 * optional data is passed over.
 */
int libxl_xl_header_write(struct xc_sr_channel *ch, const char *config, colo_time deadline,
                          struct colo_err *err);
int libxl_xl_header_read(struct xc_sr_channel *ch, colo_time deadline, char **config,
                         struct colo_err *err);

#endif
