#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "api/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct ulid sample_id(void)
{
    struct ulid id;
    for (unsigned i = 0; i < ULID_BYTES; i++) {
        id.bytes[i] = (uint8_t)(i * 7);
    }
    return id;
}

/* Content-Length of a raw answer against what follows the empty line. */
static void assert_framed(const char *text, size_t bytes)
{
    const char *body = strstr(text, "\r\n\r\n");
    const char *length = strstr(text, "Content-Length: ");
    assert_non_null(body);
    assert_non_null(length);
    assert_int_equal(strtoul(length + 16, NULL, 10), bytes - (size_t)(body + 4 - text));
}

static void the_hot_answer_is_framed_for_every_number_of_digits(void **state)
{
    (void)state;
    struct ulid id = sample_id();
    uint64_t lsn = 1;
    for (unsigned digits = 1; digits <= 19; digits++, lsn = lsn * 10 + 7) {
        uint8_t text[ANSWER_OBJECT_BYTES_MAX + 1];
        size_t bytes = answer_object_raw(
            text, SLICE_LITERAL("Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n"), &id, lsn);
        assert_true(bytes <= ANSWER_OBJECT_BYTES_MAX);
        text[bytes] = 0;
        assert_framed((const char *)text, bytes);
        char tail[40];
        snprintf(tail, sizeof tail, "\"lsn\":%llu}", (unsigned long long)lsn);
        assert_string_equal((const char *)text + bytes - strlen(tail), tail);
    }
}

static void the_hot_answer_and_the_cold_body_say_the_same(void **state)
{
    (void)state;
    struct ulid id = sample_id();
    uint8_t text[ANSWER_OBJECT_BYTES_MAX + 1];
    uint8_t memory[256];
    struct buf body;
    size_t bytes = answer_object_raw(text, SLICE_LITERAL("Date: x\r\n"), &id, 42);
    buf_init(&body, memory, sizeof memory);
    answer_object_body(&body, &id, 42);
    assert_true(body.bytes < bytes);
    assert_memory_equal(text + bytes - body.bytes, body.data, body.bytes);
}

static void lists_name_every_count_and_null_for_no_lsn(void **state)
{
    (void)state;
    char memory[512];
    struct buf body;
    buf_init(&body, memory, sizeof memory - 1);
    answer_list_body(&body, &(struct answer_list){.accepted = 2,
                                                  .rejected = 1,
                                                  .first_lsn = 7,
                                                  .last_lsn = 8,
                                                  .errors = SLICE_LITERAL("[{}]")});
    memory[body.bytes] = 0;
    assert_string_equal(memory, "{\"status\":\"accepted\",\"accepted\":2,\"rejected\":1,\"first_"
                                "lsn\":7,\"last_lsn\":8,\"errors\":[{}]}");
    buf_reset(&body);
    answer_list_body(&body, &(struct answer_list){.accepted = 1, .duplicates = 1});
    memory[body.bytes] = 0;
    assert_string_equal(memory,
                        "{\"status\":\"accepted\",\"accepted\":1,\"rejected\":0,\"duplicates\":1,"
                        "\"first_lsn\":null,\"last_lsn\":null,\"errors\":[]}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hot_answer_is_framed_for_every_number_of_digits),
        cmocka_unit_test(the_hot_answer_and_the_cold_body_say_the_same),
        cmocka_unit_test(lists_name_every_count_and_null_for_no_lsn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
