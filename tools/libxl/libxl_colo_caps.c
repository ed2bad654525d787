/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Capabilities: what each side is and wants, as the JSON body of COLO_CAPS.
 */
#include "libxl_colo_session.h"
#include "libxl_json.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

static void put_disks(struct colo_json_gen *g, const struct colo_caps *c)
{
    if (!c->disks)
        return;
    if (c->disk_key[0]) {
        colo_json_put_str(g, "disk_key", c->disk_key);
        colo_json_put_str(g, "device_model", c->device_model);
    }
    if (c->disk_address[0])
        colo_json_put_str(g, "disk_address", c->disk_address);
    colo_json_open_array(g, "disks");
    for (uint32_t i = 0; i < c->disks; i++) {
        colo_json_open(g, NULL);
        colo_json_put_str(g, "vdev", c->disk[i].vdev);
        if (c->disk[i].size)
            colo_json_put_int(g, "size", (int64_t)c->disk[i].size);
        if (c->disk[i].port)
            colo_json_put_int(g, "port", c->disk[i].port);
        colo_json_close(g);
    }
    colo_json_close_array(g);
}

char *colo_caps_to_json(const struct colo_caps *c)
{
    struct colo_json_gen *g = colo_json_gen_new(false);

    if (!g)
        return NULL;
    colo_json_open(g, NULL);
    colo_json_put_int(g, "protocol", c->protocol);
    colo_json_put_str(g, "xen", c->xen);
    colo_json_put_str(g, "qemu", c->qemu);
    colo_json_put_str(g, "host", c->host);
    colo_json_put_bool(g, "zero_pages", c->zero_pages);
    colo_json_put_bool(g, "tags", c->tags);
    colo_json_put_bool(g, "force", c->force);
    if (c->session[0]) {
        colo_json_put_str(g, "session", c->session);
        colo_json_put_int(g, "generation", (int64_t)c->generation);
        colo_json_put_int(g, "heartbeat_ms", c->heartbeat_ms);
        colo_json_put_int(g, "heartbeat_misses", c->heartbeat_misses);
        colo_json_put_int(g, "interval_max_ms", c->interval_max_ms);
        colo_json_put_int(g, "interval_min_ms", c->interval_min_ms);
    }
    if (c->proxy_key[0])
        colo_json_put_str(g, "proxy_key", c->proxy_key);
    if (c->proxy_port) {
        colo_json_put_int(g, "proxy_port", c->proxy_port);
        colo_json_put_str(g, "proxy_address", c->proxy_address);
    }
    put_disks(g, c);
    colo_json_close(g);
    return colo_json_gen_finish(g);
}

/* A string of printable characters that fits, or "" when absent. */
static int take_str(const struct colo_json *j, const char *key, char *out, size_t size,
                    struct colo_err *err)
{
    const char *v = colo_json_get_str(j, key);

    out[0] = '\0';
    if (!v)
        return 0;
    if (strlen(v) >= size)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-capabilities",
                         "the peer's capability \"%s\" has %zu characters, at most %zu are allowed",
                         key, strlen(v), size - 1);
    for (const char *c = v; *c; c++)
        if (!isprint((unsigned char)*c))
            return colo_fail(err, COLO_ERR_PROTOCOL, "bad-capabilities",
                             "the peer's capability \"%s\" holds a control character", key);
    memcpy(out, v, strlen(v) + 1);
    return 0;
}

static int take_u32(const struct colo_json *j, const char *key, uint32_t min, uint32_t max,
                    uint32_t *out, struct colo_err *err)
{
    int64_t v;

    if (!colo_json_int(colo_json_get(j, key), &v))
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-capabilities",
                         "the peer's capabilities lack the number \"%s\"", key);
    if (v < min || v > max)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-capabilities",
                         "the peer's capability \"%s\" is %lld, allowed are %u to %u", key,
                         (long long)v, min, max);
    *out = (uint32_t)v;
    return 0;
}

static int take_key(const struct colo_json *j, const char *key, char out[65], struct colo_err *err)
{
    if (take_str(j, key, out, 65, err))
        return -1;
    if (out[0] && (strlen(out) != 64 || strspn(out, "0123456789abcdef") != 64))
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-capabilities",
                         "the peer's capability \"%s\" is no key", key);
    return 0;
}

/* Only numbers: what is connected to must not depend on anybody's name service. */
static int take_address(const struct colo_json *j, const char *key, char out[64],
                        struct colo_err *err)
{
    struct in6_addr a;

    if (take_str(j, key, out, 64, err))
        return -1;
    if (out[0] && inet_pton(AF_INET, out, &a) != 1 && inet_pton(AF_INET6, out, &a) != 1)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-capabilities",
                         "the peer's capability \"%s\" is no address: \"%s\"", key, out);
    return 0;
}

static int take_disks(const struct colo_json *j, bool from_primary, struct colo_caps *c,
                      struct colo_err *err)
{
    const struct colo_json *list = colo_json_get(j, "disks");
    size_t n = colo_json_len(list);

    if (n > COLO_MAX_DISKS)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-capabilities",
                         "the peer tells of %zu disks, at most %d are possible", n, COLO_MAX_DISKS);
    for (size_t i = 0; i < n; i++) {
        const struct colo_json *one = colo_json_at(list, i);
        int64_t size = colo_json_get_int(one, "size", 0), port = colo_json_get_int(one, "port", 0);

        if (take_str(one, "vdev", c->disk[i].vdev, sizeof(c->disk[i].vdev), err))
            return -1;
        if (from_primary ? size <= 0 : port <= 0 || port > UINT16_MAX)
            return colo_fail(err, COLO_ERR_PROTOCOL, "bad-capabilities",
                             "what the peer tells of disk \"%s\" lacks its %s", c->disk[i].vdev,
                             from_primary ? "size" : "port");
        if (from_primary)
            c->disk[i].size = (uint64_t)size;
        else
            c->disk[i].port = (uint16_t)port;
    }
    c->disks = (uint32_t)n;
    if (!n)
        return 0;
    if (!from_primary)
        return take_address(j, "disk_address", c->disk_address, err);
    if (take_key(j, "disk_key", c->disk_key, err) ||
        take_str(j, "device_model", c->device_model, sizeof(c->device_model), err))
        return -1;
    if (!c->disk_key[0] || c->device_model[0] != '/')
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-capabilities",
                         "the peer tells of disks and lacks \"%s\"",
                         c->disk_key[0] ? "device_model" : "disk_key");
    return 0;
}

static int take_primary(const struct colo_json *j, struct colo_caps *c, struct colo_err *err)
{
    int64_t generation = colo_json_get_int(j, "generation", 0);
    uuid_t session;

    if (take_str(j, "session", c->session, sizeof(c->session), err))
        return -1;
    if (uuid_parse(c->session, session))
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-capabilities",
                         "the peer's capability \"session\" is no UUID: \"%s\"", c->session);
    if (take_u32(j, "heartbeat_ms", 10, 10000, &c->heartbeat_ms, err) ||
        take_u32(j, "heartbeat_misses", 2, 1000, &c->heartbeat_misses, err) ||
        take_u32(j, "interval_max_ms", 10, 3600000, &c->interval_max_ms, err) ||
        take_u32(j, "interval_min_ms", 0, 60000, &c->interval_min_ms, err))
        return -1;
    if ((uint64_t)c->heartbeat_ms * c->heartbeat_misses > COLO_SILENCE_MAX_MS)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-capabilities",
                         "the peer's heartbeats (%u of %u ms) make up more than %u ms",
                         c->heartbeat_misses, c->heartbeat_ms, COLO_SILENCE_MAX_MS);
    if (generation < 1)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-capabilities",
                         "the peer's generation is %lld", (long long)generation);
    c->generation = (uint64_t)generation;
    return take_key(j, "proxy_key", c->proxy_key, err);
}

static int take_secondary(const struct colo_json *j, struct colo_caps *c, struct colo_err *err)
{
    int64_t port = colo_json_get_int(j, "proxy_port", 0);

    if (port < 0 || port > UINT16_MAX)
        return colo_fail(err, COLO_ERR_PROTOCOL, "bad-capabilities",
                         "the peer's capability \"proxy_port\" is %lld", (long long)port);
    c->proxy_port = (uint16_t)port;
    return take_address(j, "proxy_address", c->proxy_address, err);
}

int colo_caps_from_json(const char *json, bool from_primary, struct colo_caps *c,
                        struct colo_err *err)
{
    struct colo_json *j = NULL;
    int rc;

    memset(c, 0, sizeof(*c));
    if (colo_json_parse(json, strlen(json), &j, err))
        return colo_err_prefix(err, "the peer's capabilities");
    rc = take_u32(j, "protocol", 1, UINT32_MAX, &c->protocol, err) ||
                 take_str(j, "xen", c->xen, sizeof(c->xen), err) ||
                 take_str(j, "qemu", c->qemu, sizeof(c->qemu), err) ||
                 take_str(j, "host", c->host, sizeof(c->host), err)
             ? -1
             : 0;
    c->zero_pages = colo_json_get_bool(j, "zero_pages", false);
    c->tags = colo_json_get_bool(j, "tags", false);
    c->force = colo_json_get_bool(j, "force", false);
    if (!rc)
        rc = from_primary ? take_primary(j, c, err) : take_secondary(j, c, err);
    if (!rc)
        rc = take_disks(j, from_primary, c, err);
    colo_json_free(j);
    return rc;
}

int colo_caps_match(const struct colo_caps *mine, const struct colo_caps *peer,
                    struct colo_err *err)
{
    if (mine->protocol != peer->protocol)
        return colo_fail(err, COLO_ERR_REFUSED, "protocol-mismatch",
                         "this host (%s) speaks COLO protocol %u, the peer (%s) %u: install the "
                         "same xen-colo on both",
                         mine->host, mine->protocol, peer->host, peer->protocol);
    if (mine->force || peer->force)
        return 0;
    if (strcmp(mine->xen, peer->xen) != 0)
        return colo_fail(err, COLO_ERR_REFUSED, "xen-version-mismatch",
                         "this host (%s) runs Xen %s, the peer (%s) runs Xen %s: both must be the "
                         "same",
                         mine->host, mine->xen, peer->host, peer->xen);
    if (mine->qemu[0] && peer->qemu[0] && strcmp(mine->qemu, peer->qemu) != 0)
        return colo_fail(err, COLO_ERR_REFUSED, "qemu-mismatch",
                         "this host (%s) has QEMU %s, the peer (%s) has QEMU %s: both must be the "
                         "same",
                         mine->host, mine->qemu, peer->host, peer->qemu);
    return 0;
}
