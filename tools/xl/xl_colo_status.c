/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * xl colo-status [-j] [GUEST]
 */
#include "xl.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libxl_colo_control.h"
#include "libxl_colo_proxy.h"
#include "libxl_colo_status_text.h"

static const char usage[] =
    "Usage: xl colo-status [-j] [GUEST]\n"
    "\n"
    "Show the COLO sessions of this host, one a line, or everything about that of GUEST (a name or\n"
    "a domid).\n"
    "\n"
    "  -j, --json   as JSON: an array, or one object for GUEST\n";

static int print(char *text, struct colo_err *err)
{
    if (!text)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "out of memory");
    fputs(text, stdout);
    free(text);
    return 0;
}

/* What the proxy of this host counts; NULL when there is none, or none that answers. */
static struct colo_json *proxy_counters(const struct colo_json *status)
{
    const char *session = colo_json_get_str(status, "session");
    const char *role = colo_json_get_str(status, "role");
    struct colo_json *counters = NULL;
    struct colo_proxy *px = NULL;
    char path[COLO_PROXY_PATH];

    if (!session || !role)
        return NULL;
    colo_proxy_path(path, session, !strcmp(role, "secondary"));
    if (!colo_proxy_attach(path, &px, NULL) && colo_proxy_stats(px, &counters, NULL))
        counters = NULL;
    colo_proxy_close(px);
    return counters;
}

static int show_one(const char *guest, bool json, struct colo_err *err)
{
    struct colo_json *j = NULL, *proxy = NULL;
    char *status, *with = NULL;
    uint32_t domid;
    int rc;

    if (xl_find_session(guest, &domid, &status, err))
        return -1;
    rc = colo_json_parse(status, strlen(status), &j, err);
    if (!rc) {
        proxy = proxy_counters(j);
        if (json && proxy)
            with = colo_status_with_proxy(status, proxy);
        rc = print(json ? colo_json_indent(with ? with : status)
                        : colo_status_text(j, proxy, time(NULL)),
                   err);
    }
    free(with);
    colo_json_free(proxy);
    colo_json_free(j);
    free(status);
    return rc;
}

static int print_array(char *const *texts, size_t n, struct colo_err *err)
{
    char *all = NULL;
    size_t len, i;
    FILE *f = open_memstream(&all, &len);
    int rc;

    if (!f)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "out of memory");
    fputc('[', f);
    for (i = 0; i < n; i++)
        fprintf(f, "%s%s", i ? "," : "", texts[i]);
    fputc(']', f);
    rc = fclose(f) ? colo_fail(err, COLO_ERR_LOCAL, NULL, "out of memory")
                   : print(colo_json_indent(all), err);
    free(all);
    return rc;
}

static int show_all(bool json, struct colo_err *err)
{
    struct colo_json **parsed = NULL;
    char **texts = NULL;
    uint32_t *domids;
    size_t n, i, got = 0;
    int rc;

    if (colo_control_list(&domids, &n, err))
        return -1;
    texts = calloc(n + 1, sizeof(*texts));
    parsed = calloc(n + 1, sizeof(*parsed));
    if (!texts || !parsed) {
        rc = colo_fail(err, COLO_ERR_LOCAL, NULL, "out of memory");
        goto out;
    }
    for (i = 0; i < n; i++) {
        if (xl_session_status(domids[i], &texts[got], err))
            continue; /* it has just ended */
        if (colo_json_parse(texts[got], strlen(texts[got]), &parsed[got], err)) {
            rc = -1;
            got++;
            goto out;
        }
        got++;
    }
    rc = json ? print_array(texts, got, err)
              : print(colo_status_table((const struct colo_json *const *)parsed, got), err);
out:
    for (i = 0; i < got; i++) {
        free(texts[i]);
        colo_json_free(parsed[i]);
    }
    free(parsed);
    free(texts);
    free(domids);
    return rc;
}

int xl_main_colo_status(int argc, char **argv)
{
    static const struct option longs[] = {
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct colo_err err = {0};
    bool json = false;
    struct xl_ui ui;
    int opt, rc;

    xl_ui_init(&ui, "colo-status");
    optind = 0;
    while ((opt = getopt_long(argc, argv, "jh", longs, NULL)) != -1) {
        switch (opt) {
        case 'j':
            json = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return 0;
        default:
            fputs(usage, stderr);
            return 2;
        }
    }
    if (argc - optind > 1) {
        fputs(usage, stderr);
        return 2;
    }
    rc = optind < argc ? show_one(argv[optind], json, &err) : show_all(json, &err);
    if (rc)
        xl_ui_error(&ui, "", &err);
    return rc ? 1 : 0;
}
