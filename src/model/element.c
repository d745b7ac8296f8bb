/*
 * element: see element.h. Pure; one owner; fails by leaving the fault in its scan.
 *
 *   pieces_walk    the members that look as in the record before (shape_memo.h)
 *   members_walk   the rest, member by member; known fields are filed (schema.h)
 *   schema_*_check   judges the fields
 *
 * members_walk is compiled once per schema, so that the look-up of a key is inlined into it. Its
 * straight path is a member `"key":"value",` without specials: four positions of the index and two
 * bytes of the text say everything about it. Any other member takes member_take_any, which is as
 * strict and looks at each byte.
 */
#include "model/element.h"

#include "model/json_scan.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define NOINLINE      __attribute__((noinline))

/* Sixteen copies of the turn that takes a piece: the end of a loop whose turns all look alike is
 * guessed from a history that other code disturbs, and wrong guesses cost 13 ns a record in every
 * second run of one binary (at which address it was loaded decided). A copy each, and every branch
 * always goes the same way. clang has its own mind. */
#if defined(__clang__)
#define UNROLL_PIECES
#else
#define UNROLL_PIECES _Pragma("GCC unroll 16")
#endif

/* "x_correlation_id". */
#define KNOWN_KEY_BYTES_MAX 16u

struct member {
    struct slice key;
    enum field field; /* where it counts */
    bool key_has_escape;
    bool is_new; /* its key was not there before; false also when nobody can tell any more */
    struct json_value *value; /* where it is filed */
};

static struct slice text_between(const struct json_scan *scan, const struct json_value *string)
{
    return (struct slice){scan->index.data + string->start + 1, string->end - string->start - 2};
}

/* Whether the member at position is `"key":"value"`, with at most one space after the colon and
 * without specials. The key's quotes are q[0] and q[1], the value's q[2] and q[3]. Where q[0] and
 * q[2] stand, there is a quote, so the bytes up to q[2] are inside the text; q[3] before the next
 * special means that it exists and that both strings are plain. */
static ALWAYS_INLINE bool member_is_plain(const struct json_index *index, uint32_t position)
{
    const uint32_t *q = index->quotes + index->quote_at;
    if (UNLIKELY(q[0] != position || q[3] >= index->special_next)) {
        return false;
    }
    const uint8_t *after_key = index->data + q[1] + 1;
    uint32_t gap = q[2] - q[1];
    return LIKELY(after_key[0] == ':') && (gap == 2 || (gap == 3 && after_key[1] == ' '));
}

enum step {
    STEP_FAULT = 0,
    STEP_MEMBER, /* *position is where its key should be */
    STEP_CLOSED, /* *position is after the brace */
};

/* After the opening brace, at *position. */
static ALWAYS_INLINE enum step object_enter(const struct json_scan *scan, uint32_t *position)
{
    *position = json_scan_white(scan, *position);
    if (UNLIKELY(json_scan_byte(scan, *position) == '}')) {
        *position += 1;
        return STEP_CLOSED;
    }
    return STEP_MEMBER;
}

/* After a member, at *position. */
static ALWAYS_INLINE enum step object_step(struct json_scan *scan, uint32_t *position)
{
    uint32_t at = json_scan_white(scan, *position);
    uint8_t c = json_scan_byte(scan, at);
    if (LIKELY(c == ',')) {
        *position = json_scan_white(scan, at + 1);
        return STEP_MEMBER;
    }
    *position = at + 1;
    if (UNLIKELY(c != '}')) {
        json_scan_fail(scan, at, "Expecting ',' delimiter");
        return STEP_FAULT;
    }
    return STEP_CLOSED;
}

/* True when it is new. */
static NOINLINE bool unknown_key_note(struct element_reader *reader, struct slice key,
                                      bool has_escape)
{
    struct schema_input *input = &reader->input;
    switch (key_set_add(&reader->keys, key, has_escape)) {
    case KEY_SET_NEW:
        return true;
    case KEY_SET_DUPLICATE:
        if (input->unknown_repeated_count < UNKNOWN_REPEATED_MAX) {
            input->unknown_repeated[input->unknown_repeated_count++] = key;
        }
        return false;
    case KEY_SET_FULL:
        input->has_too_many_keys = true;
        return false;
    }
    return false;
}

static void inner_issue(struct schema_input *input, enum issue_type type, enum field field,
                        const struct member *m, const char *text)
{
    struct issue_list *list = &input->inner;
    if (list->count < ISSUES_PER_RECORD_MAX) {
        list->items[list->count++] = (struct issue){
            .type = type,
            .field = schema_field_name(field),
            .subkey = m->key,
            .text = text,
            .input = {input->data + m->value->start, m->value->end - m->value->start},
        };
    }
}

static ALWAYS_INLINE bool member_scan_key(struct json_scan *scan, uint32_t *position,
                                          struct member *m)
{
    struct json_value key;
    if (UNLIKELY(!json_scan_key(scan, position, &key))) {
        return false;
    }
    m->key = text_between(scan, &key);
    m->key_has_escape = key.has_escape;
    return true;
}

static void inner_member_note(struct element_reader *reader, enum field field,
                              const struct member *m)
{
    if (UNLIKELY(field == FIELD_TAGS && m->value->kind != JSON_STRING)) {
        inner_issue(&reader->input, ISSUE_STRING_TYPE, field, m, NULL);
    }
    switch (key_set_add(&reader->inner_keys, m->key, m->key_has_escape)) {
    case KEY_SET_NEW:
        return;
    case KEY_SET_DUPLICATE:
        inner_issue(&reader->input, ISSUE_VALUE_ERROR, field, m, "duplicate key");
        return;
    case KEY_SET_FULL:
        reader->input.has_too_many_keys = true;
        return;
    }
}

/* The entries of tags (strings) or metadata (anything): their own keys are judged, deeper ones are
 * free. */
static NOINLINE bool inner_walk(struct element_reader *reader, enum field field, uint32_t position,
                                struct json_value *value)
{
    struct json_scan *scan = &reader->scan;
    *value = (struct json_value){.start = position, .kind = JSON_OBJECT};
    key_set_reset(&reader->inner_keys);
    position++;
    scan->depth++;
    enum step step = object_enter(scan, &position);
    /* Each turn takes a member, so at least four bytes. */
    while (step == STEP_MEMBER) {
        struct json_value inner;
        struct member m = {.value = &inner};
        if (UNLIKELY(!member_scan_key(scan, &position, &m) ||
                     !json_scan_value(scan, position, m.value))) {
            return false;
        }
        inner_member_note(reader, field, &m);
        position = inner.end;
        step = object_step(scan, &position);
    }
    scan->depth--;
    value->end = position;
    return step == STEP_CLOSED;
}

static ALWAYS_INLINE enum field field_find(enum body_schema schema, struct slice key)
{
    switch (schema) {
    case SCHEMA_LOG:
        return schema_log_field(key);
    case SCHEMA_METRIC:
        return schema_metric_field(key);
    case SCHEMA_EVENT:
        return schema_event_field(key);
    }
    return FIELD_UNKNOWN;
}

/* A key with escapes names the field that it spells. */
static NOINLINE enum field field_find_escaped(enum body_schema schema, struct slice key)
{
    uint8_t plain[KNOWN_KEY_BYTES_MAX + 1];
    size_t bytes = json_unescape(key, plain, sizeof plain);
    if (bytes > KNOWN_KEY_BYTES_MAX) {
        return FIELD_UNKNOWN;
    }
    return field_find(schema, (struct slice){plain, bytes});
}

/* False: the value does not count, because the field was there already. */
static ALWAYS_INLINE bool field_note(struct schema_input *input, enum field field)
{
    if (UNLIKELY(schema_has(input, field))) {
        input->repeated |= FIELD_BIT(field);
        return false;
    }
    input->seen |= FIELD_BIT(field);
    return true;
}

static bool field_value_scan(struct element_reader *reader, enum field field, uint32_t position,
                             struct json_value *value)
{
    bool is_inner = field == FIELD_TAGS || field == FIELD_METADATA;
    /* A second one is refused anyway, and must not add its entries to those of the first. */
    bool is_first = is_inner && !schema_has(&reader->input, field);
    if (is_first && json_scan_byte(&reader->scan, position) == '{') {
        return inner_walk(reader, field, position, value);
    }
    return json_scan_value(&reader->scan, position, value);
}

/* Where the value of a member goes, if it counts. It is written there once: a copy would be read
 * back in one piece just after it was written in several, which stalls. */
static ALWAYS_INLINE struct json_value *value_place(struct schema_input *input, enum field field)
{
    bool is_asked_for = field < FIELD_COUNT && !schema_has(input, field);
    return &input->values[LIKELY(is_asked_for) ? field : FIELD_UNKNOWN];
}

/* Notes the key of a member whose value was filed; fills is_new. */
static ALWAYS_INLINE void member_note(struct element_reader *reader, struct member *m)
{
    struct schema_input *input = &reader->input;
    if (UNLIKELY(m->field >= FIELD_COUNT)) {
        bool is_otlp = m->field == FIELD_OTLP;
        input->is_otlp |= is_otlp;
        m->field = FIELD_UNKNOWN;
        /* What OTLP looks like is not for the memo, which knows fields only. */
        m->is_new = unknown_key_note(reader, m->key, m->key_has_escape) && !is_otlp;
        return;
    }
    m->is_new = field_note(input, m->field);
}

/* The member at *position, in any form that the grammar allows; *position becomes its end. */
static NOINLINE bool member_take_any(struct element_reader *reader, uint32_t *position,
                                     struct member *m)
{
    enum body_schema schema = reader->schema;
    if (UNLIKELY(!member_scan_key(&reader->scan, position, m))) {
        return false;
    }
    m->field = UNLIKELY(m->key_has_escape) ? field_find_escaped(schema, m->key)
                                           : field_find(schema, m->key);
    m->value = value_place(&reader->input, m->field);
    if (UNLIKELY(!field_value_scan(reader, m->field, *position, m->value))) {
        return false;
    }
    *position = m->value->end;
    member_note(reader, m);
    return true;
}

/* The plain member at the quotes ahead. Returns its end. */
static ALWAYS_INLINE uint32_t member_take_plain(struct element_reader *reader,
                                                enum body_schema schema, struct member *m)
{
    struct json_index *index = &reader->scan.index;
    const uint32_t *q = index->quotes + index->quote_at;
    uint32_t end = q[3] + 1;
    index->quote_at += 4;
    m->key = (struct slice){index->data + q[0] + 1, q[1] - q[0] - 1};
    m->key_has_escape = false;
    m->field = field_find(schema, m->key);
    m->value = value_place(&reader->input, m->field);
    *m->value = (struct json_value){q[2], end, JSON_STRING, false};
    member_note(reader, m);
    return end;
}

/* ---- by the memo ---- */

/* The value at position of a piece that does not end in a quote, or whose string may hold specials;
 * the quotes of the key are behind. */
static NOINLINE bool piece_value_scan(struct element_reader *reader, enum field field,
                                      uint32_t position, uint32_t *end)
{
    struct json_value *value = &reader->input.values[field];
    /* The record that taught the piece may have had less white space before its value. */
    position = json_scan_white(&reader->scan, position);
    if (UNLIKELY(!field_value_scan(reader, field, position, value))) {
        return false;
    }
    *end = value->end;
    return true;
}

/* The members from *position (the brace) on for as long as they look as remembered: taken of them.
 * *position becomes the end of the last. False: fault. */
static ALWAYS_INLINE bool pieces_walk(struct element_reader *reader, struct shape_memo *memo,
                                      uint32_t *position, uint32_t *taken)
{
    struct json_index *index = &reader->scan.index;
    uint32_t at = *position;
    uint32_t n = 0;
    UNROLL_PIECES
    for (; n < SHAPE_PIECES_MAX; n++) {
        const struct shape_piece *piece = &memo->pieces[n];
        if (n >= memo->count) {
            break;
        }
        if (UNLIKELY(json_index_ahead(index) < JSON_INDEX_AHEAD)) {
            json_index_refill(index, at);
        }
        if (UNLIKELY(!shape_piece_is_at(piece, index->data + at, index->bytes - at))) {
            break;
        }
        /* Then the next quotes are the piece's own. To look at the first costs 1 ns a record, and
         * would turn a mistake of the index into a fault instead of a wrong record. */
        const uint32_t *q = index->quotes + index->quote_at;
        if (UNLIKELY(q[0] != at + piece->key_at - 1)) {
            break;
        }
        memo->starts[n] = at;
        at += piece->bytes;
        uint32_t close = q[3];
        if (LIKELY(piece->is_string && close < index->special_next)) {
            index->quote_at += 4;
            reader->input.values[piece->field] =
                (struct json_value){at - 1, close + 1, JSON_STRING, false};
            at = close + 1;
            continue;
        }
        index->quote_at += 2;
        uint32_t end;
        if (UNLIKELY(!piece_value_scan(reader, piece->field, at - piece->is_string, &end))) {
            return false;
        }
        at = end;
    }
    if (LIKELY(n > 0)) {
        reader->input.seen = memo->pieces[n - 1].seen;
    }
    *position = at;
    *taken = n;
    return true;
}

/* The unknown keys that the memo vouched for, so that the members after them can be compared with
 * them. */
static void pieces_note_unknown(struct element_reader *reader, const struct shape_memo *memo,
                                uint32_t taken)
{
    for (uint32_t n = 0; n < taken; n++) {
        if (memo->pieces[n].field == FIELD_UNKNOWN) {
            unknown_key_note(reader, shape_memo_key(memo, n, reader->input.data), false);
        }
    }
}

/* Member number n, whose text begins at from, into the memo. False: it and what follows cannot be
 * there. (Keys with escapes neither: the memo takes no backslash.) */
static bool piece_learn(struct element_reader *reader, struct shape_memo *memo, uint32_t n,
                        uint32_t from, const struct member *m)
{
    bool is_string = m->value->kind == JSON_STRING;
    uint32_t bytes = m->value->start + is_string - from;
    return m->is_new &&
           shape_memo_learn(memo, n,
                            &(struct shape_member){.text = {reader->input.data + from, bytes},
                                                   .key = m->key,
                                                   .field = m->field,
                                                   .is_string = is_string});
}

/* ---- member by member ---- */

/* The object from position on, after its first taken members or at its brace. Teaches the memo. */
static ALWAYS_INLINE bool members_walk(struct element_reader *reader, enum body_schema schema,
                                       uint32_t taken, uint32_t position, uint32_t *end)
{
    struct json_scan *scan = &reader->scan;
    struct shape_memo *memo = &reader->shapes[schema - 1];
    bool is_learning = shape_memo_departs(memo, taken);
    uint32_t from = position;
    position += taken == 0;
    enum step step = taken == 0 ? object_enter(scan, &position) : object_step(scan, &position);
    /* Each turn takes a member, so at least four bytes. */
    while (step == STEP_MEMBER) {
        struct member m;
        if (UNLIKELY(json_index_ahead(&scan->index) < JSON_INDEX_AHEAD)) {
            json_index_refill(&scan->index, position);
        }
        if (LIKELY(member_is_plain(&scan->index, position))) {
            position = member_take_plain(reader, schema, &m);
        } else {
            /* A copy: position's own address is never taken, so it lives in a register. */
            uint32_t at = position;
            if (UNLIKELY(!member_take_any(reader, &at, &m))) {
                return false;
            }
            position = at;
        }
        is_learning = is_learning && piece_learn(reader, memo, taken++, from, &m);
        from = position;
        step = object_step(scan, &position);
    }
    *end = position;
    return step == STEP_CLOSED;
}

static NOINLINE bool log_walk(struct element_reader *reader, uint32_t taken, uint32_t position,
                              uint32_t *end)
{
    return members_walk(reader, SCHEMA_LOG, taken, position, end);
}

static NOINLINE bool metric_walk(struct element_reader *reader, uint32_t taken, uint32_t position,
                                 uint32_t *end)
{
    return members_walk(reader, SCHEMA_METRIC, taken, position, end);
}

static NOINLINE bool event_walk(struct element_reader *reader, uint32_t taken, uint32_t position,
                                uint32_t *end)
{
    return members_walk(reader, SCHEMA_EVENT, taken, position, end);
}

/* What the memo did not foresee. */
static NOINLINE bool object_walk_rest(struct element_reader *reader, uint32_t taken,
                                      uint32_t position, uint32_t *end)
{
    pieces_note_unknown(reader, &reader->shapes[reader->schema - 1], taken);
    switch (reader->schema) {
    case SCHEMA_LOG:
        return log_walk(reader, taken, position, end);
    case SCHEMA_METRIC:
        return metric_walk(reader, taken, position, end);
    case SCHEMA_EVENT:
        return event_walk(reader, taken, position, end);
    }
    return false;
}

/* The object whose opening brace is at position, into reader->input. */
static ALWAYS_INLINE bool object_walk(struct element_reader *reader, uint32_t position,
                                      uint32_t *end)
{
    struct schema_input *input = &reader->input;
    input->seen = 0;
    input->repeated = 0;
    input->is_otlp = false;
    input->has_too_many_keys = false;
    input->unknown_repeated_count = 0;
    input->inner.count = 0;
    key_set_reset(&reader->keys);
    reader->scan.depth = 1;
    uint32_t taken;
    if (UNLIKELY(!pieces_walk(reader, &reader->shapes[reader->schema - 1], &position, &taken))) {
        return false;
    }
    if (LIKELY(taken > 0 && json_scan_byte(&reader->scan, position) == '}')) {
        reader->shapes[reader->schema - 1].departures = 0;
        *end = position + 1;
        return true;
    }
    return object_walk_rest(reader, taken, position, end);
}

static void object_check(struct element_reader *reader, struct body_record *record,
                         struct issue_list *issues)
{
    record->event_time_ns = reader->input.default_time_ns;
    record->severity = 0;
    record->dedup_key = (struct slice){NULL, 0};
    switch (reader->schema) {
    case SCHEMA_LOG:
        schema_log_check(&reader->input, record, issues);
        return;
    case SCHEMA_METRIC:
        schema_metric_check(&reader->input, record, issues);
        return;
    case SCHEMA_EVENT:
        schema_event_check(&reader->input, record, issues);
        return;
    }
}

bool element_read(struct element_reader *reader, uint32_t *position, struct body_record *record,
                  struct issue_list *issues)
{
    uint32_t start = *position;
    const uint8_t *data = reader->input.data;
    if (LIKELY(json_scan_byte(&reader->scan, start) == '{')) {
        uint32_t end;
        if (UNLIKELY(!object_walk(reader, start, &end))) {
            return false;
        }
        /* Twice from registers: reading the first back in one piece would wait for its two stores.
         */
        size_t bytes = end - start;
        record->payload.data = data + start;
        record->payload.bytes = bytes;
        reader->input.payload.data = data + start;
        reader->input.payload.bytes = bytes;
        *position = end;
        object_check(reader, record, issues);
        return true;
    }
    struct json_value value;
    reader->scan.depth = 0;
    if (!json_scan_value(&reader->scan, start, &value)) {
        return false;
    }
    *position = value.end;
    issues->count = 1;
    issues->items[0] = (struct issue){.type = ISSUE_MODEL_TYPE,
                                      .index = reader->input.index,
                                      .input = {data + start, value.end - start}};
    return true;
}
