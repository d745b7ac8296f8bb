/*
 * recent_fixture: batches whose every byte follows from their first LSN, for tests of recent.h: a
 * writer that puts them, and a look at a block that says what is wrong with it. No assertions of
 * cmocka: also used by threads.
 */
#ifndef RECENT_FIXTURE_H
#define RECENT_FIXTURE_H

#include <stdint.h>
#include <string.h>

#include "store/format.h"
#include "store/recent.h"

struct recent_feed {
    uint64_t next_lsn;
    uint8_t header[BATCH_HEADER_BYTES];
    uint8_t payload[2 * RECENT_BATCH_MAX + STORE_BLOCK_BYTES];
};

/* What a block held. fault: NULL, or what is wrong with it. */
struct recent_seen {
    uint64_t first_lsn;
    uint64_t next_lsn;
    uint64_t batch_count;
    const char *fault;
};

static inline uint64_t recent_mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* The payload: words counted up from a number made of the LSN. */
static inline uint64_t recent_word(uint64_t lsn, uint64_t i)
{
    return recent_mix(lsn) + i;
}

static inline void recent_feed_put(struct recent *recent, struct recent_feed *feed,
                                   uint32_t records, uint32_t payload_bytes)
{
    for (uint64_t i = 0; i * 8 < payload_bytes; i++) {
        uint64_t word = recent_word(feed->next_lsn, i);
        memcpy(feed->payload + i * 8, &word, sizeof word);
    }
    struct batch_header header = {.segment_id = 1,
                                  .salt = recent_mix(feed->next_lsn + 1),
                                  .batch_seq = feed->next_lsn,
                                  .first_lsn = feed->next_lsn,
                                  .record_count = records,
                                  .payload_bytes = payload_bytes};
    batch_header_encode(feed->header, &header);
    recent_put(recent, feed->next_lsn, records, feed->header,
               (struct slice){feed->payload, payload_bytes});
    feed->next_lsn += records;
}

static inline bool recent_is_payload(const uint8_t *from, uint64_t bytes, uint64_t lsn)
{
    for (uint64_t i = 0; i * 8 < bytes; i++) {
        uint64_t word = recent_word(lsn, i);
        if (memcmp(from + i * 8, &word, sizeof word) != 0) {
            return false;
        }
    }
    return true;
}

static inline struct recent_seen recent_fault(const char *text)
{
    return (struct recent_seen){.fault = text};
}

/* Every byte of it; and that it begins with the batch that holds lsn. */
static inline struct recent_seen recent_check_block(const struct block *block, uint64_t lsn)
{
    struct recent_seen seen = {0};
    if (block->batch_align != 8 || block->batches.bytes == 0) {
        return recent_fault("no block of batches padded to 8");
    }
    for (uint64_t at = 0; at < block->batches.bytes;) {
        struct batch_header header;
        struct err err = {0};
        const uint8_t *from = block->batches.data + at;
        if (batch_header_decode(&header, from, &err) < 0) {
            return recent_fault("a header that does not decode");
        }
        uint64_t end = BATCH_HEADER_BYTES + (uint64_t)header.payload_bytes;
        if (end > block->batches.bytes - at || header.salt != recent_mix(header.first_lsn + 1)) {
            return recent_fault("a header of another batch");
        }
        if (!recent_is_payload(from + BATCH_HEADER_BYTES, header.payload_bytes, header.first_lsn)) {
            return recent_fault("payload of another batch");
        }
        seen.first_lsn = seen.batch_count == 0 ? header.first_lsn : seen.first_lsn;
        if (seen.batch_count > 0 && header.first_lsn != seen.next_lsn) {
            return recent_fault("a gap inside a block");
        }
        if (seen.batch_count == 0 &&
            (lsn < header.first_lsn || lsn - header.first_lsn >= header.record_count)) {
            return recent_fault("a first batch without the LSN asked for");
        }
        seen.next_lsn = header.first_lsn + header.record_count;
        seen.batch_count++;
        at += end;
    }
    return seen;
}

#endif
