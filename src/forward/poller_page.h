/*
 * poller_page: the rows of one look as one request: NDJSON of metric records (api.md §1), and the mark that the request
 * ends with. Pure but for the memory it is given.
 *
 * Rows of the same key (a table without a unique key) are taken together or not at all: the mark can only stand behind all of
 * them. A page that is full forgets the group it has only a part of; the next look begins there.
 *
 * NULL makes no record. A value that JSON cannot say (NaN, infinities) and a metric without a name are counted as invalid.
 */
#ifndef FORWARD_POLLER_PAGE_H
#define FORWARD_POLLER_PAGE_H

#include "core/buf.h"
#include "forward/poller_mark.h"
#include "forward/poller_query.h"

#define POLLER_VALUE_BYTES_MAX 4096u /* digits of a numeric; longer ones are invalid */

struct poller_page {
    const struct config_poller *poller; /* borrowed, both */
    const struct poller_shape *shape;
    struct buf body;
    struct poller_mark mark;         /* behind the last whole group; none: no row was kept */
    uint64_t rows, records, invalid; /* of whole groups once poller_page_end was called */
    bool is_full;                    /* a row was left out for want of room */
    char invalid_why[160];           /* of the first invalid value; "" */
    /* The group that is being collected. */
    struct poller_mark group;
    size_t group_at;
    uint64_t group_rows, group_records, group_invalid;
};

void poller_page_begin(struct poller_page *page, const struct config_poller *poller,
                       const struct poller_shape *shape, void *memory, size_t capacity);
/* values: keys, then values, as in poller_query_look. Rows after one that had no room are left out, too. */
void poller_page_add(struct poller_page *page, const struct poller_value *values);
/* No more rows. ERR_LIMIT: not even the first group fits. */
int poller_page_end(struct poller_page *page) MUST_USE;

#endif
