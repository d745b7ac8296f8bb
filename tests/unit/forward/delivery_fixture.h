/*
 * delivery_fixture: a real store with records in it, and lives of a delivery against a scripted upstream over real sockets. Verbs: append,
 * open, pass, crash, until. The oracle knows every record by the number in its message and every request by its key.
 */
#ifndef DELIVERY_FIXTURE_H
#define DELIVERY_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/mem.h"
#include "forward/delivery.h"
#include "http_upstream.h"
#include "store/digest.h"
#include "store/store.h"

#define DF_RECORDS_MAX 4000u
#define DF_BODIES_MAX  40000u

/* What the upstream stored under one key. */
struct df_body {
    char key[UPSTREAM_KEY_BYTES];
    uint64_t hash;
    char *text;
    unsigned times;
};

struct df {
    char dir[64];
    struct store *store;
    struct park park;
    struct store_port *port;
    uint32_t count; /* records in the log, numbered from 1 = LSN */

    struct http_upstream upstream;
    pthread_mutex_t mutex;
    struct df_body bodies[DF_BODIES_MAX];
    unsigned body_count;
    uint8_t by_id[DF_RECORDS_MAX + 1]; /* items: who is stored */
    unsigned requests;
    unsigned resent; /* items: something done was sent again under another key */
    unsigned pad;    /* bytes more in each record appended */
    uint64_t retention_bytes;
    unsigned different; /* a key with other bytes than the first time */
    uint64_t random;
    uint64_t append_random; /* apart from the script's, which another thread throws */
    /* The script's choices, in percent of requests. */
    unsigned fail, reset, lost, pause, too_many;
    bool refuses_poison, speaks_items;
    int fixed_status;  /* not 0: always this */
    int poison_status; /* 0: 400 */
    unsigned busy;     /* items: every so many-th record is answered 429; 0: none */

    struct config_sink sink;
    struct forward_db *db;
    struct transport *transport;
    struct delivery *delivery;
    struct sink_status status;
    struct delivery_options options;
    unsigned passes, rollbacks;
    bool must_fail_commit;
};

static inline uint64_t df_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* ---- which record is what ---- */

static inline bool df_is_metric(uint32_t n)
{
    return n % 5 == 0;
}
static inline bool df_is_poison(uint32_t n)
{
    return n % 37 == 11;
}

/* ---- the store ---- */

static inline void df_remove(const char *path)
{
    char name[512];
    DIR *dir = opendir(path);
    for (const struct dirent *entry = dir == NULL ? NULL : readdir(dir); entry != NULL;
         entry = readdir(dir)) {
        if (entry->d_name[0] == '.' && strcmp(entry->d_name, ".lock") != 0) {
            continue;
        }
        (void)snprintf(name, sizeof name, "%.250s/%.250s", path, entry->d_name);
        if (unlink(name) != 0) {
            df_remove(name);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    (void)rmdir(path);
}

static inline void df_store_open(struct df *df)
{
    struct err err = {0};
    struct recovery_report report;
    struct store_options options = {.data_dir = df->dir,
                                    .segment_bytes = KIB(128),
                                    .reserve_bytes = KIB(64),
                                    .ring_bytes = MIB(1),
                                    .batch_bytes = KIB(16),
                                    .dedup_ttl_ns = 3600 * NS_S,
                                    .dedup_entries_max = 1000,
                                    .spare_segments = 1,
                                    .shard_count = 1,
                                    .writer_cpu = -1,
                                    .retention_bytes = df->retention_bytes,
                                    .unforwarded_drop = df->retention_bytes != 0,
                                    .compacts = true,
                                    .compact_level = 1,
                                    .allow_volatile = true};
    if (store_open(&df->store, &options, NULL, &report, &err) < 0) {
        fail_msg("%s", err.text);
    }
    df->port = store_port(df->store, 0);
    df->port->shard_park = &df->park;
    store_set_retain_lsn(df->store, 1);
    assert_int_equal(store_start(df->store, &err), 0);
}

static inline uint64_t df_durable(const struct df *df)
{
    return atomic_load_explicit(&store_status(df->store)->durable_lsn, memory_order_acquire);
}

static inline size_t df_record(uint8_t *to, uint32_t n, unsigned pad)
{
    char text[4096];
    int bytes = snprintf(text, sizeof text, "{\"message\":\"r%08u%s\",\"service\":\"s%u%0*u\"%s}",
                         n, df_is_poison(n) ? " poison" : "", n % 7, (int)pad + 1, 0u,
                         df_is_metric(n) && n % 20 != 0 ? ",\"name\":\"m\",\"value\":1.5" : "");
    struct record record = {.kind = df_is_metric(n) ? RECORD_METRIC : RECORD_LOG,
                            .severity = SEVERITY_INFO,
                            .event_time_ns = INT64_C(1700000000000000000) + n,
                            .payload = {(const uint8_t *)text, (size_t)bytes}};
    memcpy(record.id.bytes + 12, &n, sizeof n);
    return record_encode(to, &record);
}

/* count more records, in requests of up to 9; durable when it returns. */
static inline void df_append(struct df *df, uint32_t count)
{
    while (count > 0) {
        uint32_t here = 1 + (uint32_t)(df_random(&df->append_random) % 9);
        here = here < count ? here : count;
        uint8_t *to = spsc_claim(&df->port->submit, KIB(8) + here * df->pad);
        assert_non_null(to);
        struct submit_header header = {.record_count = here,
                                       .time_min_ns = INT64_C(1700000000000000001) + df->count,
                                       .time_max_ns =
                                           INT64_C(1700000000000000000) + df->count + here,
                                       .submitted_at_ns = clock_mono_ns()};
        size_t at = sizeof header;
        for (uint32_t i = 0; i < here; i++) {
            at += df_record(to + at, ++df->count, df->pad);
            header.kinds |= df_is_metric(df->count) ? 1u << RECORD_METRIC : 1u << RECORD_LOG;
        }
        assert_true(df->count <= DF_RECORDS_MAX);
        header.records_bytes = (uint32_t)(at - sizeof header);
        memcpy(to, &header, sizeof header);
        (void)spsc_commit(&df->port->submit, SUBMIT_REQUEST, at);
        (void)spsc_publish(&df->port->submit);
        (void)park_wake(df->port->writer_park, true);
        for (unsigned tries = 0; tries < 10000 && df_durable(df) < df->count; tries++) {
            (void)poll(NULL, 0, 1);
            while (spsc_take(&df->port->acks) != NULL) {
            }
            spsc_release(&df->port->acks);
        }
        assert_int_equal(df_durable(df), df->count);
        count -= here;
    }
}

static inline void df_store_close(struct df *df)
{
    store_stop(df->store);
    for (unsigned tries = 0; tries < 10000 && !store_is_finished(df->store); tries++) {
        (void)poll(NULL, 0, 1);
        while (spsc_take(&df->port->acks) != NULL) {
        }
        spsc_release(&df->port->acks);
    }
    store_close(df->store);
    df->store = NULL;
}

/* ---- the upstream ---- */

/* True: the key was there already. */
static inline bool df_keep(struct df *df, const struct upstream_request *request)
{
    uint64_t hash = digest_64((struct slice){(const uint8_t *)request->body, request->bytes}, 7);
    for (unsigned i = 0; i < df->body_count; i++) {
        if (strcmp(df->bodies[i].key, request->key) == 0) {
            df->different += df->bodies[i].hash != hash;
            df->bodies[i].times++;
            return true;
        }
    }
    assert_true(df->body_count < DF_BODIES_MAX);
    struct df_body *body = &df->bodies[df->body_count++];
    *body = (struct df_body){.hash = hash, .times = 1};
    memcpy(body->key, request->key, sizeof body->key);
    body->text = mem_alloc(request->bytes + 1);
    memcpy(body->text, request->body, request->bytes);
    return false;
}

/* The numbers of the records in a body, in order; returns the next place or NULL. */
static inline const char *df_next_number(const char *at, uint32_t *n)
{
    at = strstr(at, "\"r0");
    if (at == NULL) {
        return NULL;
    }
    *n = (uint32_t)strtoul(at + 2, NULL, 10);
    return at + 3;
}

static inline char *df_items(struct df *df, const struct upstream_request *request, bool is_repeat)
{
    size_t room = 256;
    uint32_t n = 0;
    for (const char *at = df_next_number(request->body, &n); at != NULL;
         at = df_next_number(at, &n)) {
        room += 160;
    }
    char *text = mem_alloc(room);
    size_t bytes = (size_t)snprintf(text, room, "{\"took\":1,\"errors\":true,\"items\":[");
    const char *comma = "";
    for (const char *at = df_next_number(request->body, &n); at != NULL;
         at = df_next_number(at, &n)) {
        int status = df->by_id[n] != 0                             ? 409
                     : df->refuses_poison && df_is_poison(n)       ? 400
                     : df->busy != 0 && n % df->busy == 1          ? 429
                     : df_random(&df->random) % 100 < df->too_many ? 429
                                                                   : 201;
        df->resent += status == 409 && !is_repeat;
        df->by_id[n] = (uint8_t)(df->by_id[n] + (status == 201));
        const char *error = status == 400   ? ",\"error\":{\"type\":\"bad\",\"reason\":\"poison\"}"
                            : status == 429 ? ",\"error\":{\"type\":\"busy\",\"reason\":\"queue\"}"
                                            : "";
        bytes += (size_t)snprintf(text + bytes, room - bytes, "%s{\"create\":{\"status\":%d%s}}",
                                  comma, status, error);
        comma = ",";
    }
    (void)snprintf(text + bytes, room - bytes, "]}");
    return text;
}

static inline void df_script(void *context, const struct upstream_request *request,
                             struct upstream_reply *reply)
{
    struct df *df = context;
    (void)pthread_mutex_lock(&df->mutex);
    df->requests++;
    unsigned dice = (unsigned)(df_random(&df->random) % 100);
    if (df->fixed_status != 0) {
        reply->status = df->fixed_status;
    } else if (dice < df->fail) {
        reply->status = dice % 2 == 0 ? 503 : 429;
    } else if ((dice -= df->fail) < df->reset) {
        reply->status = 0;
    } else if ((dice -= df->reset) < df->pause) {
        reply->status = 401;
    } else if (!df->speaks_items && df->refuses_poison && strstr(request->body, "poison") != NULL) {
        reply->status = df->poison_status != 0 ? df->poison_status : 400;
        reply->body = mem_alloc(16);
        (void)snprintf(reply->body, 16, "poison");
    } else {
        bool is_repeat = df_keep(df, request);
        if (df->speaks_items) {
            reply->body = df_items(df, request, is_repeat);
        }
        reply->status = dice - df->pause < df->lost ? 0 : 200;
    }
    (void)pthread_mutex_unlock(&df->mutex);
}

/* ---- a delivery's life ---- */

static inline void df_defaults(struct df *df, enum sink_type type)
{
    df->sink = (struct config_sink){.name = "up",
                                    .type = type,
                                    .kinds = 1u << RECORD_LOG,
                                    .batch_bytes = 4000,
                                    .batch_records = 16,
                                    .linger_ns = NS_MS,
                                    .connections = 3,
                                    .timeout_ns = 10 * NS_S,
                                    .connect_timeout_ns = 5 * NS_S,
                                    .backoff_min_ns = NS_MS,
                                    .backoff_max_ns = 8 * NS_MS,
                                    .breaker_failures = 3,
                                    .pause_retry_ns = 10 * NS_MS,
                                    .verify = true};
    (void)snprintf(df->sink.url, sizeof df->sink.url, "http://127.0.0.1:%u/in", df->upstream.port);
    df->speaks_items = type == SINK_OPENSEARCH;
}

static inline void df_open(struct df *df)
{
    struct err err = {0};
    char path[128];
    enum forward_db_found found;
    const struct store_status *status = store_status(df->store);
    (void)snprintf(path, sizeof path, "%s/%s", df->dir, FORWARD_DB_FILE);
    if (forward_db_open(&df->db, path, store_node(df->store), &found, &err) < 0 ||
        transport_open(&df->transport, &df->sink, 1, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_int_not_equal(found, FORWARD_DB_DAMAGED);
    df->options.sink = &df->sink;
    df->options.node = store_node(df->store);
    df->options.source =
        (struct scan_source){store_views(df->store), store_recent(df->store), &status->durable_lsn};
    df->options.status = status;
    df->options.db = df->db;
    df->options.transport = df->transport;
    df->options.out = &df->status;
    df->options.seed = df->random;
    df->options.compacts = true;
    df->options.lsn_max = df->options.lsn_max == 0 ? UINT64_MAX : df->options.lsn_max;
    if (delivery_open(&df->delivery, &df->options, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

/* As kill -9: nothing is written, what is under way is not waited for. */
static inline void df_crash(struct df *df)
{
    transport_close(df->transport);
    delivery_close(df->delivery);
    forward_db_close(df->db);
    df->delivery = NULL;
}

static inline struct sink_picture df_picture(struct df *df)
{
    struct sink_picture picture;
    sink_status_read(&df->status, &picture);
    if (!sink_balances(&picture)) {
        fail_msg("the ledger does not balance");
    }
    return picture;
}

/* The forwarder's pass. stop_before_commit: the process ends there. */
static inline void df_pass(struct df *df, bool stop_before_commit)
{
    struct err err = {0};
    bool has_changed = false;
    assert_int_equal(forward_db_begin(df->db, &err), 0);
    if (delivery_collect(df->delivery, clock_mono_ns(), &has_changed, &err) < 0) {
        fail_msg("%s", err.text);
    }
    df->passes++;
    if (stop_before_commit) {
        forward_db_rollback(df->db);
        return;
    }
    if (df->must_fail_commit && has_changed) {
        forward_db_rollback(df->db);
        /* The second that it waits is nearly over: passes without it come between. */
        delivery_after_rollback(df->delivery, clock_mono_ns() - NS_S + 3 * NS_MS);
        df->rollbacks++;
    } else {
        if (forward_db_commit(df->db, &err) < 0) {
            fail_msg("%s", err.text);
        }
        delivery_after_commit(df->delivery, clock_mono_ns());
    }
    (void)df_picture(df);
    transport_run(df->transport, 1);
}

static inline bool df_is_drained(struct df *df)
{
    struct sink_picture picture = df_picture(df);
    return picture.durable_lsn == df->count && sink_pending(&picture) == 0 &&
           picture.frozen_batches == 0;
}

static inline void df_drain(struct df *df)
{
    uint64_t end_ns = clock_mono_ns() + 60 * NS_S;
    df_pass(df, false);
    while (!df_is_drained(df)) {
        if (clock_mono_ns() > end_ns) {
            struct sink_picture p = df_picture(df);
            fail_msg("not drained: pending %llu batches %llu in flight %llu state %llu %s",
                     (unsigned long long)sink_pending(&p), (unsigned long long)p.frozen_batches,
                     (unsigned long long)p.in_flight, (unsigned long long)p.state, p.reason);
        }
        df_pass(df, false);
    }
}

/* ---- the oracle ---- */

struct df_quarantine {
    uint8_t has[DF_RECORDS_MAX + 1];
    unsigned count;
    uint64_t first_id;
    char reason[FORWARD_REASON_BYTES];
    int status;
};

static inline bool df_on_quarantined(void *context, const struct quarantined *item)
{
    struct df_quarantine *found = context;
    char text[200];
    assert_true(item->lsn >= 1 && item->lsn <= DF_RECORDS_MAX);
    found->has[item->lsn]++;
    found->first_id = found->count == 0 ? item->id : found->first_id;
    found->count++;
    found->status = item->status;
    memcpy(found->reason, item->reason, sizeof found->reason);
    /* The bytes are the client's. */
    (void)snprintf(text, sizeof text, "\"r%08u", (unsigned)item->lsn);
    assert_non_null(
        memmem(item->record.payload.data, item->record.payload.bytes, text, strlen(text)));
    return true;
}

static inline struct df_quarantine df_quarantined(struct df *df)
{
    struct df_quarantine found = {0};
    struct err err = {0};
    int r =
        forward_db_quarantine_list(df->db, "up", 0, UINT32_MAX, df_on_quarantined, &found, &err);
    assert_int_equal(r, found.count);
    return found;
}

/* After de-duplication by key (items: by id) each record of the sink's kinds is there once, or in quarantine once and never
 * both; nothing else is. */
static inline void df_expect_exactly_once(struct df *df, uint32_t from, uint32_t to)
{
    static uint8_t seen[DF_RECORDS_MAX + 1];
    memset(seen, 0, sizeof seen);
    (void)pthread_mutex_lock(&df->mutex);
    for (unsigned i = 0; i < df->body_count && !df->speaks_items; i++) {
        uint32_t n = 0;
        for (const char *at = df_next_number(df->bodies[i].text, &n); at != NULL;
             at = df_next_number(at, &n)) {
            assert_true(n >= 1 && n <= df->count);
            seen[n]++;
        }
    }
    if (df->speaks_items) {
        memcpy(seen, df->by_id, sizeof seen);
    }
    assert_int_equal(df->different, 0);
    assert_int_equal(df->resent, 0);
    (void)pthread_mutex_unlock(&df->mutex);
    struct df_quarantine quarantine = df_quarantined(df);
    for (uint32_t n = 1; n <= df->count; n++) {
        bool is_ours = !df_is_metric(n) && n >= from && n <= to;
        bool is_refused = is_ours && df->refuses_poison && df_is_poison(n);
        if (seen[n] != (is_ours && !is_refused) || quarantine.has[n] != is_refused) {
            fail_msg("record %u: delivered %u times, in quarantine %u times", n, seen[n],
                     quarantine.has[n]);
        }
    }
}

/* ---- all together ---- */

static inline struct df *df_new(uint64_t seed)
{
    struct df *df = mem_alloc(sizeof *df);
    struct err err = {0};
    (void)signal(SIGPIPE, SIG_IGN);
    (void)snprintf(df->dir, sizeof df->dir, "/tmp/sluice-delivery-XXXXXX");
    assert_non_null(mkdtemp(df->dir));
    df->random = seed;
    assert_int_equal(pthread_mutex_init(&df->mutex, NULL), 0);
    assert_int_equal(park_init(&df->park, &err), 0);
    http_upstream_start(&df->upstream, df_script, df);
    df_defaults(df, SINK_HTTP);
    df_store_open(df);
    return df;
}

/* The same log, a new upstream and a new database. */
static inline void df_again(struct df *df, uint64_t seed)
{
    char path[128];
    for (unsigned i = 0; i < df->body_count; i++) {
        mem_free(df->bodies[i].text);
    }
    df->body_count = df->requests = df->different = df->resent = 0;
    memset(df->by_id, 0, sizeof df->by_id);
    df->random = seed;
    static const char *const ends[] = {"", "-wal", "-shm"};
    for (unsigned i = 0; i < ARRAY_COUNT(ends); i++) {
        (void)snprintf(path, sizeof path, "%s/%s%s", df->dir, FORWARD_DB_FILE, ends[i]);
        (void)unlink(path);
    }
}

static inline void df_free(struct df *df)
{
    if (df->delivery != NULL) {
        df_crash(df);
    }
    http_upstream_stop(&df->upstream);
    df_store_close(df);
    df_again(df, 0);
    park_close(&df->park);
    df_remove(df->dir);
    mem_free(df);
}

#endif
