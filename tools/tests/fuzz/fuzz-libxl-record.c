/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The libxl layer's readers.  The first byte of the input says which of them are called, and
 * whether tags were agreed on; the session's tag is all zeroes.
 */
#include "fuzzchan.h"
#include "libxl_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int emulators(struct libxl_stream *s, struct colo_err *err)
{
    struct xc_sr_record digest;
    uint32_t last;
    size_t len;
    void *state;
    int rc = libxl_stream_read_emulators(s, &state, &len, &last, &digest, err);

    if ((state != NULL) != (len > 0) || (rc < 0 && (state || digest.data)))
        abort();
    if (rc == 0)
        xc_sr_record_free(&digest);
    free(state);
    return rc;
}

static int checkpoint(struct libxl_stream *s, struct colo_err *err)
{
    struct xc_sr_record times;

    if (emulators(s, err) < 0 || libxl_stream_read_state(s, LIBXL_SR_STATE_NEW, err) < 0 ||
        libxl_stream_read_expected(s, LIBXL_SR_REC_COLO_TIMES, 4096, &times, err) < 0)
        return -1;
    xc_sr_record_free(&times);
    return libxl_stream_read_state(s, LIBXL_SR_STATE_SVM_RESUMED, err);
}

static int bring_up(struct libxl_stream *s, struct colo_err *err)
{
    char *caps;

    if (libxl_stream_read_header(s, err) < 0 || libxl_stream_read_caps(s, &caps, err) < 0)
        return -1;
    free(caps);
    return libxl_stream_read_libxc_context(s, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct xc_sr_channel ch;
    struct libxl_stream s = {.ch = &ch};
    struct colo_err err = {0};
    int rc = 0;

    if (size == 0)
        return 0;
    s.tags = data[0] & 1;
    fuzzchan_open(&ch, data + 1, size - 1);
    if (data[0] & 2)
        rc = bring_up(&s, &err);
    while (rc == 0)
        rc = checkpoint(&s, &err);
    if (err.cls == COLO_OK || !err.msg[0] || !err.reason[0])
        abort();
    xc_sr_channel_fini(&ch);
    return 0;
}
