/*
 * config_family: sections that come several times under names of the operator's choice: finds the item
 * and the key that a name means, sets the value, and remembers where it came from. Items are kept in the
 * order of their names; an item is there from the first source that names it, with its defaults.
 */
#include "core/config_table.h"

#include <stdio.h>
#include <string.h>

#define FAMILY_NEAR_MAX 3 /* keys that a wrong one is compared with in an error */

_Static_assert(CONFIG_SINK_NAME_MAX == 32, "the text of family_name_problem says 32");

size_t config_family_index(const struct config_family *family)
{
    ASSERT(family >= config_families);
    ASSERT(family < config_families + CONFIG_FAMILY_COUNT);
    return (size_t)(family - config_families);
}

const struct config_family *config_family_of(const char *dotted)
{
    for (size_t i = 0; i < CONFIG_FAMILY_COUNT; i++) {
        size_t n = strlen(config_families[i].name);
        if (strncmp(dotted, config_families[i].name, n) == 0 && dotted[n] == '.') {
            return &config_families[i];
        }
    }
    return NULL;
}

const struct config_family *config_family_of_variable(const char *variable)
{
    for (size_t i = 0; i < CONFIG_FAMILY_COUNT; i++) {
        const char *prefix = config_families[i].variable;
        if (strncmp(variable, prefix, strlen(prefix)) == 0) {
            return &config_families[i];
        }
    }
    return NULL;
}

const struct config_key *config_family_key(const struct config_family *family, const char *key)
{
    for (size_t i = 0; i < family->key_count; i++) {
        if (strcmp(family->keys[i].name, key) == 0) {
            return &family->keys[i];
        }
    }
    return NULL;
}

unsigned config_family_count(const struct config_family *family, const struct config *config)
{
    unsigned count;
    memcpy(&count, (const char *)config + family->count_offset, sizeof count);
    return count;
}

const char *config_family_item(const struct config_family *family, const struct config *config,
                               unsigned i)
{
    ASSERT(i < family->items_max);
    return (const char *)config + family->items_offset + i * family->item_bytes;
}

static char *family_item(const struct config_family *family, struct config *config, unsigned i)
{
    ASSERT(i < family->items_max);
    return (char *)config + family->items_offset + i * family->item_bytes;
}

struct config_item *config_family_load(const struct config_family *family, struct config_load *load,
                                       unsigned i)
{
    ASSERT(i < family->items_max);
    return &load->items[config_family_index(family)][i];
}

/* --- names --- */

static bool name_char_is_good(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

static bool name_is_good(const char *name)
{
    size_t bytes = strlen(name);
    if (bytes == 0 || bytes > CONFIG_SINK_NAME_MAX || name[0] == '-' || name[bytes - 1] == '-') {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (!name_char_is_good(name[i])) {
            return false;
        }
    }
    return true;
}

/* A section with ten keys has one bad name, not ten. */
static void family_name_problem(struct config_load *load, const struct config_family *family,
                                const char *name, const char *origin)
{
    char id[sizeof load->bad_name];
    (void)snprintf(id, sizeof id, "%s.%.80s", family->name, name);
    if (strcmp(id, load->bad_name) == 0) {
        return;
    }
    memcpy(load->bad_name, id, sizeof id);
    if (name[0] == '\0') {
        config_problem(load, "%s: a %s needs a name: [%s.NAME], %s.NAME.key or %sNAME_KEY", origin,
                       family->name, family->name, family->name, family->variable);
        return;
    }
    config_problem(load,
                   "%s: '%.80s' is no name of a %s: 1 to 32 of a-z, 0-9 and '-', with a letter or "
                   "digit at both ends",
                   origin, name, family->name);
}

/* --- items --- */

static void family_set_defaults(const struct config_family *family, char *item, const char *name)
{
    struct err reason = {.code = 0};
    memset(item, 0, family->item_bytes);
    memcpy(item, name, strlen(name));
    for (size_t i = 0; i < family->key_count; i++) {
        const struct config_key *key = &family->keys[i];
        bool is_zero = key->initial[0] == '\0';
        int r = is_zero ? 0 : config_value_set(item, key, key->initial, &reason);
        ASSERT(r == 0);
    }
}

/* Makes room at i, in the configuration and in what the load knows beside it. */
static void family_insert(struct config_load *load, const struct config_family *family, unsigned i,
                          const char *name, const char *origin)
{
    unsigned count = config_family_count(family, load->config);
    ASSERT(i <= count);
    ASSERT(count < family->items_max);
    char *item = family_item(family, load->config, i);
    struct config_item *known = config_family_load(family, load, i);
    memmove(item + family->item_bytes, item, (count - i) * family->item_bytes);
    memmove(known + 1, known, (count - i) * sizeof *known);
    family_set_defaults(family, item, name);
    memset(known, 0, sizeof *known);
    (void)snprintf(known->origin, sizeof known->origin, "%s", origin);
    count++;
    memcpy((char *)load->config + family->count_offset, &count, sizeof count);
}

/* The item of that name, made if need be; negative after a problem has been said. */
static int family_find(struct config_load *load, const struct config_family *family,
                       const char *name, const char *origin)
{
    if (!name_is_good(name)) {
        family_name_problem(load, family, name, origin);
        return -1;
    }
    unsigned count = config_family_count(family, load->config);
    unsigned i = 0;
    while (i < count && strcmp(config_family_item(family, load->config, i), name) < 0) {
        i++;
    }
    if (i < count && strcmp(config_family_item(family, load->config, i), name) == 0) {
        return (int)i;
    }
    if (count == family->items_max) {
        bool *is_said = &load->is_full_said[config_family_index(family)];
        if (!*is_said) {
            config_problem(load, "%s: %s.%s: more than %u %ss", origin, family->name, name,
                           family->items_max, family->name);
        }
        *is_said = true;
        return -1;
    }
    family_insert(load, family, i, name, origin);
    return (int)i;
}

void config_family_touch(struct config_load *load, const struct config_family *family,
                         const char *dotted, const char *origin)
{
    (void)family_find(load, family, dotted + strlen(family->name) + 1, origin);
}

/* --- keys --- */

struct near_key {
    const struct config_key *key;
    size_t distance;
};

/* The likeliest keys first; how many there are. Half of a key wrong is another word. */
static size_t family_near(const struct config_family *family, const char *key,
                          struct near_key near[FAMILY_NEAR_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < family->key_count; i++) {
        struct near_key one = {&family->keys[i], config_table_distance(key, family->keys[i].name)};
        bool begins = strncmp(key, one.key->name, strlen(key)) == 0 && strlen(key) >= 3;
        if (begins) {
            one.distance = 1; /* cut short, not mistyped */
        } else if (one.distance > strlen(key) / 2) {
            continue;
        }
        size_t at = count;
        for (; at > 0 && near[at - 1].distance > one.distance; at--) {
            if (at < FAMILY_NEAR_MAX) {
                near[at] = near[at - 1];
            }
        }
        if (at < FAMILY_NEAR_MAX) {
            near[at] = one;
            count += count < FAMILY_NEAR_MAX ? 1 : 0;
        }
    }
    while (count > 1 && near[count - 1].distance > near[0].distance + 1) {
        count--; /* much less likely than the first */
    }
    return count;
}

/* "did you mean url?", or all keys there are when nothing is near. */
static void family_advise(struct buf *advice, const struct config_family *family, const char *key)
{
    struct near_key near[FAMILY_NEAR_MAX];
    size_t near_count = family_near(family, key, near);
    if (near_count > 0) {
        buf_put_text(advice, "did you mean ");
        for (size_t i = 0; i < near_count; i++) {
            buf_printf(advice, "%s%s", i > 0 ? " or " : "", near[i].key->name);
        }
        buf_put_char(advice, '?');
        return;
    }
    buf_printf(advice, "a %s has:", family->name);
    for (size_t i = 0; i < family->key_count; i++) {
        buf_printf(advice, " %s", family->keys[i].name);
    }
}

static void family_unknown_key(struct config_load *load, const struct config_family *family,
                               const char *what, const char *key, const char *origin)
{
    char memory[640];
    struct buf advice;
    buf_init(&advice, memory, sizeof memory);
    family_advise(&advice, family, key);
    config_problem(load, "%s: %.120s: no such key; %.*s", origin, what, (int)advice.bytes, memory);
}

struct family_value {
    const struct config_family *family;
    const char *name;
    const struct config_key *key;
    const char *text;
    const char *origin;
    unsigned line; /* 0: not of a file */
};

/* What an earlier line of the file said, the joint, and this one. */
static const char *family_join(const struct family_value *value, const char *item, char *joined)
{
    struct buf list;
    buf_init(&list, joined, CONFIG_VALUE_BYTES - 1);
    config_value_put(&list, item, value->key);
    buf_printf(&list, "%s%s", value->key->joint, value->text);
    joined[list.bytes] = '\0';
    return joined;
}

static void family_set(struct config_load *load, const struct family_value *value)
{
    const struct config_family *family = value->family;
    char joined[CONFIG_VALUE_BYTES];
    struct err reason = {.code = 0};
    int i = family_find(load, family, value->name, value->origin);
    if (i < 0) {
        return;
    }
    char *item = family_item(family, load->config, (unsigned)i);
    struct config_item *known = config_family_load(family, load, (unsigned)i);
    size_t key_index = (size_t)(value->key - family->keys);
    unsigned line_before = known->line_of_key[key_index];
    const char *text = value->text;
    if (value->line != 0 && line_before != 0) {
        if (value->key->joint == NULL) {
            config_problem(load, "%s: %s.%s.%s: was set on line %u already", value->origin,
                           family->name, value->name, value->key->name, line_before);
            return;
        }
        text = family_join(value, item, joined);
    }
    if (value->line != 0) {
        known->line_of_key[key_index] = value->line;
    }
    if (config_value_set(item, value->key, text, &reason) < 0) {
        config_problem(load, "%s: %s.%s.%s: %s", value->origin, family->name, value->name,
                       value->key->name, reason.text);
        known->is_rejected[key_index] = true;
        return;
    }
    (void)snprintf(known->origins[key_index], CONFIG_ORIGIN_BYTES, "%s", value->origin);
}

void config_family_offer(struct config_load *load, const struct config_family *family,
                         const char *dotted, const char *text, const char *origin, unsigned line)
{
    const char *rest = dotted + strlen(family->name) + 1;
    const char *dot = strrchr(rest, '.');
    char name[256];
    if (dot == NULL) {
        family_name_problem(load, family, "", origin);
        return;
    }
    (void)snprintf(name, sizeof name, "%.*s", (int)u64_min((uint64_t)(dot - rest), 255), rest);
    const struct config_key *key = config_family_key(family, dot + 1);
    if (key == NULL) {
        family_unknown_key(load, family, dotted, dot + 1, origin);
        return;
    }
    struct family_value value = {family, name, key, text, origin, line};
    family_set(load, &value);
}

/* --- variables --- */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* True when the last bytes of upper are key in upper case. */
static bool family_ends_with(const char *upper, size_t bytes, const char *key)
{
    size_t key_bytes = strlen(key);
    if (bytes < key_bytes) {
        return false;
    }
    for (size_t i = 0; i < key_bytes; i++) {
        char c = upper[bytes - key_bytes + i];
        if ((c >= 'a' && c <= 'z') || lower(c) != key[i]) {
            return false;
        }
    }
    return true;
}

/* The longest key that the rest of a variable ends with, a '_' before it. */
static const struct config_key *family_suffix(const struct config_family *family, const char *rest)
{
    const struct config_key *longest = NULL;
    size_t bytes = strlen(rest);
    for (size_t i = 0; i < family->key_count; i++) {
        const struct config_key *key = &family->keys[i];
        size_t key_bytes = strlen(key->name);
        bool is_whole = key_bytes == bytes;
        bool is_after_name = key_bytes < bytes && rest[bytes - key_bytes - 1] == '_';
        if ((is_whole || is_after_name) && family_ends_with(rest, bytes, key->name) &&
            (longest == NULL || key_bytes > strlen(longest->name))) {
            longest = key;
        }
    }
    return longest;
}

/* Nobody knows where the name ends: the end that is nearest to a key is taken for one. */
static void family_unknown_variable(struct config_load *load, const struct config_family *family,
                                    const char *variable)
{
    char rest[128];
    char best_text[128] = "";
    size_t best = SIZE_MAX;
    (void)snprintf(rest, sizeof rest, "%.120s", variable + strlen(family->variable));
    for (size_t i = 0; rest[i] != '\0'; i++) {
        rest[i] = lower(rest[i]);
    }
    for (const char *end = rest; end != NULL; end = strchr(end, '_')) { /* at most 120 turns */
        end += *end == '_' ? 1 : 0;
        struct near_key near[FAMILY_NEAR_MAX];
        if (family_near(family, end, near) > 0 && near[0].distance < best) {
            best = near[0].distance;
            (void)snprintf(best_text, sizeof best_text, "%s", end);
        }
    }
    family_unknown_key(load, family, variable, best_text, "environment");
}

void config_family_offer_variable(struct config_load *load, const struct config_family *family,
                                  const char *variable, const char *text)
{
    const char *rest = variable + strlen(family->variable);
    const struct config_key *key = family_suffix(family, rest);
    char name[128];
    if (key == NULL) {
        family_unknown_variable(load, family, variable);
        return;
    }
    size_t rest_bytes = strlen(rest);
    size_t key_bytes = strlen(key->name);
    size_t name_bytes = rest_bytes > key_bytes ? rest_bytes - key_bytes - 1 : 0;
    (void)snprintf(name, sizeof name, "%.*s", (int)u64_min(name_bytes, 120), rest);
    for (size_t i = 0; name[i] != '\0'; i++) {
        bool is_lower = name[i] >= 'a' && name[i] <= 'z';
        name[i] = is_lower ? '?' : name[i] == '_' ? '-' : lower(name[i]);
    }
    struct family_value value = {family, name, key, text, variable, 0};
    family_set(load, &value);
}

/* --- after the load --- */

static int family_named(const struct config_family *family, const struct config *config,
                        const char *name)
{
    for (unsigned i = 0; i < config_family_count(family, config); i++) {
        if (strcmp(config_family_item(family, config, i), name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static void family_list(struct buf *list, const struct config_family *family, const char *name,
                        const char *what)
{
    buf_printf(list, "%s%s.%s%s", list->bytes > 0 ? ", " : "", family->name, name, what);
}

static void family_item_differences(const struct config_family *family, const char *running,
                                    const char *fresh, struct buf *ignored)
{
    for (size_t i = 0; i < family->key_count; i++) {
        if (!config_value_equal(running, fresh, &family->keys[i])) {
            char what[CONFIG_KEY_BYTES + 1];
            (void)snprintf(what, sizeof what, ".%s", family->keys[i].name);
            family_list(ignored, family, running, what);
        }
    }
}

void config_family_differences(const struct config_family *family, const struct config *running,
                               const struct config *fresh, struct buf *ignored)
{
    for (unsigned i = 0; i < config_family_count(family, running); i++) {
        const char *item = config_family_item(family, running, i);
        int other = family_named(family, fresh, item);
        if (other < 0) {
            family_list(ignored, family, item, " (gone)");
        } else {
            family_item_differences(family, item,
                                    config_family_item(family, fresh, (unsigned)other), ignored);
        }
    }
    for (unsigned i = 0; i < config_family_count(family, fresh); i++) {
        const char *item = config_family_item(family, fresh, i);
        if (family_named(family, running, item) < 0) {
            family_list(ignored, family, item, " (new)");
        }
    }
}
