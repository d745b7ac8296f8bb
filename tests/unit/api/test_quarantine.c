/* quarantine: what paths and query strings ask for, and how the forwarder's answers become statuses and bodies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/quarantine.h"
#include "model/json_scan.h"

/* The seam that the composition fills: it notes what was asked and answers what the test says. */
static struct {
    int result;        /* of every call */
    const char *text;  /* of err, or of show */
    unsigned items;    /* of a list, ids 1..items */
    size_t item_bytes; /* each about so large */
    unsigned calls;    /* so far */
    unsigned limits[32];
    enum upstream_order order;
    char sink[64];
    uint64_t id, after;
} seam;

static void note(struct slice sink, uint64_t id, struct err *err)
{
    (void)snprintf(seam.sink, sizeof seam.sink, "%.*s", (int)sink.bytes,
                   sink.bytes == 0 ? "" : (const char *)sink.data);
    seam.id = id;
    if (seam.result < 0 && seam.text != NULL) {
        (void)err_set(err, seam.result, "%s", seam.text);
    }
}

static void seam_sink(void *context, unsigned i, struct upstream_sink *sink)
{
    (void)context;
    assert_int_equal(i, 0);
    *sink = (struct upstream_sink){.name = "archive"};
}

static void put_payload(struct buf *out)
{
    static char some[65536];
    memset(some, 'x', sizeof some);
    for (size_t left = seam.item_bytes; left > 0 && !out->is_truncated;) {
        size_t bytes = left < sizeof some ? left : sizeof some;
        buf_put(out, some, bytes);
        left -= bytes;
    }
}

static int seam_list(void *context, struct slice sink, uint64_t after, unsigned limit,
                     struct buf *out, struct err *err)
{
    (void)context;
    note(sink, 0, err);
    seam.after = after;
    seam.limits[seam.calls++ % ARRAY_COUNT(seam.limits)] = limit;
    buf_put_text(out, "{\"data\":[");
    uint64_t id = after;
    for (unsigned n = 0; n < limit && id < seam.items; n++) {
        id++;
        buf_printf(out, "%s{\"id\":%llu,\"record\":\"", n == 0 ? "" : ",", (unsigned long long)id);
        put_payload(out);
        buf_put_text(out, "\"}");
    }
    buf_put_text(out, "],\"next_cursor\":");
    buf_printf(out, id < seam.items ? "%llu}" : "null}", (unsigned long long)id);
    return seam.result;
}

static int seam_show(void *context, uint64_t id, struct buf *out, struct err *err)
{
    (void)context;
    note((struct slice){0}, id, err);
    seam.calls++;
    if (seam.result == 1) {
        buf_put_text(out, "{\"record\":\"");
        put_payload(out);
        buf_put_text(out, "\"}");
    }
    return seam.result;
}

static int seam_order(void *context, enum upstream_order order, struct slice sink, uint64_t id,
                      struct err *err)
{
    (void)context;
    note(sink, id, err);
    seam.order = order;
    seam.calls++;
    return seam.result;
}

static const struct upstream upstream = {.sink_count = 1,
                                         .sink = seam_sink,
                                         .quarantine_list = seam_list,
                                         .quarantine_show = seam_show,
                                         .order = seam_order};

static uint8_t fault_memory[QUARANTINE_FAULT_BYTES];
static char fault_text[QUARANTINE_FAULT_BYTES + 1];

static struct slice slice_of(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

static unsigned read_of(struct query_call *call, const struct upstream *of, const char *path,
                        const char *query)
{
    struct buf fault;
    uint64_t offset;
    const char *why;
    const struct route *route = route_find(slice_of(path));
    assert_non_null(route);
    buf_init(&fault, fault_memory, sizeof fault_memory);
    unsigned status =
        quarantine_read_request(call, of, route, slice_of(path), slice_of(query), &fault);
    memcpy(fault_text, fault.data, fault.bytes);
    fault_text[fault.bytes] = 0;
    if (status != 0) {
        assert_false(fault.is_truncated);
        assert_int_equal(json_validate(fault.data, fault.bytes, &offset, &why), 0);
    }
    return status;
}

/* The whole way, as text. */
static char body[4 * 1024 * 1024];

static unsigned ask(const char *path, const char *query)
{
    struct query_call call;
    struct query_text out = {0};
    uint64_t offset;
    const char *why;
    unsigned status = read_of(&call, &upstream, path, query);
    if (status != 0) {
        (void)snprintf(body, sizeof body, "%s", fault_text);
        return status;
    }
    status = call.answer(&call, &out);
    assert_int_equal(json_validate(out.data, out.bytes, &offset, &why), 0);
    assert_true(out.bytes < sizeof body);
    memcpy(body, out.data, out.bytes);
    body[out.bytes] = 0;
    query_text_free(&out);
    return status;
}

static int set_up(void **state)
{
    (void)state;
    memset(&seam, 0, sizeof seam);
    return 0;
}

/* ---- what is asked for ---- */

static void without_sinks_there_is_nothing_here(void **state)
{
    (void)state;
    static const struct upstream pollers_only = {.poller_count = 1};
    static const char *const paths[] = {"/v1/quarantine", "/v1/quarantine/1",
                                        "/v1/quarantine/1/drop", "/v1/sinks/a/resume"};
    struct query_call call;
    for (size_t i = 0; i < ARRAY_COUNT(paths); i++) {
        assert_int_equal(read_of(&call, NULL, paths[i], ""), 404);
        assert_int_equal(read_of(&call, &pollers_only, paths[i], ""), 404);
        assert_string_equal(fault_text, "{\"detail\":\"No sinks are configured\"}");
    }
}

static void a_list_takes_sink_limit_and_cursor(void **state)
{
    (void)state;
    struct query_call call;
    assert_int_equal(read_of(&call, &upstream, "/v1/quarantine", ""), 0);
    assert_int_equal(call.limit, 100);
    assert_int_equal(call.after, 0);
    assert_int_equal(call.name_bytes, 0);
    assert_int_equal(
        read_of(&call, &upstream, "/v1/quarantine",
                "limit=1&sink=%61rchive&cursor=9223372036854775807&limit=1000&unknown=%zz"),
        0);
    assert_int_equal(call.limit, 1000); /* the last of a name counts */
    assert_true(call.after == INT64_MAX);
    assert_int_equal(call.name_bytes, 7);
    assert_memory_equal(call.name, "archive", 7);
    assert_int_equal(read_of(&call, &upstream, "/v1/quarantine", "sink=&cursor=&limit="), 0);
    assert_int_equal(call.limit, 100);
}

static void bad_parameters_are_all_named(void **state)
{
    (void)state;
    static const struct {
        const char *query, *says;
    } bad[] = {
        {"limit=0", "\"greater_than_equal\",\"loc\":[\"query\",\"limit\"]"},
        {"limit=1001", "Input should be less than or equal to 1000"},
        {"limit=ten", "\"int_parsing\",\"loc\":[\"query\",\"limit\"]"},
        {"limit=99999999999999999999", "less_than_equal"},
        {"limit=%2", "a '%' must be followed by two hexadecimal digits"},
        {"cursor=-1", "\"greater_than_equal\",\"loc\":[\"query\",\"cursor\"]"},
        {"cursor=9223372036854775808", "less_than_equal"},
        {"cursor=abc", "int_parsing"},
        {"sink=%", "\"loc\":[\"query\",\"sink\"]"},
    };
    struct query_call call;
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        assert_int_equal(read_of(&call, &upstream, "/v1/quarantine", bad[i].query), 422);
        if (strstr(fault_text, bad[i].says) == NULL) {
            fail_msg("%s: %s", bad[i].query, fault_text);
        }
    }
    assert_int_equal(read_of(&call, &upstream, "/v1/quarantine", "limit=x&cursor=y&sink=%"), 422);
    assert_non_null(strstr(fault_text, "\"limit\""));
    assert_non_null(strstr(fault_text, "\"cursor\""));
    assert_non_null(strstr(fault_text, "\"sink\""));
}

static void an_id_is_a_decimal_from_one(void **state)
{
    (void)state;
    struct query_call call;
    assert_int_equal(read_of(&call, &upstream, "/v1/quarantine/17", ""), 0);
    assert_int_equal(call.id, 17);
    assert_int_equal(read_of(&call, &upstream, "/v1/quarantine/%31%37/drop", ""), 0);
    assert_int_equal(call.id, 17);
    assert_int_equal(read_of(&call, &upstream, "/v1/quarantine/007", ""), 0);
    assert_int_equal(call.id, 7);
    assert_int_equal(read_of(&call, &upstream, "/v1/quarantine/9223372036854775799", ""), 0);
    assert_true(call.id == UINT64_C(9223372036854775799));
}

static void an_id_that_cannot_be_is_not_found(void **state)
{
    (void)state;
    static const char *const none[] = {
        "/v1/quarantine/0", "/v1/quarantine/9223372036854775808",
        "/v1/quarantine/18446744073709551617", /* 2^64 + 1 must not be 1 */
        "/v1/quarantine/99999999999999999999999999999999999999/requeue"};
    struct query_call call;
    for (size_t i = 0; i < ARRAY_COUNT(none); i++) {
        assert_int_equal(read_of(&call, &upstream, none[i], ""), 404);
    }
}

static void a_hostile_id_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "/v1/quarantine/abc",         "/v1/quarantine/-1",   "/v1/quarantine/+1",
        "/v1/quarantine/1.0",         "/v1/quarantine/1e3",  "/v1/quarantine/0x10",
        "/v1/quarantine/%201",        "/v1/quarantine/1%00", "/v1/quarantine/%2e%2e%2fetc",
        "/v1/quarantine/1;drop",      "/v1/quarantine/1'--", "/v1/quarantine/%",
        "/v1/quarantine/%4/drop",     "/v1/quarantine/%zz",  "/v1/quarantine/%ff%fe",
        "/v1/quarantine/%d9%a1/drop", /* a digit, but none of ours */
    };
    struct query_call call;
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        if (read_of(&call, &upstream, bad[i], "") != 422) {
            fail_msg("%s was taken", bad[i]);
        }
        assert_non_null(strstr(fault_text, "\"loc\":[\"path\",\"id\"]"));
    }
    char longest[4000];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    memcpy(longest, "/v1/quarantine/", 15);
    assert_int_equal(read_of(&call, &upstream, longest, ""), 404);
}

static void a_name_in_a_path_is_decoded_and_bounded(void **state)
{
    (void)state;
    struct query_call call;
    assert_int_equal(read_of(&call, &upstream, "/v1/sinks/a%2Fb+c/drop", ""), 0);
    assert_int_equal(call.name_bytes, 5);
    assert_memory_equal(call.name, "a/b+c", 5); /* '+' is itself in a path */
    assert_int_equal(read_of(&call, &upstream, "/v1/sinks/%e/drop", ""), 422);
    assert_non_null(strstr(fault_text, "\"loc\":[\"path\",\"name\"]"));
    char path[600];
    for (size_t bytes = 60; bytes < 500; bytes++) {
        memset(path, 'n', sizeof path);
        memcpy(path, "/v1/sinks/", 10);
        memcpy(path + 10 + bytes, "/drop", 6);
        assert_int_equal(read_of(&call, &upstream, path, ""),
                         bytes <= QUERY_CALL_NAME_MAX ? 0 : 404);
    }
}

static void a_name_with_a_nul_is_nobodys(void **state)
{
    (void)state;
    static const char *const none[] = {"/v1/sinks/%00/drop",           "/v1/sinks/archive%00/drop",
                                       "/v1/sinks/%00archive/requeue", "/v1/sinks/a%0ab/resume",
                                       "/v1/sinks/%ff/drop",           "/v1/sinks/%20/drop"};
    struct query_call call;
    for (size_t i = 0; i < ARRAY_COUNT(none); i++) {
        assert_int_equal(read_of(&call, &upstream, none[i], ""), 404);
    }
    assert_int_equal(read_of(&call, &upstream, "/v1/quarantine", "sink=%00"), 404);
    assert_int_equal(read_of(&call, &upstream, "/v1/quarantine", "sink=archive%00"), 404);
}

/* ---- what comes back ---- */

static void orders_reach_the_forwarder_as_they_were_given(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        enum upstream_order order;
        const char *sink;
        uint64_t id;
        const char *answer;
    } orders[] = {
        {"/v1/quarantine/5/requeue", UPSTREAM_REQUEUE, "", 5,
         "{\"status\":\"requeued\",\"records\":3}"},
        {"/v1/quarantine/6/drop", UPSTREAM_DROP, "", 6, "{\"status\":\"dropped\",\"records\":3}"},
        {"/v1/sinks/archive/requeue", UPSTREAM_REQUEUE, "archive", 0,
         "{\"status\":\"requeued\",\"records\":3}"},
        {"/v1/sinks/archive/drop", UPSTREAM_DROP, "archive", 0,
         "{\"status\":\"dropped\",\"records\":3}"},
        {"/v1/sinks/archive/resume", UPSTREAM_RESUME, "archive", 0, "{\"status\":\"resumed\"}"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(orders); i++) {
        seam.result = 3;
        assert_int_equal(ask(orders[i].path, ""), 200);
        assert_string_equal(body, orders[i].answer);
        assert_int_equal(seam.order, orders[i].order);
        assert_string_equal(seam.sink, orders[i].sink);
        assert_int_equal(seam.id, orders[i].id);
    }
}

static void failures_have_their_statuses(void **state)
{
    (void)state;
    static const struct {
        int code;
        unsigned status;
    } codes[] = {{-ENOENT, 404}, {-EBUSY, 409}, {-ETIMEDOUT, 503}, {-EIO, 503}, {ERR_CORRUPT, 503}};
    static const char *const paths[] = {"/v1/quarantine", "/v1/quarantine/5",
                                        "/v1/quarantine/5/drop", "/v1/sinks/archive/requeue"};
    for (size_t i = 0; i < ARRAY_COUNT(codes); i++) {
        for (size_t k = 0; k < ARRAY_COUNT(paths); k++) {
            seam.result = codes[i].code;
            assert_int_equal(ask(paths[k], ""), codes[i].status);
            assert_non_null(strstr(body, "{\"detail\":\""));
        }
    }
}

static void not_found_names_what_was_asked_for(void **state)
{
    (void)state;
    seam.result = -ENOENT;
    assert_int_equal(ask("/v1/quarantine/5/requeue", ""), 404);
    assert_string_equal(body, "{\"detail\":\"No such record in quarantine: 5\"}");
    assert_int_equal(ask("/v1/sinks/x%22/requeue", ""), 404);
    assert_string_equal(body, "{\"detail\":\"No such sink: x\\\"\"}");
    seam.result = 0;
    assert_int_equal(ask("/v1/quarantine/9", ""), 404);
    assert_string_equal(body, "{\"detail\":\"No such record in quarantine: 9\"}");
}

static void why_it_is_busy_is_said(void **state)
{
    (void)state;
    seam.result = -EBUSY;
    seam.text = "record 5 is being delivered \"now\"";
    assert_int_equal(ask("/v1/quarantine/5/drop", ""), 409);
    assert_string_equal(body, "{\"detail\":\"record 5 is being delivered \\\"now\\\"\"}");
}

static void a_disk_fault_is_not_told_to_strangers(void **state)
{
    (void)state;
    seam.result = -EIO;
    seam.text = "read /secret/path: EIO";
    assert_int_equal(ask("/v1/quarantine", ""), 503);
    assert_null(strstr(body, "secret"));
}

static void an_empty_list_is_a_list_unless_nobody_has_that_name(void **state)
{
    (void)state;
    assert_int_equal(ask("/v1/quarantine", ""), 200);
    assert_string_equal(body, "{\"data\":[],\"next_cursor\":null}");
    assert_int_equal(ask("/v1/quarantine", "sink=archive"), 200);
    assert_int_equal(ask("/v1/quarantine", "sink=nobody"), 404);
    assert_int_equal(ask("/v1/quarantine", "sink=nobody&cursor=5"), 200); /* it had some before */
    seam.items = 1; /* of a sink that is no longer configured */
    assert_int_equal(ask("/v1/quarantine", "sink=former"), 200);
}

static void a_list_too_large_for_one_answer_is_a_shorter_list(void **state)
{
    (void)state;
    seam.items = 100;
    seam.item_bytes = 100000; /* 10 MB in all */
    assert_int_equal(ask("/v1/quarantine", ""), 200);
    assert_int_equal(seam.calls, 5); /* 100, 50, 25, 12, 6 */
    assert_int_equal(seam.limits[4], 6);
    assert_non_null(strstr(body, "\"next_cursor\":6}"));
}

static void one_item_too_large_for_the_first_try_is_shown_whole(void **state)
{
    (void)state;
    seam.items = 2;
    seam.item_bytes = 3000000;
    assert_int_equal(ask("/v1/quarantine", "limit=2"), 200);
    assert_true(strlen(body) > seam.item_bytes);
    assert_non_null(strstr(body, "\"next_cursor\":1}"));
    seam.result = 1;
    assert_int_equal(ask("/v1/quarantine/1", ""), 200);
    assert_true(strlen(body) > seam.item_bytes);
}

static void what_has_no_room_at_all_ends_in_an_answer(void **state)
{
    (void)state;
    seam.result = 1;
    seam.item_bytes = (size_t)300 << 20;
    assert_int_equal(ask("/v1/quarantine/1", ""), 503);
    assert_true(seam.calls < 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(without_sinks_there_is_nothing_here, set_up),
        cmocka_unit_test_setup(a_list_takes_sink_limit_and_cursor, set_up),
        cmocka_unit_test_setup(bad_parameters_are_all_named, set_up),
        cmocka_unit_test_setup(an_id_is_a_decimal_from_one, set_up),
        cmocka_unit_test_setup(an_id_that_cannot_be_is_not_found, set_up),
        cmocka_unit_test_setup(a_hostile_id_is_refused_by_name, set_up),
        cmocka_unit_test_setup(a_name_in_a_path_is_decoded_and_bounded, set_up),
        cmocka_unit_test_setup(a_name_with_a_nul_is_nobodys, set_up),
        cmocka_unit_test_setup(orders_reach_the_forwarder_as_they_were_given, set_up),
        cmocka_unit_test_setup(failures_have_their_statuses, set_up),
        cmocka_unit_test_setup(not_found_names_what_was_asked_for, set_up),
        cmocka_unit_test_setup(why_it_is_busy_is_said, set_up),
        cmocka_unit_test_setup(a_disk_fault_is_not_told_to_strangers, set_up),
        cmocka_unit_test_setup(an_empty_list_is_a_list_unless_nobody_has_that_name, set_up),
        cmocka_unit_test_setup(a_list_too_large_for_one_answer_is_a_shorter_list, set_up),
        cmocka_unit_test_setup(one_item_too_large_for_the_first_try_is_shown_whole, set_up),
        cmocka_unit_test_setup(what_has_no_room_at_all_ends_in_an_answer, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
