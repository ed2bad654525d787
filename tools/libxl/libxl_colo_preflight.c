/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Preflight: everything that would make protection fail or lie is found here, before anything is
 * touched.  Each refusal has a reason code that does not change; docs/man/xl-colo.7.pod lists them.
 */
#include "libxl_colo_guest.h"
#include "libxl_colo_qdisk.h"

#include <libxl_utils.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HVM_PARAM_CALLBACK_IRQ 0 /* xen/hvm/params.h */

#define refuse(err, reason, ...) colo_fail(err, COLO_ERR_REFUSED, reason, __VA_ARGS__)

static bool is_set(libxl_defbool b)
{
    return !libxl_defbool_is_default(b) && libxl_defbool_val(b);
}

static int check_kind(libxl_ctx *ctx, uint32_t domid, const libxl_domain_config *cfg,
                      struct colo_err *err)
{
    const libxl_domain_build_info *b = &cfg->b_info;
    libxl_domain_type type = cfg->c_info.type;

    if (type == LIBXL_DOMAIN_TYPE_HVM) /* b->u is of this one, which a peer may have made differ */
        type = b->type;
    if (type != LIBXL_DOMAIN_TYPE_HVM)
        return refuse(err, "not-hvm", "the guest is a %s guest; only HVM guests can be protected",
                      libxl_domain_type_to_string(type));
    if ((domid && libxl_get_stubdom_id(ctx, domid)) || is_set(b->device_model_stubdomain))
        return refuse(err, "stubdom",
                      "the guest's device model runs in a stub domain; set "
                      "device_model_stubdomain_override=0");
    if (b->device_model_version != LIBXL_DEVICE_MODEL_VERSION_QEMU_XEN &&
        b->device_model_version != LIBXL_DEVICE_MODEL_VERSION_UNKNOWN)
        return refuse(err, "device-model", "the guest's device model is not upstream QEMU");
    if (b->num_vnuma_nodes)
        return refuse(err, "vnuma", "the guest has %d vNUMA nodes; remove vnuma= from its config",
                      b->num_vnuma_nodes);
    if (is_set(b->nested_hvm) || is_set(b->u.hvm.nested_hvm))
        return refuse(err, "nested-hvm", "the guest has nested virtualisation; set nestedhvm=0");
    if (b->altp2m != LIBXL_ALTP2M_MODE_DISABLED || is_set(b->u.hvm.altp2m)) /* altp2mhvm=1 */
        return refuse(err, "altp2m", "the guest uses altp2m; set altp2m=\"disabled\"");
    if (b->target_memkb && b->max_memkb > b->target_memkb)
        return refuse(
            err, "populate-on-demand",
            "the guest's maxmem (%llu KiB) is above its memory (%llu KiB); make them equal",
            (unsigned long long)b->max_memkb, (unsigned long long)b->target_memkb);
    return 0;
}

/* usbdevice= can give a device of the host to QEMU behind libxl's back. */
static bool has_host_usb(const libxl_domain_build_info *b)
{
    static const char host[] = "host:";

    for (char **s = b->u.hvm.usbdevice_list; s && *s; s++)
        if (!strncmp(*s, host, strlen(host)))
            return true;
    return b->u.hvm.usbdevice && !strncmp(b->u.hvm.usbdevice, host, strlen(host));
}

/*
 * QEMU's devices that put a file into guest memory ("loader", "guest-loader") do so again at each
 * reset, and a load of device state begins with one.  All of -device's notations are seen:
 * "loader,file=...", "file=...,driver=loader", {"driver": "loader", ...}.
 */
static bool has_loader(char *const *args)
{
    static const char before[] = "=\"-", after[] = ",\"";

    for (; args && args[0] && args[1]; args++) {
        const char *device = args[1], *at = strcmp(args[0], "-device") ? NULL : device;

        for (; (at = at ? strstr(at, "loader") : NULL); at++)
            if ((at == device || strchr(before, at[-1])) && strchr(after, at[strlen("loader")]))
                return true;
    }
    return false;
}

static int check_disk(const libxl_device_disk *d, libxl_hdtype type, struct colo_err *err)
{
    const char *vdev = d->vdev ? d->vdev : "?";
    char device[32];

    if (!colo_disk_is_replicated(d))
        return 0;
    if (d->format != LIBXL_DISK_FORMAT_RAW && d->format != LIBXL_DISK_FORMAT_UNKNOWN)
        return refuse(err, "disk-format",
                      "disk %s (%s) has the format %s: only raw files and block devices are "
                      "replicated; `qemu-img convert -O raw` makes one",
                      vdev, d->pdev_path ? d->pdev_path : "?",
                      libxl_disk_format_to_string(d->format));
    if (!d->pdev_path || !*d->pdev_path || (d->script && *d->script) || d->backend_domid)
        return refuse(err, "disk-kind",
                      "disk %s is no file or block device of this host's (it has a script=, or a "
                      "backend elsewhere)",
                      vdev);
    if (strpbrk(d->pdev_path, "\t\n"))
        return refuse(err, "disk-kind", "the path of disk %s holds a tab or a newline", vdev);
    return colo_qdisk_device(vdev, type, device, sizeof(device), err);
}

static int check_devices(const libxl_domain_config *cfg, struct colo_err *err)
{
    const libxl_domain_build_info *b = &cfg->b_info;

    if (has_loader(b->extra) || has_loader(b->extra_hvm))
        return refuse(
            err, "loader-device",
            "the guest's device_model_args have a loader device, which would overwrite the "
            "guest's memory at each checkpoint; remove it");
    if (cfg->num_pcidevs || cfg->num_dtdevs || b->num_ioports || b->num_irqs || b->num_iomem ||
        cfg->num_rdms)
        return refuse(err, "passthrough-device",
                      "the guest has a device of this host passed through; detach it first");
    if (cfg->num_usbdevs || has_host_usb(b))
        return refuse(err, "passthrough-device",
                      "the guest has a USB device of this host; detach it first");
    if (is_set(b->u.hvm.gfx_passthru))
        return refuse(err, "passthrough-device", "the guest has a graphics card passed through");
    if (b->u.hvm.vga.kind == LIBXL_VGA_INTERFACE_TYPE_QXL)
        return refuse(err, "vga-model",
                      "qxl graphics cannot be loaded again and again; use vga=\"stdvga\"");
    if (cfg->num_vtpms)
        return refuse(err, "vtpm", "the guest has a vTPM, whose state lives in another domain");
    for (int i = 0; i < cfg->num_disks; i++)
        if (check_disk(&cfg->disks[i], b->u.hvm.hdtype, err))
            return -1;
    if (cfg->num_nics > COLO_MAX_NICS)
        return refuse(err, "too-many-nics", "the guest has %d NICs, at most %d are supported",
                      cfg->num_nics, COLO_MAX_NICS);
    for (int i = 0; i < cfg->num_nics; i++)
        if (cfg->nics[i].nictype == LIBXL_NIC_TYPE_VIF)
            return refuse(err, "nic-model",
                          "NIC %d is a PV-only vif; give it type=ioemu and a model such as e1000",
                          i);
    for (int i = 0; i < cfg->num_nics; i++) {
        const char *script = cfg->nics[i].script;

        if (script && (strstr(script, "vif-route") || strstr(script, "vif-nat")))
            return refuse(err, "nic-script",
                          "NIC %d is routed (%s): only bridged NICs go with the guest to the other "
                          "host; give it a bridge",
                          i, script);
    }
    return 0;
}

/* Does the guest run, under its own control, with its PV drivers off? */
static int check_running(uint32_t domid, const libxl_domain_config *cfg, struct colo_err *err)
{
    static const char suffix[] = "--incoming";
    const char *name = cfg->c_info.name ? cfg->c_info.name : "";
    struct xc_sr_domain *d = NULL;
    struct xc_sr_domain_info info;
    uint64_t callback = 0;
    size_t len = strlen(name);
    int rc = -1;

    if (len >= sizeof(suffix) && !strcmp(name + len - sizeof(suffix) + 1, suffix))
        return refuse(err, "guest-incoming", "%s is itself the second copy of a guest", name);
    if (xc_sr_domain_xen_open(domid, NULL, &d, err))
        return -1;
    if (d->ops->info(d, &info, err) ||
        d->ops->get_hvm_param(d, HVM_PARAM_CALLBACK_IRQ, &callback, err))
        goto out;
    if (info.shutdown)
        refuse(err, "guest-shut-down", "the guest has shut down (reason %d)", info.shutdown_reason);
    else if (info.paused)
        refuse(err, "guest-paused", "the guest is paused; `xl unpause %s` first", name);
    else if (callback)
        refuse(err, "guest-pv-drivers-active",
               "the guest uses Xen PV drivers and would notice every checkpoint; boot it without "
               "them (Linux: xen_nopv on its command line; Windows: remove the PV drivers)");
    else
        rc = 0;
out:
    d->ops->close(d);
    return rc;
}

int colo_preflight_primary(libxl_ctx *ctx, uint32_t domid, const libxl_domain_config *cfg,
                           const struct colo_config *conf, struct colo_err *err)
{
    (void)conf; /* nothing of it bears on this host's own checks */
    if (check_kind(ctx, domid, cfg, err) || check_devices(cfg, err))
        return -1;
    return check_running(domid, cfg, err);
}

/* ---- the second host ---- */

static int check_file(const char *path, const char *what, struct colo_err *err)
{
    if (path && *path && access(path, R_OK))
        return refuse(err, "file-missing",
                      "%s %s does not exist on this host; copy it here from the primary", what,
                      path);
    return 0;
}

static int check_bridge(const char *name, struct colo_err *err)
{
    if (!name || !*name)
        return 0; /* the script's own default, or none */
    if (!if_nametoindex(name))
        return refuse(err, "bridge-missing", "there is no bridge %.32s on this host", name);
    return 0;
}

static int check_names(libxl_ctx *ctx, const char *name, struct colo_err *err)
{
    char incoming[256];
    uint32_t other;

    if (!name || !*name)
        return refuse(err, "bad-config", "the guest's configuration has no name");
    if (!libxl_name_to_domid(ctx, name, &other))
        return refuse(err, "name-in-use", "a domain named %s exists on this host already", name);
    snprintf(incoming, sizeof(incoming), "%s--incoming", name);
    if (!libxl_name_to_domid(ctx, incoming, &other))
        return refuse(err, "incoming-exists",
                      "%s exists on this host: another session, or what one left (xl destroy %s)",
                      incoming, incoming);
    return 0;
}

static int check_memory(libxl_ctx *ctx, libxl_domain_config *cfg, struct colo_err *err)
{
    uint64_t need = 0, have = 0;

    if (libxl_domain_need_memory(ctx, cfg, INVALID_DOMID, &need) ||
        libxl_get_free_memory(ctx, &have))
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "cannot find out how much memory is free");
    if (have < need)
        return refuse(err, "no-memory",
                      "the second copy needs %llu MiB, %llu MiB are free on this host",
                      (unsigned long long)need >> 10, (unsigned long long)have >> 10);
    return 0;
}

int colo_preflight_secondary(libxl_ctx *ctx, libxl_domain_config *cfg, struct colo_err *err)
{
    const libxl_domain_build_info *b = &cfg->b_info;

    if (check_names(ctx, cfg->c_info.name, err) || check_kind(ctx, 0, cfg, err) ||
        check_devices(cfg, err) || check_memory(ctx, cfg, err) ||
        check_file(b->kernel, "the kernel", err) || check_file(b->ramdisk, "the ramdisk", err) ||
        check_file(b->device_model, "the device model", err))
        return -1;
    for (int i = 0; i < cfg->num_disks; i++)
        if (!colo_disk_is_replicated(&cfg->disks[i]) && /* the others are looked at later */
            check_file(cfg->disks[i].pdev_path, "the disk image", err))
            return -1;
    for (int i = 0; i < cfg->num_nics; i++)
        if (check_bridge(cfg->nics[i].bridge, err))
            return -1;
    return 0;
}
