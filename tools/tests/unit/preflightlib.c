/* SPDX-License-Identifier: GPL-2.0-only */
#include "preflightlib.h"

#include <libxl_utils.h>
#include <stdlib.h>
#include <string.h>

/* ---- the host around it ---- */

struct pf_host pf_host;

int libxl_get_stubdom_id(libxl_ctx *ctx, int guest_domid)
{
    (void)ctx;
    assert_int_equal(guest_domid, 5);
    return pf_host.stubdom;
}

int libxl_name_to_domid(libxl_ctx *ctx, const char *name, uint32_t *domid)
{
    (void)ctx;
    for (size_t i = 0; i < 2; i++)
        if (pf_host.names[i] && !strcmp(pf_host.names[i], name)) {
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
    *need_memkb = pf_host.need_memkb;
    return pf_host.no_memory_info ? ERROR_FAIL : 0;
}

int libxl_get_free_memory(libxl_ctx *ctx, uint64_t *memkb)
{
    (void)ctx;
    *memkb = pf_host.free_memkb;
    return 0;
}

static int fake_info(struct xc_sr_domain *d, struct xc_sr_domain_info *out, struct colo_err *err)
{
    (void)d;
    (void)err;
    *out = pf_host.info;
    return 0;
}

static int fake_param(struct xc_sr_domain *d, uint32_t index, uint64_t *value, struct colo_err *err)
{
    (void)d;
    if (index != 0) /* HVM_PARAM_CALLBACK_IRQ */
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "param %u", index);
    *value = pf_host.callback;
    return 0;
}

static void fake_close(struct xc_sr_domain *d)
{
    (void)d;
    pf_host.closed++;
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
    pf_host.opened++;
    *out = &d;
    return 0;
}

/* ---- a guest that can be protected ---- */

void *pf_array(size_t n, size_t size)
{
    void *p = calloc(n, size);

    assert_non_null(p);
    return p;
}

void pf_good(libxl_domain_config *c)
{
    libxl_domain_build_info *b = &c->b_info;

    libxl_domain_config_init(c);
    c->c_info.type = LIBXL_DOMAIN_TYPE_HVM;
    c->c_info.name = strdup(PF_GUEST);
    libxl_domain_build_info_init_type(b, LIBXL_DOMAIN_TYPE_HVM);
    b->max_memkb = b->target_memkb = 262144;
    b->kernel = strdup(PF_THIS_FILE);
    b->ramdisk = strdup(PF_THIS_FILE);
    b->device_model = strdup(PF_THIS_FILE);
    libxl_defbool_set(&b->device_model_stubdomain, false);
    libxl_defbool_set(&b->nested_hvm, false);
    b->u.hvm.usbdevice = strdup("tablet");

    c->num_disks = 2;
    c->disks = pf_array(2, sizeof(*c->disks));
    for (int i = 0; i < 2; i++) {
        libxl_device_disk_init(&c->disks[i]);
        c->disks[i].vdev = strdup(i ? "hdc" : "hda");
        c->disks[i].pdev_path = strdup(PF_THIS_FILE);
        c->disks[i].readwrite = i; /* a drive that can write, and a disk that cannot */
        c->disks[i].is_cdrom = i;
    }
    c->num_nics = 2;
    c->nics = pf_array(2, sizeof(*c->nics));
    for (int i = 0; i < 2; i++) {
        libxl_device_nic_init(&c->nics[i]);
        c->nics[i].nictype = LIBXL_NIC_TYPE_VIF_IOEMU;
    }
    c->nics[0].bridge = strdup("lo"); /* a link that every host has */

    memset(&pf_host, 0, sizeof(pf_host));
    pf_host.need_memkb = pf_host.free_memkb = 262144;
}

int pf_primary(libxl_domain_config *c, struct colo_err *e)
{
    struct colo_config conf;

    colo_config_defaults(&conf);
    return colo_preflight_primary(NULL, 5, c, &conf, e);
}

int pf_secondary(libxl_domain_config *c, struct colo_err *e)
{
    return colo_preflight_secondary(NULL, c, e);
}

void pf_assert_refused(pf_check *side, libxl_domain_config *c, const char *reason, const char *says)
{
    struct colo_err e = {0};
    int rc = side(c, &e);

    if (rc != -1)
        print_error("expected %s\n", reason);
    tl_str_eq(e.reason, reason);
    tl_has(e.msg, says);
    tl_fails(rc, &e, COLO_ERR_REFUSED);
    tl_eq(pf_host.opened, pf_host.closed);
}
