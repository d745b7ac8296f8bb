/* origins: what another node sends is stored exactly once by (node, LSN), whatever is repeated, in
 * whatever order, over crashes, and whether DIR/origins is there, gone, old or damaged. */
#include "store_fixture.h"

#include "store/origins.h"

#define NODES 3u
#define LSNS  600u

static struct ulid node(uint32_t number)
{
    return (struct ulid){{7, (uint8_t)(number >> 8), (uint8_t)number, 1}};
}

/* A request as a shard makes one: LSNs first..last of the node, but those that skip divides (0:
 * none), under one range. */
struct sent {
    unsigned shard;
    uint32_t node;
    uint64_t range_first, range_last;
    uint64_t first, last;
    uint64_t skip;
    bool is_split;         /* each record is a run of its own */
    uint32_t kinds;        /* 0: all */
    enum record_kind kind; /* 0: event */
    /* The node has them from another one, by way of these; their LSNs there are the same plus 1000. */
    const struct ulid *first_node;
    const struct ulid *via_node;
    bool is_first_before; /* or the same minus 1 */
    bool is_mixed;        /* every second is a log */
};

static size_t put_record(uint8_t *to, const struct sent *sent, uint64_t lsn, bool is_first)
{
    uint8_t meta[META_ORIGIN_BYTES + META_FIRST_BYTES_MAX];
    char payload[64];
    struct origin origin = {.node = node(sent->node), .lsn = lsn};
    origin.range_first = sent->is_split ? lsn : is_first ? sent->range_first : 0;
    origin.range_last = sent->is_split ? lsn : is_first ? sent->range_last : 0;
    uint32_t kinds = sent->kinds != 0 ? sent->kinds : ORIGIN_ALL_KINDS;
    origin.range_kinds = origin.range_last != 0 ? kinds : 0;
    size_t meta_bytes = meta_origin_encode(meta, &origin);
    if (sent->first_node != NULL) {
        struct first_origin first = {.node = *sent->first_node,
                                     .lsn = sent->is_first_before ? lsn - 1 : lsn + 1000,
                                     .via_count = sent->via_node != NULL};
        first.via[0] = sent->via_node != NULL ? *sent->via_node : first.via[0];
        meta_bytes += meta_first_encode(meta + meta_bytes, &first);
    }
    int n = snprintf(payload, sizeof payload, "{\"node\":%u,\"lsn\":%llu}", sent->node,
                     (unsigned long long)lsn);
    enum record_kind kind = sent->kind != 0 ? sent->kind : RECORD_EVENT;
    struct record record = {.kind = sent->is_mixed && lsn % 2 == 0 ? RECORD_LOG : kind,
                            .event_time_ns = 1000 + (int64_t)lsn,
                            .meta = {meta, meta_bytes},
                            .payload = {(const uint8_t *)payload, (size_t)n}};
    record.id.bytes[0] = (uint8_t)lsn;
    return record_encode(to, &record);
}

static uint32_t send(struct fixture *fx, const struct sent *sent)
{
    struct spsc *ring = &store_port(fx->store, sent->shard)->submit;
    uint64_t room = 0;
    uint8_t *to = spsc_claim_most(ring, KIB(4) + 200 * (sent->last - sent->first), &room);
    assert_non_null(to);
    struct submit_header header = {.kinds = 1u << RECORD_EVENT,
                                   .flags = SUBMIT_ORIGIN,
                                   .submitted_at_ns = sim_disk_now_ns(fx->disk)};
    size_t bytes = 0;
    for (uint64_t lsn = sent->first; lsn <= sent->last; lsn++) {
        if (sent->skip == 0 || lsn % sent->skip != 0) {
            bytes += put_record(to + sizeof header + bytes, sent, lsn, header.record_count == 0);
            header.record_count++;
        }
    }
    assert_true(header.record_count > 0);
    header.records_bytes = (uint32_t)bytes;
    memcpy(to, &header, sizeof header);
    (void)spsc_commit(ring, SUBMIT_REQUEST, sizeof header + bytes);
    (void)spsc_publish(ring);
    return header.record_count;
}

static struct sent whole(uint32_t number, uint64_t first, uint64_t last)
{
    return (struct sent){
        .node = number, .range_first = first, .range_last = last, .first = first, .last = last};
}

/* Sends and waits for the outcome. */
static const struct ack_outcome *ask(struct fixture *fx, struct sent sent)
{
    uint64_t outcomes = fx->outcomes;
    (void)send(fx, &sent);
    for (unsigned i = 0; i < 200 && fx->outcomes == outcomes; i++) {
        fx_step(fx, 1);
    }
    assert_int_equal(fx->outcomes, outcomes + 1);
    return &fx_outcome;
}

static void expect(const struct ack_outcome *outcome, uint32_t stored, uint32_t duplicates)
{
    assert_int_equal(outcome->verdict, OUTCOME_STORED);
    assert_int_equal(outcome->stored_count, stored);
    assert_int_equal(outcome->duplicate_count, duplicates);
}

/* How often each (node, LSN) is in the log. */
static uint8_t found[NODES][LSNS + 1];

static void read_log(struct fixture *fx)
{
    struct reader *reader = NULL;
    struct err err = {0};
    struct reader_record at;
    memset(found, 0, sizeof found);
    assert_int_equal(reader_open(&reader, sim_disk_io(fx->disk), 1, &err), 0);
    int r;
    while ((r = reader_next(reader, &at, &err)) == 1) {
        struct origin origin;
        if (meta_find_origin(&origin, at.record.meta) == 1) {
            assert_true(origin.node.bytes[2] < NODES);
            assert_true(origin.lsn <= LSNS);
            found[origin.node.bytes[2]][origin.lsn]++;
        }
    }
    assert_int_equal(r, 0);
    reader_close(reader);
}

static void save_now(struct fixture *fx)
{
    sim_disk_advance(fx->disk, 3 * NS_S);
    fx_step(fx, 4);
    sim_disk_advance(fx->disk, NS_S);
    fx_step(fx, 4);
}

static bool has_file(const struct fixture *fx)
{
    struct file_io *io = sim_disk_io(fx->disk);
    struct file file;
    if (io->ops->open(io, ORIGINS_FILE, FILE_OPEN_READ_ONLY, &file) < 0) {
        return false;
    }
    io->ops->close(io, file);
    return true;
}

static void remove_file(const struct fixture *fx)
{
    struct file_io *io = sim_disk_io(fx->disk);
    (void)io->ops->unlink(io, ORIGINS_FILE);
    assert_int_equal(io->ops->sync_dir(io, ""), 0);
}

/* A mark may be in flight: only a dead process leaves it. */
static void finish(struct fixture *fx)
{
    if (fx->store != NULL) {
        fx_kill(fx);
    }
    fx_end(fx);
}

static void what_is_sent_again_is_stored_once_and_counted(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 1);
    expect(ask(&fx, whole(0, 1, 10)), 10, 0);
    expect(ask(&fx, whole(0, 1, 10)), 0, 10);
    expect(ask(&fx, whole(0, 6, 15)), 5, 5);
    expect(ask(&fx, whole(1, 6, 15)), 10, 0); /* another node's LSNs are others */
    fx_stop(&fx);
    read_log(&fx);
    for (uint64_t lsn = 1; lsn <= 15; lsn++) {
        assert_int_equal(found[0][lsn], 1);
        assert_int_equal(found[1][lsn], lsn >= 6);
    }
    assert_int_equal(fx_verify_faults(&fx), 0);
    finish(&fx);
}

static void a_range_settles_also_what_it_does_not_carry(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 2);
    struct sent sent = whole(0, 10, 19);
    sent.skip = 2;
    expect(ask(&fx, sent), 5, 0);
    expect(ask(&fx, whole(0, 9, 20)), 2, 10);
    fx_kill(&fx);
    fx_open(&fx);
    expect(ask(&fx, whole(0, 9, 20)), 0, 12);
    finish(&fx);
}

static void a_range_survives_when_its_first_record_was_a_duplicate(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 3);
    expect(ask(&fx, whole(0, 1, 3)), 3, 0);
    struct sent sent = whole(0, 1, 30);
    sent.last = 5; /* 6..30 were not for us */
    expect(ask(&fx, sent), 2, 3);
    remove_file(&fx);
    fx_kill(&fx);
    remove_file(&fx);
    fx_open(&fx);
    expect(ask(&fx, whole(0, 1, 31)), 1, 30);
    finish(&fx);
}

/* The repeat is drained while the original is in flight: its answer may not come first. */
static void a_repeat_waits_for_its_original(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 40; seed++) {
        struct fixture fx;
        fx_init(&fx, seed);
        struct sent sent = whole(0, 1, 10);
        (void)send(&fx, &sent);
        (void)store_step_writer(fx.store); /* drained and submitted, not done */
        sent.shard = 1;
        (void)send(&fx, &sent);
        uint64_t count = sim_random_below(&(struct sim_random){seed}, 12);
        for (uint64_t i = 0; i < count; i++) {
            fx_step(&fx, 1);
        }
        bool is_told = fx.ended[1] != 0;
        fx_kill(&fx);
        fx_open(&fx);
        read_log(&fx);
        assert_true(!is_told || found[0][5] == 1); /* told: then it is there */
        assert_true(found[0][5] <= 1);
        (void)ask(&fx, sent);
        fx_stop(&fx);
        read_log(&fx);
        assert_int_equal(found[0][5], 1);
        finish(&fx);
    }
}

static void what_was_given_up_is_stored_when_it_comes_again(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 5);
    expect(ask(&fx, whole(0, 1, 10)), 10, 0);
    sim_disk_fail_all_writes(fx.disk, true);
    struct sent sent = whole(0, 11, 20);
    (void)send(&fx, &sent);
    for (unsigned i = 0; i < 500 && fx.failed_acks == 0; i++) {
        fx_step(&fx, 1);
    }
    assert_true(fx.failed_acks > 0);
    sim_disk_fail_all_writes(fx.disk, false);
    for (unsigned i = 0; i < 2000 && fx_state(&fx) != STORE_OK; i++) {
        sim_disk_advance(fx.disk, 100 * NS_MS);
        fx_step(&fx, 1);
    }
    expect(ask(&fx, whole(0, 1, 20)), 10, 10);
    fx_stop(&fx);
    read_log(&fx);
    for (uint64_t lsn = 1; lsn <= 20; lsn++) {
        assert_int_equal(found[0][lsn], 1);
    }
    finish(&fx);
}

/* ---- what others pass on ---- */

static struct sent passed_by(uint32_t number, const struct ulid *first, const struct ulid *via)
{
    struct sent sent = whole(number, 1, 10);
    sent.first_node = first;
    sent.via_node = via;
    return sent;
}

/* A ring: it was ours in the beginning, or we passed it on. */
static void what_was_here_on_its_way_is_a_duplicate(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 21);
    struct ulid ours = store_node(fx.store);
    struct ulid edge = node(300);
    expect(ask(&fx, passed_by(0, &ours, NULL)), 0, 10);
    expect(ask(&fx, passed_by(1, &edge, &ours)), 0, 10);
    expect(ask(&fx, passed_by(2, &edge, &edge)), 10, 0);
    assert_int_equal(fx_verify_faults(&fx), 0);
    finish(&fx);
}

/* Two ways from one node to us: the first copy stays, over a crash, with and without the file. */
static void what_comes_by_two_ways_is_stored_once(void **state)
{
    (void)state;
    for (unsigned way = 0; way < 6; way++) {
        struct fixture fx;
        fx_init(&fx, 22 + way);
        struct ulid edge = node(300);
        if (way % 2 == 0) {
            expect(ask(&fx, passed_by(0, &edge, NULL)), 10, 0);
        } else {
            struct sent direct = whole(300, 1001, 1010);
            expect(ask(&fx, direct), 10, 0);
        }
        if (way >= 2) {
            save_now(&fx);
            fx_kill(&fx);
            if (way >= 4) {
                remove_file(&fx);
            }
            fx_open(&fx);
        }
        expect(ask(&fx, passed_by(1, &edge, NULL)), 0, 10);
        expect(ask(&fx, whole(300, 1001, 1011)), 1, 10);
        expect(ask(&fx, passed_by(0, &edge, NULL)), 0, 10);
        fx_stop(&fx);
        assert_int_equal(fx_verify_faults(&fx), 0);
        finish(&fx);
    }
}

/* What a node passes on has its place in that node's log, and is no more there than it was sent. */
static void what_was_passed_on_is_given_up_with_its_batch(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 30);
    struct ulid edge = node(300);
    struct sent sent = passed_by(0, &edge, NULL);
    expect(ask(&fx, whole(1, 1, 1)), 1, 0);
    sim_disk_fail_all_writes(fx.disk, true);
    (void)send(&fx, &sent);
    for (unsigned i = 0; i < 500 && fx.failed_acks == 0; i++) {
        fx_step(&fx, 1);
    }
    assert_true(fx.failed_acks > 0);
    sim_disk_fail_all_writes(fx.disk, false);
    for (unsigned i = 0; i < 2000 && fx_state(&fx) != STORE_OK; i++) {
        sim_disk_advance(fx.disk, 100 * NS_MS);
        fx_step(&fx, 1);
    }
    expect(ask(&fx, sent), 10, 0);
    finish(&fx);
}

/* Nonsense, or malice: a record whose first name lies in a range that the same request has told. */
static void what_one_request_says_of_itself_is_no_program_error(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 32);
    struct ulid sender = node(0);
    struct sent sent = whole(0, 2, 20);
    sent.is_split = true;
    sent.first_node = &sender;
    sent.is_first_before = true;
    expect(ask(&fx, sent), 19, 0);
    expect(ask(&fx, sent), 0, 19);
    fx_kill(&fx);
    remove_file(&fx);
    fx_open(&fx);
    expect(ask(&fx, sent), 0, 19);
    finish(&fx);
}

/* The shard counts one run of records that follow each other; each second of them is here. */
static void what_is_dropped_between_leaves_no_more_pieces_than_there_is_room_for(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 33);
    fx_kill(&fx);
    sim_disk_set_capacity(fx.disk, MIB(256));
    fx.options.segment_bytes = MIB(32);
    fx.options.ring_bytes = MIB(64);
    fx_open(&fx);
    struct ulid edge = node(300);
    struct sent direct = whole(300, 1001, 1001);
    direct.range_last = 200000;
    direct.kinds = 1u << RECORD_EVENT;
    expect(ask(&fx, direct), 1, 0);
    struct sent sent = whole(0, 1, 140000);
    sent.first_node = &edge;
    sent.is_mixed = true;
    expect(ask(&fx, sent), 70000, 70000);
    expect(ask(&fx, whole(0, 140000, 140001)), 1, 1);
    fx_kill(&fx);
    remove_file(&fx);
    fx_open(&fx);
    expect(ask(&fx, whole(0, 1, 100)), 0, 100);
    finish(&fx);
}

static void a_range_of_some_kinds_says_nothing_of_others(void **state)
{
    (void)state;
    for (unsigned loses = 0; loses < 2; loses++) {
        struct fixture fx;
        fx_init(&fx, 31);
        struct sent sent = whole(0, 1, 100);
        sent.kinds = 1u << RECORD_EVENT | 1u << RECORD_GPU;
        sent.skip = 2; /* the others were logs, for all that is known */
        expect(ask(&fx, sent), 50, 0);
        save_now(&fx);
        fx_kill(&fx);
        if (loses == 1) {
            remove_file(&fx);
        }
        fx_open(&fx);
        expect(ask(&fx, whole(0, 1, 100)), 0, 100); /* events, all */
        struct sent logs = whole(0, 1, 100);
        logs.kind = RECORD_LOG;
        expect(ask(&fx, logs), 100, 0);
        finish(&fx);
    }
}

/* ---- the file is only a cache ---- */

static void the_file_is_written_while_it_runs_and_its_loss_changes_nothing(void **state)
{
    (void)state;
    for (unsigned loss = 0; loss < 4; loss++) {
        struct fixture fx;
        fx_init(&fx, 6 + loss);
        assert_false(has_file(&fx));
        expect(ask(&fx, whole(0, 1, 50)), 50, 0);
        save_now(&fx);
        assert_true(has_file(&fx));
        expect(ask(&fx, whole(0, 61, 70)), 10, 0); /* newer than the file */
        fx_kill(&fx);
        if (loss == 1) {
            remove_file(&fx);
        } else if (loss == 2) {
            assert_int_equal(sim_disk_corrupt(fx.disk, ORIGINS_FILE, 70, 1), 0);
        } else if (loss == 3) {
            assert_int_equal(sim_disk_corrupt(fx.disk, ORIGINS_FILE, 33, 1), 0);
        }
        fx_open(&fx);
        expect(ask(&fx, whole(0, 1, 80)), 20, 60);
        finish(&fx);
    }
}

static void a_node_that_is_sent_nothing_has_no_file(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 9);
    fx_put(&fx, 0, 5);
    fx_step(&fx, 20);
    save_now(&fx);
    assert_false(has_file(&fx));
    finish(&fx);
}

static struct origins *open_alone(const struct fixture *fx, uint64_t last_lsn)
{
    struct origins *origins = NULL;
    struct err err = {0};
    struct origins_options options = {.limits = {.nodes_max = 4, .intervals_max = 8, .all_max = 16},
                                      .node = node(200),
                                      .last_lsn = last_lsn};
    assert_int_equal(origins_open(&origins, sim_disk_io(fx->disk), &options, &err), 0);
    return origins;
}

static bool has(const struct origins *origins, struct ulid node, uint64_t lsn,
                const struct first_origin *first)
{
    const struct origin origin = {.node = node, .lsn = lsn};
    return origins_has(origins, &origin, first, RECORD_EVENT);
}

/* From LSN 31 on our log has other records than it had: only what is still ours is a loop. */
static void what_we_have_lost_is_stored_when_it_comes_back(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 19);
    struct origins *origins = NULL;
    struct err err = {0};
    struct lineage lineage = {.node = node(200), .count = 1, .entries = {{31, node(201)}}};
    struct origins_options options = {.limits = {.nodes_max = 4, .intervals_max = 8, .all_max = 16},
                                      .node = node(200),
                                      .lineage = &lineage,
                                      .last_lsn = 0};
    assert_int_equal(origins_open(&origins, sim_disk_io(fx.disk), &options, &err), 0);
    for (uint64_t lsn = 30; lsn <= 31; lsn++) {
        for (uint32_t number = 200; number <= 201; number++) {
            struct first_origin first = {.node = node(number), .lsn = lsn};
            bool is_ours = (lsn == 30) == (number == 200);
            assert_int_equal(has(origins, node(5), 1, &first), is_ours);
            assert_int_equal(has(origins, node(number), lsn, NULL), is_ours);
        }
    }
    struct first_origin passed = {.node = node(6), .lsn = 1, .via = {node(200)}, .via_count = 1};
    assert_false(has(origins, node(5), 1, &passed));
    passed.via[0] = node(201);
    assert_true(has(origins, node(5), 1, &passed));
    origins_close(origins);
    finish(&fx);
}

static void a_file_that_is_newer_than_the_log_is_removed(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 10);
    struct ulid other = node(1);
    struct origins *origins = open_alone(&fx, 0);
    origins_add(origins, &other, ORIGIN_ALL_KINDS, 5, 9, 40);
    origins_settle(origins, 40);
    origins_save(origins, sim_disk_io(fx.disk));
    origins_close(origins);
    struct ulid own = node(200);
    assert_int_equal(origins_peek(sim_disk_io(fx.disk), &own), 40);
    assert_int_equal(origins_peek(sim_disk_io(fx.disk), &other), 0);
    origins = open_alone(&fx, 40);
    assert_true(origin_set_has(origins_known(origins), &other, RECORD_EVENT, 7));
    origins_close(origins);
    origins = open_alone(&fx, 39);
    assert_false(origin_set_has(origins_known(origins), &other, RECORD_EVENT, 7));
    assert_false(has_file(&fx));
    origins_close(origins);
    origins = open_alone(&fx, 40);
    assert_false(origin_set_has(origins_known(origins), &other, RECORD_EVENT, 7));
    origins_close(origins);
    finish(&fx);
}

static void put_file(const struct fixture *fx, const uint8_t *data, size_t bytes)
{
    struct file_io *io = sim_disk_io(fx->disk);
    struct file file;
    assert_int_equal(io->ops->open(io, ORIGINS_FILE, FILE_OPEN_CREATE, &file), 0);
    assert_int_equal(io->ops->truncate(io, file, 0), 0);
    assert_int_equal(io->ops->write(io, file, data, bytes, 0, false), 0);
    io->ops->close(io, file);
}

static void a_file_with_any_byte_changed_or_missing_says_nothing(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 14);
    struct file_io *io = sim_disk_io(fx.disk);
    struct ulid other = node(1);
    struct origins *origins = open_alone(&fx, 0);
    origins_add(origins, &other, ORIGIN_ALL_KINDS, 5, 9, 40);
    origins_settle(origins, 40);
    origins_save(origins, io);
    origins_close(origins);
    uint8_t good[256];
    struct file file;
    assert_int_equal(io->ops->open(io, ORIGINS_FILE, FILE_OPEN_READ_ONLY, &file), 0);
    int64_t bytes = io->ops->read(io, file, good, sizeof good, 0);
    io->ops->close(io, file);
    assert_int_equal(bytes, 64 + 24 + 16);
    for (int64_t i = 0; i < 2 * bytes; i++) {
        if (i == bytes) {
            continue; /* no file at all: another test's */
        }
        uint8_t bad[256];
        memcpy(bad, good, sizeof bad);
        bad[i % bytes] ^= 0x10;
        put_file(&fx, i < bytes ? bad : good, i < bytes ? (size_t)bytes : (size_t)(i - bytes));
        origins = open_alone(&fx, INT64_MAX);
        assert_int_equal(origins_known(origins)->node_count, 0);
        origins_close(origins);
    }
    put_file(&fx, good, (size_t)bytes);
    origins = open_alone(&fx, 40);
    assert_true(origin_set_has(origins_known(origins), &other, RECORD_EVENT, 5));
    origins_close(origins);
    finish(&fx);
}

static void only_what_is_durable_reaches_the_file(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 11);
    struct ulid other = node(1);
    struct origins *origins = open_alone(&fx, 0);
    origins_add(origins, &other, ORIGIN_ALL_KINDS, 5, 9, 40);
    origins_add(origins, &other, ORIGIN_ALL_KINDS, 20, 29, 50);
    origins_settle(origins, 49);
    origins_save(origins, sim_disk_io(fx.disk));
    assert_true(origin_set_has(origins_known(origins), &other, RECORD_EVENT, 25));
    origins_take_back(origins, 50);
    assert_false(origin_set_has(origins_known(origins), &other, RECORD_EVENT, 25));
    assert_true(origin_set_has(origins_known(origins), &other, RECORD_EVENT, 5));
    origins_close(origins);
    origins = open_alone(&fx, 60);
    assert_true(origin_set_has(origins_known(origins), &other, RECORD_EVENT, 9));
    assert_false(origin_set_has(origins_known(origins), &other, RECORD_EVENT, 25));
    origins_close(origins);
    finish(&fx);
}

/* ---- limits ---- */

static void beyond_its_limits_it_refuses_and_forgets_nothing(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 12);
    for (uint32_t i = 0; i < ORIGINS_NODES_MAX; i++) {
        expect(ask(&fx, whole(i, 1, 1)), 1, 0);
    }
    for (unsigned round = 0; round < 2; round++) {
        uint64_t last = fx_durable_lsn(&fx);
        assert_int_equal(ask(&fx, whole(ORIGINS_NODES_MAX, 1, 1))->verdict, OUTCOME_REFUSED);
        expect(ask(&fx, whole(ORIGINS_NODES_MAX - 1, 1, 1)), 0, 1);
        assert_int_equal(fx_durable_lsn(&fx), last);
        fx_kill(&fx);
        remove_file(&fx);
        fx_open(&fx);
    }
    expect(ask(&fx, whole(7, 2, 3)), 2, 0);
    finish(&fx);
}

/* More runs than may wait to become durable: the rest of the ring waits, too. */
static void requests_wait_while_too_much_is_not_durable_yet(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 15);
    fx_kill(&fx);
    fx.options.segment_bytes = MIB(8);
    fx.options.ring_bytes = MIB(8);
    fx.options.batch_bytes = MIB(6);
    fx_open(&fx);
    for (uint32_t i = 0; i < 24; i++) {
        struct sent sent = whole(0, 1000 * i + 1, 1000 * i + 1000);
        sent.is_split = true;
        assert_int_equal(send(&fx, &sent), 1000);
    }
    fx_step(&fx, 200);
    assert_int_equal(fx.outcomes, 24);
    assert_int_equal(fx_durable_lsn(&fx), 24000);
    expect(ask(&fx, whole(0, 23999, 24001)), 1, 2);
    finish(&fx);
}

static void a_log_that_cannot_be_read_refuses_other_nodes_and_nobody_else(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 13);
    for (uint64_t i = 0; i < 20; i++) { /* more than one segment */
        expect(ask(&fx, whole(0, 25 * i + 1, 25 * i + 25)), 25, 0);
        struct request filler = {.records = 1, .payload_bytes = 12000};
        assert_true(fx_submit(&fx, &filler));
        fx_step(&fx, 20);
    }
    fx_kill(&fx);
    remove_file(&fx);
    sim_disk_fail_reads(fx.disk, "log/0000000000000001.seg", 8192, 4096);
    fx_open(&fx);
    assert_int_equal(ask(&fx, whole(0, 1, 25))->verdict, OUTCOME_REFUSED);
    uint64_t acks = fx.durable_acks;
    fx_put(&fx, 0, 3);
    fx_step(&fx, 30);
    assert_true(fx.durable_acks > acks);
    fx_kill(&fx);
    sim_disk_fail_reads(fx.disk, "log/0000000000000001.seg", 0, 0);
    fx_open(&fx);
    expect(ask(&fx, whole(0, 1, 25)), 0, 25);
    finish(&fx);
}

/* ---- all of it, from seeds ---- */

/* What is promised: settled[n][l] once a request that carries l was answered. */
struct life {
    struct fixture fx;
    struct sim_random random;
    bool settled[NODES][LSNS + 1];
};

/* The power may go again while it starts. */
static void open_under_fire(struct life *life)
{
    struct fixture *fx = &life->fx;
    sim_disk_crash_after(fx->disk, 1 + sim_random_below(&life->random, 30));
    memset(fx->ended, 0, sizeof fx->ended);
    int r =
        store_open_single(&fx->store, &fx->options, sim_disk_io(fx->disk), &fx->report, &fx->err);
    bool is_dead = sim_disk_is_dead(fx->disk);
    sim_disk_crash_after(fx->disk, 0);
    assert_true(r == 0 || is_dead);
    if (!is_dead) {
        return;
    }
    if (r == 0) {
        store_close(fx->store);
    }
    sim_disk_restart(fx->disk);
    fx_open(fx);
}

static void trouble(struct life *life)
{
    struct fixture *fx = &life->fx;
    if (sim_random_chance(&life->random, 200)) {
        save_now(fx);
    }
    if (sim_random_chance(&life->random, 300)) {
        (void)store_step_archive(fx->store);
    }
    if (!sim_random_chance(&life->random, 80)) {
        return;
    }
    if (sim_random_chance(&life->random, 300)) {
        fx_stop(fx);
    } else {
        fx_kill(fx);
    }
    if (sim_random_chance(&life->random, 300)) {
        remove_file(fx);
    }
    open_under_fire(life);
}

static void live(struct life *life)
{
    struct fixture *fx = &life->fx;
    uint32_t number = (uint32_t)sim_random_below(&life->random, NODES);
    uint64_t first = 1 + sim_random_below(&life->random, LSNS);
    uint64_t last = u64_min(LSNS, first + sim_random_below(&life->random, 30));
    struct sent sent = whole(number, first, last);
    sent.shard = (unsigned)sim_random_below(&life->random, 2);
    uint32_t before = 0;
    for (uint64_t lsn = first; lsn <= last; lsn++) {
        before += life->settled[number][lsn];
    }
    if (sim_random_chance(&life->random, 150)) { /* nobody waits for the answer */
        (void)send(fx, &sent);
        sim_disk_crash_after(fx->disk, 1 + sim_random_below(&life->random, 12));
        fx_step(fx, (unsigned)sim_random_below(&life->random, 6));
        if (sim_random_chance(&life->random, 500)) {
            save_now(fx); /* so that the power goes while the file is written */
        }
        sim_disk_crash_after(fx->disk, 0);
        fx_kill(fx);
        open_under_fire(life);
        return;
    }
    const struct ack_outcome *outcome = ask(fx, sent);
    assert_int_equal(outcome->verdict, OUTCOME_STORED);
    assert_int_equal(outcome->stored_count + outcome->duplicate_count, last - first + 1);
    assert_true(outcome->duplicate_count >= before);
    memset(&life->settled[number][first], true, last - first + 1);
}

static void whatever_happens_each_is_there_once(void **state)
{
    (void)state;
    static struct life life;
    for (uint64_t seed = 1; seed <= 25; seed++) {
        memset(&life, 0, sizeof life);
        life.random.state = seed;
        fx_init(&life.fx, seed);
        life.fx.options.compacts = seed % 2 == 0;
        life.fx.options.compact_level = 1;
        fx_kill(&life.fx);
        fx_open(&life.fx);
        for (unsigned i = 0; i < 150; i++) {
            live(&life);
            trouble(&life);
        }
        fx_stop(&life.fx);
        read_log(&life.fx);
        for (uint32_t n = 0; n < NODES; n++) {
            for (uint64_t lsn = 1; lsn <= LSNS; lsn++) {
                if (found[n][lsn] > 1 || (life.settled[n][lsn] && found[n][lsn] != 1)) {
                    fail_msg("seed %llu: node %u LSN %llu is there %u times",
                             (unsigned long long)seed, n, (unsigned long long)lsn, found[n][lsn]);
                }
            }
        }
        assert_int_equal(fx_verify_faults(&life.fx), 0);
        finish(&life.fx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sent_again_is_stored_once_and_counted),
        cmocka_unit_test(a_range_settles_also_what_it_does_not_carry),
        cmocka_unit_test(a_range_survives_when_its_first_record_was_a_duplicate),
        cmocka_unit_test(a_repeat_waits_for_its_original),
        cmocka_unit_test(what_was_given_up_is_stored_when_it_comes_again),
        cmocka_unit_test(the_file_is_written_while_it_runs_and_its_loss_changes_nothing),
        cmocka_unit_test(a_node_that_is_sent_nothing_has_no_file),
        cmocka_unit_test(what_we_have_lost_is_stored_when_it_comes_back),
        cmocka_unit_test(a_file_that_is_newer_than_the_log_is_removed),
        cmocka_unit_test(a_file_with_any_byte_changed_or_missing_says_nothing),
        cmocka_unit_test(only_what_is_durable_reaches_the_file),
        cmocka_unit_test(beyond_its_limits_it_refuses_and_forgets_nothing),
        cmocka_unit_test(requests_wait_while_too_much_is_not_durable_yet),
        cmocka_unit_test(a_log_that_cannot_be_read_refuses_other_nodes_and_nobody_else),
        cmocka_unit_test(whatever_happens_each_is_there_once),
        cmocka_unit_test(what_was_here_on_its_way_is_a_duplicate),
        cmocka_unit_test(what_comes_by_two_ways_is_stored_once),
        cmocka_unit_test(what_was_passed_on_is_given_up_with_its_batch),
        cmocka_unit_test(a_range_of_some_kinds_says_nothing_of_others),
        cmocka_unit_test(what_one_request_says_of_itself_is_no_program_error),
        cmocka_unit_test(what_is_dropped_between_leaves_no_more_pieces_than_there_is_room_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
