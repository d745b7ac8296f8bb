#include "api/openapi.h"

#include <string.h>

#include "api/openapi_table.h"

static struct slice text_slice(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

static void put_text(struct buf *body, const char *text)
{
    buf_put_json_string(body, text_slice(text));
}

/* `"key":"text"` with what stands before it. */
static void put_member(struct buf *body, const char *before, const char *text)
{
    buf_put_text(body, before);
    put_text(body, text);
}

/* ---- types (openapi_table.h) ---- */

static void put_enumeration(struct buf *body, struct slice names, bool has_null)
{
    buf_put_text(body, "\"enum\":[");
    size_t from = 0;
    for (size_t i = 0; i <= names.bytes; i++) {
        if (i == names.bytes || names.data[i] == '|') {
            buf_put_text(body, from == 0 ? "" : ",");
            buf_put_json_string(body, (struct slice){names.data + from, i - from});
            from = i + 1;
        }
    }
    buf_put_text(body, has_null ? ",null]" : "]");
}

/* The members of a type that is no array. */
static void put_plain_type(struct buf *body, struct slice type)
{
    bool has_null = type.data[type.bytes - 1] == '?';
    type.bytes -= has_null ? 1 : 0;
    bool is_time = type.bytes == 4 && memcmp(type.data, "time", 4) == 0;
    if (type.data[0] == '=') {
        put_enumeration(body, (struct slice){type.data + 1, type.bytes - 1}, has_null);
    } else if (type.data[0] >= 'A' && type.data[0] <= 'Z') {
        ASSERT(!has_null);
        buf_printf(body, "\"$ref\":\"#/components/schemas/%.*s\"", (int)type.bytes,
                   (const char *)type.data);
    } else if (is_time) {
        buf_put_text(body, "\"type\":\"string\",\"format\":\"date-time\"");
    } else if (type.bytes != 3 || memcmp(type.data, "any", 3) != 0) {
        buf_printf(body, has_null ? "\"type\":[\"%.*s\",\"null\"]" : "\"type\":\"%.*s\"",
                   (int)type.bytes, (const char *)type.data);
    }
}

/* Its members, without braces; nothing at all for "any". */
static void put_type(struct buf *body, const char *type)
{
    struct slice text = text_slice(type);
    ASSERT(text.bytes != 0);
    if (text.data[0] != '[') {
        put_plain_type(body, text);
        return;
    }
    buf_put_text(body, "\"type\":\"array\",\"items\":{");
    put_plain_type(body, (struct slice){text.data + 1, text.bytes - 2});
    buf_put_char(body, '}');
}

/* {"type":...,"description":...} */
static void put_described(struct buf *body, const char *type, const char *what)
{
    buf_put_char(body, '{');
    size_t before = body->bytes;
    put_type(body, type);
    if (what != NULL) {
        put_member(body, body->bytes == before ? "\"description\":" : ",\"description\":", what);
    }
    buf_put_char(body, '}');
}

/* ---- schemas ---- */

static void put_required(struct buf *body, const struct openapi_field *fields)
{
    bool is_first = true;
    buf_put_text(body, ",\"required\":[");
    for (; fields->name != NULL; fields++) { /* bound: the table's last row */
        if (fields->is_required) {
            put_member(body, is_first ? "" : ",", fields->name);
            is_first = false;
        }
    }
    buf_put_char(body, ']');
}

static void put_schema(struct buf *body, const struct openapi_schema *schema)
{
    put_text(body, schema->name);
    put_member(body, ":{\"type\":\"object\",\"description\":", schema->what);
    buf_put_text(body, ",\"properties\":{");
    for (const struct openapi_field *field = schema->fields; field->name != NULL; field++) {
        put_member(body, field == schema->fields ? "" : ",", field->name);
        buf_put_char(body, ':');
        put_described(body, field->type, field->what);
    }
    buf_put_char(body, '}');
    put_required(body, schema->fields);
    buf_printf(body, ",\"additionalProperties\":%s", schema->is_open ? "true" : "false");
    if (schema->example != NULL) {
        buf_printf(body, ",\"examples\":[%s]", schema->example);
    }
    buf_put_char(body, '}');
}

/* ---- operations ---- */

static void put_parameters(struct buf *body, const struct openapi_operation *operation)
{
    bool is_first = true;
    buf_put_text(body, ",\"parameters\":[");
    if (operation->hole != NULL) {
        put_member(body,
                   "{\"in\":\"path\",\"required\":true,\"schema\":{\"type\":\"string\"},\"name\":",
                   operation->hole);
        buf_put_char(body, '}');
        is_first = false;
    }
    const struct openapi_field *field = operation->parameters;
    for (; field != NULL && field->name != NULL; field++) { /* bound: the table's last row */
        buf_printf(body, "%s{\"in\":\"query\",\"required\":%s", is_first ? "" : ",",
                   field->is_required ? "true" : "false");
        put_member(body, ",\"name\":", field->name);
        if (field->what != NULL) {
            put_member(body, ",\"description\":", field->what);
        }
        buf_put_text(body, ",\"schema\":{");
        put_type(body, field->type);
        buf_put_text(body, "}}");
        is_first = false;
    }
    buf_put_char(body, ']');
}

static void put_content(struct buf *body, const char *media, const char *type)
{
    put_member(body, "\"content\":{", media);
    buf_put_text(body, ":{\"schema\":{");
    put_type(body, type);
    buf_put_text(body, "}}}");
}

static void put_answers(struct buf *body, const struct openapi_operation *operation)
{
    buf_put_text(body, ",\"responses\":{");
    for (size_t i = 0; i < OPENAPI_ANSWERS_MAX && operation->answers[i].status != 0; i++) {
        const struct openapi_answer *answer = &operation->answers[i];
        buf_printf(body, "%s\"%u\":{\"description\":", i == 0 ? "" : ",", answer->status);
        put_text(body, answer->what);
        if (answer->type != NULL) {
            buf_put_char(body, ',');
            put_content(body, "application/json", answer->type);
        } else if (operation->media != NULL) {
            buf_put_char(body, ',');
            put_content(body, operation->media, "string");
        }
        buf_put_char(body, '}');
    }
    /* What any route may answer; see docs/API.md. */
    buf_put_text(body, ",\"401\":{\"$ref\":\"#/components/responses/Unauthorized\"},\"429\":{"
                       "\"$ref\":\"#/components/responses/TooMany\"}}");
}

static const char *method_name(enum http_method method)
{
    switch ((int)method) {
    case HTTP_GET:
        return "get";
    case HTTP_PATCH:
        return "patch";
    default:
        ASSERT(method == HTTP_POST);
        return "post";
    }
}

/* "post_api_v1_runs_event_id_events": for those who make names of functions of it. */
static void put_operation_id(struct buf *body, const struct route *route,
                             const struct openapi_operation *operation)
{
    buf_printf(body, ",\"operationId\":\"%s", method_name(operation->method));
    for (const char *c = route->path; *c != '\0'; c++) { /* bound: the path */
        bool is_letter = (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9');
        buf_put_char(body, is_letter ? *c : '_');
        if (*c == '{') {
            buf_put_text(body, operation->hole);
            c++;
        }
    }
    buf_put_char(body, '"');
}

static void put_operation(struct buf *body, const struct route *route,
                          const struct openapi_operation *operation)
{
    put_text(body, method_name(operation->method));
    put_member(body, ":{\"summary\":", operation->what);
    put_operation_id(body, route, operation);
    put_member(body, ",\"tags\":[", operation->tag);
    buf_put_char(body, ']');
    put_parameters(body, operation);
    if (operation->body != NULL) {
        buf_put_text(body, ",\"requestBody\":{\"required\":true,");
        put_content(body, "application/json", operation->body);
        buf_put_char(body, '}');
    }
    put_answers(body, operation);
    buf_put_char(body, '}');
}

/* "/v1/sinks/{}/drop" with the name of its hole in it. */
static void put_path(struct buf *body, const char *path, const char *hole)
{
    const char *at = strstr(path, "{}");
    if (at == NULL) {
        put_text(body, path);
        return;
    }
    ASSERT(hole != NULL);
    buf_printf(body, "\"%.*s{%s}%s\"", (int)(at - path), path, hole, at + 2);
}

static void put_route(struct buf *body, const struct route *route)
{
    size_t count = 0;
    bool is_first = true;
    const struct openapi_operation *all = openapi_operations(&count);
    for (size_t i = 0; i < count; i++) {
        if (all[i].route == route->id && route_serves(route, all[i].method)) {
            if (is_first) {
                put_path(body, route->path, all[i].hole);
                put_member(body, ":{\"description\":", route->summary);
            }
            buf_put_char(body, ',');
            put_operation(body, route, &all[i]);
            is_first = false;
        }
    }
    /* A route without a row would be no path, and the document no JSON: test_openapi.c asks. */
    buf_put_char(body, '}');
}

void openapi_write(struct buf *body)
{
    size_t count = 0;
    const struct route *routes = route_table(&count);
    buf_put_text(body, "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"Sluice\",\"version\":"
                       "\"" SLUICE_VERSION "\"},\"paths\":{");
    for (size_t i = 0; i < count; i++) {
        buf_put_text(body, i == 0 ? "" : ",");
        put_route(body, &routes[i]);
    }
    buf_put_text(body, "},\"components\":{\"schemas\":{");
    const struct openapi_schema *schemas = openapi_schemas(&count);
    for (size_t i = 0; i < count; i++) {
        buf_put_text(body, i == 0 ? "" : ",");
        put_schema(body, &schemas[i]);
    }
    buf_put_text(body,
                 "},\"responses\":{\"Unauthorized\":{\"description\":\"auth.enabled: a token is "
                 "needed\",");
    put_content(body, "application/json", "Detail");
    buf_put_text(body, "},\"TooMany\":{\"description\":\"rate limit or full queue; Retry-After\",");
    put_content(body, "application/json", "Detail");
    buf_put_text(body,
                 "}},\"securitySchemes\":{\"bearer\":{\"type\":\"http\",\"scheme\":\"bearer\"}}},"
                 "\"security\":[{},{\"bearer\":[]}]}");
}
