/* SPDX-License-Identifier: GPL-2.0-only */
/* The control language: one line in, one line out.  Errors start with "error". */
#include "guest.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <unistd.h>

static bool number(const char *text, uint64_t *value)
{
    char *end;

    if (!text || !*text || *text == '-')
        return false;
    *value = strtoull(text, &end, 0);
    return *end == 0;
}

static void do_status(char *answer)
{
    uint64_t rate, pages, done, mark;
    char head[65];
    bool whole = memory_peek(&mark);

    chain_head(head);
    memory_dirty_status(&rate, &pages, &done);
    snprintf(answer, ANSWER_MAX,
             "{\"counter\":%" PRIu64 ",\"uptime\":%.3f,\"boot_id\":\"%016" PRIx64
             "\",\"log_length\":%zu,"
             "\"log_head\":\"%s\",\"dirty_rate\":%" PRIu64 ",\"dirty_pages\":%" PRIu64
             ",\"dirtied\":%" PRIu64 ",\"mark\":%" PRIu64 ",\"mark_whole\":%s,\"mark_gfn\":%" PRIu64
             ",\"cpus\":%ld,\"memory_pages\":%ld}",
             counter, uptime(), boot_id, chain_length(), head, rate, pages, done, mark,
             whole ? "true" : "false", memory_mark_gfn(), sysconf(_SC_NPROCESSORS_ONLN),
             sysconf(_SC_PHYS_PAGES));
}

static void do_append(const char *text, char *answer)
{
    char hex[65];
    size_t index = chain_append(text, strlen(text), hex);

    if (index)
        snprintf(answer, ANSWER_MAX, "%zu %s", index, hex);
    else
        snprintf(answer, ANSWER_MAX, "error out of memory");
}

static void do_log(const char *what, const char *rest, char *answer)
{
    const char *text;
    uint64_t index;
    size_t len, bad;
    char head[65];

    chain_head(head);
    if (!what)
        snprintf(answer, ANSWER_MAX, "%zu %s", chain_length(), head);
    else if (!strcmp(what, "verify") && chain_verify(&bad))
        snprintf(answer, ANSWER_MAX, "ok %zu %s", chain_length(), head);
    else if (!strcmp(what, "verify"))
        snprintf(answer, ANSWER_MAX, "bad %zu of %zu", bad, chain_length());
    else if (!strcmp(what, "get") && number(rest, &index) && chain_get(index, &text, &len))
        snprintf(answer, ANSWER_MAX, "%.*s", (int)(len < ANSWER_MAX ? len : ANSWER_MAX - 1), text);
    else
        snprintf(answer, ANSWER_MAX, "error usage: log | log verify | log get INDEX");
}

static void do_random(char *answer)
{
    uint64_t value = 0;
    char text[32], hex[65];
    size_t index;

    if (getrandom(&value, sizeof(value), 0) != sizeof(value)) {
        snprintf(answer, ANSWER_MAX, "error no random number");
        return;
    }
    snprintf(text, sizeof(text), "random %016" PRIx64, value);
    index = chain_append(text, strlen(text), hex);
    snprintf(answer, ANSWER_MAX, "%016" PRIx64 " %zu %s", value, index, hex);
}

/* The connections, as the kernel tells them: queues, timers, what is sent again, window. */
static void do_tcp(char *answer)
{
    static const char *const files[] = {"/proc/net/tcp", "/proc/net/tcp6"};
    size_t len = 0, n;
    char line[512];

    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        FILE *f = fopen(files[i], "r");

        while (f && fgets(line, sizeof(line), f)) {
            n = strcspn(line, "\n");
            if (strstr(line, ": 0A ") || !strstr(line, ": ") || len + n + 2 > ANSWER_MAX)
                continue;
            memcpy(answer + len, line, n);
            len += n;
            answer[len++] = ';';
        }
        if (f)
            fclose(f);
    }
    answer[len] = 0;
}

#ifdef DISKS
static bool disk_command(const char *word, const char *a, const char *b, char *save, char *answer)
{
    const char *c = strtok_r(NULL, " ", &save);
    uint64_t disk, blocks, gap;
    char path[64];

    if (!strcmp(word, "mount") && number(a, &disk) && disk_device(disk, path, sizeof(path)))
        database_mount(path, answer);
    else if (!strcmp(word, "umount"))
        database_umount(answer);
    else if (!strcmp(word, "rows"))
        database_check(answer);
    else if (!strcmp(word, "scribble") && a && !strcmp(a, "stop"))
        scribble_stop(answer);
    else if (!strcmp(word, "scribble") && a && !strcmp(a, "check"))
        scribble_check(answer);
    else if (!strcmp(word, "scribble") && number(a, &disk) && number(b, &blocks) &&
             number(c, &gap) && disk_device(disk, path, sizeof(path)))
        scribble_start(path, blocks, gap, answer);
    else
        return false;
    return true;
}

#else
static bool disk_command(const char *word, const char *a, const char *b, char *save, char *answer)
{
    (void)word, (void)a, (void)b, (void)save, (void)answer;
    return false;
}

static void database_add(const char *text, char *answer)
{
    snprintf(answer, ANSWER_MAX, "error no disk for %s", text);
}
#endif

static void do_crash(void)
{
    int fd = open("/proc/sysrq-trigger", O_WRONLY);

    if (fd < 0 || write(fd, "c", 1) != 1)
        say("crash: cannot");
}

void control(char *line, char answer[ANSWER_MAX])
{
    char *save = NULL, *rest = strchr(line, ' '), *word, *a, *b;
    uint64_t x, y, z, w;

    while (rest && *rest == ' ')
        rest++;
    if (!strncmp(line, "append ", 7)) { /* the text keeps its spaces */
        do_append(line + 7, answer);
        return;
    }
    if (!strncmp(line, "row ", 4)) {
        *answer = 0;
        database_add(line + 4, answer);
        return;
    }
    word = strtok_r(line, " ", &save);
    a = strtok_r(NULL, " ", &save);
    b = strtok_r(NULL, " ", &save);
    *answer = 0;
    if (!word) {
        snprintf(answer, ANSWER_MAX, "error empty line");
    } else if (!strcmp(word, "status")) {
        do_status(answer);
    } else if (!strcmp(word, "log")) {
        do_log(a, b, answer);
    } else if (!strcmp(word, "random")) {
        do_random(answer);
    } else if (!strcmp(word, "tcp")) {
        do_tcp(answer);
    } else if (!strcmp(word, "dirty") && number(a, &x) && (number(b, &y) || x == 0)) {
        if (memory_dirty(x, x ? y : 0))
            snprintf(answer, ANSWER_MAX, "ok");
        else
            snprintf(answer, ANSWER_MAX, "error not enough memory");
    } else if (!strcmp(word, "fill") && number(a, &x) && number(b, &y)) {
        if (memory_fill(x, y, &z))
            snprintf(answer, ANSWER_MAX, "ok %" PRIu64 " %016" PRIx64, x, z);
        else
            snprintf(answer, ANSWER_MAX, "error not enough memory");
    } else if (!strcmp(word, "pace") && number(a, &x)) {
        http_pace = x;
        snprintf(answer, ANSWER_MAX, "ok");
    } else if (!strcmp(word, "check")) {
        bool good = memory_check(&x, &y, &w);

        snprintf(answer, ANSWER_MAX, "%s %" PRIu64 " %016" PRIx64 " %" PRIu64, good ? "ok" : "bad",
                 x, y, w);
    } else if (!strcmp(word, "mark") && number(a, &x)) {
        snprintf(answer, ANSWER_MAX, "gfn %" PRIu64 " value %" PRIu64, memory_mark(x), x);
    } else if (!strcmp(word, "peek")) {
        bool whole = memory_peek(&x);

        snprintf(answer, ANSWER_MAX, "gfn %" PRIu64 " value %" PRIu64 "%s", memory_mark_gfn(), x,
                 whole ? "" : " torn");
    } else if (!strcmp(word, "poweroff")) {
        say("poweroff");
        reboot(RB_POWER_OFF);
    } else if (!strcmp(word, "reboot")) {
        say("reboot");
        reboot(RB_AUTOBOOT);
    } else if (!strcmp(word, "crash")) {
        say("crash");
        do_crash();
    } else if (!disk_command(word, a, b, save, answer)) {
        snprintf(
            answer, ANSWER_MAX,
            "error unknown or incomplete: %s (status, append TEXT, "
            "log [verify|get N], random, tcp, dirty RATE PAGES, fill PAGES SEED, check, mark VALUE, peek, "
            "pace BYTES, mount DISK, umount, row TEXT, rows, scribble DISK BLOCKS GAP_US|stop|check, "
            "poweroff, reboot, crash)",
            word);
    }
}
