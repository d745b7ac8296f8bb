/*
 * answer_reader: reads a JSON answer of an upstream member by member, judging it strictly as it goes
 * (model/json_scan.h). Pure; no allocation; an answer is anybody's bytes, up to ANSWER_BYTES_MAX.
 *
 * Every call moves `at` on; on the first fault is_bad is set and stays, and every call returns false. So a caller walks
 * as if all were well and asks is_bad, or answer_reader_ended, once at the end.
 *
 *     answer_reader_open(&reader, answer->body);
 *     if (answer_reader_enter(&reader, '{')) {
 *         while (answer_reader_member(&reader, &key)) {
 *             answer_reader_value(&reader, &value);
 *         }
 *     }
 */
#ifndef FORWARD_ANSWER_READER_H
#define FORWARD_ANSWER_READER_H

#include "core/base.h"
#include "model/json_scan.h"

struct answer_reader {
    struct json_scan scan;
    uint32_t at;
    bool is_bad;
    bool is_first;  /* of the container at hand, nothing was passed yet */
    bool has_value; /* a value or a container was passed */
};

void answer_reader_open(struct answer_reader *reader, struct slice text);
/* bracket: '{' or '['. False and nothing passed when something else stands there (that is no fault): its value can
 * still be taken. */
bool answer_reader_enter(struct answer_reader *reader, char bracket);
/* Inside '{': the next key, its bytes between the quotes as they are; false: '}' was passed. */
bool answer_reader_member(struct answer_reader *reader, struct slice *key);
/* Inside '[': is there another element? False: ']' was passed. */
bool answer_reader_element(struct answer_reader *reader);
/* Takes the value at hand, whatever it is. */
bool answer_reader_value(struct answer_reader *reader, struct json_value *value);
/* After the outermost value: it was all there was, and no fault. */
bool answer_reader_ended(struct answer_reader *reader);

/* The bytes of a value taken; of a string what is between its quotes, escapes as they are. */
struct slice answer_reader_raw(const struct answer_reader *reader, const struct json_value *value);
/* A number without sign, fraction or exponent, of at most 18 digits; false: it is none. */
bool answer_reader_u64(const struct answer_reader *reader, const struct json_value *value,
                       uint64_t *number);

static inline bool answer_reader_is(struct slice key, const char *name)
{
    return slice_equal(key, (struct slice){(const uint8_t *)name, __builtin_strlen(name)});
}

#endif
