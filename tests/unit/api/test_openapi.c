/* openapi: the description says what the route table serves, all of it and nothing else; it is JSON, its references lead somewhere, and its
 * examples are what their schemas say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/openapi.h"
#include "api/openapi_table.h"
#include "model/json_scan.h"

static char document[OPENAPI_BYTES_MAX + 1];
static char page[OPENAPI_BYTES_MAX + 1];

static int make_both(void **state)
{
    (void)state;
    struct buf body;
    buf_init(&body, document, OPENAPI_BYTES_MAX);
    openapi_write(&body);
    assert_false(body.is_truncated);
    document[body.bytes] = '\0';
    buf_init(&body, page, OPENAPI_BYTES_MAX);
    openapi_page_write(&body);
    assert_false(body.is_truncated);
    page[body.bytes] = '\0';
    return 0;
}

static const struct route *route_of(enum route_id id)
{
    size_t count = 0;
    const struct route *routes = route_table(&count);
    for (size_t i = 0; i < count; i++) {
        if (routes[i].id == id) {
            return &routes[i];
        }
    }
    return NULL;
}

static unsigned operations_of(enum route_id id, enum http_method method)
{
    size_t count = 0;
    unsigned found = 0;
    const struct openapi_operation *all = openapi_operations(&count);
    for (size_t i = 0; i < count; i++) {
        found += all[i].route == id && all[i].method == method ? 1u : 0u;
    }
    return found;
}

static void every_row_of_the_route_table_is_described_once_per_method(void **state)
{
    (void)state;
    size_t count = 0;
    const struct route *routes = route_table(&count);
    static const enum http_method methods[] = {HTTP_GET, HTTP_POST, HTTP_PUT, HTTP_PATCH,
                                               HTTP_DELETE};
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < ARRAY_COUNT(methods); k++) {
            unsigned wanted = route_serves(&routes[i], methods[k]) ? 1 : 0;
            unsigned got = operations_of(routes[i].id, methods[k]);
            if (got != wanted) {
                fail_msg("%s, method %d: described %u times, expected %u (openapi_table.c)",
                         routes[i].path, (int)methods[k], got, wanted);
            }
        }
    }
}

static void every_path_is_in_both_with_a_name_for_its_segment(void **state)
{
    (void)state;
    size_t count = 0;
    const struct openapi_operation *all = openapi_operations(&count);
    for (size_t i = 0; i < count; i++) {
        char path[256];
        char key[300];
        const struct route *route = route_of(all[i].route);
        assert_non_null(route);
        const char *hole = strstr(route->path, "{}");
        assert_true((hole != NULL) == (all[i].hole != NULL));
        int before = hole == NULL ? (int)strlen(route->path) : (int)(hole - route->path);
        (void)snprintf(path, sizeof path, "%.*s%s%s%s%s", before, route->path,
                       hole == NULL ? "" : "{", hole == NULL ? "" : all[i].hole,
                       hole == NULL ? "" : "}", hole == NULL ? "" : hole + 2);
        (void)snprintf(key, sizeof key, "\"%s\":{\"description\":", path);
        if (strstr(document, key) == NULL) {
            fail_msg("%s is not in the document", path);
        }
        (void)snprintf(key, sizeof key, "<code>%s</code>", path);
        if (strstr(page, key) == NULL) {
            fail_msg("%s is not on the page", path);
        }
        if (all[i].hole != NULL) {
            (void)snprintf(key, sizeof key, "\"name\":\"%s\"", all[i].hole);
            assert_non_null(strstr(document, key));
        }
    }
}

static void the_document_is_one_strict_json_text(void **state)
{
    (void)state;
    uint64_t offset = 0;
    const char *why = NULL;
    size_t bytes = strlen(document);
    if (json_validate((const uint8_t *)document, bytes, &offset, &why) != 0) {
        fail_msg("at %llu: %s: %.60s", (unsigned long long)offset, why, document + offset);
    }
    assert_in_range(bytes, 20000, OPENAPI_BYTES_MAX / 2);
}

static bool has_schema(const char *name, size_t bytes)
{
    size_t count = 0;
    const struct openapi_schema *schemas = openapi_schemas(&count);
    for (size_t i = 0; i < count; i++) {
        if (strlen(schemas[i].name) == bytes && memcmp(schemas[i].name, name, bytes) == 0) {
            return true;
        }
    }
    return false;
}

static void every_reference_leads_somewhere(void **state)
{
    (void)state;
    static const char mark[] = "\"$ref\":\"#/components/";
    unsigned found = 0;
    for (const char *at = strstr(document, mark); at != NULL; at = strstr(at + 1, mark)) {
        const char *name = at + strlen(mark);
        const char *slash = strchr(name, '/');
        size_t bytes = strcspn(slash + 1, "\"");
        bool is_schema = strncmp(name, "schemas/", 8) == 0;
        bool is_good = is_schema ? has_schema(slash + 1, bytes)
                                 : strncmp(slash + 1, "Unauthorized", bytes) == 0 ||
                                       strncmp(slash + 1, "TooMany", bytes) == 0;
        if (!is_good) {
            fail_msg("%.60s leads nowhere", name);
        }
        found++;
    }
    assert_true(found > 100);
    for (const char *at = strstr(page, "href=\"#s-"); at != NULL;
         at = strstr(at + 1, "href=\"#s-")) {
        char id[128];
        (void)snprintf(id, sizeof id, "id=\"%.*s\"", (int)strcspn(at + 7, "\""), at + 7);
        if (strstr(page, id) == NULL) {
            fail_msg("%s is not on the page", id);
        }
    }
}

static void no_name_is_there_twice(void **state)
{
    (void)state;
    size_t count = 0;
    const struct openapi_schema *schemas = openapi_schemas(&count);
    for (size_t i = 0; i < count; i++) {
        for (size_t k = i + 1; k < count; k++) {
            assert_string_not_equal(schemas[i].name, schemas[k].name);
        }
        for (const struct openapi_field *one = schemas[i].fields; one->name != NULL; one++) {
            for (const struct openapi_field *other = one + 1; other->name != NULL; other++) {
                assert_string_not_equal(one->name, other->name);
            }
        }
    }
}

static const struct openapi_field *field_of(const struct openapi_schema *schema, const char *name,
                                            size_t bytes)
{
    for (const struct openapi_field *field = schema->fields; field->name != NULL; field++) {
        if (strlen(field->name) == bytes && memcmp(field->name, name, bytes) == 0) {
            return field;
        }
    }
    return NULL;
}

/* Top-level keys of an example, which has no escapes in them. */
static void assert_example(const struct openapi_schema *schema)
{
    const char *text = schema->example;
    uint64_t offset = 0;
    const char *why = NULL;
    int depth = 0;
    if (json_validate((const uint8_t *)text, strlen(text), &offset, &why) != 0) {
        fail_msg("%s: at %llu: %s", schema->name, (unsigned long long)offset, why);
    }
    for (const char *c = text; *c != '\0'; c++) {
        depth += *c == '{' || *c == '[' ? 1 : *c == '}' || *c == ']' ? -1 : 0;
        if (*c == '"') {
            size_t bytes = strcspn(c + 1, "\"");
            if (depth == 1 && c[bytes + 2] == ':' && field_of(schema, c + 1, bytes) == NULL) {
                fail_msg("%s: the example has %.*s, the schema has not", schema->name, (int)bytes,
                         c + 1);
            }
            c += bytes + 1;
        }
    }
    for (const struct openapi_field *field = schema->fields; field->name != NULL; field++) {
        char key[128];
        (void)snprintf(key, sizeof key, "\"%s\":", field->name);
        if (field->is_required && strstr(text, key) == NULL) {
            fail_msg("%s: the example lacks %s", schema->name, field->name);
        }
    }
}

static void examples_are_what_their_schemas_say(void **state)
{
    (void)state;
    size_t count = 0;
    const struct openapi_schema *schemas = openapi_schemas(&count);
    for (size_t i = 0; i < count; i++) {
        if (schemas[i].example != NULL) {
            assert_example(&schemas[i]);
            assert_non_null(strstr(document, schemas[i].example));
        }
    }
}

static void every_body_and_every_error_is_described(void **state)
{
    (void)state;
    size_t count = 0;
    const struct openapi_operation *all = openapi_operations(&count);
    for (size_t i = 0; i < count; i++) {
        const struct route *route = route_of(all[i].route);
        assert_true(route_serves(route, all[i].method));
        assert_true(all[i].answers[0].status != 0);
        if (all[i].method == HTTP_PATCH || route_is_ingest(route, all[i].method)) {
            assert_non_null(all[i].body);
        }
        for (size_t k = 0; k < OPENAPI_ANSWERS_MAX && all[i].answers[k].status != 0; k++) {
            assert_non_null(all[i].answers[k].what);
            assert_true(all[i].answers[k].status < 400 || all[i].answers[k].type != NULL);
        }
    }
}

static void the_page_needs_nothing_from_outside(void **state)
{
    (void)state;
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "http://"));
    assert_null(strstr(page, "https://cdn"));
    assert_null(strstr(page, "src="));
    assert_null(strstr(page, "@import"));
    assert_null(strstr(page, "url("));
    assert_non_null(strstr(page, "</html>"));
}

static void what_does_not_fit_is_cut_and_says_so(void **state)
{
    (void)state;
    for (size_t room = 0; room < 4096; room += 97) {
        char *memory = malloc(room + 1);
        struct buf body;
        assert_non_null(memory);
        buf_init(&body, memory, room);
        openapi_write(&body);
        assert_true(body.is_truncated);
        buf_init(&body, memory, room);
        openapi_page_write(&body);
        assert_true(body.is_truncated);
        free(memory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_of_the_route_table_is_described_once_per_method),
        cmocka_unit_test(every_path_is_in_both_with_a_name_for_its_segment),
        cmocka_unit_test(the_document_is_one_strict_json_text),
        cmocka_unit_test(every_reference_leads_somewhere),
        cmocka_unit_test(no_name_is_there_twice),
        cmocka_unit_test(examples_are_what_their_schemas_say),
        cmocka_unit_test(every_body_and_every_error_is_described),
        cmocka_unit_test(the_page_needs_nothing_from_outside),
        cmocka_unit_test(what_does_not_fit_is_cut_and_says_so),
    };
    return cmocka_run_group_tests(tests, make_both, NULL);
}
