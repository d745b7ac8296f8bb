/*
 * runs_fixture: a real store in a directory of its own and an agent-run database over it. Verbs: put (a command, durable when it returns),
 * open, catch_up, dump (a table as text). Commands have a tiny form instead of JSON, which is the model's business:
 * "<field>t<text>|<field>i<number>|<field>j<json>|<field>n|" in the numbers of enum run_field.
 */
#ifndef RUNS_FIXTURE_H
#define RUNS_FIXTURE_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/mem.h"
#include "store/runs.h"
#include "store/runs_lock.h"
#include "store/store.h"

#define RF_TIME_NS 1764000000123456000ll /* 2025-11-24T16:00:00.123456Z */
#define RF_DAY_NS  (86400 * (int64_t)NS_S)

struct rf {
    char dir[64];
    char db[160];
    char lock[160];
    char ndjson[160];
    struct store *store;
    struct park shard_park;
    struct park runs_park;
    struct park *shard_parks[1];
    struct runs_options options;
    struct runs_opened opened;
    struct runs *runs;
    uint64_t ended; /* ring position that is durable */
    uint64_t first_lsn;
    uint64_t last_lsn;                /* of the log when the store was opened */
    const _Atomic uint64_t *told_lsn; /* NULL: the store's durable_lsn */
    struct err err;
};

/* ---- the reading ---- */

static inline int rf_read(void *context, struct runs_fields *fields, enum runs_command command,
                          struct slice payload, uint8_t *scratch, struct err *err)
{
    (void)context;
    (void)command;
    (void)scratch;
    memset(fields, 0, sizeof *fields);
    const char *at = (const char *)payload.data;
    const char *end = at + payload.bytes;
    while (at < end) {
        char *rest = NULL;
        const char *bar = memchr(at, '|', (size_t)(end - at));
        unsigned long field = strtoul(at, &rest, 10);
        if (bar == NULL || rest == at || field >= RUNS_FIELD_COUNT) {
            return err_set(err, ERR_SYNTAX, "no command");
        }
        struct runs_value *value = &fields->values[field];
        value->type = *rest == 't'   ? RUNS_TEXT
                      : *rest == 'j' ? RUNS_JSON
                      : *rest == 'i' ? RUNS_INTEGER
                                     : RUNS_NULL;
        value->text = (struct slice){(const uint8_t *)rest + 1, (size_t)(bar - rest - 1)};
        value->integer = *rest == 'i' ? strtoll(rest + 1, NULL, 10) : 0;
        at = bar + 1;
    }
    return 0;
}

/* ---- files ---- */

static inline void rf_remove(const char *path)
{
    char name[512];
    DIR *dir = opendir(path);
    if (dir == NULL) {
        (void)unlink(path);
        return;
    }
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            (void)snprintf(name, sizeof name, "%.250s/%.250s", path, entry->d_name);
            rf_remove(name);
        }
    }
    (void)closedir(dir);
    (void)rmdir(path);
}

static inline void rf_copy(const char *from, const char *to)
{
    char bytes[65536];
    int in = open(from, O_RDONLY);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(in >= 0 && out >= 0);
    for (ssize_t n = read(in, bytes, sizeof bytes); n > 0; n = read(in, bytes, sizeof bytes)) {
        assert_int_equal(write(out, bytes, (size_t)n), n);
    }
    (void)close(in);
    (void)close(out);
}

/* A whole file; the caller frees. */
static inline char *rf_text(const char *path)
{
    struct stat is;
    int fd = open(path, O_RDONLY);
    if (fd < 0) {
        return NULL;
    }
    assert_int_equal(fstat(fd, &is), 0);
    char *text = mem_alloc((size_t)is.st_size + 1);
    assert_int_equal(read(fd, text, (size_t)is.st_size), is.st_size);
    (void)close(fd);
    return text;
}

static inline void rf_init(struct rf *rf)
{
    memset(rf, 0, sizeof *rf);
    (void)snprintf(rf->dir, sizeof rf->dir, "/tmp/sluice-runs-XXXXXX");
    assert_non_null(mkdtemp(rf->dir));
    (void)snprintf(rf->db, sizeof rf->db, "%s/runs.sqlite", rf->dir);
    (void)snprintf(rf->lock, sizeof rf->lock, "%s/" RUNS_LOCK_NAME, rf->dir);
    (void)snprintf(rf->ndjson, sizeof rf->ndjson, "%s/raw", rf->dir);
    assert_int_equal(park_init(&rf->shard_park, &rf->err), 0);
    assert_int_equal(park_init(&rf->runs_park, &rf->err), 0);
    rf->shard_parks[0] = &rf->shard_park;
    rf->options = (struct runs_options){.path = rf->db,
                                        .lock_path = rf->lock,
                                        .ndjson_dir = "",
                                        .park = &rf->runs_park,
                                        .shard_count = 1,
                                        .shard_parks = rf->shard_parks,
                                        .busy_timeout_ns = 300 * NS_MS,
                                        .dedup_ttl_ns = 3600 * NS_S,
                                        .read = rf_read};
}

/* ---- the store ---- */

static inline void rf_store_open(struct rf *rf)
{
    struct recovery_report report;
    struct store_options options = {.data_dir = rf->dir,
                                    .segment_bytes = MIB(2),
                                    .reserve_bytes = KIB(64),
                                    .ring_bytes = MIB(1),
                                    .batch_bytes = KIB(64),
                                    .dedup_ttl_ns = 3600 * NS_S,
                                    .dedup_entries_max = 1000,
                                    .spare_segments = 2,
                                    .shard_count = 1,
                                    .writer_cpu = -1,
                                    .allow_volatile = true};
    if (store_open(&rf->store, &options, NULL, &report, &rf->err) < 0) {
        fail_msg("%s", rf->err.text);
    }
    store_port(rf->store, 0)->shard_park = &rf->shard_park;
    rf->ended = 0;
    rf->first_lsn = 1;
    rf->last_lsn = report.last_lsn;
}

static inline void rf_store_start(struct rf *rf)
{
    if (store_start(rf->store, &rf->err) < 0) {
        fail_msg("%s", rf->err.text);
    }
}

static inline void rf_store_close(struct rf *rf)
{
    store_close(rf->store);
    rf->store = NULL;
}

static inline void rf_read_acks(struct rf *rf)
{
    struct spsc *acks = &store_port(rf->store, 0)->acks;
    for (const struct spsc_frame *frame = spsc_take(acks); frame != NULL; frame = spsc_take(acks)) {
        ASSERT(frame->type == ACK_DURABLE || frame->type == ACK_OUTCOME);
        if (frame->type == ACK_DURABLE) {
            memcpy(&rf->ended, frame->payload, sizeof rf->ended);
        }
    }
    spsc_release(acks);
}

static inline uint8_t *rf_claim(struct rf *rf, uint64_t need)
{
    struct store_port *port = store_port(rf->store, 0);
    uint8_t *to = spsc_claim(&port->submit, need);
    for (unsigned i = 0; to == NULL && i < 10000; i++) { /* full: let the writer work */
        (void)spsc_publish(&port->submit);
        (void)park_wake(port->writer_park, false);
        rf_read_acks(rf);
        (void)poll(NULL, 0, 1);
        to = spsc_claim(&port->submit, need);
    }
    ASSERT(to != NULL);
    return to;
}

/* Into the ring, not yet published; the ring's position behind it. */
static inline uint64_t rf_submit(struct rf *rf, uint8_t command, const char *event_id,
                                 const char *payload, int64_t time_ns)
{
    static uint8_t meta[65536];
    struct store_port *port = store_port(rf->store, 0);
    struct slice id = {(const uint8_t *)event_id, strlen(event_id)};
    size_t meta_bytes = command == 0 ? 0 : meta_run_encode(meta, command, id);
    struct record record = {.kind = command == 0 ? RECORD_LOG : RECORD_RUN,
                            .event_time_ns = time_ns,
                            .meta = {meta, meta_bytes},
                            .payload = {(const uint8_t *)payload, strlen(payload)}};
    uint64_t need =
        sizeof(struct submit_header) + record_padded_bytes(meta_bytes, record.payload.bytes);
    uint8_t *to = rf_claim(rf, need);
    struct submit_header header = {.record_count = 1,
                                   .kinds = 1u << (unsigned)record.kind,
                                   .time_min_ns = time_ns,
                                   .time_max_ns = time_ns,
                                   .submitted_at_ns = clock_mono_ns()};
    header.records_bytes = (uint32_t)record_encode(to + sizeof header, &record);
    memcpy(to, &header, sizeof header);
    return spsc_commit(&port->submit, SUBMIT_REQUEST, sizeof header + header.records_bytes);
}

static inline void rf_wait(struct rf *rf, uint64_t end)
{
    struct store_port *port = store_port(rf->store, 0);
    (void)spsc_publish(&port->submit);
    (void)park_wake(port->writer_park, false);
    for (unsigned i = 0; rf->ended < end; i++) {
        ASSERT(i < 60000);
        rf_read_acks(rf);
        if (rf->ended < end) {
            (void)poll(NULL, 0, 1);
        }
    }
}

static inline void rf_put_at(struct rf *rf, uint8_t command, const char *event_id,
                             const char *payload, int64_t time_ns)
{
    rf_wait(rf, rf_submit(rf, command, event_id, payload, time_ns));
}

static inline void rf_put(struct rf *rf, uint8_t command, const char *event_id, const char *payload)
{
    rf_put_at(rf, command, event_id, payload, RF_TIME_NS);
}

static inline void rf_create_text(char *text, size_t room, const char *event_id)
{
    (void)snprintf(text, room, "1t%s|2trun-%s|6t2025-11-24T15:00:00Z|8tagent-%zu|10tjob|", event_id,
                   event_id, strlen(event_id) % 3);
}

static inline void rf_create(struct rf *rf, const char *event_id)
{
    char text[512];
    rf_create_text(text, sizeof text, event_id);
    rf_put(rf, RUNS_COMMAND_CREATE, event_id, text);
}

/* ---- the database ---- */

static inline int rf_try_open(struct rf *rf)
{
    rf->options.source = (struct scan_source){
        store_views(rf->store), store_recent(rf->store),
        rf->told_lsn != NULL ? rf->told_lsn : &store_status(rf->store)->durable_lsn};
    rf->options.first_lsn = rf->first_lsn;
    /* relaxed: nothing is on its way. */
    rf->options.last_lsn =
        atomic_load_explicit(&store_status(rf->store)->durable_lsn, memory_order_relaxed);
    rf->options.node = store_node(rf->store);
    rf->err = (struct err){0};
    return runs_open(&rf->runs, &rf->options, &rf->opened, &rf->err);
}

static inline void rf_open(struct rf *rf)
{
    if (rf_try_open(rf) < 0) {
        fail_msg("%s", rf->err.text);
    }
}

/* What is too large for memory is found when the archive has told of the segment: a moment later in a log that has just
 * begun. */
static inline bool rf_is_behind(const struct rf *rf)
{
    /* relaxed: looked at again. */
    return rf->told_lsn == NULL &&
           atomic_load_explicit(&runs_status(rf->runs)->applied_lsn, memory_order_relaxed) <
               atomic_load_explicit(&store_status(rf->store)->durable_lsn, memory_order_relaxed);
}

static inline void rf_catch_up(struct rf *rf)
{
    for (unsigned i = 0; i == 0 || (i < 2000 && rf_is_behind(rf)); i++) {
        if (runs_catch_up(rf->runs, NULL, NULL, &rf->err) < 0) {
            fail_msg("%s", rf->err.text);
        }
        if (rf_is_behind(rf)) {
            (void)usleep(5000);
        }
    }
}

static inline void rf_close(struct rf *rf)
{
    runs_close(rf->runs);
    rf->runs = NULL;
}

static inline void rf_end(struct rf *rf)
{
    rf_close(rf);
    if (rf->store != NULL) {
        rf_store_close(rf);
    }
    park_close(&rf->shard_park);
    park_close(&rf->runs_park);
    rf_remove(rf->dir);
}

/* Rows as lines of values with '|' between, '~' for NULL; the caller frees. For writing, because who was killed may have left a journal
 * to roll back. */
static inline char *rf_query(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    (void)sqlite3_busy_timeout(db, 10000);
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK) {
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    }
    int code = sqlite3_step(statement);
    for (; code == SQLITE_ROW; code = sqlite3_step(statement)) {
        for (int i = 0; i < sqlite3_column_count(statement); i++) {
            const unsigned char *value = sqlite3_column_text(statement, i);
            (void)fprintf(out, "%s%s", i > 0 ? "|" : "", value != NULL ? (const char *)value : "~");
        }
        (void)fprintf(out, "\n");
    }
    assert_int_equal(code, SQLITE_DONE);
    (void)sqlite3_finalize(statement);
    (void)sqlite3_close(db);
    (void)fclose(out);
    return text;
}

static inline void rf_expect(const char *path, const char *sql, const char *expected)
{
    char *text = rf_query(path, sql);
    assert_string_equal(text, expected);
    free(text);
}

static inline int64_t rf_number(const char *path, const char *sql)
{
    char *text = rf_query(path, sql);
    int64_t number = strtoll(text, NULL, 10);
    free(text);
    return number;
}

static inline void rf_sql(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    char *why = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK) {
        fail_msg("%s: %s", sql, why);
    }
    (void)sqlite3_close(db);
}

/* One request with an Idempotency-Key of its own: count commands that differ in their event ids, e<first>, e<first + step> ...; the ring's
 * position behind it. payload NULL: creations. */
struct rf_keyed {
    uint8_t command;
    unsigned first, step, count;
    const char *payload;
    int64_t time_ns;
};

static inline size_t rf_keyed_record(uint8_t *to, const struct rf_keyed *keyed, unsigned index)
{
    static unsigned serial;
    uint8_t meta[256];
    char id[32];
    char text[256];
    char key[32];
    size_t bytes = 0;
    (void)snprintf(id, sizeof id, "e%u", keyed->first + index * keyed->step);
    rf_create_text(text, sizeof text, id);
    if (index == 0) {
        (void)snprintf(key, sizeof key, "key-%d-%u", (int)getpid(), serial++);
        struct receipt receipt = {.key = {(const uint8_t *)key, strlen(key)},
                                  .form = keyed->count == 1 ? FORM_OBJECT : FORM_ARRAY,
                                  .accepted = keyed->count};
        bytes = meta_receipt_encode(meta, &receipt);
    }
    bytes += meta_run_encode(meta + bytes, keyed->command,
                             (struct slice){(const uint8_t *)id, strlen(id)});
    const char *payload = keyed->payload != NULL ? keyed->payload : text;
    struct record record = {.kind = RECORD_RUN,
                            .event_time_ns = keyed->time_ns != 0 ? keyed->time_ns : RF_TIME_NS,
                            .meta = {meta, bytes},
                            .payload = {(const uint8_t *)payload, strlen(payload)}};
    return record_encode(to, &record);
}

static inline uint64_t rf_submit_keyed(struct rf *rf, const struct rf_keyed *keyed)
{
    struct store_port *port = store_port(rf->store, 0);
    int64_t time_ns = keyed->time_ns != 0 ? keyed->time_ns : RF_TIME_NS;
    struct submit_header header = {.record_count = keyed->count,
                                   .kinds = 1u << RECORD_RUN,
                                   .flags = SUBMIT_KEYED,
                                   .time_min_ns = time_ns,
                                   .time_max_ns = time_ns,
                                   .submitted_at_ns = clock_mono_ns()};
    uint8_t *to = rf_claim(rf, sizeof header + (uint64_t)keyed->count * 512);
    size_t bytes = 0;
    for (unsigned i = 0; i < keyed->count; i++) {
        bytes += rf_keyed_record(to + sizeof header + bytes, keyed, i);
    }
    header.records_bytes = (uint32_t)bytes;
    memcpy(to, &header, sizeof header);
    return spsc_commit(&port->submit, SUBMIT_REQUEST, sizeof header + bytes);
}

static inline void rf_put_keyed(struct rf *rf, struct rf_keyed keyed)
{
    rf_wait(rf, rf_submit_keyed(rf, &keyed));
}

/* Everything that commands make. */
static inline char *rf_dump(const char *path)
{
    char *runs = rf_query(path, "SELECT * FROM agent_runs ORDER BY id");
    char *events = rf_query(path, "SELECT * FROM run_events ORDER BY id");
    char *outcomes = rf_query(path, "SELECT * FROM sluice_run_outcomes ORDER BY lsn");
    char *sequences = rf_query(path, "SELECT * FROM sqlite_sequence ORDER BY name");
    char *all = NULL;
    assert_true(asprintf(&all, "%s---\n%s---\n%s---\n%s", runs, events, outcomes, sequences) > 0);
    free(outcomes);
    free(runs);
    free(events);
    free(sequences);
    return all;
}

#endif
