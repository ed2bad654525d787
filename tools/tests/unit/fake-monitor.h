/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A monitor whose guests are played by an ops table over shared memory, and what its tests ask of it.
 */
#ifndef FAKE_MONITOR_H
#define FAKE_MONITOR_H

#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "libxl_colo_monitor.h"
#include "libxl_json.h"

#define PATIENCE     (20 * 1000 * COLO_MS)
#define SECOND_DOMID (first_domid + 1)

/* What test, session and monitor share. */
struct fake {
    sem_t watching, down, acted, recovering; /* down and recovering make the monitor go on */
    sem_t ready;                             /* a session that is a process of its own */
    atomic_int watches, acts, recoveries, closes;
    uint32_t watched;    /* domid */
    uint32_t next_domid; /* what act returns; then 0 */
    bool watch_fails, act_blocks;
    sem_t go_on;
    int role;
    bool guest_here; /* what recover says */
    struct colo_monitor monitor;
};

extern struct fake *fake;
extern struct colo_shared *sh;
extern uint32_t first_domid;

void wait_sem(sem_t *s);
bool has_socket(uint32_t domid);
void start_monitor(enum colo_role role, struct colo_monitor *m);
void set_domid(struct colo_monitor *m, uint32_t domid);
/* The answer, to be freed; waits for the socket, which the monitor makes some time after it was
 * told to. */
struct colo_json *request(uint32_t domid, const char *command);
void expect_ok(uint32_t domid, const char *command);
void expect_error(uint32_t domid, const char *command, const char *reason);
void expect_status(uint32_t domid, const char *key, const char *value);
enum colo_monitor_cmd next_command(struct colo_monitor *m);
int wait_process(pid_t pid);
void end_ok(struct colo_monitor *m, bool watch);
void guest_down_ends(pid_t pid, uint32_t domid);
pid_t start_session(enum colo_role role, int out);
void kill_session(pid_t pid);
int set_up(void **state);
int tear_down(void **state);
int run_monitor_tests(const char *name, const struct CMUnitTest *tests, size_t n);

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

#endif
