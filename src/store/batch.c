/*
 * batch: memory of one durable write; see batch.h. Owned by the writer's thread; nothing here fails
 * after batch_init.
 */
#include "store/batch.h"

#include <errno.h>
#include <string.h>

#include "core/crc32c.h"
#include "core/mem.h"

#define BATCH_HUGE_PAGE_BYTES MIB(2)

int batch_init(struct batch *batch, uint64_t payload_max, struct err *err)
{
    *batch = (struct batch){.state = BATCH_FREE, .payload_max = payload_max};
    batch->memory_bytes = batch_file_bytes(payload_max);
    batch->memory = mem_map_huge(batch->memory_bytes);
    batch->outcome_memory = mem_map(BATCH_OUTCOME_BYTES);
    if (batch->memory == NULL || batch->outcome_memory == NULL) {
        batch_close(batch);
        return err_set(err, -ENOMEM, "map %llu bytes for a batch",
                       (unsigned long long)batch->memory_bytes);
    }
    return 0;
}

void batch_close(struct batch *batch)
{
    if (batch->memory != NULL) {
        mem_unmap(batch->memory, batch->memory_bytes);
    }
    if (batch->outcome_memory != NULL) {
        mem_unmap(batch->outcome_memory, BATCH_OUTCOME_BYTES);
    }
    batch->memory = NULL;
    batch->outcome_memory = NULL;
}

void batch_begin(struct batch *batch, uint64_t first_lsn)
{
    ASSERT(batch->state == BATCH_FREE);
    batch->state = BATCH_BUILDING;
    batch->header = (struct batch_header){.first_lsn = first_lsn};
    batch->payload_bytes = 0;
    batch->oldest_at_ns = 0;
    batch->attempts = 0;
    batch->request_count = 0;
    batch->run_count = 0;
    batch->runs_published = 0;
    batch->outcome_bytes = 0;
    batch->outcomes_published = 0;
}

void batch_end(struct batch *batch, uint64_t keep_bytes)
{
    ASSERT(batch->state == BATCH_WRITTEN || batch->state == BATCH_ABANDONED);
    batch->state = BATCH_FREE;
    /* Whole huge pages: giving back a part of one would break it up, and then the rest is pinned
     * page by page again. */
    uint64_t keep = align_up(keep_bytes, BATCH_HUGE_PAGE_BYTES);
    if (batch->touched_bytes > keep) {
        mem_release_pages(batch->memory + keep, batch->touched_bytes - keep);
        batch->touched_bytes = keep;
    }
}

void batch_copy(struct batch *batch, const uint8_t *records, uint64_t bytes)
{
    ASSERT(bytes % RECORD_ALIGN == 0);
    ASSERT(batch->payload_bytes + bytes <= batch->payload_max);
    batch->header.payload_crc =
        crc32c_copy(batch->header.payload_crc, batch_tail(batch), records, bytes);
    batch->payload_bytes += bytes;
}

void batch_extend(struct batch *batch, uint64_t bytes)
{
    ASSERT(bytes % RECORD_ALIGN == 0);
    ASSERT(batch->payload_bytes + bytes <= batch->payload_max);
    batch->header.payload_crc = crc32c(batch->header.payload_crc, batch_tail(batch), bytes);
    batch->payload_bytes += bytes;
}

void batch_count(struct batch *batch, uint32_t records, uint32_t kinds, int64_t time_min_ns,
                 int64_t time_max_ns)
{
    struct batch_header *header = &batch->header;
    bool is_first = header->record_count == 0;
    header->time_min_ns =
        is_first || time_min_ns < header->time_min_ns ? time_min_ns : header->time_min_ns;
    header->time_max_ns =
        is_first || time_max_ns > header->time_max_ns ? time_max_ns : header->time_max_ns;
    header->record_count += records;
    header->kinds |= kinds;
}

void batch_run_extend(struct batch *batch, uint32_t shard, uint64_t end, uint64_t first_lsn)
{
    if (batch->run_count > 0 && batch->runs[batch->run_count - 1].shard == shard) {
        batch->runs[batch->run_count - 1].end = end;
        return;
    }
    ASSERT(batch->run_count < BATCH_RUNS_MAX);
    batch->runs[batch->run_count] =
        (struct batch_run){.end = end, .first_lsn = first_lsn, .shard = shard};
    batch->run_count++;
}

bool batch_has_run_room(const struct batch *batch)
{
    return batch->run_count < BATCH_RUNS_MAX;
}

static uint64_t outcome_room(uint64_t errors_bytes)
{
    return sizeof(struct batch_outcome) + align_up(sizeof(struct ack_outcome) + errors_bytes, 16);
}

bool batch_has_outcome_room(const struct batch *batch)
{
    return batch->outcome_bytes + outcome_room(OUTCOME_ERRORS_BYTES_MAX) <= BATCH_OUTCOME_BYTES;
}

void batch_add_outcome(struct batch *batch, uint32_t shard, const struct ack_outcome *outcome,
                       struct slice errors)
{
    ASSERT(errors.bytes <= OUTCOME_ERRORS_BYTES_MAX);
    ASSERT(batch_has_outcome_room(batch));
    uint8_t *to = batch->outcome_memory + batch->outcome_bytes;
    struct batch_outcome head = {.shard = shard,
                                 .bytes = (uint32_t)(sizeof *outcome + errors.bytes)};
    struct ack_outcome copy = *outcome;
    copy.errors_bytes = (uint32_t)errors.bytes;
    memcpy(to, &head, sizeof head);
    memcpy(to + sizeof head, &copy, sizeof copy);
    if (errors.bytes > 0) {
        memcpy(to + sizeof head + sizeof copy, errors.data, errors.bytes);
    }
    batch->outcome_bytes += outcome_room(errors.bytes);
}

uint64_t batch_next_lsn(const struct batch *batch)
{
    return batch->header.first_lsn + batch->header.record_count;
}

bool batch_is_stored(const struct batch *batch)
{
    return batch->payload_bytes > 0 || (batch->header.flags & BATCH_MARK) != 0;
}

bool batch_is_empty(const struct batch *batch)
{
    return batch->run_count == 0 && batch->payload_bytes == 0;
}

uint64_t batch_seal(struct batch *batch)
{
    ASSERT(batch->payload_bytes <= batch->payload_max);
    batch->header.payload_bytes = (uint32_t)batch->payload_bytes;
    uint64_t used = BATCH_HEADER_BYTES + batch->payload_bytes;
    uint64_t bytes = batch_file_bytes(batch->payload_bytes);
    ASSERT(bytes <= batch->memory_bytes);
    memset(batch->memory + used, 0,
           bytes - used); /* whatever an earlier batch left here must not reach the disk */
    batch_header_encode(batch->memory, &batch->header);
    batch->touched_bytes = u64_max(batch->touched_bytes, bytes);
    return bytes;
}
