/* SPDX-License-Identifier: GPL-2.0-only */
/* Preflight: which guests are refused for their kind and devices, why, and by both sides. */
#include "preflightlib.h"

#include <stdlib.h>
#include <string.h>

static void test_a_guest_that_can_be_protected(void **state)
{
    struct colo_err e = {0};
    libxl_domain_config c;

    (void)state;
    pf_good(&c);
    c.b_info.device_model_version = LIBXL_DEVICE_MODEL_VERSION_QEMU_XEN;
    tl_ok(pf_primary(&c, &e), &e);
    tl_eq(pf_host.opened, 1);
    tl_eq(pf_host.closed, 1);
    tl_ok(pf_secondary(&c, &e), &e);
    c.b_info.device_model_version = LIBXL_DEVICE_MODEL_VERSION_UNKNOWN;
    c.b_info.target_memkb = 0; /* not given: all of it */
    tl_ok(pf_primary(&c, &e), &e);
    tl_ok(pf_secondary(&c, &e), &e);
    libxl_domain_config_dispose(&c);
}

/* ---- the guest's kind and devices: both sides look ---- */

#define HAS_ONE(name, num, list)                   \
    static void name(libxl_domain_config *c)       \
    {                                              \
        c->num = 1;                                \
        c->list = pf_array(1, sizeof(*(c->list))); \
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

static void with_device(libxl_domain_config *c, bool hvm, const char *device)
{
    char **args = pf_array(5, sizeof(*args));

    args[0] = strdup("-global");
    args[1] = strdup("e1000.romfile=");
    args[2] = strdup("-device");
    args[3] = strdup(device);
    if (hvm)
        c->b_info.extra_hvm = args;
    else
        c->b_info.extra = args;
}

static void loader(libxl_domain_config *c)
{
    with_device(c, true, "loader,file=/boot/blob,addr=0x1000000");
}

static void loader_later(libxl_domain_config *c)
{
    with_device(c, false, "file=/boot/loader.bin,driver=loader");
}

static void loader_json(libxl_domain_config *c)
{
    with_device(c, true, "{\"driver\": \"guest-loader\", \"addr\": 4096}");
}

static void usb_by_name(libxl_domain_config *c)
{
    free(c->b_info.u.hvm.usbdevice);
    c->b_info.u.hvm.usbdevice = strdup("host:1.2");
}

static void usb_by_list(libxl_domain_config *c)
{
    char **list = pf_array(3, sizeof(*list));

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

static void qcow2_disk(libxl_domain_config *c)
{
    c->disks[0].readwrite = 1;
    c->disks[0].format = LIBXL_DISK_FORMAT_QCOW2;
}

static void scripted_disk(libxl_domain_config *c)
{
    c->disks[0].readwrite = 1;
    c->disks[0].script = strdup("block-drbd");
}

static void unseen_disk(libxl_domain_config *c)
{
    c->disks[0].readwrite = 1;
    free(c->disks[0].vdev);
    c->disks[0].vdev = strdup("xvde");
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
        {loader, "loader-device", "device_model_args"},
        {loader_later, "loader-device", "device_model_args"},
        {loader_json, "loader-device", "device_model_args"},
        {graphics, "passthrough-device", "graphics card"},
        {qxl, "vga-model", "vga=\"stdvga\""},
        {vtpm, "vtpm", "vTPM"},
        {qcow2_disk, "disk-format", "hda (" PF_THIS_FILE ") has the format qcow2"},
        {scripted_disk, "disk-kind", "disk hda"},
        {unseen_disk, "disk-vdev", "disk xvde"},
        {many_nics, "too-many-nics", "17 NICs, at most 16"},
        {pv_nic, "nic-model", "NIC 1"},
    };
    libxl_domain_config c;

    (void)state;
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        pf_good(&c);
        odd[i].change(&c);
        pf_assert_refused(pf_primary, &c, odd[i].reason, odd[i].says);
        pf_assert_refused(pf_secondary, &c, odd[i].reason, odd[i].says);
        libxl_domain_config_dispose(&c);
    }
}

static void test_other_devices_may_have_its_name(void **state)
{
    static const char *const innocent[] = {"e1000,romfile=/usr/share/loader",
                                           "virtio-rng-pci,id=preloader",
                                           "ide-cd,model=bootloader,loadparm=x"};
    struct colo_err e = {0};
    libxl_domain_config c;

    (void)state;
    for (size_t i = 0; i < sizeof(innocent) / sizeof(innocent[0]); i++) {
        pf_good(&c);
        with_device(&c, true, innocent[i]);
        tl_ok(pf_primary(&c, &e), &e);
        libxl_domain_config_dispose(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_guest_that_can_be_protected),
        cmocka_unit_test(test_guests_that_cannot_be_protected),
        cmocka_unit_test(test_other_devices_may_have_its_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
