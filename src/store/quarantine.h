/*
 * quarantine: copies of damaged bytes of the log, kept for whoever wants to look. Start-up only,
 * main thread, blocking. A file appears whole (temporary name, sync, rename, sync of the directory)
 * or not at all, and is made once: a later start finds it and leaves it alone. The log itself is
 * not changed. Fails with -errno (no room, I/O error), which costs the copy, never the start.
 */
#ifndef STORE_QUARANTINE_H
#define STORE_QUARANTINE_H

#include "core/base.h"
#include "store/file_io.h"

#define QUARANTINE_DIR "quarantine"
/* "quarantine/0123456789abcdef-18446744073709551615.bin" and its NUL. */
#define QUARANTINE_NAME_BYTES 64u

/* Keeps bytes, which were found at offset of the segment, as QUARANTINE_DIR/<segment>-<offset>.bin;
 * name, of QUARANTINE_NAME_BYTES, is filled in any case. */
int quarantine_keep(char *name, struct file_io *io, uint64_t segment_id, uint64_t offset,
                    struct slice bytes) MUST_USE;

#endif
