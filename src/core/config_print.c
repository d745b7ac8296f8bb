/*
 * config_print: `sluice config`. The text is itself a configuration that reads back to the same values;
 * JSON has besides each key's default and whether a reload may change it. Secrets are not values of
 * keys, so nothing is hidden.
 */
#include "core/config_table.h"

#include <string.h>

#define PRINT_COLUMN 36 /* where comments begin, unless a value is longer */

static size_t print_section_bytes(const char *name)
{
    return strcspn(name, ".");
}

/* One line of the text: key, value, and as a comment where it came from and what it is for. */
static void print_line(struct buf *out, const char *name, const void *base,
                       const struct config_key *key, const char *origin)
{
    size_t start = out->bytes;
    buf_printf(out, "%s = ", name);
    config_value_put(out, base, key);
    size_t used = out->bytes - start;
    buf_printf(out, "%*s ; %s: %s\n", used < PRINT_COLUMN ? (int)(PRINT_COLUMN - used) : 0, "",
               origin, key->help);
}

static void print_member(struct buf *out, const char *name, const char *text)
{
    buf_printf(out, "\"%s\":", name);
    buf_put_json_string(out, (struct slice){(const uint8_t *)text, strlen(text)});
}

/* What follows the name of a key. */
static void print_object(struct buf *out, const void *base, const struct config_key *key,
                         const char *origin)
{
    char value[CONFIG_VALUE_BYTES];
    struct buf text;
    buf_init(&text, value, sizeof value - 1);
    config_value_put(&text, base, key);
    value[text.bytes] = '\0';
    buf_put_char(out, '{');
    print_member(out, "value", value);
    buf_put_char(out, ',');
    print_member(out, "origin", origin);
    buf_put_char(out, ',');
    print_member(out, "default", key->initial);
    buf_printf(out, ",\"reloadable\":%s,", key->is_reloadable ? "true" : "false");
    print_member(out, "help", key->help);
    buf_put_char(out, '}');
}

/* --- sinks and pollers --- */

struct print_item {
    const struct config_family *family;
    const char *item;                /* its values */
    const struct config_item *known; /* where they came from; NULL: no source names it any more */
};

static struct print_item print_item(const struct config_family *family, const struct config *config,
                                    struct config_load *load, unsigned i)
{
    struct print_item item = {family, config_family_item(family, config, i), NULL};
    for (unsigned j = 0; j < config_family_count(family, load->config); j++) {
        if (strcmp(config_family_item(family, load->config, j), item.item) == 0) {
            item.known = config_family_load(family, load, j);
        }
    }
    return item;
}

static const char *print_item_origin(const struct print_item *item, size_t key_index)
{
    const char *origin = item->known != NULL ? item->known->origins[key_index] : "";
    return origin[0] != '\0' ? origin : "default";
}

/* Keys of other types and of the other layout are not shown: they have no effect and would be
 * refused. */
static bool print_item_has(const struct print_item *item, const struct config_key *key)
{
    if (item->family == &config_families[CONFIG_FAMILY_SINK]) {
        const struct config_sink *sink = (const void *)item->item;
        return (key->sink_types & UINT32_C(1) << sink->type) != 0;
    }
    const struct config_poller *poller = (const void *)item->item;
    bool is_narrow_key =
        strcmp(key->name, "metric_column") == 0 || strcmp(key->name, "value_column") == 0;
    bool is_wide_key = strcmp(key->name, "columns") == 0;
    return poller->layout == POLLER_WIDE ? !is_narrow_key : !is_wide_key;
}

static void print_item_ini(struct buf *out, const struct print_item *item)
{
    buf_printf(out, "\n[%s.%s]\n", item->family->name, item->item);
    for (size_t i = 0; i < item->family->key_count; i++) {
        const struct config_key *key = &item->family->keys[i];
        if (print_item_has(item, key)) {
            print_line(out, key->name, item->item, key, print_item_origin(item, i));
        }
    }
}

static void print_item_json(struct buf *out, const struct print_item *item)
{
    for (size_t i = 0; i < item->family->key_count; i++) {
        const struct config_key *key = &item->family->keys[i];
        if (print_item_has(item, key)) {
            buf_printf(out, ",\n  \"%s.%s.%s\":", item->family->name, item->item, key->name);
            print_object(out, item->item, key, print_item_origin(item, i));
        }
    }
}

static void print_items(struct buf *out, const struct config *config, struct config_load *load,
                        void (*print)(struct buf *out, const struct print_item *item))
{
    for (size_t f = 0; f < CONFIG_FAMILY_COUNT; f++) {
        const struct config_family *family = &config_families[f];
        for (unsigned i = 0; i < config_family_count(family, config); i++) {
            struct print_item item = print_item(family, config, load, i);
            print(out, &item);
        }
    }
}

/* --- the whole --- */

void config_print_ini(struct buf *out, const struct config *config, struct config_load *load)
{
    const char *section = "";
    for (size_t i = 0; i < config_table_count; i++) {
        const struct config_key *key = &config_table[i];
        size_t section_bytes = print_section_bytes(key->name);
        if (i == 0 || strncmp(section, key->name, section_bytes + 1) != 0) {
            buf_printf(out, "%s[%.*s]\n", i > 0 ? "\n" : "", (int)section_bytes, key->name);
            section = key->name;
        }
        print_line(out, key->name + section_bytes + 1, config, key, config_origin(load, key->name));
    }
    print_items(out, config, load, print_item_ini);
}

void config_print_json(struct buf *out, const struct config *config, struct config_load *load)
{
    buf_put_char(out, '{');
    for (size_t i = 0; i < config_table_count; i++) {
        const struct config_key *key = &config_table[i];
        buf_printf(out, "%s\n  \"%s\":", i > 0 ? "," : "", key->name);
        print_object(out, config, key, config_origin(load, key->name));
    }
    print_items(out, config, load, print_item_json);
    buf_put_text(out, "\n}\n");
}
