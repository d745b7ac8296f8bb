/*
 * format: encoders and decoders of the bytes described in format.h. Pure: no I/O, no clock, no
 * allocation, no globals. Encoders ASSERT what the program promises; decoders believe nothing and
 * answer ERR_CORRUPT (or ERR_VERSION) with a text.
 *
 * Each offset below appears once, in the tables of format.h, and once here as an enum. The host is
 * little endian (asserted), so that a field is one unaligned load or store, which compilers make of
 * a fixed-size memcpy.
 */
#include "store/format.h"

#include <string.h>

#include "core/crc32c.h"
#include "store/bytes.h"

_Static_assert(BATCH_HEADER_BYTES % RECORD_ALIGN == 0, "the first record of a batch is aligned");
_Static_assert(RECORD_HEADER_BYTES % RECORD_ALIGN == 0, "records without a body are aligned");
_Static_assert(STORE_BLOCK_BYTES % RECORD_ALIGN == 0, "batches begin aligned");
_Static_assert(RECORD_KIND_MAX < 32, "a kind is a bit in batch_header.kinds");

enum segment_offset {
    SEGMENT_MAGIC_AT = 0,
    SEGMENT_VERSION_AT = 8,
    SEGMENT_HEADER_BYTES_AT = 10,
    SEGMENT_BLOCK_BYTES_AT = 12,
    SEGMENT_ID_AT = 16,
    SEGMENT_SALT_AT = 24,
    SEGMENT_NODE_AT = 32,
    SEGMENT_FILE_BYTES_AT = 48,
    SEGMENT_RESERVED_AT = 56,
    SEGMENT_CRC_AT = 60,
};

enum batch_offset {
    BATCH_MAGIC_AT = 0,
    BATCH_VERSION_AT = 8,
    BATCH_HEADER_BYTES_AT = 10,
    BATCH_FLAGS_AT = 12,
    BATCH_SEGMENT_ID_AT = 16,
    BATCH_SALT_AT = 24,
    BATCH_SEQ_AT = 32,
    BATCH_FIRST_LSN_AT = 40,
    BATCH_RECORD_COUNT_AT = 48,
    BATCH_PREVIOUS_CRC_AT = 52,
    BATCH_KINDS_AT = 56,
    BATCH_PAYLOAD_BYTES_AT = 60,
    BATCH_TIME_MIN_AT = 64,
    BATCH_TIME_MAX_AT = 72,
    BATCH_DURABLE_LSN_AT = 80,
    BATCH_BUILT_AT_AT = 88,
    BATCH_KEYED_LSN_AT = 96,
    BATCH_ORIGIN_LSN_AT = 104,
    BATCH_RESERVED_AT = 112,
    BATCH_PAYLOAD_CRC_AT = 120,
    BATCH_CRC_AT = 124,
};

enum record_offset {
    RECORD_BYTES_AT = 0,
    RECORD_KIND_AT = 4,
    RECORD_ENCODING_AT = 5,
    RECORD_SEVERITY_AT = 6,
    RECORD_FLAGS_AT = 7,
    RECORD_EVENT_TIME_AT = 8,
    RECORD_ID_AT = 16,
    RECORD_PAYLOAD_BYTES_AT = 32,
    RECORD_META_BYTES_AT = 36,
    RECORD_RESERVED_AT = 38,
};

/* A receipt's data: body digest 00-15, form 16, zero 17, key bytes 18-19, accepted 20-23, rejected
 * 24-27, errors bytes 28-31, duplicates 32-35, key, errors. */
enum receipt_offset {
    RECEIPT_DIGEST_AT = 0,
    RECEIPT_FORM_AT = 16,
    RECEIPT_ZERO_AT = 17,
    RECEIPT_KEY_BYTES_AT = 18,
    RECEIPT_ACCEPTED_AT = 20,
    RECEIPT_REJECTED_AT = 24,
    RECEIPT_ERRORS_BYTES_AT = 28,
    RECEIPT_DUPLICATES_AT = 32,
};

enum {
    META_ITEM_HEADER_BYTES = 4,
    ORIGIN_WITHOUT_KINDS_BYTES = 40,
    FIRST_FIXED_BYTES = ULID_BYTES + 8,
    META_RUN_FIXED_BYTES = 2,
    META_RUN_COMMAND_MAX = 4,
};

_Static_assert(SEGMENT_CRC_AT + 4 == SEGMENT_HEADER_BYTES, "the checksum ends the segment header");
_Static_assert(BATCH_CRC_AT + 4 == BATCH_HEADER_BYTES, "the checksum ends the batch header");
_Static_assert(RECORD_RESERVED_AT + 2 == RECORD_HEADER_BYTES, "meta follows the record header");
_Static_assert(RECEIPT_DUPLICATES_AT + 4 == RECEIPT_FIXED_BYTES, "the key follows the fixed part");

static const char SEGMENT_MAGIC[8] = {'S', 'L', 'U', 'I', 'C', 'S', 'E', 'G'};
static const char BATCH_MAGIC[8] = {'S', 'L', 'U', 'I', 'C', 'B', 'A', 'T'};

const char *record_kind_name(enum record_kind kind)
{
    static const char *const names[] = {
        [RECORD_LOG] = "log", [RECORD_METRIC] = "metric", [RECORD_EVENT] = "event",
        [RECORD_RUN] = "run", [RECORD_GPU] = "gpu",
    };
    return (size_t)kind < ARRAY_COUNT(names) ? names[kind] : NULL;
}

/* What every header has in common: magic at 0, version at 8, its own size at 10, its CRC in the
 * last four bytes. A newer version is only believed when the checksum holds: else it is damage that
 * happens to look like one. */
struct header_shape {
    const char *name;
    const char *magic;
    size_t bytes;
};

static int header_check(const uint8_t *from, const struct header_shape *shape, struct err *err)
{
    if (memcmp(from, shape->magic, 8) != 0) {
        return err_set(err, ERR_CORRUPT, "%s: wrong magic", shape->name);
    }
    uint32_t crc_stored = get_u32(from + shape->bytes - 4);
    bool is_crc_good = crc32c(0, from, shape->bytes - 4) == crc_stored;
    uint16_t version = get_u16(from + 8);
    if (version > FORMAT_VERSION && is_crc_good) {
        return err_set(err, ERR_VERSION, "%s: version %u, this Sluice knows %u", shape->name,
                       (unsigned)version, FORMAT_VERSION);
    }
    if (version != FORMAT_VERSION) {
        return err_set(err, ERR_CORRUPT, "%s: version %u is unknown", shape->name,
                       (unsigned)version);
    }
    if (get_u16(from + 10) != shape->bytes) {
        return err_set(err, ERR_CORRUPT, "%s: header_bytes is %u", shape->name,
                       (unsigned)get_u16(from + 10));
    }
    if (!is_crc_good) {
        return err_set(err, ERR_CORRUPT, "%s: header checksum does not match", shape->name);
    }
    return 0;
}

void segment_header_encode(uint8_t *block, const struct segment_header *header)
{
    ASSERT(header->segment_id != 0);
    ASSERT(header->file_bytes % STORE_BLOCK_BYTES == 0);
    memset(block, 0, STORE_BLOCK_BYTES);
    memcpy(block + SEGMENT_MAGIC_AT, SEGMENT_MAGIC, sizeof SEGMENT_MAGIC);
    put_u16(block + SEGMENT_VERSION_AT, FORMAT_VERSION);
    put_u16(block + SEGMENT_HEADER_BYTES_AT, SEGMENT_HEADER_BYTES);
    put_u32(block + SEGMENT_BLOCK_BYTES_AT, STORE_BLOCK_BYTES);
    put_u64(block + SEGMENT_ID_AT, header->segment_id);
    put_u64(block + SEGMENT_SALT_AT, header->salt);
    memcpy(block + SEGMENT_NODE_AT, header->node.bytes, ULID_BYTES);
    put_u64(block + SEGMENT_FILE_BYTES_AT, header->file_bytes);
    put_u32(block + SEGMENT_CRC_AT, crc32c(0, block, SEGMENT_CRC_AT));
}

int segment_header_decode(struct segment_header *header, const uint8_t *block, struct err *err)
{
    static const struct header_shape shape = {"segment header", SEGMENT_MAGIC,
                                              SEGMENT_HEADER_BYTES};
    int result = header_check(block, &shape, err);
    if (result < 0) {
        return result;
    }
    if (get_u32(block + SEGMENT_RESERVED_AT) != 0 ||
        !bytes_are_zero(block + SEGMENT_HEADER_BYTES, STORE_BLOCK_BYTES - SEGMENT_HEADER_BYTES)) {
        return err_set(err, ERR_CORRUPT, "segment header: reserved bytes are not zero");
    }
    if (get_u32(block + SEGMENT_BLOCK_BYTES_AT) != STORE_BLOCK_BYTES) {
        return err_set(err, ERR_CORRUPT, "segment header: block_bytes is %u",
                       get_u32(block + SEGMENT_BLOCK_BYTES_AT));
    }
    struct segment_header found = {
        .segment_id = get_u64(block + SEGMENT_ID_AT),
        .salt = get_u64(block + SEGMENT_SALT_AT),
        .file_bytes = get_u64(block + SEGMENT_FILE_BYTES_AT),
    };
    memcpy(found.node.bytes, block + SEGMENT_NODE_AT, ULID_BYTES);
    if (found.segment_id == 0 || found.file_bytes % STORE_BLOCK_BYTES != 0) {
        return err_set(err, ERR_CORRUPT, "segment header: segment_id or file_bytes is impossible");
    }
    *header = found;
    return 0;
}

void batch_header_encode(uint8_t *to, struct batch_header *header)
{
    ASSERT(header->batch_seq != 0);
    ASSERT(header->first_lsn != 0);
    ASSERT((header->record_count == 0) == ((header->flags & BATCH_MARK) != 0));
    ASSERT((header->record_count == 0) == (header->payload_bytes == 0));
    ASSERT(header->durable_lsn < header->first_lsn);
    memcpy(to + BATCH_MAGIC_AT, BATCH_MAGIC, sizeof BATCH_MAGIC);
    put_u16(to + BATCH_VERSION_AT, FORMAT_VERSION);
    put_u16(to + BATCH_HEADER_BYTES_AT, BATCH_HEADER_BYTES);
    put_u32(to + BATCH_FLAGS_AT, header->flags);
    put_u64(to + BATCH_SEGMENT_ID_AT, header->segment_id);
    put_u64(to + BATCH_SALT_AT, header->salt);
    put_u64(to + BATCH_SEQ_AT, header->batch_seq);
    put_u64(to + BATCH_FIRST_LSN_AT, header->first_lsn);
    put_u32(to + BATCH_RECORD_COUNT_AT, header->record_count);
    put_u32(to + BATCH_PREVIOUS_CRC_AT, header->previous_crc);
    put_u32(to + BATCH_KINDS_AT, header->kinds);
    put_u32(to + BATCH_PAYLOAD_BYTES_AT, header->payload_bytes);
    put_i64(to + BATCH_TIME_MIN_AT, header->time_min_ns);
    put_i64(to + BATCH_TIME_MAX_AT, header->time_max_ns);
    put_u64(to + BATCH_DURABLE_LSN_AT, header->durable_lsn);
    put_i64(to + BATCH_BUILT_AT_AT, header->built_at_ns);
    put_u64(to + BATCH_KEYED_LSN_AT, header->keyed_lsn);
    put_u64(to + BATCH_ORIGIN_LSN_AT, header->origin_lsn);
    memset(to + BATCH_RESERVED_AT, 0, BATCH_PAYLOAD_CRC_AT - BATCH_RESERVED_AT);
    put_u32(to + BATCH_PAYLOAD_CRC_AT, header->payload_crc);
    header->header_crc = crc32c(0, to, BATCH_CRC_AT);
    put_u32(to + BATCH_CRC_AT, header->header_crc);
}

/* What no writer ever writes although the checksum holds. Later arithmetic relies on it: LSNs do
 * not wrap, a batch with records has room for their headers. */
static int batch_header_check(const struct batch_header *header, struct err *err)
{
    if ((header->flags & ~(uint32_t)(BATCH_MARK | BATCH_KEYED | BATCH_ORIGIN)) != 0) {
        return err_set(err, ERR_CORRUPT, "batch header: unknown flags 0x%x", header->flags);
    }
    bool is_mark = (header->flags & BATCH_MARK) != 0;
    if (is_mark != (header->record_count == 0) || is_mark != (header->payload_bytes == 0)) {
        return err_set(err, ERR_CORRUPT, "batch header: %u records in %u bytes, flags 0x%x",
                       header->record_count, header->payload_bytes, header->flags);
    }
    if (header->payload_bytes % RECORD_ALIGN != 0 ||
        (uint64_t)header->record_count * RECORD_HEADER_BYTES > header->payload_bytes) {
        return err_set(err, ERR_CORRUPT, "batch header: %u records do not fit %u bytes",
                       header->record_count, header->payload_bytes);
    }
    if (header->batch_seq == 0 || header->first_lsn == 0 ||
        header->first_lsn > UINT64_MAX - header->record_count ||
        header->durable_lsn >= header->first_lsn) {
        return err_set(err, ERR_CORRUPT, "batch header: sequence numbers are impossible");
    }
    return 0;
}

int batch_header_decode(struct batch_header *header, const uint8_t *from, struct err *err)
{
    static const struct header_shape shape = {"batch header", BATCH_MAGIC, BATCH_HEADER_BYTES};
    int result = header_check(from, &shape, err);
    if (result < 0) {
        return result;
    }
    if (!bytes_are_zero(from + BATCH_RESERVED_AT, BATCH_PAYLOAD_CRC_AT - BATCH_RESERVED_AT)) {
        return err_set(err, ERR_CORRUPT, "batch header: reserved bytes are not zero");
    }
    struct batch_header found = {
        .flags = get_u32(from + BATCH_FLAGS_AT),
        .segment_id = get_u64(from + BATCH_SEGMENT_ID_AT),
        .salt = get_u64(from + BATCH_SALT_AT),
        .batch_seq = get_u64(from + BATCH_SEQ_AT),
        .first_lsn = get_u64(from + BATCH_FIRST_LSN_AT),
        .record_count = get_u32(from + BATCH_RECORD_COUNT_AT),
        .previous_crc = get_u32(from + BATCH_PREVIOUS_CRC_AT),
        .kinds = get_u32(from + BATCH_KINDS_AT),
        .payload_bytes = get_u32(from + BATCH_PAYLOAD_BYTES_AT),
        .time_min_ns = get_i64(from + BATCH_TIME_MIN_AT),
        .time_max_ns = get_i64(from + BATCH_TIME_MAX_AT),
        .durable_lsn = get_u64(from + BATCH_DURABLE_LSN_AT),
        .built_at_ns = get_i64(from + BATCH_BUILT_AT_AT),
        .keyed_lsn = get_u64(from + BATCH_KEYED_LSN_AT),
        .origin_lsn = get_u64(from + BATCH_ORIGIN_LSN_AT),
        .payload_crc = get_u32(from + BATCH_PAYLOAD_CRC_AT),
        .header_crc = get_u32(from + BATCH_CRC_AT),
    };
    result = batch_header_check(&found, err);
    if (result < 0) {
        return result;
    }
    *header = found;
    return 0;
}

uint64_t batch_file_bytes(uint64_t payload_bytes)
{
    return align_up(BATCH_HEADER_BYTES + payload_bytes, STORE_BLOCK_BYTES);
}

uint64_t record_padded_bytes(uint64_t meta_bytes, uint64_t payload_bytes)
{
    return align_up(RECORD_HEADER_BYTES + meta_bytes + payload_bytes, RECORD_ALIGN);
}

size_t record_encode(uint8_t *to, const struct record *record)
{
    size_t meta_bytes = record->meta.bytes;
    size_t payload_bytes = record->payload.bytes;
    ASSERT(record->kind >= 1 && record->kind <= RECORD_KIND_MAX);
    ASSERT(meta_bytes <= RECORD_META_BYTES_MAX);
    ASSERT(payload_bytes <=
           UINT32_MAX - RECORD_HEADER_BYTES - RECORD_META_BYTES_MAX - RECORD_ALIGN);
    size_t bytes = RECORD_HEADER_BYTES + meta_bytes + payload_bytes;
    size_t padded_bytes = (size_t)align_up(bytes, RECORD_ALIGN);

    /* The last word first, so that the padding is zero with one store and the payload then covers
     * its part of it. A record without a body ends in its own header, which is written below. */
    put_u64(to + padded_bytes - RECORD_ALIGN, 0);
    put_u32(to + RECORD_BYTES_AT, (uint32_t)bytes);
    to[RECORD_KIND_AT] = (uint8_t)record->kind;
    to[RECORD_ENCODING_AT] = record->encoding;
    to[RECORD_SEVERITY_AT] = record->severity;
    to[RECORD_FLAGS_AT] = meta_bytes != 0 ? RECORD_HAS_META : 0;
    put_i64(to + RECORD_EVENT_TIME_AT, record->event_time_ns);
    memcpy(to + RECORD_ID_AT, record->id.bytes, ULID_BYTES);
    put_u32(to + RECORD_PAYLOAD_BYTES_AT, (uint32_t)payload_bytes);
    put_u16(to + RECORD_META_BYTES_AT, (uint16_t)meta_bytes);
    put_u16(to + RECORD_RESERVED_AT, 0);
    if (meta_bytes != 0) {
        memcpy(to + RECORD_HEADER_BYTES, record->meta.data, meta_bytes);
    }
    if (payload_bytes != 0) {
        memcpy(to + RECORD_HEADER_BYTES + meta_bytes, record->payload.data, payload_bytes);
    }
    return padded_bytes;
}

int64_t record_decode(struct record *record, struct slice from, struct err *err)
{
    if (from.bytes < RECORD_HEADER_BYTES) {
        return err_set(err, ERR_CORRUPT, "record: %zu bytes left, a header needs %u", from.bytes,
                       RECORD_HEADER_BYTES);
    }
    const uint8_t *at = from.data;
    uint64_t bytes = get_u32(at + RECORD_BYTES_AT);
    uint64_t meta_bytes = get_u16(at + RECORD_META_BYTES_AT);
    uint64_t payload_bytes = get_u32(at + RECORD_PAYLOAD_BYTES_AT);
    uint64_t padded_bytes = record_padded_bytes(meta_bytes, payload_bytes);
    if (bytes != RECORD_HEADER_BYTES + meta_bytes + payload_bytes || padded_bytes > from.bytes) {
        return err_set(err, ERR_CORRUPT, "record: lengths do not fit");
    }
    uint8_t kind = at[RECORD_KIND_AT];
    if (kind == 0 || kind > RECORD_KIND_MAX) {
        return err_set(err, ERR_CORRUPT, "record: kind %u", (unsigned)kind);
    }
    if (at[RECORD_FLAGS_AT] != (meta_bytes != 0 ? RECORD_HAS_META : 0)) {
        return err_set(err, ERR_CORRUPT, "record: flags 0x%x with %u bytes of meta",
                       (unsigned)at[RECORD_FLAGS_AT], (unsigned)meta_bytes);
    }
    if (get_u16(at + RECORD_RESERVED_AT) != 0 ||
        !bytes_are_zero(at + bytes, (size_t)(padded_bytes - bytes))) {
        return err_set(err, ERR_CORRUPT, "record: reserved bytes or padding are not zero");
    }
    *record = (struct record){
        .kind = (enum record_kind)kind,
        .encoding = at[RECORD_ENCODING_AT],
        .severity = at[RECORD_SEVERITY_AT],
        .event_time_ns = get_i64(at + RECORD_EVENT_TIME_AT),
        .meta = {at + RECORD_HEADER_BYTES, (size_t)meta_bytes},
        .payload = {at + RECORD_HEADER_BYTES + meta_bytes, (size_t)payload_bytes},
    };
    memcpy(record->id.bytes, at + RECORD_ID_AT, ULID_BYTES);
    return (int64_t)padded_bytes;
}

static void meta_item_header(uint8_t *to, enum record_meta_type type, size_t bytes)
{
    ASSERT(bytes <= RECORD_META_BYTES_MAX - META_ITEM_HEADER_BYTES);
    to[0] = (uint8_t)type;
    to[1] = 0;
    put_u16(to + 2, (uint16_t)bytes);
}

size_t meta_receipt_bytes(const struct receipt *receipt)
{
    return META_ITEM_HEADER_BYTES + RECEIPT_FIXED_BYTES + receipt->key.bytes +
           receipt->errors.bytes;
}

size_t meta_receipt_encode(uint8_t *to, const struct receipt *receipt)
{
    ASSERT(receipt->key.bytes != 0);
    size_t item_bytes = meta_receipt_bytes(receipt);
    meta_item_header(to, META_RECEIPT, item_bytes - META_ITEM_HEADER_BYTES);
    uint8_t *data = to + META_ITEM_HEADER_BYTES;
    memcpy(data + RECEIPT_DIGEST_AT, receipt->body_digest, sizeof receipt->body_digest);
    data[RECEIPT_FORM_AT] = receipt->form;
    data[RECEIPT_ZERO_AT] = 0;
    put_u16(data + RECEIPT_KEY_BYTES_AT, (uint16_t)receipt->key.bytes);
    put_u32(data + RECEIPT_ACCEPTED_AT, receipt->accepted);
    put_u32(data + RECEIPT_REJECTED_AT, receipt->rejected);
    put_u32(data + RECEIPT_ERRORS_BYTES_AT, (uint32_t)receipt->errors.bytes);
    put_u32(data + RECEIPT_DUPLICATES_AT, receipt->duplicates);
    memcpy(data + RECEIPT_FIXED_BYTES, receipt->key.data, receipt->key.bytes);
    if (receipt->errors.bytes != 0) {
        memcpy(data + RECEIPT_FIXED_BYTES + receipt->key.bytes, receipt->errors.data,
               receipt->errors.bytes);
    }
    return item_bytes;
}

size_t meta_dedup_key_bytes(struct slice key)
{
    return META_ITEM_HEADER_BYTES + key.bytes;
}

size_t meta_dedup_key_encode(uint8_t *to, struct slice key)
{
    ASSERT(key.bytes != 0);
    meta_item_header(to, META_DEDUP_KEY, key.bytes);
    memcpy(to + META_ITEM_HEADER_BYTES, key.data, key.bytes);
    return META_ITEM_HEADER_BYTES + key.bytes;
}

/* Walks the items up to the first of the type. Unknown types are stepped over: a later version may
 * add some. Each step takes at least the item's header, so the walk is bounded by meta.bytes /
 * META_ITEM_HEADER_BYTES. */
static int meta_find(struct slice *data, enum record_meta_type type, struct slice meta)
{
    size_t at = 0;
    while (at < meta.bytes) {
        if (meta.bytes - at < META_ITEM_HEADER_BYTES) {
            return ERR_CORRUPT;
        }
        const uint8_t *item = meta.data + at;
        size_t bytes = get_u16(item + 2);
        if (item[0] == 0 || item[1] != 0 || bytes > meta.bytes - at - META_ITEM_HEADER_BYTES) {
            return ERR_CORRUPT;
        }
        if (item[0] == (uint8_t)type) {
            *data = (struct slice){item + META_ITEM_HEADER_BYTES, bytes};
            return 1;
        }
        at += META_ITEM_HEADER_BYTES + bytes;
    }
    return 0;
}

int meta_find_receipt(struct receipt *receipt, struct slice meta)
{
    struct slice data;
    int result = meta_find(&data, META_RECEIPT, meta);
    if (result <= 0) {
        return result;
    }
    if (data.bytes < RECEIPT_FIXED_BYTES || data.data[RECEIPT_ZERO_AT] != 0) {
        return ERR_CORRUPT;
    }
    size_t key_bytes = get_u16(data.data + RECEIPT_KEY_BYTES_AT);
    size_t errors_bytes = get_u32(data.data + RECEIPT_ERRORS_BYTES_AT);
    if (key_bytes == 0 || RECEIPT_FIXED_BYTES + key_bytes + errors_bytes != data.bytes) {
        return ERR_CORRUPT;
    }
    const uint8_t *key = data.data + RECEIPT_FIXED_BYTES;
    *receipt = (struct receipt){
        .key = {key, key_bytes},
        .form = data.data[RECEIPT_FORM_AT],
        .accepted = get_u32(data.data + RECEIPT_ACCEPTED_AT),
        .rejected = get_u32(data.data + RECEIPT_REJECTED_AT),
        .duplicates = get_u32(data.data + RECEIPT_DUPLICATES_AT),
        .errors = {key + key_bytes, errors_bytes},
    };
    memcpy(receipt->body_digest, data.data + RECEIPT_DIGEST_AT, sizeof receipt->body_digest);
    return 1;
}

int meta_find_dedup_key(struct slice *key, struct slice meta)
{
    struct slice data;
    int result = meta_find(&data, META_DEDUP_KEY, meta);
    if (result <= 0) {
        return result;
    }
    if (data.bytes == 0) {
        return ERR_CORRUPT;
    }
    *key = data;
    return 1;
}

size_t meta_origin_encode(uint8_t *to, const struct origin *origin)
{
    ASSERT(origin->lsn != 0);
    meta_item_header(to, META_ORIGIN, META_ORIGIN_BYTES - META_ITEM_HEADER_BYTES);
    uint8_t *at = to + META_ITEM_HEADER_BYTES;
    memcpy(at, origin->node.bytes, sizeof origin->node.bytes);
    put_u64(at + 16, origin->lsn);
    put_u64(at + 24, origin->range_first);
    put_u64(at + 32, origin->range_last);
    put_u32(at + 40, origin->range_kinds);
    return META_ORIGIN_BYTES;
}

int meta_find_origin(struct origin *origin, struct slice meta)
{
    struct slice data;
    int result = meta_find(&data, META_ORIGIN, meta);
    if (result <= 0) {
        return result;
    }
    bool has_kinds = data.bytes == META_ORIGIN_BYTES - META_ITEM_HEADER_BYTES;
    if (!has_kinds && data.bytes != ORIGIN_WITHOUT_KINDS_BYTES) {
        return ERR_CORRUPT;
    }
    memcpy(origin->node.bytes, data.data, sizeof origin->node.bytes);
    origin->lsn = get_u64(data.data + 16);
    origin->range_first = get_u64(data.data + 24);
    origin->range_last = get_u64(data.data + 32);
    bool has_range = origin->range_first != 0;
    bool is_inside = origin->range_first <= origin->lsn && origin->lsn <= origin->range_last;
    bool is_good = has_range ? is_inside : origin->range_last == 0;
    uint32_t kinds_then = has_range ? UINT32_MAX : 0;
    origin->range_kinds = has_kinds ? get_u32(data.data + 40) : kinds_then;
    return origin->lsn != 0 && is_good && has_range == (origin->range_kinds != 0) ? 1 : ERR_CORRUPT;
}

size_t meta_first_bytes(const struct first_origin *first)
{
    return META_ITEM_HEADER_BYTES + FIRST_FIXED_BYTES + (size_t)first->via_count * ULID_BYTES;
}

size_t meta_first_encode(uint8_t *to, const struct first_origin *first)
{
    ASSERT(first->lsn != 0);
    ASSERT(first->via_count <= FIRST_VIA_MAX);
    size_t bytes = meta_first_bytes(first);
    meta_item_header(to, META_FIRST, bytes - META_ITEM_HEADER_BYTES);
    uint8_t *at = to + META_ITEM_HEADER_BYTES;
    memcpy(at, first->node.bytes, ULID_BYTES);
    put_u64(at + ULID_BYTES, first->lsn);
    memcpy(at + FIRST_FIXED_BYTES, first->via, (size_t)first->via_count * ULID_BYTES);
    return bytes;
}

int meta_find_first(struct first_origin *first, struct slice meta)
{
    struct slice data;
    int result = meta_find(&data, META_FIRST, meta);
    if (result <= 0) {
        return result;
    }
    size_t via = data.bytes - FIRST_FIXED_BYTES;
    if (data.bytes < FIRST_FIXED_BYTES || via % ULID_BYTES != 0 ||
        via / ULID_BYTES > FIRST_VIA_MAX) {
        return ERR_CORRUPT;
    }
    memcpy(first->node.bytes, data.data, ULID_BYTES);
    first->lsn = get_u64(data.data + ULID_BYTES);
    first->via_count = (unsigned)(via / ULID_BYTES);
    memcpy(first->via, data.data + FIRST_FIXED_BYTES, via);
    return first->lsn != 0 ? 1 : ERR_CORRUPT;
}

size_t meta_watermark_bytes(const struct watermark *watermark)
{
    return META_ITEM_HEADER_BYTES + 2 + watermark->source.bytes + watermark->mark.bytes;
}

size_t meta_watermark_encode(uint8_t *to, const struct watermark *watermark)
{
    ASSERT(watermark->source.bytes != 0 && watermark->source.bytes <= WATERMARK_SOURCE_MAX);
    ASSERT(watermark->mark.bytes <= WATERMARK_MARK_MAX);
    size_t item_bytes = meta_watermark_bytes(watermark);
    meta_item_header(to, META_WATERMARK, item_bytes - META_ITEM_HEADER_BYTES);
    uint8_t *at = to + META_ITEM_HEADER_BYTES;
    at[0] = (uint8_t)watermark->source.bytes;
    at[1] = 0;
    memcpy(at + 2, watermark->source.data, watermark->source.bytes);
    if (watermark->mark.bytes != 0) {
        memcpy(at + 2 + watermark->source.bytes, watermark->mark.data, watermark->mark.bytes);
    }
    return item_bytes;
}

int meta_find_watermark(struct watermark *watermark, struct slice meta)
{
    struct slice data;
    int result = meta_find(&data, META_WATERMARK, meta);
    if (result <= 0) {
        return result;
    }
    if (data.bytes < 2 || data.data[0] == 0 || data.data[0] > WATERMARK_SOURCE_MAX ||
        data.data[1] != 0 || data.data[0] > data.bytes - 2 ||
        data.bytes - 2 - data.data[0] > WATERMARK_MARK_MAX) {
        return ERR_CORRUPT;
    }
    size_t source_bytes = data.data[0];
    watermark->source = (struct slice){data.data + 2, source_bytes};
    watermark->mark = (struct slice){data.data + 2 + source_bytes, data.bytes - 2 - source_bytes};
    return 1;
}

size_t meta_run_bytes(struct slice event_id)
{
    return META_ITEM_HEADER_BYTES + META_RUN_FIXED_BYTES + event_id.bytes;
}

size_t meta_run_encode(uint8_t *to, uint8_t command, struct slice event_id)
{
    ASSERT(command >= 1 && command <= META_RUN_COMMAND_MAX);
    ASSERT(event_id.bytes <= META_RUN_EVENT_ID_MAX);
    meta_item_header(to, META_RUN, META_RUN_FIXED_BYTES + event_id.bytes);
    uint8_t *at = to + META_ITEM_HEADER_BYTES;
    at[0] = command;
    at[1] = 0;
    if (event_id.bytes != 0) {
        memcpy(at + META_RUN_FIXED_BYTES, event_id.data, event_id.bytes);
    }
    return META_ITEM_HEADER_BYTES + META_RUN_FIXED_BYTES + event_id.bytes;
}

int meta_find_run(uint8_t *command, struct slice *event_id, struct slice meta)
{
    struct slice data;
    int result = meta_find(&data, META_RUN, meta);
    if (result <= 0) {
        return result;
    }
    if (data.bytes < META_RUN_FIXED_BYTES || data.data[0] == 0 ||
        data.data[0] > META_RUN_COMMAND_MAX || data.data[1] != 0 ||
        data.bytes - META_RUN_FIXED_BYTES > META_RUN_EVENT_ID_MAX) {
        return ERR_CORRUPT;
    }
    *command = data.data[0];
    *event_id = (struct slice){data.data + META_RUN_FIXED_BYTES, data.bytes - META_RUN_FIXED_BYTES};
    return 1;
}
