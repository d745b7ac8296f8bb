/*
 * sim_store: the store against a disk that fails, from seeds. One seed is one life of a data
 * directory: shards submit random requests, writer and keeper take their steps in random order,
 * time passes, the power goes (also in the middle of a call, also during recovery), writes fail,
 * the disk fills, the store stops in order, comes back. After every start the log is read and held
 * against what was promised:
 *
 *  - acknowledged: there exactly once, byte for byte, at the LSN that the acknowledgement named,
 *    for ever;
 *  - lost, refused: there or not, but whole and at most once; what the first start after it decides
 *    stays decided;
 *  - all: LSNs dense, requests in one piece, in the order of their shard, nothing nobody sent;
 *  - keyed: a key is in the log at most once; a repeat is answered with the first answer;
 *  - from other nodes: each record of each node is in the log at most once, whichever of its ways it came by, and what
 *    was acknowledged is there. Three nodes have fixed logs; one of them passes on what it has from another. They send
 *    overlapping pieces of them, through sinks of all kinds or of some;
 *  - answers: exactly one for each request, unless the power went;
 *  - start: always succeeds; verify finds no fault; damage of durable bytes is reported and costs
 *    one batch only;
 *  - archive: whatever was sealed and compacted reads the same; what has expired went from the old
 *    end, by whole requests, only where there is a retention, and does not come back; once nothing
 *    fails any more it gets all its work done, and log_bytes is what the files take.
 *
 * sim_store --seeds N [--first S] [--verbose] [--break writes|sync|dir] [--raw] [--keep]
 * --raw: without compaction; --keep: without retention.
 * --break makes the disk lie: then seeds must fail, or the oracle is blind (exit 1 is what one
 * wants to see there).
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/logline.h"
#include "core/mem.h"
#include "sim_disk.h"
#include "store/log_view.h"
#include "store/log_walk.h"
#include "store/reader.h"
#include "store/store_step.h"

#define SHARDS_MAX       3u
#define REQUESTS_MAX     1024u
#define RECORDS_MAX      8u /* of one request */
#define PAYLOAD_MAX      2048u
#define META_MAX         256u
#define RECEIPT_KEYS     12u
#define DEDUP_KEYS       40u
#define OPEN_TRIES_MAX   8
#define SETTLE_STEPS_MAX 20000
#define CAPACITY_BYTES   MIB(64)
#define NONE             UINT32_MAX
#define NODES            3u /* number 2 has every second record from number 0 */
#define NODE_LSNS        200u
#define NODE_FLAG        0x80000000u /* in place of a request's number: a record of another node */

enum request_state {
    REQUEST_WAITING, /* in the ring or in a batch */
    REQUEST_ACKED,
    REQUEST_REFUSED,   /* ACK_FAILED: undecided until the next start */
    REQUEST_LOST,      /* the power went: likewise */
    REQUEST_PRESENT,   /* not acknowledged, but a start found it: it stays */
    REQUEST_GONE,      /* a start did not find it: it never comes back */
    REQUEST_DUPLICATE, /* answered by the processed set; nothing stored */
    REQUEST_DAMAGED,   /* was in the batch that the test damaged */
    REQUEST_EXPIRED,   /* was stored, and its segment is gone: it never comes back */
};

/* What is kept of an ack_outcome. */
struct answer {
    uint32_t verdict;
    uint32_t stored_count;
    uint32_t duplicate_count;
    uint32_t form;
    uint32_t accepted;
    uint32_t rejected;
    uint64_t first_lsn;
};

struct request {
    enum request_state state;
    uint32_t shard;
    uint32_t record_count;
    uint64_t end; /* in its ring */
    uint64_t seed;
    uint32_t receipt_key;             /* NONE or index */
    uint32_t digest;                  /* of the body: repeats have the same, mismatches another */
    uint32_t dedup_keys[RECORDS_MAX]; /* NONE or index */
    bool has_dedup_keys;              /* which belong to a record kind: all of these are events */
    bool is_keyed;
    bool is_origin; /* of another node: */
    uint32_t node;
    uint32_t node_first; /* its LSNs, of those whose kind is in node_kinds */
    uint32_t node_last;
    uint32_t node_kinds;
    bool has_range;
    bool has_outcome;
    struct answer outcome;
    uint64_t first_lsn; /* of the first stored record; 0: unknown */
    uint32_t stored_count;
    /* What the present reading found. */
    uint64_t found_lsn;
    uint32_t found_count;
    uint32_t found_mask;
};

struct shard {
    uint32_t oldest; /* first request of this shard that may be waiting: a hint */
    struct store_port *port;
};

struct sim {
    struct sim_random random;
    struct sim_disk *disk;
    struct store *store;
    struct store_options options;
    struct recovery_report report;
    unsigned shard_count;
    struct shard shards[SHARDS_MAX];
    struct request requests[REQUESTS_MAX];
    uint32_t request_count;
    uint64_t receipt_lsn[RECEIPT_KEYS]; /* where the present reading found the key; 0: nowhere */
    uint32_t receipt_request[RECEIPT_KEYS];
    uint64_t dedup_lsn[DEDUP_KEYS];
    uint64_t origin_lsn[NODES][NODE_LSNS + 1]; /* where the present reading found it; 0: nowhere */
    uint64_t origin_before[NODES][NODE_LSNS + 1];
    uint64_t log_first_lsn; /* what is below has expired */
    uint64_t log_last_lsn;  /* as the store said last */
    bool is_damaged;
    bool is_damage_sealed; /* in a segment that a start does not walk */
    uint64_t damaged_first_lsn;
    uint64_t damaged_last_lsn;
    uint64_t step;
    unsigned reopens;
    unsigned crashes;
    bool had_fault; /* since the last start: a refused batch may lie behind the end */
    bool had_any_fault;
};

static struct {
    uint64_t seed;
    bool is_verbose;
    bool is_raw;
    bool is_keeping;
    enum sim_break broken;
    jmp_buf on_failure;
    struct park parks[SHARDS_MAX];
    uint64_t acked;
    uint64_t reopens;
    uint64_t crashes;
    uint64_t refused;
    uint64_t duplicates;
    uint64_t sealed;
    uint64_t compacted;
    uint64_t expired;
} run;

static void print_seed_command(FILE *to)
{
    (void)fprintf(to, "repeat: sim_store --first %llu --seeds 1 --verbose\n",
                  (unsigned long long)run.seed);
}

static void sim_fail(const struct sim *sim, const char *format, ...) PRINTF_LIKE(2, 3) NORETURN;
static void sim_fail(const struct sim *sim, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)printf("seed %llu step %llu: ", (unsigned long long)run.seed,
                 (unsigned long long)sim->step);
    (void)vprintf(format, arguments);
    (void)printf("\n");
    va_end(arguments);
    print_seed_command(stdout);
    (void)fflush(stdout);
    longjmp(run.on_failure, 1);
}

#define CHECK(x, ...)                                                                              \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            sim_fail(sim, __VA_ARGS__);                                                            \
        }                                                                                          \
    } while (0)

static void trace(const struct sim *sim, const char *format, ...) PRINTF_LIKE(2, 3);
static void trace(const struct sim *sim, const char *format, ...)
{
    if (!run.is_verbose) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    (void)printf("  %6llu: ", (unsigned long long)sim->step);
    (void)vprintf(format, arguments);
    (void)printf("\n");
    va_end(arguments);
}

static uint32_t below(struct sim *sim, uint64_t limit)
{
    return (uint32_t)sim_random_below(&sim->random, limit);
}

static bool chance(struct sim *sim, uint32_t per_thousand)
{
    return sim_random_chance(&sim->random, per_thousand);
}

/* ---- records: everything follows from (request, index), so that nothing needs to be remembered
 * ---- */

struct content {
    uint8_t payload[PAYLOAD_MAX];
    uint8_t meta[META_MAX];
    char errors[64];
    struct record record;
};

static struct slice key_of(char *text, const char *prefix, uint32_t key)
{
    int length = snprintf(text, 32, "%s-%u", prefix, key);
    return (struct slice){(const uint8_t *)text, (size_t)length};
}

static void receipt_of(struct receipt *receipt, const struct request *request, char *key,
                       char *errors)
{
    memset(receipt, 0, sizeof *receipt);
    receipt->key = key_of(key, "receipt", request->receipt_key);
    memset(receipt->body_digest, (int)(request->digest & 0xff), sizeof receipt->body_digest);
    receipt->form = FORM_ARRAY;
    receipt->accepted = request->record_count;
    receipt->rejected = request->digest % 3;
    int length =
        request->digest % 2 == 0 ? 0 : snprintf(errors, 64, "[{\"index\":%u}]", request->digest);
    receipt->errors = (struct slice){(const uint8_t *)errors, (size_t)length};
}

static void content_make(struct content *content, const struct request *request, uint32_t number,
                         uint32_t index)
{
    struct sim_random random = {request->seed + index * 77u};
    /* Small ones mostly; some requests fill a batch by themselves. */
    uint64_t limit = request->seed % 16 == 0 ? PAYLOAD_MAX : 200;
    size_t bytes = (size_t)sim_random_below(&random, limit + 1);
    for (size_t i = 0; i < bytes; i++) {
        content->payload[i] = (uint8_t)(sim_random_next(&random) >> 7);
    }
    size_t meta_bytes = 0;
    char key[32];
    if (request->receipt_key != NONE && index == 0) {
        struct receipt receipt;
        receipt_of(&receipt, request, key, content->errors);
        meta_bytes += meta_receipt_encode(content->meta, &receipt);
    }
    if (request->dedup_keys[index] != NONE) {
        meta_bytes += meta_dedup_key_encode(content->meta + meta_bytes,
                                            key_of(key, "event", request->dedup_keys[index]));
    }
    content->record = (struct record){
        .kind = request->has_dedup_keys ? RECORD_EVENT : (enum record_kind)(1 + request->seed % 5),
        .severity = (uint8_t)(index % 7),
        .event_time_ns = (int64_t)number * 1000 + index,
        .meta = {content->meta, meta_bytes},
        .payload = {content->payload, bytes},
    };
    memcpy(content->record.id.bytes, &run.seed, 8);
    memcpy(content->record.id.bytes + 8, &number, 4);
    memcpy(content->record.id.bytes + 12, &index, 4);
}

/* ---- other nodes: what their logs hold follows from (node, LSN) ---- */

struct identity {
    uint32_t node;
    uint32_t lsn;
};

static struct ulid node_id(uint32_t node)
{
    return (struct ulid){{0x77, (uint8_t)node}};
}

/* Which record it was in the beginning. */
static struct identity identity_of(uint32_t node, uint32_t lsn)
{
    return node == 2 && lsn % 2 == 0 ? (struct identity){0, lsn / 2} : (struct identity){node, lsn};
}

static uint32_t identity_hash(struct identity identity)
{
    return (uint32_t)((run.seed + identity.node * 1000003u + identity.lsn) * 2654435761u >> 7);
}

static enum record_kind identity_kind(struct identity identity)
{
    return (enum record_kind)(1 + identity_hash(identity) % 3);
}

static bool is_carried(const struct request *request, uint32_t lsn)
{
    return (request->node_kinds >> identity_kind(identity_of(request->node, lsn)) & 1u) != 0;
}

static void identity_make(struct content *content, struct identity identity)
{
    uint32_t number = NODE_FLAG | identity.node;
    size_t bytes = identity_hash(identity) % 120;
    memset(content->payload, (int)(identity.lsn & 0xff), sizeof content->payload);
    content->record = (struct record){.kind = identity_kind(identity),
                                      .severity = (uint8_t)(identity.lsn % 7),
                                      .event_time_ns = (int64_t)identity.lsn * 1000,
                                      .payload = {content->payload, bytes}};
    memcpy(content->record.id.bytes, &run.seed, 8);
    memcpy(content->record.id.bytes + 8, &number, 4);
    memcpy(content->record.id.bytes + 12, &identity.lsn, 4);
}

/* run_last: of a run that begins here; 0: it does not. */
static void origin_meta(struct content *content, const struct request *request, uint32_t lsn,
                        uint32_t run_first, uint32_t run_last)
{
    struct identity identity = identity_of(request->node, lsn);
    struct origin origin = {.node = node_id(request->node),
                            .lsn = lsn,
                            .range_first = run_last != 0 ? run_first : 0,
                            .range_last = run_last,
                            .range_kinds = run_last != 0 ? request->node_kinds : 0};
    size_t bytes = meta_origin_encode(content->meta, &origin);
    if (identity.node != request->node) {
        struct first_origin first = {
            .node = node_id(identity.node), .lsn = identity.lsn, .via_count = 1};
        first.via[0] = node_id(9);
        bytes += meta_first_encode(content->meta + bytes, &first);
    }
    content->record.meta = (struct slice){content->meta, bytes};
}

static void origin_invent(struct sim *sim, struct request *request)
{
    static const uint32_t sinks[] = {UINT32_MAX, 1u << RECORD_LOG, ~(1u << RECORD_LOG)};
    memset(request, 0, sizeof *request);
    request->is_origin = true;
    request->receipt_key = NONE;
    memset(request->dedup_keys, 0xff, sizeof request->dedup_keys);
    request->shard = below(sim, sim->shard_count);
    request->node = below(sim, NODES);
    request->node_first = 1 + below(sim, NODE_LSNS);
    request->node_last = request->node_first + below(sim, RECORDS_MAX);
    request->node_last = request->node_last > NODE_LSNS ? NODE_LSNS : request->node_last;
    request->node_kinds = sinks[below(sim, ARRAY_COUNT(sinks))];
    request->has_range = chance(sim, 700);
    for (uint32_t lsn = request->node_first; lsn <= request->node_last; lsn++) {
        request->record_count += is_carried(request, lsn);
    }
}

/* The end of the run of carried LSNs that begins at lsn. */
static uint32_t run_end(const struct request *request, uint32_t lsn)
{
    while (lsn < request->node_last && is_carried(request, lsn + 1)) {
        lsn++;
    }
    return lsn;
}

static size_t origin_encode(const struct request *request, uint8_t *to, uint32_t *kinds)
{
    size_t at = 0;
    uint32_t told = 0; /* LSNs that the runs so far speak for */
    for (uint32_t lsn = request->node_first; lsn <= request->node_last; lsn++) {
        struct content content;
        if (!is_carried(request, lsn)) {
            continue;
        }
        bool is_first = lsn > told;
        uint32_t first = request->has_range ? request->node_first : lsn;
        uint32_t last = request->has_range ? request->node_last : run_end(request, lsn);
        told = is_first ? last : told;
        identity_make(&content, identity_of(request->node, lsn));
        origin_meta(&content, request, lsn, first, is_first ? last : 0);
        *kinds |= 1u << content.record.kind;
        at += record_encode(to + at, &content.record);
    }
    return at;
}

/* ---- submitting ---- */

static void request_invent(struct sim *sim, struct request *request)
{
    memset(request, 0, sizeof *request);
    request->shard = below(sim, sim->shard_count);
    request->record_count = 1 + below(sim, 5);
    request->seed = sim_random_next(&sim->random);
    request->receipt_key = NONE;
    for (uint32_t i = 0; i < RECORDS_MAX; i++) {
        request->dedup_keys[i] = NONE;
    }
    if (chance(sim, 150)) {
        request->receipt_key = below(sim, RECEIPT_KEYS);
        /* Mostly a true repeat: the digest follows from the key. */
        request->digest = chance(sim, 900) ? request->receipt_key : 100 + request->receipt_key;
    }
    if (chance(sim, 150)) {
        for (uint32_t i = 0; i < request->record_count; i++) {
            request->dedup_keys[i] = chance(sim, 700) ? below(sim, DEDUP_KEYS) : NONE;
            request->has_dedup_keys = request->has_dedup_keys || request->dedup_keys[i] != NONE;
        }
    }
    request->is_keyed = request->has_dedup_keys || request->receipt_key != NONE;
}

static void step_submit(struct sim *sim)
{
    if (sim->request_count == REQUESTS_MAX) {
        return;
    }
    uint32_t number = sim->request_count;
    struct request *request = &sim->requests[number];
    if (chance(sim, 200)) {
        origin_invent(sim, request);
    } else {
        request_invent(sim, request);
    }
    if (request->record_count == 0) {
        return;
    }
    struct spsc *ring = &sim->shards[request->shard].port->submit;
    uint64_t room = sizeof(struct submit_header) +
                    request->record_count * record_padded_bytes(META_MAX, PAYLOAD_MAX);
    uint8_t *to = spsc_claim(ring, room);
    if (to == NULL) {
        return; /* full is an answer */
    }
    struct submit_header header = {
        .record_count = request->record_count,
        .flags = request->is_origin  ? SUBMIT_ORIGIN
                 : request->is_keyed ? SUBMIT_KEYED
                                     : 0,
        .time_min_ns = (int64_t)number * 1000,
        .time_max_ns = (int64_t)number * 1000 + request->record_count - 1,
        .submitted_at_ns = sim_disk_now_ns(sim->disk),
    };
    size_t at = sizeof header;
    at += request->is_origin ? origin_encode(request, to + at, &header.kinds) : 0;
    for (uint32_t i = 0; !request->is_origin && i < request->record_count; i++) {
        struct content content;
        content_make(&content, request, number, i);
        header.kinds |= 1u << content.record.kind;
        at += record_encode(to + at, &content.record);
    }
    header.records_bytes = (uint32_t)(at - sizeof header);
    memcpy(to, &header, sizeof header);
    request->end = spsc_commit(ring, SUBMIT_REQUEST, at);
    (void)spsc_publish(ring);
    sim->request_count++;
    trace(sim, "shard %u submits request %u: %u records, %zu bytes, end %llu%s", request->shard,
          number, request->record_count, at, (unsigned long long)request->end,
          request->is_keyed    ? ", keyed"
          : request->is_origin ? ", of another node"
                               : "");
}

/* ---- answers ---- */

static struct request *waiting_next(struct sim *sim, uint32_t shard_index)
{
    struct shard *shard = &sim->shards[shard_index];
    for (; shard->oldest < sim->request_count; shard->oldest++) {
        struct request *request = &sim->requests[shard->oldest];
        if (request->shard == shard_index && request->state == REQUEST_WAITING) {
            return request;
        }
    }
    return NULL;
}

static void on_outcome(struct sim *sim, uint32_t shard, const struct ack_outcome *outcome)
{
    for (uint32_t i = sim->shards[shard].oldest; i < sim->request_count; i++) {
        struct request *request = &sim->requests[i];
        if (request->shard == shard && request->state == REQUEST_WAITING &&
            request->end == outcome->end) {
            CHECK(request->is_keyed || request->is_origin,
                  "request %u has an outcome without a key", i);
            CHECK(!request->has_outcome, "request %u has two outcomes", i);
            request->has_outcome = true;
            request->outcome = (struct answer){
                .verdict = outcome->verdict,
                .stored_count = outcome->stored_count,
                .duplicate_count = outcome->duplicate_count,
                .form = outcome->form,
                .accepted = outcome->accepted,
                .rejected = outcome->rejected,
                .first_lsn = outcome->first_lsn,
            };
            return;
        }
    }
    sim_fail(sim, "an outcome names ring position %llu of shard %u, where no request waits",
             (unsigned long long)outcome->end, shard);
}

/* Returns how many LSNs of the run the request takes. */
static uint32_t request_on_durable(struct sim *sim, struct request *request, uint64_t lsn)
{
    uint32_t number = (uint32_t)(request - sim->requests);
    run.acked++;
    request->state = REQUEST_ACKED;
    request->stored_count = request->record_count;
    if (request->is_keyed || request->is_origin) {
        CHECK(request->has_outcome, "request %u is keyed and has no outcome", number);
        const struct answer *outcome = &request->outcome;
        if (outcome->verdict != OUTCOME_STORED) {
            CHECK(request->receipt_key != NONE, "request %u has a verdict %u without a receipt",
                  number, outcome->verdict);
            request->state = REQUEST_DUPLICATE;
            run.duplicates++;
            return 0;
        }
        CHECK(outcome->stored_count + outcome->duplicate_count == request->record_count,
              "request %u: %u stored and %u duplicates of %u records", number,
              outcome->stored_count, outcome->duplicate_count, request->record_count);
        request->stored_count = outcome->stored_count;
        request->state = request->stored_count == 0 ? REQUEST_DUPLICATE : REQUEST_ACKED;
    }
    request->first_lsn = request->stored_count == 0 ? 0 : lsn;
    trace(sim, "request %u is durable: %u records from LSN %llu", number, request->stored_count,
          (unsigned long long)lsn);
    return request->stored_count;
}

static void on_durable(struct sim *sim, uint32_t shard, const struct ack_durable *ack)
{
    uint64_t lsn = ack->first_lsn;
    uint64_t end = 0;
    for (struct request *request = waiting_next(sim, shard);
         request != NULL && request->end <= ack->end; request = waiting_next(sim, shard)) {
        end = request->end;
        lsn += request_on_durable(sim, request, lsn);
    }
    CHECK(end == ack->end, "shard %u: durable up to %llu, which ends no request", shard,
          (unsigned long long)ack->end);
    uint64_t durable_lsn =
        atomic_load_explicit(&store_status(sim->store)->durable_lsn, memory_order_relaxed);
    CHECK(lsn <= durable_lsn + 1, "acknowledged LSN %llu, durable is %llu",
          (unsigned long long)lsn - 1, (unsigned long long)durable_lsn);
}

static void on_failed(struct sim *sim, uint32_t shard, const struct ack_failed *ack)
{
    uint64_t end = 0;
    for (struct request *request = waiting_next(sim, shard);
         request != NULL && request->end <= ack->end; request = waiting_next(sim, shard)) {
        end = request->end;
        request->state = REQUEST_REFUSED;
        run.refused++;
        trace(sim, "request %u is refused, cause %u", (unsigned)(request - sim->requests),
              ack->cause);
    }
    CHECK(end == ack->end, "shard %u: failed up to %llu, which ends no request", shard,
          (unsigned long long)ack->end);
}

static void step_acks(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->shard_count; i++) {
        struct spsc *acks = &sim->shards[i].port->acks;
        const struct spsc_frame *frame = spsc_take(acks);
        while (frame != NULL) {
            const void *payload = frame->payload;
            if (frame->type == ACK_OUTCOME) {
                on_outcome(sim, i, payload);
            } else if (frame->type == ACK_DURABLE) {
                on_durable(sim, i, payload);
            } else {
                CHECK(frame->type == ACK_FAILED, "ack of type %u", frame->type);
                on_failed(sim, i, payload);
            }
            frame = spsc_take(acks);
        }
        spsc_release(acks);
    }
}

/* ---- the oracle ---- */

static bool same_bytes(struct slice a, struct slice b)
{
    return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

/* A record that took over the receipt of a dropped one has another meta than it was sent with. */
static void check_meta(struct sim *sim, const struct request *request,
                       const struct reader_record *found, const struct record *sent)
{
    if (same_bytes(found->record.meta, sent->meta)) {
        return;
    }
    struct receipt receipt;
    struct receipt expected;
    char key[32];
    char errors[64];
    CHECK(request->receipt_key != NONE, "LSN %llu: other meta than was sent",
          (unsigned long long)found->lsn);
    CHECK(request->found_count == 1, "LSN %llu: a receipt on a later record",
          (unsigned long long)found->lsn);
    CHECK(meta_find_receipt(&receipt, found->record.meta) == 1, "LSN %llu: no receipt",
          (unsigned long long)found->lsn);
    receipt_of(&expected, request, key, errors);
    CHECK(same_bytes(receipt.key, expected.key), "LSN %llu: another key",
          (unsigned long long)found->lsn);
    CHECK(same_bytes(receipt.errors, expected.errors), "LSN %llu: other errors",
          (unsigned long long)found->lsn);
    CHECK(memcmp(receipt.body_digest, expected.body_digest, 16) == 0, "LSN %llu: other digest",
          (unsigned long long)found->lsn);
}

static void check_keys(struct sim *sim, struct request *request, const struct reader_record *found,
                       uint32_t index)
{
    struct receipt receipt;
    if (meta_find_receipt(&receipt, found->record.meta) == 1) {
        uint32_t key = request->receipt_key;
        CHECK(sim->receipt_lsn[key] == 0, "receipt key %u is stored at LSN %llu and again at %llu",
              key, (unsigned long long)sim->receipt_lsn[key], (unsigned long long)found->lsn);
        sim->receipt_lsn[key] = found->lsn;
        sim->receipt_request[key] = (uint32_t)(request - sim->requests);
    }
    uint32_t key = request->dedup_keys[index];
    if (key != NONE) {
        CHECK(sim->dedup_lsn[key] == 0, "event key %u is stored at LSN %llu and again at %llu", key,
              (unsigned long long)sim->dedup_lsn[key], (unsigned long long)found->lsn);
        sim->dedup_lsn[key] = found->lsn;
    }
}

/* A record of another node. */
static void check_origin(struct sim *sim, const struct reader_record *found, uint32_t node,
                         uint32_t lsn)
{
    struct content content;
    struct origin origin;
    struct first_origin first;
    CHECK(node < NODES && lsn != 0 && lsn <= NODE_LSNS, "LSN %llu: no node has sent this",
          (unsigned long long)found->lsn);
    CHECK(sim->origin_lsn[node][lsn] == 0,
          "node %u's LSN %u is stored at LSN %llu and again at %llu", node, lsn,
          (unsigned long long)sim->origin_lsn[node][lsn], (unsigned long long)found->lsn);
    sim->origin_lsn[node][lsn] = found->lsn;
    identity_make(&content, (struct identity){node, lsn});
    const struct record *sent = &content.record;
    CHECK(found->record.kind == sent->kind && found->record.severity == sent->severity &&
              found->record.event_time_ns == sent->event_time_ns &&
              same_bytes(found->record.payload, sent->payload),
          "LSN %llu: node %u's LSN %u is not what was sent", (unsigned long long)found->lsn, node,
          lsn);
    CHECK(meta_find_origin(&origin, found->record.meta) == 1, "LSN %llu: no origin",
          (unsigned long long)found->lsn);
    struct identity told = identity_of(origin.node.bytes[1], (uint32_t)origin.lsn);
    CHECK(told.node == node && told.lsn == lsn, "LSN %llu: another origin",
          (unsigned long long)found->lsn);
    CHECK(meta_find_first(&first, found->record.meta) == (node != origin.node.bytes[1]),
          "LSN %llu: another first origin", (unsigned long long)found->lsn);
}

static uint32_t check_record(struct sim *sim, const struct reader_record *found, uint32_t previous)
{
    uint64_t seed = 0;
    uint32_t number = 0;
    uint32_t index = 0;
    memcpy(&seed, found->record.id.bytes, 8);
    memcpy(&number, found->record.id.bytes + 8, 4);
    memcpy(&index, found->record.id.bytes + 12, 4);
    unsigned long long lsn = found->lsn;
    if (seed == run.seed && (number & NODE_FLAG) != 0) {
        check_origin(sim, found, number & ~NODE_FLAG, index);
        return NONE;
    }
    CHECK(seed == run.seed && number < sim->request_count, "LSN %llu: nobody sent this", lsn);
    struct request *request = &sim->requests[number];
    CHECK(index < request->record_count, "LSN %llu: record %u of %u", lsn, index,
          request->record_count);
    CHECK(number == previous || request->found_count == 0,
          "LSN %llu: request %u is not in one piece", lsn, number);
    CHECK((request->found_mask >> index) == 0,
          "LSN %llu: request %u: record %u again or out of order", lsn, number, index);
    if (request->found_count == 0) {
        request->found_lsn = found->lsn;
    }
    request->found_mask |= 1u << index;
    request->found_count++;
    struct content content;
    content_make(&content, request, number, index);
    const struct record *sent = &content.record;
    CHECK(found->record.kind == sent->kind && found->record.severity == sent->severity &&
              found->record.encoding == 0 && found->record.event_time_ns == sent->event_time_ns,
          "LSN %llu: another header than was sent", lsn);
    CHECK(same_bytes(found->record.payload, sent->payload),
          "LSN %llu: another payload than was sent", lsn);
    check_meta(sim, request, found, sent);
    check_keys(sim, request, found, index);
    return number;
}

static bool in_damage(const struct sim *sim, uint64_t lsn)
{
    return sim->is_damaged && lsn >= sim->damaged_first_lsn && lsn <= sim->damaged_last_lsn;
}

static bool may_expire(const struct sim *sim)
{
    return sim->options.retention_bytes != 0 || sim->options.retention_age_ns != 0;
}

static bool has_expired(const struct sim *sim, uint64_t lsn)
{
    return lsn < sim->log_first_lsn;
}

/* Reads everything. In a damaged log one gap is allowed, exactly where the damage was done. */
static void read_log(struct sim *sim)
{
    struct err err = {0};
    struct reader *reader = NULL;
    CHECK(reader_open(&reader, sim_disk_io(sim->disk), 0, &err) == 0, "reader: %s", err.text);
    uint64_t lsn = 1;
    uint32_t previous = NONE;
    uint32_t newest[SHARDS_MAX] = {0};
    unsigned gaps = 0;
    bool is_first = true;
    for (;;) {
        struct reader_record found;
        int result = reader_next(reader, &found, &err);
        if (result == 0) {
            break;
        }
        if (result == ERR_CORRUPT && sim->is_damaged && gaps == 0) {
            gaps++;
            CHECK(lsn == sim->damaged_first_lsn, "a gap at LSN %llu, damaged was %llu: %s",
                  (unsigned long long)lsn, (unsigned long long)sim->damaged_first_lsn, err.text);
            lsn = sim->damaged_last_lsn + 1;
            continue;
        }
        CHECK(result == 1, "reader behind LSN %llu: %s", (unsigned long long)lsn - 1, err.text);
        if (is_first && may_expire(sim)) {
            lsn = found.lsn;
        }
        if (is_first) {
            CHECK(lsn >= sim->log_first_lsn, "the log begins at LSN %llu, it was %llu before",
                  (unsigned long long)lsn, (unsigned long long)sim->log_first_lsn);
            sim->log_first_lsn = lsn;
        }
        is_first = false;
        CHECK(found.lsn == lsn, "LSN %llu where %llu belongs", (unsigned long long)found.lsn,
              (unsigned long long)lsn);
        uint32_t number = check_record(sim, &found, previous);
        previous = number;
        lsn++;
        if (number == NONE) {
            continue;
        }
        uint32_t shard = sim->requests[number].shard;
        CHECK(number + 1 >= newest[shard], "LSN %llu: request %u of shard %u comes after %u",
              (unsigned long long)lsn - 1, number, shard, newest[shard] - 1);
        newest[shard] = number + 1;
    }
    if (is_first && may_expire(sim)) {
        sim->log_first_lsn = sim->log_last_lsn + 1; /* nothing is left but the place */
    }
    CHECK(!sim->is_damaged || gaps == 1, "damage from LSN %llu on was not noticed",
          (unsigned long long)sim->damaged_first_lsn);
    reader_close(reader);
}

/* Records of a request may only be missing because their own key is in the log already, before it.
 */
static bool missing_is_explained(const struct sim *sim, const struct request *request)
{
    for (uint32_t i = 0; i < request->record_count; i++) {
        uint32_t key = request->dedup_keys[i];
        bool is_there = (request->found_mask >> i & 1u) != 0;
        if (key != NONE && sim->dedup_lsn[key] == 0 && sim->is_damaged) {
            continue; /* the record that has the key was in the damaged batch */
        }
        if (key != NONE && sim->log_first_lsn > 1) {
            continue; /* it may have expired, and the key may have been used again since */
        }
        if (!is_there && (key == NONE || sim->dedup_lsn[key] == 0 ||
                          sim->dedup_lsn[key] >= request->found_lsn + request->found_count)) {
            return false;
        }
    }
    return true;
}

/* A keyed request of which nothing was stored, because each of its records was there before, is
 * remembered until the next start without a place in the log: a repeat of it names nothing stored.
 */
static bool repeats_one_that_stored_nothing(const struct sim *sim, const struct request *request)
{
    bool is_mismatch = request->outcome.verdict == OUTCOME_MISMATCH;
    for (uint32_t i = 0; i < sim->request_count; i++) {
        const struct request *first = &sim->requests[i];
        bool is_candidate = first != request && first->receipt_key == request->receipt_key &&
                            first->has_outcome && first->outcome.verdict == OUTCOME_STORED &&
                            first->outcome.stored_count == 0;
        if (is_candidate && (first->digest != request->digest) == is_mismatch) {
            return is_mismatch || request->outcome.accepted == 0;
        }
    }
    return false;
}

static void check_duplicate(struct sim *sim, const struct request *request, uint32_t number)
{
    CHECK(request->found_count == 0, "request %u was a duplicate and is stored", number);
    const struct answer *outcome = &request->outcome;
    if (outcome->verdict != OUTCOME_DUPLICATE && outcome->verdict != OUTCOME_MISMATCH) {
        return;
    }
    if (repeats_one_that_stored_nothing(sim, request)) {
        return;
    }
    uint64_t lsn = sim->receipt_lsn[request->receipt_key];
    if (lsn == 0 && sim->is_damaged) {
        return;
    }
    if (has_expired(sim, outcome->first_lsn)) {
        return; /* what it repeated is gone, and a later one may have the key now */
    }
    CHECK(lsn != 0, "request %u was answered as a repeat of key %u, which is nowhere", number,
          request->receipt_key);
    const struct request *first = &sim->requests[sim->receipt_request[request->receipt_key]];
    bool is_same = first->digest == request->digest;
    CHECK(is_same == (outcome->verdict == OUTCOME_DUPLICATE),
          "request %u: verdict %u, the bodies are %s", number, outcome->verdict,
          is_same ? "the same" : "different");
    if (is_same) {
        CHECK(outcome->first_lsn == first->found_lsn,
              "request %u: a repeat of LSN %llu answered with %llu", number,
              (unsigned long long)first->found_lsn, (unsigned long long)outcome->first_lsn);
        CHECK(outcome->accepted == first->found_count && outcome->rejected == first->digest % 3 &&
                  outcome->form == FORM_ARRAY,
              "request %u: another answer than the first time", number);
    }
}

/* Requests expire whole, because segments do. */
static void check_expired(struct sim *sim, struct request *request, uint32_t number)
{
    CHECK(request->found_count == 0, "request %u has expired and is back at LSN %llu", number,
          (unsigned long long)request->found_lsn);
    CHECK(has_expired(sim, request->first_lsn + request->stored_count - 1),
          "request %u has expired in part", number);
    request->state = REQUEST_EXPIRED;
}

/* What an acknowledged request of another node carried is in the log, by whichever request. */
static void check_origin_request(struct sim *sim, struct request *request, uint32_t number)
{
    CHECK(request->state != REQUEST_WAITING, "request %u still waits", number);
    if (request->state != REQUEST_ACKED && request->state != REQUEST_DUPLICATE) {
        request->state = REQUEST_GONE;
        return;
    }
    for (uint32_t lsn = request->node_first; lsn <= request->node_last; lsn++) {
        struct identity identity = identity_of(request->node, lsn);
        uint64_t now = sim->origin_lsn[identity.node][identity.lsn];
        uint64_t before = sim->origin_before[identity.node][identity.lsn];
        bool may_be_gone = before == 0 ? sim->log_first_lsn > 1 || sim->is_damaged
                                       : has_expired(sim, before) || in_damage(sim, before);
        CHECK(!is_carried(request, lsn) || now != 0 || may_be_gone,
              "request %u: node %u's LSN %u was acknowledged and is nowhere (it was at %llu)",
              number, identity.node, identity.lsn, (unsigned long long)before);
        CHECK(before == 0 || now == 0 || now == before || has_expired(sim, before),
              "node %u's LSN %u was at LSN %llu and is at %llu", identity.node, identity.lsn,
              (unsigned long long)before, (unsigned long long)now);
    }
}

/* After a start: who must be there, who may, who must not; and what is decided by it. */
static void check_request(struct sim *sim, struct request *request, uint32_t number)
{
    unsigned long long lsn = request->found_lsn;
    bool is_whole =
        request->found_count == request->record_count || missing_is_explained(sim, request);
    switch (request->state) {
    case REQUEST_WAITING:
        sim_fail(sim, "request %u still waits", number);
    case REQUEST_ACKED:
        if (in_damage(sim, request->first_lsn) ||
            in_damage(sim, request->first_lsn + request->stored_count - 1)) {
            request->state = REQUEST_DAMAGED;
            return;
        }
        if (has_expired(sim, request->first_lsn)) {
            check_expired(sim, request, number);
            return;
        }
        CHECK(request->found_count == request->stored_count,
              "request %u was acknowledged with %u records from LSN %llu, %u are there", number,
              request->stored_count, (unsigned long long)request->first_lsn, request->found_count);
        CHECK(lsn == request->first_lsn, "request %u was acknowledged at LSN %llu and is at %llu",
              number, (unsigned long long)request->first_lsn, lsn);
        return;
    case REQUEST_REFUSED:
    case REQUEST_LOST:
        CHECK(request->found_count == 0 || is_whole,
              "request %u: only %u of %u records, from LSN %llu", number, request->found_count,
              request->record_count, lsn);
        request->state = request->found_count != 0 ? REQUEST_PRESENT : REQUEST_GONE;
        request->first_lsn = request->found_lsn;
        request->stored_count = request->found_count;
        return;
    case REQUEST_PRESENT:
        if (in_damage(sim, request->first_lsn)) {
            request->state = REQUEST_DAMAGED;
            return;
        }
        if (has_expired(sim, request->first_lsn)) {
            check_expired(sim, request, number);
            return;
        }
        CHECK(request->found_count == request->stored_count && lsn == request->first_lsn,
              "request %u was found at LSN %llu by an earlier start and is at %llu now", number,
              (unsigned long long)request->first_lsn, lsn);
        return;
    case REQUEST_GONE:
        CHECK(request->found_count == 0, "request %u was gone and is back at LSN %llu", number,
              lsn);
        return;
    case REQUEST_DUPLICATE:
        check_duplicate(sim, request, number);
        return;
    case REQUEST_EXPIRED:
        check_expired(sim, request, number);
        return;
    case REQUEST_DAMAGED:
        return;
    }
}

static void on_fault(void *context, const char *line)
{
    const struct sim *sim = context;
    CHECK(sim->is_damaged, "verify: %s", line);
    trace(sim, "verify: %s", line);
}

static void check_log(struct sim *sim)
{
    memset(sim->receipt_lsn, 0, sizeof sim->receipt_lsn);
    memset(sim->dedup_lsn, 0, sizeof sim->dedup_lsn);
    memset(sim->origin_lsn, 0, sizeof sim->origin_lsn);
    for (uint32_t i = 0; i < sim->request_count; i++) {
        sim->requests[i].found_lsn = 0;
        sim->requests[i].found_count = 0;
        sim->requests[i].found_mask = 0;
    }
    read_log(sim);
    for (uint32_t i = 0; i < sim->request_count; i++) {
        if (sim->requests[i].is_origin) {
            check_origin_request(sim, &sim->requests[i], i);
        } else {
            check_request(sim, &sim->requests[i], i);
        }
    }
    for (uint32_t node = 0; node < NODES; node++) {
        for (uint32_t lsn = 1; lsn <= NODE_LSNS; lsn++) {
            uint64_t now = sim->origin_lsn[node][lsn];
            sim->origin_before[node][lsn] = now != 0 ? now : sim->origin_before[node][lsn];
        }
    }
    struct verify_report report;
    struct err err = {0};
    CHECK(log_verify(sim_disk_io(sim->disk), &report, on_fault, sim, &err) == 0, "verify: %s",
          err.text);
    CHECK(report.faults == 0 || sim->is_damaged, "verify: %llu faults",
          (unsigned long long)report.faults);
    CHECK(report.faults != 0 || !sim->is_damaged, "verify did not notice the damage");
}

/* ---- life ---- */

/* Power off until a start succeeds; the power may go again meanwhile. */
static void sim_open(struct sim *sim)
{
    for (int i = 0; i < OPEN_TRIES_MAX && sim->store == NULL; i++) {
        if (i < OPEN_TRIES_MAX - 1 && chance(sim, 250)) {
            sim_disk_crash_after(sim->disk, 1 + below(sim, 20));
        }
        struct err err = {0};
        memset(&sim->report, 0, sizeof sim->report);
        int result = store_open_single(&sim->store, &sim->options, sim_disk_io(sim->disk),
                                       &sim->report, &err);
        if (result < 0) {
            CHECK(sim_disk_is_dead(sim->disk), "start %u: %s", sim->reopens, err.text);
            trace(sim, "the power went during the start: %s", err.text);
            sim->store = NULL;
            sim_disk_restart(sim->disk);
        } else if (sim_disk_is_dead(sim->disk)) {
            store_close(sim->store);
            sim->store = NULL;
            sim_disk_restart(sim->disk);
        }
    }
    CHECK(sim->store != NULL, "no start succeeded");
    sim_disk_crash_after(sim->disk, 0);
    for (uint32_t i = 0; i < sim->shard_count; i++) {
        sim->shards[i].port = store_port(sim->store, i);
        sim->shards[i].port->shard_park = &run.parks[i];
    }
    sim->log_last_lsn = sim->report.last_lsn;
    sim->reopens++;
    sim->had_fault = false;
    trace(sim, "open: last LSN %llu, %llu torn, %llu corrupt %s",
          (unsigned long long)sim->report.last_lsn,
          (unsigned long long)sim->report.torn_batches_cut,
          (unsigned long long)sim->report.corrupt_batches, sim->report.text);
    CHECK(sim->report.corrupt_batches == 0 || sim->is_damaged, "start %u reports damage: %s",
          sim->reopens, sim->report.text);
    check_log(sim);
}

/* The process is gone: what was not answered is open until the next start. */
static void sim_close(struct sim *sim)
{
    step_acks(sim); /* what the writer has published was promised, even if the shard was slow */
    const struct store_status *status = store_status(sim->store);
    uint64_t durable_lsn = atomic_load_explicit(&status->durable_lsn, memory_order_relaxed);
    sim->log_last_lsn = u64_max(sim->log_last_lsn, durable_lsn);
    run.sealed += atomic_load_explicit(&status->sealed, memory_order_relaxed);
    run.compacted += atomic_load_explicit(&status->compacted, memory_order_relaxed);
    run.expired += atomic_load_explicit(&status->expired_segments, memory_order_relaxed);
    store_close(sim->store);
    sim->store = NULL;
    for (uint32_t i = 0; i < sim->request_count; i++) {
        if (sim->requests[i].state == REQUEST_WAITING) {
            sim->requests[i].state = REQUEST_LOST;
        }
    }
    if (sim_disk_is_dead(sim->disk)) {
        sim_disk_restart(sim->disk);
    }
}

static void reopen_after_crash(struct sim *sim)
{
    trace(sim, "the power goes");
    if (!sim_disk_is_dead(sim->disk)) {
        sim_disk_crash(sim->disk);
    }
    sim->crashes++;
    sim_close(sim);
    sim_open(sim);
}

static void step_archive(struct sim *sim, unsigned count)
{
    for (unsigned i = 0; i < count && !sim_disk_is_dead(sim->disk); i++) {
        (void)store_step_archive(sim->store);
    }
}

struct log_files {
    struct sim *sim;
    char names[256][64];
    unsigned count;
};

static void files_on_name(void *context, const char *name)
{
    struct log_files *files = context;
    struct sim *sim = files->sim;
    CHECK(files->count < 256, "too many files");
    (void)snprintf(files->names[files->count++], 64, "log/%.40s", name);
}

static bool ends_with(const char *name, const char *end)
{
    size_t length = strlen(name);
    return length >= strlen(end) && strcmp(name + length - strlen(end), end) == 0;
}

/* What status says is what the directory has, and nothing is left over. */
static void check_files(struct sim *sim)
{
    static struct log_files files;
    files = (struct log_files){.sim = sim};
    struct file_io *io = sim_disk_io(sim->disk);
    CHECK(io->ops->list(io, "log", files_on_name, &files) == 0, "list");
    uint64_t total = 0;
    for (unsigned i = 0; i < files.count; i++) {
        struct file file;
        CHECK(io->ops->open(io, files.names[i], FILE_OPEN_READ_ONLY, &file) == 0, "open");
        bool is_log = ends_with(files.names[i], ".seg") || ends_with(files.names[i], ".slc");
        total += is_log ? (uint64_t)io->ops->size(io, file) : 0;
        io->ops->close(io, file);
        CHECK(!ends_with(files.names[i], ".slt"), "%s is left over", files.names[i]);
    }
    uint64_t log_bytes =
        atomic_load_explicit(&store_status(sim->store)->log_bytes, memory_order_relaxed);
    CHECK(log_bytes == total, "log_bytes is %llu, the files take %llu",
          (unsigned long long)log_bytes, (unsigned long long)total);
}

static void check_view(struct sim *sim)
{
    struct log_view *view = log_view_take(store_views(sim->store));
    for (size_t i = 0; i + 1 < view->count; i++) {
        const struct view_segment *segment = view->segments[i];
        const struct view_segment *next = view->segments[i + 1];
        bool is_raw =
            segment->state == VIEW_SEALED && (segment->footer.flags & SEALED_DAMAGED) != 0;
        enum view_state wanted = sim->options.compacts && !is_raw ? VIEW_COMPACTED : VIEW_SEALED;
        if (sim->had_any_fault && segment->state == VIEW_ACTIVE && next->state == VIEW_ACTIVE) {
            continue; /* nothing durable stands behind it: it was left after a failure */
        }
        CHECK(segment->state == wanted, "segment %llu is in state %d, %d would be right",
              (unsigned long long)segment->id, (int)segment->state, (int)wanted);
        CHECK(sim->is_damaged || next->footer.first_lsn == segment->footer.last_lsn + 1,
              "segment %llu ends at LSN %llu, the next one begins at %llu",
              (unsigned long long)segment->id, (unsigned long long)segment->footer.last_lsn,
              (unsigned long long)next->footer.first_lsn);
    }
    const struct store_status *status = store_status(sim->store);
    uint64_t log_bytes = atomic_load_explicit(&status->log_bytes, memory_order_relaxed);
    uint64_t limit = sim->options.retention_bytes;
    CHECK(limit == 0 || log_bytes <= limit || view->count <= 1,
          "%llu bytes in %zu segments after retention of %llu", (unsigned long long)log_bytes,
          view->count, (unsigned long long)limit);
    log_view_give(store_views(sim->store), view);
}

/* Nothing fails any more: all that can be done gets done. */
static void settle_archive(struct sim *sim)
{
    unsigned idle = 0;
    for (unsigned i = 0; i < SETTLE_STEPS_MAX && idle < 3; i++) {
        bool is_done = store_step_archive(sim->store) != 0;
        idle = is_done ? 0 : idle + 1;
        sim_disk_advance(sim->disk, is_done ? 0 : 2 * NS_S);
    }
    CHECK(idle == 3, "the archive does not come to rest");
    check_view(sim);
    check_files(sim);
}

/* Faults end, room comes back; then everything must be answered. */
static void settle(struct sim *sim)
{
    sim_disk_fail_all_writes(sim->disk, false);
    sim_disk_fail_next_writes(sim->disk, 0);
    sim_disk_fail_next_sync(sim->disk, false);
    sim_disk_crash_after(sim->disk, 0);
    sim_disk_set_capacity(sim->disk, CAPACITY_BYTES);
    store_stop(sim->store);
    int result = 0;
    for (int i = 0; i < SETTLE_STEPS_MAX && result == 0; i++) {
        (void)store_step_keeper(sim->store);
        result = store_step_writer(sim->store);
        step_acks(sim);
        step_archive(sim, below(sim, 3));
    }
    CHECK(result == 1, "the writer does not stop (result %d)", result);
    for (uint32_t i = 0; i < sim->request_count; i++) {
        CHECK(sim->requests[i].state != REQUEST_WAITING, "request %u was never answered", i);
    }
    if (chance(sim, 300)) {
        settle_archive(sim);
    }
}

static void reopen_in_order(struct sim *sim)
{
    trace(sim, "stop in order");
    bool is_torn_allowed = sim->is_damaged || sim->had_fault;
    settle(sim);
    if (chance(sim, 500)) {
        /* An orderly stop leaves nothing to the page cache. */
        sim_disk_crash(sim->disk);
    }
    sim_close(sim);
    sim_open(sim);
    CHECK(is_torn_allowed || sim->report.torn_batches_cut == 0,
          "torn batches after an orderly stop: %s", sim->report.text);
}

static void step_fault(struct sim *sim)
{
    sim->had_fault = true;
    sim->had_any_fault = true;
    switch (below(sim, 7)) {
    case 0:
        trace(sim, "the next writes fail");
        sim_disk_fail_next_writes(sim->disk, 1 + below(sim, 3));
        break;
    case 1:
        trace(sim, "all writes fail");
        sim_disk_fail_all_writes(sim->disk, true);
        break;
    case 2:
    case 3:
        trace(sim, "writes work again");
        sim_disk_fail_all_writes(sim->disk, false);
        break;
    case 4:
        trace(sim, "the disk is full");
        sim_disk_set_capacity(sim->disk, sim_disk_used_bytes(sim->disk) +
                                             below(sim, 4) * sim->options.segment_bytes / 2);
        break;
    case 5:
        trace(sim, "the disk has room");
        sim_disk_set_capacity(sim->disk, CAPACITY_BYTES);
        break;
    default:
        trace(sim, "a sync fails");
        sim_disk_fail_next_sync(sim->disk, true);
        break;
    }
}

static void step_any(struct sim *sim)
{
    uint32_t dice = below(sim, 1000);
    if (dice < 400) {
        step_submit(sim);
    } else if (dice < 780) {
        CHECK(store_step_writer(sim->store) == 0, "the writer stopped by itself");
    } else if (dice < 860) {
        CHECK(store_step_keeper(sim->store) == 0, "the keeper stopped by itself");
    } else if (dice < 900) {
        step_acks(sim);
    } else if (dice < 930) {
        /* In bursts: else it would never get far between two crashes. */
        step_archive(sim, 1 + below(sim, 40));
    } else if (dice < 965) {
        sim_disk_advance(sim->disk, below(sim, 4) == 0 ? NS_S : below(sim, 60 * NS_MS));
    } else if (dice < 972) {
        reopen_after_crash(sim);
    } else if (dice < 980) {
        sim_disk_crash_after(sim->disk, 1 + below(sim, 40));
    } else if (dice < 985) {
        reopen_in_order(sim);
    } else {
        step_fault(sim);
    }
    if (sim->store != NULL && sim_disk_is_dead(sim->disk)) {
        reopen_after_crash(sim);
    }
}

struct target {
    char name[64];
    uint64_t offset;
    uint64_t bytes;
    uint64_t first_lsn;
    uint64_t last_lsn;
};

/* One walk over the log: the largest LSN that a header names as durable, and a batch at random
 * among those at or below limit_lsn. The first batch of a segment is spared: the segment before may
 * hold a copy of it. */
static uint64_t target_pick(struct sim *sim, uint64_t limit_lsn, struct target *target)
{
    struct log_walk *walk = NULL;
    struct err err = {0};
    struct walk_batch batch;
    struct walk_gap gap;
    uint64_t durable_lsn = 0;
    unsigned seen = 0;
    memset(target, 0, sizeof *target);
    CHECK(log_walk_open(&walk, sim_disk_io(sim->disk), 0, &err) == 0, "walk: %s", err.text);
    while (log_walk_next(walk, &batch, &gap, &err) == WALK_BATCH) {
        const struct batch_header *header = &batch.header;
        durable_lsn = header->durable_lsn;
        bool is_spared = batch.offset == STORE_BLOCK_BYTES && header->segment_id != 1;
        bool is_target = header->record_count != 0 && header->first_lsn <= limit_lsn &&
                         !is_spared && ends_with(batch.name, ".seg");
        /* Each with the same chance: the n-th replaces the choice with 1/n. */
        if (is_target && below(sim, ++seen) == 0) {
            (void)snprintf(target->name, sizeof target->name, "%s", batch.name);
            target->offset = batch.offset;
            target->bytes = BATCH_HEADER_BYTES + header->payload_bytes;
            target->first_lsn = header->first_lsn;
            target->last_lsn = header->first_lsn + header->record_count - 1;
        }
    }
    log_walk_close(walk);
    return durable_lsn;
}

static bool is_sealed_file(struct sim *sim, const char *name)
{
    struct file_io *io = sim_disk_io(sim->disk);
    struct file file;
    CHECK(io->ops->open(io, name, FILE_OPEN_READ_ONLY, &file) == 0, "open %s", name);
    int64_t bytes = io->ops->size(io, file);
    io->ops->close(io, file);
    return bytes > (int64_t)sim->options.segment_bytes;
}

/* Damages one batch of a log that was closed in order. Without a closing mark (the disk was full)
 * the last flight has no witness: its damage cannot be told from a torn tail, so it is not chosen.
 */
static void damage_any(struct sim *sim)
{
    struct target target;
    uint64_t durable_lsn = target_pick(sim, 0, &target);
    (void)target_pick(sim, durable_lsn, &target);
    if (target.bytes == 0) {
        return;
    }
    uint64_t at = below(sim, target.bytes);
    CHECK(sim_disk_corrupt(sim->disk, target.name, target.offset + at, 1) == 0, "no file %s",
          target.name);
    sim->is_damaged = true;
    sim->is_damage_sealed = is_sealed_file(sim, target.name);
    sim->damaged_first_lsn = target.first_lsn;
    sim->damaged_last_lsn = target.last_lsn;
    trace(sim, "damage %s at %llu+%llu: LSN %llu to %llu", target.name,
          (unsigned long long)target.offset, (unsigned long long)at,
          (unsigned long long)target.first_lsn, (unsigned long long)target.last_lsn);
}

static void finish_with_damage(struct sim *sim)
{
    settle(sim);
    sim_close(sim);
    /* What a failed write left is decided now: a witness that a later power cut takes back is none. */
    sim_disk_crash(sim->disk);
    sim_disk_restart(sim->disk);
    damage_any(sim);
    sim_open(sim);
    if (!sim->is_damaged || sim->is_damage_sealed) {
        return; /* a start believes footers; reading and verify have found it (check_log) */
    }
    /* Between the damaged batch and the next good one may lie a mark whose write had failed. */
    CHECK(sim->report.corrupt_batches == 1 ||
              (sim->had_any_fault && sim->report.corrupt_batches == 2),
          "the start reports %llu damaged batches",
          (unsigned long long)sim->report.corrupt_batches);
    CHECK(sim->report.corrupt_lsn_count == sim->damaged_last_lsn - sim->damaged_first_lsn + 1,
          "the start reports %llu lost records", (unsigned long long)sim->report.corrupt_lsn_count);
    /* The keys of the lost batch are forgotten with it, so no more keyed requests; plain life goes
     * on. */
}

static void sim_keys(void *context, const struct record *record, record_on_key on_key, void *to)
{
    (void)context;
    if (record->payload.bytes >= 2) {
        on_key(to, INDEX_SERVICE, (struct slice){record->payload.data, 2});
    }
}

static void sim_init(struct sim *sim)
{
    memset(sim, 0, sizeof *sim);
    sim->random.state = run.seed * 0x2545f4914f6cdd1dull + 1;
    struct sim_disk_options disk = {
        .seed = sim_random_next(&sim->random),
        .capacity_bytes = CAPACITY_BYTES,
        .delay_ns_min = 20 * NS_US,
        .delay_ns_max = (20 + below(sim, 400)) * NS_US,
        .slow_per_thousand = below(sim, 30),
        .broken = run.broken,
    };
    sim->disk = sim_disk_create(&disk);
    sim->shard_count = 1 + below(sim, SHARDS_MAX);
    sim->options = (struct store_options){
        .data_dir = "sim",
        .segment_bytes = KIB(64) << below(sim, 3),
        .reserve_bytes = below(sim, 2) * KIB(64),
        .ring_bytes = KIB(32) << below(sim, 2),
        .batch_bytes = KIB(4) << below(sim, 3),
        .commit_pause_ns = below(sim, 2) * 500 * NS_US,
        .dedup_ttl_ns = 24 * 3600 * NS_S,
        .dedup_entries_max = 4096,
        .spare_segments = 1 + below(sim, 2),
        .shard_count = sim->shard_count,
        .writer_cpu = -1,
        .compacts = !run.is_raw && below(sim, 4) != 0,
        .compact_level = 1,
        .compact_rate = below(sim, 2) * MIB(64),
        .segment_age_ns = below(sim, 3) == 0 ? 1 + below(sim, 1000 * NS_MS) : 0,
        .record_keys = sim_keys,
    };
    if (below(sim, 2) == 0 && !run.is_keeping) {
        sim->options.retention_bytes = sim->options.segment_bytes * (2 + below(sim, 8));
    }
    if (below(sim, 4) == 0 && !run.is_keeping) {
        sim->options.retention_age_ns = below(sim, 20 * NS_S);
    }
    sim->log_first_lsn = 1;
}

static void sim_life(struct sim *sim)
{
    sim_open(sim);
    uint64_t steps = 50 + below(sim, 600);
    for (sim->step = 1; sim->step <= steps; sim->step++) {
        step_any(sim);
    }
    if (below(sim, 4) == 0 && !may_expire(sim)) {
        finish_with_damage(sim);
    } else {
        reopen_in_order(sim);
    }
    settle(sim);
    sim_close(sim);
    check_log(sim);
}

static bool run_seed(uint64_t seed)
{
    static struct sim sim; /* too large for the stack */
    run.seed = seed;
    sim_init(&sim);
    if (setjmp(run.on_failure) != 0) {
        return false; /* the store and its disk are left as they are: the failure is what counts */
    }
    sim_life(&sim);
    sim_disk_destroy(sim.disk);
    run.reopens += sim.reopens;
    run.crashes += sim.crashes;
    return true;
}

static void on_abort(int number)
{
    (void)number;
    print_seed_command(
        stderr); /* an ASSERT of the store: not safe in general, good enough to name the seed */
}

static enum sim_break parse_break(const char *text)
{
    static const char *const names[] = {"none", "writes", "sync", "dir"};
    for (unsigned i = 0; i < ARRAY_COUNT(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            return (enum sim_break)i;
        }
    }
    (void)fprintf(stderr, "--break writes|sync|dir\n");
    exit(2);
}

int main(int argc, char **argv)
{
    uint64_t seeds = 1000;
    uint64_t first = 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--verbose") == 0) {
            run.is_verbose = true;
        } else if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc) {
            seeds = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--first") == 0 && i + 1 < argc) {
            first = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--raw") == 0) {
            run.is_raw = true;
        } else if (strcmp(argv[i], "--keep") == 0) {
            run.is_keeping = true;
        } else if (strcmp(argv[i], "--break") == 0 && i + 1 < argc) {
            run.broken = parse_break(argv[++i]);
        } else {
            (void)fprintf(stderr, "sim_store --seeds N [--first S] [--verbose] [--break "
                                  "writes|sync|dir] [--raw] [--keep]\n");
            return 2;
        }
    }
    logline_configure(run.is_verbose ? LOGLINE_INFO : (enum logline_level)(LOGLINE_ERROR + 1),
                      false);
    struct sigaction action = {.sa_handler = on_abort, .sa_flags = (int)SA_RESETHAND};
    (void)sigaction(SIGABRT, &action, NULL);
    for (unsigned i = 0; i < SHARDS_MAX; i++) {
        struct err err;
        if (park_init(&run.parks[i], &err) < 0) {
            (void)fprintf(stderr, "%s\n", err.text);
            return 1;
        }
    }
    struct timespec begin;
    struct timespec end;
    (void)clock_gettime(CLOCK_MONOTONIC, &begin);
    uint64_t failed = 0;
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        failed += !run_seed(seed);
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds =
        (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    (void)printf(
        "%llu seeds, %llu failed, %.0f per second; %llu acknowledged, %llu refused, %llu "
        "repeats, %llu starts, %llu power cuts; %llu sealed, %llu compacted, %llu expired\n",
        (unsigned long long)seeds, (unsigned long long)failed, (double)seeds / seconds,
        (unsigned long long)run.acked, (unsigned long long)run.refused,
        (unsigned long long)run.duplicates, (unsigned long long)run.reopens,
        (unsigned long long)run.crashes, (unsigned long long)run.sealed,
        (unsigned long long)run.compacted, (unsigned long long)run.expired);
    return failed == 0 ? 0 : 1;
}
