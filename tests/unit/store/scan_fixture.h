/*
 * scan_fixture: a log of several segments in every form, made with the encoders of the store, and
 * beside it every record as it was written: the oracle that scans are compared with. Verbs: append,
 * roll, seal, compact, expire, publish. Single-threaded, on a simulated disk.
 */
#ifndef SCAN_FIXTURE_H
#define SCAN_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/crc32c.h"
#include "core/mem.h"
#include "sim_disk.h"
#include "store/frame.h"
#include "store/scan.h"
#include "store/segment.h"

#define SF_FILE_BYTES   MIB(2)
#define SF_RECORDS_MAX  20000u
#define SF_SEGMENTS_MAX 64u
#define SF_TEXT_MAX     400u
#define SF_TIME_NS      1700000000000000000ll

static const struct ulid SF_NODE = {{7, 7, 7}};

struct sf_record {
    struct record record; /* payload: text */
    int64_t built_at_ns;
    unsigned service;
    char text[SF_TEXT_MAX];
};

struct sf_segment {
    uint64_t id;
    enum view_state state;
    struct segment_header header;
    uint64_t end;                 /* where the next batch goes in the raw file */
    uint64_t first_lsn, next_lsn; /* of the batches that count */
    struct view_segment *view;    /* as it is now; NULL: not opened yet */
};

struct sf {
    struct sim_disk *disk;
    struct file_io *io;
    struct log_views *views;
    struct recent *recent;
    bool has_recent;
    _Atomic uint64_t durable_lsn;
    struct batch_header next;
    struct sf_segment segments[SF_SEGMENTS_MAX]; /* ids from 1 */
    size_t segment_count;
    size_t first_kept; /* index of the oldest segment that is kept */
    struct sf_record *records;
    uint64_t record_count;  /* LSN n is records[n - 1] */
    uint32_t block_batches; /* a sealed block is closed after so many batches */
    struct sim_random random;
    struct index_builder *builder;
    struct frame_writer *frames;
    uint8_t *memory; /* a whole raw file */
    uint8_t *scratch;
};

static inline void sf_check(int result, const struct err *err)
{
    if (result < 0) {
        fail_msg("%d: %s", result, err->text);
    }
}

static inline void sf_open(struct sf *sf, uint64_t seed)
{
    memset(sf, 0, sizeof *sf);
    struct sim_disk_options options = {
        .seed = seed, .capacity_bytes = MIB(256), .delay_ns_min = 1, .delay_ns_max = 2};
    struct err err = {0};
    sf->disk = sim_disk_create(&options);
    sf->io = sim_disk_io(sf->disk);
    sf->random.state = seed;
    sf->block_batches = 3;
    sf->has_recent = true;
    sf->next.batch_seq = 1;
    sf->next.first_lsn = 1;
    sf->records = mem_alloc_array(SF_RECORDS_MAX, sizeof *sf->records);
    sf->memory = mem_alloc(SF_FILE_BYTES);
    sf->scratch = mem_alloc(SF_FILE_BYTES);
    sf->builder = index_builder_new();
    sf->frames = frame_writer_new(1);
    sf_check(sf->io->ops->make_dir(sf->io, "log"), &err);
    sf_check(log_views_open(&sf->views, sf->io, &err), &err);
    sf_check(recent_open(&sf->recent, &err), &err);
}

static inline void sf_close(struct sf *sf)
{
    for (size_t i = 0; i < sf->segment_count; i++) {
        view_segment_give(sf->segments[i].view);
    }
    recent_close(sf->recent);
    log_views_close(sf->views);
    sim_disk_destroy(sf->disk);
    index_builder_free(sf->builder);
    frame_writer_free(sf->frames);
    mem_free(sf->records);
    mem_free(sf->memory);
    mem_free(sf->scratch);
}

/* ---- files ---- */

static inline void sf_put(struct sf *sf, const char *name, const void *data, uint64_t bytes,
                          uint64_t offset)
{
    struct file file;
    assert_int_equal(sf->io->ops->open(sf->io, name, FILE_OPEN_CREATE, &file), 0);
    assert_int_equal(sf->io->ops->write(sf->io, file, data, bytes, offset, false), 0);
    assert_int_equal(sf->io->ops->sync(sf->io, file), 0);
    assert_int_equal(sf->io->ops->sync_dir(sf->io, "log"), 0);
    sf->io->ops->close(sf->io, file);
}

static inline void sf_get(struct sf *sf, const char *name, void *to, uint64_t bytes)
{
    struct file file;
    assert_int_equal(sf->io->ops->open(sf->io, name, FILE_OPEN_READ_ONLY, &file), 0);
    assert_int_equal(sf->io->ops->read(sf->io, file, to, bytes, 0), bytes);
    sf->io->ops->close(sf->io, file);
}

static inline struct sf_segment *sf_active(struct sf *sf)
{
    return &sf->segments[sf->segment_count - 1];
}

static inline void sf_reopen(struct sf *sf, struct sf_segment *segment)
{
    struct err err = {0};
    view_segment_give(segment->view);
    segment->view = NULL;
    sf_check(view_segment_open(&segment->view, sf->io, segment->id, segment->state, &err), &err);
}

/* What readers see from now on: all segments that are kept, up to and with the last-th. */
static inline void sf_publish_until(struct sf *sf, size_t last)
{
    struct view_segment *list[SF_SEGMENTS_MAX];
    size_t count = 0;
    for (size_t i = sf->first_kept; i < last; i++) {
        if (sf->segments[i].view == NULL) {
            sf_reopen(sf, &sf->segments[i]);
        }
        list[count++] = sf->segments[i].view;
    }
    log_views_publish(sf->views, list, count);
}

static inline void sf_publish(struct sf *sf)
{
    sf_publish_until(sf, sf->segment_count);
}

/* A new segment for the batches to come. */
static inline void sf_roll(struct sf *sf)
{
    char name[SEGMENT_NAME_BYTES];
    assert_true(sf->segment_count < SF_SEGMENTS_MAX);
    struct sf_segment *segment = &sf->segments[sf->segment_count++];
    uint64_t id = sf->segment_count;
    *segment = (struct sf_segment){.id = id,
                                   .state = VIEW_ACTIVE,
                                   .header = {.segment_id = id,
                                              .salt = 1000 + id,
                                              .node = SF_NODE,
                                              .file_bytes = SF_FILE_BYTES},
                                   .end = STORE_BLOCK_BYTES,
                                   .first_lsn = sf->next.first_lsn,
                                   .next_lsn = sf->next.first_lsn};
    memset(sf->memory, 0, SF_FILE_BYTES);
    segment_header_encode(sf->memory, &segment->header);
    segment_name(name, id);
    sf_put(sf, name, sf->memory, SF_FILE_BYTES, 0);
    sf->next.segment_id = id;
    sf->next.salt = segment->header.salt;
}

/* ---- records ---- */

static const char *const SF_WORDS[] = {"alpha",   "beta",        "gamma gamma", "delta\\u0041",
                                       "epsilon", "zeta\\nzeta", "eta",         "needle",
                                       "theta",   "iota",        "kappa",       "needl"};

static inline uint64_t sf_below(struct sf *sf, uint64_t limit)
{
    return sim_random_below(&sf->random, limit);
}

/* A record of random fields; times wander, so that blocks overlap. */
static inline void sf_record_make(struct sf *sf, struct sf_record *to, uint64_t lsn)
{
    to->service = (unsigned)sf_below(sf, 200) < 190 ? (unsigned)sf_below(sf, 4)
                                                    : 4 + (unsigned)sf_below(sf, 40);
    int length =
        snprintf(to->text, sizeof to->text, "{\"service\":\"s%u\",\"message\":\"", to->service);
    unsigned words = (unsigned)sf_below(sf, 8);
    for (unsigned i = 0; i < words; i++) {
        /* "needle" and escapes are rare enough for blocks without them */
        size_t word = sf_below(sf, 100) < 95 ? sf_below(sf, 3) : sf_below(sf, 12);
        length +=
            snprintf(to->text + length, sizeof to->text - (size_t)length, "%s ", SF_WORDS[word]);
    }
    length += snprintf(to->text + length, sizeof to->text - (size_t)length, "\"}");
    to->record = (struct record){
        .kind = (enum record_kind)(RECORD_LOG + (lsn / 97 + sf_below(sf, 10) / 9) % 3),
        .severity = (uint8_t)(1 + (sf_below(sf, 20) == 0 ? sf_below(sf, 6) : 2)),
        .event_time_ns = SF_TIME_NS + (int64_t)(lsn * 1000) - (int64_t)sf_below(sf, 50000),
        .payload = {(const uint8_t *)to->text, (size_t)length},
    };
    memcpy(to->record.id.bytes, &lsn, sizeof lsn);
}

/* Writes a batch of the records [first, first + count) to the active segment. */
static inline void sf_batch_write(struct sf *sf, struct sf_record *records, uint32_t count)
{
    char name[SEGMENT_NAME_BYTES];
    struct sf_segment *segment = sf_active(sf);
    struct batch_header header = sf->next;
    size_t bytes = 0;
    memset(sf->scratch, 0, STORE_BLOCK_BYTES);
    for (uint32_t i = 0; i < count; i++) {
        struct record *record = &records[i].record;
        bytes += record_encode(sf->scratch + BATCH_HEADER_BYTES + bytes, record);
        bool is_first = i == 0;
        header.kinds |= 1u << (unsigned)record->kind;
        header.time_min_ns = is_first || record->event_time_ns < header.time_min_ns
                                 ? record->event_time_ns
                                 : header.time_min_ns;
        header.time_max_ns = is_first || record->event_time_ns > header.time_max_ns
                                 ? record->event_time_ns
                                 : header.time_max_ns;
    }
    header.flags = count == 0 ? BATCH_MARK : 0;
    header.record_count = count;
    header.payload_bytes = (uint32_t)bytes;
    header.durable_lsn = header.first_lsn - 1;
    header.built_at_ns = SF_TIME_NS + (int64_t)header.first_lsn;
    header.payload_crc = crc32c(0, sf->scratch + BATCH_HEADER_BYTES, bytes);
    batch_header_encode(sf->scratch, &header);
    uint64_t file_bytes = batch_file_bytes(bytes);
    assert_true(segment->end + file_bytes <= SF_FILE_BYTES);
    memset(sf->scratch + BATCH_HEADER_BYTES + bytes, 0, file_bytes - BATCH_HEADER_BYTES - bytes);
    segment_name(name, segment->id);
    sf_put(sf, name, sf->scratch, file_bytes, segment->end);
    segment->end += file_bytes;
    segment->next_lsn = header.first_lsn + count;
    sf->next.batch_seq++;
    sf->next.first_lsn += count;
    sf->next.previous_crc = header.header_crc;
    if (count != 0 && sf->has_recent) {
        recent_put(sf->recent, header.first_lsn, count, sf->scratch,
                   (struct slice){sf->scratch + BATCH_HEADER_BYTES, bytes});
    }
    for (uint32_t i = 0; i < count; i++) {
        records[i].built_at_ns = header.built_at_ns;
    }
}

/* A durable batch of count new records; 0: a mark. */
static inline void sf_append(struct sf *sf, uint32_t count)
{
    assert_true(sf->record_count + count <= SF_RECORDS_MAX);
    struct sf_record *records = sf->records + sf->record_count;
    for (uint32_t i = 0; i < count; i++) {
        sf_record_make(sf, &records[i], sf->record_count + i + 1);
    }
    sf_batch_write(sf, records, count);
    sf->record_count += count;
    atomic_store_explicit(&sf->durable_lsn, sf->record_count, memory_order_release); /* W1 */
}

/* Rolls where the batch may not fit. */
static inline void sf_append_many(struct sf *sf, unsigned batches, uint32_t count_max)
{
    for (unsigned i = 0; i < batches; i++) {
        if (sf->segment_count == 0 || sf_active(sf)->end + KIB(256) > SF_FILE_BYTES) {
            sf_roll(sf);
        }
        sf_append(sf, (uint32_t)sf_below(sf, count_max + 1));
    }
}

/* ---- sealing and compacting ---- */

static inline void sf_key(char *text, unsigned service)
{
    (void)snprintf(text, 16, "s%u", service);
}

static inline uint64_t sf_service_key(unsigned service)
{
    char text[16];
    sf_key(text, service);
    return index_key(INDEX_SERVICE, (struct slice){(const uint8_t *)text, strlen(text)});
}

/* Walks the batches of the raw file in sf->memory into the builder; adds up the footer. */
static inline void sf_index(struct sf *sf, const struct sf_segment *segment,
                            struct segment_footer *footer)
{
    struct err err = {0};
    uint64_t at = STORE_BLOCK_BYTES;
    unsigned batches = 0;
    index_builder_reset(sf->builder);
    *footer = (struct segment_footer){.form = SEGMENT_FORM_RAW,
                                      .segment_id = segment->id,
                                      .salt = segment->header.salt,
                                      .node = SF_NODE,
                                      .first_lsn = segment->first_lsn,
                                      .last_lsn = segment->next_lsn - 1,
                                      .time_min_ns = INT64_MAX,
                                      .time_max_ns = INT64_MIN};
    while (at < segment->end) {
        struct batch_header header;
        if (batch_header_decode(&header, sf->memory + at, &err) < 0 ||
            header.first_lsn + header.record_count > segment->next_lsn) {
            break; /* damaged or superseded: not of this segment */
        }
        index_builder_add_batch(sf->builder, &header, at);
        for (uint32_t i = 0; i < header.record_count; i++) {
            const struct sf_record *record = &sf->records[header.first_lsn - 1 + i];
            index_builder_add_record(sf->builder, &record->record);
            index_builder_add_key(sf->builder, sf_service_key(record->service));
            footer->severities |= 1u << record->record.severity;
            footer->time_min_ns = record->record.event_time_ns < footer->time_min_ns
                                      ? record->record.event_time_ns
                                      : footer->time_min_ns;
            footer->time_max_ns = record->record.event_time_ns > footer->time_max_ns
                                      ? record->record.event_time_ns
                                      : footer->time_max_ns;
        }
        footer->kinds |= header.kinds;
        footer->first_seq = footer->first_seq == 0 ? header.batch_seq : footer->first_seq;
        footer->last_seq = header.batch_seq;
        footer->last_crc = header.header_crc;
        footer->durable_lsn = header.durable_lsn;
        footer->record_count += header.record_count;
        footer->raw_bytes += BATCH_HEADER_BYTES + header.payload_bytes;
        footer->payload_bytes += header.payload_bytes;
        at += batch_file_bytes(header.payload_bytes);
        if (++batches % sf->block_batches == 0 || index_builder_is_full(sf->builder)) {
            index_builder_end_block(sf->builder, at);
        }
    }
    index_builder_end_block(sf->builder, at);
    if (footer->record_count == 0) {
        footer->time_min_ns = 0;
        footer->time_max_ns = 0;
    }
}

/* Blob and footer behind offset of a file. */
static inline void sf_finish(struct sf *sf, const char *name, uint64_t offset, struct slice blob,
                             struct segment_footer *footer)
{
    uint64_t bytes = align_up(blob.bytes, STORE_BLOCK_BYTES) + STORE_BLOCK_BYTES;
    uint8_t *end = mem_alloc(bytes);
    if (blob.bytes != 0) {
        memcpy(end, blob.data, blob.bytes);
    }
    footer->index_offset = offset;
    footer->index_bytes = blob.bytes;
    footer->index_crc = crc32c(0, blob.data, blob.bytes);
    segment_footer_encode(end + bytes - STORE_BLOCK_BYTES, footer);
    sf_put(sf, name, end, bytes, offset);
    mem_free(end);
}

static inline void sf_seal(struct sf *sf, size_t i)
{
    char name[SEGMENT_NAME_BYTES];
    struct sf_segment *segment = &sf->segments[i];
    struct segment_footer footer;
    assert_int_equal(segment->state, VIEW_ACTIVE);
    segment_name(name, segment->id);
    sf_get(sf, name, sf->memory, SF_FILE_BYTES);
    sf_index(sf, segment, &footer);
    struct slice blob = index_builder_blob(sf->builder, &footer.entry_count);
    sf_finish(sf, name, SF_FILE_BYTES, blob, &footer);
    segment->state = VIEW_SEALED;
    sf_reopen(sf, segment);
}

/* The batches of a raw block without their padding. */
static inline size_t sf_unpad(uint8_t *to, const uint8_t *from, uint64_t bytes)
{
    size_t raw = 0;
    for (uint64_t at = 0; at < bytes;) {
        struct batch_header header;
        struct err err;
        sf_check(batch_header_decode(&header, from + at, &err), &err);
        memcpy(to + raw, from + at, BATCH_HEADER_BYTES + header.payload_bytes);
        raw += BATCH_HEADER_BYTES + header.payload_bytes;
        at += batch_file_bytes(header.payload_bytes);
    }
    return raw;
}

static inline void sf_compact(struct sf *sf, size_t i)
{
    char raw_name[SEGMENT_NAME_BYTES];
    char name[SEGMENT_NAME_BYTES];
    struct sf_segment *segment = &sf->segments[i];
    struct segment_footer footer;
    struct index index;
    struct err err = {0};
    assert_int_equal(segment->state, VIEW_SEALED);
    segment_name(raw_name, segment->id);
    compacted_name(name, segment->id);
    sf_get(sf, raw_name, sf->memory, SF_FILE_BYTES);
    sf_index(sf, segment, &footer);
    footer.form = SEGMENT_FORM_COMPACTED;
    struct slice blob = index_builder_blob(sf->builder, &footer.entry_count);
    sf_check(index_open(&index, blob, footer.entry_count, &err), &err);
    uint8_t *copy = mem_alloc(blob.bytes + 1);
    uint8_t *file = mem_alloc(SF_FILE_BYTES * 2);
    if (blob.bytes != 0) {
        memcpy(copy, blob.data, blob.bytes);
    }
    compacted_header_encode(file, &segment->header);
    uint64_t at = STORE_BLOCK_BYTES;
    for (uint32_t n = 0; n < footer.entry_count; n++) {
        struct index_entry entry;
        index_entry_get(&index, n, &entry);
        size_t raw = sf_unpad(sf->scratch, sf->memory + entry.offset, entry.stored_bytes);
        assert_int_equal(raw, entry.raw_bytes);
        int64_t bytes =
            frame_compress(sf->frames, file + at, (struct slice){sf->scratch, raw}, &err);
        assert_true(bytes > 0);
        entry.offset = at;
        entry.stored_bytes = (uint64_t)bytes;
        entry.stored_crc = crc32c(0, file + at, (size_t)bytes);
        index_entry_put(copy + n * INDEX_ENTRY_BYTES, &entry);
        at += (uint64_t)bytes;
    }
    at = align_up(at, STORE_BLOCK_BYTES);
    sf_put(sf, name, file, at, 0);
    sf_finish(sf, name, at, (struct slice){copy, blob.bytes}, &footer);
    mem_free(file);
    mem_free(copy);
    assert_int_equal(sf->io->ops->unlink(sf->io, raw_name), 0);
    segment->state = VIEW_COMPACTED;
    sf_reopen(sf, segment);
}

/* The oldest segment goes. */
static inline void sf_expire(struct sf *sf)
{
    char name[SEGMENT_NAME_BYTES];
    assert_true(sf->first_kept + 1 < sf->segment_count);
    struct sf_segment *segment = &sf->segments[sf->first_kept++];
    if (segment->state == VIEW_COMPACTED) {
        compacted_name(name, segment->id);
    } else {
        segment_name(name, segment->id);
    }
    assert_int_equal(sf->io->ops->unlink(sf->io, name), 0);
    view_segment_give(segment->view);
    segment->view = NULL;
}

static inline uint64_t sf_first_kept_lsn(const struct sf *sf)
{
    return sf->segments[sf->first_kept].first_lsn;
}

/* ---- scanning ---- */

struct sf_result {
    uint64_t lsns[SF_RECORDS_MAX];
    size_t count;
    size_t take_max; /* take answers false at each multiple of it; 0: never */
    const struct sf *sf;
    int service; /* what match asks for; -1: everything */
    uint64_t damages;
    struct err damage; /* the last */
};

/* The record shown is byte for byte what was written. */
static inline void sf_check_record(const struct sf *sf, const struct scan_record *record)
{
    assert_true(record->lsn >= 1 && record->lsn <= sf->record_count);
    const struct sf_record *written = &sf->records[record->lsn - 1];
    assert_true(slice_equal(record->record.payload, written->record.payload));
    assert_int_equal(record->record.kind, written->record.kind);
    assert_int_equal(record->record.severity, written->record.severity);
    assert_true(record->record.event_time_ns == written->record.event_time_ns);
    assert_true(record->built_at_ns == written->built_at_ns);
    assert_memory_equal(record->record.id.bytes, written->record.id.bytes, ULID_BYTES);
}

static inline bool sf_match(void *context, const struct scan_record *record)
{
    const struct sf_result *result = context;
    sf_check_record(result->sf, record);
    return result->service < 0 ||
           result->sf->records[record->lsn - 1].service == (unsigned)result->service;
}

static inline bool sf_take(void *context, const struct scan_record *record)
{
    struct sf_result *result = context;
    assert_true(result->count < SF_RECORDS_MAX);
    result->lsns[result->count++] = record->lsn;
    return result->take_max == 0 || result->count % result->take_max != 0;
}

static inline struct scan_filter sf_all(void)
{
    return (struct scan_filter){
        .time_min_ns = INT64_MIN, .time_max_ns = INT64_MAX, .lsn_max = UINT64_MAX};
}

static inline struct scan *sf_scan(struct sf *sf, struct sf_result *result,
                                   const struct scan_filter *filter, bool is_descending)
{
    struct scan_source source = {.views = sf->views,
                                 .recent = sf->has_recent ? sf->recent : NULL,
                                 .durable_lsn = &sf->durable_lsn};
    struct scan_options options = {.filter = *filter,
                                   .is_descending = is_descending,
                                   .match = sf_match,
                                   .take = sf_take,
                                   .context = result};
    result->sf = sf;
    return scan_new(&source, &options);
}

static inline void sf_result_init(struct sf_result *result)
{
    memset(result, 0, sizeof *result);
    result->service = -1;
}

/* A step; damage is counted. */
static inline int sf_step(struct scan *scan, struct sf_result *result)
{
    struct err err = {0};
    int r = scan_step(scan, &err);
    if (r == ERR_CORRUPT) {
        result->damages++;
        result->damage = err;
        return SCAN_MORE;
    }
    sf_check(r, &err);
    return r;
}

/* To SCAN_END; a scan that does not get there in so many steps never does. */
static inline void sf_run(struct scan *scan, struct sf_result *result)
{
    for (unsigned i = 0; i < 100000; i++) {
        if (sf_step(scan, result) == SCAN_END) {
            return;
        }
    }
    fail_msg("the scan does not end: it stands at %llu", (unsigned long long)scan_position(scan));
}

/* Has the payload an escape that could spell a byte of the literal? */
static inline bool sf_has_escape_for(struct slice payload, struct slice literal)
{
    bool is_any = false;
    for (size_t i = 0; i < literal.bytes; i++) {
        is_any = is_any || literal.data[i] < 0x20 || memchr("\"\\/", literal.data[i], 3) != NULL;
    }
    return memmem(payload.data, payload.bytes, "\\u", is_any ? 1 : 2) != NULL;
}

/* What the store promises to show of a record: the naive way. */
static inline bool sf_is_candidate(const struct sf_record *record, uint64_t lsn,
                                   const struct scan_filter *filter)
{
    struct slice payload = record->record.payload;
    bool has_literal =
        filter->literal.bytes == 0 ||
        memmem(payload.data, payload.bytes, filter->literal.data, filter->literal.bytes) != NULL ||
        sf_has_escape_for(payload, filter->literal);
    return (filter->kinds == 0 || (filter->kinds >> (unsigned)record->record.kind & 1) != 0) &&
           (filter->severities == 0 || (filter->severities >> record->record.severity & 1) != 0) &&
           record->record.event_time_ns >= filter->time_min_ns &&
           record->record.event_time_ns <= filter->time_max_ns && lsn >= filter->lsn_min &&
           lsn <= filter->lsn_max && has_literal;
}

static inline bool sf_is_wanted(const struct sf *sf, const struct sf_result *result, uint64_t lsn,
                                const struct scan_filter *filter)
{
    const struct sf_record *record = &sf->records[lsn - 1];
    return sf_is_candidate(record, lsn, filter) &&
           (result->service < 0 || record->service == (unsigned)result->service);
}

/* Everything wanted in [first, last], in order, and nothing else; records below kept may be
 * missing. */
static inline void sf_expect(const struct sf *sf, const struct sf_result *result,
                             const struct scan_filter *filter, bool is_descending, uint64_t last)
{
    uint64_t kept = sf_first_kept_lsn(sf);
    size_t at = 0;
    for (uint64_t n = 1; n <= last; n++) {
        uint64_t lsn = is_descending ? last + 1 - n : n;
        bool is_shown = at < result->count && result->lsns[at] == lsn;
        bool is_wanted = sf_is_wanted(sf, result, lsn, filter);
        if (is_shown && !is_wanted) {
            fail_msg("LSN %llu was shown and does not match", (unsigned long long)lsn);
        }
        if (is_wanted && !is_shown && lsn >= kept) {
            fail_msg("LSN %llu matches and was not shown", (unsigned long long)lsn);
        }
        at += is_shown ? 1 : 0;
    }
    if (at != result->count) {
        fail_msg("LSN %llu was shown twice, out of order or beyond the end",
                 (unsigned long long)result->lsns[at]);
    }
}

#endif
