/*
 * segment: making and opening the log's files; see segment.h for the order of steps and why a .seg
 * name is always trustworthy. Called by the keeper (prepare), by recovery (open) and by the writer
 * (move, room). Every failure names its step.
 */
#include "store/segment.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* Rows: from; columns: to. Nothing ever becomes writable again. */
static const bool allowed[4][4] = {
    [SEGMENT_NONE] = {[SEGMENT_PREPARED] = true, [SEGMENT_ACTIVE] = true},
    [SEGMENT_PREPARED] = {[SEGMENT_NONE] = true, [SEGMENT_ACTIVE] = true},
    [SEGMENT_ACTIVE] = {[SEGMENT_NONE] = true, [SEGMENT_SEALED] = true},
    [SEGMENT_SEALED] = {[SEGMENT_NONE] = true},
};

static void name_format(char *name, uint64_t id, const char *suffix)
{
    int n = snprintf(name, SEGMENT_NAME_BYTES, SEGMENT_DIR "/%016" PRIx64 ".%s", id, suffix);
    ASSERT(n > 0);
    ASSERT((size_t)n < SEGMENT_NAME_BYTES);
}

void segment_name(char *name, uint64_t id)
{
    name_format(name, id, "seg");
}

static bool parse_hex16(uint64_t *id, const char *name)
{
    uint64_t value = 0;
    for (size_t i = 0; i < 16; i++) {
        char c = name[i];
        if (c >= '0' && c <= '9') {
            value = value << 4 | (uint64_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            value = value << 4 | (uint64_t)(c - 'a' + 10);
        } else {
            return false; /* also the NUL of a shorter name */
        }
    }
    *id = value;
    return true;
}

bool segment_parse_name(uint64_t *id, const char *name)
{
    /* No segment could follow the last id of all, so it is not one of ours. */
    return parse_hex16(id, name) && strcmp(name + 16, ".seg") == 0 && *id != 0 && *id != UINT64_MAX;
}

bool segment_is_temporary(const char *name)
{
    uint64_t id = 0;
    return parse_hex16(&id, name) && strcmp(name + 16, ".tmp") == 0;
}

void segment_move(struct segment *segment, enum segment_state to)
{
    ASSERT((size_t)segment->state < ARRAY_COUNT(allowed));
    ASSERT((size_t)to < ARRAY_COUNT(allowed));
    ASSERT(allowed[segment->state][to]);
    segment->state = to;
}

void segment_close(struct segment *segment, struct file_io *io)
{
    if (segment->state == SEGMENT_NONE) {
        return;
    }
    io->ops->close(io, segment->file);
    segment_move(segment, SEGMENT_NONE);
}

bool segment_has_room(const struct segment *segment, uint64_t batch_bytes, bool is_mark)
{
    if (segment->state != SEGMENT_ACTIVE) {
        return false;
    }
    uint64_t kept = is_mark ? 0 : SEGMENT_MARK_BYTES;
    return segment->end + batch_bytes + kept <= segment->file_bytes;
}

uint64_t segment_payload_max(uint64_t file_bytes)
{
    ASSERT(file_bytes >= SEGMENT_BYTES_MIN);
    return file_bytes - STORE_BLOCK_BYTES - SEGMENT_MARK_BYTES - BATCH_HEADER_BYTES;
}

/* A segment's salt makes batches of another use of the same blocks invalid, so it must not repeat.
 */
static uint64_t fresh_salt(void)
{
    uint64_t salt = 0;
    while (salt == 0) { /* bounded in practice: 2^-64 to go round once more */
        ssize_t n = getrandom(&salt, sizeof salt, 0);
        ASSERT(n == (ssize_t)sizeof salt); /* 8 bytes are never cut short (getrandom(2)) */
    }
    return salt;
}

/* Writes zeroes over the whole file, so that later commits change no metadata. Stops early when the
 * writer waits. */
static int zero_fill(struct segment *segment, struct file_io *io,
                     const struct segment_options *options, struct err *err)
{
    for (uint64_t at = STORE_BLOCK_BYTES; at < segment->file_bytes; at += SEGMENT_CHUNK_BYTES) {
        /* relaxed: a hint; seen one chunk late it costs one chunk. */
        if (options->skip_zeroing) {
            segment->is_zeroed = false;
            return 0;
        }
        if (options->hurry != NULL && atomic_load_explicit(options->hurry, memory_order_relaxed)) {
            segment->is_zeroed = false;
            return 0;
        }
        uint64_t bytes = u64_min(SEGMENT_CHUNK_BYTES, segment->file_bytes - at);
        int r = io->ops->write(io, segment->file, options->zeroes, bytes, at, false);
        if (r < 0) {
            return err_set(err, r, "zero at %" PRIu64 ": %s", at, err_name(r));
        }
    }
    segment->is_zeroed = true;
    return 0;
}

static int fill(struct segment *segment, struct file_io *io, const struct segment_options *options,
                struct err *err)
{
    /* A file that an earlier attempt could not remove may be longer. */
    int r = io->ops->truncate(io, segment->file, 0);
    if (r < 0) {
        return err_set(err, r, "empty: %s", err_name(r));
    }
    r = io->ops->allocate(io, segment->file, segment->file_bytes);
    if (r < 0) {
        return err_set(err, r, "allocate %" PRIu64 " bytes: %s", segment->file_bytes, err_name(r));
    }
    r = zero_fill(segment, io, options, err);
    if (r < 0) {
        return r;
    }
    struct segment_header header = {.segment_id = segment->id,
                                    .salt = segment->salt,
                                    .node = options->node,
                                    .file_bytes = segment->file_bytes};
    segment_header_encode(options->block, &header);
    r = io->ops->write(io, segment->file, options->block, STORE_BLOCK_BYTES, 0, true);
    if (r < 0) {
        return err_set(err, r, "write the header: %s", err_name(r));
    }
    r = io->ops->sync(io, segment->file);
    return r < 0 ? err_set(err, r, "sync: %s", err_name(r)) : 0;
}

static int publish_name(struct file_io *io, const char *temporary, const char *name,
                        struct err *err)
{
    int r = io->ops->rename(io, temporary, name);
    if (r < 0) {
        return err_set(err, r, "rename: %s", err_name(r));
    }
    r = io->ops->sync_dir(io, SEGMENT_DIR);
    if (r < 0) {
        (void)io->ops->unlink(io, name); /* its name may not survive: make it again */
        return err_set(err, r, "sync the directory: %s", err_name(r));
    }
    return 0;
}

int segment_prepare(struct segment *segment, struct file_io *io,
                    const struct segment_options *options, struct err *err)
{
    ASSERT(options->file_bytes >= SEGMENT_BYTES_MIN);
    ASSERT(options->file_bytes % STORE_BLOCK_BYTES == 0);
    char temporary[SEGMENT_NAME_BYTES];
    char name[SEGMENT_NAME_BYTES];
    name_format(temporary, options->id, "tmp");
    segment_name(name, options->id);
    *segment = (struct segment){.id = options->id,
                                .salt = fresh_salt(),
                                .file_bytes = options->file_bytes,
                                .end = STORE_BLOCK_BYTES};
    int r = io->ops->open(io, temporary, FILE_OPEN_CREATE | FILE_OPEN_DIRECT, &segment->file);
    if (r < 0) {
        return err_set(err, r, "prepare segment %" PRIu64 ": create: %s", options->id, err_name(r));
    }
    r = fill(segment, io, options, err);
    if (r < 0) {
        goto remove_temporary;
    }
    r = publish_name(io, temporary, name, err);
    if (r < 0) {
        goto remove_temporary;
    }
    segment_move(segment, SEGMENT_PREPARED);
    return 0;

remove_temporary:
    ASSERT(r < 0);
    io->ops->close(io, segment->file);
    (void)io->ops->unlink(io, temporary); /* what stays goes at the next start */
    return err_wrap(err, r, "prepare segment %" PRIu64, options->id);
}

int segment_open(struct segment *segment, struct file_io *io, const struct segment_header *header,
                 enum segment_state state, struct err *err)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name(name, header->segment_id);
    *segment = (struct segment){.id = header->segment_id,
                                .salt = header->salt,
                                .file_bytes = header->file_bytes,
                                .end = STORE_BLOCK_BYTES,
                                .is_zeroed = true};
    int r = io->ops->open(io, name, FILE_OPEN_DIRECT, &segment->file);
    if (r < 0) {
        return err_set(err, r, "open %s: %s", name, err_name(r));
    }
    segment_move(segment, state);
    return 0;
}
