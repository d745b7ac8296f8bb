/*
 * walk_outlook: see walk_outlook.h. Every valid header that could follow is a witness; the one with
 * the smallest batch_seq that is whole, and not superseded by a later segment, is where the log may
 * go on.
 */
#include "store/walk_outlook.h"

/* True when a later segment begins before this LSN: then the log went on there. */
static bool is_superseded(const struct log_walk *walk, size_t index, uint64_t lsn)
{
    for (size_t i = index + 1; i < walk->table.count; i++) {
        const struct walk_segment *segment = &walk->table.segments[i];
        if (segment->first_seq != 0 && !segment->is_bad && segment->first_lsn < lsn) {
            return true;
        }
    }
    return false;
}

static int outlook_batch(struct log_walk *walk, size_t index, uint64_t place,
                         const struct batch_header *header, struct outlook *outlook)
{
    if (header->batch_seq < walk->expect.seq) {
        return 0;
    }
    outlook->headers++;
    outlook->durable_lsn = u64_max(outlook->durable_lsn, header->durable_lsn);
    bool is_better =
        !outlook->has_resume || header->batch_seq < outlook->resume.batch_seq ||
        (header->batch_seq == outlook->resume.batch_seq && index > outlook->resume_index);
    /* The very batch we expect may lie further on, behind a second copy of the one before it that
     * is damaged. */
    bool is_next = walk_continues(&walk->expect, header, NULL);
    bool is_later = header->batch_seq > walk->expect.seq && header->first_lsn >= walk->expect.lsn;
    if (!is_better || !(is_next || is_later) || is_superseded(walk, index, header->first_lsn)) {
        return 0;
    }
    struct walk_batch batch;
    struct err reason = {0};
    int result = walk_batch_at(walk, index, place, &batch, &reason);
    if (result > 0) {
        outlook->has_resume = true;
        outlook->resume_index = index;
        outlook->resume_place = place;
        outlook->resume = batch.header;
    }
    return result < 0 ? result : 0;
}

/* A later segment that its footer describes: its first batch and the footer say all there is to
 * know, when that batch can be read and is not before what we expect. 1, 0: look at all, -errno. */
static int outlook_sealed(struct log_walk *walk, size_t index, struct outlook *outlook,
                          struct err *reason)
{
    const struct segment_footer *footer = &walk->table.segments[index].footer;
    bool is_described = index > walk->current && walk->table.segments[index].has_footer &&
                        (footer->flags & SEALED_DAMAGED) == 0;
    struct walk_batch batch;
    if (!is_described) {
        return 0;
    }
    int result = walk_batch_at(walk, index, WALK_FILE_BEGIN, &batch, reason);
    if (result <= 0 || batch.header.batch_seq != footer->first_seq ||
        batch.header.batch_seq < walk->expect.seq) {
        return result < 0 ? result : 0;
    }
    outlook->durable_lsn = u64_max(outlook->durable_lsn, footer->durable_lsn);
    struct batch_header header = batch.header;
    result = outlook_batch(walk, index, WALK_FILE_BEGIN, &header, outlook);
    return result < 0 ? result : 1;
}

/* Every valid header from place on. */
static int outlook_segment(struct log_walk *walk, size_t index, uint64_t place,
                           struct outlook *outlook, struct err *err)
{
    struct err reason = {0};
    const struct walk_segment *segment = &walk->table.segments[index];
    if (segment->has_footer && !segment->is_bad) { /* only what is durable is ever sealed */
        outlook->durable_lsn = u64_max(outlook->durable_lsn, segment->footer.last_lsn);
    }
    int result = walk_take_file(walk, index, &reason);
    if (result > 0) {
        result = outlook_sealed(walk, index, outlook, &reason);
        place = result > 0 ? walk->file.end : place;
    } else if (result == 0) {
        place = UINT64_MAX;
    }
    while (result >= 0 && place < walk->file.end) { /* skip leads on by a header at least */
        struct batch_header header;
        result = walk_file_header(&walk->file, place, &header, &reason);
        uint64_t next = walk_file_skip(&walk->file, place, result > 0 ? &header : NULL);
        if (result > 0) {
            result = outlook_batch(walk, index, place, &header, outlook);
        }
        place = next;
    }
    return result < 0 ? err_set(err, result, "%s", reason.text) : 0;
}

bool walk_has_left(const struct log_walk *walk)
{
    const struct walk_segment *segment = &walk->table.segments[walk->current];
    return walk->expect.seq != 0 && segment->has_footer && !segment->is_bad &&
           walk->expect.seq > segment->footer.last_seq;
}

int walk_outlook_take(struct log_walk *walk, struct outlook *outlook, struct err *err)
{
    uint64_t place = walk_has_left(walk) ? UINT64_MAX : walk->place;
    *outlook = (struct outlook){0};
    for (size_t i = walk->current; i < walk->table.count; i++) {
        int result =
            outlook_segment(walk, i, i == walk->current ? place : WALK_FILE_BEGIN, outlook, err);
        if (result < 0) {
            return result;
        }
    }
    return 0;
}

/* True when the batch that should be here had been durable. Without knowing what to expect, the
 * batch we could go on with must itself be preceded by something durable in its own segment. */
bool walk_outlook_proves_damage(const struct log_walk *walk, const struct outlook *outlook)
{
    if (walk->expect.seq != 0) {
        return outlook->durable_lsn >= walk->expect.lsn;
    }
    return outlook->has_resume && outlook->resume_place != WALK_FILE_BEGIN &&
           outlook->resume.first_lsn > 1 && outlook->durable_lsn + 1 >= outlook->resume.first_lsn;
}
