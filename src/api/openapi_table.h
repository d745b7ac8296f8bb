/*
 * openapi_table: what the description of the API says beyond the route table: for each route and method its parameters, body and
 * answers; and the schemas they name. Constants only. test_openapi.c checks it against the route table, both ways.
 *
 * TYPES are texts: "string", "integer", "number", "boolean", "object", "any", "time" (RFC 3339), "=a|b" (one of them), "Name" (a
 * schema), "[type]" (an array); a "?" behind it: or null.
 */
#ifndef API_OPENAPI_TABLE_H
#define API_OPENAPI_TABLE_H

#include "api/route.h"

struct openapi_field {
    const char *name;
    const char *type;
    const char *what;
    bool is_required;
};

struct openapi_schema {
    const char *name;
    const char *what;
    const struct openapi_field *fields; /* ends with a NULL name */
    const char *example;                /* JSON; NULL: none */
    bool is_open; /* other members are taken (and kept, or ignored: what says so) */
};

struct openapi_answer {
    unsigned status;  /* 0: the list has ended */
    const char *type; /* NULL: no JSON body */
    const char *what;
};
#define OPENAPI_ANSWERS_MAX 6

struct openapi_operation {
    enum route_id route;
    enum http_method method;
    const char *tag;
    const char *what;
    const struct openapi_field *parameters; /* of the query; ends with a NULL name; NULL: none */
    const char *hole;                       /* name of the "{}" in the path; NULL: there is none */
    const char *body;                       /* type; NULL: none */
    const char *media;                      /* of what is answered instead of JSON; NULL: JSON */
    struct openapi_answer answers[OPENAPI_ANSWERS_MAX];
};

const struct openapi_operation *openapi_operations(size_t *count);
const struct openapi_schema *openapi_schemas(size_t *count);

#endif
