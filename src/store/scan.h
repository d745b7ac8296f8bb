/*
 * scan: finds records in the log: skips with the index what cannot match, walks the rest block by
 * block. One scan = one struct, used by one thread at a time; scan_step does at most one block
 * (about 1 MiB, a few hundred us) and shows about a thousand candidates of it, so that many scans
 * share a thread fairly and one can be left at any time. A request of many MiB is one batch and so
 * one block: its step takes about a millisecond for each MiB.
 *
 * The store looks at what the record header says (kind, severity, event time, LSN) and for a
 * literal in the raw bytes (SIMD, whole block at once); whether a candidate really matches is for
 * the caller's scan_match_fn, which knows JSON (model/lookup.h).
 *
 * ORDER is that of the log (LSN). Descending shows each block's records backwards.
 */
#ifndef STORE_SCAN_H
#define STORE_SCAN_H

#include "core/base.h"
#include "core/err.h"
#include "store/log_view.h"
#include "store/recent.h"

#define SCAN_KEYS_MAX 4

struct scan_filter {
    uint32_t kinds;      /* bit (1 << kind); 0: any */
    uint32_t severities; /* bit (1 << severity); 0: any */
    int64_t time_min_ns; /* inclusive */
    int64_t time_max_ns; /* inclusive */
    uint64_t lsn_min;    /* inclusive; 0: from the beginning */
    uint64_t lsn_max;    /* inclusive; UINT64_MAX: to the end */
    uint64_t
        keys[SCAN_KEYS_MAX]; /* index_key of equalities: blocks without one of them are skipped */
    unsigned key_count;
    /* Bytes that must occur in the payload unless it holds an escape that could spell one of them:
     * "\u", and any backslash where the literal holds a byte with a short escape ("\/"); empty:
     * none. Borrowed. */
    struct slice literal;
};

struct scan_record {
    uint64_t lsn;
    int64_t built_at_ns;
    struct record record; /* borrowed until scan_step returns */
};

/* Does the candidate match? */
typedef bool (*scan_match_fn)(void *context, const struct scan_record *record);
/* Takes a match. False: enough for now; the scan stands behind this record. */
typedef bool (*scan_take_fn)(void *context, const struct scan_record *record);

struct scan_options {
    struct scan_filter filter;
    bool is_descending;
    scan_match_fn match; /* NULL: all candidates */
    scan_take_fn take;
    void *context;
};

struct scan_source {
    struct log_views *views;
    struct recent *recent;               /* may be NULL (tools) */
    const _Atomic uint64_t *durable_lsn; /* NULL: all that is on disk (tools) */
};

struct scan;

enum scan_result {
    SCAN_MORE = 0, /* call again */
    SCAN_FULL = 1, /* take said enough; calling again goes on */
    SCAN_END =
        2, /* nothing more (ascending: nothing more yet; calling again later may find more) */
};

struct scan *scan_new(const struct scan_source *source, const struct scan_options *options);
void scan_free(struct scan *scan);
/* enum scan_result; ERR_CORRUPT: LSNs that nobody can read any more, damaged or on unreadable
 * sectors, told once with file, block, LSNs and reason: the next call goes on behind them; -errno:
 * of the system, the position stays. */
int scan_step(struct scan *scan, struct err *err) MUST_USE;
uint64_t scan_bytes(const struct scan *scan); /* raw bytes looked at */
uint64_t scan_skipped_bytes(const struct scan *scan);
/* The LSN a scan that is begun again must start at (ascending: lsn_min) or end at (lsn_max). */
uint64_t scan_position(const struct scan *scan);

/* First occurrence of needle at or after from, or hay.bytes. SIMD with a scalar twin. Pure. */
size_t scan_find(struct slice hay, size_t from, struct slice needle);

#endif
