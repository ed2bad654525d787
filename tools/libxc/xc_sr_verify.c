/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Digests of a suspended domain: made, compared, and told apart in words.  The wire form is in
 * xc_sr_verify_wire.c.
 */
#include "xc_sr_verify.h"

#include <errno.h>
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xen/xen.h>
#include <xen/hvm/save.h>

#define XXH_INLINE_ALL /* all in the header: nothing to link, nothing to install where we run */
#include <xxhash.h>

#define BATCH     1024
#define MAX_LOCAL 64

/* Of a PC's CMOS: seconds to year with the alarms between them, and the century. */
#define CMOS_DATE_BYTES 10
#define CMOS_CENTURY    0x32

/*
 * Fields of the HVM context that move though the domain is suspended: Xen works them out from the
 * time at which the context is read.
 */
static const struct mask {
    uint16_t typecode;
    uint32_t offset, length;
} masks[] = {
    {HVM_SAVE_CODE(CPU), offsetof(struct hvm_hw_cpu, tsc), 8},
    /* date and time, which Xen brings up to date when it saves and when it loads */
    {HVM_SAVE_CODE(RTC), offsetof(struct hvm_hw_rtc, cmos_data), CMOS_DATE_BYTES},
    {HVM_SAVE_CODE(RTC), offsetof(struct hvm_hw_rtc, cmos_data) + CMOS_CENTURY, 1},
    /* the counter, and the comparators of periodic timers, which follow it */
    {HVM_SAVE_CODE(HPET), offsetof(struct hvm_hw_hpet, mc64), 8},
    {HVM_SAVE_CODE(HPET), offsetof(struct hvm_hw_hpet, timers[0].cmp), 8},
    {HVM_SAVE_CODE(HPET), offsetof(struct hvm_hw_hpet, timers[1].cmp), 8},
    {HVM_SAVE_CODE(HPET), offsetof(struct hvm_hw_hpet, timers[2].cmp), 8},
    /* the counter, and its carry in the lowest bits of the status */
    {HVM_SAVE_CODE(PMTIMER), offsetof(struct hvm_hw_pmtimer, tmr_val), 5},
};

static uint64_t hash_of(const void *buf, size_t len)
{
    return XXH3_64bits(len ? buf : "", len);
}

void xc_sr_digest_free(struct xc_sr_digest *d)
{
    free(d->pages);
    free(d->context_parts);
    free(d->context_types);
    memset(d, 0, sizeof(*d));
}

/* ---- memory ---- */

static int hash_batch(struct xc_sr_domain *d, const uint64_t *gfns, size_t n, uint64_t *pages,
                      struct colo_err *err)
{
    int errs[BATCH];
    uint64_t h;
    void *addr;

    if (n == 0)
        return 0;
    if (d->ops->map(d, gfns, errs, n, false, &addr, err))
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (errs[i])
            continue;
        h = hash_of((unsigned char *)addr + i * XC_PAGE_BYTES, XC_PAGE_BYTES);
        pages[gfns[i]] = h ? h : 1;
    }
    return d->ops->unmap(d, addr, n, err);
}

static int hash_memory(struct xc_sr_domain *d, struct xc_sr_digest *out, struct colo_err *err)
{
    uint64_t local[MAX_LOCAL], gfns[BATCH];
    uint8_t present[BATCH];
    size_t nlocal, n;

    if (xc_sr_local_gfns(d, local, MAX_LOCAL, &nlocal, err))
        return -1;
    for (uint64_t g = 0; g < out->nr_gfns; g += BATCH) {
        size_t want = out->nr_gfns - g < BATCH ? (size_t)(out->nr_gfns - g) : BATCH;

        if (d->ops->present(d, g, want, present, err))
            return -1;
        n = 0;
        for (size_t i = 0; i < want; i++) {
            if (present[i])
                gfns[n++] = g + i;
        }
        if (hash_batch(d, gfns, n, out->pages, err))
            return -1;
    }
    for (size_t i = 0; i < nlocal; i++) {
        if (local[i] < out->nr_gfns)
            out->pages[local[i]] = 0;
    }
    return 0;
}

/* ---- HVM context ---- */

/* The save record at *off: its header, and false when the blob does not go on like that. */
static bool next_part(const unsigned char *buf, size_t len, size_t *off,
                      struct hvm_save_descriptor *d)
{
    if (len - *off < sizeof(*d))
        return false;
    memcpy(d, buf + *off, sizeof(*d));
    d->typecode = le16toh(d->typecode);
    d->instance = le16toh(d->instance);
    d->length = le32toh(d->length);
    if (d->length > len - *off - sizeof(*d))
        return false;
    *off += sizeof(*d) + d->length;
    return true;
}

/* How many save records the blob is made of; 0 when it is something else. */
static size_t count_parts(const unsigned char *buf, size_t len)
{
    struct hvm_save_descriptor d;
    size_t off = 0, n = 0;

    while (next_part(buf, len, &off, &d)) {
        n++;
        if (d.typecode == 0)
            return off == len && d.length == 0 ? n : 0;
    }
    return 0;
}

static void mask_part(const struct hvm_save_descriptor *d, unsigned char *body)
{
    for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
        const struct mask *m = &masks[i];

        if (m->typecode == d->typecode && d->length >= m->offset + m->length)
            memset(body + m->offset, 0, m->length);
    }
}

/* The blob is ours: masking changes it. */
static int hash_context(unsigned char *buf, size_t len, struct xc_sr_digest *out,
                        struct colo_err *err)
{
    struct hvm_save_descriptor d;
    size_t off = 0, n = count_parts(buf, len);

    if (n == 0) {
        out->context = hash_of(buf, len);
        return 0;
    }
    out->context_parts = calloc(n, sizeof(*out->context_parts));
    out->context_types = calloc(n, sizeof(*out->context_types));
    if (!out->context_parts || !out->context_types)
        return colo_fail_errno(err, ENOMEM, "a digest");
    out->nr_context_parts = n;
    for (size_t i = 0; i < n && next_part(buf, len, &off, &d); i++) {
        unsigned char *body = buf + off - d.length;

        mask_part(&d, body);
        out->context_parts[i] = hash_of(body, d.length);
        out->context_types[i] = (uint32_t)d.typecode << 16 | d.instance;
    }
    out->context = hash_of(out->context_parts, n * sizeof(*out->context_parts)) ^
                   hash_of(out->context_types, n * sizeof(*out->context_types));
    return 0;
}

/*
 * QEMU has a real-time clock of its own beside Xen's, and saves its date and time, too: right
 * behind the section's name and two 32-bit numbers.
 */
static void mask_devices(unsigned char *buf, size_t len)
{
    static const char section[] = "mc146818rtc";
    const size_t data = sizeof(section) - 1 + 8;
    unsigned char *p = memmem(buf, len, section, sizeof(section) - 1);

    if (!p || (size_t)(buf + len - p) < data + CMOS_CENTURY + 1)
        return;
    memset(p + data, 0, CMOS_DATE_BYTES);
    p[data + CMOS_CENTURY] = 0;
}

int xc_sr_digest_make(struct xc_sr_domain *d, struct xc_sr_digest *out, struct colo_err *err)
{
    struct xc_sr_domain_info info;
    void *buf = NULL;
    size_t len;
    int rc = -1;

    memset(out, 0, sizeof(*out));
    if (d->ops->info(d, &info, err))
        goto out;
    out->pages = calloc(info.nr_gpfns ? info.nr_gpfns : 1, sizeof(*out->pages));
    if (!out->pages) {
        colo_fail_errno(err, ENOMEM, "a digest of %llu pages", (unsigned long long)info.nr_gpfns);
        goto out;
    }
    out->nr_gfns = info.nr_gpfns;
    if (hash_memory(d, out, err))
        goto out;
    if (d->ops->get_hvm_context(d, &buf, &len, err) || hash_context(buf, len, out, err))
        goto out;
    free(buf);
    buf = NULL;
    if (d->ops->devices_save(d, &buf, &len, err))
        goto out;
    if (len)
        mask_devices(buf, len);
    out->devices = hash_of(buf, len);
    rc = 0;

out:
    free(buf);
    if (rc) {
        colo_err_prefix(err, "digest");
        xc_sr_digest_free(out);
    }
    return rc;
}

/* ---- comparing ---- */

static const char *part_name(uint32_t type)
{
    static const char *const names[] = {
        "END",     "HEADER",   "CPU", "PIC", "IOAPIC", "LAPIC",   "LAPIC_REGS", "PCI_IRQ",
        "ISA_IRQ", "PCI_LINK", "PIT", "RTC", "HPET",   "PMTIMER", "MTRR",
    };

    return type >> 16 < sizeof(names) / sizeof(names[0]) ? names[type >> 16] : "part";
}

struct telling {
    char *text;
    size_t len, used;
};

static void __attribute__((format(printf, 2, 3))) tell(struct telling *t, const char *fmt, ...)
{
    va_list ap;
    int r;

    if (t->used >= t->len)
        return;
    va_start(ap, fmt);
    r = vsnprintf(t->text + t->used, t->len - t->used, fmt, ap);
    va_end(ap);
    t->used += r > 0 ? (size_t)r : 0;
}

static uint64_t page_of(const struct xc_sr_digest *d, uint64_t gfn)
{
    return gfn < d->nr_gfns ? d->pages[gfn] : 0;
}

static uint64_t diff_pages(const struct xc_sr_digest *a, const struct xc_sr_digest *b,
                           struct telling *t)
{
    uint64_t top = a->nr_gfns > b->nr_gfns ? a->nr_gfns : b->nr_gfns, n = 0;

    for (uint64_t g = 0; g < top; g++) {
        uint64_t pa = page_of(a, g), pb = page_of(b, g);

        if (pa == pb)
            continue;
        if (n++ < 8)
            tell(t, "%s %#llx%s", n == 1 ? "gfns" : ",", (unsigned long long)g,
                 !pa   ? " (only in the second)"
                 : !pb ? " (only in the first)"
                       : "");
    }
    if (n)
        tell(t, "%s (%llu pages); ", n > 8 ? ", ..." : "", (unsigned long long)n);
    return n;
}

static uint64_t diff_context(const struct xc_sr_digest *a, const struct xc_sr_digest *b,
                             struct telling *t)
{
    uint64_t n = 0;

    if (a->nr_context_parts != b->nr_context_parts) {
        tell(t, "context of %zu and %zu parts; ", a->nr_context_parts, b->nr_context_parts);
        return 1;
    }
    for (size_t i = 0; i < a->nr_context_parts; i++) {
        if (a->context_types[i] == b->context_types[i] &&
            a->context_parts[i] == b->context_parts[i])
            continue;
        n++;
        tell(t, "context %zu: %s %u.%u; ", i, part_name(a->context_types[i]),
             a->context_types[i] >> 16, a->context_types[i] & 0xffff);
    }
    if (n == 0 && a->context != b->context) {
        n = 1;
        tell(t, "context; ");
    }
    return n;
}

uint64_t xc_sr_digest_diff(const struct xc_sr_digest *a, const struct xc_sr_digest *b, char *text,
                           size_t len)
{
    struct telling t = {text, len, 0};
    uint64_t n = 0;

    if (len)
        text[0] = '\0';
    n += diff_context(a, b, &t);
    if (a->devices != b->devices) {
        n++;
        tell(&t, "device state; ");
    }
    n += diff_pages(a, b, &t);
    if (t.used >= 2 && t.used < len)
        text[t.used - 2] = '\0'; /* the last "; " */
    return n;
}
