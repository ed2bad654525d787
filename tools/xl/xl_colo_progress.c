/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the operator sees while a session runs: messages, and the first sync's progress.
 */
#include "xl.h"

#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BAR_PERIOD  (100 * COLO_MS)
#define LINE_PERIOD (1000 * COLO_MS)

/* A slow terminal gets this long for a message; a bar that it misses is followed by another. */
#define LINE_PATIENCE_MS 500

/* stderr may be a pipe to a dead ssh: what it has no room for in time is lost rather than waited
 * for.  A pipe that poll finds writable takes PIPE_BUF bytes at once. */
static void put_err(const struct xl_ui *ui, const char *text, size_t len, int patience_ms)
{
    struct pollfd pfd = {.fd = ui->err_fd, .events = POLLOUT};

    if (ui->err_fd < 0 || poll(&pfd, 1, patience_ms) != 1 || !(pfd.revents & POLLOUT))
        return;
    if (send(ui->err_fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
        write(ui->err_fd, text, len) < 0)
        return;
}

static void put_log(const struct xl_ui *ui, const char *text)
{
    char line[1200];
    struct timespec ts;
    struct tm tm;
    int n;

    if (ui->log_fd < 0)
        return;
    clock_gettime(CLOCK_REALTIME, &ts);
    localtime_r(&ts.tv_sec, &tm);
    n = (int)strftime(line, sizeof(line), "%Y-%m-%d %H:%M:%S", &tm);
    n += snprintf(line + n, sizeof(line) - (size_t)n, ".%03ld [%d] %.1000s\n", ts.tv_nsec / 1000000,
                  (int)getpid(), text);
    if (write(ui->log_fd, line, (size_t)n) < 0)
        return; /* a full disk is no reason to lose a guest */
}

static void put_line(struct xl_ui *ui, const char *text)
{
    const char *erase = ui->bar ? "\r\033[K" : "";
    char line[1200];
    char stamp[16] = "";
    time_t now = time(NULL);
    struct tm tm;
    int n;

    if (ui->verbose && localtime_r(&now, &tm))
        strftime(stamp, sizeof(stamp), "%H:%M:%S ", &tm);
    ui->bar = false;
    n = snprintf(line, sizeof(line), "%s%s%.1000s\n", erase, stamp, text);
    put_err(ui, line, (size_t)n, LINE_PATIENCE_MS);
    put_log(ui, text);
}

static void say(void *priv, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(void *priv, const char *fmt, ...)
{
    char text[1000];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    put_line(priv, text);
}

void xl_ui_say(struct xl_ui *ui, const char *fmt, ...)
{
    char text[1000];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    put_line(ui, text);
}

void xl_ui_error(struct xl_ui *ui, const char *what, const struct colo_err *err)
{
    xl_ui_say(ui, "xl %s: %s%s%s [%s]", ui->command, what, *what ? ": " : "", err->msg,
              err->reason);
}

/* "1:05", "2:10:00" */
static void put_time(char *buf, size_t size, uint64_t s)
{
    if (s >= 3600)
        snprintf(buf, size, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(buf, size, "%" PRIu64 ":%02" PRIu64, s / 60, s % 60);
}

void xl_progress_line(char *buf, size_t size, unsigned int columns, bool bar,
                      const struct xc_sr_precopy_progress *p, colo_time elapsed)
{
    uint64_t total = p->iter_pages ? p->iter_pages : 1;
    uint64_t done = p->iter_done < total ? p->iter_done : total;
    double seconds = (double)elapsed / 1e9;
    double rate = seconds > 0 ? (double)done / seconds : 0; /* pages a second */
    char left[32] = "-:--", fill[256] = "";
    unsigned int room, filled;
    int n;

    if (rate > 0 && (double)(total - done) / rate < 360000)
        put_time(left, sizeof(left), (uint64_t)((double)(total - done) / rate + 0.5));
    room = columns > 60 ? columns - 60 : 0;
    if (room > 40)
        room = 40;
    if (bar && room > 4) {
        filled = (unsigned int)(done * room / total);
        n = snprintf(fill, sizeof(fill), "[%.*s%.*s] ", (int)filled,
                     "########################################", (int)(room - filled),
                     "                                        ");
        (void)n;
    }
    snprintf(buf, size, "first sync, round %u: %s%3" PRIu64 " %%  %.1f MB/s  %s left",
             p->iteration + 1, fill, done * 100 / total, rate * 4096 / 1e6, left);
}

static void progress(void *priv, const struct xc_sr_precopy_progress *p, uint64_t mem_pages)
{
    struct xl_ui *ui = priv;
    struct winsize ws = {.ws_col = 80};
    colo_time now = colo_now();
    char line[300], whole[320];

    (void)mem_pages;
    if (!ui->round_began || ui->round != p->iteration) {
        ui->round = p->iteration;
        ui->round_began = now;
    }
    if (now - ui->drawn < (ui->tty ? BAR_PERIOD : LINE_PERIOD))
        return;
    ui->drawn = now;
    if (ui->tty)
        ioctl(ui->err_fd, TIOCGWINSZ, &ws);
    xl_progress_line(line, sizeof(line), ws.ws_col, ui->tty, p, now - ui->round_began);
    if (!ui->tty) {
        put_line(ui, line);
        return;
    }
    snprintf(whole, sizeof(whole), "\r%.*s\033[K", ws.ws_col > 1 ? ws.ws_col - 1 : 79, line);
    put_err(ui, whole, strlen(whole), 0);
    ui->bar = true;
}

void xl_ui_init(struct xl_ui *ui, const char *command)
{
    memset(ui, 0, sizeof(*ui));
    ui->command = command;
    ui->err_fd = STDERR_FILENO;
    ui->tty = isatty(STDERR_FILENO);
    ui->log_fd = -1;
    ui->colo.priv = ui;
    ui->colo.message = say;
    ui->colo.sync = progress;
}
