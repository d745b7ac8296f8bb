/*
 * run_schema: which fields each command has, and what they are. Private to run.c. Pure.
 */
#ifndef MODEL_RUN_SCHEMA_H
#define MODEL_RUN_SCHEMA_H

#include "core/base.h"
#include "model/run.h"

enum run_kind {
    RUN_KIND_TEXT = 1,
    RUN_KIND_EVENT_ID, /* 1..RUN_EVENT_ID_BYTES_MAX bytes */
    RUN_KIND_COUNT,    /* an integer of at least 0 */
    RUN_KIND_FLAG,
    RUN_KIND_OBJECT,
    RUN_KIND_STATUS,
    RUN_KIND_SOURCE, /* manual, llm, ci */
    RUN_KIND_HASH,   /* 7..40 hexadecimal digits */
};

/* What null says. */
enum run_null {
    RUN_NULL_REFUSED = 0,
    RUN_NULL_STORED,
    RUN_NULL_ABSENT, /* as if the field were not there */
    RUN_NULL_ZERO,
};

struct run_rule {
    enum run_kind kind;
    enum run_null null;
    bool is_required;
};

/* Bit (1 << enum run_field) of the fields that command has. */
uint64_t run_schema_fields(enum run_command command);
/* Of a field that the command has. */
struct run_rule run_schema_rule(enum run_command command, enum run_field field);
/* key has its escapes undone. RUN_FIELD_COUNT: the command has no such field. */
enum run_field run_schema_find(enum run_command command, struct slice key);

/* Longer than every name. */
#define RUN_SCHEMA_NAME_BYTES 24u

#endif
