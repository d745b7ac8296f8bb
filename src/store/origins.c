/*
 * origins: see origins.h. Nothing allocates or fails after origins_open.
 */
#include "store/origins.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/crc32c.h"
#include "core/logline.h"
#include "core/mem.h"
#include "store/bytes.h"
#include "store/log_walk.h"
#include "store/submit.h"

#define FILE_HEADER_BYTES 64u
#define FILE_VERSION      2u
#define FILE_TEMPORARY    ORIGINS_FILE ".tmp"

static const char file_magic[8] = "SLUICORG";

enum file_offset {
    FILE_MAGIC_AT = 0,
    FILE_VERSION_AT = 8,
    FILE_HEADER_BYTES_AT = 10,
    FILE_NODE_COUNT_AT = 12,
    FILE_NODE_AT = 16,
    FILE_LSN_AT = 32,
    FILE_BODY_BYTES_AT = 40,
    FILE_PASSED_COUNT_AT = 48,
    FILE_PASSED_BYTES_AT = 52,
    FILE_BODY_CRC_AT = 56,
    FILE_HEADER_CRC_AT = 60,
};

_Static_assert(FILE_HEADER_CRC_AT + 4 == FILE_HEADER_BYTES, "the checksum ends the header");
_Static_assert((ORIGINS_PENDING_MAX & (ORIGINS_PENDING_MAX - 1)) == 0, "found by masking");
_Static_assert(ORIGINS_PENDING_MAX >= 2 * SUBMIT_ORIGIN_RUNS_MAX, "one request always fits");

/* Who may touch the buffer. */
enum buffer_state {
    BUFFER_EMPTY = 0,  /* the writer */
    BUFFER_FULL = 1,   /* the keeper */
    BUFFER_FAILED = 2, /* the writer: the file was not written */
};

struct addition {
    struct ulid node;
    uint32_t kinds;
    bool is_passed;
    uint64_t first;
    uint64_t last;
    uint64_t lsn; /* ours */
};

struct origins {
    struct origin_set known;
    struct origin_set settled;
    struct origin_set known_passed;
    struct origin_set settled_passed;
    bool has_forgotten;
    struct ulid node;
    const struct lineage *lineage;
    uint64_t settled_lsn;
    struct addition *pending; /* ring: index & (ORIGINS_PENDING_MAX - 1) */
    uint64_t pending_head;    /* free-running */
    uint64_t pending_tail;
    bool is_blind;
    bool has_news; /* settled holds what no buffer was filled with */
    uint64_t offered_at_ns;
    uint8_t *buffer;
    size_t buffer_room;
    size_t buffer_bytes;
    bool has_warned; /* the keeper's */
    _Atomic int buffer_state;
};

static size_t pending_bytes(void)
{
    return ORIGINS_PENDING_MAX * sizeof(struct addition);
}

bool origins_has_pending_room(const struct origins *origins)
{
    uint64_t used = origins->pending_tail - origins->pending_head;
    return ORIGINS_PENDING_MAX - used >= 2 * SUBMIT_ORIGIN_RUNS_MAX;
}

bool origins_is_blind(const struct origins *origins)
{
    return origins->is_blind;
}

const struct origin_set *origins_known(const struct origins *origins)
{
    return &origins->known;
}

const struct origin_set *origins_settled(const struct origins *origins)
{
    return &origins->settled;
}

bool origins_has_forgotten(const struct origins *origins)
{
    return origins->has_forgotten;
}

static bool is_same(const struct ulid *a, const struct ulid *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

/* Did that record begin here, and is it still that record? */
static bool is_ours(const struct origins *origins, const struct ulid *node, uint64_t lsn)
{
    struct ulid stream =
        origins->lineage == NULL ? origins->node : lineage_stream(origins->lineage, lsn);
    return is_same(node, &stream);
}

/* It was here on its way: we had it first, or passed it on. A way names no LSNs, so of what passed under an older name only
 * the sets know whether it is here still. */
static bool is_loop(const struct origins *origins, const struct first_origin *first)
{
    struct ulid current =
        origins->lineage == NULL ? origins->node : lineage_current(origins->lineage);
    bool is_known = is_ours(origins, &first->node, first->lsn);
    for (unsigned i = 0; i < first->via_count && !is_known; i++) {
        is_known = is_same(&first->via[i], &current);
    }
    return is_known;
}

static bool is_here(const struct origins *origins, const struct ulid *node, enum record_kind kind,
                    uint64_t lsn)
{
    return origin_set_has(&origins->known, node, kind, lsn) ||
           origin_set_has(&origins->known_passed, node, kind, lsn);
}

bool origins_has(const struct origins *origins, const struct origin *origin,
                 const struct first_origin *first, enum record_kind kind)
{
    return is_here(origins, &origin->node, kind, origin->lsn) ||
           is_ours(origins, &origin->node, origin->lsn) ||
           (first != NULL &&
            (is_loop(origins, first) || is_here(origins, &first->node, kind, first->lsn)));
}

static void wait_for_disk(struct origins *origins, const struct addition *addition)
{
    ASSERT(origins->pending_tail - origins->pending_head < ORIGINS_PENDING_MAX);
    ASSERT(addition->lsn > origins->settled_lsn);
    origins->pending[origins->pending_tail++ & (ORIGINS_PENDING_MAX - 1)] = *addition;
}

void origins_add(struct origins *origins, const struct ulid *node, uint32_t kinds, uint64_t first,
                 uint64_t last, uint64_t lsn)
{
    int r = origin_set_add(&origins->known, node, kinds, first, last);
    ASSERT(r == 0); /* the caller has looked */
    wait_for_disk(origins,
                  &(struct addition){
                      .node = *node, .kinds = kinds, .first = first, .last = last, .lsn = lsn});
}

void origins_forget(struct origins *origins)
{
    if (!origins->has_forgotten) {
        LOG(LOGLINE_WARNING, "origins_forgotten",
            "more gaps between records that were passed on than can be remembered: a copy of an "
            "old one that comes by another way will be stored again");
    }
    origins->has_forgotten = true;
}

void origins_pass(struct origins *origins, const struct ulid *node, uint64_t first, uint64_t last,
                  uint64_t lsn)
{
    bool is_all = origin_set_push(&origins->known_passed, node, ORIGIN_ALL_KINDS, first, last);
    if (!is_all) {
        origins_forget(origins);
    }
    wait_for_disk(origins,
                  &(struct addition){
                      .node = *node, .is_passed = true, .first = first, .last = last, .lsn = lsn});
}

static void settle_one(struct origins *origins, const struct addition *addition)
{
    if (addition->is_passed) {
        (void)origin_set_push(&origins->settled_passed, &addition->node, ORIGIN_ALL_KINDS,
                              addition->first, addition->last);
        return;
    }
    int r = origin_set_add(&origins->settled, &addition->node, addition->kinds, addition->first,
                           addition->last);
    ASSERT(r == 0); /* it goes through the states that known went through */
}

void origins_settle(struct origins *origins, uint64_t durable_lsn)
{
    while (origins->pending_head != origins->pending_tail) { /* bounded by the ring */
        const struct addition *addition =
            &origins->pending[origins->pending_head & (ORIGINS_PENDING_MAX - 1)];
        if (addition->lsn > durable_lsn) {
            break;
        }
        settle_one(origins, addition);
        origins->pending_head++;
        origins->has_news = true;
    }
    origins->settled_lsn = u64_max(origins->settled_lsn, durable_lsn);
}

void origins_take_back(struct origins *origins, uint64_t next_lsn)
{
    origins_settle(origins, next_lsn - 1);
    if (origins->pending_head == origins->pending_tail) {
        return;
    }
    origins->pending_head = origins->pending_tail;
    origin_set_copy(&origins->known, &origins->settled);
    origin_set_copy(&origins->known_passed, &origins->settled_passed);
}

/* ---- the file ---- */

/* The whole file into the buffer. */
static void encode(struct origins *origins)
{
    uint8_t *to = origins->buffer;
    size_t sent = origin_set_encode(to + FILE_HEADER_BYTES, &origins->settled);
    size_t passed = origin_set_encode(to + FILE_HEADER_BYTES + sent, &origins->settled_passed);
    size_t body = sent + passed;
    ASSERT(FILE_HEADER_BYTES + body <= origins->buffer_room);
    memset(to, 0, FILE_HEADER_BYTES);
    memcpy(to + FILE_MAGIC_AT, file_magic, sizeof file_magic);
    put_u16(to + FILE_VERSION_AT, FILE_VERSION);
    put_u16(to + FILE_HEADER_BYTES_AT, FILE_HEADER_BYTES);
    put_u32(to + FILE_NODE_COUNT_AT, origins->settled.node_count);
    memcpy(to + FILE_NODE_AT, origins->node.bytes, ULID_BYTES);
    put_u64(to + FILE_LSN_AT, origins->settled_lsn);
    put_u64(to + FILE_BODY_BYTES_AT, body);
    put_u32(to + FILE_PASSED_COUNT_AT, origins->settled_passed.node_count);
    put_u32(to + FILE_PASSED_BYTES_AT, (uint32_t)passed);
    put_u32(to + FILE_BODY_CRC_AT, crc32c(0, to + FILE_HEADER_BYTES, body));
    put_u32(to + FILE_HEADER_CRC_AT, crc32c(0, to, FILE_HEADER_CRC_AT));
    origins->buffer_bytes = FILE_HEADER_BYTES + body;
    origins->has_news = false;
}

static int decode_body(struct origins *origins, const uint8_t *header, struct slice body)
{
    uint64_t passed = get_u32(header + FILE_PASSED_BYTES_AT);
    if (passed > body.bytes) {
        return ERR_CORRUPT;
    }
    struct slice sent = {body.data, body.bytes - passed};
    int r = origin_set_decode(&origins->settled, sent, get_u32(header + FILE_NODE_COUNT_AT));
    return r < 0 ? r
                 : origin_set_decode(&origins->settled_passed,
                                     (struct slice){body.data + sent.bytes, passed},
                                     get_u32(header + FILE_PASSED_COUNT_AT));
}

static bool is_header(const uint8_t *from, const struct ulid *node)
{
    return memcmp(from + FILE_MAGIC_AT, file_magic, sizeof file_magic) == 0 &&
           get_u16(from + FILE_VERSION_AT) == FILE_VERSION &&
           get_u16(from + FILE_HEADER_BYTES_AT) == FILE_HEADER_BYTES &&
           crc32c(0, from, FILE_HEADER_CRC_AT) == get_u32(from + FILE_HEADER_CRC_AT) &&
           memcmp(from + FILE_NODE_AT, node->bytes, ULID_BYTES) == 0;
}

/* What the file says into settled. Returns the LSN it reflects; 0: it says nothing. */
static uint64_t decode(struct origins *origins, struct slice file)
{
    const uint8_t *from = file.data;
    if (from == NULL || file.bytes < FILE_HEADER_BYTES || !is_header(from, &origins->node)) {
        return 0;
    }
    struct slice body = {from + FILE_HEADER_BYTES, file.bytes - FILE_HEADER_BYTES};
    if (get_u64(from + FILE_BODY_BYTES_AT) != body.bytes ||
        crc32c(0, body.data, body.bytes) != get_u32(from + FILE_BODY_CRC_AT) ||
        decode_body(origins, from, body) < 0) {
        return 0;
    }
    return get_u64(from + FILE_LSN_AT);
}

static int write_file(struct file_io *io, const uint8_t *data, size_t bytes)
{
    struct file file;
    int r = io->ops->open(io, FILE_TEMPORARY, FILE_OPEN_CREATE, &file);
    if (r < 0) {
        return r;
    }
    r = io->ops->truncate(io, file, 0);
    r = r < 0 ? r : io->ops->write(io, file, data, bytes, 0, false);
    r = r < 0 ? r : io->ops->sync(io, file);
    io->ops->close(io, file);
    r = r < 0 ? r : io->ops->rename(io, FILE_TEMPORARY, ORIGINS_FILE);
    return r < 0 ? r : io->ops->sync_dir(io, "");
}

void origins_offer(struct origins *origins, uint64_t now_ns)
{
    /* A24: the keeper reads the buffer no more; pairs with R24 in origins_write. */
    int state = atomic_load_explicit(&origins->buffer_state, memory_order_acquire);
    bool is_due = origins->offered_at_ns == 0 || now_ns - origins->offered_at_ns >= ORIGINS_SAVE_NS;
    bool is_wanted = origins->has_news || state == BUFFER_FAILED;
    if (LIKELY(state == BUFFER_FULL || !is_wanted || !is_due || origins->is_blind)) {
        return;
    }
    encode(origins);
    origins->offered_at_ns = now_ns;
    /* R23: the buffer's bytes; pairs with A23 in origins_write. After this they are the keeper's. */
    atomic_store_explicit(&origins->buffer_state, BUFFER_FULL, memory_order_release);
}

void origins_write(struct origins *origins, struct file_io *io)
{
    /* A23: the bytes that the writer put there; pairs with R23 in origins_offer. */
    if (LIKELY(atomic_load_explicit(&origins->buffer_state, memory_order_acquire) != BUFFER_FULL)) {
        return;
    }
    int r = write_file(io, origins->buffer, origins->buffer_bytes);
    if (r < 0 && !origins->has_warned) {
        LOG(LOGLINE_WARNING, "origins_not_saved",
            "DIR/" ORIGINS_FILE " is not written: %s; the next start reads more of the log",
            err_name(r));
    }
    origins->has_warned = r < 0;
    /* R24: the buffer is the writer's again; pairs with A24 in origins_offer. */
    atomic_store_explicit(&origins->buffer_state, r < 0 ? BUFFER_FAILED : BUFFER_EMPTY,
                          memory_order_release);
}

void origins_save(struct origins *origins, struct file_io *io)
{
    /* relaxed: the threads have ended. */
    int state = atomic_load_explicit(&origins->buffer_state, memory_order_relaxed);
    if ((!origins->has_news && state == BUFFER_EMPTY) || origins->is_blind) {
        return;
    }
    encode(origins);
    int r = write_file(io, origins->buffer, origins->buffer_bytes);
    if (r < 0) {
        LOG(LOGLINE_WARNING, "origins_not_saved", "DIR/" ORIGINS_FILE " is not written: %s",
            err_name(r));
    }
    atomic_store_explicit(&origins->buffer_state, BUFFER_EMPTY, memory_order_relaxed);
}

/* ---- start ---- */

/* The file's bytes; empty when there is none that could be good. */
static struct slice read_file(struct origins *origins, struct file_io *io)
{
    struct file file;
    struct slice none = {origins->buffer, 0};
    if (io->ops->open(io, ORIGINS_FILE, FILE_OPEN_READ_ONLY, &file) < 0) {
        return none;
    }
    int64_t size = io->ops->size(io, file);
    int64_t n = -1;
    if (size > 0 && (uint64_t)size <= origins->buffer_room) {
        n = io->ops->read(io, file, origins->buffer, (uint64_t)size, 0);
    }
    io->ops->close(io, file);
    return n < 0 || n != size ? none : (struct slice){origins->buffer, (size_t)n};
}

uint64_t origins_peek(struct file_io *io, const struct ulid *node)
{
    uint8_t header[FILE_HEADER_BYTES];
    struct file file;
    if (io->ops->open(io, ORIGINS_FILE, FILE_OPEN_READ_ONLY, &file) < 0) {
        return 0;
    }
    int64_t n = io->ops->read(io, file, header, sizeof header, 0);
    io->ops->close(io, file);
    bool is_good = n == (int64_t)sizeof header && is_header(header, node);
    return is_good ? get_u64(header + FILE_LSN_AT) : 0;
}

/* A file that is damaged, another node's or newer than the log (which then has lost its end, and
 * will use those LSNs again) must not be met again. */
static uint64_t load(struct origins *origins, struct file_io *io, uint64_t last_lsn)
{
    uint64_t lsn = decode(origins, read_file(origins, io));
    if (lsn != 0 && lsn <= last_lsn) {
        return lsn;
    }
    origin_set_clear(&origins->settled);
    origin_set_clear(&origins->settled_passed);
    int r = io->ops->unlink(io, ORIGINS_FILE);
    if (r != -ENOENT) {
        LOG(LOGLINE_WARNING, "origins_discarded",
            "DIR/" ORIGINS_FILE " is damaged or newer than the log: read from the log instead");
        r = r < 0 ? r : io->ops->sync_dir(io, "");
    }
    if (r < 0 && r != -ENOENT) {
        LOG(LOGLINE_ERROR, "origins_discarded", "DIR/" ORIGINS_FILE " cannot be removed: %s",
            err_name(r));
    }
    return 0;
}

/* One record of the log. 0 or ERR_LIMIT. */
static int take_record(struct origins *origins, const struct record *record)
{
    struct origin origin;
    struct first_origin first;
    if (meta_find_origin(&origin, record->meta) != 1) {
        return 0;
    }
    if (meta_find_first(&first, record->meta) == 1) {
        (void)origin_set_push(&origins->settled_passed, &first.node, ORIGIN_ALL_KINDS, first.lsn,
                              first.lsn);
    }
    /* The others of a run are in the range that its first told. */
    return origin.range_first == 0
               ? 0
               : origin_set_add(&origins->settled, &origin.node, origin.range_kinds,
                                origin.range_first, origin.range_last);
}

static int take_batch(struct origins *origins, const struct walk_batch *batch)
{
    int r = 0;
    uint64_t offset = 0;
    while (r == 0 && offset < batch->payload.bytes) { /* on by a record, or the end */
        struct record record;
        struct slice rest = {batch->payload.data + offset, batch->payload.bytes - offset};
        int64_t n = record_decode(&record, rest, NULL);
        if (n <= 0) {
            break; /* the walk has judged the framing; nothing more can be made out */
        }
        r = take_record(origins, &record);
        offset += (uint64_t)n;
    }
    return r;
}

/* Every batch behind lsn. Damage was reported by recovery; its records are lost, and may come again.
 */
static int take_log(struct origins *origins, struct file_io *io, uint64_t lsn, struct err *err)
{
    struct log_walk *walk = NULL;
    int r = log_walk_open(&walk, io, lsn + 1, err);
    if (r < 0) {
        return r;
    }
    int event;
    do { /* bounded by the log, which nobody writes yet */
        struct walk_batch batch;
        struct walk_gap gap;
        event = log_walk_next(walk, &batch, &gap, err);
        bool is_ours = event == WALK_BATCH && (batch.header.flags & BATCH_ORIGIN) != 0 &&
                       batch.header.first_lsn + batch.header.record_count > lsn;
        if (is_ours && take_batch(origins, &batch) < 0) {
            event = err_set(err, ERR_LIMIT, "more nodes or intervals than can be remembered");
        }
    } while (event == WALK_BATCH || event == WALK_GAP);
    log_walk_close(walk);
    return event;
}

static void start(struct origins *origins, struct file_io *io,
                  const struct origins_options *options)
{
    struct err err = {0};
    uint64_t lsn = load(origins, io, options->last_lsn);
    if (options->origin_lsn > lsn) {
        int r = take_log(origins, io, lsn, &err);
        origins->is_blind = r < 0;
        origins->has_news = true;
    }
    if (origins->is_blind) {
        LOG(LOGLINE_ERROR, "origins_unknown",
            "which records of other nodes are stored cannot be told: %s; requests to /v1/replicate "
            "are refused until a start can read the log",
            err.text);
    }
    origins->settled_lsn = options->last_lsn;
    origin_set_copy(&origins->known, &origins->settled);
    origin_set_copy(&origins->known_passed, &origins->settled_passed);
}

static int open_sets(struct origins *origins, struct origin_limits limits, struct err *err)
{
    int r = origin_set_open(&origins->known, limits, err);
    r = r < 0 ? r : origin_set_open(&origins->settled, limits, err);
    r = r < 0 ? r : origin_set_open(&origins->known_passed, limits, err);
    return r < 0 ? r : origin_set_open(&origins->settled_passed, limits, err);
}

int origins_open(struct origins **out, struct file_io *io, const struct origins_options *options,
                 struct err *err)
{
    struct origins *origins = mem_alloc(sizeof *origins);
    origins->node = options->node;
    origins->lineage = options->lineage;
    int r = open_sets(origins, options->limits, err);
    origins->buffer_room = FILE_HEADER_BYTES + 2 * origin_set_bytes_max(options->limits);
    origins->pending = mem_map(pending_bytes());
    origins->buffer = mem_map(origins->buffer_room);
    if (r == 0 && (origins->pending == NULL || origins->buffer == NULL)) {
        r = err_set(err, -ENOMEM, "origins: map room");
    }
    if (r < 0) {
        origins_close(origins);
        return r;
    }
    start(origins, io, options);
    *out = origins;
    return 0;
}

void origins_close(struct origins *origins)
{
    if (origins == NULL) {
        return;
    }
    origin_set_close(&origins->known);
    origin_set_close(&origins->settled);
    origin_set_close(&origins->known_passed);
    origin_set_close(&origins->settled_passed);
    if (origins->pending != NULL) {
        mem_unmap(origins->pending, pending_bytes());
    }
    if (origins->buffer != NULL) {
        mem_unmap(origins->buffer, origins->buffer_room);
    }
    mem_free(origins);
}
