/*
 * log_walk: see log_walk.h. The main path is log_walk_next: look at the batch where we stand; when
 * it continues the log, hand it out; when not, walk_break finds out whether the log goes on in a
 * later segment, is damaged, or ends here.
 *
 * A live server may be ahead of us, so damage is only reported when a second look, after the
 * witness was seen, finds the place still invalid: whoever witnesses a batch was written after it.
 * A file that is not there any more is never taken for damage: the directory is listed again.
 */
#include "store/log_walk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "store/walk_outlook.h"

/* Beside the events: */
enum {
    WALK_AGAIN = 100, /* there is something to read after all */
};

/* ---- files ---- */

static void walk_drop_file(struct log_walk *walk)
{
    walk_file_close(&walk->file);
    walk->file_of = SIZE_MAX;
}

/* Opens the file of that segment: 1; 0 when it cannot be what its name says; -errno. */
int walk_take_file(struct log_walk *walk, size_t index, struct err *err)
{
    const struct walk_segment *segment = &walk->table.segments[index];
    if (walk->file_of == index) {
        return 1;
    }
    if (segment->is_bad) {
        (void)err_set(err, ERR_CORRUPT, "%s", segment->problem);
        return 0;
    }
    walk_drop_file(walk);
    int result = walk_file_open(&walk->file, walk->io, segment->id, segment->form, err);
    if (result < 0) {
        return result == ERR_CORRUPT || result == ERR_VERSION ? 0 : result;
    }
    walk->file_of = index;
    return 1;
}

/* The whole batch: 1 valid by itself, 0 not, -errno. */
int walk_batch_at(struct log_walk *walk, size_t index, uint64_t place, struct walk_batch *batch,
                  struct err *reason)
{
    int result = walk_take_file(walk, index, reason);
    return result <= 0 ? result : walk_file_batch(&walk->file, place, batch, reason);
}

bool walk_continues(const struct walk_expect *expect, const struct batch_header *header,
                    struct err *reason)
{
    if (expect->seq == 0) {
        return true;
    }
    if (header->batch_seq != expect->seq || header->first_lsn != expect->lsn) {
        (void)err_set(reason, ERR_CORRUPT,
                      "batch %" PRIu64 " from LSN %" PRIu64 " where %" PRIu64 " from %" PRIu64
                      " belongs",
                      header->batch_seq, header->first_lsn, expect->seq, expect->lsn);
        return false;
    }
    if (header->previous_crc != expect->previous_crc) {
        (void)err_set(reason, ERR_CORRUPT, "batch %" PRIu64 " does not follow the one before it",
                      header->batch_seq);
        return false;
    }
    return true;
}

/* ---- where we stand ---- */

static void walk_stand(struct log_walk *walk, size_t index, uint64_t place)
{
    walk->current = index;
    walk->place = place;
    walk->is_end_known = false;
}

/* What the beginning of the log must be: the first segment of all begins with 1; of a sealed one
 * its footer knows. */
static struct walk_expect expect_first(const struct log_walk *walk, size_t index)
{
    if (walk->table.count == 0) {
        return (struct walk_expect){0};
    }
    const struct walk_segment *segment = &walk->table.segments[index];
    if (segment->id == 1) {
        return (struct walk_expect){1, 1, 0};
    }
    bool is_known = !segment->is_bad && segment->has_footer && segment->footer.first_seq != 0;
    return is_known ? (struct walk_expect){segment->footer.first_seq, segment->footer.first_lsn,
                                           segment->footer.first_previous_crc}
                    : (struct walk_expect){0};
}

/* The segment we stand in has taken its other form: finds the place again. 0 or -errno. */
static int walk_find_place(struct log_walk *walk, struct err *err)
{
    struct err reason = {0};
    int result = walk_take_file(walk, walk->current, &reason);
    uint64_t place = WALK_FILE_BEGIN;
    if (result > 0 && walk->expect.seq != 0) {
        place = walk_file_seek(&walk->file, walk->expect.lsn);
    }
    bool is_found = result <= 0 || walk->expect.seq == 0;
    while (!is_found && place < walk->file.end) { /* on by a batch, a block or a frame each time */
        struct batch_header header;
        result = walk_file_header(&walk->file, place, &header, &reason);
        if (result < 0) {
            break;
        }
        is_found = result > 0 && header.batch_seq >= walk->expect.seq;
        if (!is_found) {
            place = result > 0 ? place + walk_file_stride(&walk->file, &header)
                               : walk_file_skip(&walk->file, place, NULL);
        }
    }
    walk_stand(walk, walk->current, place);
    return result < 0 ? err_set(err, result, "%s", reason.text) : 0;
}

/* Lists the directory again and finds our place in it. */
static int walk_refresh(struct log_walk *walk, struct err *err)
{
    struct walk_segment standing = {0};
    if (walk->table.count != 0) {
        standing = walk->table.segments[walk->current];
    }
    walk_drop_file(walk);
    int result = walk_table_list(&walk->table, walk->io, &walk->file, err);
    walk->current = 0;
    if (result < 0 || walk->table.count == 0 || standing.id == 0) {
        return result;
    }
    const struct walk_segment *segments = walk->table.segments;
    while (walk->current + 1 < walk->table.count && segments[walk->current].id < standing.id) {
        walk->current++;
    }
    if (segments[walk->current].id == standing.id) {
        bool is_other = segments[walk->current].form != standing.form;
        return is_other && walk->place != WALK_FILE_BEGIN ? walk_find_place(walk, err) : 0;
    }
    if (segments[0].id > standing.id) {
        /* Where we stood has expired: go on with what is left, whatever comes first there. */
        walk->expect = expect_first(walk, 0);
    }
    walk_stand(walk, walk->current, WALK_FILE_BEGIN);
    return 0;
}

/* ---- breaks ---- */

/* True when a later segment begins with the same batch_seq: no I/O. */
static bool is_written_again(const struct log_walk *walk, uint64_t seq)
{
    for (size_t i = walk->current + 1; i < walk->table.count; i++) {
        if (walk->table.segments[i].first_seq == seq) {
            return true;
        }
    }
    return false;
}

/* The latest segment that begins with the batch we expect, so that a batch written again wins over
 * its first copy. 1 and it is valid and continues the log, 0 none, -errno. */
static int find_successor(struct log_walk *walk, const struct walk_expect *expect, size_t *found,
                          struct err *err)
{
    for (size_t i = walk->table.count; i-- > walk->current + 1;) {
        if (expect->seq == 0 || walk->table.segments[i].first_seq != expect->seq) {
            continue;
        }
        struct walk_batch batch;
        struct err reason = {0};
        int result = walk_batch_at(walk, i, WALK_FILE_BEGIN, &batch, &reason);
        if (result < 0) {
            return err_set(err, result, "%s", reason.text);
        }
        if (result > 0 && walk_continues(expect, &batch.header, &reason)) {
            *found = i;
            return 1;
        }
    }
    return 0;
}

/* The segment whose footer says that it begins with the batch we expect, though that cannot be
 * read: the damage is there. */
static bool find_sealed_successor(const struct log_walk *walk, size_t *found)
{
    for (size_t i = walk->table.count; i-- > walk->current + 1;) {
        const struct walk_segment *segment = &walk->table.segments[i];
        if (segment->has_footer && !segment->is_bad && walk->expect.seq != 0 &&
            segment->footer.first_seq == walk->expect.seq &&
            segment->footer.first_lsn == walk->expect.lsn) {
            *found = i;
            return true;
        }
    }
    return false;
}

/* Where the log goes on as it should: with the batch we expect, or, at the beginning of a log whose
 * first segments have expired, in the first segment that holds anything (one whose only writes
 * failed holds nothing). */
static bool outlook_goes_on(struct log_walk *walk, const struct outlook *outlook)
{
    if (!outlook->has_resume) {
        return false;
    }
    if (walk->expect.seq != 0 && walk_continues(&walk->expect, &outlook->resume, NULL)) {
        walk_stand(walk, outlook->resume_index, outlook->resume_place);
        return true;
    }
    if (walk->expect.seq == 0 && outlook->resume_index != walk->current) {
        walk_stand(walk, outlook->resume_index, WALK_FILE_BEGIN);
        return true;
    }
    return false;
}

/* A segment is missing between where we stand and where the log goes on: fills its
 * name. */
static bool gap_is_missing(const struct log_walk *walk, const struct outlook *outlook, char *name)
{
    uint64_t id = walk->table.segments[walk->current].id;
    bool is_missing = outlook->has_resume && outlook->resume_place == WALK_FILE_BEGIN &&
                      outlook->resume_index == walk->current + 1 &&
                      walk->table.segments[outlook->resume_index].id > id + 1;
    if (is_missing) {
        segment_name(name, id + 1);
    }
    return is_missing;
}

static int walk_report(struct log_walk *walk, const struct outlook *outlook, struct walk_gap *gap,
                       const struct err *reason)
{
    const struct walk_segment *segment = &walk->table.segments[walk->current];
    bool is_open = walk->file_of == walk->current;
    *gap = (struct walk_gap){
        .offset = is_open ? walk_file_offset(&walk->file, walk->place) : walk->place,
        .first_lsn = walk->expect.seq != 0 ? walk->expect.lsn : outlook->resume.first_lsn,
        .last_lsn = outlook->has_resume ? outlook->resume.first_lsn - 1 : outlook->durable_lsn,
    };
    if (gap_is_missing(walk, outlook, gap->name)) {
        gap->offset = 0;
        (void)snprintf(gap->text, sizeof gap->text, "the file is missing");
    } else {
        walk_segment_name(gap->name, segment);
        (void)snprintf(gap->text, sizeof gap->text, "%.250s", reason->text);
    }
    if (outlook->has_resume) {
        walk->expect = (struct walk_expect){outlook->resume.batch_seq, outlook->resume.first_lsn,
                                            outlook->resume.previous_crc};
        walk_stand(walk, outlook->resume_index, outlook->resume_place);
    } else if (segment->has_footer && !segment->is_bad &&
               segment->footer.last_seq >= walk->expect.seq) {
        /* The rest of a sealed segment: its footer says what a later one will begin with. */
        walk->expect = (struct walk_expect){segment->footer.last_seq + 1,
                                            segment->footer.last_lsn + 1, segment->footer.last_crc};
        walk_stand(walk, walk->current, is_open ? walk->file.end : walk->place);
    } else {
        walk->is_over = true;
    }
    return WALK_GAP;
}

/* The end of the log as it is now. What the block here holds decides whether something was torn. */
static int walk_end(struct log_walk *walk, const struct outlook *outlook, struct err *err)
{
    struct err reason = {0};
    walk->torn_batches = outlook->headers;
    walk->is_end_known = true;
    int result = walk_has_left(walk) ? 0 : walk_take_file(walk, walk->current, &reason);
    if (result > 0) {
        result = walk_file_has_bytes(&walk->file, walk->place, &reason);
    }
    if (result < 0) {
        return err_set(err, result, "%s", reason.text);
    }
    if (result > 0 && outlook->headers == 0) {
        walk->torn_batches = 1;
    }
    return WALK_END;
}

/* Something valid follows the batch that is not here, or nothing does: an event, or WALK_AGAIN. */
static int walk_judge(struct log_walk *walk, struct outlook *outlook, struct walk_gap *gap,
                      const struct err *reason, struct err *err)
{
    if (outlook_goes_on(walk, outlook)) {
        return WALK_AGAIN;
    }
    if (!walk_outlook_proves_damage(walk, outlook)) {
        return walk_end(walk, outlook, err);
    }
    if (walk->expect.seq != 0 && outlook->resume.first_lsn > outlook->durable_lsn + 1) {
        outlook->has_resume = false; /* whole, but behind a torn one: not part of the log */
    }
    /* A writer may have filled the place since: then it must be valid now. */
    struct walk_batch batch;
    struct err again = {0};
    walk_drop_file(walk);
    int result =
        walk_has_left(walk) ? 0 : walk_batch_at(walk, walk->current, walk->place, &batch, &again);
    if (result == -ENOENT) {
        return result;
    }
    if (result > 0 && walk->expect.seq != 0 &&
        walk_continues(&walk->expect, &batch.header, &again)) {
        return WALK_AGAIN;
    }
    return walk_report(walk, outlook, gap, reason);
}

/* The batch here does not continue the log. Returns an event, WALK_AGAIN, or -errno. */
static int walk_break(struct log_walk *walk, struct walk_gap *gap, const struct err *reason,
                      struct err *err)
{
    size_t successor = 0;
    uint64_t id = walk->table.segments[walk->current].id;
    enum segment_form form = walk->table.segments[walk->current].form;
    int result = walk_refresh(walk, err);
    if (result < 0 || walk->table.count == 0) {
        return result;
    }
    const struct walk_segment *standing = &walk->table.segments[walk->current];
    if (standing->id != id || standing->form != form) {
        return WALK_AGAIN; /* what is wrong was wrong with a file that is gone */
    }
    result = find_successor(walk, &walk->expect, &successor, err);
    if (result < 0) {
        return result;
    }
    if (result > 0 || find_sealed_successor(walk, &successor)) {
        walk_stand(walk, successor, WALK_FILE_BEGIN);
        return WALK_AGAIN;
    }
    if (walk->is_end_known) {
        return WALK_END; /* the rest was searched when we came here first */
    }
    struct outlook outlook;
    result = walk_outlook_take(walk, &outlook, err);
    return result < 0 ? result : walk_judge(walk, &outlook, gap, reason, err);
}

/* A file that cannot be what its name says is damage wherever it stands; what it held shows as a
 * gap later. */
static bool walk_bad_segment(struct log_walk *walk, struct walk_gap *gap)
{
    for (size_t i = 0; i < walk->table.count; i++) {
        struct walk_segment *segment = &walk->table.segments[i];
        if (segment->problem[0] != '\0' && !segment->is_told) {
            segment->is_told = true;
            *gap = (struct walk_gap){.first_lsn = 1};
            (void)snprintf(gap->name, sizeof gap->name, "%s", segment->problem_name);
            (void)snprintf(gap->text, sizeof gap->text, "%s", segment->problem);
            return true;
        }
    }
    return false;
}

/* Hands the batch out and steps behind it. */
static int walk_take(struct log_walk *walk, const struct walk_batch *batch)
{
    const struct batch_header *header = &batch->header;
    uint64_t stride = walk_file_stride(&walk->file, header);
    walk->place += stride;
    walk->bytes += stride;
    walk->expect = (struct walk_expect){
        .seq = header->batch_seq + 1,
        .lsn = header->first_lsn + header->record_count,
        .previous_crc = header->header_crc,
    };
    walk->is_end_known = false;
    return WALK_BATCH;
}

/* One look at the place where we stand: an event, WALK_AGAIN, or -errno. */
static int walk_step(struct log_walk *walk, struct walk_batch *batch, struct walk_gap *gap,
                     struct err *err)
{
    struct err reason = {0};
    size_t successor = 0;
    int result = 0;
    if (walk_has_left(walk)) {
        (void)err_set(&reason, ERR_CORRUPT, "the segment ends");
    } else {
        result = walk_batch_at(walk, walk->current, walk->place, batch, &reason);
    }
    if (result < 0 && result != -ENOENT) {
        return err_set(err, result, "%s", reason.text);
    }
    if (result <= 0 || !walk_continues(&walk->expect, &batch->header, &reason)) {
        walk_file_forget(&walk->file); /* what was read ahead may be old by now */
        return walk_break(walk, gap, &reason, err);
    }
    struct walk_expect same = {batch->header.batch_seq, batch->header.first_lsn,
                               batch->header.previous_crc};
    if (LIKELY(!is_written_again(walk, same.seq))) {
        return walk_take(walk, batch);
    }
    result = find_successor(walk, &same, &successor, err);
    if (result < 0) {
        return result;
    }
    if (result > 0) {
        walk_stand(walk, successor, WALK_FILE_BEGIN);
        walk->expect = same;
        return WALK_AGAIN;
    }
    /* Looking at the other segments has moved the window. */
    result = walk_batch_at(walk, walk->current, walk->place, batch, &reason);
    if (result == 0) {
        char name[SEGMENT_NAME_BYTES];
        walk_segment_name(name, &walk->table.segments[walk->current]);
        return err_set(err, -EIO, "%s changed while it was read", name);
    }
    return result < 0 ? err_set(err, result, "%s", reason.text) : walk_take(walk, batch);
}

/* walk_step; a file that vanished between two looks at the directory is no error. */
static int walk_step_or_list(struct log_walk *walk, struct walk_batch *batch, struct walk_gap *gap,
                             struct err *err)
{
    struct err why = {0};
    int result = walk_step(walk, batch, gap, &why);
    if (result == -ENOENT) {
        result = walk_refresh(walk, &why);
        result = result == 0 || result == -ENOENT ? WALK_AGAIN : result;
    }
    return result < 0 ? err_set(err, result, "%s", why.text) : result;
}

int log_walk_next(struct log_walk *walk, struct walk_batch *batch, struct walk_gap *gap,
                  struct err *err)
{
    int result = walk_bad_segment(walk, gap) ? WALK_GAP : WALK_AGAIN;
    if (walk->is_end_known) {
        walk_drop_file(walk); /* what was read at the end may be old by now */
    }
    /* Each round that does not answer moves to a later segment, finds a batch where there was none,
     * or has lost a file to compaction or expiry. */
    size_t rounds = 4 * walk->table.count + 8;
    for (size_t i = 0; i < rounds && result == WALK_AGAIN; i++) {
        bool is_over = walk->is_over || walk->table.count == 0;
        result = is_over ? WALK_END : walk_step_or_list(walk, batch, gap, err);
    }
    if (result != WALK_BATCH) {
        *batch = (struct walk_batch){0}; /* nobody takes the wreck for a batch */
    }
    return result == WALK_AGAIN ? WALK_END : result;
}

/* ---- life ---- */

/* Where from_lsn is, or one segment before: a segment may begin with a batch that an earlier one
 * holds as well. */
static void walk_seek(struct log_walk *walk, uint64_t from_lsn)
{
    size_t index = 0;
    for (size_t i = 0; i < walk->table.count; i++) {
        const struct walk_segment *segment = &walk->table.segments[i];
        if (segment->first_seq != 0 && !segment->is_bad && segment->first_lsn <= from_lsn) {
            index = i;
        }
    }
    walk_stand(walk, index == 0 ? 0 : index - 1, WALK_FILE_BEGIN);
    walk->expect = expect_first(walk, walk->current);
}

static int walk_open(struct log_walk **walk, struct file_io *io, uint64_t from_lsn,
                     bool reads_around, struct err *err)
{
    struct log_walk *made = mem_alloc(sizeof *made);
    made->io = io;
    made->file.reads_around = reads_around;
    made->file_of = SIZE_MAX;
    int result = walk_refresh(made, err);
    if (result == 0 && made->table.count == 0) {
        result = err_set(err, -ENOENT, "there is no log here");
    }
    if (result < 0) {
        log_walk_close(made);
        return result;
    }
    walk_seek(made, from_lsn);
    *walk = made;
    return 0;
}

int log_walk_open(struct log_walk **walk, struct file_io *io, uint64_t from_lsn, struct err *err)
{
    return walk_open(walk, io, from_lsn, false, err);
}

int log_walk_open_around(struct log_walk **walk, struct file_io *io, uint64_t from_lsn,
                         struct err *err)
{
    return walk_open(walk, io, from_lsn, true, err);
}

void log_walk_read_around(struct log_walk *walk, bool reads_around)
{
    if (walk->file.reads_around == reads_around) {
        return;
    }
    walk->file.reads_around = reads_around;
    walk->file.window_bytes = 0; /* only forgotten: who was given a batch in it may still look */
}

void log_walk_close(struct log_walk *walk)
{
    if (walk == NULL) {
        return;
    }
    walk_file_end(&walk->file);
    walk_table_end(&walk->table);
    mem_free(walk);
}

const struct walk_file *log_walk_file(const struct log_walk *walk)
{
    ASSERT(walk->file_of == walk->current);
    return &walk->file;
}

uint64_t log_walk_torn_batches(const struct log_walk *walk)
{
    return walk->torn_batches;
}

uint64_t log_walk_segments(const struct log_walk *walk)
{
    return walk->table.count;
}

uint64_t log_walk_bytes(const struct log_walk *walk)
{
    return walk->bytes;
}

void log_walk_progress(const struct log_walk *walk, uint64_t *done, uint64_t *all)
{
    *done = *all = 0;
    for (size_t i = 0; i < walk->table.count; i++) {
        uint64_t bytes = walk->table.segments[i].file_bytes;
        *all += bytes;
        *done += i < walk->current ? bytes : 0;
    }
    if (walk->file_of == walk->current) {
        *done += u64_min(walk_file_offset(&walk->file, walk->place), walk->file.file_bytes);
    }
}
