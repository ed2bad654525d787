/* SPDX-License-Identifier: LGPL-2.1-only */
#include "libxl_colo_proxy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "libxl_colo_client.h"
#include "libxl_colo_control.h"

#define EVENTS_MAX 16 /* that came with a reply and wait to be asked for */

struct colo_proxy {
    struct colo_client *client;
    struct colo_proxy_event event[EVENTS_MAX];
    size_t events;
};

static const struct colo_client_name proxy = {"the guest's colo-proxy", "proxy-gone"};

/* ---- starting ---- */

void colo_proxy_path(char path[COLO_PROXY_PATH], const char *session, bool secondary)
{
    snprintf(path, COLO_PROXY_PATH, COLO_RUN_DIR "/proxy-%.36s-%c.sock", session,
             secondary ? 's' : 'p');
}

int colo_proxy_attach(const char *path, struct colo_proxy **out, struct colo_err *err)
{
    struct colo_proxy *px = calloc(1, sizeof(*px));

    if (!px)
        return colo_fail_errno(err, ENOMEM, "a proxy's connection");
    if (colo_client_open(path, &proxy, &px->client, err)) {
        free(px);
        return -1;
    }
    *out = px;
    return 0;
}

void colo_proxy_close(struct colo_proxy *px)
{
    if (!px)
        return;
    colo_client_close(px->client);
    free(px);
}

static bool to_event(const struct colo_json *j, struct colo_proxy_event *ev)
{
    static const char *const names[] = {"link-up", "link-lost", "checkpoint", "tap-gone", "aside"};
    const char *name = colo_json_get_str(j, "event"), *flow = colo_json_get_str(j, "flow");
    const char *why, *text;
    size_t type = 0;

    while (name && type < sizeof(names) / sizeof(names[0]) && strcmp(name, names[type]) != 0)
        type++;
    if (!name || type == sizeof(names) / sizeof(names[0]))
        return false;
    memset(ev, 0, sizeof(*ev));
    ev->type = (enum colo_proxy_event_type)type;
    why = colo_json_get_str(j, type == COLO_PROXY_CHECKPOINT ? "why" : "reason");
    text = colo_json_get_str(j, type == COLO_PROXY_CHECKPOINT ? "text" : "message");
    snprintf(ev->why, sizeof(ev->why), "%s", why ? why : "");
    snprintf(ev->text, sizeof(ev->text), "%s%s%s", flow ? flow : "", flow ? " " : "",
             text ? text : "");
    return true;
}

/* One that nobody asks for is lost; the last ones are kept, a lost link among them. */
static void keep_event(void *priv, const struct colo_json *j)
{
    struct colo_proxy *px = priv;
    struct colo_proxy_event ev;

    if (!to_event(j, &ev))
        return;
    if (px->events == EVENTS_MAX)
        memmove(px->event, px->event + 1, --px->events * sizeof(px->event[0]));
    px->event[px->events++] = ev;
}

static int ask(struct colo_proxy *px, struct colo_json_gen *g, struct colo_json **reply,
               struct colo_err *err)
{
    return colo_client_ask(px->client, g, keep_event, px, reply, err);
}

int colo_proxy_watch(struct colo_proxy *px, struct colo_err *err)
{
    return ask(px, colo_client_request("watch"), NULL, err);
}

int colo_proxy_start(const char *program, const char *path, const char *log,
                     struct colo_proxy **out, struct colo_err *err)
{
    const char *const argv[] = {program, "run", path, log, NULL};

    if (colo_client_run((char *const *)argv, "proxy-start", err) ||
        colo_proxy_attach(path, out, err))
        return -1;
    if (colo_proxy_watch(*out, err)) {
        colo_proxy_close(*out);
        *out = NULL;
        return -1;
    }
    return 0;
}

/* ---- requests ---- */

int colo_proxy_make_key(char key[COLO_PROXY_KEY_HEX + 1], struct colo_err *err)
{
    uint8_t bytes[COLO_PROXY_KEY_HEX / 2];

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return colo_fail_errno(err, errno, "a key");
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(key + 2 * i, 3, "%02x", bytes[i]);
    explicit_bzero(bytes, sizeof(bytes));
    return 0;
}

static struct colo_json_gen *link_request(const char *role, const struct colo_proxy_link *l)
{
    struct colo_json_gen *g = colo_client_request("link");

    colo_json_put_str(g, "role", role);
    colo_json_put_str(g, "session", l->session);
    colo_json_put_str(g, "key", l->key);
    colo_json_put_int(g, "silence_ms", l->silence_ms);
    if (l->device)
        colo_json_put_str(g, "device", l->device);
    return g;
}

int colo_proxy_listen(struct colo_proxy *px, struct colo_proxy_link *link, struct colo_err *err)
{
    struct colo_json_gen *g = link_request("secondary", link);
    struct colo_json *reply;

    if (link->address)
        colo_json_put_str(g, "address", link->address);
    if (ask(px, g, &reply, err))
        return -1;
    link->port = (uint16_t)colo_json_get_int(reply, "port", 0);
    colo_json_free(reply);
    return 0;
}

int colo_proxy_connect(struct colo_proxy *px, const struct colo_proxy_link *link,
                       struct colo_err *err)
{
    struct colo_json_gen *g = link_request("primary", link);

    colo_json_put_str(g, "host", link->address);
    colo_json_put_int(g, "port", link->port);
    return ask(px, g, NULL, err);
}

int colo_proxy_setup(struct colo_proxy *px, const char *const *vifs, size_t n, const char *mode,
                     uint32_t output_wait_ms, struct colo_err *err)
{
    struct colo_json_gen *g = colo_client_request("setup");

    colo_json_put_str(g, "mode", mode);
    colo_json_open_array(g, "vifs");
    for (size_t i = 0; i < n; i++)
        colo_json_put_str(g, NULL, vifs[i]);
    colo_json_close_array(g);
    colo_json_open(g, "limits");
    /* in the proportions of the engine's own: RFC 9293 lets a copy delay an acknowledgement, and
     * the primary may be busy with checkpoints */
    colo_json_put_int(g, "data_timeout_ms", output_wait_ms);
    colo_json_put_int(g, "ack_timeout_ms", 3 * (int64_t)output_wait_ms);
    colo_json_put_int(g, "primary_timeout_ms", 5 * (int64_t)output_wait_ms);
    colo_json_close(g);
    return ask(px, g, NULL, err);
}

static int at_checkpoint(struct colo_proxy *px, const char *what, uint64_t n, struct colo_err *err)
{
    struct colo_json_gen *g = colo_client_request(what);

    colo_json_put_int(g, "checkpoint", (int64_t)n);
    return ask(px, g, NULL, err);
}

int colo_proxy_hold(struct colo_proxy *px, uint64_t checkpoint, struct colo_err *err)
{
    return at_checkpoint(px, "hold", checkpoint, err);
}

int colo_proxy_checkpoint(struct colo_proxy *px, uint64_t checkpoint, struct colo_err *err)
{
    return at_checkpoint(px, "checkpoint", checkpoint, err);
}

int colo_proxy_takeover(struct colo_proxy *px, struct colo_err *err)
{
    return ask(px, colo_client_request("takeover"), NULL, err);
}

int colo_proxy_teardown(struct colo_proxy *px, bool rejoin, struct colo_err *err)
{
    struct colo_json_gen *g = colo_client_request("teardown");

    colo_json_put_bool(g, "rejoin", rejoin);
    return ask(px, g, NULL, err);
}

int colo_proxy_stats(struct colo_proxy *px, struct colo_json **stats, struct colo_err *err)
{
    return ask(px, colo_client_request("stats"), stats, err);
}

/* ---- events ---- */

int colo_proxy_fd(const struct colo_proxy *px)
{
    return colo_client_fd(px->client);
}

int colo_proxy_event(struct colo_proxy *px, struct colo_proxy_event *ev, struct colo_err *err)
{
    struct colo_json *j;
    int rc = 1;

    while (px->events == 0) {
        rc = colo_client_line(px->client, &j, err);
        if (rc <= 0)
            return rc;
        keep_event(px, j);
        colo_json_free(j);
    }
    *ev = px->event[0];
    memmove(px->event, px->event + 1, --px->events * sizeof(px->event[0]));
    return 1;
}
