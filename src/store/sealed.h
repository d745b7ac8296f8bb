/*
 * sealed: what is written when a segment will never be appended to again: the footer of a raw
 * segment, and the compacted form of it. Pure encoders and decoders; archive.c does the writing,
 * log_view.c and log_walk.c the reading.
 *
 * RAW, SEALED: log/ID.seg as format.h says in [0, file_bytes); then, appended, the index blob
 * (index.h) at index_offset = file_bytes padded to a block, then the footer in the file's LAST
 * STORE_BLOCK_BYTES. The batches are not touched. A file whose last block is no valid footer is
 * simply not sealed (a crash while sealing): sealing is done again, over what is there.
 *
 * COMPACTED: log/ID.slc (written as log/ID.slt, synced, renamed, directory synced; then log/ID.seg
 * is unlinked, directory synced): the segment's own header block with magic "SLUICCMP", then one
 * zstd frame per index entry, each independent and with its content size, one after the other
 * without padding; then zeroes to a block; the index blob; zeroes to a block; the footer in the
 * last block. A frame decodes to whole batches as format.h has them (128-byte header, payload)
 * without the padding behind each: header, payload and both their CRCs are those of the raw
 * segment, so the chain, the LSNs and the receipt times stay provable. Both files there: a
 * compacted file under its final name is whole (checked against content_digest before the rename),
 * so it wins and the raw one goes.
 *
 * FOOTER, one block, the rest of it zero:
 *   00   8  magic            "SLUICEND"
 *   08   2  version          1
 *   10   2  footer_bytes     256
 *   12   4  form             enum segment_form
 *   16   8  segment_id
 *   24   8  salt             as the segment header's
 *   32  16  node
 *   48   8  first_lsn        of the first record; of the next one to come when there is none
 *   56   8  last_lsn         first_lsn - 1 when there is none
 *   64   8  first_seq        batch_seq of the first batch; 0: no batch at all
 *   72   8  last_seq
 *   80   4  first_previous_crc  previous_crc of the first batch
 *   84   4  last_crc         header_crc of the last batch
 *   88   8  keyed_lsn        of the last batch
 *   96   8  durable_lsn      largest in any of its batch headers
 *   104  8  record_count
 *   112  8  raw_bytes        of its batches without padding
 *   120  8  payload_bytes    of its records' payloads: what clients sent
 *   128  4  kinds
 *   132  4  severities
 *   136  8  time_min_ns
 *   144  8  time_max_ns
 *   152  8  built_min_ns
 *   160  8  built_max_ns
 *   168  8  index_offset
 *   176  8  index_bytes
 *   184  4  entry_count
 *   188  4  index_crc        CRC32C of the blob
 *   192 16  content_digest   XXH3-128 of all batches without padding, in order
 *   208  4  flags            SEALED_DAMAGED: a gap lies inside or before its first batch; never
 *                          compacted
 *   212  8  origin_lsn       of the last batch
 *   220 32  reserved         0
 *   252  4  footer_crc       CRC32C of bytes 00-251
 *
 * VALID if and only if: magic, version, footer_bytes, form and reserved bytes are right, footer_crc
 * matches, segment_id, salt and node are those of the header block, and the index lies inside the
 * file before the footer. The index is valid when index_crc matches and index_open accepts it.
 *
 * VERSION HISTORY. 1: first release. origin_lsn took reserved bytes (format.h).
 */
#ifndef STORE_SEALED_H
#define STORE_SEALED_H

#include "store/format.h"
#include "store/index.h"

#define SEALED_FOOTER_BYTES 256u
#define SEALED_VERSION      1u

enum segment_form {
    SEGMENT_FORM_RAW = 1,
    SEGMENT_FORM_COMPACTED = 2,
};

enum {
    SEALED_DAMAGED = 1u << 0
};

struct segment_footer {
    enum segment_form form;
    uint64_t segment_id, salt;
    struct ulid node;
    uint64_t first_lsn, last_lsn, first_seq, last_seq;
    uint32_t first_previous_crc, last_crc;
    uint64_t keyed_lsn, durable_lsn, record_count, raw_bytes, payload_bytes;
    uint64_t origin_lsn;
    uint32_t kinds, severities;
    int64_t time_min_ns, time_max_ns, built_min_ns, built_max_ns;
    uint64_t index_offset, index_bytes;
    uint32_t entry_count, index_crc;
    uint8_t content_digest[16];
    uint32_t flags;
};

/* Writes a whole STORE_BLOCK_BYTES block. */
void segment_footer_encode(uint8_t *block, const struct segment_footer *footer);
/* ERR_CORRUPT, or ERR_VERSION for a newer one with a good CRC. */
int segment_footer_decode(struct segment_footer *footer, const uint8_t *block,
                          struct err *err) MUST_USE;
/* Does footer belong to the file with that header and size? ERR_CORRUPT with a text. Pure. */
int segment_footer_check(const struct segment_footer *footer, const struct segment_header *header,
                         uint64_t file_bytes, struct err *err) MUST_USE;
/* The header block of a compacted file: as segment_header_encode/decode, with its own magic. */
void compacted_header_encode(uint8_t *block, const struct segment_header *header);
int compacted_header_decode(struct segment_header *header, const uint8_t *block,
                            struct err *err) MUST_USE;

/* "log/%016llx.slc" and ".slt"; name has SEGMENT_NAME_BYTES. Pure. */
void compacted_name(char *name, uint64_t id);
void compacted_temporary_name(char *name, uint64_t id);
bool compacted_parse_name(uint64_t *id, const char *name);
bool compacted_is_temporary(const char *name);

#endif
