/*
 * store_fixture: verbs for tests of the live store: open on a simulated disk, submit requests as a
 * shard does, step the agents, read acks, kill, reopen. Single-threaded. Included by the tests of
 * the writer, the journal and recovery.
 */
#ifndef STORE_FIXTURE_H
#define STORE_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "sim_disk.h"
#include "store/file_io.h"
#include "store/reader.h"
#include "store/store.h"
#include "store/store_step.h"
#include "store/submit.h"

struct fixture {
    struct sim_disk *disk;
    struct store *store;
    struct store_options options;
    struct recovery_report report;
    struct err err;
    /* What the acks said, over all shards. */
    uint64_t durable_acks;
    uint64_t failed_acks;
    uint32_t failed_cause;
    uint64_t outcomes;
    struct ack_durable last_durable;

    char last_errors[64];
    uint64_t ended[4]; /* per shard: acknowledged up to here */
    uint32_t serial;   /* makes payloads differ */
};

/* The last ACK_OUTCOME, without its errors. */
static struct ack_outcome fx_outcome;

/* One request. receipt, keys: NULL or text. */
struct request {
    unsigned shard;
    uint32_t records;
    uint32_t payload_bytes;
    const char *receipt;
    uint8_t digest;
    const char *errors;
    const char *keys[4];
    bool is_mixed; /* the last record is a log record, the others are events */
    uint8_t severity;
    bool is_run; /* the records are commands of agent runs instead of events */
};

static inline void fx_open(struct fixture *fx)
{
    memset(fx->ended, 0, sizeof fx->ended); /* new rings */
    int r =
        store_open_single(&fx->store, &fx->options, sim_disk_io(fx->disk), &fx->report, &fx->err);
    if (r < 0) {
        fail_msg("%s", fx->err.text);
    }
}

static inline void fx_init(struct fixture *fx, uint64_t seed)
{
    memset(fx, 0, sizeof *fx);
    struct sim_disk_options disk = {.seed = seed,
                                    .capacity_bytes = MIB(64),
                                    .delay_ns_min = 50 * NS_US,
                                    .delay_ns_max = 200 * NS_US};
    fx->disk = sim_disk_create(&disk);
    fx->options = (struct store_options){.data_dir = "sim",
                                         .segment_bytes = KIB(128),
                                         .reserve_bytes = KIB(64),
                                         .ring_bytes = KIB(64),
                                         .batch_bytes = KIB(16),
                                         .dedup_ttl_ns = 3600 * NS_S,
                                         .dedup_entries_max = 1000,
                                         .spare_segments = 1,
                                         .shard_count = 2,
                                         .writer_cpu = -1};
    fx_open(fx);
}

static inline void fx_kill(struct fixture *fx)
{
    if (!sim_disk_is_dead(fx->disk)) {
        sim_disk_crash(fx->disk);
    }
    store_close(fx->store);
    fx->store = NULL;
    sim_disk_restart(fx->disk);
}

static inline void fx_end(struct fixture *fx)
{
    if (fx->store != NULL) {
        store_close(fx->store);
    }
    sim_disk_destroy(fx->disk);
}

static inline size_t fx_record(struct fixture *fx, uint8_t *to, const struct request *request,
                               uint32_t index)
{
    static uint8_t meta[65536];
    static uint8_t payload[65536];
    size_t meta_bytes = 0;
    if (index == 0 && request->receipt != NULL) {
        struct receipt receipt = {
            .key = {(const uint8_t *)request->receipt, strlen(request->receipt)},
            .form = FORM_ARRAY,
            .accepted = request->records,
            .rejected = 3};
        memset(receipt.body_digest, request->digest, sizeof receipt.body_digest);
        if (request->errors != NULL) {
            receipt.errors =
                (struct slice){(const uint8_t *)request->errors, strlen(request->errors)};
        }
        meta_bytes += meta_receipt_encode(meta, &receipt);
    }
    if (index < 4 && request->keys[index] != NULL) {
        struct slice key = {(const uint8_t *)request->keys[index], strlen(request->keys[index])};
        meta_bytes += meta_dedup_key_encode(meta + meta_bytes, key);
    }
    uint32_t bytes = request->payload_bytes == 0 ? 20 : request->payload_bytes;
    memset(payload, '.', bytes);
    (void)snprintf((char *)payload, sizeof payload, "%010u", fx->serial++);
    bool is_log = request->is_mixed && index + 1 == request->records;
    enum record_kind kind = request->is_run ? RECORD_RUN : RECORD_EVENT;
    struct record record = {.kind = is_log ? RECORD_LOG : kind,
                            .event_time_ns = 1000 + index,
                            .severity = request->severity,
                            .meta = {meta, meta_bytes},
                            .payload = {payload, bytes}};
    record.id.bytes[0] = (uint8_t)(index + 1);
    record.id.bytes[1] = (uint8_t)fx->serial;
    return record_encode(to, &record);
}

/* False when the ring is full. */
static inline bool fx_submit(struct fixture *fx, const struct request *request)
{
    struct spsc *ring = &store_port(fx->store, request->shard)->submit;
    uint64_t room = 0;
    uint64_t errors_bytes = request->errors == NULL ? 0 : strlen(request->errors);
    uint64_t need = sizeof(struct submit_header) + errors_bytes +
                    request->records * (request->payload_bytes + 512u);
    uint8_t *to = spsc_claim_most(ring, need, &room);
    if (to == NULL) {
        return false;
    }
    size_t bytes = 0;
    for (uint32_t i = 0; i < request->records; i++) {
        bytes += fx_record(fx, to + sizeof(struct submit_header) + bytes, request, i);
    }
    bool is_keyed =
        request->receipt != NULL || request->keys[0] != NULL || request->keys[1] != NULL;
    struct submit_header header = {.record_count = request->records,
                                   .records_bytes = (uint32_t)bytes,
                                   .kinds = 1u << (request->is_run ? RECORD_RUN : RECORD_EVENT) |
                                            (request->is_mixed ? 1u << RECORD_LOG : 0u),
                                   .flags = is_keyed ? (uint32_t)SUBMIT_KEYED : 0u,
                                   .time_min_ns = 1000,
                                   .time_max_ns = 1000 + request->records - 1,
                                   .submitted_at_ns = sim_disk_now_ns(fx->disk)};
    memcpy(to, &header, sizeof header);
    (void)spsc_commit(ring, SUBMIT_REQUEST, sizeof header + bytes);
    (void)spsc_publish(ring);
    return true;
}

static inline void fx_put(struct fixture *fx, unsigned shard, uint32_t records)
{
    struct request request = {.shard = shard, .records = records};
    assert_true(fx_submit(fx, &request));
}

static inline void fx_read_ack(struct fixture *fx, unsigned shard, const struct spsc_frame *frame)
{
    uint64_t end = 0;
    memcpy(&end, frame->payload, sizeof end);
    assert_true(end >= fx->ended[shard]); /* acks come in ring order */
    if (frame->type == ACK_DURABLE) {
        memcpy(&fx->last_durable, frame->payload, sizeof fx->last_durable);
        fx->durable_acks++;
        fx->ended[shard] = end;
    } else if (frame->type == ACK_FAILED) {
        struct ack_failed failed;
        memcpy(&failed, frame->payload, sizeof failed);
        fx->failed_acks++;
        fx->failed_cause = failed.cause;
        fx->ended[shard] = end;
    } else {
        memcpy(&fx_outcome, frame->payload, sizeof fx_outcome);
        memset(fx->last_errors, 0, sizeof fx->last_errors);
        memcpy(fx->last_errors, frame->payload + sizeof fx_outcome,
               u64_min(fx_outcome.errors_bytes, sizeof fx->last_errors - 1));
        fx->outcomes++;
    }
}

static inline void fx_read_acks(struct fixture *fx)
{
    for (unsigned i = 0; i < fx->options.shard_count; i++) {
        struct spsc *acks = &store_port(fx->store, i)->acks;
        for (const struct spsc_frame *frame = spsc_take(acks); frame != NULL;
             frame = spsc_take(acks)) {
            fx_read_ack(fx, i, frame);
        }
        spsc_release(acks);
    }
}

static inline void fx_step(struct fixture *fx, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        (void)store_step_writer(fx->store);
        (void)store_step_keeper(fx->store);
        fx_read_acks(fx);
    }
}

static inline uint64_t fx_stat(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed); /* relaxed: one thread */
}

static inline uint64_t fx_durable_lsn(const struct fixture *fx)
{
    return fx_stat(&store_status(fx->store)->durable_lsn);
}

static inline int fx_state(const struct fixture *fx)
{
    return atomic_load_explicit(&store_status(fx->store)->state,
                                memory_order_relaxed); /* relaxed: one thread */
}

/* Steps until the orderly stop is done. */
static inline void fx_stop(struct fixture *fx)
{
    store_stop(fx->store);
    int r = 0;
    for (unsigned i = 0; i < 2000 && r == 0; i++) {
        r = store_step_writer(fx->store);
        (void)store_step_keeper(fx->store);
        fx_read_acks(fx);
    }
    assert_int_equal(r, 1);
    store_close(fx->store);
    fx->store = NULL;
}

/* Reads the log from disk and checks that LSNs are dense from 1; returns the last. */
static inline uint64_t fx_log_count(struct fixture *fx)
{
    struct reader *reader = NULL;
    struct err err = {0};
    int r = reader_open(&reader, sim_disk_io(fx->disk), 1, &err);
    if (r == -ENOENT) {
        return 0;
    }
    assert_int_equal(r, 0);
    uint64_t lsn = 0;
    struct reader_record record;
    for (r = reader_next(reader, &record, &err); r == 1; r = reader_next(reader, &record, &err)) {
        assert_int_equal(record.lsn, lsn + 1);
        lsn = record.lsn;
    }
    if (r != 0) {
        fail_msg("%s", err.text);
    }
    reader_close(reader);
    return lsn;
}

static inline uint64_t fx_verify_faults(struct fixture *fx)
{
    struct verify_report report;
    struct err err = {0};
    int r = log_verify(sim_disk_io(fx->disk), &report, NULL, NULL, &err);
    if (r < 0) {
        fail_msg("%s", err.text);
    }
    return report.faults;
}

#endif
