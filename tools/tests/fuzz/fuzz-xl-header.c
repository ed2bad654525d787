/* SPDX-License-Identifier: GPL-2.0-only */
/* What comes first from a peer that claims to be xl. */
#include <string.h>

#include "fuzzchan.h"
#include "libxl_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct xc_sr_channel ch;
    struct colo_err err = {0};
    char *config;
    int rc;

    fuzzchan_open(&ch, data, size);
    rc = libxl_xl_header_read(&ch, COLO_NO_DEADLINE, &config, &err);
    if ((rc == 0) != (config != NULL) || (rc < 0 && !err.msg[0]) ||
        (config && strlen(config) > LIBXL_SR_CONFIG_MAX))
        abort();
    free(config);
    xc_sr_channel_fini(&ch);
    return 0;
}
