/*
 * query_filter: from judged parameters to what the store looks for (store/scan.h) and what is left
 * to be looked at in the JSON (model/lookup.h). Pure.
 */
#include "api/query_params.h"

#include "store/index.h"

/* A literal this long is rare enough to be looked for; below it any other value may do better. */
#define LITERAL_BYTES_GOOD 4u

/* Can a JSON string spell this byte without a backslash? */
static bool is_spelt_plainly(uint8_t c)
{
    return c >= 0x20 && c != '"' && c != '\\';
}

/* The longest part of text that JSON spells as it is, unless with a backslash. */
static struct slice literal_of(struct slice text)
{
    struct slice best = {0};
    size_t from = 0;
    for (size_t i = 0; i <= text.bytes; i++) {
        if (i < text.bytes && is_spelt_plainly(text.data[i])) {
            continue;
        }
        if (i - from > best.bytes) {
            best = (struct slice){text.data + from, i - from};
        }
        from = i + 1;
    }
    return best;
}

/* What is searched for in messages is what is rare; of equal values the longest stands in. */
static struct slice literal_choose(const struct lookup_query *lookup)
{
    const struct slice others[] = {lookup->correlation_id, lookup->name, lookup->source,
                                   lookup->service};
    struct slice best = literal_of(lookup->message);
    if (best.bytes >= LITERAL_BYTES_GOOD) {
        return best;
    }
    for (size_t i = 0; i < ARRAY_COUNT(others); i++) {
        struct slice literal = literal_of(others[i]);
        best = literal.bytes > best.bytes ? literal : best;
    }
    return best;
}

static void key_add(struct scan_filter *filter, enum index_field field, struct slice value)
{
    if (value.bytes > 0) {
        ASSERT(filter->key_count < SCAN_KEYS_MAX);
        filter->keys[filter->key_count++] = index_key(field, value);
    }
}

/* That severity and above; records without one are below all. */
static uint32_t severities_from(unsigned severity_min)
{
    uint32_t all = (2u << SEVERITY_CRITICAL) - 1;
    return severity_min == 0 ? 0 : all & ~((1u << severity_min) - 1);
}

void query_params_filter(const struct query_params *params, struct scan_filter *filter)
{
    const struct lookup_query *lookup = &params->lookup;
    *filter = (struct scan_filter){
        .kinds = params->kinds,
        .severities = severities_from(params->severity_min),
        .time_min_ns = params->start_ns,
        .time_max_ns = params->end_ns,
        .lsn_min = params->from_lsn,
        .lsn_max = UINT64_MAX,
        .literal = literal_choose(lookup),
    };
    if (params->has_cursor && params->is_ascending) {
        filter->lsn_min = params->cursor_lsn + 1;
    } else if (params->has_cursor) {
        filter->lsn_max = params->cursor_lsn - 1;
    }
    key_add(filter, INDEX_SERVICE, lookup->service);
    key_add(filter, INDEX_SOURCE, lookup->source);
    key_add(filter, INDEX_NAME, lookup->name);
    key_add(filter, INDEX_CORRELATION_ID, lookup->correlation_id);
}

static bool asks_json(const struct lookup_query *lookup)
{
    return (lookup->service.bytes | lookup->source.bytes | lookup->name.bytes |
            lookup->correlation_id.bytes | lookup->message.bytes) != 0;
}

bool query_matches(void *context, const struct scan_record *record)
{
    const struct query_matcher *matcher = context;
    const struct lookup_query *lookup = &matcher->params->lookup;
    if (!asks_json(lookup)) {
        return true;
    }
    /* Any other encoding than JSON has no fields to ask for. */
    return record->record.encoding == 0 &&
           lookup_matches(lookup, record->record.payload, matcher->scratch);
}
