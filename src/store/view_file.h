/*
 * view_file: reading from the file of a view_segment: whole or not at all, with errors that name
 * the file. Used by log_view.c, block_reader.c and block_windows.c. Any thread; blocking.
 */
#ifndef STORE_VIEW_FILE_H
#define STORE_VIEW_FILE_H

#include "core/base.h"
#include "core/err.h"
#include "store/log_view.h"

/* The name of the segment's file; name has SEGMENT_NAME_BYTES. Pure. */
void view_file_name(char *name, uint64_t id, enum view_state state);
/* All of the bytes: 0; ERR_CORRUPT when the file ends before; -errno. */
int view_file_read(struct view_segment *segment, uint8_t *to, uint64_t bytes, uint64_t offset,
                   struct err *err) MUST_USE;
/* Puts the file's name and the offset in front of err's text; returns code. */
int view_file_wrap(const struct view_segment *segment, uint64_t offset, int code, struct err *err);

#endif
