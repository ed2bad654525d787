/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Reading the libxl layer of the stream.  What comes is the peer's word and nothing more: each
 * record must be one that may come here, of a length that its type can have.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libxl_json.h"
#include "libxl_stream.h"

/* Optional records that we do not know are passed over, but not for ever. */
#define SKIPPED_MAX 16

static const struct {
    uint32_t type;
    const char *name;
} record_names[] = {
    {LIBXL_SR_REC_END, "END"},
    {LIBXL_SR_REC_LIBXC_CONTEXT, "LIBXC_CONTEXT"},
    {LIBXL_SR_REC_EMULATOR_XENSTORE, "EMULATOR_XENSTORE_DATA"},
    {LIBXL_SR_REC_EMULATOR_CONTEXT, "EMULATOR_CONTEXT"},
    {LIBXL_SR_REC_CHECKPOINT_END, "CHECKPOINT_END"},
    {LIBXL_SR_REC_CHECKPOINT_STATE, "CHECKPOINT_STATE"},
    {LIBXL_SR_REC_COLO_CAPS, "COLO_CAPS"},
    {LIBXL_SR_REC_COLO_STOP, "COLO_STOP"},
    {LIBXL_SR_REC_COLO_DIGEST, "COLO_DIGEST"},
    {LIBXL_SR_REC_COLO_TIMES, "COLO_TIMES"},
    {XC_SR_REC_COLO_TAG, "COLO_TAG"},
    {XC_SR_REC_COLO_ZERO_PAGES, "COLO_ZERO_PAGES"},
};

static const char *known_name(uint32_t type)
{
    for (size_t i = 0; i < sizeof(record_names) / sizeof(record_names[0]); i++)
        if (record_names[i].type == type)
            return record_names[i].name;
    return NULL;
}

static const char *record_name(uint32_t type)
{
    static __thread char other[24];
    const char *name = known_name(type);

    if (name)
        return name;
    snprintf(other, sizeof(other), "type %#x", type);
    return other;
}

const char *libxl_stream_state_name(uint32_t state)
{
    static const char *const names[] = {
        [LIBXL_SR_STATE_NEW] = "NEW",
        [LIBXL_SR_STATE_SVM_SUSPENDED] = "SVM_SUSPENDED",
        [LIBXL_SR_STATE_SVM_READY] = "SVM_READY",
        [LIBXL_SR_STATE_SVM_RESUMED] = "SVM_RESUMED",
    };

    return state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

static colo_time deadline(const struct libxl_stream *s)
{
    return colo_deadline(s->io_timeout, s->limit);
}

static int unexpected(const struct xc_sr_record *rec, const char *due, struct colo_err *err)
{
    return colo_fail(err, COLO_ERR_PROTOCOL, "unexpected-record",
                     "the peer sent %s where %s was due", record_name(rec->type), due);
}

static int bad_length(const struct xc_sr_record *rec, struct colo_err *err)
{
    return colo_fail(err, COLO_ERR_PROTOCOL, "bad-record", "the peer sent %s of %u bytes",
                     record_name(rec->type), rec->length);
}

/* A reason is a word that scripts compare. */
static void copy_reason(char *to, size_t room, const char *from)
{
    snprintf(to, room, "%s", from);
    for (; *to; to++)
        if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789-_.", *to))
            *to = '-';
}

int libxl_stream_explain_stop(const struct libxl_stream *s, struct colo_err *err)
{
    static const char refused[] = "refused:";
    struct colo_json *j;
    const char *said_reason, *said_text;
    char reason[sizeof(err->reason)] = "", text[sizeof(err->msg)] = "it did not say why";
    bool refusal = false;

    if (colo_json_parse(s->ch->stop, s->ch->stop_len, &j, err) < 0)
        return colo_err_prefix(err, "the peer's COLO_STOP");
    said_reason = colo_json_get_str(j, "reason");
    said_text = colo_json_get_str(j, "message");
    if (said_reason) {
        refusal = !strncmp(said_reason, refused, strlen(refused));
        copy_reason(reason, sizeof(reason), said_reason + (refusal ? strlen(refused) : 0));
    }
    if (said_text && *said_text)
        snprintf(text, sizeof(text), "%s", said_text); /* colo_fail cleans it */
    colo_json_free(j);
    return colo_fail(err, refusal ? COLO_ERR_REFUSED : COLO_ERR_STOPPED, *reason ? reason : NULL,
                     "the peer %s: %.400s", refusal ? "refused" : "ended the session", text);
}

/* The next record that counts.  due tells what the caller waits for, in messages. */
static int next_record(struct libxl_stream *s, uint32_t limit, const char *due,
                       struct xc_sr_record *rec, struct colo_err *err)
{
    uint32_t most = limit > LIBXL_SR_CONFIG_MAX ? limit : LIBXL_SR_CONFIG_MAX;
    colo_time until = deadline(s);
    int skipped = 0;

    for (;;) {
        if (xc_sr_read_record(s->ch, most, until, rec, err) < 0)
            return s->ch->stop ? libxl_stream_explain_stop(s, err)
                               : colo_err_prefix(err, "waiting for %s", due);
        if (!(rec->type & XC_SR_REC_OPTIONAL) || known_name(rec->type))
            return 0;
        if (++skipped > SKIPPED_MAX) {
            unexpected(rec, due, err);
            xc_sr_record_free(rec);
            return -1;
        }
        xc_sr_record_free(rec);
    }
}

/* A tag that is not ours means a message of another session, or one out of step. */
static int check_tag(const struct libxl_stream *s, const struct xc_sr_record *rec,
                     struct colo_err *err)
{
    struct xc_sr_rec_tag tag;

    if (rec->length != sizeof(tag))
        return bad_length(rec, err);
    memcpy(&tag, rec->data, sizeof(tag));
    tag.generation = le64toh(tag.generation);
    tag.checkpoint = le64toh(tag.checkpoint);
    if (memcmp(tag.session, s->tag.session, sizeof(tag.session)) != 0)
        return colo_fail(err, COLO_ERR_PROTOCOL, "foreign-message",
                         "the peer's message belongs to another session");
    if (tag.generation != s->tag.generation || tag.checkpoint != s->tag.checkpoint)
        return colo_fail(err, COLO_ERR_PROTOCOL, "foreign-message",
                         "the peer's message belongs to generation %llu, checkpoint %llu; ours are "
                         "%llu, %llu",
                         (unsigned long long)tag.generation, (unsigned long long)tag.checkpoint,
                         (unsigned long long)s->tag.generation,
                         (unsigned long long)s->tag.checkpoint);
    return 0;
}

/* Read the record of a type that a tag announces. */
static int read_tagged(struct libxl_stream *s, uint32_t type, const char *due,
                       struct xc_sr_record *rec, struct colo_err *err)
{
    int rc = 0;

    if (s->tags) {
        if (next_record(s, sizeof(struct xc_sr_rec_tag), due, rec, err) < 0)
            return -1;
        rc = rec->type == XC_SR_REC_COLO_TAG ? check_tag(s, rec, err) : unexpected(rec, due, err);
        xc_sr_record_free(rec);
        if (rc < 0)
            return -1;
    }
    if (next_record(s, LIBXL_SR_CONFIG_MAX, due, rec, err) < 0)
        return -1;
    if (rec->type != type) {
        rc = unexpected(rec, due, err);
        xc_sr_record_free(rec);
    }
    return rc;
}

int libxl_stream_read_header(struct libxl_stream *s, struct colo_err *err)
{
    struct libxl_sr_hdr h;

    if (xc_sr_channel_read(s->ch, &h, sizeof(h), deadline(s), err) < 0)
        return colo_err_prefix(err, "waiting for the libxl stream header");
    if (be64toh(h.ident) != LIBXL_SR_IDENT)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-header",
                         "what the peer sends is no libxl stream");
    if (be32toh(h.version) != LIBXL_SR_VERSION)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-version",
                         "the peer's libxl stream has version %u, ours is %u", be32toh(h.version),
                         LIBXL_SR_VERSION);
    if (be32toh(h.options) & LIBXL_SR_OPT_BIG)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-header",
                         "the peer's stream is big-endian, which x86 hosts do not read");
    if (h.options)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-header",
                         "the peer's stream has options %#x, which are not supported",
                         be32toh(h.options));
    return 0;
}

/* A record without a body. */
static int read_empty(struct libxl_stream *s, uint32_t type, struct colo_err *err)
{
    struct xc_sr_record rec;
    int rc;

    if (libxl_stream_read_expected(s, type, 0, &rec, err) < 0)
        return -1;
    rc = rec.length ? bad_length(&rec, err) : 0;
    xc_sr_record_free(&rec);
    return rc;
}

int libxl_stream_read_libxc_context(struct libxl_stream *s, struct colo_err *err)
{
    return read_empty(s, LIBXL_SR_REC_LIBXC_CONTEXT, err);
}

int libxl_stream_read_expected(struct libxl_stream *s, uint32_t type, uint32_t limit,
                               struct xc_sr_record *rec, struct colo_err *err)
{
    int rc = 0;

    memset(rec, 0, sizeof(*rec));
    if (next_record(s, limit, record_name(type), rec, err) < 0)
        return -1;
    if (rec->type != type)
        rc = unexpected(rec, record_name(type), err);
    else if (rec->length > limit)
        rc = bad_length(rec, err);
    if (rc < 0)
        xc_sr_record_free(rec);
    return rc;
}

int libxl_stream_read_state(struct libxl_stream *s, uint32_t expected, struct colo_err *err)
{
    struct xc_sr_record rec;
    uint32_t state;
    int rc = -1;

    if (read_tagged(s, LIBXL_SR_REC_CHECKPOINT_STATE, libxl_stream_state_name(expected), &rec,
                    err) < 0)
        return -1;
    if (rec.length != sizeof(state)) {
        bad_length(&rec, err);
        goto out;
    }
    memcpy(&state, rec.data, sizeof(state));
    state = le32toh(state);
    if (state != expected) {
        colo_fail(err, COLO_ERR_PROTOCOL, "unexpected-record",
                  "the peer sent CHECKPOINT_STATE %s (%u) where %s was due",
                  libxl_stream_state_name(state), state, libxl_stream_state_name(expected));
        goto out;
    }
    rc = 0;

out:
    xc_sr_record_free(&rec);
    return rc;
}

int libxl_stream_read_caps(struct libxl_stream *s, char **json, struct colo_err *err)
{
    struct xc_sr_record rec;
    int rc = -1;

    *json = NULL;
    if (libxl_stream_read_expected(s, LIBXL_SR_REC_COLO_CAPS, LIBXL_SR_CONFIG_MAX, &rec, err) < 0)
        return -1;
    if (rec.length == 0 || memchr(rec.data, 0, rec.length)) {
        colo_fail(err, COLO_ERR_PROTOCOL, "bad-record", "the peer sent COLO_CAPS that are no text");
        goto out;
    }
    *json = strndup(rec.data, rec.length);
    rc = *json ? 0 : colo_fail_errno(err, ENOMEM, "the peer's capabilities");

out:
    xc_sr_record_free(&rec);
    return rc;
}

/* Whose state is it?  Only upstream QEMU's is of use. */
static int check_emulator(const struct xc_sr_record *rec, struct colo_err *err)
{
    struct libxl_sr_emulator emu;

    if (rec->length < sizeof(emu))
        return bad_length(rec, err);
    memcpy(&emu, rec->data, sizeof(emu));
    if (le32toh(emu.id) != LIBXL_SR_EMULATOR_QEMU_UPSTREAM || emu.index != 0)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-record",
                         "the peer sent %s of device model %u, index %u; only upstream QEMU's (2) "
                         "can be used",
                         record_name(rec->type), le32toh(emu.id), le32toh(emu.index));
    return 0;
}

/* Pairs of key and value, each ending with NUL.  They describe memory that QEMU has moved, which
 * QEMU of our times keeps to itself: checked and passed over. */
static int check_xenstore_data(const struct xc_sr_record *rec, struct colo_err *err)
{
    const char *p = rec->data;
    size_t strings = 0;

    if (check_emulator(rec, err) < 0)
        return -1;
    if (rec->length > LIBXL_SR_CONFIG_MAX)
        return bad_length(rec, err);
    for (uint32_t i = sizeof(struct libxl_sr_emulator); i < rec->length; i++)
        strings += p[i] == 0;
    if (strings % 2 != 0 ||
        (rec->length > sizeof(struct libxl_sr_emulator) && p[rec->length - 1] != 0))
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-record",
                         "the peer sent EMULATOR_XENSTORE_DATA that is no pairs of strings");
    return 0;
}

/* The record becomes the state, without a copy of what may be many megabytes. */
static int keep_context(struct xc_sr_record *rec, void **state, size_t *len, struct colo_err *err)
{
    size_t head = sizeof(struct libxl_sr_emulator);

    if (check_emulator(rec, err) < 0)
        return -1;
    if (*state)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-record",
                         "the peer sent two device states in one checkpoint");
    if (rec->length == head)
        return 0;
    *len = rec->length - head;
    memmove(rec->data, (char *)rec->data + head, *len);
    *state = rec->data;
    rec->data = NULL;
    return 0;
}

/* One record on the way; *done when it is the last. */
static int take_emulator(struct libxl_stream *s, struct xc_sr_record *rec, void **state,
                         size_t *len, struct xc_sr_record *digest, bool *tagged, bool *done,
                         struct colo_err *err)
{
    if (*tagged && rec->type != LIBXL_SR_REC_CHECKPOINT_END)
        return unexpected(rec, "CHECKPOINT_END", err);
    switch (rec->type) {
    case LIBXL_SR_REC_EMULATOR_XENSTORE:
        return check_xenstore_data(rec, err);
    case LIBXL_SR_REC_EMULATOR_CONTEXT:
        return keep_context(rec, state, len, err);
    case LIBXL_SR_REC_COLO_DIGEST:
        if (digest) {
            xc_sr_record_free(digest);
            *digest = *rec;
            rec->data = NULL;
        }
        return 0;
    case XC_SR_REC_COLO_TAG:
        if (!s->tags)
            return unexpected(rec, "CHECKPOINT_END", err);
        *tagged = true;
        return check_tag(s, rec, err);
    case LIBXL_SR_REC_CHECKPOINT_END:
        if (s->tags && !*tagged)
            return unexpected(rec, "COLO_TAG", err);
        /* fall through */
    case LIBXL_SR_REC_END:
        *done = true;
        return rec->length ? bad_length(rec, err) : 0;
    default:
        return unexpected(rec, "device state or CHECKPOINT_END", err);
    }
}

int libxl_stream_read_emulators(struct libxl_stream *s, void **state, size_t *len, uint32_t *last,
                                struct xc_sr_record *digest, struct colo_err *err)
{
    struct xc_sr_record rec;
    bool tagged = false, done = false;
    int rc;

    *state = NULL;
    *len = 0;
    if (digest)
        memset(digest, 0, sizeof(*digest));
    do {
        if (next_record(s, XC_SR_RECORD_MAX, "device state or CHECKPOINT_END", &rec, err) < 0)
            goto fail;
        *last = rec.type;
        rc = take_emulator(s, &rec, state, len, digest, &tagged, &done, err);
        xc_sr_record_free(&rec);
        if (rc < 0)
            goto fail;
    } while (!done);
    return 0;

fail:
    free(*state);
    *state = NULL;
    *len = 0;
    if (digest)
        xc_sr_record_free(digest);
    return -1;
}
