/*
 * config_value: the text of a value to the bytes in struct config and back. Pure. Each parser is
 * strict and says what it would have taken; the form that config_value_put writes is one that
 * config_value_set reads to the same value.
 */
#include "core/config_table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char *name;
    uint64_t factor;
};

/* Largest first: config_value_put takes the first that divides. */
static const struct unit size_units[] = {
    {"T", KIB(1) << 30}, {"G", KIB(1) << 20}, {"M", MIB(1)}, {"K", KIB(1)}, {"", 1},
};
static const struct unit time_units[] = {
    {"d", 86400 * NS_S}, {"h", 3600 * NS_S}, {"m", 60 * NS_S}, {"s", NS_S},
    {"ms", NS_MS},       {"us", NS_US},      {"ns", 1},
};

/* Digits at the start of text; *end is what follows. No sign, no space, no overflow. */
static int value_digits(uint64_t *number, const char *text, const char **end)
{
    uint64_t sum = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        if (sum > (UINT64_MAX - digit) / 10) {
            return -EINVAL;
        }
        sum = sum * 10 + digit;
    }
    if (p == text) {
        return -EINVAL;
    }
    *number = sum;
    *end = p;
    return 0;
}

static int value_with_unit(uint64_t *value, const char *text, const struct unit *units,
                           size_t unit_count)
{
    uint64_t number = 0;
    const char *rest = NULL;
    if (text == NULL || value_digits(&number, text, &rest) < 0) {
        return -EINVAL;
    }
    if (number == 0 && *rest == '\0') {
        *value = 0; /* zero needs no unit */
        return 0;
    }
    for (size_t i = 0; i < unit_count; i++) {
        if (strcmp(rest, units[i].name) != 0) {
            continue;
        }
        if (number > UINT64_MAX / units[i].factor) {
            return -EINVAL;
        }
        *value = number * units[i].factor;
        return 0;
    }
    return -EINVAL;
}

int config_parse_size(uint64_t *bytes, const char *text)
{
    return value_with_unit(bytes, text, size_units, ARRAY_COUNT(size_units));
}

int config_parse_time(uint64_t *ns, const char *text)
{
    return value_with_unit(ns, text, time_units, ARRAY_COUNT(time_units));
}

static void value_put_with_unit(struct buf *out, uint64_t value, const struct unit *units,
                                size_t unit_count)
{
    if (value == 0) {
        buf_put_char(out, '0');
        return;
    }
    for (size_t i = 0; i < unit_count; i++) {
        if (value % units[i].factor == 0) {
            buf_put_u64(out, value / units[i].factor);
            buf_put_text(out, units[i].name);
            return;
        }
    }
}

static void value_put_number(struct buf *out, const struct config_key *key, uint64_t value)
{
    if (key->type == CONFIG_SIZE) {
        value_put_with_unit(out, value, size_units, ARRAY_COUNT(size_units));
    } else if (key->type == CONFIG_TIME) {
        value_put_with_unit(out, value, time_units, ARRAY_COUNT(time_units));
    } else if (key->type == CONFIG_COUNT_AUTO && value == 0) {
        buf_put_text(out, "auto");
    } else {
        buf_put_u64(out, value);
    }
}

static int value_fail(struct err *reason, const char *text, const char *what)
{
    return err_set(reason, -EINVAL, "'%.*s' is not %s", CONFIG_PROBLEM_SHOWN, text, what);
}

static int value_set_number(void *base, const struct config_key *key, const char *text,
                            struct err *reason)
{
    uint64_t value = 0;
    const char *rest = "";
    int r = 0;
    const char *what = "a number";
    if (key->type == CONFIG_SIZE) {
        r = config_parse_size(&value, text);
        what = "a size (use e.g. 64M; units K M G T)";
    } else if (key->type == CONFIG_TIME) {
        r = config_parse_time(&value, text);
        what = "a time (use e.g. 30s; units ns us ms s m h d)";
    } else if (key->type == CONFIG_COUNT_AUTO && strcasecmp(text, "auto") == 0) {
        value = 0;
    } else {
        r = value_digits(&value, text, &rest);
        what = key->type == CONFIG_COUNT_AUTO ? "a number, nor auto" : what;
    }
    if (r < 0 || *rest != '\0') {
        return value_fail(reason, text, what);
    }
    if (value < key->min || value > key->max) {
        char memory[64];
        struct buf low;
        struct buf high;
        buf_init(&low, memory, 32);
        buf_init(&high, memory + 32, 32);
        value_put_number(&low, key, key->min);
        value_put_number(&high, key, key->max);
        return err_set(reason, -EINVAL, "%.*s is out of bounds (%.*s to %.*s)",
                       CONFIG_PROBLEM_SHOWN, text, (int)low.bytes, (const char *)low.data,
                       (int)high.bytes, (const char *)high.data);
    }
    memcpy((char *)base + key->offset, &value, sizeof value);
    return 0;
}

static int value_set_bool(void *base, const struct config_key *key, const char *text,
                          struct err *reason)
{
    static const char *const yes[] = {"true", "yes", "on", "1"};
    static const char *const no[] = {"false", "no", "off", "0"};
    for (size_t i = 0; i < ARRAY_COUNT(yes); i++) {
        bool is_yes = strcasecmp(text, yes[i]) == 0;
        if (is_yes || strcasecmp(text, no[i]) == 0) {
            memcpy((char *)base + key->offset, &is_yes, sizeof is_yes);
            return 0;
        }
    }
    return value_fail(reason, text, "true or false");
}

/* Only digits and one dot: strtod would also take hexadecimal, exponents, inf and nan. */
static int value_set_ratio(void *base, const struct config_key *key, const char *text,
                           struct err *reason)
{
    size_t n = strlen(text);
    char *end = NULL;
    if (n == 0 || n > 16 || strspn(text, "0123456789.") != n) {
        return value_fail(reason, text, "a ratio (use e.g. 0.5)");
    }
    double value = strtod(text, &end);
    if (*end != '\0') {
        return value_fail(reason, text, "a ratio (use e.g. 0.5)");
    }
    double low = (double)key->min / 1e6;
    double high = (double)key->max / 1e6;
    if (value < low || value > high) {
        return err_set(reason, -EINVAL, "%s is out of bounds (%g to %g)", text, low, high);
    }
    memcpy((char *)base + key->offset, &value, sizeof value);
    return 0;
}

static int value_set_text(void *base, const struct config_key *key, const char *text,
                          struct err *reason)
{
    size_t n = strlen(text);
    if (n < key->min) {
        return err_set(reason, -EINVAL, "must not be empty");
    }
    if (n >= CONFIG_TEXT_BYTES) {
        return err_set(reason, -EINVAL, "is %zu bytes long; at most %d are kept", n,
                       CONFIG_TEXT_BYTES - 1);
    }
    char *field = (char *)base + key->offset;
    memset(field, 0, CONFIG_TEXT_BYTES);
    memcpy(field, text, n);
    return 0;
}

/* Names that other systems write for the same thing. */
static const char *value_word_alias(const char *text)
{
    static const char *const aliases[][2] = {
        {"warn", "warning"}, {"critical", "error"},           {"fatal", "error"},
        {"trace", "debug"},  {"elasticsearch", "opensearch"}, {"victoriametrics", "influx"}};
    for (size_t i = 0; i < ARRAY_COUNT(aliases); i++) {
        if (strcasecmp(text, aliases[i][0]) == 0) {
            return aliases[i][1];
        }
    }
    return text;
}

static int value_set_word(void *base, const struct config_key *key, const char *text,
                          struct err *reason)
{
    char memory[128];
    struct buf choice;
    buf_init(&choice, memory, sizeof memory);
    for (unsigned i = 0; i < CONFIG_WORDS_MAX && key->words[i] != NULL; i++) {
        if (key->words[i][0] == '\0') {
            continue;
        }
        if (strcasecmp(value_word_alias(text), key->words[i]) == 0) {
            bool is_second = i == 1;
            if (key->type == CONFIG_WORD_BOOL) {
                memcpy((char *)base + key->offset, &is_second, sizeof is_second);
            } else {
                memcpy((char *)base + key->offset, &i, sizeof i);
            }
            return 0;
        }
        buf_printf(&choice, "%s%s", choice.bytes > 0 ? ", " : "", key->words[i]);
    }
    return err_set(reason, -EINVAL, "'%.*s' is not one of: %.*s", CONFIG_PROBLEM_SHOWN, text,
                   (int)choice.bytes, memory);
}

/* HOST:PORT, [V6]:PORT or :PORT. The name itself is resolved when the socket is bound. */
static int value_check_address(const char *address, struct err *reason)
{
    const char *colon = strrchr(address, ':');
    uint64_t port = 0;
    const char *rest = NULL;
    if (colon == NULL || value_digits(&port, colon + 1, &rest) < 0 || *rest != '\0') {
        return value_fail(reason, address, "HOST:PORT");
    }
    if (port > 65535) {
        return err_set(reason, -EINVAL, "%.*s: no port is larger than 65535", CONFIG_PROBLEM_SHOWN,
                       address);
    }
    size_t host_bytes = (size_t)(colon - address);
    bool has_brackets = host_bytes >= 2 && address[0] == '[' && colon[-1] == ']';
    if (!has_brackets && memchr(address, ':', host_bytes) != NULL) {
        return err_set(reason, -EINVAL, "'%.*s': an IPv6 address needs brackets, [::1]:8080",
                       CONFIG_PROBLEM_SHOWN, address);
    }
    if (strpbrk(address, " \t/@") != NULL) {
        return value_fail(reason, address, "HOST:PORT");
    }
    return 0;
}

/* One entry of a list: its bytes without blanks around them. */
static struct slice value_entry(const char *text, size_t bytes)
{
    while (bytes > 0 && (text[0] == ' ' || text[0] == '\t')) {
        text++;
        bytes--;
    }
    while (bytes > 0 && (text[bytes - 1] == ' ' || text[bytes - 1] == '\t')) {
        bytes--;
    }
    return (struct slice){(const uint8_t *)text, bytes};
}

static int value_listen_add(struct config *to, const struct slice *entry, struct err *reason)
{
    if (entry->bytes == 0) {
        return err_set(reason, -EINVAL,
                       "an address is empty; write HOST:PORT, separated by commas");
    }
    if (to->listen_count == CONFIG_LISTEN_MAX) {
        return err_set(reason, -EINVAL, "more than %d addresses", CONFIG_LISTEN_MAX);
    }
    if (entry->bytes >= CONFIG_TEXT_BYTES) {
        return err_set(reason, -EINVAL, "an address is longer than %d bytes",
                       CONFIG_TEXT_BYTES - 1);
    }
    char *address = to->listen[to->listen_count];
    memset(address, 0, CONFIG_TEXT_BYTES);
    memcpy(address, entry->data, entry->bytes);
    int r = value_check_address(address, reason);
    if (r < 0) {
        return r;
    }
    bool is_any_port = strcmp(strrchr(address, ':'), ":0") == 0;
    for (unsigned i = 0; i < to->listen_count && !is_any_port; i++) {
        if (strcmp(to->listen[i], address) == 0) {
            return err_set(reason, -EINVAL, "%s is there twice", address);
        }
    }
    to->listen_count++;
    return 0;
}

static int value_set_listen(struct config *config, const char *text, struct err *reason)
{
    unsigned count_before = config->listen_count;
    char before[CONFIG_LISTEN_MAX][CONFIG_TEXT_BYTES];
    memcpy(before, config->listen, sizeof before);
    memset(config->listen, 0, sizeof config->listen);
    config->listen_count = 0;
    int r = 0;
    const char *from = text;
    for (bool is_last = false;
         !is_last && r == 0;) { /* one turn per comma, CONFIG_LISTEN_MAX at most */
        size_t bytes = strcspn(from, ",");
        is_last = from[bytes] == '\0';
        struct slice entry = value_entry(from, bytes);
        r = value_listen_add(config, &entry, reason);
        from += bytes + 1;
    }
    if (r < 0) {
        memcpy(config->listen, before, sizeof before);
        config->listen_count = count_before;
    }
    return r;
}

/* What a file could not hold is refused from every source, so that the listing always reads back.
 * Control bytes would besides split a header or a log line in two. */
static int value_set_line(void *base, const struct config_key *key, const char *text,
                          struct err *reason)
{
    struct slice line = value_entry(text, strlen(text));
    if (line.bytes > key->max) {
        return err_set(reason, -EINVAL, "is %zu bytes long; at most %u are kept", line.bytes,
                       (unsigned)key->max);
    }
    for (size_t i = 0; i < line.bytes; i++) {
        if (line.data[i] < ' ' || line.data[i] == 0x7F) {
            return err_set(reason, -EINVAL, "has a control character at byte %zu", i + 1);
        }
        if (line.data[i] == ';' && (i == 0 || line.data[i - 1] == ' ')) {
            return err_set(reason, -EINVAL,
                           "has a ';' after a blank, which begins a comment in a file: leave out "
                           "the blank");
        }
    }
    char *field = (char *)base + key->offset;
    memset(field, 0, key->max + 1);
    memcpy(field, line.data, line.bytes);
    return 0;
}

/* Bit i is the record kind i of store/format.h, which this room may not see; a test compares them. */
static const char *const value_kinds[] = {"", "log", "metric", "event", "run", "gpu"};

static uint32_t value_kind_bit(struct slice word)
{
    for (unsigned i = 1; i < ARRAY_COUNT(value_kinds); i++) {
        struct slice kind = {(const uint8_t *)value_kinds[i], strlen(value_kinds[i])};
        if (slice_equal_nocase(word, kind)) {
            return UINT32_C(1) << i;
        }
    }
    return 0;
}

static int value_set_kinds(void *base, const struct config_key *key, const char *text,
                           struct err *reason)
{
    uint32_t kinds = 0;
    bool is_last = strcasecmp(text, "all") == 0;
    for (const char *from = text; !is_last;) { /* a turn per comma, which each add a kind */
        size_t bytes = strcspn(from, ",");
        uint32_t bit = value_kind_bit(value_entry(from, bytes));
        if (bit == 0) {
            return err_set(reason, -EINVAL,
                           "'%.*s' is not all, nor a list of: log, metric, event, run, gpu",
                           CONFIG_PROBLEM_SHOWN, text);
        }
        kinds |= bit;
        is_last = from[bytes] == '\0';
        from += bytes + 1;
    }
    memcpy((char *)base + key->offset, &kinds, sizeof kinds);
    return 0;
}

static void value_put_kinds(struct buf *out, uint32_t kinds)
{
    if (kinds == 0) {
        buf_put_text(out, "all");
        return;
    }
    const char *comma = "";
    for (unsigned i = 1; i < ARRAY_COUNT(value_kinds); i++) {
        if ((kinds & UINT32_C(1) << i) != 0) {
            buf_printf(out, "%s%s", comma, value_kinds[i]);
            comma = ", ";
        }
    }
}

int config_value_set(void *base, const struct config_key *key, const char *text, struct err *reason)
{
    ASSERT(base != NULL);
    ASSERT(text != NULL);
    switch (key->type) {
    case CONFIG_BOOL:
        return value_set_bool(base, key, text, reason);
    case CONFIG_COUNT:
    case CONFIG_COUNT_AUTO:
    case CONFIG_SIZE:
    case CONFIG_TIME:
        return value_set_number(base, key, text, reason);
    case CONFIG_RATIO:
        return value_set_ratio(base, key, text, reason);
    case CONFIG_TEXT:
        return value_set_text(base, key, text, reason);
    case CONFIG_WORD:
    case CONFIG_WORD_BOOL:
        return value_set_word(base, key, text, reason);
    case CONFIG_LISTEN:
        return value_set_listen(base, text, reason);
    case CONFIG_LINE:
        return value_set_line(base, key, text, reason);
    case CONFIG_KINDS:
        return value_set_kinds(base, key, text, reason);
    }
    assert_failed("a type without a parser", __FILE__, __LINE__);
}

static void value_put_listen(struct buf *out, const struct config *config)
{
    for (unsigned i = 0; i < config->listen_count; i++) {
        buf_printf(out, "%s%s", i > 0 ? ", " : "", config->listen[i]);
    }
}

/* Six digits are more than anyone sets, and %g drops the zeroes. */
static void value_put_ratio(struct buf *out, const char *field)
{
    double value;
    memcpy(&value, field, sizeof value);
    buf_printf(out, "%g", value);
}

void config_value_put(struct buf *out, const void *base, const struct config_key *key)
{
    const char *field = (const char *)base + key->offset;
    uint64_t number = 0;
    unsigned word = 0;
    uint32_t kinds = 0;
    bool flag = false;
    switch (key->type) {
    case CONFIG_BOOL:
        memcpy(&flag, field, sizeof flag);
        buf_put_text(out, flag ? "true" : "false");
        break;
    case CONFIG_COUNT:
    case CONFIG_COUNT_AUTO:
    case CONFIG_SIZE:
    case CONFIG_TIME:
        memcpy(&number, field, sizeof number);
        value_put_number(out, key, number);
        break;
    case CONFIG_RATIO:
        value_put_ratio(out, field);
        break;
    case CONFIG_TEXT:
    case CONFIG_LINE:
        buf_put_text(out, field);
        break;
    case CONFIG_KINDS:
        memcpy(&kinds, field, sizeof kinds);
        value_put_kinds(out, kinds);
        break;
    case CONFIG_WORD:
        memcpy(&word, field, sizeof word);
        ASSERT(word < CONFIG_WORDS_MAX);
        buf_put_text(out, key->words[word]);
        break;
    case CONFIG_WORD_BOOL:
        memcpy(&flag, field, sizeof flag);
        buf_put_text(out, key->words[flag ? 1 : 0]);
        break;
    case CONFIG_LISTEN:
        value_put_listen(out, base);
        break;
    }
}

static size_t value_bytes(const struct config_key *key)
{
    switch (key->type) {
    case CONFIG_BOOL:
    case CONFIG_WORD_BOOL:
        return sizeof(bool);
    case CONFIG_COUNT:
    case CONFIG_COUNT_AUTO:
    case CONFIG_SIZE:
    case CONFIG_TIME:
        return sizeof(uint64_t);
    case CONFIG_RATIO:
        return sizeof(double);
    case CONFIG_TEXT:
        return CONFIG_TEXT_BYTES;
    case CONFIG_LINE:
        return (size_t)key->max + 1;
    case CONFIG_KINDS:
        return sizeof(uint32_t);
    case CONFIG_WORD:
        return sizeof(unsigned);
    case CONFIG_LISTEN: /* the array and the count behind it; unused entries are zero */
        return offsetof(struct config, listen_count) + sizeof(unsigned) -
               offsetof(struct config, listen);
    }
    assert_failed("a type without a size", __FILE__, __LINE__);
}

bool config_value_equal(const void *a, const void *b, const struct config_key *key)
{
    return memcmp((const char *)a + key->offset, (const char *)b + key->offset, value_bytes(key)) ==
           0;
}

void config_value_copy(void *to, const void *from, const struct config_key *key)
{
    memcpy((char *)to + key->offset, (const char *)from + key->offset, value_bytes(key));
}
