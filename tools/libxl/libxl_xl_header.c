/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * What xl puts before a stream: a magic, flags, and the guest's configuration as JSON.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libxl_stream.h"

#define XL_MAGIC          "Xen saved domain, xl format\n \0 \r"
#define XL_BYTEORDER      UINT32_C(0x01020304) /* in the writer's own order, as all numbers are */
#define XL_MANDATORY_JSON 0x1u
#define XL_MANDATORY_V2   0x2u
#define XL_MANDATORY      (XL_MANDATORY_JSON | XL_MANDATORY_V2)
#define XL_OPTIONAL_MAX   (2 * LIBXL_SR_CONFIG_MAX)

struct xl_header {
    char magic[32];
    uint32_t byteorder;
    uint32_t mandatory_flags;
    uint32_t optional_flags;
    uint32_t optional_data_len; /* of what follows: u32 length of the config, the config, ... */
};
_Static_assert(sizeof(struct xl_header) == 48, "xl header");
_Static_assert(sizeof(XL_MAGIC) - 1 == 32, "xl magic");

int libxl_xl_header_write(struct xc_sr_channel *ch, const char *config, colo_time deadline,
                          struct colo_err *err)
{
    struct xl_header h = {.byteorder = XL_BYTEORDER, .mandatory_flags = XL_MANDATORY};
    size_t len = strlen(config) + 1;
    uint32_t config_len = (uint32_t)len;
    struct iovec iov[3] = {
        {.iov_base = &h, .iov_len = sizeof(h)},
        {.iov_base = &config_len, .iov_len = sizeof(config_len)},
        {.iov_base = (void *)config, .iov_len = len},
    };

    if (len > LIBXL_SR_CONFIG_MAX)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "a guest configuration of %zu bytes", len);
    memcpy(h.magic, XL_MAGIC, sizeof(h.magic));
    h.optional_data_len = (uint32_t)sizeof(config_len) + config_len;
    return xc_sr_channel_writev(ch, iov, 3, deadline, err);
}

static int check_header(const struct xl_header *h, struct colo_err *err)
{
    if (memcmp(h->magic, XL_MAGIC, sizeof(h->magic)) != 0)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-header", "what comes is no xl stream");
    if (h->byteorder != XL_BYTEORDER)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-header",
                         "the xl stream was written in another byte order (%#010x)", h->byteorder);
    if (h->mandatory_flags & ~XL_MANDATORY)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-header",
                         "the xl stream needs features that this xl lacks (flags %#x)",
                         h->mandatory_flags & ~XL_MANDATORY);
    if (h->mandatory_flags != XL_MANDATORY)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-header",
                         "the xl stream is of a Xen before 4.6 (flags %#x)", h->mandatory_flags);
    if (h->optional_data_len < sizeof(uint32_t) || h->optional_data_len > XL_OPTIONAL_MAX)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-header",
                         "the xl stream has %u bytes of optional data", h->optional_data_len);
    return 0;
}

/* What a later xl adds behind the configuration. */
static int pass_over(struct xc_sr_channel *ch, uint32_t len, colo_time deadline,
                     struct colo_err *err)
{
    char scratch[4096];
    uint32_t n;

    for (; len > 0; len -= n) {
        n = len < sizeof(scratch) ? len : (uint32_t)sizeof(scratch);
        if (xc_sr_channel_read(ch, scratch, n, deadline, err) < 0)
            return -1;
    }
    return 0;
}

int libxl_xl_header_read(struct xc_sr_channel *ch, colo_time deadline, char **config,
                         struct colo_err *err)
{
    struct xl_header h;
    uint32_t len, room;
    char *text;

    *config = NULL;
    if (xc_sr_channel_read(ch, &h, sizeof(h), deadline, err) < 0)
        return colo_err_prefix(err, "waiting for the xl header");
    if (check_header(&h, err) < 0)
        return -1;
    if (xc_sr_channel_read(ch, &len, sizeof(len), deadline, err) < 0)
        return colo_err_prefix(err, "xl header");
    room = h.optional_data_len - (uint32_t)sizeof(len);
    if (len == 0 || len > LIBXL_SR_CONFIG_MAX || len > room)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-header",
                         "the xl stream's configuration has %u bytes", len);
    text = malloc((size_t)len + 1);
    if (!text)
        return colo_fail_errno(err, ENOMEM, "guest configuration of %u bytes", len);
    if (xc_sr_channel_read(ch, text, len, deadline, err) < 0 ||
        pass_over(ch, room - len, deadline, err) < 0) {
        colo_err_prefix(err, "guest configuration");
        goto out;
    }
    text[len] = 0;
    /* the length counts the NUL, but be lenient to one who forgot it */
    if (strlen(text) + 1 < len || !*text) {
        colo_fail(err, COLO_ERR_PROTOCOL, "bad-header", "the xl stream's configuration is no text");
        goto out;
    }
    *config = text;
    return 0;

out:
    free(text);
    return -1;
}
