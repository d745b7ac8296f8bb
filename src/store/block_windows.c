/*
 * block_windows: see block_windows.h. Headers are read one by one: a batch is tens of kilobytes, so
 * this touches a small part of the file, and mostly pages that the load that follows wants anyway.
 *
 * A live writer appends with O_DIRECT while we read through the page cache: a header may be there,
 * not there or torn, which its checksum tells; the kernel drops cached pages before a direct write
 * is reported complete, so whatever is at or below durable_lsn is seen as it was written.
 */
#include "store/block_windows.h"

#include <errno.h>
#include <string.h>

#include "core/mem.h"
#include "store/view_file.h"

void block_windows_free(struct block_windows *windows)
{
    mem_free(windows->list);
    *windows = (struct block_windows){0};
}

static void windows_push(struct block_windows *windows, uint64_t offset)
{
    if (windows->count == windows->room) {
        uint32_t room = windows->room == 0 ? 64 : 2 * windows->room;
        struct block_window *grown = mem_alloc_array(room, sizeof *grown);
        if (windows->count != 0) {
            memcpy(grown, windows->list, windows->count * sizeof *grown);
        }
        mem_free(windows->list);
        windows->list = grown;
        windows->room = room;
    }
    windows->list[windows->count++] =
        (struct block_window){.offset = offset, .time_min_ns = INT64_MAX, .time_max_ns = INT64_MIN};
}

/* A tool that reads beside a server may have walked over the end of the log that a start of that
 * server then cut: is the last batch still there? Whatever is cut takes it along. */
static bool windows_still_hold(const struct block_windows *windows, struct view_segment *segment)
{
    uint8_t bytes[BATCH_HEADER_BYTES];
    struct batch_header header;
    return windows->next_seq == 0 ||
           (view_file_read(segment, bytes, sizeof bytes, windows->last_at, NULL) == 0 &&
            batch_header_decode(&header, bytes, NULL) == 0 &&
            header.header_crc == windows->last_crc);
}

/* Forgets what it knows when that is about another segment, or no longer so. */
static void windows_turn_to(struct block_windows *windows, struct view_segment *segment,
                            uint64_t durable_lsn)
{
    if (windows->segment_id == segment->id && windows->salt == segment->header.salt &&
        (durable_lsn != UINT64_MAX || windows_still_hold(windows, segment))) {
        return;
    }
    windows->segment_id = segment->id;
    windows->salt = segment->header.salt;
    windows->count = 0;
    windows->end = STORE_BLOCK_BYTES;
    windows->next_seq = 0;
    windows->next_lsn = 0;
    windows->last_crc = 0;
    windows->durable_lsn = 0;
    windows_push(windows, STORE_BLOCK_BYTES);
}

/* Is it the batch that belongs here? */
static bool header_continues(const struct block_windows *windows,
                             const struct view_segment *segment, const struct batch_header *header)
{
    if (header->segment_id != segment->id || header->salt != segment->header.salt) {
        return false; /* of an earlier use of the file */
    }
    if (batch_file_bytes(header->payload_bytes) > segment->header.file_bytes - windows->end) {
        return false;
    }
    return windows->next_seq == 0 ||
           (header->batch_seq == windows->next_seq && header->first_lsn == windows->next_lsn &&
            header->previous_crc == windows->last_crc);
}

/* The batch at windows->end: 1 it is there and may be shown; 0 it is not; -errno. */
static int windows_next(const struct block_windows *windows, struct view_segment *segment,
                        uint64_t durable_lsn, struct batch_header *header, struct err *err)
{
    if (windows->end + BATCH_HEADER_BYTES > segment->header.file_bytes) {
        return 0;
    }
    uint8_t bytes[BATCH_HEADER_BYTES];
    int result = view_file_read(segment, bytes, sizeof bytes, windows->end, err);
    if (result < 0) {
        return result == ERR_CORRUPT ? 0 : result; /* the file ends */
    }
    if (batch_header_decode(header, bytes, NULL) < 0 ||
        !header_continues(windows, segment, header)) {
        return 0;
    }
    return header->first_lsn + header->record_count - 1 <= durable_lsn ? 1 : 0;
}

static void window_count(struct block_window *window, const struct batch_header *header)
{
    if (window->first_lsn == 0) {
        window->first_lsn = header->first_lsn;
    }
    window->raw_bytes += BATCH_HEADER_BYTES + (uint64_t)header->payload_bytes;
    if (header->record_count == 0) {
        return; /* a mark: its times are none */
    }
    window->record_count += header->record_count;
    window->kinds |= header->kinds;
    if (header->time_min_ns < window->time_min_ns) {
        window->time_min_ns = header->time_min_ns;
    }
    if (header->time_max_ns > window->time_max_ns) {
        window->time_max_ns = header->time_max_ns;
    }
}

static void windows_take(struct block_windows *windows, const struct batch_header *header)
{
    struct block_window *window = &windows->list[windows->count - 1];
    window_count(window, header);
    windows->last_at = windows->end;
    windows->end += batch_file_bytes(header->payload_bytes);
    windows->next_seq = header->batch_seq + 1;
    windows->next_lsn = header->first_lsn + header->record_count;
    windows->last_crc = header->header_crc;
    windows->durable_lsn = u64_max(windows->durable_lsn, header->durable_lsn);
    if (windows->end - window->offset >= INDEX_BLOCK_BYTES) {
        windows_push(windows, windows->end);
    }
}

/* 1: a batch more; 0: there is none; -errno. */
static int windows_walk(struct block_windows *windows, struct view_segment *segment,
                        uint64_t durable_lsn, struct err *err)
{
    struct batch_header header;
    int result = windows_next(windows, segment, durable_lsn, &header, err);
    if (result == 1) {
        windows_take(windows, &header);
    }
    return result;
}

int block_windows_look(struct block_windows *windows, struct view_segment *segment, uint32_t i,
                       uint64_t durable_lsn, struct err *err)
{
    ASSERT(segment->state == VIEW_ACTIVE);
    windows_turn_to(windows, segment, durable_lsn);
    /* Each round takes a block of the file at least. */
    while (windows->count - 1 <= i) {
        int result = windows_walk(windows, segment, durable_lsn, err);
        if (result <= 0) {
            return result;
        }
    }
    return 0;
}

int block_windows_look_some(struct block_windows *windows, struct view_segment *segment,
                            uint64_t durable_lsn, struct err *err)
{
    ASSERT(segment->state == VIEW_ACTIVE);
    windows_turn_to(windows, segment, durable_lsn);
    for (uint32_t n = 0; n < BLOCK_FIND_HEADERS_MAX; n++) {
        int result = windows_walk(windows, segment, durable_lsn, err);
        if (result <= 0) {
            return result;
        }
    }
    return -EAGAIN;
}

bool block_windows_get(const struct block_windows *windows, uint32_t i, uint64_t *offset,
                       uint64_t *bytes)
{
    if (i >= windows->count || windows->list[i].first_lsn == 0) {
        return false;
    }
    uint64_t end = i + 1 < windows->count ? windows->list[i + 1].offset : windows->end;
    *offset = windows->list[i].offset;
    *bytes = end - *offset;
    return true;
}

bool block_windows_summary(const struct block_windows *windows, uint32_t i, uint64_t durable_lsn,
                           struct block_summary *summary)
{
    if (i >= block_windows_count(windows)) {
        return false;
    }
    const struct block_window *window = &windows->list[i];
    bool is_last = i + 1 == block_windows_count(windows);
    uint64_t end_lsn = is_last ? windows->next_lsn : windows->list[i + 1].first_lsn;
    /* Nobody says what is durable: what no header proves may be torn (window_shown_bytes). */
    uint64_t last_sure = durable_lsn == UINT64_MAX ? windows->durable_lsn : durable_lsn;
    *summary = (struct block_summary){.first_lsn = window->first_lsn,
                                      .end_lsn = u64_min(end_lsn, last_sure + 1),
                                      .raw_bytes = window->raw_bytes,
                                      .time_min_ns = window->time_min_ns,
                                      .time_max_ns = window->time_max_ns,
                                      .record_count = window->record_count,
                                      .kinds = window->kinds};
    return true;
}

uint32_t block_windows_count(const struct block_windows *windows)
{
    if (windows->count == 0) {
        return 0;
    }
    return windows->list[windows->count - 1].first_lsn == 0 ? windows->count - 1 : windows->count;
}

uint32_t block_windows_find_lsn(const struct block_windows *windows, uint64_t lsn)
{
    uint32_t low = 0; /* windows below low begin at or below lsn */
    uint32_t high = block_windows_count(windows);
    while (low < high) { /* halves each time */
        uint32_t middle = low + (high - low) / 2;
        if (windows->list[middle].first_lsn <= lsn) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == 0 ? 0 : low - 1;
}
