/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Writing the libxl layer of the stream.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libxl_json.h"
#include "libxl_stream.h"

static colo_time deadline(const struct libxl_stream *s)
{
    return colo_deadline(s->io_timeout, s->limit);
}

static int write_simple(struct libxl_stream *s, uint32_t type, const void *body, size_t len,
                        struct colo_err *err)
{
    return xc_sr_write_simple(s->ch, type, body, (uint32_t)len, deadline(s), err);
}

/* Which session and checkpoint the next message belongs to. */
static int write_tag(struct libxl_stream *s, struct colo_err *err)
{
    struct xc_sr_rec_tag tag = s->tag;

    if (!s->tags)
        return 0;
    tag.generation = htole64(tag.generation);
    tag.checkpoint = htole64(tag.checkpoint);
    return write_simple(s, XC_SR_REC_COLO_TAG, &tag, sizeof(tag), err);
}

int libxl_stream_write_header(struct libxl_stream *s, struct colo_err *err)
{
    struct libxl_sr_hdr h = {
        .ident = htobe64(LIBXL_SR_IDENT),
        .version = htobe32(LIBXL_SR_VERSION),
        .options = htobe32(0),
    };
    struct iovec iov = {.iov_base = &h, .iov_len = sizeof(h)};

    return xc_sr_channel_writev(s->ch, &iov, 1, deadline(s), err);
}

int libxl_stream_write_libxc_context(struct libxl_stream *s, struct colo_err *err)
{
    return write_simple(s, LIBXL_SR_REC_LIBXC_CONTEXT, NULL, 0, err);
}

int libxl_stream_write_emulator(struct libxl_stream *s, const void *state, size_t len,
                                struct colo_err *err)
{
    struct libxl_sr_emulator emu = {.id = htole32(LIBXL_SR_EMULATOR_QEMU_UPSTREAM)};
    struct iovec iov[2] = {
        {.iov_base = &emu, .iov_len = sizeof(emu)},
        {.iov_base = (void *)state, .iov_len = len},
    };

    if (len == 0)
        return 0;
    return xc_sr_write_record(s->ch, LIBXL_SR_REC_EMULATOR_CONTEXT, iov, 2, deadline(s), err);
}

int libxl_stream_write_checkpoint_end(struct libxl_stream *s, struct colo_err *err)
{
    if (write_tag(s, err) < 0)
        return -1;
    return write_simple(s, LIBXL_SR_REC_CHECKPOINT_END, NULL, 0, err);
}

int libxl_stream_write_end(struct libxl_stream *s, struct colo_err *err)
{
    return write_simple(s, LIBXL_SR_REC_END, NULL, 0, err);
}

int libxl_stream_write_state(struct libxl_stream *s, uint32_t state, struct colo_err *err)
{
    uint32_t id = htole32(state);

    if (write_tag(s, err) < 0)
        return -1;
    return write_simple(s, LIBXL_SR_REC_CHECKPOINT_STATE, &id, sizeof(id), err);
}

int libxl_stream_write_caps(struct libxl_stream *s, const char *json, struct colo_err *err)
{
    size_t len = strlen(json);

    if (len > LIBXL_SR_CONFIG_MAX)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "capabilities of %zu bytes", len);
    return write_simple(s, LIBXL_SR_REC_COLO_CAPS, json, len, err);
}

int libxl_stream_write_stop(struct libxl_stream *s, const char *reason, const char *message,
                            struct colo_err *err)
{
    struct colo_json_gen *g = colo_json_gen_new(false);
    char *json;
    int rc;

    colo_json_open(g, NULL);
    colo_json_put_str(g, "reason", reason);
    colo_json_put_str(g, "message", message);
    colo_json_close(g);
    json = colo_json_gen_finish(g);
    if (!json)
        return colo_fail_errno(err, ENOMEM, "saying goodbye");
    rc = write_simple(s, LIBXL_SR_REC_COLO_STOP, json, strlen(json), err);
    free(json);
    return rc;
}
