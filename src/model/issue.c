/*
 * issue: see issue.h. Pure. The words are pydantic's, because clients of the replaced services
 * match on them.
 */
#include "model/issue.h"

#define ISSUE_KEY_BYTES_MAX 128u

static const char *type_name(enum issue_type type)
{
    switch (type) {
    case ISSUE_MISSING:
        return "missing";
    case ISSUE_STRING_TYPE:
        return "string_type";
    case ISSUE_STRING_TOO_SHORT:
        return "string_too_short";
    case ISSUE_STRING_TOO_LONG:
        return "string_too_long";
    case ISSUE_FLOAT_TYPE:
        return "float_type";
    case ISSUE_FINITE_NUMBER:
        return "finite_number";
    case ISSUE_DICT_TYPE:
        return "dict_type";
    case ISSUE_MODEL_TYPE:
        return "model_attributes_type";
    case ISSUE_ENUM:
        return "enum";
    case ISSUE_DATETIME:
        return "datetime_from_date_parsing";
    case ISSUE_VALUE_ERROR:
        return "value_error";
    case ISSUE_JSON_INVALID:
        return "json_invalid";
    case ISSUE_INT_TYPE:
        return "int_type";
    case ISSUE_INT_PARSING:
        return "int_parsing";
    case ISSUE_INT_SIZE:
        return "int_parsing_size";
    case ISSUE_INT_FROM_FLOAT:
        return "int_from_float";
    case ISSUE_BOOL_TYPE:
        return "bool_type";
    case ISSUE_BOOL_PARSING:
        return "bool_parsing";
    case ISSUE_LITERAL:
        return "literal_error";
    case ISSUE_PATTERN:
        return "string_pattern_mismatch";
    case ISSUE_LIST_TYPE:
        return "list_type";
    }
    assert_failed("a known type", __FILE__, __LINE__);
}

/* The messages that are the same for every issue of their type; NULL for the others. */
static const char *fixed_message(enum issue_type type)
{
    switch (type) {
    case ISSUE_MISSING:
        return "Field required";
    case ISSUE_STRING_TYPE:
        return "Input should be a valid string";
    case ISSUE_FLOAT_TYPE:
        return "Input should be a valid number";
    case ISSUE_FINITE_NUMBER:
        return "Input should be a finite number";
    case ISSUE_DICT_TYPE:
        return "Input should be a valid dictionary";
    case ISSUE_MODEL_TYPE:
        return "Input should be a valid dictionary or object to extract fields from";
    case ISSUE_JSON_INVALID:
        return "JSON decode error";
    case ISSUE_INT_TYPE:
        return "Input should be a valid integer";
    case ISSUE_INT_PARSING:
        return "Input should be a valid integer, unable to parse string as an integer";
    case ISSUE_INT_SIZE:
        return "Unable to parse input string as an integer, exceeded maximum size";
    case ISSUE_INT_FROM_FLOAT:
        return "Input should be a valid integer, got a number with a fractional part";
    case ISSUE_BOOL_TYPE:
        return "Input should be a valid boolean";
    case ISSUE_BOOL_PARSING:
        return "Input should be a valid boolean, unable to interpret input";
    case ISSUE_LIST_TYPE:
        return "Input should be a valid list";
    case ISSUE_STRING_TOO_SHORT:
    case ISSUE_STRING_TOO_LONG:
    case ISSUE_ENUM:
    case ISSUE_DATETIME:
    case ISSUE_VALUE_ERROR:
    case ISSUE_LITERAL:
    case ISSUE_PATTERN:
        break;
    }
    return NULL;
}

static struct slice text_slice(const char *text)
{
    size_t bytes = 0;
    while (text[bytes] != '\0') {
        bytes++;
    }
    return (struct slice){(const uint8_t *)text, bytes};
}

/* A JSON string of pieces of trusted text, which hold little to escape. */
static void joined_write(struct buf *out, const char *prefix, const char *text, const char *suffix)
{
    char joined[256];
    struct buf piece;
    buf_init(&piece, joined, sizeof joined);
    buf_put_text(&piece, prefix);
    buf_put_text(&piece, text);
    buf_put_text(&piece, suffix);
    buf_put_json_string(out, (struct slice){piece.data, piece.bytes});
}

static void message_write(struct buf *out, const struct issue *issue)
{
    const char *text = issue->text != NULL ? issue->text : "";
    const char *fixed = fixed_message(issue->type);
    if (fixed != NULL) {
        buf_put_json_string(out, text_slice(fixed));
    } else if (issue->type == ISSUE_STRING_TOO_SHORT || issue->type == ISSUE_STRING_TOO_LONG) {
        buf_printf(out, "\"String should have at %s %u character%s\"",
                   issue->type == ISSUE_STRING_TOO_SHORT ? "least" : "most", issue->limit,
                   issue->limit == 1 ? "" : "s");
    } else if (issue->type == ISSUE_VALUE_ERROR) {
        joined_write(out, "Value error, ", text, "");
    } else if (issue->type == ISSUE_PATTERN) {
        joined_write(out, "String should match pattern '", text, "'");
    } else if (issue->type == ISSUE_DATETIME) {
        joined_write(out,
                     issue->text != NULL ? "Input should be a valid datetime, "
                                         : "Input should be a valid datetime",
                     text, "");
    } else {
        buf_put_json_string(out, text_slice(text));
    }
}

/* Raw bytes between the quotes of a validated string are a JSON string as they are. One that must
 * be cut is written as text, so that no escape is torn. */
static void key_write(struct buf *out, struct slice key)
{
    if (key.bytes > ISSUE_KEY_BYTES_MAX) {
        buf_put_json_string(out, (struct slice){key.data, ISSUE_KEY_BYTES_MAX});
        return;
    }
    buf_put_char(out, '"');
    buf_put_slice(out, key);
    buf_put_char(out, '"');
}

static void location_write(struct buf *out, const char *where, const struct issue *issue)
{
    buf_put_char(out, '[');
    buf_put_json_string(out, text_slice(where));
    if (issue->container != NULL) {
        buf_put_char(out, ',');
        buf_put_json_string(out, text_slice(issue->container));
    }
    if (issue->index != ISSUE_NO_INDEX) {
        buf_put_char(out, ',');
        buf_put_u64(out, issue->index);
    }
    if (issue->type == ISSUE_JSON_INVALID) {
        buf_put_char(out, ',');
        buf_put_u64(out, issue->offset);
    }
    if (issue->field != NULL) {
        buf_put_char(out, ',');
        buf_put_json_string(out, text_slice(issue->field));
    }
    if (issue->key != NULL) {
        buf_put_char(out, ',');
        buf_put_json_string(out, text_slice(issue->key));
    }
    /* A key may be the empty string: it is there when it points anywhere. */
    if (issue->subkey.data != NULL) {
        buf_put_char(out, ',');
        key_write(out, issue->subkey);
    }
    buf_put_char(out, ']');
}

/* The first bytes of an input that is too long, as a JSON string that ends in "...". A UTF-8
 * character must not be cut, or its first bytes would turn into U+FFFD. */
static void input_cut_write(struct buf *out, struct slice input)
{
    uint8_t cut[ISSUE_INPUT_BYTES_MAX + 3];
    size_t bytes = ISSUE_INPUT_BYTES_MAX;
    while (bytes > ISSUE_INPUT_BYTES_MAX - 4 && (input.data[bytes] & 0xc0) == 0x80) {
        bytes--;
    }
    struct buf text;
    buf_init(&text, cut, sizeof cut);
    buf_put(&text, input.data, bytes);
    buf_put_text(&text, "...");
    buf_put_json_string(out, (struct slice){cut, text.bytes});
}

void issue_write(struct buf *out, const char *where, const struct issue *issue)
{
    buf_put_text(out, "{\"type\":\"");
    buf_put_text(out, type_name(issue->type));
    buf_put_text(out, "\",\"loc\":");
    location_write(out, where, issue);
    buf_put_text(out, ",\"msg\":");
    message_write(out, issue);
    if (issue->type == ISSUE_JSON_INVALID) {
        buf_put_text(out, ",\"input\":{},\"ctx\":{\"error\":");
        buf_put_json_string(out, text_slice(issue->text != NULL ? issue->text : ""));
        buf_put_char(out, '}');
    } else if (issue->input.bytes > ISSUE_INPUT_BYTES_MAX) {
        buf_put_text(out, ",\"input\":");
        input_cut_write(out, issue->input);
    } else if (issue->input.bytes > 0) {
        buf_put_text(out, ",\"input\":");
        buf_put_slice(out, issue->input);
    }
    buf_put_char(out, '}');
}

void issue_list_write(struct buf *out, const char *where, const struct issue_list *list)
{
    buf_put_char(out, '[');
    for (uint32_t i = 0; i < list->count; i++) {
        if (i > 0) {
            buf_put_char(out, ',');
        }
        issue_write(out, where, &list->items[i]);
    }
    buf_put_char(out, ']');
}
