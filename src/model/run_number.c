#include "model/run_number.h"

#include "model/json_scan.h"

/* Beyond any exponent that matters: texts have fewer digits than that. */
#define EXPONENT_MAX INT64_C(1000000000000)

/* A whole number in the making. */
struct magnitude {
    uint64_t value;
    bool is_over; /* it was more than 64 bits hold; value is of no use */
};

static void magnitude_shift(struct magnitude *magnitude, unsigned digit)
{
    uint64_t value;
    magnitude->is_over |= __builtin_mul_overflow(magnitude->value, 10u, &value);
    magnitude->is_over |= __builtin_add_overflow(value, digit, &magnitude->value);
}

/* Bounded: a value other than 0 is over after twenty zeros. */
static void magnitude_shift_zeros(struct magnitude *magnitude, int64_t count)
{
    if (magnitude->value == 0 && !magnitude->is_over) {
        return;
    }
    for (int64_t i = 0; i < count && !magnitude->is_over; i++) {
        magnitude_shift(magnitude, 0);
    }
}

static enum run_number magnitude_sign(const struct magnitude *magnitude, bool is_negative,
                                      int64_t *value)
{
    bool fits = !magnitude->is_over && magnitude->value <= (uint64_t)INT64_MAX;
    if (fits) {
        *value = is_negative ? -(int64_t)magnitude->value : (int64_t)magnitude->value;
        return RUN_NUMBER_GOOD;
    }
    *value = is_negative ? INT64_MIN : INT64_MAX;
    return is_negative ? RUN_NUMBER_GOOD : RUN_NUMBER_SIZE;
}

static bool is_digit(uint8_t c)
{
    return (unsigned)c - '0' <= 9;
}

/* ---- JSON numbers ---- */

/* Of the text after the 'e'. */
static int64_t exponent_read(struct slice text)
{
    bool is_negative = text.bytes > 0 && text.data[0] == '-';
    int64_t exponent = 0;
    for (size_t i = 0; i < text.bytes; i++) {
        if (is_digit(text.data[i]) && exponent < EXPONENT_MAX) {
            exponent = exponent * 10 + (text.data[i] - '0');
        }
    }
    return is_negative ? -exponent : exponent;
}

/* Where each part of a number begins; both are its end when it has none. */
struct parts {
    size_t point;
    size_t exponent;
};

static struct parts parts_find(struct slice number)
{
    struct parts parts = {number.bytes, number.bytes};
    for (size_t i = 0; i < number.bytes; i++) {
        if (number.data[i] == '.') {
            parts.point = i;
        } else if ((number.data[i] | 0x20) == 'e') {
            parts.exponent = i;
            break;
        }
    }
    parts.point = parts.point < parts.exponent ? parts.point : parts.exponent;
    return parts;
}

enum run_number run_number_of_number(struct slice number, int64_t *value)
{
    struct parts parts = parts_find(number);
    bool is_integer = parts.point == number.bytes;
    if (!is_integer && !json_number_is_finite(number)) {
        return RUN_NUMBER_INFINITE;
    }
    struct magnitude magnitude = {0, false};
    int64_t zeros = 0;         /* read, and not yet in the magnitude */
    int64_t magnitude_end = 0; /* how many digits before the point the magnitude ends; negative:
                                  behind it */
    for (size_t i = 0; i < parts.exponent; i++) {
        uint8_t c = number.data[i];
        if (!is_digit(c)) {
            continue;
        }
        if (c == '0') {
            zeros++;
            continue;
        }
        magnitude_shift_zeros(&magnitude, zeros);
        magnitude_shift(&magnitude, (unsigned)c - '0');
        zeros = 0;
        magnitude_end =
            i < parts.point ? (int64_t)(parts.point - i) - 1 : (int64_t)parts.point - (int64_t)i;
    }
    if (parts.exponent < number.bytes) {
        magnitude_end += exponent_read(
            (struct slice){number.data + parts.exponent + 1, number.bytes - parts.exponent - 1});
    }
    bool is_zero = magnitude.value == 0 && !magnitude.is_over;
    if (!is_zero && magnitude_end < 0) {
        return RUN_NUMBER_FRACTION;
    }
    magnitude_shift_zeros(&magnitude, magnitude_end);
    return magnitude_sign(&magnitude, number.data[0] == '-', value);
}

/* ---- strings ---- */

static bool is_white(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct slice trimmed(struct slice text)
{
    while (text.bytes > 0 && is_white(text.data[0])) {
        text = (struct slice){text.data + 1, text.bytes - 1};
    }
    while (text.bytes > 0 && is_white(text.data[text.bytes - 1])) {
        text.bytes--;
    }
    return text;
}

/* "", or a point and at least one zero. */
static bool is_zero_fraction(struct slice text)
{
    for (size_t i = 1; i < text.bytes; i++) {
        if (text.data[i] != '0') {
            return false;
        }
    }
    return text.bytes == 0 || (text.bytes > 1 && text.data[0] == '.');
}

enum run_number run_number_of_text(struct slice text, int64_t *value)
{
    text = trimmed(text);
    bool is_negative = text.bytes > 0 && text.data[0] == '-';
    size_t at = is_negative || (text.bytes > 0 && text.data[0] == '+') ? 1 : 0;
    size_t from = at;
    struct magnitude magnitude = {0, false};
    for (; at < text.bytes; at++) {
        uint8_t c = text.data[at];
        /* Between two digits: what comes before it is digits and joints, and no joint is last. */
        bool is_joint = c == '_' && at > from && at + 1 < text.bytes && is_digit(text.data[at + 1]);
        if (is_digit(c)) {
            magnitude_shift(&magnitude, (unsigned)c - '0');
        } else if (!is_joint) {
            break;
        }
    }
    struct slice rest = {text.data + at, text.bytes - at};
    if (at == from || !is_zero_fraction(rest)) {
        return RUN_NUMBER_NONE;
    }
    return magnitude_sign(&magnitude, is_negative, value);
}

int run_number_of_word(struct slice text)
{
    static const struct {
        struct slice word;
        int value;
    } words[] = {
        {{(const uint8_t *)"0", 1}, 0},     {{(const uint8_t *)"1", 1}, 1},
        {{(const uint8_t *)"f", 1}, 0},     {{(const uint8_t *)"t", 1}, 1},
        {{(const uint8_t *)"n", 1}, 0},     {{(const uint8_t *)"y", 1}, 1},
        {{(const uint8_t *)"no", 2}, 0},    {{(const uint8_t *)"yes", 3}, 1},
        {{(const uint8_t *)"off", 3}, 0},   {{(const uint8_t *)"on", 2}, 1},
        {{(const uint8_t *)"false", 5}, 0}, {{(const uint8_t *)"true", 4}, 1},
    };
    for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
        if (slice_equal_nocase(text, words[i].word)) {
            return words[i].value;
        }
    }
    return -1;
}
