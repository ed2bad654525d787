/* SPDX-License-Identifier: LGPL-2.1-only */
#include "libxl_colo_proxy.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libxl_colo_control.h"
#include "libxl_json.h"

#define ANSWER_TIMEOUT (10 * 1000 * COLO_MS) /* a proxy answers at once; a host may stand still */
#define LINE_MAX       (256u << 10)          /* statistics of 16 NICs are the longest */
#define EVENTS_MAX     16                    /* that came with a reply and wait to be asked for */

struct colo_proxy {
    int fd;
    char *in;
    size_t len;
    struct colo_proxy_event event[EVENTS_MAX];
    size_t events;
};

static int gone(struct colo_err *err, const char *why)
{
    return colo_fail(err, COLO_ERR_LOCAL, "proxy-gone", "the guest's colo-proxy %s", why);
}

/* ---- starting ---- */

void colo_proxy_path(char path[COLO_PROXY_PATH], const char *session, bool secondary)
{
    snprintf(path, COLO_PROXY_PATH, COLO_RUN_DIR "/proxy-%.36s-%c.sock", session,
             secondary ? 's' : 'p');
}

int colo_proxy_attach(const char *path, struct colo_proxy **out, struct colo_err *err)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    struct colo_proxy *px = calloc(1, sizeof(*px));

    if (!px || !(px->in = malloc(LINE_MAX))) {
        free(px);
        return colo_fail_errno(err, ENOMEM, "a proxy's connection");
    }
    snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
    px->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (px->fd < 0 || connect(px->fd, (const struct sockaddr *)&sun, sizeof(sun))) {
        colo_fail(err, COLO_ERR_LOCAL, "proxy-gone", "the guest's colo-proxy cannot be reached: %s",
                  strerror(errno));
        colo_proxy_close(px);
        return -1;
    }
    *out = px;
    return 0;
}

void colo_proxy_close(struct colo_proxy *px)
{
    if (!px)
        return;
    if (px->fd >= 0)
        close(px->fd);
    free(px->in);
    free(px);
}

/* The program goes to the background by itself, once it can be talked to. */
static int run(const char *program, const char *path, const char *log, struct colo_err *err)
{
    pid_t pid = fork();
    int status;

    if (pid < 0)
        return colo_fail_errno(err, errno, "fork");
    if (pid == 0) {
        execl(program, program, "run", path, log, (char *)NULL);
        _exit(127);
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return colo_fail_errno(err, errno, "waiting for %s", program);
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        return colo_fail(
            err, COLO_ERR_LOCAL, "proxy-start", "%s could not be started (status %d)%s", program,
            WIFEXITED(status) ? WEXITSTATUS(status) : -1,
            WIFEXITED(status) && WEXITSTATUS(status) == 127 ? ": is it installed?" : "");
    return 0;
}

/* ---- lines ---- */

static int send_line(struct colo_proxy *px, const char *line, colo_time deadline,
                     struct colo_err *err)
{
    size_t len = strlen(line), done = 0;
    ssize_t n;

    while (done <= len) { /* the newline is sent where the text's end is */
        struct pollfd pfd = {.fd = px->fd, .events = POLLOUT};

        n = send(px->fd, done < len ? line + done : "\n", done < len ? len - done : 1,
                 MSG_NOSIGNAL);
        if (n > 0)
            done += (size_t)n;
        else if (errno == EAGAIN && colo_now() < deadline)
            poll(&pfd, 1, colo_poll_ms(deadline));
        else if (errno != EINTR)
            return gone(err, errno == EAGAIN ? "does not listen" : "has gone");
    }
    return 0;
}

/* The next line that has come, parsed: 1; 0 = none yet. */
static int next_line(struct colo_proxy *px, struct colo_json **line, struct colo_err *err)
{
    char *end;
    ssize_t n;
    int rc;

    while (!(end = memchr(px->in, '\n', px->len))) {
        if (px->len == LINE_MAX)
            return gone(err, "says too much");
        n = recv(px->fd, px->in + px->len, LINE_MAX - px->len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n <= 0)
            return gone(err, "has gone");
        px->len += (size_t)n;
    }
    rc = colo_json_parse(px->in, (size_t)(end - px->in), line, err);
    px->len -= (size_t)(end + 1 - px->in);
    memmove(px->in, end + 1, px->len);
    return rc ? colo_err_prefix(err, "colo-proxy") : 1;
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
static void keep_event(struct colo_proxy *px, const struct colo_json *j)
{
    struct colo_proxy_event ev;

    if (!to_event(j, &ev))
        return;
    if (px->events == EVENTS_MAX)
        memmove(px->event, px->event + 1, --px->events * sizeof(px->event[0]));
    px->event[px->events++] = ev;
}

static int check(const struct colo_json *reply, struct colo_err *err)
{
    const struct colo_json *e = colo_json_get(reply, "error");
    const char *reason = colo_json_get_str(e, "reason"), *message = colo_json_get_str(e, "message");

    if (colo_json_get_bool(reply, "ok", false))
        return 0;
    return colo_fail(err, COLO_ERR_LOCAL, reason ? reason : "proxy-error", "colo-proxy: %s",
                     message ? message : "an answer that makes no sense");
}

/* Takes g, which is complete but for its closing brace.  reply may be NULL. */
static int ask(struct colo_proxy *px, struct colo_json_gen *g, struct colo_json **reply,
               struct colo_err *err)
{
    colo_time deadline = colo_now() + ANSWER_TIMEOUT;
    struct colo_json *j = NULL;
    char *line;
    int rc;

    colo_json_close(g);
    line = colo_json_gen_finish(g);
    if (!line)
        return colo_fail_errno(err, ENOMEM, "a request to colo-proxy");
    rc = send_line(px, line, deadline, err);
    explicit_bzero(line, strlen(line)); /* there may be a key in it */
    free(line);
    while (rc == 0) {
        struct pollfd pfd = {.fd = px->fd, .events = POLLIN};

        rc = next_line(px, &j, err);
        if (rc < 0)
            return -1;
        if (rc > 0 && !colo_json_get_str(j, "event"))
            break;
        if (rc > 0) {
            keep_event(px, j);
            colo_json_free(j);
            rc = 0;
        } else if (colo_now() >= deadline) {
            return gone(err, "does not answer");
        } else {
            poll(&pfd, 1, colo_poll_ms(deadline));
        }
    }
    if (rc < 0)
        return -1;
    rc = check(j, err);
    if (rc == 0 && reply)
        *reply = j;
    else
        colo_json_free(j);
    return rc;
}

static struct colo_json_gen *request(const char *what)
{
    struct colo_json_gen *g = colo_json_gen_new(false);

    colo_json_open(g, NULL);
    colo_json_put_str(g, "do", what);
    return g;
}

int colo_proxy_watch(struct colo_proxy *px, struct colo_err *err)
{
    return ask(px, request("watch"), NULL, err);
}

int colo_proxy_start(const char *program, const char *path, const char *log,
                     struct colo_proxy **out, struct colo_err *err)
{
    if (run(program, path, log, err) || colo_proxy_attach(path, out, err))
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
    struct colo_json_gen *g = request("link");

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
    struct colo_json_gen *g = request("setup");

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
    struct colo_json_gen *g = request(what);

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
    return ask(px, request("takeover"), NULL, err);
}

int colo_proxy_teardown(struct colo_proxy *px, bool rejoin, struct colo_err *err)
{
    struct colo_json_gen *g = request("teardown");

    colo_json_put_bool(g, "rejoin", rejoin);
    return ask(px, g, NULL, err);
}

int colo_proxy_stats(struct colo_proxy *px, struct colo_json **stats, struct colo_err *err)
{
    return ask(px, request("stats"), stats, err);
}

/* ---- events ---- */

int colo_proxy_fd(const struct colo_proxy *px)
{
    return px->fd;
}

int colo_proxy_event(struct colo_proxy *px, struct colo_proxy_event *ev, struct colo_err *err)
{
    struct colo_json *j;
    int rc = 1;

    while (px->events == 0) {
        rc = next_line(px, &j, err);
        if (rc <= 0)
            return rc;
        keep_event(px, j);
        colo_json_free(j);
    }
    *ev = px->event[0];
    memmove(px->event, px->event + 1, --px->events * sizeof(px->event[0]));
    return 1;
}
