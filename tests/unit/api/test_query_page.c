#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "api/query_page.h"

#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/mem.h"
#include "model/json_scan.h"

#define ID_TEXT "00000000000000000000000001"

static struct scan_record found(uint64_t lsn, enum record_kind kind, const char *payload)
{
    struct scan_record record = {
        .lsn = lsn,
        .built_at_ns = INT64_C(1756116000123456789), /* 2025-08-25T10:00:00.123456789Z */
        .record = {.kind = kind, .payload = {(const uint8_t *)payload, strlen(payload)}},
    };
    record.record.id.bytes[ULID_BYTES - 1] = 1;
    return record;
}

static void assert_text(const struct query_text *text, const char *expected)
{
    if (text->bytes != strlen(expected) || memcmp(text->data, expected, text->bytes) != 0) {
        fail_msg("got %.*s\nnot %s", (int)text->bytes, (const char *)text->data, expected);
    }
}

static void a_page_without_records_says_so(void **state)
{
    (void)state;
    struct query_text text = {0};
    query_page_open(&text);
    query_page_close(&text, &(struct query_page_end){.scanned_bytes = 17});
    assert_text(&text, "{\"data\":[],\"next_cursor\":null,\"scanned_bytes\":17}");
    query_text_free(&text);
}

static void a_page_shows_records_as_they_were_sent(void **state)
{
    (void)state;
    struct query_text text = {0};
    struct scan_record one = found(7, RECORD_LOG, "{ \"a\" : 1e400,\n\"b\":\"\\u00e9\" }");
    struct scan_record two = found(UINT64_MAX, RECORD_LOG, "{}");
    query_page_open(&text);
    query_page_record(&text, &one, true);
    query_page_record(&text, &two, false);
    query_page_close(&text, &(struct query_page_end){.next_cursor = SLICE_LITERAL("abc-_"),
                                                     .scanned_bytes = UINT64_MAX,
                                                     .damaged_blocks = 3});
    assert_text(&text, "{\"data\":[{\"id\":\"" ID_TEXT "\",\"lsn\":7,"
                       "\"received_at\":\"2025-08-25T10:00:00.123456Z\","
                       "\"record\":{ \"a\" : 1e400,\n\"b\":\"\\u00e9\" }},"
                       "{\"id\":\"" ID_TEXT "\",\"lsn\":18446744073709551615,"
                       "\"received_at\":\"2025-08-25T10:00:00.123456Z\",\"record\":{}}],"
                       "\"next_cursor\":\"abc-_\",\"scanned_bytes\":18446744073709551615,"
                       "\"damaged_blocks\":3}");
    query_text_free(&text);
}

static void a_record_is_one_line_however_it_was_sent(void **state)
{
    (void)state;
    struct query_text text = {0};
    struct scan_record record = found(1, RECORD_EVENT, "{\r\n  \"m\": \"a\\nb\"\n}");
    query_line_record(&text, &record);
    query_line_damage(&text, 2);
    assert_text(&text, "{\"id\":\"" ID_TEXT "\",\"lsn\":1,"
                       "\"received_at\":\"2025-08-25T10:00:00.123456Z\","
                       "\"record\":{    \"m\": \"a\\nb\" }}\n{\"damaged_blocks\":2}\n");
    query_text_free(&text);
}

static void a_line_break_anywhere_in_a_record_becomes_a_space(void **state)
{
    (void)state;
    static const char plain[] = "{\"m\":1,\"n\":2}";
    static const char breaks[] = {'\n', '\r'};
    for (size_t at = 0; at < 2 * (sizeof plain - 1); at++) {
        char payload[sizeof plain];
        struct query_text text = {0};
        memcpy(payload, plain, sizeof plain);
        payload[at / 2] = breaks[at % 2];
        struct scan_record record = found(1, RECORD_EVENT, payload);
        query_line_record(&text, &record);
        assert_ptr_equal(memchr(text.data, '\n', text.bytes), text.data + text.bytes - 1);
        assert_null(memchr(text.data, '\r', text.bytes));
        payload[at / 2] = ' ';
        assert_non_null(memmem(text.data, text.bytes, payload, sizeof plain - 1));
        query_text_free(&text);
    }
}

/* The payload of the frame at the start of text. */
static struct slice unframe(const struct query_text *text)
{
    const uint8_t *at = text->data;
    uint64_t bytes = at[1] & 0x7f;
    size_t header = 2;
    assert_int_equal(at[0], 0x81); /* FIN, text */
    assert_int_equal(at[1] & 0x80, 0);
    size_t more = bytes == 126 ? 2 : bytes == 127 ? 8 : 0;
    bytes = more == 0 ? bytes : 0;
    for (size_t i = 0; i < more; i++) {
        bytes = bytes << 8 | at[header++];
    }
    assert_int_equal(header + bytes, text->bytes);
    return (struct slice){at + header, bytes};
}

static void a_message_is_one_frame_of_any_size(void **state)
{
    (void)state;
    static const size_t sizes[] = {2, 20, 60, 125, 126, 1000, 65535, 65536, 300000};
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        struct query_text text = {0};
        char *payload = mem_alloc(sizes[i] + 1);
        memset(payload, ' ', sizes[i]);
        payload[0] = '{';
        payload[sizes[i] - 1] = '}';
        struct scan_record record = found(5, RECORD_METRIC, payload);
        query_message_record(&text, &record);
        struct slice message = unframe(&text);
        static const char head[] = "{\"lsn\":5,\"id\":\"" ID_TEXT "\",\"kind\":\"metric\","
                                   "\"received_at\":\"2025-08-25T10:00:00.123456Z\",\"record\":{";
        assert_memory_equal(message.data, head, sizeof head - 1);
        uint64_t offset = 0;
        const char *why = NULL;
        assert_int_equal(json_validate(message.data, message.bytes, &offset, &why), 0);
        query_text_free(&text);
        mem_free(payload);
    }
}

static void a_kind_of_a_later_version_is_shown(void **state)
{
    (void)state;
    struct query_text text = {0};
    struct scan_record record = found(5, RECORD_KIND_MAX, "{}");
    query_message_record(&text, &record);
    struct slice message = unframe(&text);
    assert_non_null(memmem(message.data, message.bytes, "\"kind\":\"unknown\"", 16));
    query_text_free(&text);
}

static void a_text_that_was_large_gives_its_memory_back(void **state)
{
    (void)state;
    struct query_text text = {0};
    static const uint8_t block[4096];
    for (size_t i = 0; i < 100; i++) {
        query_text_put(&text, (struct slice){block, sizeof block});
    }
    assert_int_equal(text.bytes, 100 * sizeof block);
    query_text_reset(&text);
    assert_int_equal(text.capacity, 0);
    query_text_put(&text, (struct slice){block, sizeof block});
    query_text_reset(&text);
    assert_int_equal(text.bytes, 0);
    assert_true(text.capacity >= sizeof block);
    query_text_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_without_records_says_so),
        cmocka_unit_test(a_page_shows_records_as_they_were_sent),
        cmocka_unit_test(a_record_is_one_line_however_it_was_sent),
        cmocka_unit_test(a_line_break_anywhere_in_a_record_becomes_a_space),
        cmocka_unit_test(a_message_is_one_frame_of_any_size),
        cmocka_unit_test(a_kind_of_a_later_version_is_shown),
        cmocka_unit_test(a_text_that_was_large_gives_its_memory_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
