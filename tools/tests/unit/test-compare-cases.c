/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The compare engine, case by case.  A case is a script of words, each a step:
 *
 *   Ps Ss            SYN|ACK of the primary, of the secondary; Ps=2: of the second connection
 *   Pd1:abc          data at stream position 1 (the first); PD: with FIN behind it
 *   Pf4              FIN at position 4
 *   Pr4 Sr4          RST
 *   Pa20             an acknowledgement of 20 bytes of the client's; data acknowledges the same
 *   Pk4              a keepalive probe: one byte of nothing, at position 4
 *   Ca4              the client acknowledges all positions below 4
 *   Pu:abc Su:abc    UDP;  Pi7:abc ICMP echo reply with sequence number 7;  PA2 ARP who-has .2
 *   Px:abc           a frame of an unknown ethertype;  Pp:abc an IP packet of protocol 99
 *   Pg16:abc         a UDP datagram in fragments of 16 bytes
 *   t100             100 ms pass;  !  a checkpoint
 *   =3               3 frames are out so far
 *   ?payload ?-      a checkpoint is asked for, with this reason; none is
 *
 * Every case runs over IPv4 and IPv6, with and without VLAN tags, IP options and extension headers, and
 * with several initial sequence numbers.
 */
#include "testlib.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "testpackets.h"

static const struct {
    const char *name, *script;
} cases[] = {
    {"equal handshake, data and end",
     "Ps =0 Ss =1 Pd1:abc =1 Sd1:abc =2 Sd4:def Pd4:def =3 Pf7 Sf7 =4 Pa2 =4 Sa2 =5 ?-"},
    {"abc+defg against abcdefg", "Ss Ps Pd1:abc Pd4:defg =1 Sd1:abcdefg =3 t5000 ?-"},
    {"abcdefg against abc+defg", "Ss Ps Pd1:abcdefg =1 Sd1:abc =1 Sd4:defg =2 t5000 ?-"},
    {"the secondary first", "Ss Ps Sd1:abcdefg Pd1:abc Pd4:defg =3 t5000 ?-"},
    {"a different byte", "Ss Ps Sd1:abX Pd1:abc =1 ?payload t5000 ?- =1"},
    {"a different byte in a piece", "Ss Ps Pd1:abcdef =1 Sd1:ab =1 ?- Sd3:cX =1 ?payload ! =2 ?-"},
    {"a different byte is not passed", "Ss Ps Pd1:ab Pd3:cd Pd5:ef Sd1:abcX =2 ?payload Sd5:ef =2"},
    {"a retransmission of the primary's", "Ss Ps Sd1:abcd Pd1:abcd =2 Pd1:abcd =3 Pd3:cd =4 ?-"},
    {"a retransmission that is different", "Ss Ps Sd1:abcd Pd1:abcd =2 Pd1:abXd =2 ?payload"},
    {"a retransmission that overlaps", "Ss Ps Sd1:abcdef Pd1:abcd Pd3:cdef =3 t5000 ?-"},
    {"a retransmission of the secondary's", "Ss Ps Sd1:abcd Sd1:abcd Sd3:cdef Pd1:abcdef =2 ?-"},
    {"the secondary out of order", "Ss Ps Pd1:abcdef Sd4:def =1 Sd1:abc =2 t5000 ?-"},
    {"the primary out of order", "Ss Ps Sd1:abcdef Pd4:def =2 Pd1:abc =3 t5000 ?-"},
    {"a hole that the primary fills late",
     "Ss Ps Sd1:abcdefghi Pd4:def =2 Pd7:ghi =3 Pd1:abc =4 Pd10:x Sd10:x =5 t5000 ?-"},
    {"holes and repetitions of the secondary's",
     "Ss Ps Sd3:c Sd5:e Sd7:g Sd2:bcdef Pd1:abcdefg =1 Sd1:a =2 t5000 ?-"},
    {"the secondary is silent", "Ss Ps Pd1:abc t150 ?- t100 ?secondary-silent =1 ! =2 ?-"},
    {"the primary is silent", "Ss Ps Sd1:abc t900 ?- t200 ?primary-silent"},
    {"the primary is silent after the handshake", "Ss t500 ?- t600 ?primary-silent"},
    {"a secondary that is always ahead",
     "Ss Ps Sd1:aaaa t800 Pd1:aa Sd5:bb t800 Pd3:aa Sd7:cc t800 Pd5:bb =4 ?-"},
    {"an acknowledgement waits", "Ss Ps Pa10 =1 Sa9 =1 t300 ?- Sa10 =2 t5000 ?-"},
    {"an acknowledgement the secondary passed", "Ss Ps Sa20 Pa10 Pa20 =3 ?-"},
    {"an acknowledgement that never comes", "Ss Ps Pa10 t500 ?- t200 ?secondary-ack =1 ! =2"},
    {"data waits for its acknowledgement", "Ss Ps Sd1:abc@5 Pd1:abc@9 =1 Sa9 =2 ?-"},
    {"other acknowledgements between are no matter", "Ss Ps Sa3 Sa9 Pa1 Pa2 Pa9 =4 t5000 ?-"},
    {"FIN with data against FIN alone", "Ss Ps PD1:abc =1 Sd1:abc =1 Sf4 =2 t5000 ?-"},
    {"FIN alone against FIN with data", "Ss Ps SD1:abc Pd1:abc =2 Pf4 =3 t5000 ?-"},
    {"FIN of the primary only", "Ss Ps Pf1 =1 t300 ?secondary-silent"},
    {"FIN of the secondary only", "Ss Ps Sf1 t1100 ?primary-silent"},
    {"FIN earlier at the secondary", "Ss Ps SD1:ab Pd1:abc =1 ?stream"},
    {"FIN earlier at the primary", "Ss Ps Sd1:abc PD1:ab =1 ?stream"},
    {"FIN further on at the secondary", "Ss Ps Pf1 Sf4 =1 ?stream"},
    {"FIN again", "Ss Ps Sf1 Pf1 =2 Pf1 =3 Sf1 ?-"},
    {"RST of both", "Ss Ps Pr1 =1 Sr1 =2 Pr1 =3 t5000 ?-"},
    {"RST of the primary only", "Ss Ps Pr1 t300 =1 ?secondary-silent"},
    {"RST of the secondary only", "Ss Ps Sr1 t1100 ?primary-silent"},
    {"RST without a connection", "Sr0 Pr0 =1 Pr0 Sr0 =2 t5000 ?-"},
    {"RST after more at the secondary", "Ss Ps Sd1:abc Sr4 Pr1 =1 ?stream"},
    {"RST, but the connection goes on, and RST of one",
     "Ss Ps Sr1 Pr1 =2 Sd1:ab Pd1:ab =3 Pr3 =3 t300 ?secondary-silent"},
    {"SYN again", "Ss Ps =1 Ps =2 Ss Ss ?- t5000 ?-"},
    {"SYN with other options", "Ss~ Ps =0 ?stream ! =1"},
    {"ports used again",
     "Ss Ps Sd1:abc Pd1:abc Pf4 Sf4 =3 Ps=2 =3 Ss=2 =4 Pd1:xyz=2 Sd1:xyz=2 =5 ?-"},
    {"ports used again, the secondary first", "Ss Ps SD1:abc PD1:abc =2 Ss=2 Pa5 Sa5 Ps=2 =2 ?-"},
    {"ports used again, and a late acknowledgement",
     "Ss Ps SD1:abc Sa5 PD1:abc =2 Ss=2 Pa5 =3 Ps=2 =4 Sd1:x=2 Pd1:x=2 =5 t5000 ?-"},
    {"ports used again, old bytes differ", "Ss Ps Sd1:abc Ps=2 =1 ?stream"},
    {
        "a connection from before",
        "Pd1:abc =0 Sd1:abc =1 Sd4:de Pd4:d Pd5:e =3 ?-",
    },
    {"a connection from before, out of step", "Sd4:de Pd1:abc =0 Pd4:de =0 Sd1:abc =2 ?-"},
    {"a connection from before, no acknowledgement yet", "Pa5 =0 Sa5 =1 ?-"},
    {"after a checkpoint",
     "Ss Ps Pd1:abc Sd1:X ?payload ! =2 Pd1:abc =3 Pd4:de =3 Ce4 Qd4:de =4 ?-"},
    {"after a checkpoint the secondary repeats", "Ss Ps Pd1:abc ! =2 Qd1:abc Pd4:d Qd4:d =3 ?-"},
    {"after a checkpoint what was acknowledged is", "Ss Ps Pa9 ! =2 Pa9 =3 Pa10 =3 Qa10 =4 ?-"},
    {"after a checkpoint a FIN is shared", "Ss Ps Pf1 ! =2 Pf1 =3 t5000 ?-"},
    {"a checkpoint in the handshake", "Ps ! =1 Ps =2 Pd1:abc Qd1:abc =3 ?-"},
    {"all is held once it differs", "Ss Ps Sd1:X Pd1:a ?payload Pd2:b Sd2:b =1 ?- ! =3"},
    {"keepalive probe", "Ss Ps Sd1:abcd Pd1:abcd Ca5 Pk4 =3 t5000 ?-"},
    {"keepalive probe before data is acknowledged", "Ss Ps Sd1:abcd Pd1:abcd Ca4 Pk4 =2 ?payload"},
    {"a hostile client acknowledges too much", "Ss Ps Ca100 Pd1:abc t300 =1 ?secondary-silent"},
    {"a hostile client acknowledges a hole",
     "Ss Ps Sd4:def Pd4:def =2 Ca7 Pd1:abc =2 t300 ?secondary-silent"},
    {"UDP", "Pu:abc =0 Su:abc =1 Su:def Pu:def =2 t5000 ?-"},
    {"UDP differs", "Su:abc Pu:abd =0 ?payload Pu:abc =0 ! =2"},
    {"UDP is longer", "Pu:abc Su:abcd =0 ?payload"},
    {"UDP is shorter", "Pu:abcd Su:abc =0 ?payload"},
    {"UDP in another order", "Pu:abc Pu:def Su:def =0 ?payload"},
    {"UDP of the primary only", "Pu:abc t300 ?secondary-silent ! =1"},
    {"UDP of the secondary only", "Su:abc t1100 ?primary-silent"},
    {"ICMP", "Pi1:abc Pi2:abc Si1:abc =1 Si2:abc =2 t5000 ?-"},
    {"ICMP differs", "Pi1:abc Si2:abc =0 ?payload"},
    {"ARP, padding is no matter", "PA2 SA2 =1 SA3 SA4 PA4 PA3 =3 t5000 ?-"},
    {"ARP of one", "PA2 SA3 t300 ?secondary-silent"},
    {"an unknown ethertype", "Px:abc Sx:abc =1 Px:abc Sx:abd =1 ?payload"},
    {"an unknown protocol", "Pp:abc Sp:abc =1 Pp:abc Sp:abd =1 ?payload"},
    {"an unknown protocol, longer", "Pp:abc Sp:abcd =0 ?payload"},
    {"an unknown ethertype, shorter", "Px:abcd Sx:abc =0 ?payload"},
    {"an unknown protocol, empty", "Pp: Sp: =1 ?-"},
    {"another flow goes on", "Pi1:abc Si1:abd ?payload Pu:abc Su:abc =1 Ss Ps Sd1:ab Pd1:ab =3 ?-"},
    {"time without traffic", "t100000 ?- =0 ! ?-"},
};

struct runner {
    struct tp_out o;
    struct tp_conn conn;
    uint32_t p_isn, s_isn, c_isn;
    const char *name, *word;
};

static uint32_t number(const char **s)
{
    char *end;
    uint32_t n = (uint32_t)strtoul(*s, &end, 10);

    *s = end;
    return n;
}

/* What is sent by who: 'P', 'S', or 'Q', the secondary that counts as the primary does. */
static void send_word(struct runner *r, char who, const char *w)
{
    static struct tp_frame f, piece[64];
    struct tp_conn conn = r->conn;
    struct tp_tcp t = {.flags = COLO_TCP_ACK, .ack = r->c_isn + 1};
    uint32_t isn = who == 'S' ? r->s_isn : r->p_isn, pos = 0, pieces = 0, i;
    char data[64], *end, type = *w++;
    const char *second = strstr(w, "=2");

    if (second)
        isn += 77777777u * (who == 'S' ? 3 : 1);
    pos = number(&w);
    snprintf(data, sizeof(data), "%s", *w == ':' ? w + 1 : "");
    end = data + strcspn(data, "=@~");
    if (*end == '@')
        t.ack += (uint32_t)strtoul(end + 1, NULL, 10);
    *end = 0;
    t.data = data;
    t.len = (uint32_t)(end - data);
    t.seq = isn + pos;
    t.window = (uint16_t)(who == 'P' ? 1000 : 2000);
    t.ts = true;
    t.tsval = who == 'P' ? 5000 : 7000;
    switch (type) {
    case 's':
        t.flags |= COLO_TCP_SYN;
        t.mss = strchr(w, '~') ? 1400 : 1460;
        t.wscale = 8;
        t.sack_ok = true;
        break;
    case 'D':
        t.flags |= COLO_TCP_FIN;
        break;
    case 'f':
        t.flags |= COLO_TCP_FIN;
        break;
    case 'r':
        t.flags = COLO_TCP_RST;
        break;
    case 'a':
        t.ack += pos;
        t.seq = isn + 1;
        break;
    case 'k':
        t.data = "";
        t.len = 1;
        break;
    default:
        break;
    }
    if (who == 'C') {
        conn.src = r->conn.dst;
        conn.dst = r->conn.src;
        conn.sport = r->conn.dport;
        conn.dport = r->conn.sport;
        t.seq = r->c_isn + 1;
        t.ack = r->p_isn + pos;
    }
    conn.proto = 99;
    switch (type) {
    case 'u':
    case 'g':
        tp_udp(&f, &conn, data, t.len);
        break;
    case 'i':
        tp_icmp_echo(&f, &conn, 1, (uint16_t)pos, data, t.len);
        break;
    case 'A':
        tp_arp(&f, 1, (uint8_t)pos, false);
        break;
    case 'x':
        tp_other(&f, 0x1234, data, t.len);
        break;
    case 'p':
        tp_ip(&f, &conn, data, t.len);
        break;
    default:
        tp_tcp(&f, &conn, &t);
    }
    if (type == 'g')
        pieces = tp_fragment(&f, pos, piece, 64);
    for (i = 0; i < (pieces ? pieces : 1); i++) {
        const struct tp_frame *one = pieces ? piece + i : &f;

        if (who == 'P')
            tl_eq(tp_p(&r->o, one), 0);
        else if (who == 'C')
            tp_client(&r->o, one);
        else
            tp_s(&r->o, one);
    }
}

static void step(struct runner *r, const char *w)
{
    const char *asked;

    switch (w[0]) {
    case 't':
        tp_pass_time(&r->o, (uint32_t)strtoul(w + 1, NULL, 10));
        break;
    case '!':
        tp_checkpoint(&r->o);
        break;
    case '=':
        if (r->o.n != strtoul(w + 1, NULL, 10))
            print_error("%s: at %s: %u frames are out\n", r->name, r->word, r->o.n);
        tl_eq(r->o.n, strtoul(w + 1, NULL, 10));
        break;
    case '?':
        asked = tp_asked(&r->o);
        if (strcmp(asked, strcmp(w + 1, "-") ? w + 1 : "") != 0) {
            print_error("%s: at %s: asked for \"%s\"\n", r->name, r->word, asked);
            fail();
        }
        break;
    default:
        send_word(r, w[0], w + 1);
    }
}

static void run_case(const char *name, const char *script, const struct tp_conn *conn,
                     uint32_t p_isn, uint32_t s_isn)
{
    struct runner r = {.conn = *conn, .p_isn = p_isn, .s_isn = s_isn, .c_isn = p_isn * 3};
    char text[256], *save, *w;
    bool born = strstr(script, "Ps") || strstr(script, "Ss");

    if (!born) /* both know the connection's numbers */
        r.s_isn = p_isn;
    tp_open(&r.o, NULL);
    snprintf(text, sizeof(text), "%s", script);
    for (w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        r.name = name;
        r.word = w;
        step(&r, w);
    }
    tp_close(&r.o);
}

static void test_the_table(void **state)
{
    static const struct tp_conn conns[] = {
        {.src = 1, .dst = 2, .sport = 80, .dport = 4000},
        {.src = 1, .dst = 2, .sport = 80, .dport = 4000, .v6 = true},
        {.src = 1, .dst = 2, .sport = 80, .dport = 4000, .vlan = {5}, .ipv4_options = true},
        {.src = 1,
         .dst = 2,
         .sport = 80,
         .dport = 4000,
         .v6 = true,
         .vlan = {5, 6},
         .v6_extensions = true},
    };
    static const uint32_t isns[][2] = {{1000, 900000},
                                       {0, 0xffffffff},
                                       {0xfffffffd, 0x7ffffffe},
                                       {0x80000000, 0},
                                       {0xfffffffa, 0xfffffffa}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t k = 0; k < sizeof(conns) / sizeof(conns[0]); k++) {
            for (size_t n = 0; n < sizeof(isns) / sizeof(isns[0]); n++)
                run_case(cases[i].name, cases[i].script, &conns[k], isns[n][0], isns[n][1]);
        }
    }
}

static void test_fragments(void **state)
{
    static const char *const scripts[] = {
        "Pg16:aaaaaaaabbbbbbbbccccccccdd =0 Sg16:aaaaaaaabbbbbbbbccccccccdd =3 t5000 ?-",
        "Sg16:aaaaaaaabbbbbbbbccccccccdd Pg16:aaaaaaaabbbbbbbbccccccccdd =3 t5000 ?-",
        "Pg8:aaaaaaaabbbbbbbbccccccccdd Sg24:aaaaaaaabbbbbbbbccccccccdd =5 t5000 ?-",
        "Pg8:aaaaaaaabbbbbbbbccccccccdd Su:aaaaaaaabbbbbbbbccccccccdd =5 t5000 ?-",
        "Pu:aaaaaaaabbbbbbbbccccccccdd Sg8:aaaaaaaabbbbbbbbccccccccdd =1 t5000 ?-",
        "Pg16:aaaaaaaabbbbbbbbccccccccdd Sg16:aaaaaaaabbbbbbbbccccccccdX =0 ?payload ! =3",
        "Pg16:aaaaaaaabbbbbbbb t300 =0 ?secondary-silent Pu:abc Pg8:aaaaaaaa =0 ! =5",
        "Pu:abc Pg16:aaaaaaaabbbbbbbb Su:abc =1 Su:aaaaaaaabbbbbbbb =3 ?-",
    };
    struct tp_conn conn = {.src = 1, .dst = 2, .sport = 53, .dport = 4000};

    (void)state;
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        conn.v6 = false;
        run_case(scripts[i], scripts[i], &conn, 1, 2);
        conn.v6 = true;
        run_case(scripts[i], scripts[i], &conn, 1, 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_table),
        cmocka_unit_test(test_fragments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
