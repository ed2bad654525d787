/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Preflight: what is refused, why, and before anything is touched.  What it asks of Xen is answered
 * here: the functions of libxl and libxc of these names are ours.
 */
#include "testlib.h"

#include <libxl_utils.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libxl_colo_guest.h"

#define GUEST     "guest"
#define THIS_FILE "/proc/self/exe" /* one that is there */

/* ---- the host around it ---- */

static struct {
    int stubdom;
    const char *names[2]; /* domains that are there */
    uint64_t need_memkb, free_memkb;
    bool no_memory_info;
    struct xc_sr_domain_info info;
    uint64_t callback;
    unsigned int opened, closed;
} host;

int libxl_get_stubdom_id(libxl_ctx *ctx, int guest_domid)
{
    (void)ctx;
    assert_int_equal(guest_domid, 5);
    return host.stubdom;
}

int libxl_name_to_domid(libxl_ctx *ctx, const char *name, uint32_t *domid)
{
    (void)ctx;
    for (size_t i = 0; i < 2; i++)
        if (host.names[i] && !strcmp(host.names[i], name)) {
            *domid = 7;
            return 0;
        }
    return ERROR_INVAL;
}

int libxl_domain_need_memory(libxl_ctx *ctx, libxl_domain_config *config,
                             uint32_t domid_for_logging, uint64_t *need_memkb)
{
    (void)ctx;
    (void)config;
    (void)domid_for_logging;
    *need_memkb = host.need_memkb;
    return host.no_memory_info ? ERROR_FAIL : 0;
}

int libxl_get_free_memory(libxl_ctx *ctx, uint64_t *memkb)
{
    (void)ctx;
    *memkb = host.free_memkb;
    return 0;
}

static int fake_info(struct xc_sr_domain *d, struct xc_sr_domain_info *out, struct colo_err *err)
{
    (void)d;
    (void)err;
    *out = host.info;
    return 0;
}

static int fake_param(struct xc_sr_domain *d, uint32_t index, uint64_t *value, struct colo_err *err)
{
    (void)d;
    if (index != 0) /* HVM_PARAM_CALLBACK_IRQ */
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "param %u", index);
    *value = host.callback;
    return 0;
}

static void fake_close(struct xc_sr_domain *d)
{
    (void)d;
    host.closed++;
}

int xc_sr_domain_xen_open(uint32_t domid, const struct xc_sr_dm_hooks *hooks,
                          struct xc_sr_domain **out, struct colo_err *err)
{
    static const struct xc_sr_domain_ops ops = {
        .name = "fake",
        .info = fake_info,
        .get_hvm_param = fake_param,
        .close = fake_close,
    };
    static struct xc_sr_domain d = {.ops = &ops};

    (void)hooks;
    if (domid != 5)
        return colo_fail(err, COLO_ERR_LOCAL, "no-domain", "domain %u", domid);
    host.opened++;
    *out = &d;
    return 0;
}

/* ---- a guest that can be protected ---- */

static void *array(size_t n, size_t size)
{
    void *p = calloc(n, size);

    assert_non_null(p);
    return p;
}

static void good(libxl_domain_config *c)
{
    libxl_domain_build_info *b = &c->b_info;

    libxl_domain_config_init(c);
    c->c_info.type = LIBXL_DOMAIN_TYPE_HVM;
    c->c_info.name = strdup(GUEST);
    libxl_domain_build_info_init_type(b, LIBXL_DOMAIN_TYPE_HVM);
    b->max_memkb = b->target_memkb = 262144;
    b->kernel = strdup(THIS_FILE);
    b->ramdisk = strdup(THIS_FILE);
    b->device_model = strdup(THIS_FILE);
    libxl_defbool_set(&b->device_model_stubdomain, false);
    libxl_defbool_set(&b->nested_hvm, false);
    b->u.hvm.usbdevice = strdup("tablet");

    c->num_disks = 2;
    c->disks = array(2, sizeof(*c->disks));
    for (int i = 0; i < 2; i++) {
        libxl_device_disk_init(&c->disks[i]);
        c->disks[i].vdev = strdup(i ? "hdc" : "hda");
        c->disks[i].pdev_path = strdup(THIS_FILE);
        c->disks[i].readwrite = i; /* a drive that can write, and a disk that cannot */
        c->disks[i].is_cdrom = i;
    }
    c->num_nics = 2;
    c->nics = array(2, sizeof(*c->nics));
    for (int i = 0; i < 2; i++) {
        libxl_device_nic_init(&c->nics[i]);
        c->nics[i].nictype = LIBXL_NIC_TYPE_VIF_IOEMU;
    }
    c->nics[0].bridge = strdup("lo"); /* a link that every host has */

    memset(&host, 0, sizeof(host));
    host.need_memkb = host.free_memkb = 262144;
}

static int primary(libxl_domain_config *c, struct colo_err *e)
{
    struct colo_config conf;

    colo_config_defaults(&conf);
    return colo_preflight_primary(NULL, 5, c, &conf, e);
}

static int secondary(libxl_domain_config *c, struct colo_err *e)
{
    return colo_preflight_secondary(NULL, c, e);
}

typedef int check(libxl_domain_config *c, struct colo_err *e);

static void assert_refused(check *side, libxl_domain_config *c, const char *reason,
                           const char *says)
{
    struct colo_err e = {0};
    int rc = side(c, &e);

    if (rc != -1)
        print_error("expected %s\n", reason);
    tl_str_eq(e.reason, reason);
    tl_has(e.msg, says);
    tl_fails(rc, &e, COLO_ERR_REFUSED);
    tl_eq(host.opened, host.closed);
}

static void test_a_guest_that_can_be_protected(void **state)
{
    struct colo_err e = {0};
    libxl_domain_config c;

    (void)state;
    good(&c);
    c.b_info.device_model_version = LIBXL_DEVICE_MODEL_VERSION_QEMU_XEN;
    tl_ok(primary(&c, &e), &e);
    tl_eq(host.opened, 1);
    tl_eq(host.closed, 1);
    tl_ok(secondary(&c, &e), &e);
    c.b_info.device_model_version = LIBXL_DEVICE_MODEL_VERSION_UNKNOWN;
    c.b_info.target_memkb = 0; /* not given: all of it */
    tl_ok(primary(&c, &e), &e);
    tl_ok(secondary(&c, &e), &e);
    libxl_domain_config_dispose(&c);
}

/* ---- the guest's kind and devices: both sides look ---- */

#define HAS_ONE(name, num, list)                \
    static void name(libxl_domain_config *c)    \
    {                                           \
        c->num = 1;                             \
        c->list = array(1, sizeof(*(c->list))); \
    }
HAS_ONE(vnuma, b_info.num_vnuma_nodes, b_info.vnuma_nodes)
HAS_ONE(pci, num_pcidevs, pcidevs)
HAS_ONE(dtdev, num_dtdevs, dtdevs)
HAS_ONE(rdm, num_rdms, rdms)
HAS_ONE(ioport, b_info.num_ioports, b_info.ioports)
HAS_ONE(irq, b_info.num_irqs, b_info.irqs)
HAS_ONE(iomem, b_info.num_iomem, b_info.iomem)
HAS_ONE(usb, num_usbdevs, usbdevs)
HAS_ONE(vtpm, num_vtpms, vtpms)

static void pv(libxl_domain_config *c)
{
    c->c_info.type = LIBXL_DOMAIN_TYPE_PV;
}

static void pvh(libxl_domain_config *c)
{
    c->c_info.type = LIBXL_DOMAIN_TYPE_PVH;
}

static void pv_inside(libxl_domain_config *c)
{
    libxl_domain_build_info_dispose(&c->b_info);
    libxl_domain_build_info_init(&c->b_info);
    libxl_domain_build_info_init_type(&c->b_info, LIBXL_DOMAIN_TYPE_PV);
}

static void stubdom(libxl_domain_config *c)
{
    libxl_defbool_set(&c->b_info.device_model_stubdomain, true);
}

static void traditional(libxl_domain_config *c)
{
    c->b_info.device_model_version = LIBXL_DEVICE_MODEL_VERSION_QEMU_XEN_TRADITIONAL;
}

static void nested(libxl_domain_config *c)
{
    libxl_defbool_set(&c->b_info.nested_hvm, true);
}

static void nested_old(libxl_domain_config *c)
{
    libxl_defbool_set(&c->b_info.u.hvm.nested_hvm, true);
}

static void altp2m(libxl_domain_config *c)
{
    c->b_info.altp2m = LIBXL_ALTP2M_MODE_LIMITED;
}

static void altp2m_old(libxl_domain_config *c)
{
    libxl_defbool_set(&c->b_info.u.hvm.altp2m, true);
}

static void on_demand(libxl_domain_config *c)
{
    c->b_info.target_memkb = 131072;
}

static void usb_by_name(libxl_domain_config *c)
{
    free(c->b_info.u.hvm.usbdevice);
    c->b_info.u.hvm.usbdevice = strdup("host:1.2");
}

static void usb_by_list(libxl_domain_config *c)
{
    char **list = array(3, sizeof(*list));

    list[0] = strdup("tablet");
    list[1] = strdup("host:046d:c52b");
    c->b_info.u.hvm.usbdevice_list = list;
}

static void graphics(libxl_domain_config *c)
{
    libxl_defbool_set(&c->b_info.u.hvm.gfx_passthru, true);
}

static void qxl(libxl_domain_config *c)
{
    c->b_info.u.hvm.vga.kind = LIBXL_VGA_INTERFACE_TYPE_QXL;
}

static void writable_disk(libxl_domain_config *c)
{
    c->disks[0].readwrite = 1;
}

static void many_nics(libxl_domain_config *c)
{
    c->nics = realloc(c->nics, (COLO_MAX_NICS + 1) * sizeof(*c->nics));
    assert_non_null(c->nics);
    while (c->num_nics <= COLO_MAX_NICS) {
        libxl_device_nic_init(&c->nics[c->num_nics]);
        c->nics[c->num_nics++].nictype = LIBXL_NIC_TYPE_VIF_IOEMU;
    }
}

static void pv_nic(libxl_domain_config *c)
{
    c->nics[1].nictype = LIBXL_NIC_TYPE_VIF;
}

static void test_guests_that_cannot_be_protected(void **state)
{
    static const struct {
        void (*change)(libxl_domain_config *c);
        const char *reason, *says;
    } odd[] = {
        {pv, "not-hvm", "a pv guest"},
        {pvh, "not-hvm", "a pvh guest"},
        {pv_inside, "not-hvm", "a pv guest"},
        {stubdom, "stubdom", "device_model_stubdomain_override=0"},
        {traditional, "device-model", "not upstream QEMU"},
        {vnuma, "vnuma", "1 vNUMA nodes"},
        {nested, "nested-hvm", "nestedhvm=0"},
        {nested_old, "nested-hvm", "nestedhvm=0"},
        {altp2m, "altp2m", "altp2m=\"disabled\""},
        {altp2m_old, "altp2m", "altp2m=\"disabled\""},
        {on_demand, "populate-on-demand", "maxmem (262144 KiB) is above its memory (131072 KiB)"},
        {pci, "passthrough-device", "passed through"},
        {dtdev, "passthrough-device", "passed through"},
        {rdm, "passthrough-device", "passed through"},
        {ioport, "passthrough-device", "passed through"},
        {irq, "passthrough-device", "passed through"},
        {iomem, "passthrough-device", "passed through"},
        {usb, "passthrough-device", "USB"},
        {usb_by_name, "passthrough-device", "USB"},
        {usb_by_list, "passthrough-device", "USB"},
        {graphics, "passthrough-device", "graphics card"},
        {qxl, "vga-model", "vga=\"stdvga\""},
        {vtpm, "vtpm", "vTPM"},
        {writable_disk, "disk-not-replicated", "hda (" THIS_FILE ")"},
        {many_nics, "too-many-nics", "17 NICs, at most 16"},
        {pv_nic, "nic-model", "NIC 1"},
    };
    libxl_domain_config c;

    (void)state;
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        good(&c);
        odd[i].change(&c);
        assert_refused(primary, &c, odd[i].reason, odd[i].says);
        assert_refused(secondary, &c, odd[i].reason, odd[i].says);
        libxl_domain_config_dispose(&c);
    }
}

/* ---- the primary's guest as it runs ---- */

static void test_the_guest_must_run_by_itself(void **state)
{
    struct colo_err e = {0};
    libxl_domain_config c;

    (void)state;
    good(&c);
    host.stubdom = 6;
    assert_refused(primary, &c, "stubdom", "stub domain");
    tl_ok(secondary(&c, &e), &e); /* which has no such domain yet */
    host.stubdom = 0;

    host.info = (struct xc_sr_domain_info){.shutdown = true, .shutdown_reason = 3};
    assert_refused(primary, &c, "guest-shut-down", "reason 3");
    host.info = (struct xc_sr_domain_info){.paused = true};
    assert_refused(primary, &c, "guest-paused", "xl unpause " GUEST);
    host.info.paused = false;
    host.callback = UINT64_C(2) << 56 | 0xf3;
    assert_refused(primary, &c, "guest-pv-drivers-active", "xen_nopv");
    host.callback = 0;

    free(c.c_info.name);
    c.c_info.name = strdup(GUEST "--incoming");
    assert_refused(primary, &c, "guest-incoming", GUEST "--incoming");
    free(c.c_info.name);
    c.c_info.name = strdup("--incoming"); /* a name like any other */
    tl_ok(primary(&c, &e), &e);
    libxl_domain_config_dispose(&c);
}

/* ---- the second host ---- */

static void test_names_that_are_taken(void **state)
{
    libxl_domain_config c;

    (void)state;
    good(&c);
    host.names[0] = "another";
    host.names[1] = GUEST;
    assert_refused(secondary, &c, "name-in-use", "named " GUEST);
    host.names[1] = GUEST "--incoming";
    assert_refused(secondary, &c, "incoming-exists", "xl destroy " GUEST "--incoming");
    host.names[1] = NULL;
    *c.c_info.name = '\0';
    assert_refused(secondary, &c, "bad-config", "no name");
    free(c.c_info.name);
    c.c_info.name = NULL;
    assert_refused(secondary, &c, "bad-config", "no name");
    libxl_domain_config_dispose(&c);
}

static void test_memory(void **state)
{
    struct colo_err e = {0};
    libxl_domain_config c;

    (void)state;
    good(&c);
    host.free_memkb = host.need_memkb - 1;
    assert_refused(secondary, &c, "no-memory", "needs 256 MiB, 255 MiB are free");
    host.no_memory_info = true;
    tl_fails(secondary(&c, &e), &e, COLO_ERR_LOCAL);
    libxl_domain_config_dispose(&c);
}

static void missing(libxl_domain_config *c, char **path)
{
    char *was = *path;

    *path = strdup("/nonexistent/file");
    assert_refused(secondary, c, "file-missing", "/nonexistent/file");
    free(*path);
    *path = was;
}

static void test_files_that_are_missing(void **state)
{
    struct colo_err e = {0};
    libxl_domain_config c;

    (void)state;
    good(&c);
    missing(&c, &c.b_info.kernel);
    missing(&c, &c.b_info.ramdisk);
    missing(&c, &c.b_info.device_model);
    missing(&c, &c.disks[0].pdev_path);
    missing(&c, &c.disks[1].pdev_path);
    *c.disks[1].pdev_path = '\0'; /* an empty drive */
    tl_ok(secondary(&c, &e), &e);
    libxl_domain_config_dispose(&c);
}

static void test_bridges_that_are_missing(void **state)
{
    static const char *const names[] = {"nosuchbridge0", ".", "..", "../net/lo", "lo/", "lo "};
    char longer[100];
    libxl_domain_config c;

    (void)state;
    good(&c);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        c.nics[1].bridge = strdup(names[i]);
        assert_refused(secondary, &c, "bridge-missing", names[i]);
        free(c.nics[1].bridge);
    }
    memset(longer, 'b', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    c.nics[1].bridge = strdup(longer);
    assert_refused(secondary, &c, "bridge-missing", "bbbb");
    libxl_domain_config_dispose(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_guest_that_can_be_protected),
        cmocka_unit_test(test_guests_that_cannot_be_protected),
        cmocka_unit_test(test_the_guest_must_run_by_itself),
        cmocka_unit_test(test_names_that_are_taken),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_files_that_are_missing),
        cmocka_unit_test(test_bridges_that_are_missing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
