/*
 * verify_sealed: see verify_sealed.h. Batches are summed up twice, for the segment and for the block
 * of the index they lie in; the sums are compared where block and segment end.
 */
#include "store/verify_sealed.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "store/digest.h"

/* What batches say, a block's or the segment's. */
struct sum {
    uint64_t first_lsn, last_lsn, first_seq, last_seq;
    uint32_t first_previous_crc, last_crc;
    uint64_t keyed_lsn, durable_lsn, record_count, batch_count, raw_bytes, payload_bytes;
    uint64_t origin_lsn;
    uint32_t kinds, severities;
    int64_t time_min_ns, time_max_ns, built_min_ns, built_max_ns;
};

struct sealed_check {
    struct sealed_check_options options;
    bool is_open;
    bool is_missing; /* batches of it were not seen */
    bool is_denied;  /* the filter's fault is told once for a batch */
    char name[SEGMENT_NAME_BYTES];
    enum segment_form form;
    struct segment_footer footer;
    uint64_t footer_offset;
    uint8_t *blob;
    struct index index; /* entry_count 0: none that can be read */
    bool has_index;
    struct digest *digest;
    struct sum all;
    struct sum block;
    uint32_t entry_next; /* the block behind the open one */
    struct index_entry entry;
    bool is_block_open;
    uint64_t lsn; /* of the record being looked at */
};

static void fault(const struct sealed_check *check, uint64_t offset, uint64_t lsn, const char *what)
{
    check->options.on_fault(check->options.context, check->name, offset, lsn, what);
}

static void fault_footer(const struct sealed_check *check, const char *what)
{
    fault(check, check->footer_offset, check->footer.first_lsn, what);
}

static void fault_block(const struct sealed_check *check, const char *what)
{
    char text[128];
    (void)snprintf(text, sizeof text, "index block %" PRIu32 ": %s", check->entry_next - 1, what);
    fault(check, check->entry.offset, check->entry.first_lsn, text);
}

/* ---- sums ---- */

static void sum_batch(struct sum *sum, const struct batch_header *header)
{
    if (sum->batch_count == 0) {
        sum->first_lsn = header->first_lsn;
        sum->first_seq = header->batch_seq;
        sum->first_previous_crc = header->previous_crc;
        sum->built_min_ns = sum->built_max_ns = header->built_at_ns;
        sum->time_min_ns = INT64_MAX;
        sum->time_max_ns = INT64_MIN;
    }
    sum->last_lsn = header->first_lsn + header->record_count - 1;
    sum->last_seq = header->batch_seq;
    sum->last_crc = header->header_crc;
    sum->keyed_lsn = header->keyed_lsn;
    sum->origin_lsn = header->origin_lsn;
    sum->durable_lsn = u64_max(sum->durable_lsn, header->durable_lsn);
    sum->record_count += header->record_count;
    sum->batch_count++;
    sum->raw_bytes += BATCH_HEADER_BYTES + (uint64_t)header->payload_bytes;
    sum->kinds |= header->kinds;
    sum->built_min_ns =
        header->built_at_ns < sum->built_min_ns ? header->built_at_ns : sum->built_min_ns;
    sum->built_max_ns =
        header->built_at_ns > sum->built_max_ns ? header->built_at_ns : sum->built_max_ns;
}

static void sum_record(struct sum *sum, const struct record *record)
{
    int64_t time_ns = record->event_time_ns;
    sum->payload_bytes += record->payload.bytes;
    sum->severities |= record->severity < 32 ? (uint32_t)1 << record->severity : 0;
    sum->time_min_ns = time_ns < sum->time_min_ns ? time_ns : sum->time_min_ns;
    sum->time_max_ns = time_ns > sum->time_max_ns ? time_ns : sum->time_max_ns;
}

/* Ranges may be wider than what is inside: a header's time range is. */
static bool covers(int64_t min_ns, int64_t max_ns, const struct sum *sum)
{
    return sum->record_count == 0 || (min_ns <= sum->time_min_ns && max_ns >= sum->time_max_ns);
}

/* ---- blocks ---- */

static void block_close(struct sealed_check *check)
{
    const struct index_entry *entry = &check->entry;
    const struct sum *sum = &check->block;
    if (!check->is_block_open) {
        return;
    }
    check->is_block_open = false;
    if ((entry->kinds & sum->kinds) != sum->kinds) {
        fault_block(check, "a kind of its records is missing");
    }
    if ((entry->severities & sum->severities) != sum->severities) {
        fault_block(check, "a severity of its records is missing");
    }
    if (!covers(entry->time_min_ns, entry->time_max_ns, sum)) {
        fault_block(check, "an event time lies outside its range");
    }
    if (entry->built_min_ns > sum->built_min_ns || entry->built_max_ns < sum->built_max_ns) {
        fault_block(check, "a receipt time lies outside its range");
    }
    if (check->is_missing) {
        return;
    }
    if (entry->first_lsn != sum->first_lsn || entry->record_count != sum->record_count ||
        entry->batch_count != sum->batch_count || entry->raw_bytes != sum->raw_bytes) {
        fault_block(check, "its LSNs, counts or bytes are not those of its batches");
    }
}

static bool block_has(const struct index_entry *entry, uint64_t offset)
{
    return offset >= entry->offset && offset - entry->offset < entry->stored_bytes;
}

/* Moves on to the block that holds offset; false when none does. */
static bool block_take(struct sealed_check *check, uint64_t offset)
{
    if (check->is_block_open && block_has(&check->entry, offset)) {
        return true;
    }
    block_close(check);
    while (check->entry_next < check->index.entry_count) {
        index_entry_get(&check->index, check->entry_next++, &check->entry);
        if (block_has(&check->entry, offset)) {
            check->is_block_open = true;
            check->block = (struct sum){0};
            return true;
        }
        if (!check->is_missing) {
            fault_block(check, "no batch of the log is in it");
        }
    }
    return false;
}

/* ---- batches ---- */

static void on_key(void *to, enum index_field field, struct slice value)
{
    struct sealed_check *check = to;
    bool is_found = index_may_have(&check->index, &check->entry, index_key(field, value));
    if (!is_found && !check->is_denied) {
        check->is_denied = true;
        char text[96];
        (void)snprintf(text, sizeof text, "index block %" PRIu32 ": its filter denies a key",
                       check->entry_next - 1);
        fault(check, check->entry.offset, check->lsn, text);
    }
}

static void look_at_records(struct sealed_check *check, const struct walk_batch *batch)
{
    size_t at = 0;
    check->is_denied = false;
    check->lsn = batch->header.first_lsn;
    while (at < batch->payload.bytes) {
        struct record record;
        int64_t bytes = record_decode(
            &record, (struct slice){batch->payload.data + at, batch->payload.bytes - at}, NULL);
        ASSERT(bytes > 0); /* the walk has decoded it once */
        sum_record(&check->all, &record);
        if (check->is_block_open) {
            sum_record(&check->block, &record);
        }
        if (check->is_block_open && check->options.keys != NULL) {
            check->options.keys(check->options.keys_context, &record, on_key, check);
        }
        at += (size_t)bytes;
        check->lsn++;
    }
}

void sealed_check_batch(struct sealed_check *check, const struct walk_batch *batch)
{
    ASSERT(check->is_open);
    digest_add(check->digest, batch->bytes);
    sum_batch(&check->all, &batch->header);
    if (check->has_index && !block_take(check, batch->offset)) {
        fault(check, batch->offset, batch->header.first_lsn, "the index has no block for it");
    }
    if (check->is_block_open) {
        sum_batch(&check->block, &batch->header);
    }
    look_at_records(check, batch);
}

/* ---- the segment ---- */

struct sealed_check *sealed_check_new(const struct sealed_check_options *options)
{
    struct sealed_check *check = mem_alloc(sizeof *check);
    check->options = *options;
    check->digest = digest_new();
    return check;
}

void sealed_check_free(struct sealed_check *check)
{
    mem_free(check->blob);
    digest_free(check->digest);
    mem_free(check);
}

int sealed_check_begin(struct sealed_check *check, const struct walk_file *file, bool is_partial,
                       struct err *err)
{
    ASSERT(!check->is_open);
    ASSERT(file->has_footer);
    check->is_open = true;
    check->is_missing = is_partial;
    (void)snprintf(check->name, sizeof check->name, "%s", file->name);
    check->form = file->form;
    check->footer = file->footer;
    check->footer_offset = file->file_bytes - STORE_BLOCK_BYTES;
    check->all = (struct sum){0};
    check->is_block_open = false;
    check->entry_next = 0;
    check->index = (struct index){0};
    mem_free(check->blob);
    check->blob = NULL;
    digest_reset(check->digest);
    struct err why = {0};
    int result = walk_index_read(&check->blob, &check->index, file, &why);
    check->has_index = result == 0;
    if (result == ERR_CORRUPT) {
        fault(check, check->footer.index_offset, check->footer.first_lsn, why.text);
        check->index = (struct index){0};
        result = 0;
    }
    return result < 0 ? err_set(err, result, "%s", why.text) : 0;
}

bool sealed_check_is_of(const struct sealed_check *check, const struct walk_file *file)
{
    return check->is_open && strcmp(check->name, file->name) == 0;
}

void sealed_check_miss(struct sealed_check *check)
{
    /* What was damaged when it was sealed is in no sum of it either. */
    bool is_known = (check->footer.flags & SEALED_DAMAGED) != 0;
    check->is_missing = check->is_missing || !is_known;
}

static void compare_sums(const struct sealed_check *check)
{
    const struct segment_footer *footer = &check->footer;
    const struct sum *sum = &check->all;
    uint8_t digest[DIGEST_BYTES];
    digest_get(check->digest, digest);
    if (footer->first_lsn != sum->first_lsn || footer->last_lsn != sum->last_lsn ||
        footer->record_count != sum->record_count) {
        fault_footer(check, "footer: its LSNs are not those of the batches");
    }
    if (footer->first_seq != sum->first_seq || footer->last_seq != sum->last_seq ||
        footer->first_previous_crc != sum->first_previous_crc ||
        footer->last_crc != sum->last_crc) {
        fault_footer(check, "footer: its place in the chain is not that of the batches");
    }
    if (footer->keyed_lsn != sum->keyed_lsn || footer->durable_lsn != sum->durable_lsn ||
        footer->origin_lsn != sum->origin_lsn) {
        fault_footer(check,
                     "footer: keyed_lsn, origin_lsn or durable_lsn is not that of the batches");
    }
    if (footer->raw_bytes != sum->raw_bytes || footer->payload_bytes != sum->payload_bytes) {
        fault_footer(check, "footer: its bytes are not those of the batches");
    }
    if (memcmp(footer->content_digest, digest, sizeof digest) != 0) {
        fault_footer(check, "footer: its digest is not that of the batches");
    }
}

void sealed_check_end(struct sealed_check *check)
{
    const struct segment_footer *footer = &check->footer;
    const struct sum *sum = &check->all;
    if (!check->is_open) {
        return;
    }
    block_close(check);
    check->is_open = false;
    if ((footer->kinds & sum->kinds) != sum->kinds ||
        (footer->severities & sum->severities) != sum->severities) {
        fault_footer(check, "footer: a kind or severity of its records is missing");
    }
    if (!covers(footer->time_min_ns, footer->time_max_ns, sum)) {
        fault_footer(check, "footer: an event time lies outside its range");
    }
    if (footer->built_min_ns > sum->built_min_ns || footer->built_max_ns < sum->built_max_ns) {
        fault_footer(check, "footer: a receipt time lies outside its range");
    }
    if (check->is_missing) {
        return;
    }
    if (check->has_index && check->entry_next < check->index.entry_count) {
        fault(check, footer->index_offset, footer->last_lsn,
              "index: it has blocks behind the last batch");
    }
    compare_sums(check);
}
