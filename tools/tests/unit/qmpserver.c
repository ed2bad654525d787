/* SPDX-License-Identifier: GPL-2.0-only */
#include "qmpserver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

colo_time qs_in_ms(int ms)
{
    return colo_now() + ms * COLO_MS;
}

colo_time qs_soon(void)
{
    return qs_in_ms(20000);
}

/* One server for all tests: what it does is named by the command. */
static int64_t hung; /* the id of a command without a reply; the server's thread alone */

bool qs_serve(struct fakeqmp *f, const char *command, const struct colo_json *arguments, void *priv)
{
    char text[200], *big;
    size_t n = 5u << 20;
    bool ok;
    int i;

    (void)priv;
    if (!strcmp(command, "echo")) {
        snprintf(text, sizeof(text), "{\"said\": \"%s\"}", colo_json_get_str(arguments, "say"));
        return fakeqmp_return(f, text);
    }
    if (!strcmp(command, "nothing"))
        return true;
    if (!strcmp(command, "late")) { /* nothing came of the one before, until now */
        snprintf(text, sizeof(text), "{\"return\": {\"old\": 1}, \"id\": %lld}\r\n",
                 (long long)fakeqmp_id(f) - 1);
        return fakeqmp_send(f, text, strlen(text)) && fakeqmp_return(f, "{\"new\": 1}");
    }
    if (!strcmp(command, "events")) {
        for (i = 0; i < (int)colo_json_get_int(arguments, "n", 1); i++) {
            snprintf(text, sizeof(text), "{\"nr\": %d}", i);
            if (!fakeqmp_event(f, i % 2 ? "ODD" : "EVEN", text))
                return false;
        }
        return fakeqmp_return(f, "{}");
    }
    if (!strcmp(command, "hang")) { /* until it is yanked */
        hung = fakeqmp_id(f);
        return true;
    }
    if (!strcmp(command, "yank")) {
        ok = fakeqmp_return(f, "{}");
        snprintf(text, sizeof(text), "{\"return\": {\"yanked\": true}, \"id\": %lld}\r\n",
                 (long long)hung);
        return ok && fakeqmp_send(f, text, strlen(text));
    }
    if (!strcmp(command, "event-later"))
        return fakeqmp_return(f, "{}") && fakeqmp_event(f, "LATER", "{\"nr\": 9}");
    if (!strcmp(command, "flood")) {
        while (fakeqmp_event(f, "FLOOD", "{}"))
            ;
        return false;
    }
    if (!strcmp(command, "blank")) {
        while (fakeqmp_send(f, "\r\n \r\n", 5))
            ;
        return false;
    }
    if (!strcmp(command, "huge")) {
        big = malloc(n);
        memset(big, ' ', n);
        ok = fakeqmp_send(f, big, n);
        free(big);
        return ok;
    }
    if (!strcmp(command, "error"))
        return fakeqmp_error(f, "no such thing");
    if (!strcmp(command, "error-no-id")) {
        const char *t = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"unreadable\"}}\r\n";
        return fakeqmp_send(f, t, strlen(t));
    }
    if (!strcmp(command, "error-no-desc")) {
        snprintf(text, sizeof(text), "{\"error\": 7, \"id\": %lld}\n", (long long)fakeqmp_id(f));
        return fakeqmp_send(f, text, strlen(text));
    }
    if (!strcmp(command, "raw")) {
        const char *t = colo_json_get_str(arguments, "text");
        return fakeqmp_send(f, t, strlen(t)) && fakeqmp_send(f, "\n", 1);
    }
    return strcmp(command, "die") != 0 && fakeqmp_error(f, "unknown");
}

void qs_start(struct qs_fixture *x, const struct fakeqmp_manners *manners, int cancel_fd)
{
    struct colo_err err = {0};
    int fd;

    x->f = fakeqmp_start(qs_serve, NULL, manners, &fd);
    if (colo_qmp_open_fd(fd, cancel_fd, qs_soon(), &x->q, &err) < 0)
        fail_msg("%s", err.msg);
}

void qs_stop(struct qs_fixture *x)
{
    colo_qmp_close(x->q);
    fakeqmp_stop(x->f);
}

void qs_echo(struct qs_fixture *x)
{
    struct colo_json *ret;
    struct colo_err err = {0};

    if (colo_qmp_cmd(x->q, "echo", "{\"say\":\"hello\"}", qs_soon(), &ret, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(colo_json_get_str(ret, "said"), "hello");
    colo_json_free(ret);
}
