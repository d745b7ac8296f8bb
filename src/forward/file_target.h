/*
 * file_target: where a batch of a file sink belongs, as text that is frozen with it:
 *
 *   BEFORE NAME OFFSET BYTES      "20251121T170000Z-000 20251121T180000Z-000 1048576 4096"
 *
 * NAME is the suffix that the file will have when it is rotated away (PATH -> PATH.NAME), made when the file begins, so
 * that a repeat finds its file before and after the rotation. BEFORE is that of the file that must be rotated away
 * first, "-" for none. A place is never given to two batches. Pure.
 */
#ifndef FORWARD_FILE_TARGET_H
#define FORWARD_FILE_TARGET_H

#include "core/base.h"

#define FILE_NAME_CHARS 20 /* YYYYMMDDTHHMMSSZ-NNN: names sort by their time */
#define FILE_NAME_BYTES (FILE_NAME_CHARS + 1)

struct file_target {
    char before[FILE_NAME_BYTES]; /* "": none */
    char name[FILE_NAME_BYTES];
    uint64_t offset, bytes;
};

/* out: bytes_max, at least 96. */
void file_target_format(const struct file_target *target, char *out, size_t bytes_max);
/* False: not a target. */
bool file_target_parse(const char *text, struct file_target *target);
/* number: 0..999. out: FILE_NAME_BYTES. */
void file_target_name(int64_t real_ns, unsigned number, char *out);
bool file_target_is_name(const char *text); /* exactly a NAME */

#endif
