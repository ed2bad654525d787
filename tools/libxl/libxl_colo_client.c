/* SPDX-License-Identifier: LGPL-2.1-only */
#include "libxl_colo_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_TIMEOUT (10 * 1000 * COLO_MS) /* a daemon answers at once; a host may stand still */
#define LINE_MAX       (256u << 10)          /* statistics of 16 NICs are the longest */

struct colo_client {
    const struct colo_client_name *name;
    int fd;
    char *in;
    size_t len;
    colo_time asked; /* when the last request was sent */
};

static int gone(const struct colo_client *c, struct colo_err *err, const char *why)
{
    return colo_fail(err, COLO_ERR_LOCAL, c->name->gone, "%s %s", c->name->who, why);
}

/* ---- starting ---- */

/* "program: reason: message", as ours complain; with another form the text is the message. */
static int explain(const char *program, char *said, const char *reason, struct colo_err *err)
{
    char *word = strstr(said, ": "), *message = word ? strstr(word + 2, ": ") : NULL;

    said[strcspn(said, "\n")] = '\0';
    if (!message || strspn(word + 2, "abcdefghijklmnopqrstuvwxyz-") != (size_t)(message - word - 2))
        return colo_fail(err, COLO_ERR_LOCAL, reason, "%s could not be started: %s", program, said);
    *message = '\0';
    return colo_fail(err, COLO_ERR_LOCAL, word + 2, "%s", message + 2);
}

int colo_client_run(char *const argv[], const char *reason, struct colo_err *err)
{
    char said[512] = "";
    int fds[2], status = 0;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
        return colo_fail_errno(err, errno, "pipe");
    pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);

        dup2(null, STDOUT_FILENO); /* ours may be a peer's stream */
        dup2(fds[1], STDERR_FILENO);
        execv(argv[0], argv);
        fprintf(stderr, "%s\n", strerror(errno));
        _exit(127);
    }
    close(fds[1]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    /* all of it is there: what goes on in the background has a log */
    if (read(fds[0], said, sizeof(said) - 1) <= 0)
        snprintf(said, sizeof(said), "it says nothing");
    close(fds[0]);
    if (pid < 0)
        return colo_fail_errno(err, errno, "fork");
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        return explain(argv[0], said, reason, err);
    return 0;
}

const char *colo_client_program(const char *name, const char *variable)
{
    static char path[512];
    const char *p = getenv(variable);
    char *slash;
    ssize_t n;

    if (p && *p)
        return p;
    n = readlink("/proc/self/exe", path, sizeof(path) - 64);
    path[n > 0 ? n : 0] = '\0';
    slash = strrchr(path, '/');
    slash = slash ? slash + 1 : path;
    snprintf(slash, sizeof(path) - (size_t)(slash - path), "%s", name);
    return path;
}

int colo_client_open(const char *path, const struct colo_client_name *name,
                     struct colo_client **out, struct colo_err *err)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    struct colo_client *c = calloc(1, sizeof(*c));

    *out = NULL;
    if (!c || !(c->in = malloc(LINE_MAX))) {
        free(c);
        return colo_fail_errno(err, ENOMEM, "a connection to %s", name->who);
    }
    c->name = name;
    snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0 || connect(c->fd, (const struct sockaddr *)&sun, sizeof(sun))) {
        colo_fail(err, COLO_ERR_LOCAL, name->gone, "%s cannot be reached: %s", name->who,
                  strerror(errno));
        colo_client_close(c);
        return -1;
    }
    *out = c;
    return 0;
}

void colo_client_close(struct colo_client *c)
{
    if (!c)
        return;
    if (c->fd >= 0)
        close(c->fd);
    free(c->in);
    free(c);
}

int colo_client_fd(const struct colo_client *c)
{
    return c->fd;
}

/* ---- lines ---- */

static int send_line(struct colo_client *c, const char *line, colo_time deadline,
                     struct colo_err *err)
{
    size_t len = strlen(line), done = 0;
    ssize_t n;

    while (done <= len) { /* the newline is sent where the text's end is */
        struct pollfd pfd = {.fd = c->fd, .events = POLLOUT};

        n = send(c->fd, done < len ? line + done : "\n", done < len ? len - done : 1, MSG_NOSIGNAL);
        if (n > 0)
            done += (size_t)n;
        else if (errno == EAGAIN && colo_now() < deadline)
            poll(&pfd, 1, colo_poll_ms(deadline));
        else if (errno != EINTR)
            return gone(c, err, errno == EAGAIN ? "does not listen" : "has gone");
    }
    return 0;
}

int colo_client_line(struct colo_client *c, struct colo_json **line, struct colo_err *err)
{
    char *end;
    ssize_t n;
    int rc;

    while (!(end = memchr(c->in, '\n', c->len))) {
        if (c->len == LINE_MAX)
            return gone(c, err, "says too much");
        n = recv(c->fd, c->in + c->len, LINE_MAX - c->len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n <= 0)
            return gone(c, err, "has gone");
        c->len += (size_t)n;
    }
    rc = colo_json_parse(c->in, (size_t)(end - c->in), line, err);
    c->len -= (size_t)(end + 1 - c->in);
    memmove(c->in, end + 1, c->len);
    return rc ? colo_err_prefix(err, "%s", c->name->who) : 1;
}

/* ---- requests ---- */

struct colo_json_gen *colo_client_request(const char *what)
{
    struct colo_json_gen *g = colo_json_gen_new(false);

    colo_json_open(g, NULL);
    colo_json_put_str(g, "do", what);
    return g;
}

int colo_client_send(struct colo_client *c, struct colo_json_gen *g, struct colo_err *err)
{
    char *line;
    int rc;

    colo_json_close(g);
    line = colo_json_gen_finish(g);
    if (!line)
        return colo_fail_errno(err, ENOMEM, "a request to %s", c->name->who);
    c->asked = colo_now();
    rc = send_line(c, line, c->asked + ANSWER_TIMEOUT, err);
    explicit_bzero(line, strlen(line)); /* there may be a key in it */
    free(line);
    return rc;
}

static int check(const struct colo_client *c, const struct colo_json *reply, struct colo_err *err)
{
    const struct colo_json *e = colo_json_get(reply, "error");
    const char *reason = colo_json_get_str(e, "reason"), *message = colo_json_get_str(e, "message");

    if (colo_json_get_bool(reply, "ok", false))
        return 0;
    return colo_fail(err, COLO_ERR_LOCAL, reason ? reason : c->name->gone, "%s: %s", c->name->who,
                     message ? message : "an answer that makes no sense");
}

int colo_client_reply(struct colo_client *c, colo_client_event *on_event, void *priv,
                      struct colo_json **reply, struct colo_err *err)
{
    colo_time deadline = c->asked + ANSWER_TIMEOUT;
    struct pollfd pfd = {.fd = c->fd, .events = POLLIN};
    struct colo_json *j = NULL;
    int rc;

    for (;;) {
        rc = colo_client_line(c, &j, err);
        if (rc < 0)
            return -1;
        if (rc > 0 && !colo_json_get_str(j, "event"))
            break;
        if (rc > 0) {
            if (on_event)
                on_event(priv, j);
            colo_json_free(j);
        } else if (colo_now() >= deadline) {
            return gone(c, err, "does not answer");
        } else {
            poll(&pfd, 1, colo_poll_ms(deadline));
        }
    }
    rc = check(c, j, err);
    if (rc == 0 && reply)
        *reply = j;
    else
        colo_json_free(j);
    return rc;
}

int colo_client_ask(struct colo_client *c, struct colo_json_gen *g, colo_client_event *on_event,
                    void *priv, struct colo_json **reply, struct colo_err *err)
{
    if (colo_client_send(c, g, err))
        return -1;
    return colo_client_reply(c, on_event, priv, reply, err);
}
