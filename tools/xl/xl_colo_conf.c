/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Settings: the colo.* keys of xl.conf, and their bounds, which the options share.
 */
#include "xl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libxlutil.h>

/* The bounds are those of the capabilities that the peer checks. */
static const struct {
    const char *key;
    uint64_t least, most;
} settings[XL_NR_SETTINGS] = {
    [XL_HEARTBEAT_MS] = {"colo.heartbeat_ms", 10, 10000},
    [XL_HEARTBEAT_MISSES] = {"colo.heartbeat_misses", 2, 1000},
    [XL_INTERVAL_MAX_MS] = {"colo.interval_max_ms", 10, 3600000},
    [XL_INTERVAL_MIN_MS] = {"colo.interval_min_ms", 0, 60000},
    [XL_OUTPUT_WAIT_MS] = {"colo.output_wait_ms", 1, 10000},
    [XL_STAGING_CAP_MB] = {"colo.staging_cap_mb", 1, 1048576},
};

int xl_parse_number(const char *what, const char *text, uint64_t least, uint64_t most,
                    uint64_t *out, struct colo_err *err)
{
    unsigned long long n;
    char *end;

    errno = 0;
    n = strtoull(text, &end, 10);
    if (errno || *text < '0' || *text > '9' || *end || n < least || n > most)
        return colo_fail(err, COLO_ERR_REFUSED, "usage",
                         "%s is \"%.64s\"; it must be a number from %" PRIu64 " to %" PRIu64, what,
                         text, least, most);
    *out = n;
    return 0;
}

int xl_set_number(enum xl_setting s, const char *what, const char *text, struct colo_config *c,
                  struct colo_err *err)
{
    uint64_t n;

    if (xl_parse_number(what, text, settings[s].least, settings[s].most, &n, err))
        return -1;
    switch (s) {
    case XL_HEARTBEAT_MS:
        c->heartbeat_ms = (uint32_t)n;
        break;
    case XL_HEARTBEAT_MISSES:
        c->heartbeat_misses = (uint32_t)n;
        break;
    case XL_INTERVAL_MAX_MS:
        c->interval_max_ms = (uint32_t)n;
        break;
    case XL_INTERVAL_MIN_MS:
        c->interval_min_ms = (uint32_t)n;
        break;
    case XL_OUTPUT_WAIT_MS:
        c->output_wait_ms = (uint32_t)n;
        break;
    case XL_STAGING_CAP_MB:
        c->staging_cap = n << 20;
        break;
    case XL_NR_SETTINGS:
        break;
    }
    return 0;
}

int xl_parse_on_silence(const char *what, const char *text, struct colo_config *c,
                        struct colo_err *err)
{
    if (strcmp(text, "takeover") != 0 && strcmp(text, "stop") != 0)
        return colo_fail(err, COLO_ERR_REFUSED, "usage",
                         "%s is \"%.64s\"; it must be takeover or stop", what, text);
    c->takeover_on_silence = !strcmp(text, "takeover");
    return 0;
}

int xl_set_proxyscript(const char *what, const char *text, struct colo_config *c,
                       struct colo_err *err)
{
    /* it goes through the shell of the other host, too */
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/+-";
    const char *folder = *text && !strchr(text, '/') ? COLO_SCRIPT_DIR : "";

    if (strspn(text, allowed) != strlen(text) ||
        strlen(folder) + strlen(text) >= sizeof(c->proxyscript))
        return colo_fail(err, COLO_ERR_REFUSED, "usage",
                         "%s is \"%.64s\"; it must be a path of letters, digits and ._/+-, or a "
                         "name in " COLO_SCRIPT_DIR,
                         what, text);
    memcpy(c->proxyscript, folder, strlen(folder));
    memcpy(c->proxyscript + strlen(folder), text, strlen(text) + 1);
    return 0;
}

int xl_colo_conf_check(const struct colo_config *c, struct colo_err *err)
{
    if ((uint64_t)c->heartbeat_ms * c->heartbeat_misses > COLO_SILENCE_MAX_MS)
        return colo_fail(err, COLO_ERR_REFUSED, "usage",
                         "%" PRIu32 " heartbeats of %" PRIu32 " ms: a silence of more than %u s is "
                         "longer than a checkpoint may take",
                         c->heartbeat_misses, c->heartbeat_ms, COLO_SILENCE_MAX_MS / 1000);
    if (c->interval_min_ms > c->interval_max_ms)
        return colo_fail(err, COLO_ERR_REFUSED, "usage",
                         "the minimum interval (%" PRIu32 " ms) is above the maximum (%" PRIu32
                         " ms)",
                         c->interval_min_ms, c->interval_max_ms);
    return 0;
}

/* The last line that libxlutil complained with, for our message. */
static void last_line(char *report, char *buf, size_t size)
{
    size_t len = report ? strlen(report) : 0;
    const char *line;

    while (len && report[len - 1] == '\n')
        report[--len] = '\0';
    line = len ? strrchr(report, '\n') : NULL;
    snprintf(buf, size, "%s", line ? line + 1 : len ? report : "cannot be read");
}

static const struct {
    const char *key;
    int (*set)(const char *what, const char *text, struct colo_config *c, struct colo_err *err);
} texts[] = {
    {"colo.on_silence", xl_parse_on_silence},
    {"colo.default.proxyscript", xl_set_proxyscript},
};

static int take_keys(XLU_Config *cfg, const char *path, struct colo_config *c, struct colo_err *err)
{
    const char *value;
    char what[256];
    int s, r;

    for (s = 0; s < XL_NR_SETTINGS; s++) {
        r = xlu_cfg_get_string(cfg, settings[s].key, &value, 1);
        snprintf(what, sizeof(what), "%s in %s", settings[s].key, path);
        if (r == ESRCH)
            continue;
        if (r)
            return colo_fail(err, COLO_ERR_REFUSED, "config", "%s is not a single value", what);
        if (xl_set_number((enum xl_setting)s, what, value, c, err))
            return -1;
    }
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        r = xlu_cfg_get_string(cfg, texts[i].key, &value, 1);
        snprintf(what, sizeof(what), "%s in %s", texts[i].key, path);
        if (r == ESRCH)
            continue;
        if (r)
            return colo_fail(err, COLO_ERR_REFUSED, "config", "%s is not a single value", what);
        if (texts[i].set(what, value, c, err))
            return -1;
    }
    return 0;
}

int xl_colo_conf_read(const char *path, struct colo_config *c, struct colo_err *err)
{
    char *report = NULL, line[256];
    XLU_Config *cfg = NULL;
    struct stat st;
    size_t len;
    FILE *f;
    int r, rc = -1;

    if (stat(path, &st))
        return errno == ENOENT ? 0 : colo_fail_errno(err, errno, "cannot look at %s", path);
    /* libxlutil's scanner ends the process when it cannot read. */
    if (!S_ISREG(st.st_mode))
        return colo_fail(err, COLO_ERR_REFUSED, "config", "%s is not a file", path);
    if (access(path, R_OK))
        return colo_fail_errno(err, errno, "cannot read %s", path);
    f = open_memstream(&report, &len);
    if (f)
        cfg = xlu_cfg_init(f, path);
    if (!cfg) {
        colo_fail(err, COLO_ERR_LOCAL, NULL, "out of memory");
        goto out;
    }
    r = xlu_cfg_readfile(cfg, path);
    if (r) {
        fflush(f);
        last_line(report, line, sizeof(line));
        colo_fail(err, COLO_ERR_REFUSED, "config", "%s: %s", path, line);
        goto out;
    }
    rc = take_keys(cfg, path, c, err);
out:
    if (cfg)
        xlu_cfg_destroy(cfg);
    if (f)
        fclose(f);
    free(report);
    return rc;
}
