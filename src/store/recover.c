/*
 * recover: see recover.h for the rules and format.h for what a crash may leave. Runs once, before
 * any thread; main thread. This file decides which segments are walked and makes the log ready to
 * be appended to; recovery.c reads the files, recover_walk.c judges the batches.
 */
#include "store/recover.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "store/recover_walk.h"
#include "store/recovery.h"

/* Keys are the only reason to read an old segment: skip it when its footer, or the next one's first
 * header, names no key as new as its first LSN, or when everything in it is older than the TTL. */
static bool may_hold_keys(const struct recovery *recovery, const struct found *found,
                          const struct found *next)
{
    if (found->has_footer) {
        return found->footer.record_count != 0 &&
               found->footer.keyed_lsn >= found->footer.first_lsn &&
               recovery_is_fresh(recovery, found->footer.built_max_ns);
    }
    if (next == NULL || !found->has_first || !next->has_first) {
        return true;
    }
    return recovery_is_fresh(recovery, next->first.built_at_ns) &&
           next->first.keyed_lsn >= found->first.first_lsn;
}

/* What a footer describes is read for its keys, or when it is known to be damaged, which every start
 * reports. Of the rest the last one is read, what the budget allows, and what may hold keys. */
static void choose_walk(struct recovery *recovery, size_t used_count)
{
    uint64_t budget = recovery->options->walk_bytes;
    for (size_t i = used_count; i-- > 0;) {
        struct found *found = &recovery->found[i];
        const struct found *next = i + 1 == used_count ? NULL : &recovery->found[i + 1];
        bool has_keys = may_hold_keys(recovery, found, next);
        if (found->is_bad) {
            continue;
        }
        if (found->has_footer) {
            bool is_damaged = (found->footer.flags & SEALED_DAMAGED) != 0;
            found->must_walk = found->footer.first_seq != 0 && (has_keys || is_damaged);
            continue;
        }
        found->must_walk = next == NULL || budget >= found->bytes || has_keys;
        budget -= u64_min(budget, found->bytes);
    }
}

/* Empties the file behind the cut, so that nothing of the torn flight can ever be taken for a
 * continuation. */
static int zero_window(struct recovery *recovery, struct file file, uint64_t from, uint64_t to)
{
    struct file_io *io = recovery->io;
    memset(recovery->buffer, 0, u64_min(SEGMENT_CHUNK_BYTES, recovery->buffer_bytes));
    int r = 0;
    uint64_t chunk = u64_min(SEGMENT_CHUNK_BYTES, recovery->buffer_bytes);
    for (uint64_t at = from; at < to && r == 0; at += chunk) {
        r = io->ops->write(io, file, recovery->buffer, u64_min(chunk, to - at), at, false);
    }
    return r < 0 ? r : io->ops->sync(io, file);
}

static void open_active(struct recovery *recovery, const struct found *found,
                        const struct beyond *beyond, struct recovered *recovered)
{
    bool is_fit = found->has_header && !found->is_header_damaged && !recovery->has_read_error &&
                  !recovery->is_tail_damaged && found->header.file_bytes == found->bytes &&
                  found->stored_bytes == found->bytes; /* not sealed, nor nearly */
    if (!is_fit) {
        return;
    }
    struct segment *active = &recovered->start.active;
    struct err why = {0};
    if (segment_open(active, recovery->io, &found->header, SEGMENT_ACTIVE, &why) < 0) {
        recovery_tell(recovery, "segment %" PRIu64 ": not appended to: %s\n", found->id, why.text);
        return;
    }
    active->end = recovery->end;
    uint64_t dirty_end = u64_max(beyond->dirty_end, recovery->end);
    if (recovery->end + STORE_BLOCK_BYTES > found->bytes) {
        dirty_end = recovery->end; /* full to the last block: walk_segment never judged */
    }
    if (dirty_end > recovery->end) {
        recovery->report->torn_batches_cut += 1 + beyond->batch_count;
        recovery->report->torn_bytes_cut += dirty_end - recovery->end;
        recovery_tell(recovery,
                      "segment %" PRIu64 " offset %" PRIu64 ": torn tail of %" PRIu64
                      " bytes cut, never acknowledged\n",
                      found->id, recovery->end, dirty_end - recovery->end);
    }
    int r = zero_window(recovery, active->file, recovery->end, dirty_end);
    if (r < 0) {
        recovery_tell(recovery, "segment %" PRIu64 ": not appended to: zero the tail: %s\n",
                      found->id, err_name(r));
        segment_close(active, recovery->io);
    }
}

static void remove_segment(struct recovery *recovery, struct found *found)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name(name, found->id);
    int r = recovery->io->ops->unlink(recovery->io, name);
    if (r < 0) {
        recovery_tell(recovery, "segment %" PRIu64 ": cannot be removed: %s\n", found->id,
                      err_name(r));
    }
    found->bytes = 0;
    found->stored_bytes = 0;
}

static int refuse(const struct recovery *recovery, struct err *err)
{
    if (recovery->options->on_corruption != ON_CORRUPTION_REFUSE ||
        recovery->report->corrupt_batches == 0) {
        return 0;
    }
    return err_set(err, ERR_CORRUPT,
                   "recover: the log is damaged and store.on_corruption is refuse: %s",
                   recovery->report->text);
}

/* Damaged beyond reading and not known to be empty: kept under another name for whoever wants to
 * look. */
static int set_aside(struct recovery *recovery, const struct found *found, struct err *err)
{
    char name[SEGMENT_NAME_BYTES];
    char aside[SEGMENT_NAME_BYTES];
    segment_name(name, found->id);
    (void)snprintf(aside, sizeof aside, SEGMENT_DIR "/%016" PRIx64 ".bad", found->id);
    recovery->report->corrupt_batches++;
    recovery_tell(recovery, "segment %" PRIu64 ": no batch can be read in it, set aside as %s\n",
                  found->id, aside);
    int r = refuse(recovery, err);
    if (r == 0 && recovery->io->ops->rename(recovery->io, name, aside) < 0) {
        recovery_tell(recovery, "segment %" PRIu64 ": cannot be renamed\n", found->id);
    }
    return r;
}

/* From the end: segments without a single valid batch are spares or rubbish. Returns how many are
 * used. */
static int count_used(struct recovery *recovery, size_t *used_count, struct err *err)
{
    size_t used = recovery->found_count;
    for (; used > 0; used--) {
        struct found *found = &recovery->found[used - 1];
        if (found->has_first || found->has_footer || found->is_bad) {
            break;
        }
        int r = recovery_load(recovery, found, err);
        if (r < 0) {
            return r;
        }
        if (found->has_header && recovery_has_any_batch(recovery, found)) {
            break;
        }
    }
    *used_count = used;
    return 0;
}

/* Spares must follow each other and the last used segment, be all zero and of the wanted size.
 * Everything else behind the log goes. */
static int take_spares(struct recovery *recovery, size_t used_count, struct recovered *recovered,
                       struct err *err)
{
    for (size_t i = used_count; i < recovery->found_count; i++) {
        struct found *found = &recovery->found[i];
        int r = recovery_load(recovery, found, err);
        if (r < 0) {
            return r;
        }
        bool is_empty = recovery_is_zero(recovery->buffer + STORE_BLOCK_BYTES,
                                         found->bytes - u64_min(STORE_BLOCK_BYTES, found->bytes));
        bool is_whole = found->has_header && found->header.file_bytes == found->bytes &&
                        found->bytes == recovery->options->segment_bytes &&
                        found->stored_bytes == found->bytes && !recovery->has_read_error;
        bool is_next =
            found->id == recovered->segment_id_next && recovered->spare_count < KEEPER_READY_MAX;
        struct segment *spare = &recovered->spares[recovered->spare_count];
        if (is_empty && is_whole && is_next &&
            segment_open(spare, recovery->io, &found->header, SEGMENT_PREPARED, NULL) == 0) {
            recovered->spare_count++;
            recovered->segment_id_next++;
            continue;
        }
        if (recovery->has_read_error || (!is_empty && !found->has_header)) {
            r = set_aside(recovery, found, err);
            if (r < 0) {
                return r;
            }
            recovered->segment_id_next = u64_max(recovered->segment_id_next, found->id + 1);
            continue;
        }
        recovery->report->torn_batches_cut += is_empty ? 0 : 1;
        remove_segment(recovery, found);
    }
    int r = recovery->io->ops->sync_dir(recovery->io, SEGMENT_DIR);
    return r < 0 ? err_set(err, r, "recover: sync " SEGMENT_DIR ": %s", err_name(r)) : 0;
}

/* A file that cannot be what its name says stays where it is; what its neighbours show to be missing
 * is counted with the next of them. */
static void tell_problem(struct recovery *recovery, const struct found *found)
{
    char name[SEGMENT_NAME_BYTES];
    if (found->has_compacted) {
        compacted_name(name, found->id);
    } else {
        segment_name(name, found->id);
    }
    recovery->report->corrupt_batches++;
    recovery_tell(recovery, "segment %" PRIu64 ": %s is corrupt%s: %s\n", found->id, name,
                  found->is_bad ? ", nothing in it is used" : ", the raw file is used",
                  found->problem);
}

/* A hole in the ids is only told where LSNs are missing as well; they are counted with the first
 * batch behind it. */
static void tell_missing(struct recovery *recovery, size_t i)
{
    const struct found *found = &recovery->found[i];
    bool is_hole = i > 0 && recovery->found[i - 1].id + 1 < found->id;
    if (is_hole && recovery->is_started && found->has_first &&
        found->first.batch_seq > recovery->point.seq + 1) {
        recovery_tell(recovery, "segment %" PRIu64 ": the file is missing\n",
                      recovery->found[i - 1].id + 1);
    }
}

static int walk_one(struct recovery *recovery, size_t i, size_t used_count, struct beyond *beyond,
                    struct err *err)
{
    struct found *found = &recovery->found[i];
    bool is_last = i + 1 == used_count;
    if (found->problem[0] != '\0') {
        tell_problem(recovery, found);
    }
    if (found->is_bad) {
        return 0;
    }
    tell_missing(recovery, i);
    if (!found->must_walk && found->has_footer) {
        recover_skip_sealed(recovery, found);
        return 0;
    }
    if (!found->must_walk) {
        recovery->is_started =
            false; /* its last batch is not known: the next first batch is taken as it is */
        return 0;
    }
    if (found->form == SEGMENT_FORM_COMPACTED) {
        recover_walk_compacted(recovery, found);
        return 0;
    }
    int r = recovery_load(recovery, found, err);
    if (r == 0) {
        recover_walk_segment(recovery, found, is_last, beyond);
    }
    return r;
}

static int walk_used(struct recovery *recovery, size_t used_count, struct recovered *recovered,
                     struct err *err)
{
    choose_walk(recovery, used_count);
    struct beyond beyond = {0};
    for (size_t i = 0; i < used_count; i++) {
        int r = walk_one(recovery, i, used_count, &beyond, err);
        if (r < 0) {
            return r;
        }
    }
    int r = refuse(recovery, err);
    const struct found *last = used_count == 0 ? NULL : &recovery->found[used_count - 1];
    if (r == 0 && last != NULL && !last->has_footer && !last->is_bad) {
        open_active(recovery, last, &beyond, recovered);
    }
    return r;
}

static int recover_all(struct recovery *recovery, struct recovered *recovered, struct err *err)
{
    size_t used_count = 0;
    int r = recovery_list(recovery, err);
    r = r < 0 ? r : recovery_probe(recovery, recovered, err);
    r = r < 0 ? r : count_used(recovery, &used_count, err);
    r = r < 0 ? r : walk_used(recovery, used_count, recovered, err);
    recovered->segment_id_next = used_count == 0 ? 1 : recovery->found[used_count - 1].id + 1;
    r = r < 0 ? r : take_spares(recovery, used_count, recovered, err);
    recovery->report->segments = used_count;
    return r;
}

int recover_run(struct recovered *recovered, const struct recover_options *options,
                struct recovery_report *report, struct err *err)
{
    struct file_io *io = options->io;
    uint64_t begun_at_ns = io->ops->mono_ns(io);
    *recovered = (struct recovered){.segment_id_next = 1};
    struct recovery recovery = {
        .options = options, .io = io, .report = report, .now_ns = io->ops->real_ns(io)};
    int r = recover_all(&recovery, recovered, err);
    struct journal_start *start = &recovered->start;
    start->batch_seq = recovery.point.seq;
    start->lsn = recovery.point.lsn;
    start->keyed_lsn = recovery.point.keyed_lsn;
    start->origin_lsn = recovery.point.origin_lsn;
    start->header_crc = recovery.point.crc;
    report->last_lsn = start->lsn;
    report->duration_ns = io->ops->mono_ns(io) - begun_at_ns;
    if (r < 0) {
        segment_close(&start->active, io);
        for (unsigned i = 0; i < recovered->spare_count; i++) {
            segment_close(&recovered->spares[i], io);
        }
    }
    if (recovery.buffer != NULL) {
        mem_unmap(recovery.buffer, recovery.buffer_bytes);
    }
    walk_file_end(&recovery.file);
    mem_free(recovery.found);
    return r;
}
