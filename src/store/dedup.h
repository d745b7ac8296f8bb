/*
 * dedup: the processed set: which idempotency keys and event ids the log has seen within their TTL.
 * Owned by the writer's thread (recovery fills it before). A cache of the log: rebuilt from it at
 * every start.
 *
 * Exact for all practical purposes: 128-bit fingerprints (XXH3-128 under a seed drawn per process,
 * so that nobody can prepare collisions) of (namespace, key). Entries sit in a ring in the order of
 * their insertion, which is the order of LSNs and of time: the oldest expire at one end, the
 * entries of a failed batch are taken back at the other. A table of 32-bit indices with linear
 * probing finds them. Memory is mapped at once and charged as it fills. Full: the oldest entry goes
 * before its TTL, counted in `evicted`. The errors texts live in a byte ring of their own; an
 * overwritten text reads as empty.
 */
#ifndef STORE_DEDUP_H
#define STORE_DEDUP_H

#include "core/base.h"
#include "core/err.h"
#include "core/ulid.h"

#define DEDUP_RECEIPT      1u                          /* namespace of Idempotency-Keys */
#define DEDUP_RECORD(kind) (0x100u | (uint32_t)(kind)) /* namespace of a record kind's own keys */

struct dedup_print {
    uint64_t low;
    uint64_t high;
};

struct dedup_entry {
    struct dedup_print print;
    uint64_t first_lsn; /* of the request (receipt) or of the record */
    int64_t seen_at_ns; /* real time of the batch */
    struct ulid id;     /* of that first record */
    uint8_t body_digest[16];
    uint64_t answer_lsn; /* what the first answer said: first_lsn, or that of the record that was
                            there before */
    uint32_t accepted;   /* stored by the request */
    uint32_t duplicates;
    uint32_t rejected;
    uint64_t errors_at; /* position in the errors ring */
    uint32_t errors_bytes;
    uint8_t form;
    uint8_t reserved[3];
};

struct dedup;

int dedup_open(struct dedup **dedup, uint64_t entries_max, uint64_t ttl_ns,
               struct err *err) MUST_USE;
void dedup_close(struct dedup *dedup);
struct dedup_print dedup_fingerprint(const struct dedup *dedup, uint32_t name_space,
                                     struct slice key);
/* NULL: not seen, or too long ago. Borrowed until the next insert. */
const struct dedup_entry *dedup_find(const struct dedup *dedup, struct dedup_print print,
                                     int64_t now_ns);
/* entry->print is filled by the caller; errors_at and errors_bytes here. first_lsn never decreases
 * from request to request. A living entry with the same print must not exist (an expired one may:
 * it is replaced). */
void dedup_insert(struct dedup *dedup, const struct dedup_entry *entry, struct slice errors);
struct slice dedup_errors(const struct dedup *dedup, const struct dedup_entry *entry);
/* Takes back every entry with first_lsn >= lsn: their batch failed. */
void dedup_take_back(struct dedup *dedup, uint64_t lsn);
/* Drops up to a bounded number of expired entries; call now and then. */
void dedup_expire(struct dedup *dedup, int64_t now_ns);
uint64_t dedup_count(const struct dedup *dedup);
uint64_t dedup_evicted(const struct dedup *dedup);
void dedup_validate(const struct dedup *dedup);

#endif
