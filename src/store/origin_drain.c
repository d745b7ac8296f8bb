/*
 * origin_drain: see origin_drain.h. Writer's thread; nothing here blocks, allocates or fails.
 *
 * Two walks over the request: the first counts what would have to be remembered, so that a request
 * is refused whole before anything of it is stored; the second stores. A third, over what was stored,
 * remembers it: not before, or the second would not decide as the first did, since what a run tells
 * may speak of a later record under its first name.
 */
#include "store/origin_drain.h"

#include <string.h>

/* One range and what is stored of it. */
struct origin_run {
    struct origin head; /* of the record that began it */
    uint32_t stored;
};

struct origin_walk {
    const struct origin_request *request;
    bool is_storing; /* the second walk */
    struct origin_run run;
    uint32_t run_count;
    uint32_t growth;      /* intervals that the runs with new records would add, at most */
    uint64_t bytes;       /* written at the batch's tail */
    struct ulid first_id; /* of the first stored record */
    uint32_t kinds;
    int64_t time_min_ns;
    int64_t time_max_ns;
    struct origin_result result;
};

static void end_run(struct origin_walk *walk)
{
    const struct origin_run *run = &walk->run;
    if (run->stored == 0 || walk->is_storing) {
        return;
    }
    walk->growth +=
        origin_set_growth(origins_known(walk->request->origins), &run->head.node,
                          run->head.range_kinds, run->head.range_first, run->head.range_last);
}

static void count_record(struct origin_walk *walk, const struct record *record)
{
    int64_t time_ns = record->event_time_ns;
    bool is_first = walk->result.stored == 0;
    walk->first_id = is_first ? record->id : walk->first_id;
    walk->time_min_ns = is_first || time_ns < walk->time_min_ns ? time_ns : walk->time_min_ns;
    walk->time_max_ns = is_first || time_ns > walk->time_max_ns ? time_ns : walk->time_max_ns;
    walk->kinds |= 1u << record->kind;
}

/* The record as it is, but for the range, which the first stored one of the run tells. */
static void store_record(struct origin_walk *walk, const struct record *record,
                         const struct origin *origin, struct slice bytes)
{
    uint8_t *to = batch_tail(walk->request->batch) + walk->bytes;
    struct origin told = {.node = origin->node, .lsn = origin->lsn};
    if (walk->run.stored == 0) {
        told.range_first = walk->run.head.range_first;
        told.range_last = walk->run.head.range_last;
        told.range_kinds = walk->run.head.range_kinds;
    }
    memcpy(to, bytes.data, bytes.bytes);
    (void)meta_origin_encode(to + RECORD_HEADER_BYTES, &told);
    walk->bytes += bytes.bytes;
    count_record(walk, record);
}

static void take_record(struct origin_walk *walk, const struct record *record, struct slice bytes)
{
    struct origin origin;
    struct first_origin first;
    int found = meta_find_origin(&origin, record->meta);
    ASSERT(found == 1);
    bool is_passed = meta_find_first(&first, record->meta) == 1;
    ASSERT(record->meta.data[0] == META_ORIGIN);
    if (origin.range_first != 0) {
        end_run(walk);
        walk->run = (struct origin_run){.head = origin};
        walk->run_count++;
        ASSERT(walk->run_count <= SUBMIT_ORIGIN_RUNS_MAX);
    }
    ASSERT(walk->run_count > 0);
    ASSERT(origin.lsn >= walk->run.head.lsn && origin.lsn <= walk->run.head.range_last);
    ASSERT(memcmp(&origin.node, &walk->run.head.node, sizeof origin.node) == 0);
    if (origins_has(walk->request->origins, &origin, is_passed ? &first : NULL, record->kind)) {
        walk->result.dropped++;
        return;
    }
    if (walk->is_storing) {
        store_record(walk, record, &origin, bytes);
    }
    walk->run.stored++;
    walk->result.stored++;
}

static struct origin_walk walk_records(const struct origin_request *request, bool is_storing)
{
    struct origin_walk walk = {.request = request, .is_storing = is_storing};
    uint64_t offset = 0;
    for (uint32_t i = 0; i < request->header->record_count; i++) {
        struct record record;
        struct slice rest = {request->records + offset, request->header->records_bytes - offset};
        int64_t n = record_decode(&record, rest, NULL);
        ASSERT(n > 0); /* the shard encoded it */
        take_record(&walk, &record, (struct slice){rest.data, (size_t)n});
        offset += (uint64_t)n;
    }
    ASSERT(offset == request->header->records_bytes);
    end_run(&walk);
    return walk;
}

/* Records that follow each other in their first node's log. */
struct passed_run {
    struct ulid node;
    uint64_t first, last; /* 0: none */
    uint32_t count;       /* of runs before it */
};

/* The shard has bounded what the request gives to remember, but what is dropped between leaves more
 * pieces. */
static void end_passed(const struct origin_request *request, struct passed_run *run)
{
    if (run->first == 0) {
        return;
    }
    if (run->count < SUBMIT_ORIGIN_RUNS_MAX) {
        origins_pass(request->origins, &run->node, run->first, run->last, request->next_lsn);
    } else {
        origins_forget(request->origins);
    }
    run->count++;
}

static void remember_passed(const struct origin_request *request, struct passed_run *run,
                            const struct first_origin *first)
{
    bool follows = run->first != 0 && first->lsn == run->last + 1 &&
                   memcmp(&first->node, &run->node, sizeof run->node) == 0;
    if (!follows) {
        end_passed(request, run);
        run->node = first->node;
        run->first = first->lsn;
    }
    run->last = first->lsn;
}

/* What the records at the batch's tail tell: as a start does that finds them in the log. */
static void remember_stored(const struct origin_request *request, struct slice stored)
{
    struct passed_run run = {.first = 0};
    size_t offset = 0;
    while (offset < stored.bytes) { /* on by a record */
        struct record record;
        struct origin origin;
        struct first_origin first;
        int64_t n = record_decode(
            &record, (struct slice){stored.data + offset, stored.bytes - offset}, NULL);
        ASSERT(n > 0);
        offset += (size_t)n;
        int found = meta_find_origin(&origin, record.meta);
        ASSERT(found == 1);
        if (origin.range_first != 0) {
            origins_add(request->origins, &origin.node, origin.range_kinds, origin.range_first,
                        origin.range_last, request->next_lsn);
        }
        if (meta_find_first(&first, record.meta) == 1) {
            remember_passed(request, &run, &first);
        }
    }
    end_passed(request, &run);
}

static void add_outcome(const struct origin_request *request, struct origin_result *result,
                        const struct ack_outcome *outcome)
{
    batch_add_outcome(request->batch, request->shard, outcome, (struct slice){NULL, 0});
    result->outcome_bytes = sizeof *outcome;
}

/* Nothing is stored: what came before cannot be known, or what comes could not be remembered. */
static struct origin_result refuse(const struct origin_request *request)
{
    struct origin_result result = {.is_refused = true};
    struct ack_outcome outcome = {.end = request->end, .verdict = OUTCOME_REFUSED};
    add_outcome(request, &result, &outcome);
    return result;
}

static bool has_room(const struct origin_walk *plan)
{
    const struct origins *origins = plan->request->origins;
    return plan->result.stored == 0 ||
           origin_set_has_room(origins_known(origins), &plan->run.head.node,
                               plan->run.head.range_kinds, plan->growth);
}

struct origin_result origin_drain(const struct origin_request *request)
{
    ASSERT(origins_has_pending_room(request->origins));
    if (origins_is_blind(request->origins)) {
        return refuse(request);
    }
    struct origin_walk plan = walk_records(request, false);
    if (!has_room(&plan)) {
        return refuse(request);
    }
    struct origin_walk walk = walk_records(request, true);
    struct origin_result *result = &walk.result;
    ASSERT(result->stored == plan.result.stored);
    struct ack_outcome outcome = {.end = request->end,
                                  .verdict = OUTCOME_STORED,
                                  .stored_count = result->stored,
                                  .duplicate_count = result->dropped,
                                  .first_lsn = result->stored > 0 ? request->next_lsn : 0,
                                  .id = walk.first_id};
    add_outcome(request, result, &outcome);
    if (result->stored > 0) {
        remember_stored(request, (struct slice){batch_tail(request->batch), walk.bytes});
        batch_extend(request->batch, walk.bytes);
        batch_count(request->batch, result->stored, walk.kinds, walk.time_min_ns, walk.time_max_ns);
        request->batch->header.flags |= BATCH_ORIGIN;
    }
    return walk.result;
}
