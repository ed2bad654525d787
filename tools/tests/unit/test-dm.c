/* SPDX-License-Identifier: GPL-2.0-only */
/* What colo-dm makes of a device model's arguments: the program, with a script for the device model. */
#include "testlib.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND(socket) \
    "driver=raw,file.driver=nbd,file.export=secondary,file.server.type=unix,file.server.path=" socket

static char program[PATH_MAX], folder[64], script[96];

/* The device model's lines: its name, its arguments, and what it finds of our variables. */
static int run(const char *dm, const char *disks, const char *const args[], char *out, size_t len)
{
    const char *argv[16] = {"colo-dm"};
    int fds[2], status, n = 1;
    size_t have = 0;
    ssize_t r;
    pid_t pid;

    while (*args)
        argv[n++] = *args++;
    assert_int_equal(pipe(fds), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        dm ? setenv("XEN_COLO_DM", dm, 1) : unsetenv("XEN_COLO_DM");
        disks ? setenv("XEN_COLO_DISKS", disks, 1) : unsetenv("XEN_COLO_DISKS");
        execv(program, (char *const *)argv);
        _exit(126);
    }
    close(fds[1]);
    while ((r = read(fds[0], out + have, len - 1 - have)) > 0)
        have += (size_t)r;
    out[have] = '\0';
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* These arguments become those. */
static void becomes(const char *disks, const char *const args[], const char *const want[])
{
    char out[4096], text[4096];
    size_t n = (size_t)snprintf(text, sizeof(text), "%s\n", script);

    while (*want)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s\n", *want++);
    snprintf(text + n, sizeof(text) - n, "left: none\n");
    assert_int_equal(run(script, disks, args, out, sizeof(out)), 0);
    assert_string_equal(out, text);
}
#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_the_disks_that_are_ours(void **state)
{
    (void)state;
    becomes("/dev/vg/a\t/run/a.nbd\n/srv/b.img\t/run/b.nbd\n",
            LIST("-name", "guest", "-drive",
                 "file=/dev/vg/a,if=ide,index=0,media=disk,format=raw,cache=writeback", "-drive",
                 "if=scsi,bus=0,unit=1,file=/srv/b.img,format=host_device", "-S"),
            LIST("-name", "guest", "-drive",
                 SECOND("/run/a.nbd") ",if=ide,index=0,media=disk,cache=writeback", "-drive",
                 SECOND("/run/b.nbd") ",if=scsi,bus=0,unit=1", "-S"));
}

static void test_what_is_not_ours_stays(void **state)
{
    static const char disks[] = "/srv/a.img\t/run/a.nbd\n";

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        static const char *const drives[] = {
            "file=/srv/cd.iso,if=ide,index=2,readonly=on,media=cdrom,format=raw,id=ide-5632",
            "if=ide,index=2,readonly=on,media=cdrom,id=ide-5632", /* empty */
            "file=/srv/a.img2,if=ide,index=1,format=raw",         /* longer */
            "file=/srv/a.im,if=ide,index=1,format=raw",           /* shorter */
            "id=x,backing.file=/srv/a.img,format=qcow2",          /* another key */
        };
        const char *const args[] = {"-drive", drives[i], NULL};

        becomes(disks, args, args);
    }
    /* the path as another option's value, and an option that is cut off */
    becomes(disks, LIST("-kernel", "file=/srv/a.img", "-drive"),
            LIST("-kernel", "file=/srv/a.img", "-drive"));
}

/* QEMU writes a comma in a value as two. */
static void test_paths_with_commas(void **state)
{
    (void)state;
    becomes("/srv/a,b\t/run/x,y.nbd\n/srv/a\t/run/a.nbd\n/srv/c,\t/run/c.nbd\n",
            LIST("-drive", "file=/srv/a,,b,if=ide,format=raw", "-drive", "file=/srv/a,if=ide",
                 "-drive", "if=ide,file=/srv/c,,", "-drive", "file=/srv/a,,,,b,if=ide"),
            LIST("-drive", SECOND("/run/x,,y.nbd") ",if=ide", "-drive",
                 SECOND("/run/a.nbd") ",if=ide", "-drive", SECOND("/run/c.nbd") ",if=ide", "-drive",
                 "file=/srv/a,,,,b,if=ide"));
}

static void test_without_disks_nothing_changes(void **state)
{
    const char *const args[] = {"-drive", "file=/srv/a.img,if=ide,format=raw", "", NULL};

    (void)state;
    becomes(NULL, args, args);
    becomes("", args, args);
}

static void test_without_a_device_model(void **state)
{
    char out[1024];

    (void)state;
    assert_int_equal(run(NULL, "/a\t/b\n", LIST("-S"), out, sizeof(out)), 1);
    tl_has(out, "XEN_COLO_DM names no device model");
    assert_int_equal(run("", "/a\t/b\n", LIST("-S"), out, sizeof(out)), 1);
    assert_int_equal(run("/nowhere/qemu", NULL, LIST("-S"), out, sizeof(out)), 1);
    tl_has(out, "/nowhere/qemu: No such file");
}

static int enter(void **state)
{
    FILE *f;

    (void)state;
    assert_non_null(realpath("build/colo-dm", program)); /* built before the tests are */
    snprintf(folder, sizeof(folder), "/tmp/colo-dm-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(script, sizeof(script), "%s/qemu", folder);
    f = fopen(script, "we");
    assert_non_null(f);
    fprintf(f, "#!/bin/sh\nprintf '%%s\\n' \"$0\" \"$@\"\n"
               "echo \"left: ${XEN_COLO_DM-}${XEN_COLO_DISKS-none}\"\n");
    assert_int_equal(fclose(f), 0);
    return chmod(script, 0700);
}

static int leave(void **state)
{
    (void)state;
    unlink(script);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_the_disks_that_are_ours),
        cmocka_unit_test(test_what_is_not_ours_stays),
        cmocka_unit_test(test_paths_with_commas),
        cmocka_unit_test(test_without_disks_nothing_changes),
        cmocka_unit_test(test_without_a_device_model),
    };

    return cmocka_run_group_tests(all, enter, leave);
}
