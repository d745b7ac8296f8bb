/*
 * The store as it runs: real disk, writer and keeper threads, two shards that submit through their
 * ports, sleep on their parks and check their acks. Meant for ThreadSanitizer above all; the
 * simulator checks the rest.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "store/file_io.h"
#include "store/reader.h"
#include "store/store.h"

#define SHARDS        2u
#define REQUESTS      4000u
#define RECORDS_MAX   3u
#define FLIGHT_MAX    48u /* requests that a shard has waiting at most */
#define KEY_EVERY     4u  /* each fourth request has a key, each key comes twice */
#define DEADLINE_NS   (60 * NS_S)
#define PAYLOAD_BYTES 700u

struct sent {
    uint64_t end;
    uint64_t first_lsn; /* 0: nothing stored */
    uint32_t record_count;
    bool is_keyed;
    bool is_repeat; /* of the keyed request before it */
    bool has_outcome;
    uint64_t original_lsn; /* that its outcome named */
};

struct live_shard {
    struct store *store;
    struct store_port *port;
    struct park park;
    pthread_t thread;
    unsigned index;
    struct sent sent[REQUESTS];
    uint32_t sent_count;
    uint32_t told_count;
    uint64_t stored;
};

static struct live_shard shards[SHARDS];

/* ---- a shard; ASSERT instead of cmocka's checks, which belong to the main thread ---- */

static size_t record_put(uint8_t *to, const struct live_shard *shard, uint32_t number,
                         uint32_t index)
{
    uint8_t meta[256];
    size_t meta_bytes = 0;
    uint8_t payload[PAYLOAD_BYTES];
    memset(payload, (int)number, sizeof payload);
    if (shard->sent[number].is_keyed && index == 0) {
        char key[32];
        uint32_t key_number = shard->sent[number].is_repeat ? number - KEY_EVERY : number;
        int length = snprintf(key, sizeof key, "%u-%u", shard->index, key_number);
        struct receipt receipt = {.key = {(const uint8_t *)key, (size_t)length},
                                  .form = FORM_ARRAY,
                                  .accepted = shard->sent[number].record_count};
        meta_bytes = meta_receipt_encode(meta, &receipt);
    }
    struct record record = {.kind = RECORD_LOG,
                            .event_time_ns = number,
                            .meta = {meta, meta_bytes},
                            .payload = {payload, 20 + number % (PAYLOAD_BYTES - 20)}};
    memcpy(record.id.bytes, &shard->index, 4);
    memcpy(record.id.bytes + 4, &number, 4);
    memcpy(record.id.bytes + 8, &index, 4);
    return record_encode(to, &record);
}

static bool submit_one(struct live_shard *shard)
{
    uint32_t number = shard->sent_count;
    struct sent *sent = &shard->sent[number];
    bool is_keyed = number % KEY_EVERY == 0;
    bool is_repeat = is_keyed && number / KEY_EVERY % 2 == 1;
    *sent = (struct sent){.record_count = 1 + number / (2 * KEY_EVERY) % RECORDS_MAX,
                          .is_keyed = is_keyed,
                          .is_repeat = is_repeat};
    uint8_t *to = spsc_claim(&shard->port->submit, KIB(8));
    if (to == NULL) {
        return false;
    }
    struct submit_header header = {.record_count = sent->record_count,
                                   .kinds = 1u << RECORD_LOG,
                                   .flags = is_keyed ? (uint32_t)SUBMIT_KEYED : 0u,
                                   .time_min_ns = number,
                                   .time_max_ns = number,
                                   .submitted_at_ns = clock_mono_ns()};
    size_t at = sizeof header;
    for (uint32_t i = 0; i < sent->record_count; i++) {
        at += record_put(to + at, shard, number, i);
    }
    header.records_bytes = (uint32_t)(at - sizeof header);
    memcpy(to, &header, sizeof header);
    sent->end = spsc_commit(&shard->port->submit, SUBMIT_REQUEST, at);
    shard->sent_count++;
    return true;
}

static void on_outcome(struct live_shard *shard, const struct ack_outcome *outcome)
{
    for (uint32_t i = shard->told_count; i < shard->sent_count; i++) {
        struct sent *sent = &shard->sent[i];
        if (sent->end == outcome->end) {
            ASSERT(sent->is_keyed);
            ASSERT(!sent->has_outcome);
            ASSERT(outcome->verdict ==
                   (uint32_t)(sent->is_repeat ? OUTCOME_DUPLICATE : OUTCOME_STORED));
            sent->has_outcome = true;
            sent->original_lsn = outcome->first_lsn;
            return;
        }
    }
    ASSERT(false); /* names no request that waits */
}

static void on_durable(struct live_shard *shard, const struct ack_durable *ack)
{
    uint64_t lsn = ack->first_lsn;
    while (shard->told_count < shard->sent_count &&
           shard->sent[shard->told_count].end <= ack->end) { /* bounded by what was sent */
        struct sent *sent = &shard->sent[shard->told_count++];
        ASSERT(sent->has_outcome == sent->is_keyed);
        uint32_t stored = sent->is_repeat ? 0 : sent->record_count;
        sent->first_lsn = stored == 0 ? 0 : lsn;
        if (sent->is_repeat) {
            ASSERT(sent->original_lsn == (sent - KEY_EVERY)->first_lsn);
        }
        lsn += stored;
        shard->stored += stored;
    }
    ASSERT(shard->sent[shard->told_count - 1].end == ack->end);
}

static void read_acks(struct live_shard *shard)
{
    struct spsc *acks = &shard->port->acks;
    const struct spsc_frame *frame = spsc_take(acks);
    while (frame != NULL) {
        ASSERT(frame->type != ACK_FAILED);
        if (frame->type == ACK_OUTCOME) {
            on_outcome(shard, (const void *)frame->payload);
        } else {
            on_durable(shard, (const void *)frame->payload);
        }
        frame = spsc_take(acks);
    }
    spsc_release(acks);
}

static void sleep_for_acks(struct live_shard *shard)
{
    park_prepare(&shard->park, PARK_ANY);
    if (spsc_is_empty(&shard->port->acks)) {
        struct pollfd poll_fd = {.fd = shard->park.fd, .events = POLLIN};
        if (poll(&poll_fd, 1, 5000) > 0) {
            park_drain(&shard->park);
        } else {
            ASSERT(!spsc_is_empty(&shard->port->acks)); /* else a wake-up was lost */
        }
    }
    park_cancel(&shard->park);
}

static void *shard_main(void *argument)
{
    struct live_shard *shard = argument;
    role_set(ROLE_SHARD);
    while (shard->told_count < REQUESTS) { /* ends, or sleep_for_acks does */
        unsigned burst = 1 + shard->sent_count % 9;
        for (unsigned i = 0;
             i < burst && shard->sent_count < REQUESTS &&
             shard->sent_count - shard->told_count < FLIGHT_MAX && submit_one(shard);
             i++) {
        }
        if (spsc_publish(&shard->port->submit)) {
            (void)park_wake(shard->port->writer_park, false);
        }
        read_acks(shard);
        bool is_full = shard->sent_count - shard->told_count >= FLIGHT_MAX;
        if (is_full || shard->sent_count == REQUESTS) {
            if (shard->told_count < REQUESTS) {
                sleep_for_acks(shard);
            }
            read_acks(shard);
        }
    }
    return NULL;
}

/* ---- the main thread ---- */

static char data_dir[64];

static void remove_dir(const char *path)
{
    char name[512];
    DIR *dir = opendir(path);
    assert_non_null(dir);
    const struct dirent *entry = readdir(dir);
    while (entry != NULL) {
        (void)snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        (void)unlink(name); /* directories stay for now */
        entry = readdir(dir);
    }
    (void)closedir(dir);
    (void)snprintf(name, sizeof name, "%s/log", path);
    if (access(name, F_OK) == 0) {
        remove_dir(name);
    }
    (void)rmdir(path);
}

static struct store *open_store(struct recovery_report *report)
{
    struct store_options options = {.data_dir = data_dir,
                                    .segment_bytes = KIB(256),
                                    .reserve_bytes = KIB(64),
                                    .ring_bytes = KIB(64),
                                    .batch_bytes = KIB(32),
                                    .commit_pause_ns = 300 * NS_US,
                                    .dedup_ttl_ns = 3600 * NS_S,
                                    .dedup_entries_max = 10000,
                                    .spare_segments = 2,
                                    .shard_count = SHARDS,
                                    .writer_cpu = -1,
                                    .allow_volatile = true};
    struct store *store = NULL;
    struct err err = {0};
    if (store_open(&store, &options, NULL, report, &err) < 0) {
        fail_msg("%s", err.text);
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        shards[i].index = i;
        shards[i].store = store;
        shards[i].port = store_port(store, i);
        shards[i].port->shard_park = &shards[i].park;
    }
    if (store_start(store, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return store;
}

static void stop_store(struct store *store)
{
    uint64_t begun_at_ns = clock_mono_ns();
    store_stop(store);
    while (!store_is_finished(store)) {
        assert_true(clock_mono_ns() - begun_at_ns < DEADLINE_NS);
        (void)usleep(1000);
    }
    store_close(store);
}

static void check_record(const struct reader_record *found)
{
    uint32_t at[3];
    memcpy(at, found->record.id.bytes, sizeof at);
    assert_true(at[0] < SHARDS);
    assert_true(at[1] < REQUESTS);
    const struct sent *sent = &shards[at[0]].sent[at[1]];
    assert_true(at[2] < sent->record_count);
    assert_int_equal(found->lsn, sent->first_lsn + at[2]); /* where its acknowledgement said */
    assert_int_equal(found->record.payload.data[0], at[1] & 0xff);
}

static uint64_t check_log(void)
{
    struct file_io *io = NULL;
    struct reader *reader = NULL;
    struct reader_record found;
    struct err err = {0};
    uint64_t lsn = 0;
    assert_int_equal(file_io_real_open_existing(&io, data_dir, &err), 0);
    assert_int_equal(reader_open(&reader, io, 1, &err), 0);
    while (reader_next(reader, &found, &err) == 1) {
        assert_int_equal(found.lsn, ++lsn);
        check_record(&found);
    }
    reader_close(reader);
    io->ops->destroy(io);
    return lsn;
}

static void two_shards_are_answered_and_everything_is_in_the_log(void **state)
{
    (void)state;
    struct err err = {0};
    struct recovery_report report;
    for (unsigned i = 0; i < SHARDS; i++) {
        assert_int_equal(park_init(&shards[i].park, &err), 0);
    }
    struct store *store = open_store(&report);
    for (unsigned i = 0; i < SHARDS; i++) {
        assert_int_equal(pthread_create(&shards[i].thread, NULL, shard_main, &shards[i]), 0);
    }
    uint64_t stored = 0;
    for (unsigned i = 0; i < SHARDS; i++) {
        assert_int_equal(pthread_join(shards[i].thread, NULL), 0);
        stored += shards[i].stored;
    }
    /* What the rest of the process reads while the agents run. */
    assert_true(store_writer_heartbeat_ns(store) > 0);
    assert_int_equal(atomic_load_explicit(&store_status(store)->durable_lsn, memory_order_acquire),
                     stored);
    stop_store(store);
    assert_int_equal(check_log(), stored);
    store = open_store(&report);
    assert_int_equal(report.last_lsn, stored);
    assert_int_equal(report.torn_batches_cut + report.corrupt_batches, 0);
    assert_int_equal(report.keys_rebuilt, SHARDS * ((REQUESTS / KEY_EVERY + 1) / 2));
    stop_store(store); /* at once: nothing was submitted */
    assert_int_equal(check_log(), stored);
    for (unsigned i = 0; i < SHARDS; i++) {
        park_close(&shards[i].park);
    }
}

/* Shards that were ended by force: their acks ring fills up and nobody reads it. */
static void close_ends_though_nobody_reads_acks(void **state)
{
    (void)state;
    struct err err = {0};
    struct recovery_report report;
    for (unsigned i = 0; i < SHARDS; i++) {
        assert_int_equal(park_init(&shards[i].park, &err), 0);
    }
    struct store *store = open_store(&report);
    struct live_shard *shard = &shards[0];
    static char errors[16000];
    memset(errors, 'e', sizeof errors);
    struct receipt receipt = {
        .key = SLICE_LITERAL("k"), .accepted = 1, .errors = {(uint8_t *)errors, sizeof errors}};
    static uint8_t meta[RECORD_META_BYTES_MAX];
    struct record record = {.kind = RECORD_LOG,
                            .meta = {meta, meta_receipt_encode(meta, &receipt)}};
    uint64_t deadline_ns = clock_mono_ns() + 3 * NS_S;
    unsigned count = 0;
    while (count < 80 && clock_mono_ns() < deadline_ns) {
        uint8_t *to = spsc_claim(&shard->port->submit, KIB(20));
        if (to == NULL) {
            if (count > 33 && spsc_pending_bytes(&shard->port->submit) > KIB(32)) {
                break; /* the writer takes no more: no room for answers */
            }
            (void)usleep(1000);
            continue;
        }
        struct submit_header header = {
            .record_count = 1, .kinds = 1u << RECORD_LOG, .flags = SUBMIT_KEYED};
        header.records_bytes = (uint32_t)record_encode(to + sizeof header, &record);
        memcpy(to, &header, sizeof header);
        (void)spsc_commit(&shard->port->submit, SUBMIT_REQUEST,
                          sizeof header + header.records_bytes);
        (void)spsc_publish(&shard->port->submit);
        (void)park_wake(shard->port->writer_park, false);
        count++;
    }
    store_stop(store);
    (void)usleep(100000);
    assert_false(store_is_finished(store)); /* it waits for the shard */
    (void)alarm(30);                        /* a close that never ends must not hang the tests */
    store_close(store);
    (void)alarm(0);
    for (unsigned i = 0; i < SHARDS; i++) {
        park_close(&shards[i].park);
    }
}

static void close_without_stop_ends_all_the_same(void **state)
{
    (void)state;
    struct err err = {0};
    struct recovery_report report;
    for (unsigned i = 0; i < SHARDS; i++) {
        assert_int_equal(park_init(&shards[i].park, &err), 0);
    }
    for (unsigned i = 0; i < 10; i++) {
        struct store *store = open_store(&report);
        (void)usleep(i * 300);
        store_close(store);
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        park_close(&shards[i].park);
    }
}

static int make_dir(void **state)
{
    (void)state;
    memset(shards, 0, sizeof shards);
    (void)snprintf(data_dir, sizeof data_dir, "live-XXXXXX");
    return mkdtemp(data_dir) == NULL ? -1 : 0;
}

static int drop_dir(void **state)
{
    (void)state;
    remove_dir(data_dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(two_shards_are_answered_and_everything_is_in_the_log,
                                        make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(close_ends_though_nobody_reads_acks, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(close_without_stop_ends_all_the_same, make_dir, drop_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
