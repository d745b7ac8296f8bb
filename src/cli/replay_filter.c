#include "cli/replay_filter.h"

#include <string.h>

#include "core/clock.h"
#include "core/mem.h"
#include "store/index.h"

static const char *const key_names[FILTER_KEYS] = {
    [FILTER_SERVICE] = "service",
    [FILTER_LEVEL] = "level",
    [FILTER_CORRELATION_ID] = "correlation_id",
    [FILTER_NAME] = "name",
    [FILTER_SOURCE] = "source",
    [FILTER_Q] = "q",
    [FILTER_HOST] = "host",
    [FILTER_GPU] = "gpu",
    [FILTER_RUN] = "run",
};

/* The keys that no GET route has. */
static const struct {
    enum replay_filter_key key;
    enum lookup_field lookup;
    enum index_field index;
} fields[] = {
    {FILTER_HOST, LOOKUP_HOST, INDEX_HOST},
    {FILTER_GPU, LOOKUP_GPU, INDEX_GPU},
    {FILTER_RUN, LOOKUP_RUN, INDEX_RUN},
};

static struct slice text_slice(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

const char *replay_filter_add(struct replay_filter *filter, const char *text)
{
    const char *equals = strchr(text, '=');
    if (equals == NULL || equals[1] == 0) {
        return "--filter needs key=value";
    }
    struct slice name = {(const uint8_t *)text, (size_t)(equals - text)};
    for (size_t i = 0; i < FILTER_KEYS; i++) {
        if (!slice_equal(name, text_slice(key_names[i]))) {
            continue;
        }
        if (filter->values[i] != NULL) {
            return "--filter takes each key once";
        }
        if (strlen(equals + 1) > QUERY_TEXT_MAX) {
            return "--filter takes values of at most 1024 bytes";
        }
        filter->values[i] = equals + 1;
        return NULL;
    }
    return "--filter knows service, level, correlation_id, name, source, q, host, gpu, run";
}

static uint32_t kind_bit(struct slice name)
{
    for (unsigned kind = 1; kind <= RECORD_KIND_MAX; kind++) {
        const char *known = record_kind_name((enum record_kind)kind);
        if (known != NULL && slice_equal(name, text_slice(known))) {
            return 1u << kind;
        }
    }
    return 0;
}

const char *replay_filter_kinds(struct replay_filter *filter, const char *list)
{
    for (const char *at = list; at != NULL;) { /* each turn takes a name and its comma */
        const char *comma = strchr(at, ',');
        size_t bytes = comma == NULL ? strlen(at) : (size_t)(comma - at);
        uint32_t bit = kind_bit((struct slice){(const uint8_t *)at, bytes});
        if (bit == 0) {
            return "--kind is one or several (with commas) of log, metric, event, run, gpu";
        }
        filter->kinds |= bit;
        at = comma == NULL ? NULL : comma + 1;
    }
    return NULL;
}

/* ---- in words ---- */

static void put_encoded(struct buf *out, const char *text)
{
    for (const char *c = text; *c != 0; c++) {
        bool is_plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                        (*c >= '0' && *c <= '9') || *c == '-' || *c == '.' || *c == '_';
        if (is_plain) {
            buf_put_char(out, *c);
        } else {
            buf_printf(out, "%%%02X", (unsigned char)*c);
        }
    }
}

static void put_pair(struct buf *out, const char *separator, const char *key, const char *value)
{
    buf_put_text(out, out->bytes == 0 ? "" : separator);
    buf_put_text(out, key);
    buf_put_char(out, '=');
    put_encoded(out, value);
}

static bool text_make(struct replay_filter *filter)
{
    struct buf out;
    buf_init(&out, filter->text, sizeof filter->text - 1);
    for (unsigned kind = 1; kind <= RECORD_KIND_MAX; kind++) {
        if ((filter->kinds & 1u << kind) != 0) {
            put_pair(&out, " ", "kind", record_kind_name((enum record_kind)kind));
        }
    }
    for (size_t i = 0; i < FILTER_KEYS; i++) {
        if (filter->values[i] != NULL) {
            put_pair(&out, " ", key_names[i], filter->values[i]);
        }
    }
    filter->text[out.bytes] = 0;
    return !out.is_truncated;
}

/* ---- life ---- */

const char *replay_filter_close(struct replay_filter *filter)
{
    uint8_t *fault_memory = mem_alloc(QUERY_FAULT_BYTES_MAX);
    uint8_t *memory = mem_alloc(FILTER_KEYS * 3 * QUERY_TEXT_MAX);
    struct buf fault;
    struct buf query;
    buf_init(&fault, fault_memory, QUERY_FAULT_BYTES_MAX);
    buf_init(&query, memory, FILTER_KEYS * 3 * QUERY_TEXT_MAX);
    for (size_t i = 0; i < FILTER_HOST; i++) {
        if (filter->values[i] != NULL) {
            put_pair(&query, "&", key_names[i], filter->values[i]);
        }
    }
    int r = query_params_parse(&filter->params, ROUTE_TAIL, (struct slice){query.data, query.bytes},
                               clock_real_ns(), &fault);
    mem_free(memory);
    mem_free(fault_memory);
    filter->params.kinds = filter->kinds;
    filter->params.start_ns = INT64_MIN;
    filter->params.end_ns = INT64_MAX;
    filter->scratch = mem_alloc(LOOKUP_SCRATCH_BYTES);
    filter->matcher = (struct query_matcher){&filter->params, filter->scratch};
    if (!text_make(filter)) {
        return "the filters are too long";
    }
    return r < 0 ? "--filter level is TRACE, DEBUG, INFO, WARNING, ERROR or CRITICAL" : NULL;
}

void replay_filter_free(struct replay_filter *filter)
{
    mem_free(filter->scratch);
}

void replay_filter_scan(const struct replay_filter *filter, struct scan_filter *scan)
{
    query_params_filter(&filter->params, scan);
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        const char *value = filter->values[fields[i].key];
        if (value != NULL && scan->key_count < SCAN_KEYS_MAX) {
            scan->keys[scan->key_count++] = index_key(fields[i].index, text_slice(value));
        }
    }
}

bool replay_filter_asks_json(const struct replay_filter *filter)
{
    bool asks = false;
    for (size_t i = 0; i < FILTER_KEYS; i++) {
        asks |= i != FILTER_LEVEL && filter->values[i] != NULL;
    }
    return asks;
}

/* ---- one record ---- */

struct looking {
    enum lookup_field field;
    struct slice wanted;
    bool is_found;
};

static bool on_value(void *context, enum lookup_field field, struct slice value)
{
    struct looking *looking = context;
    looking->is_found |= field == looking->field && slice_equal(value, looking->wanted);
    return !looking->is_found;
}

static bool has_field(const struct replay_filter *filter, size_t i, struct slice payload)
{
    const char *value = filter->values[fields[i].key];
    struct looking looking = {.field = fields[i].lookup};
    if (value == NULL) {
        return true;
    }
    looking.wanted = text_slice(value);
    (void)lookup_walk(payload, 1u << fields[i].lookup, filter->scratch, on_value, &looking);
    return looking.is_found;
}

bool replay_filter_matches(void *context, const struct scan_record *record)
{
    struct replay_filter *filter = context;
    bool is_match = query_matches(&filter->matcher, record);
    for (size_t i = 0; i < ARRAY_COUNT(fields) && is_match; i++) {
        bool is_asked = filter->values[fields[i].key] != NULL;
        is_match = !is_asked ||
                   (record->record.encoding == 0 && has_field(filter, i, record->record.payload));
    }
    return is_match;
}
