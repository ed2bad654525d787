/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * mkseeds DIR writes the fuzz targets' seeds, DIR/TARGET/NAME, with our own writers.  One function
 * for each group of targets; each makes the folders it needs and exits on failure.
 */
#ifndef MKSEEDS_H
#define MKSEEDS_H

void mkseeds_libxl(const char *dir); /* all of tools/libxl */
void mkseeds_proxy(const char *dir); /* frames for the compare engine */
void mkseeds_disk(const char *dir);  /* what the secondary's disk reads */

#endif
