/*
 * config: the door. Gathers the sources in the order of their weight (defaults < file < environment
 * < flags), checks the whole, prints it, and takes a reload. Called by main and by tools only,
 * never by an agent; memory is freed before returning.
 */
#include "core/config.h"
#include "core/config_table.h"
#include "core/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void PRINTF_LIKE(2, 0)
    problems_add(struct config_problems *problems, const char *format, va_list args)
{
    if (problems->count < CONFIG_PROBLEMS_MAX) {
        (void)vsnprintf(problems->text[problems->count], ERR_TEXT_BYTES, format, args);
    }
    problems->count++;
}

void config_problems_add(struct config_problems *problems, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    problems_add(problems, format, args);
    va_end(args);
}

void config_problem(struct config_load *load, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    problems_add(load->problems, format, args);
    va_end(args);
}

void config_warning(struct config_load *load, const char *format, ...)
{
    struct config_problems *problems = load->problems;
    if (problems->warning_count < CONFIG_WARNINGS_MAX) {
        va_list args;
        va_start(args, format);
        (void)vsnprintf(problems->warnings[problems->warning_count], ERR_TEXT_BYTES, format, args);
        va_end(args);
    }
    problems->warning_count++;
}

const char *config_origin(const struct config_load *load, const char *key_name)
{
    const struct config_key *key = config_table_find(key_name);
    ASSERT(key != NULL);
    const char *origin = load->origins[key - config_table];
    return origin[0] != '\0' ? origin : "default";
}

bool config_is_trusted(const struct config_load *load, const char *key_name)
{
    const struct config_key *key = config_table_find(key_name);
    ASSERT(key != NULL);
    return !load->is_rejected[key - config_table];
}

static void config_offer_unknown(struct config_load *load, const char *name, const char *origin)
{
    const char *nearest = config_table_nearest(name);
    if (nearest != NULL) {
        config_problem(load, "%s: %.120s: no such key; did you mean %s?", origin, name, nearest);
    } else {
        config_problem(load, "%s: %.120s: no such key; `sluice config` lists them", origin, name);
    }
}

void config_offer(struct config_load *load, const char *name, const char *text, const char *origin)
{
    struct err reason = {.code = 0};
    const struct config_family *family = config_family_of(name);
    if (family != NULL) {
        config_family_offer(load, family, name, text, origin, 0);
        return;
    }
    const struct config_key *key = config_table_find(name);
    if (key == NULL) {
        config_offer_unknown(load, name, origin);
        return;
    }
    if (config_value_set(load->config, key, text, &reason) < 0) {
        config_problem(load, "%s: %s: %s", origin, name, reason.text);
        load->is_rejected[key - config_table] = true;
        return;
    }
    (void)snprintf(load->origins[key - config_table], CONFIG_ORIGIN_BYTES, "%s", origin);
}

static void config_gather_defaults(struct config_load *load)
{
    struct err reason = {.code = 0};
    for (size_t i = 0; i < config_table_count; i++) {
        int r = config_value_set(load->config, &config_table[i], config_table[i].initial, &reason);
        ASSERT(r == 0);
    }
}

static void config_read_sets(struct config_load *load, const struct config_sources *sources)
{
    static const char origin[] = "command line";
    for (unsigned i = 0; i < sources->set_count; i++) {
        const char *equals = strchr(sources->sets[i], '=');
        char name[256];
        if (equals == NULL || equals == sources->sets[i]) {
            config_problem(load, "%s: '%.*s' is not section.key=value", origin,
                           CONFIG_PROBLEM_SHOWN, sources->sets[i]);
            continue;
        }
        (void)snprintf(name, sizeof name, "%.*s",
                       (int)u64_min((uint64_t)(equals - sources->sets[i]), 255), sources->sets[i]);
        config_offer(load, name, equals + 1, origin);
    }
}

void config_gather(struct config_load *load, const struct config_sources *sources)
{
    config_gather_defaults(load);
    if (sources->file != NULL) {
        config_read_file(load, sources->file);
    }
    if (sources->environment != NULL) {
        config_read_environment(load, sources->environment);
    }
    config_read_sets(load, sources);
}

static int config_load_into(struct config_load *load, const struct config_sources *sources)
{
    memset(load->config, 0, sizeof *load->config);
    memset(load->problems, 0, sizeof *load->problems);
    load->config->generation = 1;
    config_gather(load, sources);
    config_check(load);
    return load->problems->count == 0 ? 0 : -EINVAL;
}

int config_load(struct config *config, const struct config_sources *sources,
                struct config_problems *problems)
{
    ASSERT(config != NULL);
    ASSERT(sources != NULL);
    ASSERT(problems != NULL);
    struct config_load *load = mem_alloc(sizeof *load);
    load->config = config;
    load->problems = problems;
    int r = config_load_into(load, sources);
    mem_free(load);
    return r;
}

/* Origins are not part of struct config, which agents read; they are gathered again for the few who
 * ask. */
void config_print(struct buf *out, const struct config *config,
                  const struct config_sources *sources, bool is_json)
{
    ASSERT(out != NULL);
    ASSERT(config != NULL);
    struct config_load *load = mem_alloc(sizeof *load);
    load->config = mem_alloc(sizeof *load->config);
    load->problems = mem_alloc(sizeof *load->problems);
    config_gather(load, sources);
    if (is_json) {
        config_print_json(out, config, load);
    } else {
        config_print_ini(out, config, load);
    }
    mem_free(load->problems);
    mem_free(load->config);
    mem_free(load);
}

void config_apply_reload(struct config *running, const struct config *fresh, struct buf *applied,
                         struct buf *ignored)
{
    ASSERT(running != fresh);
    for (size_t i = 0; i < config_table_count; i++) {
        const struct config_key *key = &config_table[i];
        if (config_value_equal(running, fresh, key)) {
            continue;
        }
        struct buf *list = key->is_reloadable ? applied : ignored;
        buf_printf(list, "%s%s", list->bytes > 0 ? ", " : "", key->name);
        if (key->is_reloadable) {
            config_value_copy(running, fresh, key);
        }
    }
    for (size_t i = 0; i < CONFIG_FAMILY_COUNT; i++) {
        config_family_differences(&config_families[i], running, fresh, ignored);
    }
    running->generation++;
}
