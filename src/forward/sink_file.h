/*
 * sink_file: the file of a file sink on disk: batches go to the places that their targets name, durably. Owned by the
 * sink's own thread (transport_file.h).
 *
 * A repeat writes the same bytes to the same place. Bytes that are there already are looked at first: only a batch's own
 * bytes, or zeroes that a crash left, are ever written over. So whatever somebody did to the file, nothing of others is
 * destroyed:
 *
 *   moved away       (logrotate, mv) while we run: batches with a place in it still go there, new ones into a new PATH
 *   truncated, or    a batch whose place is gone or taken goes to the end of PATH.NAME, a file of its own, and a warning
 *   replaced         says so: after a crash in between it may also be in what was moved away. New ones go behind what PATH has
 *   rotated away     made by ourselves: PATH.NAME is found under that name
 *
 * Rotated files may be compressed, moved or removed at any time but the newest one, whose name says that the rotation was
 * done. Appending to PATH beside us is not supported: batches then go to files of their own, as above.
 */
#ifndef FORWARD_SINK_FILE_H
#define FORWARD_SINK_FILE_H

#include "core/base.h"
#include "core/config_sinks.h"
#include "core/err.h"
#include "forward/file_target.h"

#define SINK_FILE_PATH_BYTES (CONFIG_SINK_TEXT + FILE_NAME_BYTES + 2)
#define SINK_FILE_OPEN_MAX   2 /* the newest and the one before */

struct sink_file_open {
    int fd; /* -1: none */
    char name[FILE_NAME_BYTES];
    bool is_at_path;   /* it was opened as PATH and not rotated by us since */
    bool is_own;       /* PATH.NAME for batches without a place: appended to */
    bool is_lost;      /* moved or truncated: nothing new belongs here */
    uint64_t safe_end; /* up to here there was something, when we last looked */
};

struct sink_file {
    const struct config_sink *sink; /* borrowed */
    struct sink_file_open opens[SINK_FILE_OPEN_MAX];
    unsigned open_next;
    char rotated_last[FILE_NAME_BYTES];
};

void sink_file_init(struct sink_file *file, const struct config_sink *sink);
void sink_file_close(struct sink_file *file);
/* Blocks on the disk. floor: everything of this file below it was delivered. 0: body is durable at its place. Negative:
 * -errno and a text that names sink and file; the same call again repairs what is half done.
 * is_lost: what belongs to this name's file goes elsewhere from now on (see above). */
int sink_file_write(struct sink_file *file, const struct file_target *target, uint64_t floor,
                    struct slice body, bool *is_lost, struct err *err) MUST_USE;
/* PATH, or PATH.name where name is not "". out: SINK_FILE_PATH_BYTES. */
void sink_file_path(const struct config_sink *sink, const char *name, char *out);

#endif
