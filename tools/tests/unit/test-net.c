/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The network of a session as the toolstack has it: real proxies, started as programs, the script
 * that is installed, links in a network namespace of the test's own.
 */
#include "testnet.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libxl_colo_monitor_priv.h"
#include "libxl_colo_net.h"
#include "libxl_colo_shared.h"

#define SCRIPT "tools/hotplug/Linux/colo-proxy-setup"

static struct colo_err err;
static char session[40];

static struct side {
    struct colo_net net;
    struct colo_net_undo undo;
    struct colo_nics nics; /* secondary */
} P, S;

/* ---- links ---- */

static const char *const taps[] = {"vif1.0-emu", "vif1.1-emu", "vif2.0-emu", "vif2.1-emu"};

static void build_links(void)
{
    tn_bridge("br0");
    for (size_t i = 0; i < 4; i++) {
        char peer[IFNAMSIZ];

        snprintf(peer, sizeof(peer), "guest%zu", i);
        tn_veth(taps[i], peer);
        tn_enslave(taps[i], "br0");
    }
}

static int end(void **state)
{
    (void)state;
    colo_net_undo(&P.net, &P.undo, false, NULL);
    colo_net_undo(&S.net, &S.undo, false, NULL);
    for (size_t i = 0; i < 4; i++)
        tn_delete(taps[i]);
    tn_delete("br0");
    return 0;
}

/* ---- sessions ---- */

static void name(struct side *s, uint32_t domid)
{
    libxl_device_nic nics[2];
    libxl_domain_config cfg;

    memset(&cfg, 0, sizeof(cfg));
    memset(nics, 0, sizeof(nics));
    nics[1].devid = 1;
    nics[0].bridge = nics[1].bridge = (char *)"br0";
    cfg.nics = nics;
    cfg.num_nics = 2;
    tl_ok(colo_net_name(&s->net, &cfg, domid, &err), &err);
}

static void start(struct side *s, bool secondary)
{
    memset(s, 0, sizeof(*s));
    tl_ok(colo_net_start(&s->net, &s->undo, SCRIPT, session, "a-guest", secondary, &err), &err);
    name(s, secondary ? 2 : 1);
}

static void isolate(void)
{
    struct colo_nic_desc d[2];

    memset(d, 0, sizeof(d));
    for (int i = 0; i < 2; i++) {
        memcpy(d[i].vif, i ? "vif2.1" : "vif2.0", 7);
        memcpy(d[i].tap, taps[2 + i], 11);
        d[i].mac[5] = (uint8_t)(i + 1);
    }
    tl_ok(colo_nics_isolate(d, 2, &S.nics, &err), &err);
}

static void begin(void)
{
    struct colo_proxy_link link = {.session = session, .address = "127.0.0.1"};
    char key[COLO_PROXY_KEY_HEX + 1];

    tn_skip();
    build_links();
    tl_ok(colo_proxy_make_key(key, &err), &err);
    link.key = key;
    start(&S, true);
    tl_ok(colo_proxy_listen(S.net.px, &link, &err), &err);
    start(&P, false);
    tl_ok(colo_proxy_connect(P.net.px, &link, &err), &err);
    tl_ok(colo_net_wait_link(&P.net, -1, tl_soon(), &err), &err);
    isolate();
    tl_ok(colo_net_wire(&S.net, &S.nics, "compare", 0, &err), &err);
    tl_ok(colo_net_wire(&P.net, NULL, "compare", 0, &err), &err);
    tl_str_eq(tn_bridge_of("vif1.1-emu"), "");
    tl_str_eq(tn_bridge_of("vif1.1-cb"), "br0");
    tl_str_eq(tn_bridge_of("vif2.1-emu"), "");
    tl_str_eq(tn_bridge_of("vif2.1-cb"), "");
    tl_ok(colo_net_hold(&P.net, 1, &err), &err);
    tl_ok(colo_net_hold(&S.net, 1, &err), &err);
    tl_ok(colo_net_commit(&S.net, 1, &err), &err);
    tl_ok(colo_net_commit(&P.net, 1, &err), &err);
}

static void all_gone(void)
{
    static const char *const ours[] = {"vif1.0-cg", "vif1.0-cb", "vif1.1-cg", "vif1.1-cb",
                                       "vif2.0-cg", "vif2.0-cb", "vif2.1-cg", "vif2.1-cb"};

    for (size_t i = 0; i < 8; i++)
        tl_str_eq(tn_bridge_of(ours[i]), "none");
}

static void test_a_session_that_ends(void **state)
{
    bool wanted = false;

    (void)state;
    begin();
    tl_ok(colo_net_event(&P.net, &wanted, &err), &err);
    assert_false(wanted);
    tl_ok(colo_net_undo(&S.net, &S.undo, false, &err), &err);
    tl_ok(colo_net_undo(&P.net, &P.undo, true, &err), &err);
    tl_str_eq(tn_bridge_of("vif1.0-emu"), "br0");
    tl_str_eq(tn_bridge_of("vif1.1-emu"), "br0");
    tl_str_eq(tn_bridge_of("vif2.0-emu"), "");
    all_gone();
    tl_ok(colo_net_undo(NULL, &P.undo, true, &err), &err); /* again, by somebody else */
}

/* The toolstack's process is gone; its monitor has nothing but what was written down. */
static void test_undone_by_a_monitor(void **state)
{
    (void)state;
    begin();
    colo_net_close(&P.net);
    tl_ok(colo_net_undo(NULL, &P.undo, true, &err), &err);
    tl_str_eq(tn_bridge_of("vif1.0-emu"), "br0");
    colo_net_close(&S.net);
    tl_ok(colo_net_undo(NULL, &S.undo, false, &err), &err);
    all_gone();
}

static void kill_proxy(struct side *s)
{
    struct colo_json *stats;

    tl_ok(colo_proxy_stats(s->net.px, &stats, &err), &err);
    assert_true(colo_json_get_int(stats, "pid", 0) > 1);
    kill((pid_t)colo_json_get_int(stats, "pid", 0), SIGKILL);
    colo_json_free(stats);
}

static void test_a_proxy_that_dies(void **state)
{
    colo_time deadline = tl_soon();
    bool wanted;
    int rc;

    (void)state;
    begin();
    kill_proxy(&S);
    while ((rc = colo_net_event(&P.net, &wanted, &err)) == 0) {
        assert_true(colo_now() < deadline);
        poll(NULL, 0, 5);
    }
    tl_str_eq(err.reason, "proxy-link");
    tl_fails(rc, &err, COLO_ERR_LOCAL);
    tl_fails(colo_net_hold(&S.net, 2, &err), &err, COLO_ERR_LOCAL);
    /* the second copy can take over all the same, by its own tap */
    colo_net_takeover(&S.net, &S.nics);
    tl_str_eq(S.nics.nic[0].link[0].name, "vif2.0-emu");
    tl_ok(colo_nics_join(&S.nics, &err), &err);
    tl_str_eq(tn_bridge_of("vif2.0-emu"), "br0");
    tl_str_eq(tn_bridge_of("vif2.1-emu"), "br0");
    tl_str_eq(tn_bridge_of("vif2.0-cb"), "none");
}

/* Which of the two taps it is, what is needed to undo the wiring is still known by the other. */
static void deleted(const char *tap)
{
    colo_time deadline = tl_soon();
    bool wanted;

    begin();
    tn_delete(tap);
    while (colo_net_event(&P.net, &wanted, &err) == 0) {
        assert_true(colo_now() < deadline);
        poll(NULL, 0, 5);
    }
    tl_str_eq(err.reason, "proxy-tap");
    colo_net_undo(&P.net, &P.undo, true, NULL);
    colo_net_undo(&S.net, &S.undo, false, NULL);
    tl_str_eq(tn_bridge_of("vif1.0-emu"), "br0");
    tl_str_eq(tn_bridge_of("vif1.1-emu"), "br0");
    all_gone();
}

static void test_a_tap_that_is_deleted(void **state)
{
    (void)state;
    deleted("vif1.0-cb");
    end(state);
    deleted("vif1.0-cg");
}

static void test_takeover(void **state)
{
    (void)state;
    begin();
    tl_ok(colo_net_undo(&P.net, &P.undo, false, &err), &err);
    colo_net_takeover(&S.net, &S.nics);
    tl_str_eq(S.nics.nic[1].link[0].name, "vif2.1-cb");
    tl_ok(colo_nics_join(&S.nics, &err), &err);
    for (colo_time deadline = tl_soon(); strcmp(tn_bridge_of("vif2.1-cb"), "none") != 0;) {
        assert_true(colo_now() < deadline); /* it steps aside: there is no old connection */
        poll(NULL, 0, 10);
    }
    tl_str_eq(tn_bridge_of("vif2.0-emu"), "br0");
    tl_str_eq(tn_bridge_of("vif2.1-emu"), "br0");
    tl_ok(colo_net_undo(NULL, &S.undo, false, &err), &err);
}

/* The monitor's eye on the proxy, until `fd` says that it has ended. */
static void wait_for_end(struct mon *m)
{
    colo_time deadline = tl_soon();

    while (colo_monitor_proxy_needed(m)) {
        struct pollfd pfd = {.fd = colo_monitor_proxy_fd(m), .events = POLLIN};

        assert_true(colo_now() < deadline);
        if (poll(&pfd, 1, 100) > 0)
            colo_monitor_proxy_ready(m);
    }
}

static void after_takeover(bool killed)
{
    struct colo_shared *sh = colo_shared_new(&err);
    struct mon m = {.c.sh = sh};

    assert_non_null(sh);
    begin();
    tl_ok(colo_net_undo(&P.net, &P.undo, false, &err), &err);
    sh->recovery.net = S.undo;
    pthread_mutex_init(&m.lock, NULL);
    colo_monitor_proxy_watch(&m);
    assert_true(colo_monitor_proxy_needed(&m));
    if (killed)
        kill_proxy(&S);
    else
        colo_net_takeover(&S.net, &S.nics);
    tl_ok(colo_nics_join(&S.nics, &err), &err);
    colo_net_close(&S.net);
    wait_for_end(&m);
    tl_eq(colo_monitor_proxy_fd(&m), -1);
    tl_str_eq(sh->recovery.net.socket, "");
    tl_str_eq(tn_bridge_of("vif2.0-emu"), "br0");
    tl_str_eq(tn_bridge_of("vif2.1-emu"), "br0");
    all_gone();
    memset(&S.undo, 0, sizeof(S.undo));
    pthread_mutex_destroy(&m.lock);
    colo_shared_free(sh);
}

static void test_a_monitor_sees_the_proxy_step_aside(void **state)
{
    (void)state;
    after_takeover(false);
}

static void test_a_monitor_stands_in_for_a_killed_proxy(void **state)
{
    (void)state;
    after_takeover(true);
}

static void test_a_script_that_fails(void **state)
{
    (void)state;
    tn_skip();
    build_links();
    start(&P, false);
    snprintf(P.net.vif[1], sizeof(P.net.vif[1]), "nosuch");
    tl_has((colo_net_wire(&P.net, NULL, "compare", 0, &err), err.msg),
           "no network link nosuch-emu");
    tl_str_eq(err.reason, "proxy-script");
    tl_eq(P.undo.n, 2);
    tl_ok(colo_net_undo(&P.net, &P.undo, true, &err), &err);
    tl_str_eq(tn_bridge_of("vif1.0-emu"), "br0");
    all_gone();
    start(&P, false);
    snprintf(P.undo.script, sizeof(P.undo.script), "/nonexistent/script");
    tl_fails(colo_net_wire(&P.net, NULL, "compare", 0, &err), &err, COLO_ERR_LOCAL);
}

static int enter(void **state)
{
    char program[PATH_MAX];

    snprintf(session, sizeof(session), "01234567-0123-0123-0123-%012x", (unsigned int)getpid());
    assert_non_null(realpath("build/colo-proxy", program)); /* built before the tests are */
    setenv("XEN_COLO_PROXY", program, 1);
    return tn_enter(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_a_session_that_ends, end),
        cmocka_unit_test_teardown(test_undone_by_a_monitor, end),
        cmocka_unit_test_teardown(test_a_proxy_that_dies, end),
        cmocka_unit_test_teardown(test_a_tap_that_is_deleted, end),
        cmocka_unit_test_teardown(test_takeover, end),
        cmocka_unit_test_teardown(test_a_monitor_sees_the_proxy_step_aside, end),
        cmocka_unit_test_teardown(test_a_monitor_stands_in_for_a_killed_proxy, end),
        cmocka_unit_test_teardown(test_a_script_that_fails, end),
    };

    return cmocka_run_group_tests(tests, enter, tn_leave);
}
