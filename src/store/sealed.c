/*
 * sealed: the footer, the compacted file's header and its names; see sealed.h. Pure. Encoders
 * ASSERT what the program promises; decoders believe nothing. Each offset stands once in the table
 * of sealed.h and once here.
 */
#include "store/sealed.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/crc32c.h"
#include "store/segment.h"
#include "store/bytes.h"

enum footer_offset {
    FOOTER_MAGIC_AT = 0,
    FOOTER_VERSION_AT = 8,
    FOOTER_BYTES_AT = 10,
    FOOTER_FORM_AT = 12,
    FOOTER_SEGMENT_ID_AT = 16,
    FOOTER_SALT_AT = 24,
    FOOTER_NODE_AT = 32,
    FOOTER_FIRST_LSN_AT = 48,
    FOOTER_LAST_LSN_AT = 56,
    FOOTER_FIRST_SEQ_AT = 64,
    FOOTER_LAST_SEQ_AT = 72,
    FOOTER_FIRST_PREVIOUS_CRC_AT = 80,
    FOOTER_LAST_CRC_AT = 84,
    FOOTER_KEYED_LSN_AT = 88,
    FOOTER_DURABLE_LSN_AT = 96,
    FOOTER_RECORD_COUNT_AT = 104,
    FOOTER_RAW_BYTES_AT = 112,
    FOOTER_PAYLOAD_BYTES_AT = 120,
    FOOTER_KINDS_AT = 128,
    FOOTER_SEVERITIES_AT = 132,
    FOOTER_TIME_MIN_AT = 136,
    FOOTER_TIME_MAX_AT = 144,
    FOOTER_BUILT_MIN_AT = 152,
    FOOTER_BUILT_MAX_AT = 160,
    FOOTER_INDEX_OFFSET_AT = 168,
    FOOTER_INDEX_BYTES_AT = 176,
    FOOTER_ENTRY_COUNT_AT = 184,
    FOOTER_INDEX_CRC_AT = 188,
    FOOTER_DIGEST_AT = 192,
    FOOTER_FLAGS_AT = 208,
    FOOTER_ORIGIN_LSN_AT = 212,
    FOOTER_RESERVED_AT = 220,
    FOOTER_CRC_AT = 252,
};

/* Of the segment header, as format.h has it: where its magic and its checksum lie. */
enum header_offset {
    HEADER_MAGIC_AT = 0,
    HEADER_CRC_AT = 60,
};

_Static_assert(FOOTER_CRC_AT + 4 == SEALED_FOOTER_BYTES, "the checksum ends the footer");
_Static_assert(FOOTER_DIGEST_AT + sizeof((struct segment_footer *)0)->content_digest ==
                   FOOTER_FLAGS_AT,
               "the digest fits its place");
_Static_assert(HEADER_CRC_AT + 4 == SEGMENT_HEADER_BYTES, "the checksum ends the segment header");

static const char FOOTER_MAGIC[8] = {'S', 'L', 'U', 'I', 'C', 'E', 'N', 'D'};
static const char COMPACTED_MAGIC[8] = {'S', 'L', 'U', 'I', 'C', 'C', 'M', 'P'};
static const char SEGMENT_MAGIC[8] = {'S', 'L', 'U', 'I', 'C', 'S', 'E', 'G'};

/* ---- footer ---- */

/* No file is that large (off_t), and sums of two such places do not wrap. */
#define PLACE_MAX ((uint64_t)INT64_MAX / 2)

/* What a footer may say by itself, or why not. Later arithmetic relies on it. */
static const char *footer_fault(const struct segment_footer *footer)
{
    if (footer->form != SEGMENT_FORM_RAW && footer->form != SEGMENT_FORM_COMPACTED) {
        return "unknown form";
    }
    if ((footer->flags & ~(uint32_t)SEALED_DAMAGED) != 0) {
        return "unknown flags";
    }
    bool is_damaged = (footer->flags & SEALED_DAMAGED) != 0;
    if (is_damaged && footer->form == SEGMENT_FORM_COMPACTED) {
        return "a damaged segment is never compacted";
    }
    if (footer->segment_id == 0 || footer->first_lsn == 0 ||
        footer->last_lsn < footer->first_lsn - 1 || footer->last_lsn == UINT64_MAX) {
        return "segment_id or LSNs are impossible";
    }
    /* A gap has LSNs but no records. */
    uint64_t lsn_count = footer->last_lsn - footer->first_lsn + 1;
    if (footer->record_count > lsn_count || (footer->record_count != lsn_count && !is_damaged)) {
        return "record_count and LSNs do not agree";
    }
    if ((footer->first_seq == 0) != (footer->last_seq == 0) ||
        footer->last_seq < footer->first_seq ||
        (footer->first_seq == 0) != (footer->entry_count == 0)) {
        return "batch sequence or entry_count is impossible";
    }
    if (footer->first_seq == 0 && (footer->record_count != 0 || footer->raw_bytes != 0)) {
        return "records without a batch";
    }
    if (footer->payload_bytes > footer->raw_bytes ||
        footer->raw_bytes / RECORD_HEADER_BYTES < footer->record_count) {
        return "the records do not fit raw_bytes";
    }
    if (footer->index_offset % STORE_BLOCK_BYTES != 0 || footer->index_offset < STORE_BLOCK_BYTES ||
        footer->index_offset > PLACE_MAX || footer->index_bytes > PLACE_MAX ||
        (uint64_t)footer->entry_count * INDEX_ENTRY_BYTES > footer->index_bytes) {
        return "the index's place is impossible";
    }
    return NULL;
}

void segment_footer_encode(uint8_t *block, const struct segment_footer *footer)
{
    ASSERT(footer_fault(footer) == NULL);
    memset(block, 0, STORE_BLOCK_BYTES);
    memcpy(block + FOOTER_MAGIC_AT, FOOTER_MAGIC, sizeof FOOTER_MAGIC);
    put_u16(block + FOOTER_VERSION_AT, SEALED_VERSION);
    put_u16(block + FOOTER_BYTES_AT, SEALED_FOOTER_BYTES);
    put_u32(block + FOOTER_FORM_AT, (uint32_t)footer->form);
    put_u64(block + FOOTER_SEGMENT_ID_AT, footer->segment_id);
    put_u64(block + FOOTER_SALT_AT, footer->salt);
    memcpy(block + FOOTER_NODE_AT, footer->node.bytes, ULID_BYTES);
    put_u64(block + FOOTER_FIRST_LSN_AT, footer->first_lsn);
    put_u64(block + FOOTER_LAST_LSN_AT, footer->last_lsn);
    put_u64(block + FOOTER_FIRST_SEQ_AT, footer->first_seq);
    put_u64(block + FOOTER_LAST_SEQ_AT, footer->last_seq);
    put_u32(block + FOOTER_FIRST_PREVIOUS_CRC_AT, footer->first_previous_crc);
    put_u32(block + FOOTER_LAST_CRC_AT, footer->last_crc);
    put_u64(block + FOOTER_KEYED_LSN_AT, footer->keyed_lsn);
    put_u64(block + FOOTER_ORIGIN_LSN_AT, footer->origin_lsn);
    put_u64(block + FOOTER_DURABLE_LSN_AT, footer->durable_lsn);
    put_u64(block + FOOTER_RECORD_COUNT_AT, footer->record_count);
    put_u64(block + FOOTER_RAW_BYTES_AT, footer->raw_bytes);
    put_u64(block + FOOTER_PAYLOAD_BYTES_AT, footer->payload_bytes);
    put_u32(block + FOOTER_KINDS_AT, footer->kinds);
    put_u32(block + FOOTER_SEVERITIES_AT, footer->severities);
    put_u64(block + FOOTER_TIME_MIN_AT, (uint64_t)footer->time_min_ns);
    put_u64(block + FOOTER_TIME_MAX_AT, (uint64_t)footer->time_max_ns);
    put_u64(block + FOOTER_BUILT_MIN_AT, (uint64_t)footer->built_min_ns);
    put_u64(block + FOOTER_BUILT_MAX_AT, (uint64_t)footer->built_max_ns);
    put_u64(block + FOOTER_INDEX_OFFSET_AT, footer->index_offset);
    put_u64(block + FOOTER_INDEX_BYTES_AT, footer->index_bytes);
    put_u32(block + FOOTER_ENTRY_COUNT_AT, footer->entry_count);
    put_u32(block + FOOTER_INDEX_CRC_AT, footer->index_crc);
    memcpy(block + FOOTER_DIGEST_AT, footer->content_digest, sizeof footer->content_digest);
    put_u32(block + FOOTER_FLAGS_AT, footer->flags);
    put_u32(block + FOOTER_CRC_AT, crc32c(0, block, FOOTER_CRC_AT));
}

/* Magic, version, size, reserved bytes, checksum. A newer version is only believed when the
 * checksum holds: else it is damage that happens to look like one. */
static int footer_frame_check(const uint8_t *block, struct err *err)
{
    if (memcmp(block + FOOTER_MAGIC_AT, FOOTER_MAGIC, sizeof FOOTER_MAGIC) != 0) {
        return err_set(err, ERR_CORRUPT, "footer: wrong magic");
    }
    bool is_crc_good = crc32c(0, block, FOOTER_CRC_AT) == get_u32(block + FOOTER_CRC_AT);
    uint16_t version = get_u16(block + FOOTER_VERSION_AT);
    if (version > SEALED_VERSION && is_crc_good) {
        return err_set(err, ERR_VERSION, "footer: version %u, this Sluice knows %u",
                       (unsigned)version, SEALED_VERSION);
    }
    if (version != SEALED_VERSION) {
        return err_set(err, ERR_CORRUPT, "footer: version %u is unknown", (unsigned)version);
    }
    if (get_u16(block + FOOTER_BYTES_AT) != SEALED_FOOTER_BYTES) {
        return err_set(err, ERR_CORRUPT, "footer: footer_bytes is %u",
                       (unsigned)get_u16(block + FOOTER_BYTES_AT));
    }
    if (!bytes_are_zero(block + FOOTER_RESERVED_AT, FOOTER_CRC_AT - FOOTER_RESERVED_AT) ||
        !bytes_are_zero(block + SEALED_FOOTER_BYTES, STORE_BLOCK_BYTES - SEALED_FOOTER_BYTES)) {
        return err_set(err, ERR_CORRUPT, "footer: reserved bytes are not zero");
    }
    if (!is_crc_good) {
        return err_set(err, ERR_CORRUPT, "footer: checksum does not match");
    }
    return 0;
}

int segment_footer_decode(struct segment_footer *footer, const uint8_t *block, struct err *err)
{
    int result = footer_frame_check(block, err);
    if (result < 0) {
        return result;
    }
    struct segment_footer found = {
        .form = (enum segment_form)get_u32(block + FOOTER_FORM_AT),
        .segment_id = get_u64(block + FOOTER_SEGMENT_ID_AT),
        .salt = get_u64(block + FOOTER_SALT_AT),
        .first_lsn = get_u64(block + FOOTER_FIRST_LSN_AT),
        .last_lsn = get_u64(block + FOOTER_LAST_LSN_AT),
        .first_seq = get_u64(block + FOOTER_FIRST_SEQ_AT),
        .last_seq = get_u64(block + FOOTER_LAST_SEQ_AT),
        .first_previous_crc = get_u32(block + FOOTER_FIRST_PREVIOUS_CRC_AT),
        .last_crc = get_u32(block + FOOTER_LAST_CRC_AT),
        .keyed_lsn = get_u64(block + FOOTER_KEYED_LSN_AT),
        .origin_lsn = get_u64(block + FOOTER_ORIGIN_LSN_AT),
        .durable_lsn = get_u64(block + FOOTER_DURABLE_LSN_AT),
        .record_count = get_u64(block + FOOTER_RECORD_COUNT_AT),
        .raw_bytes = get_u64(block + FOOTER_RAW_BYTES_AT),
        .payload_bytes = get_u64(block + FOOTER_PAYLOAD_BYTES_AT),
        .kinds = get_u32(block + FOOTER_KINDS_AT),
        .severities = get_u32(block + FOOTER_SEVERITIES_AT),
        .time_min_ns = (int64_t)get_u64(block + FOOTER_TIME_MIN_AT),
        .time_max_ns = (int64_t)get_u64(block + FOOTER_TIME_MAX_AT),
        .built_min_ns = (int64_t)get_u64(block + FOOTER_BUILT_MIN_AT),
        .built_max_ns = (int64_t)get_u64(block + FOOTER_BUILT_MAX_AT),
        .index_offset = get_u64(block + FOOTER_INDEX_OFFSET_AT),
        .index_bytes = get_u64(block + FOOTER_INDEX_BYTES_AT),
        .entry_count = get_u32(block + FOOTER_ENTRY_COUNT_AT),
        .index_crc = get_u32(block + FOOTER_INDEX_CRC_AT),
        .flags = get_u32(block + FOOTER_FLAGS_AT),
    };
    memcpy(found.node.bytes, block + FOOTER_NODE_AT, ULID_BYTES);
    memcpy(found.content_digest, block + FOOTER_DIGEST_AT, sizeof found.content_digest);
    const char *fault = footer_fault(&found);
    if (fault != NULL) {
        return err_set(err, ERR_CORRUPT, "footer: %s", fault);
    }
    *footer = found;
    return 0;
}

int segment_footer_check(const struct segment_footer *footer, const struct segment_header *header,
                         uint64_t file_bytes, struct err *err)
{
    if (footer->segment_id != header->segment_id) {
        return err_set(err, ERR_CORRUPT,
                       "footer: it is of segment %" PRIu64 ", the file of %" PRIu64,
                       footer->segment_id, header->segment_id);
    }
    if (footer->salt != header->salt) {
        return err_set(err, ERR_CORRUPT, "footer: it is of another use of the file (salt)");
    }
    if (memcmp(footer->node.bytes, header->node.bytes, ULID_BYTES) != 0) {
        return err_set(err, ERR_CORRUPT, "footer: it is of another node");
    }
    if (footer->raw_bytes > header->file_bytes) {
        return err_set(err, ERR_CORRUPT,
                       "footer: %" PRIu64 " bytes of batches in a segment of %" PRIu64,
                       footer->raw_bytes, header->file_bytes);
    }
    bool is_over_batches =
        footer->form == SEGMENT_FORM_RAW && footer->index_offset < header->file_bytes;
    if (is_over_batches || file_bytes % STORE_BLOCK_BYTES != 0 || file_bytes < STORE_BLOCK_BYTES ||
        footer->index_offset + footer->index_bytes > file_bytes - STORE_BLOCK_BYTES) {
        return err_set(err, ERR_CORRUPT,
                       "footer: an index of %" PRIu64 " bytes at %" PRIu64
                       " does not lie in a file of %" PRIu64,
                       footer->index_bytes, footer->index_offset, file_bytes);
    }
    return 0;
}

/* ---- the header of a compacted file: a segment header under another magic ---- */

void compacted_header_encode(uint8_t *block, const struct segment_header *header)
{
    segment_header_encode(block, header);
    memcpy(block + HEADER_MAGIC_AT, COMPACTED_MAGIC, sizeof COMPACTED_MAGIC);
    put_u32(block + HEADER_CRC_AT, crc32c(0, block, HEADER_CRC_AT));
}

int compacted_header_decode(struct segment_header *header, const uint8_t *block, struct err *err)
{
    if (memcmp(block + HEADER_MAGIC_AT, COMPACTED_MAGIC, sizeof COMPACTED_MAGIC) != 0) {
        return err_set(err, ERR_CORRUPT, "compacted header: wrong magic");
    }
    if (crc32c(0, block, HEADER_CRC_AT) != get_u32(block + HEADER_CRC_AT)) {
        return err_set(err, ERR_CORRUPT, "compacted header: header checksum does not match");
    }
    uint8_t copy[STORE_BLOCK_BYTES];
    memcpy(copy, block, sizeof copy);
    memcpy(copy + HEADER_MAGIC_AT, SEGMENT_MAGIC, sizeof SEGMENT_MAGIC);
    put_u32(copy + HEADER_CRC_AT, crc32c(0, copy, HEADER_CRC_AT));
    int result = segment_header_decode(header, copy, err);
    return result < 0 ? err_wrap(err, result, "compacted header") : 0;
}

/* ---- names ---- */

static void name_format(char *name, uint64_t id, const char *suffix)
{
    int n = snprintf(name, SEGMENT_NAME_BYTES, SEGMENT_DIR "/%016" PRIx64 ".%s", id, suffix);
    ASSERT(n > 0);
    ASSERT((size_t)n < SEGMENT_NAME_BYTES);
}

void compacted_name(char *name, uint64_t id)
{
    name_format(name, id, "slc");
}

void compacted_temporary_name(char *name, uint64_t id)
{
    name_format(name, id, "slt");
}

/* A name is what name_format makes of its id: upper case, signs and other lengths are not. */
static bool name_parse(uint64_t *id, const char *name, const char *suffix)
{
    uint64_t value = 0;
    for (size_t i = 0; i < 16; i++) {
        char c = name[i];
        if (c >= '0' && c <= '9') {
            value = value << 4 | (uint64_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            value = value << 4 | (uint64_t)(c - 'a' + 10);
        } else {
            return false; /* also the NUL of a shorter name */
        }
    }
    *id = value;
    return name[16] == '.' && strcmp(name + 17, suffix) == 0;
}

bool compacted_parse_name(uint64_t *id, const char *name)
{
    uint64_t found = 0;
    if (!name_parse(&found, name, "slc") || found == 0 || found == UINT64_MAX) {
        return false;
    }
    *id = found;
    return true;
}

bool compacted_is_temporary(const char *name)
{
    uint64_t id = 0;
    return name_parse(&id, name, "slt");
}
