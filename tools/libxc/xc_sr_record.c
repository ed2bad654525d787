/* SPDX-License-Identifier: LGPL-2.1-only */
#include "xc_sr_record.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PARTS  1024
#define FIRST_PART ((size_t)1 << 20) /* what is allocated for a body before any of it has come */

void xc_sr_record_free(struct xc_sr_record *rec)
{
    free(rec->data);
    memset(rec, 0, sizeof(*rec));
}

const char *xc_sr_record_name(uint32_t type)
{
    static const struct {
        uint32_t type;
        const char *name;
    } names[] = {
        {XC_SR_REC_END, "END"},
        {XC_SR_REC_PAGE_DATA, "PAGE_DATA"},
        {XC_SR_REC_X86_TSC_INFO, "X86_TSC_INFO"},
        {XC_SR_REC_HVM_CONTEXT, "HVM_CONTEXT"},
        {XC_SR_REC_HVM_PARAMS, "HVM_PARAMS"},
        {XC_SR_REC_TOOLSTACK, "TOOLSTACK"},
        {XC_SR_REC_VERIFY, "VERIFY"},
        {XC_SR_REC_CHECKPOINT, "CHECKPOINT"},
        {XC_SR_REC_DIRTY_PFN_LIST, "CHECKPOINT_DIRTY_PFN_LIST"},
        {XC_SR_REC_STATIC_DATA_END, "STATIC_DATA_END"},
        {XC_SR_REC_X86_CPUID_POLICY, "X86_CPUID_POLICY"},
        {XC_SR_REC_X86_MSR_POLICY, "X86_MSR_POLICY"},
        {XC_SR_REC_COLO_HEARTBEAT, "COLO_HEARTBEAT"},
        {XC_SR_REC_COLO_ZERO_PAGES, "COLO_ZERO_PAGES"},
        {XC_SR_REC_COLO_TAG, "COLO_TAG"},
        {XC_SR_REC_COLO_STOP, "COLO_STOP"},
    };
    static __thread char other[24];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i].type == type)
            return names[i].name;
    }
    snprintf(other, sizeof(other), "type %#x", type);
    return other;
}

static uint32_t padding(uint32_t length)
{
    return -length % XC_SR_RECORD_ALIGN;
}

/* ---- heartbeats ---- */

static struct xc_sr_rhdr decode_header(const void *wire)
{
    struct xc_sr_rhdr h;

    memcpy(&h, wire, sizeof(h));
    h.type = le32toh(h.type);
    h.length = le32toh(h.length);
    return h;
}

/* That it came, and from the session's own peer, is all that counts of a heartbeat. */
static int take_heartbeat(struct xc_sr_channel *ch, uint32_t length, colo_time deadline,
                          struct colo_err *err)
{
    struct xc_sr_rec_tag tag;

    if (length != sizeof(tag))
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "COLO_HEARTBEAT of %u bytes, expected %zu",
                         length, sizeof(tag));
    if (xc_sr_channel_read(ch, &tag, sizeof(tag), deadline, err))
        return -1;
    if (ch->tag && (memcmp(tag.session, ch->tag->session, sizeof(tag.session)) != 0 ||
                    le64toh(tag.generation) != ch->tag->generation))
        return colo_fail(err, COLO_ERR_PROTOCOL, "foreign-message",
                         "a heartbeat belongs to another session");
    return 0;
}

/* Take away the whole heartbeats that the buffer begins with.  *hdr = NULL, or what comes next. */
static int drop_heartbeats(struct xc_sr_channel *ch, const void **hdr, struct colo_err *err)
{
    unsigned char skipped[sizeof(struct xc_sr_rhdr)];
    struct xc_sr_rhdr h;

    while ((*hdr = xc_sr_channel_peek(ch, sizeof(h))) != NULL) {
        h = decode_header(*hdr);
        if (h.type != XC_SR_REC_COLO_HEARTBEAT)
            return 0;
        if (h.length == sizeof(struct xc_sr_rec_tag) &&
            !xc_sr_channel_peek(ch, sizeof(h) + h.length))
            break; /* its rest is on its way */
        if (xc_sr_channel_read(ch, skipped, sizeof(skipped), 0, err) ||
            take_heartbeat(ch, h.length, 0, err))
            return -1;
    }
    *hdr = NULL;
    return 0;
}

int xc_sr_record_pending(struct xc_sr_channel *ch, bool *pending, struct colo_err *err)
{
    const void *hdr;
    size_t avail;

    *pending = false;
    if (xc_sr_channel_pump(ch, &avail, err) || drop_heartbeats(ch, &hdr, err))
        return -1;
    /* A second pump finds the end of the stream, or silence, behind the heartbeats. */
    if (!hdr && xc_sr_channel_pump(ch, &avail, err))
        return -1;
    *pending = hdr || (ch->eof && xc_sr_channel_peek(ch, 1));
    /* Part of a record is no sign of life for ever. */
    if (!*pending && xc_sr_channel_peek(ch, 1))
        return xc_sr_channel_check_silence(ch, err);
    return 0;
}

/* ---- reading ---- */

/* The peer leaves, whatever we were waiting for; what it says of it is for the layer above. */
static int take_stop(struct xc_sr_channel *ch, uint32_t length, colo_time deadline,
                     struct colo_err *err)
{
    void *body;

    if (length > XC_SR_STOP_MAX)
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "record COLO_STOP of %u bytes, more than %u",
                         length, XC_SR_STOP_MAX);
    body = malloc(length ? length : 1);
    if (!body)
        return colo_fail_errno(err, ENOMEM, "reading a record of %u bytes", length);
    if (xc_sr_channel_read(ch, body, length, deadline, err) ||
        xc_sr_read_padding(ch, length, deadline, err)) {
        free(body);
        return -1;
    }
    free(ch->stop);
    ch->stop = body;
    ch->stop_len = length;
    return colo_fail(err, COLO_ERR_STOPPED, NULL, "the peer ended the session");
}

int xc_sr_read_header(struct xc_sr_channel *ch, uint32_t limit, colo_time deadline,
                      struct xc_sr_rhdr *hdr, struct colo_err *err)
{
    struct xc_sr_rhdr wire;

    for (;;) {
        if (xc_sr_channel_read(ch, &wire, sizeof(wire), deadline, err))
            return -1;
        *hdr = decode_header(&wire);
        if (hdr->type == XC_SR_REC_COLO_STOP)
            return take_stop(ch, hdr->length, deadline, err);
        if (hdr->type != XC_SR_REC_COLO_HEARTBEAT)
            break;
        if (take_heartbeat(ch, hdr->length, deadline, err))
            return -1;
        /* a peer that only says that it lives is late all the same */
        if (colo_now() >= deadline)
            return colo_fail(err, COLO_ERR_TIMEOUT, NULL,
                             "the peer was too slow: the answer is overdue");
    }
    if (hdr->length > limit)
        return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "record %s of %u bytes, more than %u",
                         xc_sr_record_name(hdr->type), hdr->length, limit);
    return 0;
}

int xc_sr_read_padding(struct xc_sr_channel *ch, uint32_t length, colo_time deadline,
                       struct colo_err *err)
{
    unsigned char pad[XC_SR_RECORD_ALIGN];
    uint32_t n = padding(length);

    if (n && xc_sr_channel_read(ch, pad, n, deadline, err))
        return -1;
    for (uint32_t i = 0; i < n; i++) {
        if (pad[i])
            return colo_fail(err, COLO_ERR_PROTOCOL, NULL, "a record's padding is not zero");
    }
    return 0;
}

int xc_sr_read_record(struct xc_sr_channel *ch, uint32_t limit, colo_time deadline,
                      struct xc_sr_record *rec, struct colo_err *err)
{
    size_t have = 0, room = 0;
    struct xc_sr_rhdr h;
    unsigned char *p;

    memset(rec, 0, sizeof(*rec));
    if (xc_sr_read_header(ch, limit, deadline, &h, err))
        return -1;
    while (have < h.length) {
        room = room ? 2 * room : FIRST_PART;
        if (room > h.length)
            room = h.length;
        p = realloc(rec->data, room);
        if (!p) {
            colo_fail_errno(err, ENOMEM, "reading a record of %u bytes", h.length);
            goto fail;
        }
        rec->data = p;
        if (xc_sr_channel_read(ch, p + have, room - have, deadline, err))
            goto fail;
        have = room;
    }
    if (xc_sr_read_padding(ch, h.length, deadline, err))
        goto fail;
    rec->type = h.type;
    rec->length = h.length;
    return 0;

fail:
    xc_sr_record_free(rec);
    return colo_err_prefix(err, "record %s", xc_sr_record_name(h.type));
}

/* ---- writing ---- */

int xc_sr_write_record(struct xc_sr_channel *ch, uint32_t type, const struct iovec *iov, int cnt,
                       colo_time deadline, struct colo_err *err)
{
    static const unsigned char zeroes[XC_SR_RECORD_ALIGN];
    struct iovec all[MAX_PARTS + 2];
    struct xc_sr_rhdr h;
    const void *next;
    size_t len = 0;

    if (cnt < 0 || cnt > MAX_PARTS)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "record %s of %d parts",
                         xc_sr_record_name(type), cnt);
    for (int i = 0; i < cnt; i++) {
        if (iov[i].iov_len > XC_SR_RECORD_MAX - len)
            return colo_fail(err, COLO_ERR_LOCAL, NULL, "record %s longer than %u bytes",
                             xc_sr_record_name(type), XC_SR_RECORD_MAX);
        len += iov[i].iov_len;
        all[1 + i] = iov[i];
    }
    /* Who writes for long without reading would otherwise end with a buffer full of life signs. */
    if (xc_sr_channel_is_reader(ch) && xc_sr_channel_peek(ch, XC_SR_CHANNEL_BUF / 2) &&
        drop_heartbeats(ch, &next, err))
        return -1;

    h.type = htole32(type);
    h.length = htole32((uint32_t)len);
    all[0] = (struct iovec){.iov_base = &h, .iov_len = sizeof(h)};
    all[1 + cnt] = (struct iovec){.iov_base = (void *)zeroes, .iov_len = padding((uint32_t)len)};
    return xc_sr_channel_writev(ch, all, cnt + 2, deadline, err);
}

int xc_sr_write_simple(struct xc_sr_channel *ch, uint32_t type, const void *body, uint32_t length,
                       colo_time deadline, struct colo_err *err)
{
    struct iovec iov = {.iov_base = (void *)body, .iov_len = length};

    return xc_sr_write_record(ch, type, &iov, length ? 1 : 0, deadline, err);
}
