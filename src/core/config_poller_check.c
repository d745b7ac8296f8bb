/*
 * config_poller_check: what a poller cannot be. Names of tables and columns go into queries as they are;
 * therefore they are identifiers here and nothing else.
 */
#include "core/config_table.h"

#include <string.h>

struct poller_check {
    struct config_load *load;
    const struct config_family *family;
    unsigned i;
    struct config_poller *poller;
};

#define SAY(check, key, ...)                                                                       \
    config_item_problem((check)->load, (check)->family, (check)->i, key, __VA_ARGS__)

static bool is_set(const struct poller_check *check, const char *key)
{
    return config_item_is_set(check->load, check->family, check->i, key);
}

static bool is_trusted(const struct poller_check *check, const char *key)
{
    return config_item_is_trusted(check->load, check->family, check->i, key);
}

static void check_conninfo(const struct poller_check *check)
{
    const char *conninfo = check->poller->conninfo;
    if (!is_trusted(check, "conninfo")) {
        return;
    }
    if (conninfo[0] == '\0') {
        SAY(check, "conninfo",
            "is missing: set it as in host=db dbname=metrics user=sluice "
            "passfile=/etc/sluice/pgpass");
    } else if (config_text_conninfo_has_password(conninfo)) {
        SAY(check, "conninfo",
            "must not hold a password: put it into a file (mode 0600) and name that with "
            "passfile=");
    }
}

/* name, or schema.name */
static bool table_is_good(const char *table)
{
    const char *dot = strchr(table, '.');
    if (dot == NULL) {
        return config_text_is_identifier(table, strlen(table));
    }
    return config_text_is_identifier(table, (size_t)(dot - table)) &&
           config_text_is_identifier(dot + 1, strlen(dot + 1));
}

static void check_table(const struct poller_check *check)
{
    const char *table = check->poller->table;
    if (!is_trusted(check, "table")) {
        return;
    }
    if (table[0] == '\0') {
        SAY(check, "table", "is missing: set it to a table or view, such as public.agent_metrics");
    } else if (!table_is_good(table)) {
        SAY(check, "table",
            "'%.96s' is no table or schema.table (letters, digits, '_'); a view can give it such a "
            "name",
            table);
    }
}

static void check_column(const struct poller_check *check, const char *key, const char *text,
                         bool may_be_empty)
{
    if ((text[0] == '\0' && may_be_empty) || !is_trusted(check, key)) {
        return;
    }
    if (!config_text_is_identifier(text, strlen(text))) {
        SAY(check, key, "'%.96s' is no name of a column (letters, digits, '_'; at most 63)", text);
    }
}

static void check_columns(const struct poller_check *check)
{
    const char *from = check->poller->columns;
    bool is_last = from[0] == '\0';
    while (!is_last) { /* a turn per comma */
        size_t bytes = strcspn(from, ",");
        is_last = from[bytes] == '\0';
        size_t start = strspn(from, " ");
        size_t end = bytes;
        while (end > start && from[end - 1] == ' ') {
            end--;
        }
        if (start >= bytes || !config_text_is_identifier(from + start, end - start)) {
            SAY(check, "columns", "'%.*s' is no name of a column (letters, digits, '_')",
                (int)u64_min(bytes, CONFIG_PROBLEM_SHOWN), from);
            return;
        }
        from += bytes + 1;
    }
}

/* Keys of the other layout would have no effect. */
static void check_layout(const struct poller_check *check)
{
    static const char *const narrow[] = {"metric_column", "value_column"};
    bool is_wide = check->poller->layout == POLLER_WIDE;
    for (size_t i = 0; i < ARRAY_COUNT(narrow) && is_wide; i++) {
        if (is_set(check, narrow[i])) {
            SAY(check, narrow[i], "is not for layout = wide: remove it");
        }
    }
    if (!is_wide && is_set(check, "columns")) {
        SAY(check, "columns", "is for layout = wide only: set it, or remove the key");
    }
}

static void check_poller(const struct poller_check *check)
{
    struct config_poller *poller = check->poller;
    check_conninfo(check);
    check_table(check);
    check_column(check, "time_column", poller->time_column, false);
    check_column(check, "step_column", poller->step_column, true);
    check_column(check, "metric_column", poller->metric_column, false);
    check_column(check, "value_column", poller->value_column, false);
    check_columns(check);
    check_layout(check);
    if (poller->service[0] == '\0') {
        _Static_assert(sizeof poller->service > sizeof poller->name, "any name is a service");
        memcpy(poller->service, poller->name, sizeof poller->name);
    }
}

void config_check_pollers(struct config_load *load)
{
    struct poller_check check = {.load = load, .family = &config_families[CONFIG_FAMILY_POLLER]};
    for (check.i = 0; check.i < load->config->poller_count; check.i++) {
        check.poller = &load->config->pollers[check.i];
        check_poller(&check);
    }
}
