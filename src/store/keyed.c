/*
 * keyed: see keyed.h. Writer's thread; nothing here blocks, allocates or fails.
 */
#include "store/keyed.h"

#include <string.h>

struct keyed_walk {
    uint64_t bytes;             /* written at the batch's tail */
    uint64_t first_bytes;       /* of them, the first stored record */
    struct record first_stored; /* borrowed from the ring */
    struct receipt receipt;     /* borrowed from the ring */
    bool has_receipt;
    struct dedup_entry original; /* of the first record that was dropped */
    uint32_t kinds;              /* of what is stored: the header of the batch says exactly those */
    int64_t time_min_ns;
    int64_t time_max_ns;
    struct keyed_result result;
};

static struct record decode(const struct keyed_request *request, uint64_t offset, uint64_t *bytes)
{
    struct record record;
    struct slice rest = {request->records + offset, request->header->records_bytes - offset};
    int64_t n = record_decode(&record, rest, NULL);
    ASSERT(n > 0); /* the shard encoded it */
    *bytes = (uint64_t)n;
    return record;
}

/* The whole request was seen: nothing is stored, the first answer is given again (or 422 for
 * another body). */
static void answer_repeat(const struct keyed_request *request, const struct receipt *receipt,
                          const struct dedup_entry *entry, struct keyed_result *result)
{
    bool is_same = memcmp(receipt->body_digest, entry->body_digest, sizeof entry->body_digest) == 0;
    struct ack_outcome outcome = {.end = request->end,
                                  .verdict = is_same ? OUTCOME_DUPLICATE : OUTCOME_MISMATCH,
                                  .duplicate_count = request->header->record_count,
                                  .form = entry->form,
                                  .accepted = entry->accepted,
                                  .rejected = entry->rejected,
                                  .first_duplicates = entry->duplicates,
                                  .first_lsn = entry->answer_lsn,
                                  .id = entry->id};
    struct slice errors = is_same ? dedup_errors(request->dedup, entry) : (struct slice){NULL, 0};
    batch_add_outcome(request->batch, request->shard, &outcome, errors);
    result->dropped = request->header->record_count;
    result->outcome_bytes = sizeof outcome + errors.bytes;
}

/* Writes the record at `to` with the receipt in front of its own key. 0: does not fit into a
 * record's meta. */
static size_t encode_with_receipt(uint8_t *to, const struct record *from,
                                  const struct receipt *receipt, uint8_t *scratch)
{
    struct slice key = {NULL, 0};
    int has_key = meta_find_dedup_key(&key, from->meta);
    ASSERT(has_key >= 0);
    size_t key_bytes = has_key == 1 ? meta_dedup_key_bytes(key) : 0;
    if (meta_receipt_bytes(receipt) + key_bytes > RECORD_META_BYTES_MAX) {
        return 0;
    }
    size_t bytes = meta_receipt_encode(scratch, receipt);
    bytes += has_key == 1 ? meta_dedup_key_encode(scratch + bytes, key) : 0;
    struct record record = *from;
    record.meta = (struct slice){scratch, bytes};
    return record_encode(to, &record);
}

static void store_record(const struct keyed_request *request, struct keyed_walk *walk,
                         const struct record *record, uint64_t offset, uint64_t bytes)
{
    uint8_t *to = batch_tail(request->batch) + walk->bytes;
    bool is_first = walk->result.stored == 0;
    if (is_first && walk->has_receipt && offset > 0) {
        size_t n = encode_with_receipt(to, record, &walk->receipt, request->scratch);
        walk->has_receipt =
            n > 0; /* 0: cannot be remembered; a repeat is dropped record by record */
        bytes = n > 0 ? n : bytes;
    }
    if (offset == 0 || !is_first || !walk->has_receipt) {
        memcpy(to, request->records + offset, bytes);
    }
    int64_t time_ns = record->event_time_ns;
    if (is_first) {
        walk->first_stored = *record;
        walk->first_bytes = bytes;
        walk->time_min_ns = time_ns;
        walk->time_max_ns = time_ns;
    }
    walk->time_min_ns = time_ns < walk->time_min_ns ? time_ns : walk->time_min_ns;
    walk->time_max_ns = time_ns > walk->time_max_ns ? time_ns : walk->time_max_ns;
    walk->kinds |= 1u << record->kind;
    walk->bytes += bytes;
    walk->result.stored++;
}

/* True when the record's own key was seen; else remembers it. */
static bool is_seen(const struct keyed_request *request, struct keyed_walk *walk,
                    const struct record *record)
{
    struct slice key;
    int found = meta_find_dedup_key(&key, record->meta);
    ASSERT(found >= 0);
    if (found == 0) {
        return false;
    }
    struct dedup_print print = dedup_fingerprint(request->dedup, DEDUP_RECORD(record->kind), key);
    const struct dedup_entry *entry = dedup_find(request->dedup, print, request->now_ns);
    if (entry != NULL) {
        walk->original = walk->result.dropped == 0 ? *entry : walk->original;
        return true;
    }
    struct dedup_entry fresh = {.print = print,
                                .first_lsn = request->next_lsn + walk->result.stored,
                                .seen_at_ns = request->now_ns,
                                .id = record->id};
    dedup_insert(request->dedup, &fresh, (struct slice){NULL, 0});
    walk->result.keyed_lsn = fresh.first_lsn;
    return false;
}

/* Records were dropped: the stored receipt must say how many are in the log. */
static void correct_receipt(const struct keyed_request *request, struct keyed_walk *walk)
{
    walk->receipt.accepted = walk->result.stored;
    walk->receipt.duplicates = walk->result.dropped;
    size_t n = encode_with_receipt(batch_tail(request->batch), &walk->first_stored, &walk->receipt,
                                   request->scratch);
    ASSERT(n == walk->first_bytes); /* the same two items, a number changed */
}

/* A request of which nothing was stored is remembered, too, so that a repeat is answered alike;
 * there is no record that could carry its receipt, so only until the next start, where each of its
 * records is still known by its own key. */
static void remember_receipt(const struct keyed_request *request, const struct keyed_walk *walk,
                             struct dedup_print print)
{
    bool is_any = walk->result.stored > 0;
    struct dedup_entry entry = {.print = print,
                                .first_lsn = request->next_lsn,
                                .seen_at_ns = request->now_ns,
                                .id = is_any ? walk->first_stored.id : walk->original.id,
                                .answer_lsn = is_any ? request->next_lsn : walk->original.first_lsn,
                                .accepted = walk->result.stored,
                                .duplicates = walk->result.dropped,
                                .rejected = walk->receipt.rejected,
                                .form = walk->receipt.form};
    memcpy(entry.body_digest, walk->receipt.body_digest, sizeof entry.body_digest);
    dedup_insert(request->dedup, &entry, walk->receipt.errors);
}

static void walk_records(const struct keyed_request *request, struct keyed_walk *walk)
{
    uint64_t offset = 0;
    for (uint32_t i = 0; i < request->header->record_count; i++) {
        uint64_t bytes = 0;
        struct record record = decode(request, offset, &bytes);
        if (is_seen(request, walk, &record)) {
            walk->result.dropped++;
        } else {
            store_record(request, walk, &record, offset, bytes);
        }
        offset += bytes;
    }
    ASSERT(offset == request->header->records_bytes);
}

static void finish(const struct keyed_request *request, struct keyed_walk *walk)
{
    struct keyed_result *result = &walk->result;
    struct ack_outcome outcome = {
        .end = request->end,
        .verdict = OUTCOME_STORED,
        .stored_count = result->stored,
        .duplicate_count = result->dropped,
        .first_lsn = result->stored > 0 ? request->next_lsn : walk->original.first_lsn,
        .id = result->stored > 0 ? walk->first_stored.id : walk->original.id};
    batch_add_outcome(request->batch, request->shard, &outcome, (struct slice){NULL, 0});
    result->outcome_bytes = sizeof outcome;
    if (result->stored == 0) {
        return;
    }
    ASSERT(walk->bytes <= request->header->records_bytes);
    batch_extend(request->batch, walk->bytes);
    batch_count(request->batch, result->stored, walk->kinds, walk->time_min_ns, walk->time_max_ns);
    request->batch->header.flags |= result->keyed_lsn > 0 ? (uint32_t)BATCH_KEYED : 0u;
}

struct keyed_result keyed_drain(const struct keyed_request *request)
{
    struct keyed_walk walk = {.bytes = 0};
    uint64_t bytes = 0;
    struct record first = decode(request, 0, &bytes);
    int found = meta_find_receipt(&walk.receipt, first.meta);
    ASSERT(found >= 0);
    struct dedup_print print = {0};
    if (found == 1) {
        walk.has_receipt = true;
        print = dedup_fingerprint(request->dedup, DEDUP_RECEIPT, walk.receipt.key);
        const struct dedup_entry *entry = dedup_find(request->dedup, print, request->now_ns);
        if (entry != NULL) {
            answer_repeat(request, &walk.receipt, entry, &walk.result);
            return walk.result;
        }
    }
    walk_records(request, &walk);
    if (walk.has_receipt) {
        if (walk.result.stored > 0 && walk.result.dropped > 0) {
            correct_receipt(request, &walk);
        }
        remember_receipt(request, &walk, print);
        if (walk.result.stored > 0) {
            walk.result.keyed_lsn = u64_max(walk.result.keyed_lsn, request->next_lsn);
        }
    }
    finish(request, &walk);
    return walk.result;
}
