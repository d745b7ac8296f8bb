/* route: which request means what: literals, patterns with one segment, methods and who may. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/route.h"

/* From a block of exactly its size, so that a read beside it is caught. */
static const struct route *find(const char *path, char *parameter, size_t room)
{
    size_t bytes = strlen(path);
    uint8_t *copy = malloc(bytes == 0 ? 1 : bytes);
    assert_non_null(copy);
    memcpy(copy, path, bytes);
    const struct route *route = route_find((struct slice){copy, bytes});
    if (route != NULL && parameter != NULL) {
        struct slice segment = route_parameter(route, (struct slice){copy, bytes});
        (void)snprintf(parameter, room, "%.*s", (int)segment.bytes, (const char *)segment.data);
    }
    free(copy);
    return route;
}

static void assert_route(const char *path, enum route_id id, const char *parameter)
{
    char got[128] = "";
    const struct route *route = find(path, got, sizeof got);
    if (route == NULL || route->id != id || strcmp(got, parameter) != 0) {
        fail_msg("%s: got route %d, '%s'", path, route == NULL ? 0 : (int)route->id, got);
    }
}

static void every_route_is_found_by_its_own_path(void **state)
{
    (void)state;
    size_t count = 0;
    const struct route *table = route_table(&count);
    for (size_t i = 0; i < count; i++) {
        char path[128];
        const char *hole = strstr(table[i].path, "{}");
        int before = hole == NULL ? (int)strlen(table[i].path) : (int)(hole - table[i].path);
        (void)snprintf(path, sizeof path, "%.*s%s%s", before, table[i].path,
                       hole == NULL ? "" : "17", hole == NULL ? "" : hole + 2);
        assert_route(path, table[i].id, hole == NULL ? "" : "17");
    }
}

static void a_segment_is_taken_as_it_came(void **state)
{
    (void)state;
    assert_route("/v1/quarantine/17", ROUTE_QUARANTINE_ITEM, "17");
    assert_route("/v1/quarantine/17/requeue", ROUTE_QUARANTINE_REQUEUE, "17");
    assert_route("/v1/quarantine/17/drop", ROUTE_QUARANTINE_DROP, "17");
    assert_route("/v1/sinks/a-1/resume", ROUTE_SINK_RESUME, "a-1");
    assert_route("/v1/sinks/a%2Fb/drop", ROUTE_SINK_DROP, "a%2Fb");
    assert_route("/v1/sinks/%/requeue", ROUTE_SINK_REQUEUE, "%");
    assert_route("/v1/sinks/drop/drop", ROUTE_SINK_DROP, "drop");
    assert_route("/v1/quarantine/..", ROUTE_QUARANTINE_ITEM, "..");
    assert_route("/v1/quarantine/requeue", ROUTE_QUARANTINE_ITEM, "requeue");
    assert_route("/v1/quarantine/{}", ROUTE_QUARANTINE_ITEM, "{}");
}

static void a_segment_is_one_and_not_empty(void **state)
{
    (void)state;
    static const char *const none[] = {
        "",
        "/",
        "/v1/quarantine/",
        "/v1/quarantine//",
        "/v1/quarantine//requeue",
        "/v1/quarantine/1/",
        "/v1/quarantine/1/2",
        "/v1/quarantine/1/requeue/",
        "/v1/quarantine/1/2/requeue",
        "/v1/quarantine/1/Requeue",
        "/v1/quarantine1",
        "/v1/sinks/",
        "/v1/sinks/a",
        "/v1/sinks//drop",
        "/v1/sinks/drop",
        "/v1/sinks/a/b/drop",
        "/v1/sinks/a%2fdrop",
        "/V1/sinks/a/drop",
        "/v1/logs/",
        "/v1/logs/1",
    };
    for (size_t i = 0; i < ARRAY_COUNT(none); i++) {
        if (find(none[i], NULL, 0) != NULL) {
            fail_msg("%s is a route", none[i]);
        }
    }
}

static void every_cut_of_a_path_is_judged_within_its_end(void **state)
{
    (void)state;
    static const char path[] = "/v1/quarantine/18446744073709551616/requeue";
    for (size_t bytes = 0; bytes < sizeof path; bytes++) {
        char cut[sizeof path];
        memcpy(cut, path, bytes);
        cut[bytes] = 0;
        (void)find(cut, NULL, 0);
    }
}

static void allow_names_what_is_served(void **state)
{
    (void)state;
    static const struct {
        enum http_method method;
        const char *name;
    } methods[] = {{HTTP_GET, "GET"}, {HTTP_HEAD, "HEAD"},   {HTTP_POST, "POST"},
                   {HTTP_PUT, "PUT"}, {HTTP_PATCH, "PATCH"}, {HTTP_DELETE, "DELETE"}};
    size_t count = 0;
    const struct route *table = route_table(&count);
    for (size_t i = 0; i < count; i++) {
        assert_non_null(strstr(table[i].allow, "OPTIONS"));
        struct slice path = {(const uint8_t *)table[i].path, strlen(table[i].path)};
        for (size_t m = 0; m < ARRAY_COUNT(methods); m++) {
            bool is_named = strstr(table[i].allow, methods[m].name) != NULL;
            const struct route *route = route_for(path, methods[m].method);
            assert_int_equal(is_named, route_serves(route, methods[m].method));
        }
        assert_int_equal(route_serves(&table[i], HTTP_GET), route_serves(&table[i], HTTP_HEAD));
    }
}

static void a_literal_takes_only_the_methods_that_it_serves(void **state)
{
    (void)state;
    struct slice batch = SLICE_LITERAL("/api/v1/runs/batch");
    assert_int_equal(route_for(batch, HTTP_POST)->id, ROUTE_RUNS_BATCH);
    assert_int_equal(route_for(batch, HTTP_GET)->id, ROUTE_RUN);
    assert_int_equal(route_for(batch, HTTP_HEAD)->id, ROUTE_RUN);
    assert_int_equal(route_for(batch, HTTP_PATCH)->id, ROUTE_RUN);
    assert_true(
        slice_equal(route_parameter(route_for(batch, HTTP_GET), batch), SLICE_LITERAL("batch")));
    assert_int_equal(route_for(batch, HTTP_DELETE)->id, ROUTE_RUNS_BATCH); /* served by none */
    assert_int_equal(route_for(SLICE_LITERAL("/api/v1/runs/batch/events"), HTTP_POST)->id,
                     ROUTE_RUN_EVENTS);
    assert_int_equal(route_for(SLICE_LITERAL("/v1/logs"), HTTP_PATCH)->id, ROUTE_LOGS);
    assert_null(route_for(SLICE_LITERAL("/v1/none"), HTTP_GET));
}

static void only_what_changes_something_is_an_order(void **state)
{
    (void)state;
    assert_true(route_is_order(find("/v1/sinks/a/drop", NULL, 0), HTTP_POST));
    assert_true(route_is_order(find("/v1/quarantine/1/requeue", NULL, 0), HTTP_POST));
    assert_false(route_is_order(find("/v1/quarantine/1", NULL, 0), HTTP_GET));
    assert_false(route_is_order(find("/v1/sinks", NULL, 0), HTTP_HEAD));
    assert_false(route_is_order(find("/v1/logs", NULL, 0), HTTP_POST));
    assert_true(route_is_quarantine(find("/v1/sinks/a/resume", NULL, 0)));
    assert_false(route_is_quarantine(find("/v1/sinks", NULL, 0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_is_found_by_its_own_path),
        cmocka_unit_test(a_segment_is_taken_as_it_came),
        cmocka_unit_test(a_segment_is_one_and_not_empty),
        cmocka_unit_test(every_cut_of_a_path_is_judged_within_its_end),
        cmocka_unit_test(allow_names_what_is_served),
        cmocka_unit_test(a_literal_takes_only_the_methods_that_it_serves),
        cmocka_unit_test(only_what_changes_something_is_an_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
