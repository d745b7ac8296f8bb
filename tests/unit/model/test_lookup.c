#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "core/mem.h"
#include "model/lookup.h"
#include "model/lookup_find.h"

#define PAGE_BYTES  4096u
#define ALL_FIELDS  UINT32_MAX
#define TEXT(text)  ((struct slice){(const uint8_t *)(text), strlen(text)})
#define SEED        20261121u
#define HUGE_BYTES  300000u
#define SHOWN_BYTES 1024u

static struct {
    uint8_t *page; /* between two that trap */
    uint8_t *scratch;
    uint64_t random;
} fixture;

static int fixture_open(void **state)
{
    (void)state;
    uint8_t *pages = mmap(NULL, 3 * PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) {
        return -1;
    }
    fixture.page = pages + PAGE_BYTES;
    fixture.scratch = mem_alloc(LOOKUP_SCRATCH_BYTES);
    fixture.random = SEED;
    return mprotect(fixture.page, PAGE_BYTES, PROT_READ | PROT_WRITE);
}

static int fixture_close(void **state)
{
    (void)state;
    mem_free(fixture.scratch);
    return munmap(fixture.page - PAGE_BYTES, 3 * PAGE_BYTES);
}

/* splitmix64: the same numbers in every run. */
static uint64_t random_next(void)
{
    uint64_t z = fixture.random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* "field=value;" for each value shown. */
struct shown {
    char text[SHOWN_BYTES];
    size_t bytes;
    unsigned stop_after; /* 0: never */
    unsigned count;
};

static bool shown_on_value(void *context, enum lookup_field field, struct slice value)
{
    struct shown *shown = context;
    int wrote =
        snprintf(shown->text + shown->bytes, sizeof shown->text - shown->bytes, "%d=%.*s;",
                 (int)field, (int)(value.bytes < 64 ? value.bytes : 64), (const char *)value.data);
    shown->bytes += (size_t)wrote;
    assert_true(shown->bytes < sizeof shown->text);
    return ++shown->count != shown->stop_after;
}

/* The object right before and right behind a page that traps. */
static void expect_walk(const char *object, uint32_t mask, int result, const char *expected)
{
    size_t bytes = strlen(object);
    assert_true(bytes <= PAGE_BYTES);
    uint8_t *places[] = {fixture.page, fixture.page + PAGE_BYTES - bytes};
    for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
        struct shown shown = {.bytes = 0};
        memcpy(places[i], object, bytes);
        int got = lookup_walk((struct slice){places[i], bytes}, mask, fixture.scratch,
                              shown_on_value, &shown);
        assert_string_equal(shown.text, expected);
        assert_int_equal(got, result);
    }
}

static void every_field_is_shown_under_each_of_its_names_in_order(void **state)
{
    (void)state;
    expect_walk("{\"service\":\"a\",\"source\":\"b\",\"name\":\"c\",\"correlation_id\":\"d\","
                "\"host\":\"e\",\"uuid\":\"f\",\"run_id\":\"g\",\"event_id\":\"h\","
                "\"message\":\"i\"}",
                ALL_FIELDS, 0, "1=a;2=b;3=c;4=d;5=e;6=f;7=g;8=h;9=i;");
    expect_walk("{\"service_name\":\"a\",\"x_correlation_id\":\"d\",\"hostname\":\"e\","
                "\"Hostname\":\"E\",\"gpu_id\":\"f\"}",
                ALL_FIELDS, 0, "1=a;4=d;5=e;5=E;6=f;");
    expect_walk("{\"message\":\"\",\"service\":\"z\"}", ALL_FIELDS, 0, "9=;1=z;");
}

static void other_keys_and_values_that_are_no_strings_are_passed_over(void **state)
{
    (void)state;
    expect_walk("{\"Service\":\"a\",\"services\":\"a\",\"nam\":\"b\",\"uuiD\":\"c\",\"\":\"d\","
                "\"timestamp\":\"t\",\"level\":\"INFO\",\"correlation_ID\":\"x\"}",
                ALL_FIELDS, 0, "");
    expect_walk("{\"service\":null,\"source\":1,\"name\":{\"name\":\"x\"},\"host\":[\"h\"],"
                "\"correlation_id\":true,\"run_id\":-5,\"message\":\"m\"}",
                ALL_FIELDS, 0, "9=m;");
    expect_walk("{}", ALL_FIELDS, 0, "");
    expect_walk(" \n{ \"a\" : 1 , \"host\" :\t\"h\" } ", ALL_FIELDS, 0, "5=h;");
}

static void a_gpu_id_may_be_a_number_and_is_shown_as_its_text(void **state)
{
    (void)state;
    expect_walk("{\"gpu_id\":7,\"uuid\":-1.5e3 }", ALL_FIELDS, 0, "6=7;6=-1.5e3;");
    expect_walk("{\"gpu_id\":null,\"uuid\":[7]}", ALL_FIELDS, 0, "");
}

static void what_lies_inside_containers_is_never_a_field(void **state)
{
    (void)state;
    expect_walk("{\"metadata\":{\"service\":\"in\",\"x\":[{\"host\":\"}\"},\"]}\\\"}\"],\"y\":{}},"
                "\"tags\":[],\"service\":\"out\"}",
                ALL_FIELDS, 0, "1=out;");
    /* Longer than any step, with brackets and quotes at every distance from its edges. */
    for (size_t pad = 0; pad < 40; pad++) {
        char object[256];
        snprintf(object, sizeof object,
                 "{\"tags\":{\"%.*s\":\"{[\\\\\",\"k\":[[\"%.*s]\"]]},\"host\":\"h\"}", (int)pad,
                 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", (int)(39 - pad),
                 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb");
        expect_walk(object, ALL_FIELDS, 0, "5=h;");
    }
}

static void only_the_fields_of_the_mask_are_shown(void **state)
{
    (void)state;
    const char *object = "{\"service\":\"a\",\"message\":\"m\",\"host\":\"h\"}";
    expect_walk(object, 1u << LOOKUP_HOST, 0, "5=h;");
    expect_walk(object, 1u << LOOKUP_SERVICE | 1u << LOOKUP_MESSAGE, 0, "1=a;9=m;");
    expect_walk(object, 0, 0, "");
}

static void the_walk_ends_when_on_value_says_so(void **state)
{
    (void)state;
    struct shown shown = {.stop_after = 2};
    assert_int_equal(lookup_walk(TEXT("{\"host\":\"a\",\"name\":\"b\",\"source\":\"c\" damaged"),
                                 ALL_FIELDS, fixture.scratch, shown_on_value, &shown),
                     0);
    assert_string_equal(shown.text, "5=a;3=b;");
}

static void escapes_in_values_and_keys_are_undone(void **state)
{
    (void)state;
    expect_walk("{\"service\":\"a\\n\\\"\\\\\\/\\u0041\\u00e4\\ud83d\\ude00!\"}", ALL_FIELDS, 0,
                "1=a\n\"\\/A\xc3\xa4\xf0\x9f\x98\x80!;");
    expect_walk("{\"serv\\u0069ce\":\"a\",\"\\u006d\\u0065ssage\":\"b\",\"ho\\\\st\":\"c\","
                "\"x_correlation_i\\u0064\":\"d\",\"x_correlation_id\\u0064\":\"e\"}",
                ALL_FIELDS, 0, "1=a;9=b;4=d;");
}

static bool length_on_value(void *context, enum lookup_field field, struct slice value)
{
    (void)field;
    *(size_t *)context = value.bytes;
    assert_int_equal(value.data[0], 'n');
    assert_int_equal(value.data[value.bytes - 1], 'n');
    return true;
}

static void values_longer_than_the_scratch_are_cut_to_it(void **state)
{
    (void)state;
    char *object = mem_alloc(HUGE_BYTES);
    for (unsigned has_escape = 0; has_escape < 2; has_escape++) {
        size_t at =
            (size_t)snprintf(object, HUGE_BYTES, "{\"message\":\"%s", has_escape ? "\\u006e" : "");
        memset(object + at, 'n', 100000);
        at += 100000;
        at += (size_t)snprintf(object + at, 16, "\"}");
        size_t length = 0;
        assert_int_equal(lookup_walk((struct slice){(uint8_t *)object, at}, ALL_FIELDS,
                                     fixture.scratch, length_on_value, &length),
                         0);
        assert_int_equal(length, LOOKUP_SCRATCH_BYTES);
    }
    mem_free(object);
}

static void bytes_that_are_no_object_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "[]",
        "\"a\"",
        "{",
        "{\"",
        "{\"a",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":\"",
        "{\"a\":\"b",
        "{\"a\":\"b\"",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\" 1}",
        "{\"a\":,}",
        "{\"a\":[1}",
        "{\"a\":{\"b\":2}",
        "{\"a\":\"\\",
        "{\"a\":1 2}",
        "{\"a\\",
        "{,\"a\":1}",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        expect_walk(bad[i], ALL_FIELDS, -1, "");
    }
    /* What stood before the damage was shown. */
    expect_walk("{\"host\":\"h\",\"name\":\"n", ALL_FIELDS, -1, "5=h;");
}

static const char whole[] =
    "{\"timestamp\":\"2025-08-25T10:00:00.123456Z\",\"service\":\"core\\u0072l\",\"n\":-12.5e3,"
    "\"tags\":{\"a\":[1,{\"b\":\"}\"}],\"c\":null},\"message\":\"x\\ud83d\\ude00y\",\"ok\":true}";

static void every_truncation_and_every_damaged_byte_stays_inside_the_object(void **state)
{
    (void)state;
    struct lookup_query query = {.service = TEXT("corerl"), .message = TEXT("\xf0\x9f\x98\x80")};
    size_t bytes = sizeof whole - 1;
    for (size_t cut = 0; cut < bytes; cut++) {
        struct shown shown = {.bytes = 0};
        struct slice at_end = {fixture.page + PAGE_BYTES - cut, cut};
        memcpy(fixture.page + PAGE_BYTES - cut, whole, cut);
        assert_int_equal(lookup_walk(at_end, ALL_FIELDS, fixture.scratch, shown_on_value, &shown),
                         -1);
        (void)lookup_matches(&query, at_end, fixture.scratch);
    }
    static const uint8_t damage[] = {0, '"', '\\', '{', '}', '[', ']', 0xff, 'u', ',', ':'};
    for (size_t i = 0; i < bytes; i++) {
        for (size_t k = 0; k < ARRAY_COUNT(damage); k++) {
            struct shown shown = {.bytes = 0};
            uint8_t *at = fixture.page + PAGE_BYTES - bytes;
            memcpy(at, whole, bytes);
            at[i] = damage[k];
            (void)lookup_walk((struct slice){at, bytes}, ALL_FIELDS, fixture.scratch,
                              shown_on_value, &shown);
            (void)lookup_matches(&query, (struct slice){at, bytes}, fixture.scratch);
        }
    }
}

/* ---- matching ---- */

static bool matches(struct lookup_query query, const char *object)
{
    size_t bytes = strlen(object);
    uint8_t *at = fixture.page + PAGE_BYTES - bytes;
    memcpy(at, object, bytes);
    return lookup_matches(&query, (struct slice){at, bytes}, fixture.scratch);
}

static const char record[] = "{\"service\":\"corerl\",\"level\":\"INFO\",\"message\":\"Agent step "
                             "done\",\"correlation_id\":\"abc\",\"name\":\"n\",\"source\":\"s\"}";

static void a_query_that_asks_nothing_matches_everything(void **state)
{
    (void)state;
    assert_true(matches((struct lookup_query){0}, record));
    assert_true(matches((struct lookup_query){0}, "damaged"));
}

static void equalities_match_the_whole_value_and_case(void **state)
{
    (void)state;
    assert_true(matches((struct lookup_query){.service = TEXT("corerl")}, record));
    assert_false(matches((struct lookup_query){.service = TEXT("corer")}, record));
    assert_false(matches((struct lookup_query){.service = TEXT("corerl2")}, record));
    assert_false(matches((struct lookup_query){.service = TEXT("Corerl")}, record));
    assert_true(matches((struct lookup_query){.correlation_id = TEXT("abc")}, record));
    assert_true(matches((struct lookup_query){.name = TEXT("n")}, record));
    assert_true(matches((struct lookup_query){.source = TEXT("s")}, record));
    assert_false(matches((struct lookup_query){.source = TEXT("n")}, record));
    assert_false(matches((struct lookup_query){.service = TEXT("x")}, "damaged"));
}

static void message_matches_what_it_contains_and_case(void **state)
{
    (void)state;
    assert_true(matches((struct lookup_query){.message = TEXT("step")}, record));
    assert_true(matches((struct lookup_query){.message = TEXT("Agent step done")}, record));
    assert_false(matches((struct lookup_query){.message = TEXT("Step")}, record));
    assert_false(matches((struct lookup_query){.message = TEXT("corerl")}, record));
    assert_false(matches((struct lookup_query){.message = TEXT("x")}, "{\"message\":null}"));
    assert_false(matches((struct lookup_query){.message = TEXT("x")}, "{\"message\":[\"x\"]}"));
}

static void all_that_is_asked_must_match(void **state)
{
    (void)state;
    struct lookup_query query = {
        .service = TEXT("corerl"), .message = TEXT("step"), .correlation_id = TEXT("abc")};
    assert_true(matches(query, record));
    query.correlation_id = TEXT("abd");
    assert_false(matches(query, record));
    query.correlation_id = TEXT("abc");
    query.source = TEXT("other");
    assert_false(matches(query, record));
}

static void a_field_matches_under_either_of_its_names(void **state)
{
    (void)state;
    struct lookup_query query = {.service = TEXT("b")};
    assert_true(matches(query, "{\"service_name\":\"b\"}"));
    assert_true(matches(query, "{\"service\":\"a\",\"service_name\":\"b\"}"));
    assert_true(matches(query, "{\"service\":\"b\",\"service_name\":\"a\"}"));
    assert_true(matches((struct lookup_query){.correlation_id = TEXT("c")},
                        "{\"x_correlation_id\":\"c\"}"));
    assert_false(matches(query, "{\"tags\":{\"service\":\"b\"}}"));
}

/* text as a JSON string in which about half of the bytes, which are ASCII, are escapes. */
static size_t spell(char *to, const char *text, bool is_escaped)
{
    size_t at = 0;
    for (size_t i = 0; text[i] != 0; i++) {
        bool must = text[i] == '"' || text[i] == '\\' || (uint8_t)text[i] < 0x20;
        if (must || (is_escaped && random_next() % 2 == 0)) {
            at += (size_t)snprintf(to + at, 8, "\\u%04x", (unsigned)(uint8_t)text[i]);
        } else {
            to[at++] = text[i];
        }
    }
    to[at] = 0;
    return at;
}

static void values_match_by_meaning_however_they_are_spelled(void **state)
{
    (void)state;
    static const char text[] = "two \"words\" in C:\\dir\n";
    for (unsigned n = 0; n < 500; n++) {
        char spelled[8 * sizeof text];
        char object[2048];
        spell(spelled, text, n % 4 != 0);
        snprintf(object, sizeof object, "{\"service\":\"%s\",\"message\":\"%s tail\"}", spelled,
                 spelled);
        struct lookup_query query = {.service = TEXT(text), .message = TEXT("dir\n tail")};
        assert_true(matches(query, object));
        query.service = TEXT("two \"words\" in C:\\dir");
        assert_false(matches(query, object));
        query.service = (struct slice){0};
        query.message = TEXT("dirn tail");
        assert_false(matches(query, object));
    }
}

/* Every place of the part in every length of text, right before a page that traps, against memmem;
 * few letters, so that nearly all is nearly right. */
static void a_part_is_found_wherever_it_lies(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 20000; n++) {
        uint8_t part[24];
        size_t bytes = n % 3 == 0 ? random_next() % 1500 : random_next() % 70;
        size_t part_bytes = 1 + random_next() % (n % 2 == 0 ? 3 : sizeof part);
        uint8_t *text = fixture.page + PAGE_BYTES - bytes;
        for (size_t i = 0; i < bytes; i++) {
            text[i] = (uint8_t)("aaab"[random_next() % 4]);
        }
        for (size_t i = 0; i < part_bytes; i++) {
            part[i] = (uint8_t)("aab"[random_next() % 3]);
        }
        if (n % 5 == 0 && bytes >= part_bytes) {
            memcpy(text + random_next() % (bytes - part_bytes + 1), part, part_bytes);
        }
        assert_int_equal(lookup_find((struct slice){text, bytes}, (struct slice){part, part_bytes}),
                         memmem(text, bytes, part, part_bytes) != NULL);
    }
}

/* The needle lies across every place where a piece of an escaped message could end. */
static void an_escaped_message_is_searched_beyond_the_scratch(void **state)
{
    (void)state;
    char *object = mem_alloc(HUGE_BYTES);
    static const char needle[] = "needle in a long message";
    for (size_t before = LOOKUP_SCRATCH_BYTES - 40; before < LOOKUP_SCRATCH_BYTES + 10; before++) {
        size_t at = (size_t)snprintf(object, HUGE_BYTES, "{\"message\":\"\\n");
        memset(object + at, 'n', before);
        at += before;
        at += spell(object + at, needle, before % 2 == 0);
        at += (size_t)snprintf(object + at, 16, "\\n\"}");
        struct slice slice = {(uint8_t *)object, at};
        assert_true(lookup_matches(&(struct lookup_query){.message = TEXT(needle)}, slice,
                                   fixture.scratch));
        assert_false(lookup_matches(&(struct lookup_query){.message = TEXT("needle in a lonG")},
                                    slice, fixture.scratch));
    }
    mem_free(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_is_shown_under_each_of_its_names_in_order),
        cmocka_unit_test(other_keys_and_values_that_are_no_strings_are_passed_over),
        cmocka_unit_test(a_gpu_id_may_be_a_number_and_is_shown_as_its_text),
        cmocka_unit_test(what_lies_inside_containers_is_never_a_field),
        cmocka_unit_test(only_the_fields_of_the_mask_are_shown),
        cmocka_unit_test(the_walk_ends_when_on_value_says_so),
        cmocka_unit_test(escapes_in_values_and_keys_are_undone),
        cmocka_unit_test(values_longer_than_the_scratch_are_cut_to_it),
        cmocka_unit_test(bytes_that_are_no_object_are_refused),
        cmocka_unit_test(every_truncation_and_every_damaged_byte_stays_inside_the_object),
        cmocka_unit_test(a_query_that_asks_nothing_matches_everything),
        cmocka_unit_test(equalities_match_the_whole_value_and_case),
        cmocka_unit_test(message_matches_what_it_contains_and_case),
        cmocka_unit_test(all_that_is_asked_must_match),
        cmocka_unit_test(a_field_matches_under_either_of_its_names),
        cmocka_unit_test(values_match_by_meaning_however_they_are_spelled),
        cmocka_unit_test(a_part_is_found_wherever_it_lies),
        cmocka_unit_test(an_escaped_message_is_searched_beyond_the_scratch),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
