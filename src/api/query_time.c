#include "api/query_params.h"

#include <string.h>

#include "model/rfc3339.h"

/* The longest date-time with nine fraction digits and an offset has 35. */
#define RFC3339_BYTES_MAX 40u

/* A '+' that nobody encoded arrives as a space. */
static bool is_plus(uint8_t c)
{
    return c == '+' || c == ' ';
}

static int64_t unit_ns(uint8_t unit)
{
    switch (unit) {
    case 's':
        return (int64_t)NS_S;
    case 'm':
        return 60 * (int64_t)NS_S;
    case 'h':
        return 3600 * (int64_t)NS_S;
    case 'd':
        return 86400 * (int64_t)NS_S;
    default:
        return 0;
    }
}

/* "-5m" at the start of *rest, which becomes what follows. False: no such term, or out of range. */
static bool term_add(struct slice *rest, int64_t *ns)
{
    bool is_minus = rest->data[0] == '-';
    if (!is_minus && !is_plus(rest->data[0])) {
        return false;
    }
    int64_t value = 0;
    size_t at = 1;
    while (at < rest->bytes && rest->data[at] >= '0' && rest->data[at] <= '9') {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, rest->data[at] - '0', &value)) {
            return false;
        }
        at++;
    }
    int64_t unit = at > 1 && at < rest->bytes ? unit_ns(rest->data[at]) : 0;
    if (unit == 0 || __builtin_mul_overflow(value, is_minus ? -unit : unit, &value) ||
        __builtin_add_overflow(*ns, value, ns)) {
        return false;
    }
    *rest = (struct slice){rest->data + at + 1, rest->bytes - at - 1};
    return true;
}

static bool relative_parse(int64_t *ns, struct slice terms, int64_t now_ns)
{
    int64_t sum = now_ns;
    /* Each turn takes at least three bytes. */
    while (terms.bytes > 0) {
        if (!term_add(&terms, &sum)) {
            return false;
        }
    }
    *ns = sum;
    return true;
}

/* The sign of an offset, if a space stands where one belongs: "... 02:00". */
static void offset_sign_mend(uint8_t *text, size_t bytes)
{
    if (bytes > 6 && text[bytes - 6] == ' ' && text[bytes - 3] == ':') {
        text[bytes - 6] = '+';
    }
}

bool query_time_parse(int64_t *ns, struct slice text, int64_t now_ns)
{
    static const struct slice now = {(const uint8_t *)"now", 3};
    if (text.bytes >= now.bytes && memcmp(text.data, now.data, now.bytes) == 0) {
        return relative_parse(ns, (struct slice){text.data + now.bytes, text.bytes - now.bytes},
                              now_ns);
    }
    uint8_t mended[RFC3339_BYTES_MAX];
    if (text.bytes > sizeof mended) {
        return false;
    }
    if (text.bytes > 0) {
        memcpy(mended, text.data, text.bytes);
    }
    offset_sign_mend(mended, text.bytes);
    return rfc3339_parse((struct slice){mended, text.bytes}, RFC3339_ZONE_REQUIRED, ns) == NULL;
}
