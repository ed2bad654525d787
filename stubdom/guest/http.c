/* SPDX-License-Identifier: GPL-2.0-only */
/* A small HTTP/1.1 server: GET /, GET /blob?bytes=N&seed=S[&slow=1], PUT /blob. */
#define _GNU_SOURCE
#include "conn.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

uint64_t http_pace;
static uint64_t granted; /* to the slow ones, of this tick */

void http_tick(void)
{
    granted = http_pace * settings.tick_ms / 1000;
}

static void blob_bytes(const struct conn *c, uint64_t pos, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len;) {
        uint64_t word = splitmix(c->blob_seed, pos / 8 + 1);
        size_t at = pos % 8, n = 8 - at;

        if (n > len - i)
            n = len - i;
        memcpy(out + i, (uint8_t *)&word + at, n);
        i += n;
        pos += n;
    }
}

static void reply(struct conn *c, const char *code, const char *type, uint64_t len)
{
    conn_print(c,
               "HTTP/1.1 %s\r\nServer: colo-guest\r\nContent-Type: %s\r\nContent-Length: %" PRIu64
               "\r\nConnection: %s\r\n\r\n",
               code, type, len, c->keep ? "keep-alive" : "close");
}

static void text_reply(struct conn *c, const char *code, const char *type, const char *text)
{
    reply(c, code, type, strlen(text));
    conn_put(c, text, strlen(text));
    c->blob_pos = c->blob_len = 0;
    c->state = REPLY;
}

static void blob_reply(struct conn *c, const char *query)
{
    const char *bytes = strstr(query, "bytes="), *seed = strstr(query, "seed=");

    c->blob_len = bytes ? strtoull(bytes + 6, NULL, 10) : 0;
    c->blob_seed = seed ? strtoull(seed + 5, NULL, 10) : 0;
    c->blob_pos = 0;
    c->slow = strstr(query, "slow=1") != NULL;
    reply(c, "200 OK", "application/octet-stream", c->blob_len);
    c->state = REPLY;
}

/* The value of a header, NULL when it is not there; head is NUL terminated. */
static const char *header(const char *head, const char *name)
{
    size_t len = strlen(name);

    for (const char *line = head; (line = strstr(line, "\r\n")) != NULL;) {
        line += 2;
        if (!strncasecmp(line, name, len) && line[len] == ':')
            return line + len + 1 + strspn(line + len + 1, " ");
    }
    return NULL;
}

static void request(struct conn *c, char *head)
{
    char method[8] = "", target[256] = "", status[2][ANSWER_MAX];
    const char *length = header(head, "content-length"), *connection = header(head, "connection");

    sscanf(head, "%7s %255s", method, target);
    c->keep = !connection || strncasecmp(connection, "close", 5) != 0;
    c->body_left = length ? strtoull(length, NULL, 10) : 0;
    c->body_bytes = 0;
    XXH64_reset(&c->sum, 0);
    if (header(head, "expect"))
        conn_print(c, "HTTP/1.1 100 Continue\r\n\r\n");
    if (!strcmp(method, "PUT") && !strcmp(target, "/blob") && length) {
        c->state = BODY;
    } else if (c->body_left) {
        c->keep = false;
        text_reply(c, "400 Bad Request", "text/plain", "no body expected here\n");
    } else if (!strcmp(method, "GET") && !strcmp(target, "/")) {
        snprintf(status[0], ANSWER_MAX, "status");
        control(status[0], status[1]);
        text_reply(c, "200 OK", "application/json", status[1]);
    } else if (!strcmp(method, "GET") &&
               (!strncmp(target, "/blob?", 6) || !strcmp(target, "/blob"))) {
        blob_reply(c, target);
    } else {
        text_reply(c, "404 Not Found", "text/plain", "GET / or GET|PUT /blob\n");
    }
}

static void body(struct conn *c)
{
    size_t n = c->in_len < c->body_left ? c->in_len : c->body_left;

    XXH64_update(&c->sum, c->in, n);
    c->body_left -= n;
    c->body_bytes += n;
    conn_eat(c, n);
    if (c->body_left == 0) {
        char text[160];

        snprintf(text, sizeof(text), "{\"bytes\":%" PRIu64 ",\"xxh64\":\"%016" PRIx64 "\"}\n",
                 c->body_bytes, XXH64_digest(&c->sum));
        text_reply(c, "200 OK", "application/json", text);
    }
}

void http_input(struct conn *c)
{
    for (;;) {
        char *end;

        if (c->state == BODY) {
            body(c);
            if (c->state == BODY)
                return;
        }
        if (c->state == REPLY) { /* finish this one first */
            http_more(c);
            if (c->state == REPLY)
                return;
        }
        end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
        if (!end) {
            if (c->in_len == sizeof(c->in))
                c->closing = true;
            return;
        }
        end[2] = 0;
        request(c, c->in);
        conn_eat(c, (size_t)(end - c->in) + 4);
    }
}

/* Top up the output with what is left of a blob. */
void http_more(struct conn *c)
{
    if (c->state != REPLY)
        return;
    while (c->blob_pos < c->blob_len && conn_room(c) >= 1024) {
        uint8_t part[8192];
        uint64_t left = c->blob_len - c->blob_pos;
        size_t n = conn_room(c) < sizeof(part) ? conn_room(c) : sizeof(part);

        if (n > left)
            n = left;
        if (c->slow && http_pace) {
            if (n > granted)
                n = granted;
            if (n == 0)
                return; /* till the next tick */
            granted -= n;
        }
        blob_bytes(c, c->blob_pos, part, n);
        conn_put(c, part, n);
        c->blob_pos += n;
    }
    if (c->blob_pos == c->blob_len) {
        c->state = HEAD;
        if (!c->keep)
            c->closing = true;
    }
}
