/* SPDX-License-Identifier: GPL-2.0-only */
/* A database on the guest's disk.  Each row's hash covers the one before it, so that a row that is
 * lost, changed or invented shows.  What has been answered is on the disk. */
#include "guest.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER    "/disk"
#define FILE_NAME FOLDER "/log.db"

static sqlite3 *db;

static bool fail(char *answer, const char *what)
{
    snprintf(answer, ANSWER_MAX, "error %s: %s", what, db ? sqlite3_errmsg(db) : "no database");
    return false;
}

static bool sql(const char *text, char *answer)
{
    return sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_OK || fail(answer, text);
}

static void close_db(void)
{
    if (db)
        sqlite3_close(db);
    db = NULL;
}

static bool open_db(char *answer)
{
    if (sqlite3_open(FILE_NAME, &db) != SQLITE_OK)
        return fail(answer, "open");
    return sql("PRAGMA synchronous=FULL", answer) &&
           sql("CREATE TABLE IF NOT EXISTS log(id INTEGER PRIMARY KEY, text TEXT, hash BLOB)",
               answer);
}

void database_mount(const char *device, char *answer)
{
    mkdir(FOLDER, 0755);
    if (mount(device, FOLDER, "ext4", 0, NULL)) {
        snprintf(answer, ANSWER_MAX, "error mount %s: %m", device);
        return;
    }
    if (open_db(answer))
        snprintf(answer, ANSWER_MAX, "ok");
}

void database_umount(char *answer)
{
    close_db();
    if (umount(FOLDER))
        snprintf(answer, ANSWER_MAX, "error umount: %m");
    else
        snprintf(answer, ANSWER_MAX, "ok");
}

static void link_row(const uint8_t before[32], const void *text, size_t len, uint8_t hash[32])
{
    struct sha256 s;

    sha256_init(&s);
    sha256_add(&s, before, 32);
    sha256_add(&s, text, len);
    sha256_end(&s, hash);
}

static bool last_hash(uint8_t hash[32])
{
    sqlite3_stmt *q;
    bool good = sqlite3_prepare_v2(db, "SELECT hash FROM log ORDER BY id DESC LIMIT 1", -1, &q,
                                   NULL) == SQLITE_OK;

    memset(hash, 0, 32);
    if (good && sqlite3_step(q) == SQLITE_ROW && sqlite3_column_bytes(q, 0) == 32)
        memcpy(hash, sqlite3_column_blob(q, 0), 32);
    sqlite3_finalize(q);
    return good;
}

void database_add(const char *text, char *answer)
{
    sqlite3_stmt *q = NULL;
    uint8_t before[32], hash[32];
    char hex[65];
    bool good;

    if (!db || !sql("BEGIN IMMEDIATE", answer)) {
        fail(answer, "begin");
        return;
    }
    good = last_hash(before);
    link_row(before, text, strlen(text), hash);
    good = good && sqlite3_prepare_v2(db, "INSERT INTO log(text, hash) VALUES(?, ?)", -1, &q,
                                      NULL) == SQLITE_OK;
    good = good && sqlite3_bind_text(q, 1, text, -1, SQLITE_STATIC) == SQLITE_OK &&
           sqlite3_bind_blob(q, 2, hash, 32, SQLITE_STATIC) == SQLITE_OK &&
           sqlite3_step(q) == SQLITE_DONE;
    if (!good)
        fail(answer, "insert");
    sqlite3_finalize(q);
    if (!good) {
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
        return;
    }
    if (!sql("COMMIT", answer))
        return;
    to_hex(hash, 32, hex);
    snprintf(answer, ANSWER_MAX, "%lld %s", (long long)sqlite3_last_insert_rowid(db), hex);
}

static bool whole(char *answer)
{
    sqlite3_stmt *q;
    const char *said = "nothing";
    bool good = sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &q, NULL) == SQLITE_OK &&
                sqlite3_step(q) == SQLITE_ROW;

    if (good)
        said = (const char *)sqlite3_column_text(q, 0);
    good = good && said && !strcmp(said, "ok");
    if (!good)
        snprintf(answer, ANSWER_MAX, "bad integrity_check: %.200s", said ? said : "?");
    sqlite3_finalize(q);
    return good;
}

/* From the disk: nothing of it is left in memory. */
static bool reopen(char *answer)
{
    int fd;

    close_db();
    sync();
    fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "3", 1) != 1)
        say("cannot drop caches");
    if (fd >= 0)
        close(fd);
    return open_db(answer);
}

void database_check(char *answer)
{
    uint8_t hash[32] = {0}, now[32];
    long long rows = 0;
    sqlite3_stmt *q;
    char hex[65];
    bool good;

    if (!db || !reopen(answer) || !whole(answer)) {
        if (!*answer)
            fail(answer, "check");
        return;
    }
    good = sqlite3_prepare_v2(db, "SELECT id, text, hash FROM log ORDER BY id", -1, &q, NULL) ==
           SQLITE_OK;
    while (good && sqlite3_step(q) == SQLITE_ROW) {
        link_row(hash, sqlite3_column_text(q, 1), (size_t)sqlite3_column_bytes(q, 1), now);
        good = sqlite3_column_int64(q, 0) == ++rows && sqlite3_column_bytes(q, 2) == 32 &&
               !memcmp(now, sqlite3_column_blob(q, 2), 32);
        memcpy(hash, now, 32);
    }
    sqlite3_finalize(q);
    to_hex(hash, 32, hex);
    snprintf(answer, ANSWER_MAX, "%s %lld %s", good ? "ok" : "bad row", rows, hex);
}
