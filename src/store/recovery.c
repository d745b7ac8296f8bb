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
#include "store/node.h"

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
    bool is_raw = segment_parse_name(&id, name);
    bool is_compacted = !is_raw && compacted_parse_name(&id, name);
    if (!is_raw && !is_compacted) {
        return;
    }
    if (listing->is_counting) {
        listing->count++;
    } else if (recovery->found_count < recovery->found_capacity) {
        recovery->found[recovery->found_count++] = (struct found){
            .id = id, .has_raw = is_raw, .has_compacted = is_compacted, .form = SEGMENT_FORM_RAW};
    }
}

/* Sorted: a raw file and its compacted twin are one segment. */
static void merge_twins(struct recovery *recovery)
{
    size_t kept = 0;
    for (size_t i = 0; i < recovery->found_count; i++) {
        struct found *found = &recovery->found[i];
        struct found *last = kept == 0 ? NULL : &recovery->found[kept - 1];
        if (last != NULL && last->id == found->id) {
            last->has_raw = last->has_raw || found->has_raw;
            last->has_compacted = last->has_compacted || found->has_compacted;
        } else {
            recovery->found[kept++] = *found;
        }
    }
    recovery->found_count = kept;
}

struct sweep {
    char names[64][SEGMENT_NAME_BYTES];
    size_t count;
};

static void sweep_on_name(void *context, const char *name)
{
    struct sweep *sweep = context;
    if ((segment_is_temporary(name) || compacted_is_temporary(name)) &&
        sweep->count < ARRAY_COUNT(sweep->names)) {
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
    if (recovery->found_count != 0) {
        qsort(recovery->found, recovery->found_count, sizeof *recovery->found, compare_ids);
    }
    merge_twins(recovery);
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

bool recovery_is_fresh(const struct recovery *recovery, int64_t built_at_ns)
{
    /* Unsigned: the difference of two times may need a bit more than they have. */
    return recovery->now_ns <= built_at_ns ||
           (uint64_t)recovery->now_ns - (uint64_t)built_at_ns <= recovery->options->dedup_ttl_ns;
}

struct batch_header recovery_footer_first(const struct segment_footer *footer)
{
    return (struct batch_header){
        .segment_id = footer->segment_id,
        .salt = footer->salt,
        .batch_seq = footer->first_seq,
        .first_lsn = footer->first_lsn,
        .previous_crc = footer->first_previous_crc,
        .built_at_ns = footer->built_min_ns,
        .keyed_lsn = footer->keyed_lsn,       /* or an older one */
        .origin_lsn = footer->origin_lsn,     /* likewise */
        .durable_lsn = footer->first_lsn - 1, /* a segment is begun when all before it is durable */
    };
}

static void adopt_footer(struct found *found, const struct walk_file *file)
{
    found->has_footer = file->has_footer;
    found->footer = file->footer;
    found->stored_bytes = file->file_bytes;
}

/* A raw file that is longer than it was prepared: sealed, or nearly. A footer that cannot be read is
 * none. */
static int probe_footer(struct recovery *recovery, struct found *found, struct err *err)
{
    found->bytes =
        u64_min(found->bytes, found->header.file_bytes & ~(uint64_t)(STORE_BLOCK_BYTES - 1));
    if (walk_file_open(&recovery->file, recovery->io, found->id, SEGMENT_FORM_RAW, NULL) < 0) {
        return 0;
    }
    bool is_newer = recovery->file.is_newer;
    if (recovery->file.has_footer) {
        adopt_footer(found, &recovery->file);
    }
    walk_file_close(&recovery->file);
    return is_newer ? err_set(err, ERR_VERSION,
                              "recover segment %" PRIu64 ": sealed by a newer version", found->id)
                    : 0;
}

/* The first two blocks. A damaged segment header is put together again from the first batch, which
 * repeats what matters. */
static int probe_raw(struct recovery *recovery, struct found *found, struct err *err)
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
    found->form = SEGMENT_FORM_RAW;
    found->bytes = (uint64_t)size & ~(uint64_t)(STORE_BLOCK_BYTES - 1);
    found->stored_bytes = found->bytes;
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
    bool is_longer = !found->is_header_damaged && found->bytes > found->header.file_bytes;
    return is_longer ? probe_footer(recovery, found, err) : 0;
}

/* Header and footer say all that is needed. 0, also when the file is damaged, or its blocks cannot be
 * read: then it is bad. A file that cannot be opened or measured is neither, as with raw ones. */
static int probe_compacted(struct recovery *recovery, struct found *found, struct err *err)
{
    struct err why = {0};
    struct walk_file *file = &recovery->file;
    int r = walk_file_open_or_damaged(file, recovery->io, found->id, SEGMENT_FORM_COMPACTED, &why);
    if (r == ERR_CORRUPT) {
        found->is_bad = true;
        (void)snprintf(found->problem, sizeof found->problem, "%.150s", why.text);
        return 0;
    }
    if (r < 0) {
        return err_set(err, r, "recover segment %" PRIu64 ": %s", found->id, why.text);
    }
    found->form = SEGMENT_FORM_COMPACTED;
    found->header = file->header;
    found->has_header = true;
    adopt_footer(found, file);
    found->first = recovery_footer_first(&found->footer);
    found->has_first = found->footer.first_seq != 0;
    walk_file_close(file);
    return 0;
}

/* Of two files with one id the compacted one counts: it is whole, or it would not have that name. */
static int probe(struct recovery *recovery, struct found *found, struct err *err)
{
    int r = 0;
    if (found->has_compacted) {
        r = probe_compacted(recovery, found, err);
        if (r < 0 || !found->is_bad || !found->has_raw) {
            return r;
        }
        found->is_bad = false; /* the problem is told, the raw one serves */
    }
    return probe_raw(recovery, found, err);
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

/* The node that the directory says it is, when any segment agrees; else that of the newest one. */
static void find_node(const struct recovery *recovery, struct recovered *recovered)
{
    struct ulid ours;
    bool has_ours = node_read(&ours, recovery->io, NULL) == 0;
    for (size_t i = 0; i < recovery->found_count; i++) {
        const struct found *found = &recovery->found[i];
        if (found->is_bad || !found->has_header || found->is_header_damaged) {
            continue;
        }
        recovered->has_node = true;
        recovered->node = found->header.node;
        if (has_ours && memcmp(&ours, &found->header.node, sizeof ours) == 0) {
            return;
        }
    }
}

/* A file of another log under one of our names: its batches are not ours, however good. */
static void refuse_strangers(struct recovery *recovery, const struct recovered *recovered)
{
    for (size_t i = 0; i < recovery->found_count && recovered->has_node; i++) {
        struct found *found = &recovery->found[i];
        bool is_stranger =
            !found->is_bad && found->has_first && !found->is_header_damaged &&
            memcmp(&found->header.node, &recovered->node, sizeof recovered->node) != 0;
        if (is_stranger) {
            found->is_bad = true;
            (void)snprintf(found->problem, sizeof found->problem, "it belongs to another node");
        }
    }
}

/* The witnesses that lie behind each segment. Not only in the next one: all that was written to that
 * may have failed and gone on to another. */
static void look_ahead(struct recovery *recovery)
{
    uint64_t durable_lsn = 0;
    uint64_t first_seq = UINT64_MAX;
    for (size_t i = recovery->found_count; i-- > 0;) {
        struct found *found = &recovery->found[i];
        found->later_durable_lsn = durable_lsn;
        found->later_first_seq = first_seq;
        if (found->is_bad) {
            continue;
        }
        if (found->has_footer) { /* only what is durable is ever sealed */
            durable_lsn = u64_max(durable_lsn, found->footer.last_lsn);
        } else if (found->has_first) {
            durable_lsn = u64_max(durable_lsn, found->first.durable_lsn);
        }
        /* A sealed segment without a batch repeats nothing, whatever lies in it. */
        uint64_t begins = found->has_footer  ? found->footer.first_seq
                          : found->has_first ? found->first.batch_seq
                                             : 0;
        first_seq = begins == 0 ? first_seq : u64_min(first_seq, begins);
    }
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
    }
    find_node(recovery, recovered);
    refuse_strangers(recovery, recovered);
    look_ahead(recovery);
    if (recovery->buffer != NULL) {
        mem_unmap(recovery->buffer, recovery->buffer_bytes);
    }
    recovery->buffer_bytes = largest;
    recovery->buffer = mem_map(largest);
    return recovery->buffer == NULL
               ? err_set(err, -ENOMEM, "recover: map %" PRIu64 " bytes", largest)
               : 0;
}
