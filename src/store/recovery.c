/*
 * recovery: finding and reading the log's files at start; see recovery.h. Reads twice before it
 * believes in an error: a block that fails within a large read is asked for alone.
 */
#include "store/recovery.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

#define PROBE_BYTES (2u * STORE_BLOCK_BYTES) /* segment header and first batch header */

void recovery_tell(struct recovery *recovery, const char *format, ...)
{
    char *text = recovery->report->text;
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text + used, sizeof recovery->report->text - used, format, args);
    va_end(args);
}

/* ---- listing ---- */

struct listing {
    struct recovery *recovery;
    bool is_counting;
    size_t count;
};

static void recover_on_name(void *context, const char *name)
{
    struct listing *listing = context;
    struct recovery *recovery = listing->recovery;
    uint64_t id = 0;
    if (!segment_parse_name(&id, name)) {
        return;
    }
    if (listing->is_counting) {
        listing->count++;
    } else if (recovery->found_count < recovery->found_capacity) {
        recovery->found[recovery->found_count++] = (struct found){.id = id};
    }
}

struct sweep {
    char names[64][SEGMENT_NAME_BYTES];
    size_t count;
};

static void sweep_on_name(void *context, const char *name)
{
    struct sweep *sweep = context;
    if (segment_is_temporary(name) && sweep->count < ARRAY_COUNT(sweep->names)) {
        (void)snprintf(sweep->names[sweep->count], SEGMENT_NAME_BYTES, SEGMENT_DIR "/%.20s", name);
        sweep->count++;
    }
}

static int compare_ids(const void *a, const void *b)
{
    uint64_t left = ((const struct found *)a)->id;
    uint64_t right = ((const struct found *)b)->id;
    return left < right ? -1 : left > right;
}

int recovery_list(struct recovery *recovery, struct err *err)
{
    struct file_io *io = recovery->io;
    int r = io->ops->make_dir(io, SEGMENT_DIR);
    r = r < 0 ? r : io->ops->sync_dir(io, "");
    /* Names that a crash left unsynced must not vanish after they have been trusted. */
    r = r < 0 ? r : io->ops->sync_dir(io, SEGMENT_DIR);
    struct sweep sweep = {.count = 0};
    r = r < 0 ? r : io->ops->list(io, SEGMENT_DIR, sweep_on_name, &sweep);
    for (size_t i = 0; i < sweep.count; i++) {
        (void)io->ops->unlink(io, sweep.names[i]); /* what stays costs space, not truth */
    }
    struct listing listing = {.recovery = recovery, .is_counting = true};
    r = r < 0 ? r : io->ops->list(io, SEGMENT_DIR, recover_on_name, &listing);
    if (r >= 0) {
        recovery->found_capacity = listing.count;
        recovery->found = mem_alloc_array(listing.count, sizeof *recovery->found);
        listing.is_counting = false;
        r = io->ops->list(io, SEGMENT_DIR, recover_on_name, &listing);
    }
    if (r < 0) {
        return err_set(err, r, "recover: list " SEGMENT_DIR ": %s", err_name(r));
    }
    qsort(recovery->found, recovery->found_count, sizeof *recovery->found, compare_ids);
    return 0;
}

static int open_found(struct recovery *recovery, const struct found *found, struct file *file)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name(name, found->id);
    return recovery->io->ops->open(recovery->io, name, FILE_OPEN_DIRECT, file);
}

/* Reads into the buffer; what cannot be read stays zero and is remembered. */
static void read_range(struct recovery *recovery, struct file file, uint64_t offset, uint64_t bytes)
{
    struct file_io *io = recovery->io;
    int64_t n = io->ops->read(io, file, recovery->buffer + offset, bytes, offset);
    if (n == (int64_t)bytes) {
        return;
    }
    for (uint64_t at = offset; at < offset + bytes; at += STORE_BLOCK_BYTES) {
        n = io->ops->read(io, file, recovery->buffer + at, STORE_BLOCK_BYTES, at);
        if (n != (int64_t)STORE_BLOCK_BYTES) {
            memset(recovery->buffer + at, 0, STORE_BLOCK_BYTES);
            if (n < 0 && !recovery->has_read_error) {
                recovery->has_read_error = true;
                recovery->unreadable_at = at;
            }
        }
    }
}

static void read_segment(struct recovery *recovery, const struct found *found, struct file file)
{
    recovery->has_read_error = false;
    for (uint64_t at = 0; at < found->bytes; at += SEGMENT_CHUNK_BYTES) {
        read_range(recovery, file, at, u64_min(SEGMENT_CHUNK_BYTES, found->bytes - at));
    }
}

static bool header_is_ours(const struct found *found, const struct batch_header *header)
{
    return header->segment_id == found->header.segment_id && header->salt == found->header.salt;
}

/* The first two blocks. A damaged segment header is put together again from the first batch, which
 * repeats what matters. */
static int probe(struct recovery *recovery, struct found *found, struct err *err)
{
    struct file file;
    int r = open_found(recovery, found, &file);
    if (r < 0) {
        return err_set(err, r, "recover segment %" PRIu64 ": open: %s", found->id, err_name(r));
    }
    int64_t size = recovery->io->ops->size(recovery->io, file);
    if (size < 0) { /* not a length of 0: the file would be taken for rubbish and removed */
        recovery->io->ops->close(recovery->io, file);
        return err_set(err, (int)size, "recover segment %" PRIu64 ": size: %s", found->id,
                       err_name((int)size));
    }
    found->bytes = (uint64_t)size & ~(uint64_t)(STORE_BLOCK_BYTES - 1);
    memset(recovery->buffer, 0, PROBE_BYTES);
    read_range(recovery, file, 0, u64_min(PROBE_BYTES, found->bytes));
    recovery->io->ops->close(recovery->io, file);
    struct err why = {0};
    r = segment_header_decode(&found->header, recovery->buffer, &why);
    int first = batch_header_decode(&found->first, recovery->buffer + STORE_BLOCK_BYTES, NULL);
    if (r == ERR_VERSION || first == ERR_VERSION) {
        return err_set(err, ERR_VERSION, "recover segment %" PRIu64 ": written by a newer version",
                       found->id);
    }
    found->has_header = r == 0 && found->header.segment_id == found->id;
    if (!found->has_header) {
        found->is_header_damaged = true;
        found->has_header = first == 0 && found->first.segment_id == found->id;
        found->header = (struct segment_header){
            .segment_id = found->id, .salt = found->first.salt, .file_bytes = found->bytes};
    }
    found->has_first = found->has_header && first == 0 && header_is_ours(found, &found->first);
    return 0;
}

/* ---- the loaded segment ---- */

bool recovery_header_at(const struct recovery *recovery, const struct found *found, uint64_t offset,
                        struct batch_header *header)
{
    return batch_header_decode(header, recovery->buffer + offset, NULL) == 0 &&
           header_is_ours(found, header);
}

bool recovery_has_any_batch(const struct recovery *recovery, const struct found *found)
{
    struct batch_header header;
    for (uint64_t at = STORE_BLOCK_BYTES; at + STORE_BLOCK_BYTES <= found->bytes;
         at += STORE_BLOCK_BYTES) {
        if (recovery_header_at(recovery, found, at, &header)) {
            return true;
        }
    }
    return false;
}

/* A long run of zeroes compares equal to itself one byte on. */
bool recovery_is_zero(const uint8_t *data, uint64_t bytes)
{
    return bytes == 0 || (data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0);
}

/* ---- reading ---- */

/* Segment header and first batch are gone: any other batch of the segment tells the salt, without
 * which none of them would count. */
static void adopt_salt(const struct recovery *recovery, struct found *found)
{
    struct batch_header header;
    for (uint64_t at = STORE_BLOCK_BYTES;
         !found->has_header && at + STORE_BLOCK_BYTES <= found->bytes; at += STORE_BLOCK_BYTES) {
        if (batch_header_decode(&header, recovery->buffer + at, NULL) == 0 &&
            header.segment_id == found->id) {
            found->header.salt = header.salt;
            found->has_header = true;
        }
    }
}

int recovery_load(struct recovery *recovery, struct found *found, struct err *err)
{
    struct file file;
    int r = open_found(recovery, found, &file);
    if (r < 0) {
        return err_set(err, r, "recover segment %" PRIu64 ": open: %s", found->id, err_name(r));
    }
    r = recovery->io->ops->sync(
        recovery->io, file); /* what is read below must not vanish after it has been trusted */
    if (r < 0) {
        recovery_tell(recovery, "segment %" PRIu64 ": sync: %s\n", found->id, err_name(r));
        r = 0;
    }
    read_segment(recovery, found, file);
    recovery->io->ops->close(recovery->io, file);
    adopt_salt(recovery, found);
    return r;
}

int recovery_probe(struct recovery *recovery, struct recovered *recovered, struct err *err)
{
    recovery->buffer_bytes = PROBE_BYTES;
    recovery->buffer = mem_map(PROBE_BYTES);
    uint64_t largest = PROBE_BYTES;
    for (size_t i = 0; i < recovery->found_count && recovery->buffer != NULL; i++) {
        struct found *found = &recovery->found[i];
        int r = probe(recovery, found, err);
        if (r < 0) {
            return r;
        }
        largest = u64_max(largest, found->bytes);
        if (found->has_header && !found->is_header_damaged) {
            recovered->has_node = true;
            recovered->node = found->header.node;
        }
    }
    if (recovery->buffer != NULL) {
        mem_unmap(recovery->buffer, recovery->buffer_bytes);
    }
    recovery->buffer_bytes = largest;
    recovery->buffer = mem_map(largest);
    return recovery->buffer == NULL
               ? err_set(err, -ENOMEM, "recover: map %" PRIu64 " bytes", largest)
               : 0;
}
