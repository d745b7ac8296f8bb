/*
 * poller_mark: a position in a polled table, as text: what the table is, and the key columns of the last row that was taken
 * (time, step, metric, or fewer), each as the database printed it. It is what META_WATERMARK (store/format.h) carries as
 * its mark, and what the next look begins after. Pure.
 *
 * Text: "1;", then table and keys as netstrings "<bytes>:<text>,"; a NULL is "-,". A mark of another table (or of other key
 * columns) is not a position in this one.
 */
#ifndef FORWARD_POLLER_MARK_H
#define FORWARD_POLLER_MARK_H

#include "core/base.h"
#include "store/format.h"

#define POLLER_KEYS_MAX 3u /* time, step, metric */

/* So that every mark fits WATERMARK_MARK_MAX: the query leaves out rows whose keys are longer. */
#define POLLER_TABLE_BYTES_MAX  330u
#define POLLER_TIME_BYTES_MAX   48u
#define POLLER_STEP_BYTES_MAX   100u
#define POLLER_METRIC_BYTES_MAX 500u

_Static_assert(2 + POLLER_TABLE_BYTES_MAX + POLLER_TIME_BYTES_MAX + POLLER_STEP_BYTES_MAX +
                       POLLER_METRIC_BYTES_MAX + 4 * 5 <=
                   WATERMARK_MARK_MAX,
               "a mark fits a watermark");

struct poller_mark {
    size_t bytes; /* 0: none; the table's beginning */
    uint8_t data[WATERMARK_MARK_MAX];
};

struct poller_value {
    bool is_null;
    struct slice text; /* borrowed */
};

/* 0, or -ENAMETOOLONG: the mark is then as it was. */
int poller_mark_encode(struct poller_mark *mark, struct slice table,
                       const struct poller_value *keys, unsigned count) MUST_USE;
/* keys borrow from mark. 0, or -EINVAL: not a mark, or not one of that table with count keys. */
int poller_mark_decode(const struct poller_mark *mark, struct slice table,
                       struct poller_value *keys, unsigned count) MUST_USE;
bool poller_mark_equal(const struct poller_mark *a, const struct poller_mark *b);

#endif
