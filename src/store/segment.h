/*
 * segment: one file of the log: its name, its life and how it is made ready. A segment is made by
 * the keeper (segment_prepare), handed to the writer whole, and from then on only the writer
 * touches it. Everything here is blocking and off the append path.
 *
 * Happy path: created under a temporary name, allocated, zero-written, header made durable, synced,
 * renamed, directory synced; only then does the final name exist, so a name that ends in .seg
 * always has a durable header. Failure: the temporary file is removed again; what could not be
 * removed goes at the next start.
 *
 * Life: PREPARED -> ACTIVE -> SEALED (-> COMPACTED -> EXPIRED, later). segment_move is the only way
 * and knows the table.
 */
#ifndef STORE_SEGMENT_H
#define STORE_SEGMENT_H

#include "core/base.h"
#include "core/err.h"
#include "core/ulid.h"
#include "store/file_io.h"
#include "store/format.h"

#include <stdatomic.h>

#define SEGMENT_DIR        "log"
#define SEGMENT_NAME_BYTES 32u /* "log/0123456789abcdef.seg" and its NUL */
#define SEGMENT_CHUNK_BYTES                                                                        \
    ((uint64_t)1                                                                                   \
     << 20) /* zeroing: large enough for full bandwidth, small against a durable write */
#define SEGMENT_MARK_BYTES                                                                         \
    (2u * STORE_BLOCK_BYTES) /* the end kept free for closing marks: idle and stop */
#define SEGMENT_BYTES_MIN (8u * STORE_BLOCK_BYTES)

enum segment_state {
    SEGMENT_NONE = 0,
    SEGMENT_PREPARED = 1,
    SEGMENT_ACTIVE = 2,
    SEGMENT_SEALED = 3,
};

struct segment {
    uint64_t id;
    uint64_t salt;
    uint64_t file_bytes;
    uint64_t end; /* where the next batch goes */
    struct file file;
    enum segment_state state;
    bool is_zeroed; /* false: unwritten extents, slower commits, never wrong */
};

/* "log/%016llx.seg"; name has SEGMENT_NAME_BYTES. Pure. */
void segment_name(char *name, uint64_t id);
/* From a bare file name as file_io's list gives it ("0123456789abcdef.seg"). False for anything
 * else. Pure. */
bool segment_parse_name(uint64_t *id, const char *name);
/* "0123456789abcdef.tmp": what a crash while preparing left. Pure. */
bool segment_is_temporary(const char *name);

struct segment_options {
    uint64_t id;
    uint64_t file_bytes;
    struct ulid node;
    const uint8_t *zeroes;     /* SEGMENT_CHUNK_BYTES of zeroes, block-aligned */
    uint8_t *block;            /* scratch, STORE_BLOCK_BYTES, block-aligned */
    bool skip_zeroing;         /* allocated is enough: commits will be large */
    const _Atomic bool *hurry; /* may be NULL. Set: stop zeroing and hand over what is allocated */
};

/* On success the segment is PREPARED and open for direct writes, durable under its final name. */
int segment_prepare(struct segment *segment, struct file_io *io,
                    const struct segment_options *options, struct err *err) MUST_USE;
/* Opens a prepared or active segment that recovery found. state as given; end is set by the caller.
 */
int segment_open(struct segment *segment, struct file_io *io, const struct segment_header *header,
                 enum segment_state state, struct err *err) MUST_USE;
/* The only way from state to state; a move that the table does not allow is a program error. */
void segment_move(struct segment *segment, enum segment_state to);
/* Closes the file; the segment becomes NONE. */
void segment_close(struct segment *segment, struct file_io *io);
/* Data batches may not use the closing marks' blocks. Pure. */
bool segment_has_room(const struct segment *segment, uint64_t batch_bytes, bool is_mark);
/* Largest payload that any batch of a segment of this size can hold. Pure. */
uint64_t segment_payload_max(uint64_t file_bytes);

#endif
