/*
 * format: every byte that Sluice's log puts on disk. Nothing outside format.c touches raw offsets.
 *
 * PURPOSE. A node's log is a sequence of segment files in DIR/log. A segment is one header block,
 * then batches, each starting on a 4096-byte boundary, each the unit of one durable write. LSNs
 * number records densely from 1 over the whole log; batch_seq numbers batches densely from 1.
 * Little endian throughout. All reserved bytes are zero and checked.
 *
 * SEGMENT HEADER, one 4096-byte block at offset 0 (the rest of the block is zero):
 *   offset size field           meaning
 *   00     8    magic           "SLUICSEG"
 *   08     2    version         1
 *   10     2    header_bytes    64
 *   12     4    block_bytes     4096
 *   16     8    segment_id      counts up by one from 1; also in the file name
 *   24     8    salt            random for each use of the file: batches of an earlier use are invalid
 *   32     16   node            the node's ULID: a record is known anywhere by (node, LSN)
 *   48     8    file_bytes      size of the file when prepared
 *   56     4    reserved        0
 *   60     4    header_crc      CRC32C of bytes 00-59
 *
 * BATCH HEADER, 128 bytes, then payload_bytes of records, then zeroes up to the next 4096-byte boundary:
 *   00     8    magic           "SLUICBAT"
 *   08     2    version         1
 *   10     2    header_bytes    128
 *   12     4    flags           BATCH_MARK: no records, written when idle; BATCH_KEYED: some record carries a key;
 *                               BATCH_ORIGIN: some record carries META_ORIGIN
 *   16     8    segment_id      as the segment's
 *   24     8    salt            as the segment's
 *   32     8    batch_seq       dense over the log
 *   40     8    first_lsn       LSN of the first record (of the next record to come, in a mark)
 *   48     4    record_count    0 only in a mark
 *   52     4    previous_crc    header_crc of batch_seq - 1 (0 for the very first): the chain
 *   56     4    kinds           bit (1 << kind) of each record kind inside
 *   60     4    payload_bytes   without header and padding
 *   64     8    time_min_ns     smallest and largest event time; 0, 0 in a mark
 *   72     8    time_max_ns
 *   80     8    durable_lsn     largest LSN known durable when this batch was built: a witness for recovery
 *   88     8    built_at_ns     real time
 *   96     8    keyed_lsn       LSN of the newest record with a key up to and including this batch; 0: none.
 *                               Rebuilding the processed set skips every segment in which this does not change
 *   104    8    origin_lsn      LSN of the newest record with META_ORIGIN up to and including this batch; 0: none.
 *                               Who knows the origins up to there need not read on (origins.h)
 *   112    8    reserved        0
 *   120    4    payload_crc     CRC32C of the payload
 *   124    4    header_crc      CRC32C of bytes 00-123
 *
 * RECORD, inside a batch's payload, 8-byte aligned:
 *   00     4    record_bytes    header + meta + payload, without padding to 8
 *   04     1    kind            enum record_kind
 *   05     1    encoding        0 JSON
 *   06     1    severity        enum record_severity; 0 where the kind has none
 *   07     1    flags           RECORD_HAS_META
 *   08     8    event_time_ns   signed, since 1970
 *   16     16   id              ULID
 *   32     4    payload_bytes
 *   36     2    meta_bytes      0 without RECORD_HAS_META
 *   38     2    reserved        0
 *   40     .    meta, then payload: exactly the client's bytes; then zeroes to 8
 *
 * META is a sequence of items {u8 type, u8 zero, u16 bytes, data}; see enum record_meta_type:
 *   ORIGIN     16 node, 8 lsn, 8 range_first, 8 range_last, 4 range_kinds (left out: all kinds)
 *   FIRST      16 node, 8 lsn, then 16 for each node between that one and ORIGIN's
 *   WATERMARK  1 bytes of source, 1 zero, source, mark
 *   RUN        1 command (1..4), 1 zero, event_id
 *
 * A BATCH IS VALID if and only if it lies inside the file; magic, version, header_bytes match;
 * segment_id and salt are the segment's; reserved bytes are zero; header_crc matches; payload_crc
 * matches; its records fill payload_bytes exactly and count record_count; and, when read in
 * sequence, batch_seq, first_lsn and previous_crc continue the batch before.
 *
 * WHAT A CRASH MAY LEAVE. At most STORE_WRITES_IN_FLIGHT_MAX batches at the end, each absent,
 * complete or torn at any sector, in any combination: so a hole may be followed by a valid batch.
 * None of them was acknowledged unless all before it are valid. D = the largest durable_lsn in any
 * valid header. Invalid at or below D: corruption, quarantined and reported. Invalid above D: torn
 * tail, cut. When a batch could not be written (I/O error) it is written again to the next segment
 * under the same batch_seq: of two segments that hold the same batch_seq, the later wins.
 *
 * VERSION HISTORY. 1: first release. BATCH_ORIGIN and origin_lsn took a free flag and reserved bytes, which
 * are 0 in every log that holds no record of another node. ORIGIN's range_kinds and FIRST came later.
 */
#ifndef STORE_FORMAT_H
#define STORE_FORMAT_H

#include "core/base.h"
#include "core/err.h"
#include "core/ulid.h"

#define STORE_BLOCK_BYTES          4096u
#define STORE_WRITES_IN_FLIGHT_MAX 2u
#define SEGMENT_HEADER_BYTES       64u
#define BATCH_HEADER_BYTES         128u
#define RECORD_HEADER_BYTES        40u
#define RECORD_ALIGN               8u
#define RECORD_META_BYTES_MAX      65535u
#define FORMAT_VERSION             1u

enum record_kind {
    RECORD_LOG = 1,
    RECORD_METRIC = 2,
    RECORD_EVENT = 3,
    RECORD_RUN = 4,
    RECORD_GPU = 5,
    RECORD_KIND_MAX = 31,
};

/* The name used on the wire and by `sluice dump`: "log", "metric", "event", ... ; NULL for an
 * unknown kind. */
const char *record_kind_name(enum record_kind kind);

enum record_severity {
    SEVERITY_NONE = 0,
    SEVERITY_TRACE = 1,
    SEVERITY_DEBUG = 2,
    SEVERITY_INFO = 3,
    SEVERITY_WARNING = 4,
    SEVERITY_ERROR = 5,
    SEVERITY_CRITICAL = 6,
};

enum {
    BATCH_MARK = 1u << 0,
    BATCH_KEYED = 1u << 1,
    BATCH_ORIGIN = 1u << 2,
    RECORD_HAS_META = 1u << 0,
};

struct segment_header {
    uint64_t segment_id;
    uint64_t salt;
    struct ulid node;
    uint64_t file_bytes;
};

struct batch_header {
    uint32_t flags;
    uint64_t segment_id;
    uint64_t salt;
    uint64_t batch_seq;
    uint64_t first_lsn;
    uint32_t record_count;
    uint32_t previous_crc;
    uint32_t kinds;
    uint32_t payload_bytes;
    int64_t time_min_ns;
    int64_t time_max_ns;
    uint64_t durable_lsn;
    int64_t built_at_ns;
    uint64_t keyed_lsn;
    uint64_t origin_lsn;
    uint32_t payload_crc;
    uint32_t header_crc; /* filled by encode and decode */
};

struct record {
    enum record_kind kind;
    uint8_t encoding;
    uint8_t severity;
    int64_t event_time_ns;
    struct ulid id;
    struct slice meta;    /* borrowed */
    struct slice payload; /* borrowed */
};

/* All below are pure. Encoders write every byte they are responsible for. Decoders never trust:
 * bounds, magic, version, reserved, CRC, in that order, each with its own text; ERR_CORRUPT, or
 * ERR_VERSION for a newer version with a good CRC. */

/* Writes a whole STORE_BLOCK_BYTES block. */
void segment_header_encode(uint8_t *block, const struct segment_header *header);
int segment_header_decode(struct segment_header *header, const uint8_t *block,
                          struct err *err) MUST_USE;

/* Writes BATCH_HEADER_BYTES at to and sets header->header_crc. */
void batch_header_encode(uint8_t *to, struct batch_header *header);
int batch_header_decode(struct batch_header *header, const uint8_t *from, struct err *err) MUST_USE;
/* Bytes a batch takes in the file: header, payload, padding to a block. */
uint64_t batch_file_bytes(uint64_t payload_bytes);

/* Bytes a record takes in a batch, padding included. */
uint64_t record_padded_bytes(uint64_t meta_bytes, uint64_t payload_bytes);
/* Writes the record and its padding; returns record_padded_bytes. to is 8-byte aligned and large
 * enough. On the hot path. */
size_t record_encode(uint8_t *to, const struct record *record);
/* Decodes the record at the start of from. Returns its padded bytes, or ERR_CORRUPT. record borrows
 * from. */
int64_t record_decode(struct record *record, struct slice from, struct err *err) MUST_USE;

/* META items. */
enum record_meta_type {
    META_RECEIPT = 1,   /* on the first record of a request with an Idempotency-Key */
    META_DEDUP_KEY = 2, /* a record stored once by its own key (event_id) */
    META_ORIGIN = 3,    /* which record of which node this is: it came from another Sluice */
    META_RUN = 5,       /* which command of the agent-run API this is (runs.h) */
    META_WATERMARK = 4, /* how far a poller had read its table when it had read this record */
    META_FIRST = 6, /* beside ORIGIN: it had come to that node from another, which had it first or
                           likewise */
};

/* What the first answer to a keyed request said, so that a repeat gets the same one, also after a
 * crash. The body_digest of a request of RECORD_RUN is a digest once more, of that and of what else the request is (digest_request in
 * api/runs_write.c); what its answer said, runs_outcomes.h knows. */
struct receipt {
    struct slice key;
    uint8_t body_digest[16]; /* XXH3-128 of the decoded body, seed 0 */
    uint8_t form;            /* enum submit_form */
    uint32_t accepted;       /* records of this request in the log, this one included */
    uint32_t duplicates;     /* records that were in the log before, under their own keys */
    uint32_t rejected;
    struct slice errors; /* the JSON array text of the answer's "errors", may be empty */
};

/* Where a record that another node sent was first stored. On the first stored record of its request range_first
 * and range_last say for which LSNs of that node the request speaks, for records of range_kinds (LSNs inside that it
 * does not carry were not for us, or are of other kinds); 0, 0, 0 on the others. A record that was refused splits its request's range in two, each told by the
 * first record stored of it, so that a refused LSN is never taken for a stored one. */
struct origin {
    struct ulid node;
    uint64_t lsn;
    uint64_t range_first, range_last;
    uint32_t range_kinds; /* bit (1 << kind) */
};
/* Which record of which node it was in the beginning, where the node that sent it to us had it from another. via: the
 * nodes it passed on its way to that one, in order. */
#define FIRST_VIA_MAX 16u
struct first_origin {
    struct ulid node;
    uint64_t lsn;
    unsigned via_count;
    struct ulid via[FIRST_VIA_MAX];
};
/* source: the poller's name. mark: its own text (a position in its table). */
struct watermark {
    struct slice source;
    struct slice mark;
};
#define WATERMARK_SOURCE_MAX 64u
#define WATERMARK_MARK_MAX   1024u

#define RECEIPT_FIXED_BYTES 36u
size_t meta_receipt_bytes(const struct receipt *receipt);
size_t meta_receipt_encode(uint8_t *to, const struct receipt *receipt);
size_t meta_dedup_key_bytes(struct slice key);
size_t meta_dedup_key_encode(uint8_t *to, struct slice key);
/* Finds an item: 1 found, 0 not there, ERR_CORRUPT. Outputs borrow from meta. */
int meta_find_receipt(struct receipt *receipt, struct slice meta) MUST_USE;
int meta_find_dedup_key(struct slice *key, struct slice meta) MUST_USE;
#define META_ORIGIN_BYTES 48u /* with its item header */
size_t meta_origin_encode(uint8_t *to, const struct origin *origin);
int meta_find_origin(struct origin *origin, struct slice meta) MUST_USE;
#define META_FIRST_BYTES_MAX (28u + FIRST_VIA_MAX * 16u)
size_t meta_first_bytes(const struct first_origin *first);
size_t meta_first_encode(uint8_t *to, const struct first_origin *first);
int meta_find_first(struct first_origin *first, struct slice meta) MUST_USE;
size_t meta_watermark_bytes(const struct watermark *watermark);
size_t meta_watermark_encode(uint8_t *to, const struct watermark *watermark);
int meta_find_watermark(struct watermark *watermark, struct slice meta) MUST_USE;
/* Which command (enum runs_command) and for which event_id; a CREATE may leave it empty, its payload says it. */
#define META_RUN_EVENT_ID_MAX 32768u
size_t meta_run_bytes(struct slice event_id);
size_t meta_run_encode(uint8_t *to, uint8_t command, struct slice event_id);
int meta_find_run(uint8_t *command, struct slice *event_id, struct slice meta) MUST_USE;

#endif
