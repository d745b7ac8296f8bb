/*
 * issue: what is wrong with an input, in pydantic's terms (api.md §0), rendered as FastAPI does.
 * Pure.
 */
#ifndef MODEL_ISSUE_H
#define MODEL_ISSUE_H

#include "core/base.h"
#include "core/buf.h"

enum issue_type {
    ISSUE_MISSING = 1,      /* "missing", "Field required"; input is the whole object */
    ISSUE_STRING_TYPE,      /* "string_type", "Input should be a valid string" */
    ISSUE_STRING_TOO_SHORT, /* "string_too_short", "String should have at least N character(s)" */
    ISSUE_STRING_TOO_LONG,  /* "string_too_long", "String should have at most N character(s)" */
    ISSUE_FLOAT_TYPE,       /* "float_type", "Input should be a valid number" */
    ISSUE_FINITE_NUMBER,    /* "finite_number", "Input should be a finite number" */
    ISSUE_DICT_TYPE,        /* "dict_type", "Input should be a valid dictionary" */
    ISSUE_MODEL_TYPE,   /* "model_attributes_type", "Input should be a valid dictionary or object to
                           extract fields from" */
    ISSUE_ENUM,         /* "enum", "Input should be 'a', 'b' or 'c'" (message in text) */
    ISSUE_DATETIME,     /* "datetime_from_date_parsing", text says what RFC 3339 part is wrong */
    ISSUE_VALUE_ERROR,  /* "value_error", "Value error, <text>" */
    ISSUE_JSON_INVALID, /* "json_invalid", loc ["body", offset], "JSON decode error", ctx.error =
                           text */
    ISSUE_INT_TYPE,     /* "int_type", "Input should be a valid integer" */
    ISSUE_INT_PARSING,  /* "int_parsing", "..., unable to parse string as an integer" */
    ISSUE_INT_SIZE,     /* "int_parsing_size", "Unable to parse input string as an integer, exceeded
                       maximum size" */
    ISSUE_INT_FROM_FLOAT, /* "int_from_float", "..., got a number with a fractional part" */
    ISSUE_BOOL_TYPE,      /* "bool_type", "Input should be a valid boolean" */
    ISSUE_BOOL_PARSING,   /* "bool_parsing", "..., unable to interpret input" */
    ISSUE_LITERAL,        /* "literal_error", "Input should be 'a', 'b' or 'c'" (message in text) */
    ISSUE_PATTERN,        /* "string_pattern_mismatch", "String should match pattern '<text>'" */
    ISSUE_LIST_TYPE,      /* "list_type", "Input should be a valid list" */
};

#define ISSUE_NO_INDEX UINT32_MAX

struct issue {
    enum issue_type type;
    uint32_t index; /* element of an array or NDJSON body; ISSUE_NO_INDEX for a single object */
    uint32_t limit; /* N of the string limits */
    const char *container; /* static; NULL. The key of the array that index counts in:
                              ["body","runs",0,"event_id"] */
    const char *field;     /* static text; NULL: the element itself */
    const char *key; /* static; NULL. For an entry of an object field, e.g. ["body","tags","host"]:
                        subkey */
    struct slice subkey;
    const char *text; /* static; NULL where the type has a fixed message */
    uint64_t offset;  /* JSON_INVALID: byte offset in the body */
    struct slice
        input; /* raw JSON of the offending value; empty: left out. Over ISSUE_INPUT_BYTES_MAX it is
                * cut and given as a JSON string ending in "..." */
};

#define ISSUE_INPUT_BYTES_MAX 512u
#define ISSUES_PER_RECORD_MAX 8u

struct issue_list {
    struct issue items[ISSUES_PER_RECORD_MAX];
    uint32_t count;
};

/* One {"type","loc","msg","input"} object. where is the first element of loc: "body" or "query". */
void issue_write(struct buf *out, const char *where, const struct issue *issue);
/* [issue, issue, ...] */
void issue_list_write(struct buf *out, const char *where, const struct issue_list *list);

#endif
