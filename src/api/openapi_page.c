/* openapi_page: GET /docs: the tables as one page of HTML. No script, nothing from outside. */
#include "api/openapi.h"

#include <string.h>

#include "api/openapi_table.h"

#define PAGE_HEAD                                                                                  \
    "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" "            \
    "content=\"width=device-width\"><title>Sluice " SLUICE_VERSION "</title><style>"               \
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"     \
    "color:#222;background:#fff}code,pre{font:14px/1.4 ui-monospace,monospace}pre{background:"     \
    "#f4f4f4;padding:.6rem;overflow-x:auto}summary{cursor:pointer;padding:.3rem 0}table{border-"   \
    "collapse:collapse;margin:.3rem 0}td,th{border:1px solid "                                     \
    "#ccc;padding:.15rem .5rem;text-align:left;vertical-align:top}b.m{display:inline-block;"       \
    "min-width:4rem}details{border-bottom:1px solid #ddd}@media(prefers-color-scheme:dark){body{"  \
    "color:#ddd;background:#181818}pre{background:#262626}a{color:#8bf}}</style>"                  \
    "<h1>Sluice " SLUICE_VERSION "</h1><p>The same for programs: <a "                              \
    "href=\"/openapi.json\">/openapi.json</a>. <code>HEAD</code> wherever <code>GET</code> is; "   \
    "errors are <a href=\"#s-Detail\">Detail</a> or <a href=\"#s-Issues\">Issues</a>.</p>"

static void put_escaped(struct buf *body, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        switch (text[i]) {
        case '<':
            buf_put_text(body, "&lt;");
            break;
        case '>':
            buf_put_text(body, "&gt;");
            break;
        case '&':
            buf_put_text(body, "&amp;");
            break;
        case '"':
            buf_put_text(body, "&quot;");
            break;
        default:
            buf_put_char(body, text[i]);
            break;
        }
    }
}

static void put_html(struct buf *body, const char *text)
{
    put_escaped(body, text, text == NULL ? 0 : strlen(text));
}

/* A type for people; the name of a schema leads to it. */
static void put_type(struct buf *body, const char *type)
{
    size_t bytes = strlen(type);
    bool has_null = type[bytes - 1] == '?';
    bool is_array = type[0] == '[';
    const char *name = type + (is_array || type[0] == '=' ? 1 : 0);
    size_t name_bytes = bytes - (size_t)(name - type) - (is_array || has_null ? 1 : 0);
    buf_put_text(body, is_array ? "array of " : "");
    bool is_schema = name[0] >= 'A' && name[0] <= 'Z' && type[0] != '=';
    if (is_schema) {
        buf_printf(body, "<a href=\"#s-%.*s\">", (int)name_bytes, name);
    }
    put_escaped(body, name, name_bytes);
    buf_put_text(body, is_schema ? "</a>" : "");
    buf_put_text(body, has_null ? " or null" : "");
}

static void put_fields(struct buf *body, const char *title, const struct openapi_field *fields)
{
    buf_printf(body, "<table><tr><th>%s<th>type<th>", title);
    for (; fields->name != NULL; fields++) { /* bound: the table's last row */
        buf_put_text(body, "<tr><td><code>");
        put_html(body, fields->name);
        buf_printf(body, "</code>%s<td>", fields->is_required ? " *" : "");
        put_type(body, fields->type);
        buf_put_text(body, "<td>");
        put_html(body, fields->what);
    }
    buf_put_text(body, "</table>");
}

static void put_answers(struct buf *body, const struct openapi_operation *operation)
{
    buf_put_text(body, "<table><tr><th>answer<th>body<th>");
    for (size_t i = 0; i < OPENAPI_ANSWERS_MAX && operation->answers[i].status != 0; i++) {
        const struct openapi_answer *answer = &operation->answers[i];
        buf_printf(body, "<tr><td>%u<td>", answer->status);
        if (answer->type != NULL) {
            put_type(body, answer->type);
        }
        buf_put_text(body, "<td>");
        put_html(body, answer->what);
    }
    buf_put_text(body, "</table>");
}

static const char *method_name(enum http_method method)
{
    return method == HTTP_GET ? "GET" : method == HTTP_PATCH ? "PATCH" : "POST";
}

static void put_path(struct buf *body, const char *path, const char *hole)
{
    const char *at = strstr(path, "{}");
    size_t before = at == NULL ? strlen(path) : (size_t)(at - path);
    put_escaped(body, path, before);
    if (at != NULL) {
        buf_put_char(body, '{');
        put_html(body, hole);
        buf_put_char(body, '}');
        put_html(body, at + 2);
    }
}

static void put_operation(struct buf *body, const struct route *route,
                          const struct openapi_operation *operation)
{
    buf_printf(body, "<details><summary><b class=m>%s</b> <code>", method_name(operation->method));
    put_path(body, route->path, operation->hole);
    buf_put_text(body, "</code> ");
    put_html(body, operation->what);
    buf_put_text(body, "</summary>");
    if (operation->parameters != NULL) {
        put_fields(body, "parameter", operation->parameters);
    }
    if (operation->body != NULL) {
        buf_put_text(body, "<p>Body: ");
        put_type(body, operation->body);
        buf_put_text(body, "</p>");
    }
    put_answers(body, operation);
    buf_put_text(body, "</details>");
}

static void put_route(struct buf *body, const struct route *route)
{
    size_t count = 0;
    const struct openapi_operation *all = openapi_operations(&count);
    for (size_t i = 0; i < count; i++) {
        if (all[i].route == route->id && route_serves(route, all[i].method)) {
            put_operation(body, route, &all[i]);
        }
    }
}

static void put_schema(struct buf *body, const struct openapi_schema *schema)
{
    buf_printf(body, "<h3 id=\"s-%s\">%s</h3><p>", schema->name, schema->name);
    put_html(body, schema->what);
    buf_put_text(body, "</p>");
    put_fields(body, "member", schema->fields);
    if (schema->example != NULL) {
        buf_put_text(body, "<pre>");
        put_html(body, schema->example);
        buf_put_text(body, "</pre>");
    }
}

void openapi_page_write(struct buf *body)
{
    size_t count = 0;
    const struct route *routes = route_table(&count);
    buf_put_text(body, PAGE_HEAD);
    buf_put_text(body, "<h2>Routes</h2>");
    for (size_t i = 0; i < count; i++) {
        put_route(body, &routes[i]);
    }
    buf_put_text(body, "<h2>Bodies</h2><p>* required</p>");
    const struct openapi_schema *schemas = openapi_schemas(&count);
    for (size_t i = 0; i < count; i++) {
        put_schema(body, &schemas[i]);
    }
    buf_put_text(body, "</html>\n");
}
