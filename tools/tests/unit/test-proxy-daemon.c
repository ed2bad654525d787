/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Two proxies as processes, told what to do by the toolstack's client, with real links in a network
 * namespace of the test's own: a "guest" is the far end of what would be its tap.
 */
#include "testnet.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libxl_colo_proxy.h"
#include "proxy_daemon.h"
#include "proxy_links.h"
#include "testpackets.h"

static struct colo_err err;
static struct tp_frame f;
static char folder[] = "/run/test-proxy-XXXXXX";

static const struct tp_conn out = {.src = 1, .dst = 2, .sport = 53, .dport = 4000};
static const struct tp_conn in = {.src = 2, .dst = 1, .sport = 4000, .dport = 53};

struct host {
    const char *vif, *bridge, *guest, *uplink, *outside;
    char path[64];
    pid_t pid;
    struct colo_proxy *px;
    int guest_fd, outside_fd;
};
static struct host P = {"vif1.0", "br1", "guest1", "up1", "out1", "", 0, NULL, -1, -1};
static struct host S = {"vif2.0", "br2", "guest2", "up2", "out2", "", 0, NULL, -1, -1};

/* ---- links ---- */

static int listen_to(const char *name)
{
    struct sockaddr_ll sll = {.sll_family = AF_PACKET,
                              .sll_protocol = htons(ETH_P_IP),
                              .sll_ifindex = (int)if_nametoindex(name)};
    static const int one = 1;
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_IP));

    assert_true(fd >= 0);
    tl_eq(bind(fd, (const struct sockaddr *)&sll, sizeof(sll)), 0);
    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one));
    return fd;
}

static void build_host(struct host *h)
{
    char tap[IFNAMSIZ];

    tn_bridge(h->bridge);
    snprintf(tap, sizeof(tap), "%s-emu", h->vif);
    tn_veth(tap, h->guest);
    tn_veth(h->uplink, h->outside);
    tn_enslave(tap, h->bridge);
    tn_enslave(h->uplink, h->bridge);
    h->guest_fd = listen_to(h->guest);
    h->outside_fd = listen_to(h->outside);
}

static void drop_host(struct host *h)
{
    char tap[IFNAMSIZ];

    colo_proxy_close(h->px);
    h->px = NULL;
    if (h->pid > 0) {
        kill(h->pid, SIGKILL);
        waitpid(h->pid, NULL, 0);
    }
    h->pid = 0;
    close(h->guest_fd);
    close(h->outside_fd);
    snprintf(tap, sizeof(tap), "%s-emu", h->vif);
    tn_delete(tap);
    tn_delete(h->uplink);
    tn_delete(h->bridge);
    snprintf(tap, sizeof(tap), "%s-cg", h->vif);
    tn_delete(tap);
    snprintf(tap, sizeof(tap), "%s-cb", h->vif);
    tn_delete(tap);
}

/* ---- frames ---- */

static void say(int fd, const struct tp_conn *c, const char *text)
{
    tp_udp(&f, c, text, (uint32_t)strlen(text));
    assert_true(send(fd, f.b, f.len, 0) == (ssize_t)f.len);
}

/* The next frame of ours there has this text; NULL: none is there now. */
static void hears(int fd, const char *want)
{
    static uint8_t frame[COLO_FRAME_MAX];
    colo_time deadline = want ? tl_soon() : 0;
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    struct colo_packet pk;
    char text[64];
    ssize_t n;

    for (;;) {
        n = recv(fd, frame, sizeof(frame), 0);
        if (n > 0) {
            colo_packet_parse(&pk, frame, (uint32_t)n);
            if (pk.key.proto != IPPROTO_UDP || (pk.key.sport != 53 && pk.key.dport != 53))
                continue; /* the kernel's own */
            snprintf(text, sizeof(text), "%.*s", (int)(pk.end - pk.l4 - 8),
                     (const char *)frame + pk.l4 + 8);
            tl_str_eq(text, want ? want : "nothing");
            return;
        }
        if (!want)
            return;
        assert_true(colo_now() < deadline);
        poll(&pfd, 1, 100);
    }
}

/* ---- proxies ---- */

static colo_time alone_limit;

static void start(struct host *h)
{
    colo_time deadline = tl_soon();

    snprintf(h->path, sizeof(h->path), "%s/%s.sock", folder, h->vif);
    h->pid = fork();
    assert_true(h->pid >= 0);
    if (h->pid == 0) {
        const struct proxy_run run = {.control_path = h->path, .alone_limit = alone_limit};
        struct colo_err e = {0};

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (!freopen("/dev/null", "w", stderr))
            _exit(2);
        _exit(proxy_daemon_run(&run, &e) ? 1 : 0);
    }
    while (colo_proxy_attach(h->path, &h->px, &err)) {
        assert_true(colo_now() < deadline);
        poll(NULL, 0, 2);
    }
}

static struct colo_proxy_event next_event(struct host *h)
{
    struct colo_proxy_event ev;
    colo_time deadline = tl_soon();
    int rc;

    while ((rc = colo_proxy_event(h->px, &ev, &err)) == 0) {
        struct pollfd pfd = {.fd = colo_proxy_fd(h->px), .events = POLLIN};

        assert_true(colo_now() < deadline);
        poll(&pfd, 1, 100);
    }
    tl_ok(rc < 0 ? -1 : 0, &err);
    return ev;
}

static void connect_both(void)
{
    struct colo_proxy_link s = {.session = "01234567-0123-0123-0123-0123456789ab",
                                .address = "127.0.0.1"},
                           p;
    char key[COLO_PROXY_KEY_HEX + 1];

    tl_ok(colo_proxy_make_key(key, &err), &err);
    s.key = key;
    tl_ok(colo_proxy_listen(S.px, &s, &err), &err);
    p = s;
    tl_ok(colo_proxy_connect(P.px, &p, &err), &err);
    tl_eq(next_event(&P).type, COLO_PROXY_LINK_UP);
    tl_eq(next_event(&S).type, COLO_PROXY_LINK_UP);
}

static void wire(struct host *h, bool secondary)
{
    struct proxy_links l;

    tl_ok(colo_proxy_setup(h->px, &h->vif, 1, "compare", 12000, &err), &err);
    tl_ok(proxy_links_name(h->vif, &l, &err), &err);
    tl_ok(proxy_links_setup(&l, secondary ? h->bridge : NULL, &err), &err);
}

static void checkpoint(uint64_t n)
{
    tl_ok(colo_proxy_hold(P.px, n, &err), &err);
    tl_ok(colo_proxy_hold(S.px, n, &err), &err);
    tl_ok(colo_proxy_checkpoint(S.px, n, &err), &err);
    tl_ok(colo_proxy_checkpoint(P.px, n, &err), &err);
}

static void begin(void)
{
    tn_skip();
    build_host(&P);
    build_host(&S);
    start(&P);
    start(&S);
    tl_ok(colo_proxy_watch(P.px, &err), &err);
    tl_ok(colo_proxy_watch(S.px, &err), &err);
}

static void begin_lockstep(void)
{
    begin();
    connect_both();
    wire(&P, false);
    wire(&S, true);
    tl_str_eq(tn_bridge_of("vif1.0-emu"), "");
    tl_str_eq(tn_bridge_of("vif1.0-cb"), "br1");
    tl_str_eq(tn_bridge_of("vif2.0-emu"), "");
    tl_str_eq(tn_bridge_of("vif2.0-cb"), "");
    say(P.guest_fd, &out, "free");
    hears(P.outside_fd, "free");
    say(P.outside_fd, &in, "in");
    hears(P.guest_fd, "in");
    checkpoint(1);
}

/* Also after a failure: nothing of one test meets the next one. */
static int end(void **state)
{
    (void)state;
    drop_host(&P);
    drop_host(&S);
    alone_limit = 0;
    return 0;
}

static void wait_gone(struct host *h)
{
    int status;

    assert_true(waitpid(h->pid, &status, 0) == h->pid);
    h->pid = 0;
    tl_eq(status, 0);
}

static void test_lockstep_and_teardown(void **state)
{
    struct colo_proxy_event ev;
    struct colo_json *stats;

    (void)state;
    begin_lockstep();
    say(P.outside_fd, &in, "question");
    hears(P.guest_fd, "question");
    hears(S.guest_fd, "question");
    say(P.guest_fd, &out, "answer");
    say(S.guest_fd, &out, "answer");
    hears(P.outside_fd, "answer");
    hears(S.outside_fd, NULL);

    say(P.guest_fd, &out, "one");
    say(S.guest_fd, &out, "two");
    ev = next_event(&P);
    tl_eq(ev.type, COLO_PROXY_CHECKPOINT);
    tl_str_eq(ev.why, "payload");
    hears(P.outside_fd, NULL);
    checkpoint(2);
    hears(P.outside_fd, "one");

    tl_ok(colo_proxy_stats(P.px, &stats, &err), &err);
    tl_str_eq(colo_json_get_str(stats, "phase"), "lockstep");
    tl_eq(colo_json_get_int(stats, "checkpoint", 0), 2);
    tl_eq(colo_json_get_int(colo_json_at(colo_json_get(stats, "nics"), 0), "held_packets", 9), 0);
    colo_json_free(stats);

    say(P.guest_fd, &out, "held");
    tl_ok(colo_proxy_teardown(S.px, false, &err), &err);
    wait_gone(&S);
    tl_str_eq(tn_bridge_of("vif2.0-emu"), "");
    tl_eq(next_event(&P).type, COLO_PROXY_LINK_LOST);
    hears(P.outside_fd, NULL); /* until the toolstack says so */
    tl_ok(colo_proxy_teardown(P.px, true, &err), &err);
    hears(P.outside_fd, "held");
    wait_gone(&P);
    tl_str_eq(tn_bridge_of("vif1.0-emu"), "br1");
    tl_str_eq(tn_bridge_of("vif1.0-cg"), "none");
    tl_str_eq(tn_bridge_of("vif1.0-cb"), "none");
    assert_true(access(P.path, F_OK) != 0);
    say(P.guest_fd, &out, "direct");
    hears(P.outside_fd, "direct");
    say(P.outside_fd, &in, "back");
    hears(P.guest_fd, "back");
}

static void test_takeover_and_stepping_aside(void **state)
{
    struct colo_proxy_event ev;

    (void)state;
    begin_lockstep();
    kill(P.pid, SIGKILL);
    tl_eq(next_event(&S).type, COLO_PROXY_LINK_LOST);
    tl_ok(colo_proxy_takeover(S.px, &err), &err);
    /* no connection was born in lock-step: it is not needed for long */
    ev = next_event(&S);
    tl_eq(ev.type, COLO_PROXY_ASIDE);
    wait_gone(&S);
    tl_str_eq(tn_bridge_of("vif2.0-emu"), "br2");
    tl_str_eq(tn_bridge_of("vif2.0-cb"), "none");
    say(S.guest_fd, &out, "here");
    hears(S.outside_fd, "here");
}

/* Session and monitor were killed: the guest runs on, with what it has said. */
static void test_nobody_is_there_any_more(void **state)
{
    (void)state;
    alone_limit = 300 * COLO_MS;
    begin_lockstep();
    say(P.guest_fd, &out, "held");
    poll(NULL, 0, 2 * (int)(alone_limit / COLO_MS));
    hears(P.outside_fd, NULL); /* as long as somebody watches */
    colo_proxy_close(P.px);
    colo_proxy_close(S.px);
    P.px = S.px = NULL;
    hears(P.outside_fd, "held");
    wait_gone(&P);
    wait_gone(&S);
    tl_str_eq(tn_bridge_of("vif1.0-emu"), "br1");
    tl_str_eq(tn_bridge_of("vif2.0-emu"), "");
}

/* What a killed proxy leaves, whoever comes later undoes; and a proxy can begin where another was. */
static void test_undoing_after_a_kill(void **state)
{
    struct proxy_links l;

    (void)state;
    begin_lockstep();
    kill(P.pid, SIGKILL);
    waitpid(P.pid, NULL, 0);
    P.pid = 0;
    tl_ok(proxy_links_name(P.vif, &l, &err), &err);
    tl_ok(proxy_links_setup(&l, NULL, &err), &err); /* knows from the last time where it was */
    tl_str_eq(tn_bridge_of("vif1.0-cb"), "br1");
    tl_ok(proxy_links_aside(&l, true, &err), &err);
    tl_ok(proxy_links_remove(&l, &err), &err);
    tl_ok(proxy_links_aside(&l, true, &err), &err);
    tl_ok(proxy_links_remove(&l, &err), &err);
    tl_str_eq(tn_bridge_of("vif1.0-emu"), "br1");
    say(P.guest_fd, &out, "again");
    hears(P.outside_fd, "again");
}

static void test_a_tap_that_vanishes_is_told(void **state)
{
    (void)state;
    begin_lockstep();
    tn_delete("vif1.0-cg");
    tl_eq(next_event(&P).type, COLO_PROXY_TAP_GONE);
}

static void test_a_tap_without_a_bridge_is_refused(void **state)
{
    struct proxy_links l;

    (void)state;
    begin();
    tn_release("vif1.0-emu");
    tl_ok(proxy_links_name(P.vif, &l, &err), &err);
    tl_fails(proxy_links_setup(&l, NULL, &err), &err, COLO_ERR_REFUSED);
    tl_str_eq(tn_bridge_of("vif1.0-cb"), "none");
    tl_fails(proxy_links_name("a-name-too-long", &l, &err), &err, COLO_ERR_REFUSED);
    tl_ok(proxy_links_name("nosuch", &l, &err), &err);
    tl_fails(proxy_links_setup(&l, NULL, &err), &err, COLO_ERR_LOCAL);
}

/* ---- clients of the control socket ---- */

static int raw(const struct host *h)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", h->path);
    tl_eq(connect(fd, (const struct sockaddr *)&sun, sizeof(sun)), 0);
    return fd;
}

/* The answer to one line. */
static const char *answer(int fd, const char *line)
{
    static char text[4096];
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    size_t len = 0;
    ssize_t n;

    assert_true(send(fd, line, strlen(line), MSG_NOSIGNAL) == (ssize_t)strlen(line));
    while (len < sizeof(text) - 1 && !memchr(text, '\n', len)) {
        assert_true(poll(&pfd, 1, 20000) == 1);
        n = recv(fd, text + len, sizeof(text) - 1 - len, 0);
        if (n <= 0)
            return "closed";
        len += (size_t)n;
    }
    text[len] = '\0';
    return text;
}

static void test_requests_that_make_no_sense(void **state)
{
    static const char *const lines[] = {
        "\n",
        "hello\n",
        "{}\n",
        "{\"do\":7}\n",
        "{\"do\":\"dance\"}\n",
        "{\"do\":\"hold\"}\n",
        "{\"do\":\"hold\",\"checkpoint\":-1}\n",
        "{\"do\":\"checkpoint\",\"checkpoint\":1}\n",
        "{\"do\":\"takeover\"}\n",
        "{\"do\":\"mode\",\"mode\":\"loud\"}\n",
        "{\"do\":\"setup\",\"mode\":\"compare\",\"vifs\":[1]}\n",
        "{\"do\":\"link\",\"role\":\"third\"}\n",
        "{\"do\":\"link\",\"role\":\"primary\",\"key\":\"00\"}\n",
        "[[[[\n",
    };
    static char line[COLO_LINE_MAX + 1];
    int fd, many[PROXY_CLIENTS + 4];

    (void)state;
    begin();
    fd = raw(&P);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        tl_has(answer(fd, lines[i]), "\"error\"");
    close(fd);
    fd = raw(&P);
    memset(line, 'x', sizeof(line) - 1);
    tl_str_eq(answer(fd, line), "closed");
    close(fd);
    for (int i = 0; i < PROXY_CLIENTS + 4; i++)
        many[i] = raw(&P);
    for (int i = 0; i < PROXY_CLIENTS + 4; i++)
        close(many[i]);
    tl_ok(colo_proxy_watch(P.px, &err), &err); /* and it still answers */
}

static void test_no_proxy(void **state)
{
    struct colo_proxy *px;

    (void)state;
    tl_fails(colo_proxy_attach("/nonexistent/socket", &px, &err), &err, COLO_ERR_LOCAL);
    tl_fails(colo_proxy_start("/nonexistent/colo-proxy", "/tmp/x", NULL, &px, &err), &err,
             COLO_ERR_LOCAL);
    tl_fails(colo_proxy_start("/bin/false", "/tmp/x", NULL, &px, &err), &err, COLO_ERR_LOCAL);
}

static int enter(void **state)
{
    int rc = tn_enter(state); /* from here on /run is ours, and goes with us */

    assert_non_null(mkdtemp(folder));
    return rc;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_lockstep_and_teardown, end),
        cmocka_unit_test_teardown(test_takeover_and_stepping_aside, end),
        cmocka_unit_test_teardown(test_nobody_is_there_any_more, end),
        cmocka_unit_test_teardown(test_undoing_after_a_kill, end),
        cmocka_unit_test_teardown(test_a_tap_that_vanishes_is_told, end),
        cmocka_unit_test_teardown(test_a_tap_without_a_bridge_is_refused, end),
        cmocka_unit_test_teardown(test_requests_that_make_no_sense, end),
        cmocka_unit_test(test_no_proxy),
    };

    return cmocka_run_group_tests(tests, enter, tn_leave);
}
