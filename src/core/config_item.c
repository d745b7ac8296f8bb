/*
 * config_item: one sink or poller as the checks see it: what was said of it, and how a problem with it is told:
 * where, which key, what would do.
 */
#include "core/config_table.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static size_t item_key_index(const struct config_family *family, const char *key)
{
    const struct config_key *row = config_family_key(family, key);
    ASSERT(row != NULL);
    return (size_t)(row - family->keys);
}

bool config_item_is_set(const struct config_load *load, const struct config_family *family,
                        unsigned i, const char *key)
{
    size_t index = item_key_index(family, key);
    const struct config_key *row = &family->keys[index];
    const char *field = config_family_item(family, load->config, i) + row->offset;
    bool is_emptied = row->type == CONFIG_LINE && field[0] == '\0' && row->initial[0] == '\0';
    return load->items[config_family_index(family)][i].origins[index][0] != '\0' && !is_emptied;
}

bool config_item_is_trusted(const struct config_load *load, const struct config_family *family,
                            unsigned i, const char *key)
{
    return !load->items[config_family_index(family)][i].is_rejected[item_key_index(family, key)];
}

struct item_place {
    char text[CONFIG_ORIGIN_BYTES + CONFIG_SINK_NAME_MAX + CONFIG_KEY_BYTES + 16];
};

static struct item_place item_place(const struct config_load *load,
                                    const struct config_family *family, unsigned i, const char *key)
{
    const struct config_item *known = &load->items[config_family_index(family)][i];
    const char *origin = known->origins[item_key_index(family, key)];
    struct item_place place;
    (void)snprintf(place.text, sizeof place.text, "%s: %s.%s.%s",
                   origin[0] != '\0' ? origin : known->origin, family->name,
                   config_family_item(family, load->config, i), key);
    return place;
}

void config_item_problem(struct config_load *load, const struct config_family *family, unsigned i,
                         const char *key, const char *format, ...)
{
    char what[ERR_TEXT_BYTES - sizeof(struct item_place)];
    struct item_place place = item_place(load, family, i, key);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args);
    va_end(args);
    config_problem(load, "%s: %s", place.text, what);
}

void config_item_warning(struct config_load *load, const struct config_family *family, unsigned i,
                         const char *key, const char *format, ...)
{
    char what[ERR_TEXT_BYTES - sizeof(struct item_place)];
    struct item_place place = item_place(load, family, i, key);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args);
    va_end(args);
    config_warning(load, "%s: %s", place.text, what);
}
