/* A forwarder's database in a directory of its own, and what is put into it: the same number gives the same bytes. */
#ifndef FORWARD_DB_FIXTURE_H
#define FORWARD_DB_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "forward/forward_db.h"

static const struct ulid node = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};

struct fixture {
    char dir[64];
    char path[96];
};

static inline int set_up(void **state)
{
    struct fixture *fixture = mem_alloc(sizeof *fixture);
    (void)snprintf(fixture->dir, sizeof fixture->dir, "/tmp/sluice-forward-db-XXXXXX");
    assert_non_null(mkdtemp(fixture->dir));
    (void)snprintf(fixture->path, sizeof fixture->path, "%s/%s", fixture->dir, FORWARD_DB_FILE);
    *state = fixture;
    return 0;
}

static inline int tear_down(void **state)
{
    struct fixture *fixture = *state;
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf %s", fixture->dir);
    assert_int_equal(system(command), 0);
    mem_free(fixture);
    return 0;
}

static inline struct forward_db *open_as(const char *path, struct ulid owner,
                                         enum forward_db_found expected)
{
    struct forward_db *db = NULL;
    enum forward_db_found found = FORWARD_DB_GOOD;
    struct err err = {0};
    if (forward_db_open(&db, path, owner, &found, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(found, expected);
    return db;
}

static inline struct forward_db *open_db(const char *path, enum forward_db_found expected)
{
    return open_as(path, node, expected);
}

static inline void ok(int result, const struct err *err)
{
    if (result < 0) {
        fail_msg("%d: %s", result, err->text);
    }
}

static inline void begin(struct forward_db *db)
{
    struct err err = {0};
    ok(forward_db_begin(db, &err), &err);
}

static inline void commit(struct forward_db *db)
{
    struct err err = {0};
    ok(forward_db_commit(db, &err), &err);
}

static inline void put_sink(struct forward_db *db, const char *sink,
                            const struct sink_position *position)
{
    struct err err = {0};
    ok(forward_db_sink_put(db, sink, position, &err), &err);
}

/* Fills bytes with what follows from a number, NUL bytes among them. */
static inline void fill(uint8_t *data, size_t bytes, uint64_t number)
{
    uint64_t x = number * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (size_t i = 0; i < bytes; i++) {
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        data[i] = (uint8_t)(i % 5 == 0 ? 0 : x >> 56);
    }
}

static inline struct frozen frozen_of(uint64_t first_lsn, uint64_t number)
{
    struct frozen frozen = {.first_lsn = first_lsn,
                            .last_lsn = first_lsn + number,
                            .lane = number % 2 == 0 ? LANE_LIVE : LANE_BACKLOG,
                            .records = (uint32_t)number + 1,
                            .payload_bytes = number * 1000,
                            .frozen_at_ns = (int64_t)number - 5,
                            .attempts = (uint32_t)number};
    (void)snprintf(frozen.encoding, sizeof frozen.encoding, "http/ndjson/meta/%" PRIu64, number);
    (void)snprintf(frozen.target, sizeof frozen.target, "f.ndjson %" PRIu64, number);
    fill(frozen.digest, sizeof frozen.digest, number);
    return frozen;
}

static inline bool same_frozen(const struct frozen *a, const struct frozen *b)
{
    return a->first_lsn == b->first_lsn && a->last_lsn == b->last_lsn && a->lane == b->lane &&
           a->records == b->records && a->payload_bytes == b->payload_bytes &&
           strcmp(a->encoding, b->encoding) == 0 && memcmp(a->digest, b->digest, 16) == 0 &&
           a->frozen_at_ns == b->frozen_at_ns && a->attempts == b->attempts &&
           slice_equal(a->only, b->only) && a->quarantine_id == b->quarantine_id &&
           strcmp(a->target, b->target) == 0;
}

/* payload is the caller's. */
static inline struct quarantined item_of(const char *sink, uint64_t number, uint8_t *payload,
                                         size_t bytes)
{
    struct quarantined item = {.lsn = number,
                               .received_at_ns = (int64_t)number * 3,
                               .record = {.kind = RECORD_METRIC,
                                          .severity = 4,
                                          .event_time_ns = -(int64_t)number,
                                          .payload = {payload, bytes}},
                               .status = 400,
                               .refused_at_ns = 77};
    (void)snprintf(item.sink, sizeof item.sink, "%s", sink);
    (void)snprintf(item.reason, sizeof item.reason, "no \xff of %" PRIu64, number);
    fill(item.record.id.bytes, sizeof item.record.id.bytes, number);
    fill(payload, bytes, number);
    return item;
}

static inline bool same_item(const struct quarantined *a, const struct quarantined *b)
{
    return a->id == b->id && strcmp(a->sink, b->sink) == 0 && a->lsn == b->lsn &&
           a->received_at_ns == b->received_at_ns && a->record.kind == b->record.kind &&
           a->record.encoding == b->record.encoding && a->record.severity == b->record.severity &&
           a->record.event_time_ns == b->record.event_time_ns &&
           memcmp(&a->record.id, &b->record.id, sizeof a->record.id) == 0 &&
           slice_equal(a->record.meta, b->record.meta) &&
           slice_equal(a->record.payload, b->record.payload) && a->status == b->status &&
           strcmp(a->reason, b->reason) == 0 && a->refused_at_ns == b->refused_at_ns &&
           a->state == b->state;
}

static inline uint64_t put_item(struct forward_db *db, const char *sink, uint64_t number,
                                size_t bytes)
{
    struct err err = {0};
    uint8_t *payload = mem_alloc(bytes + 1);
    struct quarantined item = item_of(sink, number, payload, bytes);
    ok(forward_db_quarantine_put(db, &item, &err), &err);
    mem_free(payload);
    return item.id;
}

static inline struct forward_db *open_reader(const char *path)
{
    struct forward_db *reader = NULL;
    struct err err = {0};
    ok(forward_db_open_read_only(&reader, path, &err), &err);
    return reader;
}

#endif
